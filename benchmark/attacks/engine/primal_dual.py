"""Primal–dual gradient descent on the norm, with the weight of the class constraint as the dual variable.

PDGD (l2) and PDPGD (l1, proximal) of Matyasko & Chau 2021, arXiv:2106.01538: Adam on the perturbation, whose steps
are large in every coordinate at first and so leave regions where the gradient at the clean image misleads. Here
logits are measured in units of the image's clean margin and the norm in units of a distance that is already known,
so that nothing depends on how a model scales its logits, and a first step of a third of the box or more makes a fifth
of the published number of steps enough.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import relu

from benchmark.attacks.engine.oracle import Oracle
from benchmark.attacks.engine.rows import Rows
from benchmark.attacks.engine.shrinking import geometric
from benchmark.threat import Norm

_BETA_1, _BETA_2 = 0.9, 0.999
_DUAL_MEMORY = 0.9
_LARGEST_LOG_RATIO = 13.8  # a ratio of 1e-6 between the two terms
_STRETCH = 5.0  # largest factor by which Adam's metric enlarges the soft threshold of a coordinate
_MARGIN = 8.0  # the clean margin in units of the softplus, so that it is near a hinge at first


def primal_dual(
    oracle: Oracle,
    rows: Rows,
    norm: Norm,
    *,
    steps: int,
    scale: Tensor,
    known: Tensor,
    step: tuple[float, float] = (0.3, 0.003),
    dual_step: tuple[float, float] = (0.1, 0.01),
    dual_ratio: float = 1.0,
) -> None:
    """Run the rows' searches for some steps; their nearest examples are kept in them.

    Args:
        oracle: The model.
        rows: The searches; `Rows.delta` is where they start.
        norm: ``l1`` or ``l2``.
        steps: Gradient steps.
        scale: How far the label leads on each clean image, shape (m,), > 0: the unit of the margins.
        known: A distance at which each row's sample is known to be adversarial, shape (m,): the unit of the norm
            (``l2``; the soft threshold of ``l1`` has the gradient's own unit).
        step: Adam's step size at the start and the end (a geometric schedule), in units of the box.
        dual_step: Step of the log-weight at the start and the end.
        dual_ratio: Weight of the norm relative to the class constraint's at the start.
    """
    mean = torch.zeros_like(rows.delta)
    square = torch.zeros_like(rows.delta)
    log_weight = torch.full_like(rows.distance, -math.log(dual_ratio))
    weight = log_weight.sigmoid()
    unit = _MARGIN / scale
    for k in range(steps):
        images = rows.images()
        margin, gradient = oracle.gradients(images, rows.y, rows.target)
        size = rows.offer(margin, norm)
        # The loss is softplus of the label's lead; its slope is the pull towards the other class.
        pull = (margin * unit).neg_().sigmoid_().mul_(unit).neg_()
        if norm == "l2":
            gradient = gradient * (pull * weight)[:, None]
            gradient.addcmul_(rows.delta, ((1 - weight) / (known * size.clamp(min=1e-12)))[:, None])
        else:
            gradient = gradient * pull[:, None]
        rate = geometric(step, k / steps)
        mean.lerp_(gradient, 1 - _BETA_1)
        square.mul_(_BETA_2).addcmul_(gradient, gradient, value=1 - _BETA_2)
        metric = square.sqrt().mul_(1 / math.sqrt(1 - _BETA_2 ** (k + 1))).add_(1e-8)
        rows.delta.addcdiv_(mean, metric, value=-rate / (1 - _BETA_1 ** (k + 1)))
        if norm == "l1":
            largest = metric.amax(dim=1, keepdim=True)
            threshold = (largest / metric).clamp_(max=_STRETCH)
            threshold.mul_(rate * ((1 - weight) / weight)[:, None] / largest)
            rows.delta.copy_(relu(rows.delta.abs().sub_(threshold)).copysign_(rows.delta))
        move = dual_step[0] + (dual_step[1] - dual_step[0]) * k / steps
        log_weight.sub_(torch.where(margin > 0, move, -move)).clamp_(-_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO)
        weight.lerp_(log_weight.sigmoid(), 1 - _DUAL_MEMORY)
