"""A model's twin in float64: what it computes without the rounding of float32.

A float32 logit is off by the rounding of everything before it: of large hidden values that a later bias cancels, of
sums over thousands of inputs. How far cannot be seen from the logit itself; the same model in float64 shows it.
"""

from __future__ import annotations

import copy
import warnings
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from benchmark.errors import UnsupportedModelError
from benchmark.memory import out_of_memory

Signature = tuple[tuple[int, int], ...]

_TWINS: WeakKeyDictionary[nn.Module, tuple[Signature, nn.Module | None]] = WeakKeyDictionary()


def twin_of(model: nn.Module) -> nn.Module | None:
    """A copy of a model in float64 and in eval mode, or None where there can be none.

    There is none of a model in another process, of one that cannot be copied, or of one that computes in a number type
    of its own choice (a program's constants, autocast). A wrapper of ours tells its own by a method ``double_twin``.
    Twins are kept as long as their model lives and its parameters are not written to.

    Args:
        model: The classifier; it is not changed.

    Returns:
        Images of float64 -> logits of float64, to be called without gradients (see `double_logits`).
    """
    held = (*model.parameters(), *model.buffers())
    signature = tuple((t.data_ptr(), t._version) for t in held if not t.is_inference())
    known = _TWINS.get(model)
    if known is None or known[0] != signature:
        known = signature, _make(model)
        _TWINS[model] = known
    return known[1]


def double_logits(twin: nn.Module | None, x: Tensor) -> Tensor | None:
    """The twin's logits (n, k) of images, float64; None where there is no twin or it fails to stay in float64."""
    if twin is None:
        return None
    try:
        with torch.no_grad():
            logits = twin(x.double())
    except Exception as error:  # the model is anybody's, and was not made for this
        if out_of_memory(error):
            raise
        return None
    return logits if isinstance(logits, Tensor) and logits.dtype == torch.float64 else None


def _make(model: nn.Module) -> nn.Module | None:
    own = getattr(model, "double_twin", None)
    if callable(own):
        made: nn.Module | None = own()
        return made
    if any(hasattr(module, "n_parameters") for module in model.modules()):
        return None  # it lives in another process
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            twin = copy.deepcopy(model).double().eval()
    except Exception:  # a lock, a handle, a tensor with a history, a frozen program
        return None
    for module in twin.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor) and value.is_floating_point():
                setattr(module, name, value.double())
    return twin


def disagreement(first: Tensor, second: Tensor) -> Tensor:
    """How far two calls' logits of the same images differ, relative to what decides the label.

    Each class's change is divided by the larger of its own logit and the predicted class's: a masked class at -1e9 is
    judged by itself, and does not hide a change of the others.

    Args:
        first: Logits, shape (n, k).
        second: Logits of another call.

    Returns:
        The largest relative change of each image, shape (n,), float64; ``inf`` where only one is finite.
    """
    a, b = first.double(), second.double()
    change = (a - b).abs().nan_to_num(nan=torch.inf)
    change[(a == b) | (a.isnan() & b.isnan())] = 0.0
    size = torch.maximum(a.abs(), a.amax(dim=1, keepdim=True).abs()).clamp(min=torch.finfo(torch.float64).tiny)
    return (change / size).amax(dim=1)


REPRODUCIBLE = 2.0**-18
"""Relative change of the logits up to which two identical calls count as the same."""

SAME_ALONE = 1e-6
"""Relative change, in float64, up to which an image alone and in a batch is the same."""

SAME_ALONE_IN_SINGLE = 1e-3
"""The same where only float32 can be had, whose rounding differs with the size of a batch."""


def is_randomised(model: nn.Module, x: Tensor) -> bool:
    """Whether two identical calls differ by more than floating-point rounding; ``model`` is in eval mode."""
    if not len(x):
        return False
    with torch.no_grad():
        first, second = model(x), model(x)
    return bool((disagreement(first, second) > REPRODUCIBLE).any())


def mean_logits(model: nn.Module, x: Tensor, calls: int) -> Tensor:
    """The mean of the logits of so many calls, shape (n, k): of a randomised model an estimate of what it expects."""
    return torch.stack([model(x) for _ in range(calls)]).mean(dim=0)


def has_gradient(model: nn.Module, x: Tensor) -> bool:
    """Whether the logits of two images depend on them in a way that autograd can follow; ``model`` is in eval mode."""
    few = x[:2].detach().clone().requires_grad_(True)
    with torch.enable_grad():
        logits = model(few)
        if not logits.requires_grad:
            return False
        (gradient,) = torch.autograd.grad(logits.sum(), few, allow_unused=True)
    return gradient is not None


def batch_dependence(model: nn.Module, x: Tensor) -> tuple[float, bool]:
    """How much an image's logits depend on the other images of its batch.

    Args:
        model: In eval mode.
        x: A few images, shape (n, c, h, w).

    Returns:
        The largest relative change between alone and in a batch among others; and whether that is more than rounding.
    """
    twin = twin_of(model)

    def alone_and_together(call: nn.Module, images: Tensor) -> float:
        alone = torch.cat([call(image[None]) for image in images])
        beside = call(torch.cat([1 - images, images.flip(0)]))[len(images) :].flip(0)
        return max(float(disagreement(alone, other).max()) for other in (call(images), beside))

    with torch.no_grad():
        if double_logits(twin, x[:1]) is not None and twin is not None:
            change = alone_and_together(twin, x.double())
            return change, change > SAME_ALONE
        change = alone_and_together(model, x)
        return change, change > SAME_ALONE_IN_SINGLE


def refuse_batch_dependence(model: nn.Module, x: Tensor, *, most: int = 4) -> None:
    """Refuse a deterministic model whose answer for an image depends on what else is in the batch.

    Args:
        model: In eval mode.
        x: Images; the first few are looked at.
        most: How many.

    Raises:
        UnsupportedModelError: With the likely causes.
    """
    few = x[:most]
    if is_randomised(model, few):
        return
    change, depends = batch_dependence(model, few)
    if depends:
        raise UnsupportedModelError(
            f"An image's logits depend on the other images of its batch (by {change:.2g}, relative): batch "
            "normalisation that uses the batch's own statistics (track_running_stats=False, or train mode inside the "
            "model), a mean over the batch, or a leak between samples. An adversarial example would hold in its batch "
            "only. Make the model treat each image by itself."
        )
