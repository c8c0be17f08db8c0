"""Reading weights from files that strangers made: arrays come out, nothing runs.

==================  =====================================================================================
``.safetensors``    a header of at most 100 MB and raw numbers; read by the safetensors library
``.pt`` ``.pth``    ``torch.load(weights_only=True)``: an unpickler that builds tensors and refuses all else; where in
``.ckpt`` ``.bin``  them the state dict is, `models_zoo.formats.checkpoints` knows
==================  =====================================================================================

Everything else is refused. Whoever calls has verified size and digest (`models_zoo.fetch.verify`).
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from models_zoo.errors import CardError, WeightsError, shown
from models_zoo.formats.checkpoints import is_safetensors, refuse_what_is_something_else, state_dict_in

STEPS: Final[dict[str, Callable[[Tensor, list[int]], Tensor]]] = {
    "reshape": Tensor.reshape,
    "transpose": Tensor.permute,
}
"""What a layout may do to an array."""

ADVICE: Final = re.compile(r"(?:Unsupported global: )?GLOBAL ([\w.]+)")
"""Where torch names the class that it did not build, in an error that goes on to advise what is not safe."""


def read_arrays(path: Path, name: str) -> dict[str, Tensor]:
    """The named arrays in a weight file, on the CPU.

    Args:
        path: Where the file lies.
        name: What it is called; the suffix says the format (a cached file has none).

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
    refuse_what_is_something_else(path, name)
    arrays = _read_safetensors(path, name) if is_safetensors(path) else READERS[suffix](path, name)
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


def _read_safetensors(path: Path, name: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, ValueError, KeyError, OSError, OverflowError, RuntimeError) as error:
        raise WeightsError(f"{name} is no sound safetensors file: {shown(error)}. Is it truncated?") from error


def _read_torch(path: Path, name: str) -> dict[str, Tensor]:
    refuse_packed_zip(path, name)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = ADVICE.search(str(error))
        named = f" (a {found[1][:80]})" if found else ""
        raise WeightsError(
            f"{name} holds more than arrays{named}: a whole pickled model, or objects of a training script. Such files "
            "can run code when they are read, so it was not read. Save the state dict alone, where the model was made: "
            "torch.save(model.state_dict(), 'weights.pt')."
        ) from error
    except Exception as error:  # a hostile or cut file fails in the unpickler in many ways; none of them is a bug here
        why = type(error).__name__ if "weights_only" in str(error) else shown(error)
        raise WeightsError(
            f"{name} cannot be read as a file of torch.save: {why}. Is it truncated, or no state dict?"
        ) from error
    return state_dict_in(content, name)


def refuse_packed_zip(path: Path, name: str, *, writer: str = "torch.save") -> None:
    """Refuse a zip archive whose members unpack to more than the file: its writer makes none, a zip bomb is one."""
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
            f"{name} is a compressed archive of {path.stat().st_size} bytes that unpacks to {unpacked}; "
            f"{writer} writes none such. It was not read."
        )


READERS: Final[dict[str, Callable[[Path, str], dict[str, Tensor]]]] = {
    ".safetensors": _read_safetensors,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".ckpt": _read_torch,
    ".bin": _read_torch,
}
