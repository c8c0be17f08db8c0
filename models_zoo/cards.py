"""Cards: what a model is, who made it, where its weights are, and what its authors claim. No torch.

A card is a TOML file: ``models_zoo/entries/<slug>.toml`` for the models that come with the package, and
``<folder>/<slug>/model.toml`` for those of a workspace. `docs/submitting.md` explains every field.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, cast, get_args

from models_zoo.card_fields import Fields
from models_zoo.errors import CardError
from models_zoo.fetch import RemoteFile

Form = Literal["weights", "pt2", "onnx", "keras", "jax", "code"]
"""How a model comes: weights for a registered architecture, a program without code, or Python code."""

CODED: Final = frozenset({"code", "jax"})
"""Forms that are Python code, and run only where the maintainer trusts it."""

READERS: Final[Mapping[str, str]] = {
    "jax": "models_zoo.frameworks.jax_models",
    "keras": "models_zoo.formats.keras_files",
    "onnx": "models_zoo.formats.onnx",
    "pt2": "models_zoo.formats.pt2",
}
"""The readers of programs and of other frameworks' models, whose versions take part in the digest."""

SLUG: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,79}")
DEVICES: Final = frozenset({"con", "prn", "aux", "nul", *(f"{n}{i}" for n in ("com", "lpt") for i in range(10))})
"""Names that Windows keeps for devices, whatever suffix they have."""
PAGES: Final = frozenset({
    "all", "attacks", "board", "boards", "changes", "compare", "correlations", "datasets", "downloads", "index",
    "method", "model", "models", "new", "static",
})  # fmt: skip
"""Names of the site's own pages and folders, and words that the command line gives a meaning."""
MAX_CARD_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class Weights:
    """One file of a model.

    Attributes:
        name: File name; its suffix says the format.
        sha256: Digest of its bytes, in hexadecimal.
        size: Bytes.
        urls: Public addresses, tried in turn; empty for a file that lies beside the card.
        layout: For arrays that are not named and laid out as the architecture's: parameter -> its recipe (see
            `models_zoo.formats.weights.apply_layout`).
    """

    name: str
    sha256: str
    size: int
    urls: tuple[str, ...] = ()
    layout: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def remote(self) -> RemoteFile:
        """The same file, for the downloader."""
        return RemoteFile(self.name, self.urls, self.size, self.sha256)


@dataclass(frozen=True)
class Claim:
    """A figure that the model's authors, or another board, report. Shown beside ours, never ranked.

    Attributes:
        name: For instance ``"clean_accuracy"`` or ``"robust_accuracy"``.
        value: The figure; accuracies as shares.
        source: Where it is reported.
        norm: The norm of the threat model, where it has one.
        eps: Its perturbation budget.
    """

    name: str
    value: float
    source: str = ""
    norm: str | None = None
    eps: float | None = None


