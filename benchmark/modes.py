"""How models are called: eval mode, float32 as such, draws from a seed; each for the time of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode while the block runs; then every module's own mode is back, such as a batch norm frozen in training.

    A frozen TorchScript module has no mode any more: what it computes was settled when it was frozen.
    """
    modes = [(module, module.training) for module in model.modules() if hasattr(module, "training")]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def same_draws(device: torch.device, seed: int = 0) -> Iterator[None]:
    """Draw torch's random numbers from a seed while the block runs; the global random state is then put back."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        yield


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute float32 convolutions and products as such, whatever the caller has set: TF32 and bfloat16 err by 1e-3.

    Another machine would refute what holds with such errors only. A caller's autocast is off while the block runs.
    """
    cudnn, products = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    with ExitStack() as stack:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        try:
            yield
        finally:
            torch.backends.cudnn.allow_tf32 = cudnn
            torch.set_float32_matmul_precision(products)
