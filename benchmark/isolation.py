"""Work on copies: whatever a measure or an attack does to what it is given, the caller's is as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.global_state import kept


@dataclass
class Isolated:
    """What is handed out, and what was found changed afterwards.

    Attributes:
        model: The model itself; it is put back when the block ends.
        x: A copy of the images.
        y: A copy of the labels.
        pool: A copy of the pool, if there is one.
        changed: After the block: names of the model's parameters, buffers and modules, and of global state, that
            had been changed.
    """

    model: nn.Module
    x: Tensor
    y: Tensor
    pool: Tensor | None = None
    changed: list[str] = field(default_factory=list)

    def described(self) -> str:
        """The first few names of what was changed."""
        more = f" and {len(self.changed) - 3} more" if len(self.changed) > 3 else ""
        return f"{', '.join(self.changed[:3])}{more}"


@contextmanager
def isolated(model: nn.Module, x: Tensor, y: Tensor, pool: Tensor | None = None) -> Iterator[Isolated]:
    """Hand out copies of the data, and put the model back to what it was when the block ends, however it ends.

    Put back are the contents of parameters and buffers, which of them ask for gradients and what gradients they hold,
    every module's mode, hooks, sub-modules and attributes, and the process's global state (`benchmark.global_state`).
    What a module keeps elsewhere (a list inside an attribute, a global of its own) is not seen.

    Args:
        model: The model; one copy of its parameters and buffers is kept.
        x: Images.
        y: Labels.
        pool: More images, or None.

    Yields:
        The copies; `Isolated.changed` is filled in when the block ends. Modes, gradients and hooks are put back without
        being named: many attacks set them, and no result depends on it.
    """
    own = Isolated(model, _copy(x), _copy(y), None if pool is None else _copy(pool))
    before = [_State(name, module) for name, module in model.named_modules(remove_duplicate=True)]
    try:
        with kept() as changed:
            yield own
    finally:
        own.changed += changed
        for state in before:
            own.changed += state.put_back()


def _copy(data: Tensor) -> Tensor:
    return data.detach().clone()


_CONTAINERS = ("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks", "_backward_hooks")


class _State:
    """One module's state, its children's left out."""

    def __init__(self, name: str, module: nn.Module) -> None:
        self.name, self.module = name, module
        self.tensors = [
            (key, tensor, _copy(tensor), tensor.requires_grad, tensor.grad if tensor.is_leaf else None)
            for key, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
        ]
        self.plain = not isinstance(module, torch.jit.ScriptModule)
        self.attributes: dict[str, Any] = dict(module.__dict__) if self.plain else {}
        self.containers = {key: dict(module.__dict__[key]) for key in _CONTAINERS if key in self.attributes}

    def put_back(self) -> list[str]:
        """Undo all changes; returns the names of tensors and modules whose contents had been changed."""
        changed = []
        if self.plain:
            current = self.module.__dict__
            for key in ("_parameters", "_buffers", "_modules"):
                changed += [
                    self._named(name)
                    for name, value in self.containers[key].items()
                    if current.get(key, {}).get(name) is not value
                ]
            if "forward" in current and current["forward"] is not self.attributes.get("forward"):
                changed.append(self._named("forward"))
            current.clear()
            current.update(self.attributes)
            for kept, members in self.containers.items():
                current[kept].clear()
                current[kept].update(members)
        with torch.no_grad():
            for key, tensor, content, asks, gradient in self.tensors:
                if not _same(tensor, content):
                    changed.append(self._named(key))
                    tensor.data = content  # `copy_` would fail on what was resized or made an expanded view
                if tensor.is_leaf:
                    tensor.requires_grad_(asks)
                    tensor.grad = gradient
        return changed

    def _named(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key


def _same(tensor: Tensor, content: Tensor) -> bool:
    """Whether all values are the same; NaN equals NaN."""
    if tensor.shape != content.shape or tensor.dtype != content.dtype:
        return False
    return torch.equal(tensor, content) or torch.equal(tensor.nan_to_num(), content.nan_to_num())
