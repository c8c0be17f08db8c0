"""A folder with a sub-folder of images for each class, or with such folders for each split."""

from __future__ import annotations

from pathlib import Path

from benchmark.data.own.sources import (
    LAYOUTS,
    SPLITS,
    FileOpener,
    Part,
    Source,
    Wishes,
    distinct_classes,
    image_files,
    is_hidden,
    key_of,
    left_out,
)
from benchmark.errors import InputError


def find(path: Path, wishes: Wishes, staging: Path) -> Source:
    """The classes are the sub-folders, sorted by name as torchvision's ``ImageFolder`` has them."""
    folders = _split_folders(path)
    remarks: list[str] = []
    names = sorted({folder.name for root in folders.values() for folder in _sub_folders(root)})
    distinct_classes(names)
    if not names:
        beside, _ = image_files(path)
        seen = f"{len(beside)} images, but no sub-folders of classes" if beside else "no images"
        raise InputError(f"{path} holds {seen}. {LAYOUTS}")
    opener = FileOpener(path, follow_links=wishes.follow_links)
    parts = {}
    for split, root in folders.items():
        keys, labels = _listed(root, path, remarks)
        if keys:
            parts[split] = Part(keys, labels, opener, {"folder": str(path), "follow_links": wishes.follow_links})
    if not parts:
        raise InputError(f"{path} has sub-folders ({', '.join(names[:5])}), but no images in them. {LAYOUTS}")
    return Source("a folder with a sub-folder for each class", path, parts, distinct_classes(names), remarks)


def _split_folders(path: Path) -> dict[str, Path]:
    """The folders of the splits: the path itself, unless all its sub-folders are called as splits are."""
    inside = _sub_folders(path)
    if not inside or any(folder.name.lower() not in SPLITS for folder in inside):
        return {"test": path}
    found: dict[str, Path] = {}
    for folder in inside:
        split = SPLITS[folder.name.lower()]
        if split in found:
            raise InputError(f"{found[split]} and {folder} are both the split {split}; move one away.")
        found[split] = folder
    return found


def _sub_folders(path: Path) -> list[Path]:
    return sorted(folder for folder in path.iterdir() if folder.is_dir() and not is_hidden(folder.name))


def _listed(root: Path, path: Path, remarks: list[str]) -> tuple[list[str], list[str | int]]:
    """Keys and classes of a split's images."""
    keys: list[str] = []
    labels: list[str | int] = []
    others: list[Path] = []
    for folder in _sub_folders(root):
        images, rest = image_files(folder)
        others += rest
        keys += [key_of(image, path) for image in images]
        labels += distinct_classes([folder.name]) * len(images)
    beside = [file for file in sorted(root.iterdir()) if file.is_file() and not is_hidden(file.name)]
    if beside:
        remarks.append(f"{len(beside)} files lie beside the folders of the classes and were left out.")
    remarks += left_out(others, path)
    return keys, labels
