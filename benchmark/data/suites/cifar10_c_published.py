"""CIFAR-10-C as its authors published it."""

from __future__ import annotations

from typing import Final

from benchmark.data.corruptions.published import PublishedSuite
from benchmark.data.corruptions.suite import family_axes
from models_zoo.fetch import RemoteFile

SUITE: Final = PublishedSuite(
    name="cifar10-c-published",
    title="CIFAR-10-C, as published",
    version=1,
    paper="Hendrycks & Dietterich 2019, arXiv:1903.12261",
    licence="CC-BY-4.0",
    default=False,
    of="cifar10",
    file=RemoteFile(
        name="CIFAR-10-C.tar",
        urls=("https://zenodo.org/records/2535967/files/CIFAR-10-C.tar",),
        size=2918471680,
        sha256="c72763e101c723b7c507b96205f7e938912a5d587376173b825850cf3cb876a7",
    ),
    home="CIFAR-10-C",
    axes=family_axes("cifar"),
)
