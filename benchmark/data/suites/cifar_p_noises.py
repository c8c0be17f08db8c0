"""CIFAR-P: speckle and the harder noises, outside the ten."""

from __future__ import annotations

from typing import Final

from benchmark.data.corruptions.sequences import EXTRA_NOISES
from benchmark.data.corruptions.suite import GeneratedSequences
from benchmark.results import GridAxis

SUITE: Final = GeneratedSequences(
    name="cifar-p-noises",
    title="CIFAR-P, generated: speckle and the harder noises, outside the ten",
    version=1,
    default=False,
    paper="Hendrycks & Dietterich 2019, arXiv:1903.12261",
    family="cifar",
    sides=(24, 64),
    kinds=GridAxis("perturbation", EXTRA_NOISES),
    frames=31,
)
