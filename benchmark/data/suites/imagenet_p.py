"""ImageNet-P: ten sequences of perturbations."""

from __future__ import annotations

from typing import Final

from benchmark.data.corruptions.sequences import KINDS
from benchmark.data.corruptions.suite import GeneratedSequences
from benchmark.results import GridAxis

SUITE: Final = GeneratedSequences(
    name="imagenet-p",
    title="ImageNet-P, generated: ten sequences of perturbations",
    version=1,
    paper="Hendrycks & Dietterich 2019, arXiv:1903.12261",
    family="imagenet",
    sides=(128, 1024),
    kinds=GridAxis("perturbation", KINDS),
    frames=41,
)
