"""From an entry to a module that can be evaluated."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from models_zoo import architectures
from models_zoo.cards import CODED, Entry, Weights
from models_zoo.catalogue import ENTRIES, WEIGHTS
from models_zoo.errors import CardError, CodeError, WeightsError, ZooError, shown
from models_zoo.fetch import fetch, verify
from models_zoo.formats.checkpoints import named_as
from models_zoo.formats.weights import apply_layout, read_arrays
from models_zoo.optional import require

COUNTER: Final = "num_batches_tracked"
FROM_PACKAGES: Final = frozenset({"robustbench", "timm"})
"""Architectures whose sizes a package states, not the card's arguments."""


class Rejecting(nn.Sequential):
    """A network whose last logit is no class, but rejects the image. Whoever judges it looks for the attribute."""

    rejects: Final = True


def load_entry(entry: Entry, *, device: str | torch.device = "cpu") -> nn.Module:
    """The model of an entry, in eval mode on ``device``; see `models_zoo.load_model`.

    Raises:
        ZooError: If its files cannot be had, verified or read, or do not fit.
    """
    network = _network(entry, device)
    if entry.preprocessing:
        network = nn.Sequential(preprocessing_of(entry), network)
    if entry.rejects:
        network = Rejecting(network)
    return network.eval().requires_grad_(False).to(device)


def preprocessing_of(entry: Entry) -> nn.Module:
    """The steps between the image and the network.

    Raises:
        CardError: If there is no such step, or its arguments do not fit.
    """
    from models_zoo.preprocessing import build

    try:
        return build(entry.preprocessing)
    except ZooError:
        raise
    except Exception as error:  # arguments of a stranger's card can break any step anyhow
        raise CardError(f"{entry.slug}: the preprocessing of its card cannot be built: {shown(error)}.") from error


def local_file(entry: Entry, weights: Weights) -> Path:
    """Where a file of an entry lies on this machine, its size and digest verified; downloaded if need be.

    Raises:
        FetchError: If it cannot be had, or is another file.
        WeightsError: If it should lie beside the card and does not.
    """
    if weights.urls:
        return fetch(weights.remote)
    path = entry.folder / weights.name
    if path.is_symlink() or not path.is_file():
        raise WeightsError(
            f"{entry.slug}: there is no file {path} (a link is not followed). Put the weights beside the card."
        )
    verify(path, name=f"{entry.slug}: {weights.name}", size=weights.size, sha256=weights.sha256)
    return path


def _network(entry: Entry, device: str | torch.device) -> nn.Module:
    """The network alone, however it comes."""
    if entry.form == "weights":
        return _weighted(entry)
    if entry.form in CODED:
        return _coded(entry, device)
    if entry.form == "keras":
        return _keras(entry, device)
    from models_zoo.formats import load_program

    program = entry.weights[0]
    return load_program(local_file(entry, program), program.name)


def _coded(entry: Entry, device: str | torch.device) -> nn.Module:
    """The model of submitted code, in a process of its own, if the maintainer trusts exactly this code."""
    from models_zoo.serving.builders import Served, channels_last
    from models_zoo.serving.sandbox import SandboxedModel

    files = {weights.name: local_file(entry, weights) for weights in entry.weights}
    stated = next((w.sha256 for w in entry.weights if w.name == entry.code), None)
    if stated is None or entry.trusted != stated:
        raise CodeError(
            f"{entry.slug} is Python code ({entry.code}) that nobody here has said to trust, so it was not run. "
            "Read it, then submit it again with: curveboard submit --trust-code FOLDER"
        )
    parameters = ""
    if entry.form == "jax":
        channels_last(entry.arguments, default=False)  # refused here, in the card's words
        parameters = _jax_parameters(entry, files)
    served = Served(
        entry.form, str(files[entry.code]), entry.factory, str(entry.folder), parameters, dict(entry.arguments)
    )
    return SandboxedModel(served, device=device)


def _jax_parameters(entry: Entry, files: Mapping[str, Path]) -> str:
    """The file of a JAX function's parameters, once it has been read here as arrays; empty if it has none."""
    others = [name for name in files if name != entry.code]
    if not others:
        return ""
    if len(others) > 1 or not others[0].endswith(".safetensors"):
        raise WeightsError(
            f"{entry.slug} names the files {', '.join(others)[:200]}; a JAX function has its parameters in one "
            ".safetensors file (of Flax: safetensors.flax.save_file(flax.traverse_util.flatten_dict(variables, "
            "sep='/'), 'parameters.safetensors')). msgpack and pickles are not read."
        )
    read_arrays(files[others[0]], others[0])
    return str(files[others[0]])


