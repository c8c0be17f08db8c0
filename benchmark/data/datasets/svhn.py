"""The 26,032 test images of SVHN, cropped to 32×32 pixels.

They are published as MATLAB files. A reader of those is not made for hostile bytes: only the file with the publisher's
digest is ever given to it (`models_zoo.fetch.fetch` verifies it on every use), and no other file is read this way.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from benchmark.data import Dataset, Images, Labels, Split, files_digest
from benchmark.errors import InputError
from models_zoo.fetch import RemoteFile, fetch

TEST: Final = RemoteFile(
    name="svhn-test_32x32.mat",
    urls=("https://ufldl.stanford.edu/housenumbers/test_32x32.mat",),
    size=64275384,
    sha256="cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
)
TRAIN: Final = RemoteFile(
    name="svhn-train_32x32.mat",
    urls=("https://ufldl.stanford.edu/housenumbers/train_32x32.mat",),
    size=182040794,
    sha256="435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
)


def read(file: RemoteFile) -> tuple[Images, Labels]:
    """The images of one split; its file is downloaded once, and verified before it is parsed."""
    return read_mat(fetch(file))


def read_mat(path: Path) -> tuple[Images, Labels]:
    """Images and labels in a verified file.

    Returns:
        Images, shape (n, 3, 32, 32), uint8; labels, shape (n,), int64. The files call the digit 0 class 10; here it is
        0, as everybody's models have it.

    Raises:
        InputError: If it does not hold ``X``, (32, 32, 3, n) of uint8, and ``y``, (n, 1) from 1 to 10.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        arrays = loadmat(path, variable_names=["X", "y"])
        images, labels = arrays["X"], arrays["y"].ravel()
    except (MatReadError, NotImplementedError, KeyError, ValueError, TypeError, OSError, EOFError) as error:
        raise InputError(f"{path} is no file of SVHN with X and y ({error}).") from error
    if images.dtype != np.uint8 or images.shape != (32, 32, 3, len(labels)) or not len(labels):
        raise InputError(f"{path} holds X of {images.dtype} {images.shape} and {len(labels)} labels; it is no SVHN.")
    if labels.min() < 1 or labels.max() > 10:
        raise InputError(f"{path} has labels from {labels.min()} to {labels.max()}; SVHN's are 1 to 10.")
    return np.ascontiguousarray(images.transpose(3, 2, 0, 1)), labels.astype(np.int64) % 10


DATASET: Final = Dataset(
    name="svhn",
    title="SVHN, house numbers, 32×32 pixels in colour: the 26,032 test images",
    shape=(3, 32, 32),
    classes=tuple("0123456789"),
    size=26032,
    levels=255,
    digest=files_digest((TEST,)),
    eps={"linf": (8 / 255,), "l2": (0.5,), "l1": (12.0,)},
    licence="",
    source="Netzer, Wang, Coates, Bissacco, Wu & Ng 2011, http://ufldl.stanford.edu/housenumbers/",
    read=partial(read, TEST),
    files=(TEST,),
    splits={"train": Split(73257, files_digest((TRAIN,)), partial(read, TRAIN), (TRAIN,))},
    outside=("cifar10", "cifar100"),
)