@dataclass(frozen=True)
class Entry:
    """A model of the zoo, as its card says.

    Attributes:
        slug: The name it is known by.
        title: For people.
        dataset: Name of the dataset it classifies.
        form: How the model comes.
        folder: Where files that lie beside the card are.
        authors: Their names.
        paper: Address or citation.
        paper_title: The paper's title, for those who cite it.
        paper_authors: Who wrote it: not always who made the model.
        repository: Address of the code that made it.
        year: Of publication.
        venue: Of publication.
        licence: Of the weights; SPDX where possible.
        architecture: Name of the registered architecture (form ``weights``).
        arguments: What the architecture is built with; of another framework, how it takes images.
        preprocessing: Steps between the [0, 1] image and the network; see `models_zoo.preprocessing`.
        rejects: Whether the last of its logits is no class, but rejects the image.
        training_method: For instance ``"PGD adversarial training"``.
        training_norm: The norm it was trained to be robust in.
        training_eps: The budget it was trained for.
        training_run: Recipe, settings and seed of a model that the training zoo made.
        extra_data: Whether data beyond the dataset's training split was used.
        notes: Anything else worth saying.
        claims: Published figures.
        weights: Its files; the first is the one that is loaded.
        code: Python file (forms ``code`` and ``jax``).
        factory: Name of the function in it that makes the model, or that is it (``jax``).
        trusted: SHA-256 of the code that the maintainer said may run; never taken from a submitted card.
    """

    slug: str
    title: str
    dataset: str
    form: Form
    folder: Path
    authors: tuple[str, ...] = ()
    paper: str = ""
    paper_title: str = ""
    paper_authors: tuple[str, ...] = ()
    repository: str = ""
    year: int | None = None
    venue: str = ""
    licence: str = ""
    architecture: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: tuple[Mapping[str, Any], ...] = ()
    rejects: bool = False
    training_method: str = ""
    training_norm: str | None = None
    training_eps: float | None = None
    training_run: Mapping[str, Any] = field(default_factory=dict)
    extra_data: bool = False
    notes: str = ""
    claims: tuple[Claim, ...] = ()
    weights: tuple[Weights, ...] = ()
    code: str = ""
    factory: str = ""
    trusted: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 over all that determines the model's function: weights, architecture, arguments, preprocessing."""
        from models_zoo.architectures import version_of
        from models_zoo.versions import literal_version

        facts: dict[str, Any] = {
            "form": self.form,
            "weights": [[w.sha256, w.layout] for w in self.weights],
            "architecture": [self.architecture, version_of(self.architecture)] if self.architecture else None,
            "arguments": self.arguments,
            "preprocessing": [self.preprocessing, literal_version("models_zoo.preprocessing")]
            if self.preprocessing
            else None,
            "factory": self.factory,
        }
        if self.rejects:
            facts["rejects"] = True
        if self.form in READERS:  # what a program computes depends on who reads it
            facts["reader"] = literal_version(READERS[self.form])
        return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_card(path: Path, *, folder: Path | None = None, digests: bool = True) -> Entry:
    """Read and check a card.

    Args:
        path: The TOML file.
        folder: Where its files are; by default beside it.
        digests: Whether every file must state its size and SHA-256; a submitted card need not, for files beside it.

    Raises:
        CardError: If it cannot be read, a field is missing, unknown, of the wrong type or impossible.
    """
    try:
        if path.stat().st_size > MAX_CARD_BYTES:
            raise CardError(f"{path} has {path.stat().st_size} bytes; a card has at most {MAX_CARD_BYTES}.")
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise CardError(f"The card {path} cannot be read: {error}.") from error
    try:
        return parse_card(table, folder=path.parent if folder is None else folder, digests=digests)
    except CardError as error:
        raise CardError(f"{path}: {error}") from None


def parse_card(table: Mapping[str, Any], *, folder: Path, digests: bool = True) -> Entry:
    """The entry that a card's table describes; see `read_card`."""
    card = Fields(table, "")
    model, training = card.table("model"), card.table("training")
    form = cast("Form", model.choice("form", get_args(Form)))
    norm = training.text("norm")
    entry = Entry(
        slug=check_slug(card.text("slug", required=True)),
        title=card.text("title", required=True),
        dataset=card.text("dataset", required=True),
        form=form,
        folder=folder,
        authors=tuple(card.texts("authors")),
        paper=card.text("paper"),
        paper_title=card.text("paper_title"),
        paper_authors=tuple(card.texts("paper_authors")),
        repository=_address(card.text("repository"), "repository"),
        year=card.integer("year"),
        venue=card.text("venue"),
        licence=card.text("licence"),
        architecture=model.text("architecture", required=form == "weights"),
        arguments=model.plain("arguments", dict),
        preprocessing=tuple(_steps(model.plain("preprocessing", list))),
        rejects=bool(model.value("rejects", bool)),
        training_method=training.text("method"),
        training_norm=norm or None,
        training_eps=training.number("eps"),
        training_run=training.plain("run", dict),
        extra_data=bool(training.value("extra_data", bool)),
        notes=card.text("notes"),
        claims=tuple(_claim(claim) for claim in card.tables("claims")),
        weights=tuple(_weights(file, digests=digests) for file in card.tables("weights")),
        code=_file_name(model.text("code"), "model.code") if form in CODED else "",
        factory=model.text("factory", required=form in CODED),
        trusted=card.text("trusted"),
    )
    for fields in (card, model, training):
        fields.refuse_unknown()
    if norm not in ("", "linf", "l2", "l1"):
        raise CardError(f"training.norm is {norm!r}; it is one of linf, l2, l1, or absent.")
    if form in CODED and not entry.factory.isidentifier():
        raise CardError(f"model.factory is {entry.factory!r}; it is the name of a function in {entry.code}.")
    if not entry.weights and form not in CODED:
        raise CardError("There is no [[weights]] table: a model needs at least one file.")
    return entry


