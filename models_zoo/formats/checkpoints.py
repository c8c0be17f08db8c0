"""Checkpoints as training leaves them: which of their tables is the state dict, and how its names are prefixed."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from models_zoo.errors import WeightsError

TABLES: Final = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params",
    "state_dict_ema", "model_ema", "ema_state_dict", "ema",
)  # fmt: skip
"""Keys under which training scripts put the state dict, beside optimiser states and the like; the first is taken."""

WRAPPERS: Final = ("module.", "_orig_mod.")
"""How DataParallel, AveragedModel and torch.compile prefix every name."""

BOOKKEEPING: Final = frozenset({"n_averaged"})
"""What an average of weights keeps beside them."""

DEEPEST: Final = 4

LFS: Final = b"version https://git-lfs.github.com/spec/"


def refuse_what_is_something_else(path: Path, name: str) -> None:
    """Tell, in the user's words, what a file is that holds no weights.

    Raises:
        WeightsError: If it is a pointer of git-LFS, a web page, TorchScript or a torch.export program.
    """
    with path.open("rb") as reader:
        begin = reader.read(256)
    if begin.startswith(LFS):
        raise WeightsError(
            f"{name} is a pointer of git-LFS, not the weights themselves. Fetch them with `git lfs pull`, or download "
            "the file from the page that shows it."
        )
    if begin.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise WeightsError(f"{name} is a web page, not weights. Download the file that the page links to.")
    members = _members(path)
    if any("/code/" in m for m in members) and any(m.endswith("constants.pkl") for m in members):
        raise WeightsError(
            f"{name} is a TorchScript program (torch.jit.save), whose code is not run. Save the state dict of the "
            "model that it was made of: torch.save(model.state_dict(), 'weights.pt'); or submit the model as .pt2."
        )
    if any("/models/" in m and m.endswith(".json") for m in members) and any("archive_format" in m for m in members):
        raise WeightsError(
            f'{name} is a torch.export program. Call it model.pt2 and write form = "pt2" into the card; no '
            "architecture is needed."
        )


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors do, whatever it is called."""
    with path.open("rb") as reader:
        begin = reader.read(10)
    length = int.from_bytes(begin[:8], "little")
    return begin[8:9] == b"{" and 2 <= length <= path.stat().st_size - 8


def state_dict_in(content: Any, name: str) -> dict[str, Tensor]:
    """The state dict in what `torch.load` gave, without the prefixes of wrappers.

    Raises:
        WeightsError: If there is none, or it holds anything but dense tensors.
    """
    table = _found(content, name, DEEPEST)
    for key, value in table.items():
        if not (isinstance(key, str) and isinstance(value, Tensor) and value.layout == torch.strided):
            raise WeightsError(
                f"{name} holds {str(key)[:80]!r}: {type(value).__name__}; a state dict has dense tensors alone. Save "
                "model.state_dict() alone."
            )
    state = dict(table)
    for prefix in WRAPPERS:
        kept = {key: value for key, value in state.items() if key not in BOOKKEEPING}
        if kept and all(key.startswith(prefix) for key in kept):
            state = {key.removeprefix(prefix): value for key, value in kept.items()}
    return state


def named_as(state: Mapping[str, Tensor], expected: Collection[str]) -> dict[str, Tensor]:
    """The state dict by the names that an architecture has, where a training module holds it under a prefix.

    Lightning's modules, for instance, call their network ``model.``; what else they hold (losses, metrics) is no part
    of the network. Where no prefix makes all names fit, the names stay as they are.
    """
    needed = {name for name in expected if not name.endswith("num_batches_tracked")}
    if not needed or needed <= state.keys():
        return dict(state)
    first = min(needed)
    prefixes = sorted({key.removesuffix(first) for key in state if key.endswith(f".{first}")})
    fitting = [prefix for prefix in prefixes if all(prefix + name in state for name in needed)]
    if len(fitting) != 1:
        return dict(state)
    return {key.removeprefix(fitting[0]): value for key, value in state.items() if key.startswith(fitting[0])}


def _found(content: Any, name: str, depth: int) -> Mapping[Any, Any]:
    if isinstance(content, torch.nn.Module) or not isinstance(content, Mapping):
        raise WeightsError(f"{name} holds a {type(content).__name__}; a state dict (name -> tensor) is needed.")
    if _is_state(content) or not depth:
        return content
    for key in TABLES:
        if isinstance(content.get(key), Mapping):
            return _found(content[key], name, depth - 1)
    inner = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    if not inner or any(isinstance(value, Tensor) for value in content.values()):
        return content
    holding = [key for key, value in inner.items() if _holds_state(value, depth - 1)]
    if len(holding) == 1:
        return _found(inner[holding[0]], name, depth - 1)
    raise WeightsError(
        f"{name} holds {', '.join(repr(str(key)[:40]) for key in list(content)[:8])}, of which "
        f"{len(holding) or 'none'} could be the state dict. Save that one alone: torch.save(model.state_dict(), …)."
    )


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(v, Tensor) for v in value.values())


def _holds_state(value: Any, depth: int) -> bool:
    if not isinstance(value, Mapping) or depth < 0:
        return False
    return _is_state(value) or any(key in value and _holds_state(value[key], depth - 1) for key in TABLES)


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return []
