"""Dropout (Srivastava et al. 2014): standard training of a network that drops hidden units at random."""

from __future__ import annotations

from dataclasses import replace

from models_zoo.training.recipes.standard import Standard


class Dropout(Standard):
    """Standard training with dropout 0.5, for architectures that take the argument ``dropout``."""

    name = "dropout"
    title = "Dropout"
    paper = "https://jmlr.org/papers/v15/srivastava14a.html"
    settings = replace(Standard.settings, dropout=0.5)


RECIPE = Dropout()
