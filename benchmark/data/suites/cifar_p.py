"""CIFAR-P: ten sequences of perturbations."""

from __future__ import annotations

from typing import Final

from benchmark.data.corruptions.sequences import KINDS
from benchmark.data.corruptions.suite import GeneratedSequences
from benchmark.results import GridAxis

SUITE: Final = GeneratedSequences(
    name="cifar-p",
    title="CIFAR-P, generated: ten sequences of perturbations",
    version=1,
    paper="Hendrycks & Dietterich 2019, arXiv:1903.12261",
    family="cifar",
    sides=(24, 64),
    kinds=GridAxis("perturbation", KINDS),
    frames=31,
)
