"""Datasets, one a file, and their registry.

To add a dataset, add a file to ``datasets/`` (or an entry point of the group ``curveboard.datasets``) that holds a
constant ``DATASET = Dataset(...)``. What is known of a dataset is known without loading it; its images are read, a
range at a time, and checked against the digest, when they are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from benchmark.data.dataset import Dataset, Images, Labels, LazyImages, Split, files_digest, manifest_digest
from benchmark.plugins import discover, look_up

__all__ = [
    "Dataset",
    "Images",
    "Labels",
    "LazyImages",
    "Split",
    "all_datasets",
    "datasets_of",
    "files_digest",
    "get_dataset",
    "manifest_digest",
]


def all_datasets() -> Mapping[str, Dataset]:
    """All registered datasets by name."""
    return discover("benchmark.data.datasets", "DATASET")


def get_dataset(name: str) -> Dataset:
    """The dataset called ``name``; raises `UnknownNameError` with the nearest names."""
    return cast("Dataset", look_up("dataset", name, all_datasets()))


def datasets_of(label_space: str) -> Mapping[str, Dataset]:
    """All datasets whose labels are those of the label space: what its models can be evaluated on."""
    return {name: dataset for name, dataset in all_datasets().items() if dataset.labels_of == label_space}
