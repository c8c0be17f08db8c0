"""Reading a bundle: verified in a scratch database first, and only then entered into a real one."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import tomli_w
from sqlalchemy import select
from sqlalchemy.orm import Session

from benchmark.apart import Limits, run_apart
from benchmark.data import Dataset, all_datasets
from benchmark.errors import InputError
from benchmark.evidence.bundle import FORMAT
from benchmark.evidence.check import Checked, Problem, Report, Subject, check, choose
from benchmark.evidence.claims import check_claims
from benchmark.evidence.container import Container
from benchmark.evidence.entering import Contents, Ingested, enter, sound
from benchmark.evidence.plausible import check_manifest
from benchmark.evidence.proofs import proofs_of
from benchmark.evidence.store import EvidenceStore, unpack
from benchmark.threat import norm_names
from db.schema import Base, Protocol
from db.session import Database
from models_zoo import Entry, catalogue, get_entry, present
from models_zoo.cards import card_table, parse_card
from models_zoo.catalogue import CARD
from models_zoo.fetch import is_cached
from models_zoo.loading import load_entry

MOST_BUDGETS: Final = 100
LARGEST_BUDGET: Final = 1e7
"""No two images of less than ten million numbers in [0, 1] are farther apart, in any norm."""


def verify_bundle(
    path: Path,
    *,
    samples: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    trust_code: bool = False,
    fetch: bool = False,
) -> Report:
    """Verify a bundle by itself: no workspace, no network if it carries its weights and data.

    Args:
        path: The bundle.
        samples: Only so many samples, drawn at random.
        seed: Of the drawing.
        device: Where the model runs.
        trust_code: Whether Python code in it may run, in a process of its own.
        fetch: Whether weights that it lacks may be downloaded from the addresses that it names.

    Raises:
        InputError: If it is no sound bundle.
        ZooError: If the model in it cannot be read or does not fit.
    """
    with open_bundle(path, trust_code=trust_code, fetch=fetch) as contents:
        return _verify(contents, samples=samples, seed=seed, device=device)


def verify_apart(
    path: Path, *, limits: Limits, device: str = "cpu", sha256: str | None = None, **options: Any
) -> Report:
    """`verify_bundle` in a process of its own, which is stopped when it is beyond its limits.

    Args:
        path: The bundle.
        limits: What verifying it may use.
        device: Where the model runs.
        sha256: The file's digest, if it has been opened before.
        **options: The others of `verify_bundle`.

    Raises:
        InputError: If it is no sound bundle, or its model cannot be read or does not fit.
        StoppedError: If it took more than it may.
    """
    found = run_apart(_verify_to_json, path, sha256, {"device": device, **options}, limits=limits, device=device)
    problems = [Problem(**problem) for problem in found.pop("problems")]
    sound = [Checked(**row) for row in found.pop("sound")]
    return Report(**found, problems=problems, sound=sound)


def _verify_to_json(path: Path, sha256: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    with Container(path) as container:
        if sha256 not in {None, container.sha256}:
            raise InputError(f"{path} was changed while it was read; run the command again.")
    return dataclasses.asdict(verify_bundle(path, **options))


def ingest(
    database: Database,
    store: EvidenceStore,
    models: Path,
    path: Path,
    *,
    device: str = "cpu",
    trust_code: bool = False,
    fetch: bool = False,
    limits: Limits | None = None,
) -> Ingested:
    """Verify a bundle in a process of its own, then enter what is new in it. Doing it again changes nothing.

    Args:
        database: The database.
        store: Where its evidence goes.
        models: Folder of submitted models, where the model's files go.
        path: The bundle.
        device: Where the model runs.
        trust_code: Whether Python code in it may run.
        fetch: Whether weights that it lacks may be downloaded from the addresses that it names.
        limits: What verifying it may use.

    Raises:
        InputError: If it is no sound bundle, or contradicts what is here: another model of the same name, another
            protocol of the same name and version, a dataset that is not registered.
        StoppedError: If verifying it took more than it may.
    """
    with open_bundle(path, trust_code=trust_code, fetch=fetch) as contents:
        _refuse_conflicts(database, models, contents)
        report = verify_apart(
            path,
            limits=limits or Limits(),
            device=device,
            trust_code=trust_code,
            fetch=fetch,
            sha256=contents.container.sha256,
        )
        outcome = Ingested(contents.entry.slug, report)
        if report.problems:
            return outcome
        entry = _known(contents.entry.slug, models)
        with database.write() as session:
            enter(session, contents, entry or contents.entry, outcome)
            _copy_evidence(contents, store)  # files come last: what the database refuses leaves none
            if entry is None:
                _install(contents.entry, models)
    return outcome


@contextmanager
def open_bundle(path: Path, *, trust_code: bool, fetch: bool = False) -> Iterator[Contents]:
    """Open a bundle and unpack the model's files into a scratch folder, under names that the card's reader accepts."""
    with Container(path) as container, tempfile.TemporaryDirectory(prefix="curveboard-bundle-") as scratch:
        manifest = container.manifest
        if manifest.get("format") != FORMAT:
            raise InputError(f"{path} has the format {manifest.get('format')!r}; this program reads {FORMAT!r}.")
        with sound(path):
            _require_tables(manifest)
            entry = _with_known_addresses(_unpack_model(container, Path(scratch), trust_code=trust_code), fetch=fetch)
            if entry.digest != manifest["model"]["digest"]:
                raise InputError(
                    f"{path}: the model's card and files have the digest {entry.digest[:12]}…, the bundle states "
                    f"{manifest['model']['digest'][:12]}…; it was altered, or made by another version of curveboard."
                )
            dataset, note = _dataset(container)
            check_manifest(manifest, size=dataset.size)
        yield Contents(container, entry, dataset, (note,) if note else ())


def _require_tables(manifest: Mapping[str, Any]) -> None:
    """Raise unless the manifest has the lists of tables that others walk through."""
    evaluations = _tables(manifest["evaluations"])
    chunks = [chunk for evaluation in evaluations for chunk in _tables(evaluation["chunks"])]
    if any(chunk["evidence"] is not None and not isinstance(chunk["evidence"], str) for chunk in chunks):
        raise TypeError("a chunk's evidence is no digest")
    for protocol in _tables(manifest["protocols"]):
        int(protocol["version"]), str(protocol["name"]), dict(protocol["spec"])
    _tables(manifest["files"])


def _tables(values: Any) -> list[dict[str, Any]]:
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise TypeError("what should be a list of tables is none")
    return values


def _unpack_model(container: Container, scratch: Path, *, trust_code: bool) -> Entry:
    manifest = container.manifest
    card = dict(manifest["model"]["card"])
    card.pop("trusted", None)
    folder = scratch / "model"
    folder.mkdir()
    entry = parse_card(card, folder=folder)
    if entry.slug != manifest["model"]["slug"]:
        raise InputError(f"the card is of {entry.slug!r}, the bundle of {manifest['model']['slug']!r}.")
    expected = {w.name for w in entry.weights}
    files = {str(file["name"]): str(file["member"]) for file in manifest["files"]}
    if not set(files) <= expected or CARD in files:
        raise InputError(f"it brings files that its card does not name: {', '.join(sorted(set(files) - expected))}.")
    for name, member in files.items():
        (folder / name).write_bytes(container.read(member))
    # What lies here needs no download; the address is no part of the model's digest.
    here = [dataclasses.replace(w, urls=()) if w.name in files else w for w in entry.weights]
    # Trust is in exactly this code: its digest is the file's, which is verified whenever it is read.
    trusted = next((w.sha256 for w in here if trust_code and w.name == entry.code), "")
    return dataclasses.replace(entry, weights=tuple(here), trusted=trusted)


def _with_known_addresses(entry: Entry, *, fetch: bool) -> Entry:
    """No address that a stranger names is asked unbidden: what the zoo has is fetched from the zoo's addresses."""
    zoo = {file.sha256: file.urls for known in catalogue().values() for file in known.weights if file.urls}
    weights = [dataclasses.replace(w, urls=zoo.get(w.sha256, w.urls)) if w.urls else w for w in entry.weights]
    for file in weights:
        if file.urls and not fetch and file.sha256 not in zoo and not is_cached(file.remote):
            raise InputError(
                f"it lacks the weights {file.name}, and names an address to fetch them from: {file.urls[0]}. Look at "
                "it, and give --fetch if they may be downloaded (they are checked against their SHA-256)."
            )
    return dataclasses.replace(entry, weights=tuple(weights))


