"""What callers bring, made ready: a classifier, images and labels in any common form, or an error that says what to do.

Every entry point of the library goes through `prepared`. What it hands out are tensors of its own, so that nothing the
caller holds is changed, and a module that returns float logits of shape (n, k) for a batch of images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.errors import InputError, UnsupportedModelError
from benchmark.modes import eval_mode, same_draws
from benchmark.rejection import rejects, without_rejection
from benchmark.threat import in_box
from benchmark.twin import refuse_batch_dependence, twin_of

_PROBED: Final = 4
"""Images that a model is tried on."""

_SCALE: Final = "Scale images to [0, 1] (8-bit ones: divide by 255), as float32."


@dataclass(frozen=True)
class Prepared:
    """What an entry point works with.

    Attributes:
        model: The classifier: the caller's own module where it fits, else wrapped.
        x: Images, shape (n, c, h, w), float32, contiguous, on the model's device.
        y: Labels, shape (n,), int64; the model's predictions where the caller gave none and need not.
        pool: Further images, or None.
        classes: Number of the model's outputs, but for one that rejects.
    """

    model: nn.Module
    x: Tensor
    y: Tensor
    pool: Tensor | None
    classes: int


@contextmanager
def prepared(
    model: Any, x: Any, y: Any, *, pool: Any = None, labels_needed: bool = True, boxed: bool = True
) -> Iterator[Prepared]:
    """Make a model and its data ready for the time of a block.

    While the block runs, torch's default dtype is float32 and inference mode is off; both are then as they were.

    Args:
        model: A module, a TorchScript module or a plain function, images -> logits; also one whose output has its
            logits as an attribute, a key ``"logits"`` or as its only element.
        x: Images (n, c, h, w), as a tensor, array or nested lists of floats in [0, 1].
        y: Class indices (n,), as integers in a tensor, array or list; None where ``labels_needed`` is false.
        pool: More images, or None.
        labels_needed: Whether None for ``y`` is refused.
        boxed: Whether images outside [0, 1] are refused.

    Raises:
        InputError: If images or labels cannot be taken; it says what was seen and what to do.
        UnsupportedModelError: If the model cannot be: no logits, a single output, or outputs that depend on the other
            images of a batch.
    """
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False):
            yield _prepare(model, x, y, pool=pool, labels_needed=labels_needed, boxed=boxed)
    finally:
        torch.set_default_dtype(dtype)


def _prepare(model: Any, x: Any, y: Any, *, pool: Any, labels_needed: bool, boxed: bool) -> Prepared:
    module = _module(model)
    device = next((t.device for t in (*module.parameters(), *module.buffers())), None)
    images = _images(x, "images", boxed=boxed)
    images = images.to(device) if device is not None else images
    more = None if pool is None else _images(pool, "images of the pool", boxed=boxed).to(images.device)
    if more is not None and more.shape[1:] != images.shape[1:]:
        raise InputError(f"The pool's images have shape {tuple(more.shape[1:])}, the images {tuple(images.shape[1:])}.")
    given = None if y is None and not labels_needed else _labels(y, len(images)).to(images.device)
    with eval_mode(module), torch.no_grad(), same_draws(images.device):
        fitted, classes = _fitted(module, images)
        if given is None:
            logits = torch.cat([fitted(part) for part in torch.split(images, 500)])
            given = without_rejection(logits, reject=rejects(fitted)).argmax(dim=1)
        _check_range(given, classes)
        refuse_batch_dependence(fitted.eval(), images)
    return Prepared(fitted, images, given, more, classes)


def _images(x: Any, what: str, *, boxed: bool) -> Tensor:
    """Images as float32 tensors of our own, contiguous, in the box."""
    values = _tensor(x, what)
    if values.ndim != 4 or not values.numel():
        raise InputError(
            f"The {what} have shape {tuple(values.shape)}; they must be at least one, of shape (n, c, h, w)."
        )
    if not values.is_floating_point():
        if values.is_complex():
            raise InputError(f"The {what} are {values.dtype}; they must be real numbers in [0, 1].")
        low, high = int(values.min()), int(values.max())
        raise InputError(f"The {what} are {values.dtype} with values from {low} to {high}. {_SCALE}")
    converted = values.to(torch.float32).clone(memory_format=torch.contiguous_format)
    outside = ~in_box(converted)
    if boxed and bool(outside.any()):
        row = int(outside.nonzero()[0])
        some = converted[row]
        raise InputError(
            f"{int(outside.sum())} of the {what} have values outside [0, 1], first image {row} "
            f"({float(some.min()):.3g} to {float(some.max()):.3g}). {_SCALE}"
        )
    return converted


def _labels(y: Any, n: int) -> Tensor:
    """Labels as an int64 tensor of our own."""
    if y is None:
        raise InputError(f"There are no labels (None); give the class index of each of the {n} images.")
    values = _tensor(y, "labels")
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        hint = "one-hot or soft labels: give their argmax" if values.ndim == 2 else "convert whole numbers to int64"
        raise InputError(f"Labels are {values.dtype} of shape {tuple(values.shape)}; needed: ({n},), int64 ({hint}).")
    if values.shape != (n,):
        raise InputError(f"Labels have shape {tuple(values.shape)}; needed: one class index an image, ({n},), int64.")
    return values.to(torch.int64).clone()


def _tensor(data: Any, what: str) -> Tensor:
    """The caller's data as a tensor without history, outside inference mode."""
    if isinstance(data, Tensor):
        return data.detach().clone()
    if data is None:
        raise InputError(f"There are no {what} (None).")
    try:
        array = np.asarray([part.detach().cpu().numpy() if isinstance(part, Tensor) else part for part in data])
        if array.dtype == object or array.dtype.kind not in "biufc":
            raise TypeError(f"they are of {array.dtype}")
        return torch.from_numpy(np.ascontiguousarray(array).copy())
    except (TypeError, ValueError) as error:
        raise InputError(f"The {what} are a {type(data).__name__} that is no array of numbers: {error}.") from None


