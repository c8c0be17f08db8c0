"""CLEVER scores: sampled gradients, fitted endpoints, distances."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor, nn

from benchmark.attacks.engine.convolutions import faster_convolutions
from benchmark.attacks.engine.oracle import keep_freed_memory
from benchmark.clever.jacobian import cotangents, dual_norms, points_a_pass
from benchmark.clever.presets import NORMS, Preset, resolve
from benchmark.clever.profile import Floats
from benchmark.clever.sampling import draw, draws
from benchmark.clever.scores import CleverEstimates, Order, Sampled, score
from benchmark.clever.second_order import negative_curvature, refuse_kinks
from benchmark.clever.targets import MOST_TARGETS, Targets, choose_targets
from benchmark.errors import InputError, UnknownNameError
from benchmark.modes import eval_mode
from benchmark.rejection import refuse_rejection
from benchmark.threat import Norm, in_box


class Settings(TypedDict, total=False):
    """Further keyword arguments of `clever_estimates`, for the functions that hand them on."""

    targets: Targets
    y: Tensor | None
    seed: int
    order: Order
    batches: int | None
    samples: int | None
    first: int
    batch_size: int | None
    most_targets: int


def clever_estimates(
    model: nn.Module,
    x: Tensor,
    *,
    norm: Norm | Sequence[Norm] = "l2",
    targets: Targets = "untargeted",
    y: Tensor | None = None,
    preset: str | Preset = "board",
    seed: int = 0,
    order: Order = 1,
    batches: int | None = None,
    samples: int | None = None,
    radius: float | None = None,
    resamples: int = 0,
    confidence: float = 0.95,
    first: int = 0,
    batch_size: int | None = None,
    most_targets: int = MOST_TARGETS,
) -> CleverEstimates:
    """CLEVER scores with all that they are made of (Weng et al. 2018, arXiv:1801.10578; order 2: arXiv:1810.08640).

    For each target j, g = f_c − f_j. The largest ‖∇g‖_q (1/p + 1/q = 1) of each of N_b batches of N_s points in the
    ball of radius R follows a reverse Weibull law; its endpoint â estimates the Lipschitz constant of g in the ball,
    and g(x₀)/â the distance to the nearest image of class j. It is an estimate and no bound: the endpoint can be
    missed, and a masked gradient inflates it.

    Args:
        model: Classifier of images in [0, 1]; it is put into eval mode meanwhile.
        x: Images, shape (n, c, h, w), float32.
        norm: One of the threat model's norms, or several; ``"l2"`` only for order 2.
        targets: See `benchmark.clever.targets.choose_targets`.
        y: Labels, shape (n,), or None for the classes that the model gives.
        preset: Settings, by name or as they are; see `benchmark.clever.presets`.
        seed: Of the points and of random targets.
        order: 1 for gradients, 2 for the curvature of twice differentiable models.
        batches: N_b, instead of the preset's.
        samples: N_s, instead of the preset's.
        radius: R in every norm, instead of the preset's.
        resamples: Bootstrap resamples for ``low`` and ``high``; 0 leaves them out.
        confidence: Of this interval.
        first: Index of the first image in its dataset; the points of an image depend on its index and the seed only.
        batch_size: Points a pass of the model; None for as many as its activations leave room for.
        most_targets: Of more other classes an untargeted score is the smallest over so many of the likeliest.

    Returns:
        The estimates, on the CPU.

    Raises:
        InputError: If a number is out of range, the images do not fit, a target is the label, or gradients overflow.
        UnknownNameError: If a norm, a preset or a rule for targets is unknown.
        UnsupportedModelError: If the model is not differentiable (order 2: not twice), or may reject images.
    """
    norms = _checked_norms(norm, order)
    settings = resolve(preset, batches=batches, samples=samples, radius=radius)
    _check_images(x, y, settings, batch_size)
    keep_freed_memory()
    # Order 2 reads the model's operations off autograd's graph, so they must be the model's own.
    faster = faster_convolutions(model, x) if order == 1 else nullcontext()
    with eval_mode(model), faster:
        refuse_rejection(model, "a CLEVER score")
        together = points_a_pass(model, x[:1]) if batch_size is None else batch_size
        with torch.no_grad():
            logits = torch.cat([model(part) for part in torch.split(x, together)]).double()
        labels = logits.argmax(dim=1) if y is None else y.to(logits.device)
        _check_logits(logits, labels)
        chosen = choose_targets(logits, labels, targets, seed=seed, first=first, most=most_targets)
        correct = logits.argmax(dim=1) == labels
        sampler = _Sampler(model, settings, norms, order, seed, together, logits.shape[1])
        if order == 2:
            refuse_kinks(model, draw(x[0], settings, "l2", batches=1, seed=seed))
        found = [sampler(x[i], int(labels[i]), chosen[i].tolist(), first + i) for i in correct.nonzero()[:, 0].tolist()]
    margins = logits.gather(1, labels[:, None]) - logits.gather(1, chosen)
    q, kept = len(norms), correct.cpu().numpy()
    maxima = torch.stack([m for m, _ in found]) if found else x.new_empty(0, chosen.shape[1], q, settings.batches)
    slopes = torch.stack([s for _, s in found]) if found else x.new_empty(0, chosen.shape[1], q)
    pairs = chosen.cpu().numpy(), margins.cpu().numpy()
    sampled = Sampled(norms, order, kept, *pairs, _float64(maxima), _float64(slopes))
    return score(sampled, settings, resamples=resamples, confidence=confidence, seed=seed)


def _float64(values: Tensor) -> Floats:
    converted: Floats = values.double().cpu().numpy()
    return converted


def _checked_norms(norm: Norm | Sequence[Norm], order: Order) -> tuple[Norm, ...]:
    norms: tuple[Norm, ...] = (norm,) if isinstance(norm, str) else tuple(norm)
    for name in norms:
        if name not in NORMS:
            raise UnknownNameError("norm", name, NORMS)
    if not norms:
        raise InputError(f"CLEVER needs a norm, got none; give one or more of {', '.join(NORMS)}.")
    if order not in {1, 2}:
        raise InputError(f"CLEVER is of order 1 (gradients) or 2 (curvature), got order={order}.")
    if order == 2 and norms != ("l2",):
        raise InputError(f"CLEVER of order 2 is defined for l2 only, got {', '.join(norms)}; use order 1 for others.")
    return norms


def _check_images(x: Tensor, y: Tensor | None, preset: Preset, batch_size: int | None) -> None:
    if x.ndim < 2 or not len(x) or not x.is_floating_point():
        raise InputError(
            f"CLEVER takes one or more images as floats, shape (n, c, h, w); got {x.dtype} of shape {tuple(x.shape)}."
        )
    if not torch.isfinite(x).all() or (preset.clip and not in_box(x).all()):
        raise InputError(f"CLEVER takes images in [0, 1]; these lie in [{float(x.min()):g}, {float(x.max()):g}].")
    if y is not None and y.shape != (len(x),):
        raise InputError(f"There are {len(x)} images, but the labels have shape {tuple(y.shape)}.")
    if batch_size is not None and batch_size < 1:
        raise InputError(f"The model needs at least 1 point a pass, got batch_size={batch_size}.")


def _check_logits(logits: Tensor, labels: Tensor) -> None:
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise InputError(f"CLEVER compares logits of at least 2 classes; the model gives shape {tuple(logits.shape)}.")
    if not torch.isfinite(logits).all():
        row = int((~torch.isfinite(logits).all(dim=1)).nonzero()[0])
        raise InputError(f"The model gives logits that are not finite on image {row}: {logits[row].tolist()}.")
    if not ((labels >= 0) & (labels < logits.shape[1])).all():
        raise InputError(
            f"Labels go from {int(labels.min())} to {int(labels.max())}, but the model has {logits.shape[1]} classes."
        )


@dataclass(frozen=True)
class _Sampler:
    """Draws the points of one image after the other and keeps the maxima of their gradients."""

    model: nn.Module
    preset: Preset
    norms: tuple[Norm, ...]
    order: Order
    seed: int
    batch_size: int
    classes: int

    def __call__(self, image: Tensor, label: int, targets: list[int], index: int) -> tuple[Tensor, Tensor]:
        """Maxima, shape (T, Q, N_b), and ‖∇g(x₀)‖ for each norm (order 2 only; zeros otherwise), shape (T, Q)."""
        rows = cotangents(label, targets, self.classes, image)
        groups = [self.norms] if self.preset.shared else [(norm,) for norm in self.norms]
        maxima = torch.cat([self._maxima(image, rows, group, index) for group in groups], dim=1)
        if self.order == 1:
            return maxima, maxima.new_zeros(maxima.shape[:2])
        return maxima, dual_norms(self.model, image[None], rows, self.norms)[:, :, 0]

    def _maxima(self, image: Tensor, rows: Tensor, norms: tuple[Norm, ...], index: int) -> Tensor:
        """Shape (T, norms, N_b)."""
        parts = []
        for points in draws(image, self.preset, norms[0], seed=self.seed, index=index):
            passes = torch.split(points, self.batch_size)
            values = torch.cat([self._values(part, rows, norms) for part in passes], dim=2)
            parts.append(values.view(*values.shape[:2], -1, self.preset.samples).amax(dim=3))
        return torch.cat(parts, dim=2)

    def _values(self, points: Tensor, rows: Tensor, norms: tuple[Norm, ...]) -> Tensor:
        """What the maxima are taken of, shape (T, norms, m)."""
        if self.order == 1:
            return dual_norms(self.model, points, rows, norms)
        return negative_curvature(self.model, points, rows)[:, None]
