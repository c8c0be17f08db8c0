"""What the child process makes of a submission: a torch module, of whichever framework its code or file is."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from models_zoo.errors import CardError, CodeError, WeightsError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Served:
    """What is served; it crosses to the child as JSON.

    Attributes:
        form: ``code``, ``jax`` or ``keras``.
        file: The Python file, or the ``.keras`` file.
        factory: Name of the function in it that makes the model (``jax``: that is the model).
        folder: Where the model's other files are.
        parameters: File of its parameters (``jax``), or empty.
        arguments: Of the card.
    """

    form: str
    file: str
    factory: str = ""
    folder: str = ""
    parameters: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)


def build(served: Served, device: str, threads: int) -> nn.Module:
    """The module, in eval mode; in this process, which must be the child.

    Raises:
        Exception: Whatever the code raises.
    """
    if served.form != "code":
        _prepare(served, device, threads)
    import torch

    torch.manual_seed(0)  # a model is the same in every process, also one that draws its weights
    return BUILDERS[served.form](served).eval().requires_grad_(False)


BACKENDS: Final = ("torch", "jax", "tensorflow")
"""Backends of Keras that a card may ask for, the first by default; packages, all of them."""


def channels_last(arguments: Mapping[str, Any], *, default: bool, others: Set[str] = frozenset()) -> bool:
    """Whether a model of another framework takes images as (n, h, w, c), as its card says.

    Args:
        arguments: ``model.arguments`` of the card.
        default: What holds if it says nothing.
        others: What else the arguments may have.

    Raises:
        CardError: If the card says anything else.
    """
    value = arguments.get("channels_last", default)
    if set(arguments) - {"channels_last"} - others or not isinstance(value, bool):
        known = " and ".join(["channels_last (true or false)", *sorted(others)])
        raise CardError(f"model.arguments is {dict(arguments)}; for this form it has {known}, and nothing else.")
    return value


def keras_arguments(arguments: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether a Keras model takes images channels last, and the backend it is run on, as its card says.

    Raises:
        CardError: If the card says anything else.
    """
    last = channels_last(arguments, default=True, others={"backend"})
    backend = arguments.get("backend", "torch")
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise CardError(f"model.arguments.backend is {backend!r:.80}; Keras runs on one of {', '.join(BACKENDS)}.")
    return last, backend


def _prepare(served: Served, device: str, threads: int) -> None:
    """Tell the other frameworks, before they are imported, where to compute and with how many threads."""
    tempfile.tempdir = str(Path.cwd())  # found by writing a file otherwise, which this process cannot
    os.environ["KERAS_BACKEND"] = keras_arguments(served.arguments)[1] if served.form == "keras" else "torch"
    os.environ["KERAS_TORCH_DEVICE"] = device
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"  # it takes the whole GPU otherwise
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = str(threads)
    if device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    if threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"


def _function(served: Served) -> Callable[..., Any]:
    """The function that the code names."""
    code = Path(served.file)
    namespace: dict[str, Any] = {"__name__": code.stem, "__file__": str(code)}
    exec(compile(code.read_bytes(), str(code), "exec"), namespace)  # noqa: S102 - what this process is for
    function: Callable[..., Any] | None = namespace.get(served.factory)
    if not callable(function):
        raise CodeError(f"{code.name} has no function {served.factory!r}")
    return function


def _from_code(served: Served) -> nn.Module:
    import torch

    model = _function(served)(Path(served.folder))
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"{served.factory} returned a {type(model).__name__}, expected a torch.nn.Module")
    return model


def _from_jax(served: Served) -> nn.Module:
    from models_zoo.frameworks.jax_models import from_jax

    parameters = None
    if served.parameters:
        from safetensors.flax import load

        parameters = load(Path(served.parameters).read_bytes())
    last = channels_last(served.arguments, default=False)
    return from_jax(_function(served), parameters, channels_last=last)


def _from_keras(served: Served) -> nn.Module:
    import zipfile

    from models_zoo.formats.keras_files import WEIGHTS
    from models_zoo.frameworks.keras_models import from_keras
    from models_zoo.optional import optional

    keras = optional("keras", extra="keras", what="The form keras")
    with zipfile.ZipFile(served.file) as archive, archive.open(WEIGHTS) as weights:
        refuse_unsound_weights(weights)
    link = Path.cwd() / "model.keras"  # a file of the download cache has no suffix, and Keras goes by it
    link.symlink_to(served.file)
    model = keras.saving.load_model(link, compile=False, safe_mode=True)
    return from_keras(model, channels_last=keras_arguments(served.arguments)[0])


def refuse_unsound_weights(file: IO[bytes]) -> None:
    """Refuse an HDF5 file that leads elsewhere or unpacks: links, other files' data, filters, more than it has.

    Raises:
        WeightsError: Naming what is in it.
    """
    import h5py

    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    total = 0
    with h5py.File(file, "r") as handle:
        waiting, seen = [handle["/"]], set()
        while waiting:
            group = waiting.pop()
            for name in group:
                said = f"The weights hold {(group.name + '/' + name)[-120:]!r}"
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise WeightsError(f"{said}, a link to elsewhere, which is not followed. Save the model anew.")
                item = group[name]
                address = h5py.h5o.get_info(item.id).addr
                if address in seen:
                    raise WeightsError(f"{said}, which is there twice. Save the model anew.")
                seen.add(address)
                if isinstance(item, h5py.Group):
                    waiting.append(item)
                    continue
                total += item.size * item.dtype.itemsize
                packed = item.id.get_create_plist().get_nfilters() > 0 or item.external or item.is_virtual
                if packed or item.dtype.kind not in "fiubV" or total > size:
                    raise WeightsError(
                        f"{said}, which is compressed, lies in another file, is no array of numbers, or is larger than "
                        "the file. Keras writes none such; save the model anew."
                    )


BUILDERS: Final[Mapping[str, Callable[[Served], nn.Module]]] = {
    "code": _from_code,
    "jax": _from_jax,
    "keras": _from_keras,
}
"""Form -> what makes a module of it."""
