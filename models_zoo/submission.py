"""From a stranger's folder to one of the workspace: only what the card names is copied, and every byte is hashed."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import stat
from pathlib import Path
from typing import Any, Final

import tomli_w

from models_zoo.cards import CODED, Entry, Form, Weights, card_table, check_slug, read_card
from models_zoo.catalogue import CARD
from models_zoo.errors import CardError, DigestError, WeightsError

MAX_FILE_BYTES: Final = 16 << 30

BLOCK: Final = 1 << 20


def stage(source: Path, target: Path, *, trust_code: bool = False) -> Entry:
    """Copy a submitted folder, and complete its card by sizes and digests.

    Args:
        source: The folder, with its ``model.toml``.
        target: An empty folder to copy to.
        trust_code: Whether the maintainer lets the submitted Python code run.

    Returns:
        The entry as it lies in ``target``.

    Raises:
        CardError: If the card is not sound.
        WeightsError: If a file is missing, is no plain file (a link, a pipe), or is too large.
        DigestError: If a file is not the one that the card states.
    """
    card = source / CARD
    if (source / "config.json").is_file() and not card.exists():
        raise CardError(
            f"{source} is a folder as Hugging Face gives them (config.json) and has no card. Write one beside its "
            f"weights with `curveboard submit --init {source}`, name the file in it (model.safetensors or "
            "pytorch_model.bin) and the architecture that config.json speaks of; or export the model as .pt2."
        )
    if card.is_symlink() or not card.is_file():
        raise CardError(
            f"There is no card {card} (a link is not followed). Make one with: curveboard submit --init {source}"
        )
    entry = read_card(card, digests=False)
    named = list(entry.weights)
    if entry.form in CODED and all(file.name != entry.code for file in named):
        named.append(Weights(entry.code, "", 0))
    names = [file.name for file in named]
    if len(set(names)) < len(names) or CARD in names:
        raise CardError(f"{card} names a file twice, or the card itself: {', '.join(names)}.")
    files = tuple(file if file.urls else _copied(file, source, target) for file in named)
    trusted = next((f.sha256 for f in files if f.name == entry.code), "") if trust_code and entry.code else ""
    entry = dataclasses.replace(entry, folder=target, weights=files, trusted=trusted)
    write_card(entry)
    return read_card(target / CARD)


def write_card(entry: Entry) -> None:
    """Write an entry's card beside its files."""
    (entry.folder / CARD).write_text(tomli_w.dumps(card_table(entry)), encoding="utf-8")


def _copied(file: Weights, source: Path, target: Path) -> Weights:
    """Copy one file; its entry with size and digest."""
    size, sha256 = _copy(source / file.name, target / file.name)
    if file.sha256 and (file.sha256, file.size or size) != (sha256, size):
        raise DigestError(
            f"{file.name} has {size} bytes and SHA-256 {sha256}; the card states {file.size} and {file.sha256}. "
            "Correct the card, or the file; both lines may also be left out."
        )
    return dataclasses.replace(file, size=size, sha256=sha256)


def _copy(source: Path, target: Path) -> tuple[int, str]:
    """Copy a plain file; its size and SHA-256. Nothing is followed, and nothing is waited for."""
    try:
        handle = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise WeightsError(
            f"The file {source} that the card names cannot be opened ({error.strerror}). It must be a plain file "
            "beside the card; links are not followed."
        ) from error
    facts = os.fstat(handle)
    if not stat.S_ISREG(facts.st_mode) or facts.st_size > MAX_FILE_BYTES:
        os.close(handle)
        raise WeightsError(f"{source} is no plain file of at most {MAX_FILE_BYTES} bytes.")
    with open(handle, "rb") as reader, target.open("xb") as writer:  # noqa: PTH123 - a handle, not a path
        digest, size = hashlib.sha256(), 0
        while block := reader.read(min(BLOCK, MAX_FILE_BYTES + 1 - size)):
            size += len(block)
            digest.update(block)
            writer.write(block)
    return size, digest.hexdigest()


