"""The 10,000 test images of Fashion-MNIST, in MNIST's format; also in Debian's package ``dataset-fashion-mnist``."""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np

from benchmark.data import Dataset, Images, Labels, Split, files_digest
from benchmark.errors import InputError
from models_zoo.data import read_idx
from models_zoo.fetch import RemoteFile, fetch

# The publisher's own store speaks http alone; these are the publisher's repository and Keras' copy. All are checked.
MIRRORS: Final = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
)


def _file(name: str, size: int, sha256: str) -> RemoteFile:
    urls = tuple(f"{mirror}{name}.gz" for mirror in MIRRORS)
    return RemoteFile(f"fashion-mnist-{name}", urls, size, sha256, gunzip=True)


TEST: Final = (
    _file("t10k-images-idx3-ubyte", 7840016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    _file("t10k-labels-idx1-ubyte", 10008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
)
TRAIN: Final = (
    _file("train-images-idx3-ubyte", 47040016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    _file("train-labels-idx1-ubyte", 60008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
)
"""Images and labels of each split; sizes and digests are of the unzipped files."""


def read(files: tuple[RemoteFile, RemoteFile]) -> tuple[Images, Labels]:
    """The images of one split, shape (n, 1, 28, 28), uint8, and its labels, shape (n,)."""
    images, labels = (read_idx(fetch(file)) for file in files)
    if images.ndim != 3 or labels.shape != images.shape[:1] or labels.max(initial=0) > 9:
        raise InputError(
            f"{files[0].name} holds an array {images.shape} and {files[1].name} one {labels.shape}; needed are images "
            "(n, 28, 28) with a label from 0 to 9 each."
        )
    return images[:, None], labels.astype(np.int64)


DATASET: Final = Dataset(
    name="fashion_mnist",
    title="Fashion-MNIST, 28×28 pixels: the 10,000 test images",
    shape=(1, 28, 28),
    classes=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    size=10000,
    levels=255,
    digest=files_digest(TEST),
    eps={"linf": (0.1,), "l2": (0.3, 1.5), "l1": (1.0, 5.0)},
    licence="MIT",
    source="Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747, https://github.com/zalandoresearch/fashion-mnist",
    read=partial(read, TEST),
    files=TEST,
    splits={"train": Split(60000, files_digest(TRAIN), partial(read, TRAIN), TRAIN)},
    outside=("mnist",),
)