def card_table(entry: Entry) -> dict[str, Any]:
    """The table of a card that `parse_card` reads back as ``entry``; empty fields are left out."""

    def kept(**fields: Any) -> dict[str, Any]:
        return {name: value for name, value in fields.items() if value not in (None, "", (), [], {})}

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    table = kept(
        slug=entry.slug,
        title=entry.title,
        authors=entry.authors,
        paper=entry.paper,
        paper_title=entry.paper_title,
        paper_authors=entry.paper_authors,
        repository=entry.repository,
        year=entry.year,
        venue=entry.venue,
        licence=entry.licence,
        dataset=entry.dataset,
        notes=entry.notes,
        trusted=entry.trusted,
        model=kept(
            form=entry.form,
            architecture=entry.architecture,
            arguments=entry.arguments,
            preprocessing=entry.preprocessing,
            rejects=entry.rejects or None,
            code=entry.code,
            factory=entry.factory,
        ),
        training=kept(
            method=entry.training_method,
            norm=entry.training_norm,
            eps=entry.training_eps,
            run=entry.training_run,
            extra_data=entry.extra_data or None,
        ),
        weights=[kept(file=w.name, urls=w.urls, size=w.size, sha256=w.sha256, layout=w.layout) for w in entry.weights],
        claims=[kept(name=c.name, value=c.value, norm=c.norm, eps=c.eps, source=c.source) for c in entry.claims],
    )
    return cast("dict[str, Any]", plain(table))


def check_slug(slug: str) -> str:
    """The slug itself if it is one.

    Raises:
        CardError: If it is none: it names a folder, an address and a row, so it has a small alphabet.
    """
    if not SLUG.fullmatch(slug) or ".." in slug or slug.endswith("."):
        raise CardError(
            f"The slug {slug!r} cannot be used: at most 80 of the characters a-z, 0-9, '-' and '.', the first a letter "
            "or digit, the last no dot, no two dots in a row."
        )
    if slug.partition(".")[0] in DEVICES or slug in PAGES or slug.endswith((".html", ".js", ".css", ".lock")):
        raise CardError(f"The slug {slug!r} cannot be used: systems or the site use that name. Choose another.")
    return slug


def _steps(steps: Sequence[Any]) -> Sequence[Mapping[str, Any]]:
    for step in steps:
        if not isinstance(step, dict) or not isinstance(step.get("kind"), str):
            raise CardError(f"model.preprocessing has the step {step!r}; each is a table with a kind and arguments.")
    return cast("Sequence[Mapping[str, Any]]", steps)


def _weights(file: Fields, *, digests: bool) -> Weights:
    urls = tuple(file.texts("urls"))
    if wrong := [url for url in urls if not url.startswith("https://")]:
        raise CardError(f"weights.urls holds {wrong[0][:200]!r}; files are fetched from https addresses alone.")
    stated = digests or bool(urls)
    size, sha256 = file.integer("size", required=stated), file.text("sha256", required=stated)
    layout = file.plain("layout", dict)
    if sha256 and not re.fullmatch("[0-9a-f]{64}", sha256):
        raise CardError(f"weights.sha256 is {sha256!r}; a SHA-256 has 64 hexadecimal digits in lower case.")
    if size is not None and size < 0:
        raise CardError(f"weights.size is {size}; it is a number of bytes.")
    if not all(isinstance(recipe, dict) for recipe in layout.values()):
        raise CardError("weights.layout maps each parameter to a table.")
    name = _file_name(file.text("file", required=True), "weights.file")
    file.refuse_unknown()
    return Weights(name, sha256, size or 0, urls, layout)


def _claim(claim: Fields) -> Claim:
    name, value = claim.text("name", required=True), claim.number("value", required=True)
    assert value is not None
    check_share(name, value, "claims.value")
    found = Claim(name, value, claim.text("source"), claim.text("norm") or None, claim.number("eps"))
    claim.refuse_unknown()
    return found


def check_share(name: str, value: float, where: str) -> None:
    """Refuse a figure that is no share although its name says so: an accuracy or an error rate beyond 0 to 1.

    Raises:
        CardError: With what it would be as a share, where it reads as a percentage.
    """
    if not name.endswith(("_accuracy", "_error")) or 0 <= value <= 1:
        return
    hint = f"; {value:g} % is {value / 100:g}" if 1 < value <= 100 else ""
    raise CardError(f"{where} of {name} is {value:g}; it is a share, from 0 to 1{hint}.")


def _address(address: str, where: str) -> str:
    """An address that a page may link to, or nothing."""
    if address and not re.fullmatch(r"https://[^\s<>\"]+", address):
        raise CardError(f"{where} is {address[:200]!r}; it is an address that begins with https://.")
    return address


def _file_name(name: str, where: str) -> str:
    """A file beside the card: no folder, no way out."""
    if not name or PurePosixPath(name).name != name or "\\" in name or name.startswith(".") or ":" in name:
        raise CardError(f"{where} is {name!r}; it is the plain name of a file beside the card, without a folder.")
    return name