def bare_state_dict(
    file: Path, target: Path, *, slug: str, dataset: str, architecture: str, arguments: dict[str, Any], title: str = ""
) -> Entry:
    """Stage a state dict alone, with what its card would say given by the caller; see `stage`."""
    entry = Entry(
        slug=check_slug(slug),
        title=title or slug,
        dataset=dataset,
        form="weights",
        folder=target,
        architecture=architecture,
        arguments=arguments,
        weights=(_copied(Weights(file.name, "", 0), file.parent, target),),
    )
    write_card(entry)
    return read_card(target / CARD)


def scaffold(folder: Path, *, form: Form, dataset: str, architectures: str, datasets: str) -> Path:
    """Write a commented card to fill in, and for forms ``code`` and ``jax`` an example of the code.

    Args:
        folder: Where; it is made if need be. Its name becomes the slug.
        form: How the model comes.
        dataset: What it classifies.
        architectures: The names there are, for a comment.
        datasets: The names there are, for a comment.

    Returns:
        The card.

    Raises:
        CardError: If there is a card already, or the folder's name cannot be a slug.
    """
    slug = check_slug(folder.resolve().name.lower().replace("_", "-").replace(" ", "-"))
    folder.mkdir(parents=True, exist_ok=True)
    card = folder / CARD
    text = TEMPLATE.replace("@SLUG@", slug).replace("@DATASET@", dataset).replace("@DATASETS@", datasets)
    text = text.replace("@MODEL@", MODELS[form]).replace("@ARCHITECTURES@", architectures)
    try:
        with card.open("x", encoding="utf-8") as writer:
            writer.write(text)
        if form in CODED:
            with (folder / "model.py").open("x", encoding="utf-8") as writer:
                writer.write(JAX if form == "jax" else CODE)
    except FileExistsError as error:
        raise CardError(f"{error.filename} exists; edit it, or give another folder.") from None
    return card


TEMPLATE: Final = """\
# The card of one model. Lines that begin with # are comments; fields that you do not need can be deleted.
# Check it with `curveboard submit --dry-run .` as often as you like: that changes nothing.

# The name of the model in addresses and commands: at most 80 of a-z, 0-9, "-" and ".".
slug = "@SLUG@"

# For people.
title = "@SLUG@"
authors = ["Your Name"]
# An address or a citation; its title and authors, for those who cite it; the year and the venue of the publication.
paper = ""
# paper_title = ""
# paper_authors = [""]
# Where the code that made it is: an address that begins with https://.
repository = ""
year = 2026
venue = ""
# The licence of the weights, as an SPDX identifier where there is one.
licence = ""
# Anything else that a reader should know, in a sentence or two.
notes = ""

# What it classifies. Registered here: @DATASETS@.
dataset = "@DATASET@"

@MODEL@
# How it was trained; `norm` (linf, l2 or l1) and `eps` (images in [0, 1]) if it was trained to be robust.
[training]
method = "Standard training"
# norm = "linf"
# eps = 0.1
# Whether data beyond the dataset's training split was used.
extra_data = false

# Figures that you or others report, one table each. They are shown beside ours, in a column of their own, and never
# ranked. Accuracies are shares; the names that can be compared are clean_accuracy, robust_accuracy, certified_accuracy.
# [[claims]]
# name = "robust_accuracy"
# value = 0.93
# norm = "linf"
# eps = 0.1
# source = "Table 1 of the paper"
"""

_PREPROCESSING: Final = """\
# Images come in [0, 1]; what your network wants besides is done here, in order. Known: normalise (mean, std, one value
# a channel), bit_depth (bits), png, jpeg (quality).
# preprocessing = [{ kind = "normalise", mean = [0.5], std = [0.5] }]
# Whether there is one logit more than classes, the last, which rejects the image (docs/attackers.md).
# rejects = true
"""

_FILES: Final = """\
# The file lies beside this card; its size and SHA-256 are noted when it is submitted. A public file can be named by its
# addresses instead, which are tried in turn; then both must be stated.
# urls = ["https://example.org/@FILE@"]
# size = 12345
# sha256 = "…"
"""

