"""Datasets, one a file, and their registry.

To add a dataset, add a file to ``datasets/`` (or an entry point of the group ``curveboard.datasets``) that holds a
constant ``DATASET = Dataset(...)``. What is known of a dataset is known without loading it; its images are read, a
range at a time, and checked against the digest, when they are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

from benchmark.data.dataset import Dataset, Images, Labels, LazyImages, Split, files_digest, manifest_digest
from benchmark.errors import BenchmarkError
from benchmark.plugins import discover, look_up, workspace_folder

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

OWN: Final = "datasets"
"""Folder of a workspace with its own datasets: Python files, and ``<name>/dataset.toml`` each."""


def all_datasets() -> Mapping[str, Dataset]:
    """All registered datasets by name, and those that ``dataset.toml`` files of the workspace in use describe.

    Raises:
        BenchmarkError: If two have one name, or one cannot be read.
    """
    found = dict(discover("benchmark.data.datasets", "DATASET"))
    root = workspace_folder()
    if root is None or not (root / OWN).is_dir():
        return found
    from benchmark.data.own import CARD, read_card

    for path in sorted((root / OWN).glob(f"[!.]*/{CARD}")):
        dataset = read_card(path)
        if dataset.name != path.parent.name:
            raise BenchmarkError(f"{path} has the name {dataset.name!r}; its folder is named after it.")
        if dataset.name in found:
            raise BenchmarkError(f"{path} has the name of another dataset, {dataset.name!r}; rename it and its folder.")
        found[dataset.name] = dataset
    return dict(sorted(found.items()))


def get_dataset(name: str) -> Dataset:
    """The dataset called ``name``; raises `UnknownNameError` with the nearest names."""
    return cast("Dataset", look_up("dataset", name, all_datasets()))


def datasets_of(label_space: str) -> Mapping[str, Dataset]:
    """All datasets whose labels are those of the label space: what its models can be evaluated on."""
    return {name: dataset for name, dataset in all_datasets().items() if dataset.labels_of == label_space}
