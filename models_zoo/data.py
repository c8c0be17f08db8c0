"""The public data that the zoo's own models were trained on, and that the datasets of the board are made of.

Arrays as published: unsigned bytes, no scaling. No torch.
"""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from models_zoo.errors import FetchError
from models_zoo.fetch import RemoteFile, fetch, verify

Split = Literal["train", "test"]
Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

DIGITS: Final = Path(__file__).parent / "digits.npz"
DIGITS_SIZE: Final = 45398
DIGITS_SHA256: Final = "1e601fad312d6f3a6ba211d3c823fc72732cecc1abf59c91346ea95e5a4ca645"
DIGITS_TRAIN: Final = 1297
"""The first 1,297 of the 1,797 digits are the training split, the last 500 the test split."""

MNIST_MIRRORS: Final = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


def _mnist_file(name: str, size: int, sha256: str) -> RemoteFile:
    return RemoteFile(name, tuple(f"{mirror}{name}.gz" for mirror in MNIST_MIRRORS), size, sha256, gunzip=True)


MNIST_FILES: Final[dict[Split, tuple[RemoteFile, RemoteFile]]] = {
    "train": (
        _mnist_file(
            "train-images-idx3-ubyte", 47040016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
        ),
        _mnist_file(
            "train-labels-idx1-ubyte", 60008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
        ),
    ),
    "test": (
        _mnist_file(
            "t10k-images-idx3-ubyte", 7840016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
        ),
        _mnist_file(
            "t10k-labels-idx1-ubyte", 10008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
        ),
    ),
}
"""Images and labels of each split; sizes and digests are of the unzipped files."""


@cache
def digits(split: Split) -> tuple[Images, Labels]:
    """The 8×8 digits of the UCI repository, as scikit-learn has them, in its order (Alpaydin & Kaynak 1998; CC BY 4.0).

    Returns:
        Images, shape (n, 1, 8, 8), values 0 to 16; labels, shape (n,). 1,297 of ``train``, 500 of ``test``. The last
        500 were partly written by other people than the first, so that the test is not of the training set's writers.
    """
    verify(DIGITS, name="the digits", size=DIGITS_SIZE, sha256=DIGITS_SHA256)
    with np.load(DIGITS, allow_pickle=False) as arrays:
        images, labels = arrays["images"], arrays["labels"].astype(np.int64)
    part = slice(DIGITS_TRAIN) if split == "train" else slice(DIGITS_TRAIN, None)
    return _frozen(images[part], labels[part])


@cache
def mnist(split: Split) -> tuple[Images, Labels]:
    """MNIST (LeCun, Cortes & Burges; CC BY-SA 3.0), downloaded once and verified.

    Returns:
        Images, shape (n, 1, 28, 28), values 0 to 255; labels, shape (n,). 60,000 of ``train``, 10,000 of ``test``.

    Raises:
        FetchError: If the files cannot be had, or are others.
    """
    images, labels = (read_idx(fetch(file)) for file in MNIST_FILES[split])
    return _frozen(images[:, None], labels.astype(np.int64))


def read_idx(path: Path) -> Images:
    """The array in a file of the idx format (unsigned bytes), as MNIST's.

    Raises:
        FetchError: If the file is none such, or cut.
    """
    content = path.read_bytes()
    zero, kind, axes = struct.unpack(">HBB", content[:4]) if len(content) >= 4 else (1, 0, 0)
    if zero != 0 or kind != 8 or len(content) < 4 + 4 * axes:
        raise FetchError(f"{path} begins with {content[:4]!r}; an idx file of bytes begins with 00 00 08.")
    shape = struct.unpack(f">{axes}I", content[4 : 4 + 4 * axes])
    values = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * axes)
    if values.size != int(np.prod(shape, dtype=object)):
        raise FetchError(f"{path} holds {values.size} values, its header says {shape}; it is truncated.")
    return values.reshape(shape)


def _frozen(images: NDArray[Any], labels: NDArray[Any]) -> tuple[Images, Labels]:
    """Made read-only, since they are shared by all callers of the process."""
    images.flags.writeable = labels.flags.writeable = False
    return images, labels
