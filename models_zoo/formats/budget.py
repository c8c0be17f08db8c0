"""What a stranger's program may cost: counted from the sizes of its tensors, before anything is computed."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from models_zoo.errors import WeightsError

MAX_NODES: Final = 20_000
"""Most operations of a program; the largest vision transformers have some 8,000."""

MAX_NUMBERS: Final = 1 << 28
"""Most numbers that one tensor may hold for one image: 1 GiB in float32."""

MAX_WORK: Final = 1e12
"""Most floating-point operations for one image; the largest published classifiers need about half of that."""

MAX_FOLDED_WORK: Final = 1e11
"""Most operations on constants, which are done while the file is read: some seconds."""

MAX_FOLDED_NUMBERS: Final = 1 << 28
"""Most numbers that constants may be unfolded to."""

PER_NUMBER: Final = 16
"""What computing one number one by one costs, in operations of a matrix product."""

SLOW: Final = 32
"""How much slower matrix products of whole numbers are, which no library speeds up."""


class Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations of what runs on tensors without data.

    Attributes:
        work: Floating-point operations so far.
        largest: Numbers in the largest tensor so far.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.work, self.largest = 0.0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation and count it."""
        result = func(*args, **(kwargs or {}))
        outputs = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        inputs = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        numbers = sum(t.numel() for t in outputs)
        self.largest = max(self.largest, *(t.numel() for t in outputs), 0) if outputs else self.largest
        formula = flop_registry.get(getattr(func, "overloadpacket", None))
        if formula is None:
            window = _window(func, args)
            self.work += PER_NUMBER * (numbers * window + sum(t.numel() for t in inputs))
        else:
            work = float(formula(*args, **(kwargs or {}), out_val=result))
            fast = all(t.is_floating_point() for t in inputs)
            self.work += work if fast else work * SLOW
        return result


def _window(func: Any, args: Any) -> int:
    """How many numbers a pool looks at for each of its own."""
    name = getattr(func, "__name__", "")
    if "pool" in name and "adaptive" not in name and "backward" not in name and len(args) > 1:
        sizes = args[1] if isinstance(args[1], list | tuple) else [args[1]]
        found = 1
        for size in sizes if len(sizes) > 1 else list(sizes) * (3 if "3d" in name else 2 if "2d" in name else 1):
            found *= int(size)
        return found
    return 1


class Budget:
    """The cost of one program so far."""

    def __init__(self) -> None:
        self.nodes, self.work, self.folded_work, self.folded_numbers = 0, 0.0, 0.0, 0

    def node(self) -> None:
        """One more operation.

        Raises:
            WeightsError: If that is one too many.
        """
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise WeightsError(f"It has more than {MAX_NODES} operations, the most that a program may have.")

    def charge(self, meter: Meter, batch: int, *, folded: bool) -> None:
        """Take what was counted off the budget.

        Args:
            meter: What was counted.
            batch: For how many images.
            folded: Whether it is to be computed once, while the file is read.

        Raises:
            WeightsError: If the budget is spent.
        """
        share = 1 if folded else max(batch, 1)
        if meter.largest > MAX_NUMBERS * share:
            raise WeightsError(
                f"It makes a tensor of {meter.largest // share} numbers{'' if folded else ' for one image'}, and would "
                f"allocate {meter.largest // share * 4 >> 20} MiB; a tensor may have {MAX_NUMBERS} numbers."
            )
        if folded:
            self.folded_work += meter.work
            self.folded_numbers += meter.largest
            if self.folded_work > MAX_FOLDED_WORK or self.folded_numbers > MAX_FOLDED_NUMBERS:
                raise WeightsError(
                    f"It computes more with its constants than is done while a file is read: {self.folded_work:.2g} "
                    f"operations (at most {MAX_FOLDED_WORK:.2g}), {self.folded_numbers} numbers (at most "
                    f"{MAX_FOLDED_NUMBERS}). Store the results instead."
                )
        else:
            self.work += meter.work / share
            if self.work > MAX_WORK:
                raise WeightsError(
                    f"It needs more than {MAX_WORK:.2g} floating-point operations for one image, the most that a "
                    "program may need."
                )


def meta(value: Tensor) -> Tensor:
    """The same tensor without its data."""
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
