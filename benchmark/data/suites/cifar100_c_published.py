"""CIFAR-100-C as its authors published it: the user's own copy, of which only an MD5 is public."""

from __future__ import annotations

from typing import Final

from benchmark.data.corruptions.published import OwnArchive, PublishedSuite
from benchmark.data.corruptions.suite import family_axes

SUITE: Final = PublishedSuite(
    name="cifar100-c-published",
    title="CIFAR-100-C, as published",
    version=1,
    paper="Hendrycks & Dietterich 2019, arXiv:1903.12261",
    licence="CC-BY-4.0",
    default=False,
    of="cifar100",
    file=OwnArchive(
        name="cifar100_c",
        file="CIFAR-100-C.tar",
        md5="11f0ed0f1191edbf9fa23466ae6021d3",
        source="https://zenodo.org/records/3555552",
    ),
    home="CIFAR-100-C",
    axes=family_axes("cifar"),
)
