"""Augmentation: standard training on randomly shifted and mirrored images."""

from __future__ import annotations

from dataclasses import replace

from models_zoo.training.recipes.standard import Standard


class Augmented(Standard):
    """Standard training on random crops and flips; digits and signs want ``augmentation = "crop"``."""

    name = "augmentation"
    title = "Augmentation"
    settings = replace(Standard.settings, augmentation="crop-flip")


RECIPE = Augmented()
