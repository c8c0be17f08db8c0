"""What attacks see of a model: margins and their gradients, batched, counted in memory, with nothing left changed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar, Final

import torch
from torch import Tensor, nn

from benchmark.errors import BenchmarkError
from benchmark.memory import out_of_memory
from benchmark.modes import eval_mode
from benchmark.rejection import defender, predicted, rejects, rivals_only, without_rejection
from benchmark.twin import twin_of
from benchmark.verification import ERRORS, SLACK, mean_lead

SAFETY: Final = 1.25 * SLACK
"""Lead over the label, relative to the larger of the two logits, from which an attack calls an image adversarial.

A little more than verification asks for, since logits differ in their last bits with the batch an image is in.
"""

_WORKING_SET: Final = 48 * 2**20
"""Bytes that a gradient pass may save on the CPU: a few times the caches, beyond which passes get slower again."""

_SHARE_OF_GPU: Final = 0.25
"""Share of a GPU's memory that a gradient pass may save; the rest is for what is not saved, and for the searches."""

_KEPT: Final = 2**25 - 2**16
"""Bytes: just below the largest block whose release moves glibc's thresholds."""

_LEAST: Final = 1e-38
"""Probabilities below it are taken for it, so that their logarithm is finite."""

_LARGEST_BATCH: Final = {"cpu": 256, "cuda": 8192}
_SMALLEST_BATCH: Final = 16


@contextmanager
def frozen(model: nn.Module) -> Iterator[nn.Module]:
    """Eval mode and no parameter gradients while the block runs; both are put back as they were, module by module.

    Attacks pass a model many times, so memory is kept too, for good: see `keep_freed_memory`.

    Yields:
        The model with logits in float32, in which attacks reckon, ours and the packages': under autocast a model gives
        bfloat16.
    """
    keep_freed_memory()
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        with eval_mode(model):
            yield _Float32(model).eval()
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)


