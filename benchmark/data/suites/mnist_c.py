"""MNIST-C: fifteen corruptions of one severity; of other small greys too, its lengths scaled with the side."""

from __future__ import annotations

from typing import Final

from benchmark.data.corruptions.suite import GeneratedSuite, family_axes

SUITE: Final = GeneratedSuite(
    name="mnist-c",
    title="MNIST-C, generated: fifteen corruptions of one severity",
    version=1,
    paper="Mu & Gilmer 2019, arXiv:1906.02337",
    family="mnist",
    sides=(8, 28),
    channels=(1,),
    axes=family_axes("mnist"),
)
