"""The 10,000 test images of CIFAR-100 with their fine labels, from the binary version of the public archive."""

from __future__ import annotations

import tarfile
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from benchmark.data import Dataset, Images, Labels, Split, files_digest
from benchmark.errors import InputError
from models_zoo.fetch import RemoteFile, fetch

ARCHIVE: Final = RemoteFile(
    name="cifar-100-binary.tar.gz",
    urls=("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",),
    size=168513733,
    sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
)
TEST: Final = "cifar-100-binary/test.bin"
TRAIN: Final = "cifar-100-binary/train.bin"
RECORD: Final = 2 + 3 * 32 * 32
"""Bytes a record: the coarse label, the fine label, then the red, green and blue planes."""
_CLASSES: Final = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man
maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail
snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout
tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CLASSES: Final = tuple(_CLASSES.split())


def read(member: str) -> tuple[Images, Labels]:
    """The images of one split; the archive is downloaded once and verified."""
    return read_archive(fetch(ARCHIVE), member)


def read_archive(path: Path, member: str = TEST) -> tuple[Images, Labels]:
    """Images and fine labels in an archive; nothing is unpacked to the disk.

    Returns:
        Images, shape (n, 3, 32, 32), uint8; labels, shape (n,), int64, 0 to 99.

    Raises:
        InputError: If the archive lacks the file, or it is not of whole records.
    """
    try:
        with tarfile.open(path) as archive:
            file = archive.extractfile(member)
            content = file.read() if file is not None else b""
    except (tarfile.TarError, KeyError, EOFError, OSError) as error:
        raise InputError(f"{path} is no archive of CIFAR-100 with {member} ({error}).") from error
    if not content or len(content) % RECORD:
        raise InputError(f"{member} in {path} has {len(content)} bytes, no multiple of {RECORD}.")
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, RECORD)
    if (highest := int(records[:, 1].max())) >= len(CLASSES):
        raise InputError(f"{member} in {path} has the label {highest}; CIFAR-100 has 0 to 99.")
    return records[:, 2:].reshape(-1, 3, 32, 32), records[:, 1].astype(np.int64)


DATASET: Final = Dataset(
    name="cifar100",
    title="CIFAR-100, 32×32 pixels in colour: the 10,000 test images, 100 classes",
    shape=(3, 32, 32),
    classes=CLASSES,
    size=10000,
    levels=255,
    digest=files_digest((ARCHIVE,)),
    eps={"linf": (8 / 255,), "l2": (0.5, 1.0), "l1": (12.0,)},
    licence="",
    source="Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html",
    read=partial(read, TEST),
    files=(ARCHIVE,),
    splits={"train": Split(50000, files_digest((ARCHIVE,), "train"), partial(read, TRAIN), (ARCHIVE,))},
    outside=("svhn",),
)
