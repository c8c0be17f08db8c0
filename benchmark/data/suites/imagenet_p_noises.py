"""ImageNet-P: speckle and the harder noises, outside the ten."""

from __future__ import annotations

from typing import Final

from benchmark.data.corruptions.sequences import EXTRA_NOISES
from benchmark.data.corruptions.suite import GeneratedSequences
from benchmark.results import GridAxis

SUITE: Final = GeneratedSequences(
    name="imagenet-p-noises",
    title="ImageNet-P, generated: speckle and the harder noises, outside the ten",
    version=1,
    default=False,
    paper="Hendrycks & Dietterich 2019, arXiv:1903.12261",
    family="imagenet",
    sides=(128, 1024),
    kinds=GridAxis("perturbation", EXTRA_NOISES),
    frames=31,
)