class _Float32(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        return logits.float()

    def double_twin(self) -> nn.Module | None:
        return twin_of(self.model)


def keep_freed_memory() -> None:
    """Have the C library keep what one pass frees for the next one, which else faults every page of it in again.

    glibc hands memory back above sizes that rise when a block of up to 32 MiB is freed (mallopt(3), M_MMAP_THRESHOLD).
    A fifth of a small network's time was spent on that. Another C library takes no notice; the block is never touched.
    """
    torch.empty(_KEPT, dtype=torch.uint8, device="cpu")


def find_batch_size(model: nn.Module, x: Tensor) -> int:
    """Images a gradient pass, by what the model saves for one image's backward pass.

    Depends on model, image size and device only, not on a stopwatch: the same search gives the same distances again.

    Args:
        model: The classifier, as of `frozen`.
        x: Images, at least one, shape (n, c, h, w).
    """
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    few = x[:2].detach().requires_grad_(True)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        logits = model(few)  # the graph is held, so that no storage is given out twice
    one = max(1, (sum(saved.values()) + logits.nbytes) // len(few))
    on_gpu = x.device.type == "cuda"
    room = _SHARE_OF_GPU * torch.cuda.get_device_properties(x.device).total_memory if on_gpu else _WORKING_SET
    largest = _LARGEST_BATCH.get(x.device.type, _LARGEST_BATCH["cpu"])
    return int(min(max(room // one, _SMALLEST_BATCH), largest))


class Oracle:
    """Margins of a classifier and their gradients.

    The margin of an image is how far the best other class (or a target class) leads the label, less the lead that
    verification asks for: positive exactly where the image counts as adversarial. Of a model that may reject an image
    the rejecting logit must be led, too (`benchmark.rejection`).

    Attributes:
        model: The classifier, in eval mode with no parameter gradients (see `frozen`).
        batch_size: Most images a pass; halved when the device runs out of memory, and then kept.
        repeats: Calls averaged an image: 1, or more for a randomised model (expectation over transformation).
        probabilities: Whether the model returns probabilities; margins are then taken between their logarithms, since
            gradients of saturated probabilities vanish.
        noise: Lead, in logits, that an image must have besides: what rounding inside the model can take off.
        errors: Of a randomised model, by how many standard errors of the calls' mean the lead must exceed zero.
        reject: Whether the model's last logit rejects the image.
        non_finite: Gradients met so far with NaN or infinite entries.
    """

    attainable: ClassVar[bool] = True
    """Whether every sample has an example at some distance, so that to find none says something about the model."""

    def __init__(
        self,
        model: nn.Module,
        *,
        batch_size: int,
        repeats: int = 1,
        probabilities: bool = False,
        noise: float = 0.0,
    ) -> None:
        self.model = model
        self.batch_size = batch_size
        self.repeats = repeats
        self.probabilities = probabilities
        self.noise = noise
        self.errors = ERRORS
        self.reject = rejects(model)
        self.non_finite = 0

    def logits(self, x: Tensor) -> Tensor:
        """Logits of the classes of each image, shape (n, k); averaged over ``repeats``."""
        return without_rejection(self._outputs(x), reject=self.reject)

    def predicted(self, x: Tensor) -> Tensor:
        """The class of each image, shape (n,); -1 where it is rejected."""
        return predicted(self._outputs(x), reject=self.reject)

    def met_by(self, predicted: Tensor, y: Tensor) -> Tensor:
        """Which images, by the classes that they are given (m,), meet the goal of which samples; bool, shape (n, m)."""
        return (predicted[None, :] != y[:, None]) & (predicted[None, :] >= 0)

    def ranked(self, x: Tensor, y: Tensor) -> Tensor:
        """The classes that may meet each sample's goal, likeliest first, shape (n, k - 1)."""
        logits = self.logits(x).scatter(1, y[:, None], -torch.inf)
        return logits.argsort(dim=1, descending=True)[:, :-1]

    def attacked(self, x: Tensor, margin: Tensor) -> Tensor:
        """Indices of the images to attack, by their margins (n,): those that the model gives their label."""
        right = margin <= 0
        return (right & (self.predicted(x) >= 0) if self.reject else right).nonzero().squeeze(1)

    def _outputs(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self._batched(lambda i, j: _mean(self._calls(x[i:j], self.repeats)), len(x))

    def margins(self, x: Tensor, y: Tensor) -> Tensor:
        """Margin of each image, shape (n,); NaN logits give ``-inf``."""
        return self._batched(lambda i, j: self._confirmed(x[i:j], y[i:j], self._new_margin(x[i:j], y[i:j])), len(x))

    def gradients(self, x: Tensor, y: Tensor, target: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Margins and the gradients of the lead.

        Args:
            x: Images, shape (n, c, h, w).
            y: Labels, shape (n,).
            target: The class whose lead over the label is differentiated, shape (n,); -1 (or None for all rows) is the
                best other class.

        Returns:
            The margin against the best other class, shape (n,), and the gradient, shape (n, d), with 0 for what is not
            finite. It must not be written to: a model's backward may have returned a tensor of the model's own.
        """
        gradients = []

        def one(i: int, j: int) -> Tensor:
            image, label = x[i:j], y[i:j]
            with torch.enable_grad():
                leaf = image.detach().requires_grad_(True)
                calls = self._calls(leaf, self.repeats)
                margin, rival = self._margin([call.detach() for call in calls], label)
                if target is not None:
                    rival = torch.where(target[i:j] >= 0, target[i:j], rival)
                logits = _mean(calls)
                # The slope as grad's own argument would do, but has torch load sympy: a third of a second.
                behind = self._defender(logits.detach(), label)
                lead = (logits * self._slope(logits.detach(), behind, rival)).sum()
                (gradient,) = torch.autograd.grad(lead, leaf)
            margin = self._confirmed(image, label, margin)  # may run out of memory: nothing is kept before it
            gradients.append(self._repaired(gradient.flatten(1).contiguous()))
            return margin

        margins = self._batched(one, len(x))
        return margins, gradients[0] if len(gradients) == 1 else torch.cat(gradients)

    def _repaired(self, gradient: Tensor) -> Tensor:
        # A sum is finite unless an entry is not (or all but overflows): one pass instead of two.
        if not math.isfinite(gradient.sum()):
            self.non_finite += int((~torch.isfinite(gradient.sum(dim=1))).sum())
            gradient = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        return gradient

    def _calls(self, x: Tensor, count: int) -> list[Tensor]:
        """Logits of each of so many calls, each of shape (n, k)."""
        return [self.model(x) for _ in range(count)]

    def _new_margin(self, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            return self._margin(self._calls(x, self.repeats), y)[0]

    def _confirmed(self, x: Tensor, y: Tensor, margin: Tensor) -> Tensor:
        """The margins (n,); those of a randomised model that are positive are lowered to what new calls give, if less.

        A search looks at thousands of images and would select for lucky draws. Luck seldom strikes twice.
        """
        if self.repeats > 1 and len(some := (margin > 0).nonzero().squeeze(1)):
            margin[some] = torch.minimum(margin[some], self._new_margin(x[some], y[some]))
        return margin

    def _margin(self, calls: list[Tensor], y: Tensor) -> tuple[Tensor, Tensor]:
        """The margin of each image and the best other class, both of shape (n,), from the logits of each call."""
        logits = _mean(calls)
        behind = self._defender(logits, y)[:, None]
        lead, rival = rivals_only(logits - logits.gather(1, behind), y, reject=self.reject).max(dim=1)
        if len(calls) > 1:
            lead = mean_lead(torch.stack(calls), y, errors=self.errors, reject=self.reject)
        size = torch.maximum(logits.gather(1, rival[:, None]).abs_(), logits.gather(1, behind).abs_()).squeeze(1)
        return lead.sub_(size, alpha=SAFETY).sub_(self.noise).nan_to_num_(nan=-torch.inf), rival

    def _defender(self, logits: Tensor, y: Tensor) -> Tensor:
        """The logit that a rival must lead, shape (n,)."""
        return defender(logits, y, reject=self.reject)

    def _slope(self, logits: Tensor, behind: Tensor, rival: Tensor) -> Tensor:
        """Derivative by the logits, shape (n, k), of the rival's lead over the logit ``behind``."""
        slope = torch.zeros_like(logits).scatter_(1, rival[:, None], 1.0).scatter_(1, behind[:, None], -1.0)
        if self.probabilities:  # the lead is one of logarithms
            slope.div_(logits.clamp_min(_LEAST)).mul_(logits >= _LEAST)
        return slope

    def _batched(self, call: Callable[[int, int], Tensor], n: int) -> Tensor:
        parts, i = [], 0
        while i < n:
            left = n - i
            j = i + -(-left // -(-left // self.batch_size))  # parts of equal size: a small last one costs as much
            try:
                parts.append(call(i, j))
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                if self.batch_size == 1:
                    raise BenchmarkError(
                        "The device has too little memory for one image's gradient. Use a device with more memory."
                    ) from error
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                self.batch_size = max(1, min(self.batch_size, j - i) // 2)
                continue
            i = j
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _mean(calls: list[Tensor]) -> Tensor:
    return calls[0] if len(calls) == 1 else torch.stack(calls).mean(dim=0)
