"""Noise: gaussian, shot, impulse and speckle."""

from __future__ import annotations

import numpy as np

from benchmark.data.corruptions.draws import Draws, Floats


def gaussian_noise(x: Floats, draws: Draws, *, sigma: float) -> Floats:
    """Independent N(0, sigma²) added to each value."""
    return x + sigma * draws.normal(*x.shape[1:])


def shot_noise(x: Floats, draws: Draws, *, rate: float) -> Floats:
    """Poisson(rate · x) / rate."""
    counts = [generator.poisson(rate * image) for generator, image in zip(draws, x, strict=True)]
    return np.stack(counts) / rate


def impulse_noise(x: Floats, draws: Draws, *, amount: float) -> Floats:
    """Salt and pepper: a value is 0 or 1, either with probability amount / 2, whatever its neighbours in colour are."""
    drawn = draws.uniform(*x.shape[1:])
    return np.where(drawn < amount / 2, 0.0, np.where(drawn < amount, 1.0, x))


def speckle_noise(x: Floats, draws: Draws, *, sigma: float) -> Floats:
    """Independent N(0, sigma²) times the value added to each."""
    return x + sigma * x * draws.normal(*x.shape[1:])