def _check_range(y: Tensor, classes: int) -> None:
    low, high = int(y.min()), int(y.max())
    if low >= 0 and high < classes:
        return
    hint = "; classes are counted from 0, so subtract 1" if low == 1 and high == classes else ""
    raise InputError(f"Labels are {low} to {high}, but the model has {classes} outputs, 0 to {classes - 1}{hint}.")


class Function(nn.Module):
    """A plain function as a module."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        """What the function returns."""
        return self.function(x)


class Adapted(nn.Module):
    """A module that returns its logits otherwise than as one float32 tensor, or that needs its input otherwise.

    Args:
        model: The module.
        dtype: What its parameters are in: images are converted to it.
        copied: Whether it changes its input in place, so that it is given copies.
    """

    def __init__(self, model: nn.Module, *, dtype: torch.dtype, copied: bool) -> None:
        super().__init__()
        self.model, self.dtype, self.copied = model, dtype, copied

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, k) of images (n, c, h, w)."""
        x = x.to(self.dtype) if self.dtype != x.dtype else x.clone() if self.copied else x
        return logits_of(self.model(x))

    def double_twin(self) -> nn.Module | None:
        """See `benchmark.twin.twin_of`."""
        twin = twin_of(self.model)
        return None if twin is None else Adapted(twin, dtype=torch.float64, copied=self.copied)


def logits_of(output: Any) -> Tensor:
    """The logits in what a model returned.

    Raises:
        UnsupportedModelError: If it is not clear which they are.
    """
    if isinstance(output, Tensor):
        return output
    named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(named, Tensor):
        return named
    if isinstance(output, (tuple, list)) and len(output) == 1 and isinstance(output[0], Tensor):
        return output[0]
    seen = f"a {type(output).__name__}"
    if isinstance(output, (tuple, list)):
        seen += f" of {len(output)}"
    elif isinstance(output, Mapping):
        seen += f" with the keys {', '.join(map(str, list(output)[:5]))}"
    raise UnsupportedModelError(
        f"The model returns {seen}, not logits. Wrap it so that it returns one tensor of shape (n, k), the logits."
    )


def _module(model: Any) -> nn.Module:
    if isinstance(model, type) or not callable(model):
        raise UnsupportedModelError(
            f"The model is {model!r:.80}; needed is a torch module, or a function of a batch of images."
        )
    module = model if isinstance(model, nn.Module) else Function(model)
    if any(tensor.is_inference() for tensor in (*module.parameters(), *module.buffers())):
        raise UnsupportedModelError(
            "The model was made inside torch.inference_mode(), so that no gradient can be taken through it. Load it "
            "outside of it."
        )
    return module


def _fitted(module: nn.Module, x: Tensor) -> tuple[nn.Module, int]:
    """The module, wrapped where it has to be, and its number of classes."""
    kinds = {t.dtype for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()}
    dtype = kinds.pop() if len(kinds) == 1 else torch.float32
    few = x[:_PROBED]
    shown = few.to(dtype) if dtype != few.dtype else few.clone()
    before = shown.clone()
    try:
        output = module(shown)
    except Exception as error:  # the model is the caller's and may raise anything
        text = " ".join(str(error).split())[:200].rstrip(".")
        raise UnsupportedModelError(
            f"The model cannot take {len(few)} images of shape {tuple(x.shape[1:])}, {dtype}, on {x.device}: "
            f"{type(error).__name__}: {text}."
        ) from error
    copied = not torch.equal(shown, before)
    logits = logits_of(output)
    check_logits(logits, len(few), reject=rejects(module))
    classes = logits.shape[1] - rejects(module)
    if dtype == torch.float32 and not copied and logits is output:
        return module, classes
    return Adapted(module, dtype=dtype, copied=copied), classes


def check_logits(logits: Tensor, n: int, *, reject: bool) -> None:
    """Refuse what are no logits (n, k) of at least two classes, and one more of a model that may reject.

    Raises:
        UnsupportedModelError: With what was seen.
    """
    if logits.ndim != 2 or len(logits) != n or not logits.is_floating_point():
        raise UnsupportedModelError(
            f"The model returns {logits.dtype} of shape {tuple(logits.shape)} for {n} images; needed are float logits "
            f"of shape ({n}, k), one a class."
        )
    if reject and logits.shape[1] < 3:
        raise UnsupportedModelError(
            f"The model has {logits.shape[1]} outputs, of which the last rejects: needed are two classes besides, at "
            "least."
        )
    if logits.shape[1] < 2:
        raise UnsupportedModelError(
            f"The model has {logits.shape[1]} output: with a single class no label can change. A binary classifier of "
            "one logit z is torch.cat([-z / 2, z / 2], dim=1), or torch.cat([torch.zeros_like(z), z], dim=1)."
        )
