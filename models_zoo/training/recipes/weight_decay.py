"""Weight decay: standard training with an L2 penalty on all weights."""

from __future__ import annotations

from dataclasses import replace

from models_zoo.training.recipes.standard import Standard


class WeightDecay(Standard):
    """Standard training with weight decay 5e-4, as is usual on CIFAR-10."""

    name = "weight-decay"
    title = "Weight decay"
    settings = replace(Standard.settings, weight_decay=5e-4)


RECIPE = WeightDecay()
