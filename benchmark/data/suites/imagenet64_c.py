"""ImageNet-64×64-C: fifteen corruptions and four extra ones by the constants published for 64 × 64 pixels."""

from __future__ import annotations

from typing import Final

from benchmark.data.corruptions.suite import GeneratedSuite, family_axes

SUITE: Final = GeneratedSuite(
    name="imagenet64-c",
    title="ImageNet-64×64-C, generated: fifteen corruptions and four extra ones, five severities",
    version=1,
    paper="Hendrycks & Dietterich 2019, arXiv:1903.12261",
    family="imagenet64",
    sides=(49, 127),
    channels=(3,),
    axes=family_axes("imagenet64"),
)
