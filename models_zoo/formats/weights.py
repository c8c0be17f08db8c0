"""Reading weights from files that strangers made: arrays come out, nothing runs.

==================  =====================================================================================
``.safetensors``    a header of at most 100 MB and raw numbers; read by the safetensors library
``.pt`` ``.pth``    ``torch.load(weights_only=True)``: an unpickler that builds tensors and refuses all else
``.mat``            `models_zoo.matlab`: real numeric arrays only, those that the card's layout names
==================  =====================================================================================

Everything else is refused. Whoever calls has verified size and digest (`models_zoo.fetch.verify`).
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models_zoo.errors import CardError, WeightsError, shown

STEPS: Final[dict[str, Callable[[Tensor, list[int]], Tensor]]] = {
    "reshape": Tensor.reshape,
    "transpose": Tensor.permute,
}
"""What a layout may do to an array."""

WRAPPERS: Final = ("state_dict", "model_state_dict", "model", "net")
"""Keys under which training scripts put the state dict beside optimiser states and the like."""


def read_arrays(path: Path, name: str, *, wanted: Sequence[str] = ()) -> dict[str, Tensor]:
    """The named arrays in a weight file, on the CPU.

    Args:
        path: Where the file lies.
        name: What it is called; the suffix says the format (a cached file has none).
        wanted: Names to read from a ``.mat`` file.

    Raises:
        WeightsError: If the format is not one of those above, or the file is damaged, holds anything but arrays, or
            unpacks to far more than its size.
    """
    suffix = Path(name).suffix.lower()
    if suffix not in READERS:
        raise WeightsError(
            f"{name}: files ending in {suffix or 'nothing'} are not read as weights; known are "
            f"{', '.join(READERS)}. Convert them, best with safetensors.torch.save_file(model.state_dict(), …)."
        )
    arrays = READERS[suffix](path, name, wanted)
    if not arrays:
        raise WeightsError(f"{name} holds no arrays.")
    return arrays


def apply_layout(arrays: Mapping[str, Tensor], layout: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
    """Bring foreign arrays into an architecture's names and layout.

    Args:
        arrays: The arrays of the file.
        layout: Parameter -> ``{array = "name", steps = [["reshape", 7, 7, 32, 100], ["transpose", 3, 2, 0, 1]]}``; the
            steps are NumPy's methods of these names, applied in order.

    Raises:
        CardError: If a recipe names no array of the file, or has a step that does not fit.
    """
    return {parameter: _rearranged(parameter, recipe, arrays) for parameter, recipe in layout.items()}


def _rearranged(parameter: str, recipe: Mapping[str, Any], arrays: Mapping[str, Tensor]) -> Tensor:
    source = str(recipe.get("array"))
    if source not in arrays:
        raise CardError(f"The layout of {parameter} names the array {source!r}; the file has {', '.join(arrays)}.")
    array = arrays[source]
    for step in recipe.get("steps", []):
        try:
            method, *numbers = step
            array = STEPS[method](array, numbers)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CardError(
                f"The layout of {parameter} has the step {step!r} on an array of shape {tuple(array.shape)}: {error}. "
                'Steps are ["reshape", …] and ["transpose", …].'
            ) from error
    return array.contiguous()


def _read_safetensors(path: Path, name: str, wanted: Sequence[str]) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, ValueError, KeyError, OSError, OverflowError, RuntimeError) as error:
        raise WeightsError(f"{name} is no sound safetensors file: {shown(error)}. Is it truncated?") from error


def _read_torch(path: Path, name: str, wanted: Sequence[str]) -> dict[str, Tensor]:
    refuse_packed_zip(path, name)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{name} holds more than arrays, and such files can run code when they are read, so it was not read. "
            f"Save the state dict alone. ({shown(error)})"
        ) from error
    except Exception as error:  # a hostile or cut file fails in the unpickler in many ways; none of them is a bug here
        raise WeightsError(
            f"{name} cannot be read by torch.load(weights_only=True): {shown(error)}. "
            "Is it truncated, or no state dict?"
        ) from error
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping):
        raise WeightsError(f"{name} holds a {type(content).__name__}; a state dict (name -> tensor) is needed.")
    for key, value in content.items():
        if not (isinstance(key, str) and isinstance(value, Tensor) and value.layout == torch.strided):
            raise WeightsError(f"{name} holds {key!r}: {type(value).__name__}; a state dict has dense tensors alone.")
    # nn.DataParallel prefixes all names.
    if all(key.startswith("module.") for key in content):
        return {key.removeprefix("module."): value for key, value in content.items()}
    return dict(content)


def refuse_packed_zip(path: Path, name: str) -> None:
    """Refuse a zip archive whose members unpack to more than the file: torch writes none, a zip bomb is one."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise WeightsError(f"{name} is a damaged zip archive: {shown(error)}.") from error
    unpacked = sum(member.file_size for member in members)
    if unpacked > path.stat().st_size or any(m.compress_type != zipfile.ZIP_STORED for m in members):
        raise WeightsError(
            f"{name} is a compressed archive of {path.stat().st_size} bytes that unpacks to {unpacked}; torch.save "
            "writes none such. It was not read."
        )


def _read_matlab(path: Path, name: str, wanted: Sequence[str]) -> dict[str, Tensor]:
    from models_zoo.matlab import MatlabError, read_matlab

    if not wanted:
        raise WeightsError(f"{name}: a .mat file needs a [weights.layout] that says which array is which parameter.")
    try:
        arrays = read_matlab(path.read_bytes(), wanted=wanted)
    except MatlabError as error:
        raise WeightsError(f"{name} cannot be read: {error}.") from error
    return {key: _as_float32(name, key, array) for key, array in arrays.items()}


def _as_float32(name: str, key: str, array: NDArray[Any]) -> Tensor:
    """A numeric array as float32, in which all models are evaluated."""
    if not np.isfinite(array).all() or np.abs(array, dtype=np.float64).max(initial=0) > np.finfo(np.float32).max:
        raise WeightsError(f"{name} holds numbers in {key!r} that are not finite, or beyond float32.")
    return torch.from_numpy(array.astype(np.float32))


READERS: Final[dict[str, Callable[[Path, str, Sequence[str]], dict[str, Tensor]]]] = {
    ".safetensors": _read_safetensors,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".mat": _read_matlab,
}
