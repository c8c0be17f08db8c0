"""The 10,000 test images of CIFAR-10, from the binary version of the public archive (the Python version is pickles)."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from benchmark.data import Dataset, Images, Labels, Split, files_digest
from benchmark.errors import InputError
from models_zoo.fetch import RemoteFile, fetch

ARCHIVE: Final = RemoteFile(
    name="cifar-10-binary.tar.gz",
    urls=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    size=170052171,
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)
TEST: Final = ("cifar-10-batches-bin/test_batch.bin",)
TRAIN: Final = tuple(f"cifar-10-batches-bin/data_batch_{k}.bin" for k in range(1, 6))
RECORD: Final = 1 + 3 * 32 * 32
"""Bytes a record: the label, then the red, green and blue planes."""


def read(members: Sequence[str]) -> tuple[Images, Labels]:
    """The images of some batches, in order; the archive is downloaded once and verified."""
    return read_archive(fetch(ARCHIVE), members)


def read_archive(path: Path, members: Sequence[str] = TEST) -> tuple[Images, Labels]:
    """Images and labels of some batches in an archive; nothing is unpacked to the disk.

    Returns:
        Images, shape (n, 3, 32, 32), uint8; labels, shape (n,), int64.

    Raises:
        InputError: If the archive lacks a batch, or one is not of whole records.
    """
    contents = {}
    try:
        with tarfile.open(path) as archive:
            for name in members:
                member = archive.extractfile(name)
                contents[name] = member.read() if member is not None else b""
    except (tarfile.TarError, KeyError, EOFError, OSError) as error:
        raise InputError(f"{path} is no archive of CIFAR-10 with {', '.join(members)} ({error}).") from error
    for name, content in contents.items():
        if not content or len(content) % RECORD:
            raise InputError(f"{name} in {path} has {len(content)} bytes, no multiple of {RECORD}.")
    records = np.frombuffer(b"".join(contents.values()), dtype=np.uint8).reshape(-1, RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64)


DATASET: Final = Dataset(
    name="cifar10",
    title="CIFAR-10, 32×32 pixels in colour: the 10,000 test images",
    shape=(3, 32, 32),
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    size=10000,
    levels=255,
    digest=files_digest((ARCHIVE,)),
    eps={"linf": (8 / 255,), "l2": (0.5, 1.0), "l1": (12.0,)},
    licence="",
    source="Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html",
    read=partial(read, TEST),
    files=(ARCHIVE,),
    splits={"train": Split(50000, files_digest((ARCHIVE,), "train"), partial(read, TRAIN), (ARCHIVE,))},
    outside=("cifar100", "svhn"),
)
