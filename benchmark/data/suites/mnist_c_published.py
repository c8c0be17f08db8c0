"""MNIST-C as its authors published it."""

from __future__ import annotations

from typing import Final

from benchmark.data.corruptions.published import PublishedSuite
from benchmark.data.corruptions.suite import family_axes
from models_zoo.fetch import RemoteFile

SUITE: Final = PublishedSuite(
    name="mnist-c-published",
    title="MNIST-C, as published",
    version=1,
    paper="Mu & Gilmer 2019, arXiv:1906.02337",
    licence="CC-BY-4.0",
    default=False,
    of="mnist",
    file=RemoteFile(
        name="mnist_c.zip",
        urls=("https://zenodo.org/records/3239543/files/mnist_c.zip",),
        size=246661575,
        sha256="af9ee8c6a815870c7fdde5af84c7bf8db0bcfa1f41056db83871037fba70e493",
    ),
    home="mnist_c",
    mnist=True,
    axes=family_axes("mnist"),
)
