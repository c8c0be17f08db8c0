"""ImageNet-C: ImageNet-C's fifteen corruptions and four extra ones, five severities."""

from __future__ import annotations

from typing import Final

from benchmark.data.corruptions.suite import GeneratedSuite, family_axes

SUITE: Final = GeneratedSuite(
    name="imagenet-c",
    title="ImageNet-C, generated: fifteen corruptions and four extra ones, five severities",
    version=1,
    paper="Hendrycks & Dietterich 2019, arXiv:1903.12261",
    family="imagenet",
    sides=(128, 1024),
    channels=(3,),
    axes=family_axes("imagenet"),
)