MODELS: Final[dict[Form, str]] = {
    "weights": f"""\
[model]
# Weights for a registered architecture: a state dict as .safetensors (best), .pt, .pth, .ckpt or .bin. Nothing in it is
# ever run.
form = "weights"
# Registered here: @ARCHITECTURES@.
architecture = "mlp"
# What the architecture is built with; its file in models_zoo/architectures/ says what there is.
arguments = {{ inputs = 64, hidden = [128], outputs = 10 }}
{_PREPROCESSING}
[[weights]]
file = "weights.safetensors"
{_FILES.replace("@FILE@", "weights.safetensors")}""",
    "pt2": f"""\
[model]
# A program without code, made by
#   n = torch.export.Dim.DYNAMIC
#   program = torch.export.export(model.eval(), (images,), dynamic_shapes=({{0: n}},))
#   torch.export.save(program, "model.pt2")
# with images of shape (4, c, h, w) in [0, 1]. docs/submitting.md lists the operations that it may use.
form = "pt2"
{_PREPROCESSING}
[[weights]]
file = "model.pt2"
{_FILES.replace("@FILE@", "model.pt2")}""",
    "onnx": f"""\
[model]
# A program without code, made by
#   torch.onnx.export(model.eval(), (images,), "model.onnx", external_data=False,
#                     dynamic_shapes=({{0: torch.export.Dim.DYNAMIC}},))
# or another framework, in one file, for images in [0, 1]. docs/submitting.md lists the operators that it may use.
form = "onnx"
{_PREPROCESSING}
[[weights]]
file = "model.onnx"
{_FILES.replace("@FILE@", "model.onnx")}""",
    "keras": f"""\
[model]
# A model of Keras 3, saved with model.save("model.keras"): Keras' own layers alone, no Lambda layers and no classes of
# your own. It returns logits: let its last layer have no softmax. It is run with pip install 'curveboard[keras]'.
form = "keras"
# Whether it takes images as (n, h, w, c). Keras' backend is torch, unless backend = "jax" or "tensorflow" stands here.
arguments = {{ channels_last = true }}
{_PREPROCESSING}
[[weights]]
file = "model.keras"
{_FILES.replace("@FILE@", "model.keras")}""",
    "jax": f"""\
[model]
# A JAX function of parameters and images, as Python code. Like form "code", it is run only after the maintainer has
# read it and said --trust-code. It needs pip install 'curveboard[jax]'.
form = "jax"
code = "model.py"
# The function in it: apply(parameters, x), or apply(x) where no file is named below.
factory = "apply"
# Whether it takes images as (n, h, w, c), as most JAX models do.
arguments = {{ channels_last = true }}
{_PREPROCESSING}
# Its parameters, by their names: safetensors.flax.save_file(parameters, "parameters.safetensors").
[[weights]]
file = "parameters.safetensors"
{_FILES.replace("@FILE@", "parameters.safetensors")}""",
    "code": """\
[model]
# Python code. It is run only after the maintainer has read it and said --trust-code, in a process of its own with
# limits of time and memory, without network and without writing files. The other forms need no such trust.
form = "code"
code = "model.py"
# The function in it that makes the model: it is called with the folder of the files below, and returns a
# torch.nn.Module that maps images in [0, 1] to logits.
factory = "make"

# Files that the code reads.
# [[weights]]
# file = "weights.safetensors"
""",
}
"""The part of a card that differs between the forms."""

CODE: Final = '''\
"""The model, as code. It sees no network and writes no files; what it prints is lost."""

from pathlib import Path

from torch import nn


def make(folder: Path) -> nn.Module:
    """The model: images in [0, 1], shape (n, c, h, w), to logits, shape (n, k)."""
    # from safetensors.torch import load_file
    # network.load_state_dict(load_file(folder / "weights.safetensors"))
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
'''

JAX: Final = '''\
"""The model, as a JAX function. It sees no network and writes no files; what it prints is lost."""

def apply(parameters, x):
    """Images in [0, 1], float32, shape (n, h, w, c), to logits, shape (n, k). It must be pure: it is compiled.

    ``parameters`` holds the arrays of the safetensors file by their names. A tree that was flattened to names comes
    back with, for instance, flax.traverse_util.unflatten_dict(parameters, sep="/").
    """
    return x.reshape(x.shape[0], -1) @ parameters["kernel"] + parameters["bias"]
'''