def _dataset(container: Container) -> tuple[Dataset, str]:
    """The bundle's dataset, and what to know about it."""
    values = container.manifest["dataset"]
    name, digest = str(values["name"]), str(values["digest"])
    registered = all_datasets().get(name)
    same = registered is not None and registered.digest == digest
    if not values["included"]:
        if registered is None or not same:
            raise InputError(f"it does not carry its dataset {name!r}, and there is none of that digest here.")
        return registered, ""

    def read() -> tuple[Any, Any]:
        images, labels = container.array("dataset/images.npy"), container.array("dataset/labels.npy")
        if images.dtype != np.uint8 or labels.dtype != np.int64:
            raise InputError(f"The images are {images.dtype}, the labels {labels.dtype}; expected uint8 and int64.")
        return images, labels

    if (
        registered is not None and same
    ):  # the card is this board's; a bundle brings the images alone, which the digest holds to be the same
        return dataclasses.replace(registered, read=read), ""
    dataset = Dataset(
        name=name,
        title=str(values["title"]),
        shape=(int(values["shape"][0]), int(values["shape"][1]), int(values["shape"][2])),
        classes=tuple(map(str, values["classes"])),
        size=int(values["size"]),
        levels=int(values["levels"]),
        digest=digest,
        eps={norm: _budgets(norm, dict(values["eps"]).get(norm, ())) for norm in norm_names()},
        licence=str(values["licence"]),
        source=str(values["source"]),
        read=read,
    )
    here = "is not registered here" if registered is None else "has another digest here"
    return dataset, f"the dataset {name!r} {here}; the images are the bundle's own, of digest {digest}"