def _keras(entry: Entry, device: str | torch.device) -> nn.Module:
    """A ``.keras`` file that holds no code, on the backend that its card names, in a process of its own."""
    from models_zoo.formats.keras_files import check_keras
    from models_zoo.serving.builders import Served, keras_arguments
    from models_zoo.serving.sandbox import SandboxedModel

    _, backend = keras_arguments(entry.arguments)
    if len(entry.weights) > 1:
        raise CardError(f"{entry.slug} names {len(entry.weights)} files; a Keras model is one .keras file.")
    file = local_file(entry, entry.weights[0])
    check_keras(file, entry.weights[0].name)
    # Looked for, not imported: this process has no use for Keras, which would start a backend of its own choice.
    require("keras", extra="keras", what=f"{entry.slug} (form keras)")
    require(backend, extra=backend, what=f"{entry.slug} (form keras, backend {backend})")
    return SandboxedModel(Served("keras", str(file), arguments=dict(entry.arguments)), device=device)


def _weighted(entry: Entry) -> nn.Module:
    """The network of a registered architecture with the entry's weights."""
    weights = entry.weights[0]
    path, convert = local_file(entry, weights), converter(entry)
    state = convert(path) if convert else read_arrays(path, weights.name)
    if weights.layout:
        state = apply_layout(state, weights.layout)
    expected = _expected(entry)
    state = named_as(state, expected)
    # Old checkpoints lack the counters of batch normalisation, which take no part in eval mode.
    state = {**{k: torch.zeros((), dtype=v.dtype) for k, v in expected.items() if k.endswith(COUNTER)}, **state}
    _check_fit(entry, expected, state)
    with torch.random.fork_rng(devices=[]):  # building draws initial weights; the caller's random numbers stay
        network = architectures.build(entry.architecture, entry.arguments)
    network.load_state_dict(state)
    return network


def _expected(entry: Entry) -> Mapping[str, Tensor]:
    """The parameters that the architecture has, without their contents.

    The shapes are compared before any memory is taken: the arguments of a stranger's card could ask for terabytes.
    Networks of packages that compute with numbers while they are built (timm's ViT, Swin and others, in some versions)
    cannot be built without memory; their sizes are the package's, not the card's, so they are built as they are.
    """
    try:
        with torch.device("meta"):
            return architectures.build(entry.architecture, entry.arguments).state_dict()
    except CardError:
        if entry.architecture not in FROM_PACKAGES:
            raise
    with torch.random.fork_rng(devices=[]):
        built = architectures.build(entry.architecture, entry.arguments).state_dict()
    return {name: value.to("meta") for name, value in built.items()}


def _check_fit(entry: Entry, expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    missing = [f"{name} is missing" for name in expected if name not in state]
    unknown = [f"{name[:200]} is not a parameter of it" for name in state if name not in expected]
    shapes = [
        f"{name} has shape {tuple(state[name].shape)}, expected {tuple(want.shape)}"
        for name, want in expected.items()
        if name in state and state[name].shape != want.shape
    ]
    if problems := [first for kind in (missing, unknown, shapes) for first in _first_of(kind)]:
        raise WeightsError(
            f"{entry.slug}: the weights {entry.weights[0].name} do not fit the architecture {entry.architecture!r} "
            f"with {dict(entry.arguments)}: {'; '.join(problems)}. Correct model.arguments, or the weights."
        )


def _first_of(problems: Sequence[str]) -> list[str]:
    """The first problems of one kind, and how many more there are."""
    return [*problems[:3], *([f"… and {len(problems) - 3} more"] if len(problems) > 3 else [])]


def converter(entry: Entry) -> Callable[[Path], dict[str, Tensor]] | None:
    """What reads the file of a model of the package that is in a format of its own: a script beside its card.

    The file is the one whose digest the package's card states. A stranger's card has no such script.
    """
    script = ENTRIES / f"{entry.slug}.py"
    if entry.folder != WEIGHTS or not script.is_file():
        return None
    convert: Callable[[Path], dict[str, Tensor]] = runpy.run_path(str(script))["convert"]
    return convert
