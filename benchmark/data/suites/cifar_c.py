"""CIFAR-C: CIFAR-10-C and CIFAR-100-C's fifteen corruptions and four extra ones, five severities."""

from __future__ import annotations

from typing import Final

from benchmark.data.corruptions.suite import GeneratedSuite, family_axes

SUITE: Final = GeneratedSuite(
    name="cifar-c",
    title="CIFAR-C, generated: fifteen corruptions and four extra ones, five severities",
    version=1,
    paper="Hendrycks & Dietterich 2019, arXiv:1903.12261",
    family="cifar",
    sides=(24, 48),
    channels=(3,),
    axes=family_axes("cifar"),
)