def _budgets(norm: str, values: Sequence[Any]) -> tuple[float, ...]:
    """Published budgets; refused unless each is a number that a distance between images can have."""
    found = tuple(map(float, values))
    if len(found) > MOST_BUDGETS or not all(0 < eps <= LARGEST_BUDGET for eps in found):
        raise InputError(f"it publishes {norm} at eps {list(found)[:5]}; expected a few finite numbers above 0.")
    return found


def _verify(contents: Contents, *, samples: int | None, seed: int, device: str) -> Report:
    """Enter the bundle into a scratch database and check that as any board is checked."""
    report = Report(notes=list(contents.notes))
    images, labels = contents.dataset.load()
    model = load_entry(contents.entry, device=device)
    with tempfile.TemporaryDirectory(prefix="curveboard-verify-") as scratch:
        (Path(scratch) / "scratch.db").touch()
        database = Database(f"sqlite:///{scratch}/scratch.db")
        Base.metadata.create_all(database.engine)
        store = EvidenceStore(Path(scratch) / "artifacts")
        _copy_evidence(contents, store)
        with database.write() as session:
            model_id, dataset_id = enter(session, contents, contents.entry, Ingested(contents.entry.slug, report))
        with database.read() as session:
            proofs = proofs_of(session, model_id=model_id, dataset_id=dataset_id)
        covered = np.any([found.covered for found in proofs.ledgers.values()], axis=0)
        subject = Subject(contents.entry.slug, model, images, labels, device)
        chosen = choose(covered, samples, seed)
        check(subject, proofs, store, report, chosen=chosen)
        with database.read() as session:
            check_claims(session, subject, contents.dataset, report, chosen=chosen)
    return report


def _copy_evidence(contents: Contents, store: EvidenceStore) -> None:
    for digest in sorted(_evidence(contents.container.manifest)):
        data = contents.container.read(f"evidence/{digest}")
        indices, _ = unpack(data)
        stored = store.put_bytes(data, samples=len(indices))
        if stored.digest != digest:
            raise InputError(f"The bundle's evidence {digest} has the digest {stored.digest}.")


def _evidence(manifest: Mapping[str, Any]) -> set[str]:
    chunks = (chunk for evaluation in manifest["evaluations"] for chunk in evaluation["chunks"])
    return {str(chunk["evidence"]) for chunk in chunks if chunk["evidence"] is not None}


def _refuse_conflicts(database: Database, models: Path, contents: Contents) -> None:
    entry, dataset = contents.entry, contents.dataset
    known = _known(entry.slug, models)
    if known is not None and known.digest != entry.digest:
        raise InputError(
            f"There is another model called {entry.slug!r} here (digest {known.digest[:12]}…, the bundle's is "
            f"{entry.digest[:12]}…). Rename or remove one of the two."
        )
    registered = all_datasets().get(dataset.name)
    if registered is None or registered.digest != dataset.digest:
        raise InputError(
            f"The dataset {dataset.name!r} of digest {dataset.digest[:12]}… is not registered here; rows of other data "
            "cannot be ranked with this board's. Install the package that brings it."
        )
    with database.read() as session:
        for values in contents.container.manifest["protocols"]:
            row = _protocol(session, values)
            if row is not None and row.spec != values["spec"]:
                raise InputError(
                    f"The protocol {row.name}@{row.version} says something else here than in the bundle; rows of the "
                    "two cannot be ranked together. Give one of them another version."
                )


def _known(slug: str, models: Path) -> Entry | None:
    return get_entry(slug, [models]) if slug in present([models]) else None


def _protocol(session: Session, values: Mapping[str, Any]) -> Protocol | None:
    query = select(Protocol).where(Protocol.name == str(values["name"]), Protocol.version == int(values["version"]))
    return session.scalar(query)


def _install(entry: Entry, models: Path) -> None:
    """Put the model's card and files into the folder."""
    target = models / entry.slug
    try:
        models.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=models, prefix=".ingest-"))
        try:
            for file in entry.folder.iterdir():
                shutil.copyfile(file, scratch / file.name)
            (scratch / CARD).write_text(tomli_w.dumps(card_table(entry)), encoding="utf-8")
            scratch.chmod(0o755)
            scratch.replace(target)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
    except OSError as error:
        raise InputError(f"The model cannot be put into {target}: {error.strerror or error}.") from error
