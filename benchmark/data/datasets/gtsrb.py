"""The 12,630 test images of the German Traffic Sign Recognition Benchmark, scaled to 32×32 pixels."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmark.data import Dataset, Labels, Split, files_digest
from benchmark.data.archives import DecodedImages, ZipContent, frozen_labels
from benchmark.errors import InputError
from models_zoo.fetch import RemoteFile, fetch

if TYPE_CHECKING:
    from benchmark.data.own.pictures import Preparation

_ADDRESS: Final = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/"


def _file(name: str, size: int, sha256: str) -> RemoteFile:
    return RemoteFile(name, (_ADDRESS + name,), size, sha256)


TEST: Final = (
    _file("GTSRB_Final_Test_Images.zip", 88978620, "48ba6fab7e877eb64eaf8de99035b0aaecfbc279bee23e35deca4ac1d0a837fa"),
    _file("GTSRB_Final_Test_GT.zip", 99620, "f94e5a7614d75845c74c04ddb26b8796b9e483f43541dd95dd5b726504e16d6d"),
)
"""The images, and their classes, which were published after the competition."""
TRAIN: Final = (
    _file("GTSRB-Training_fixed.zip", 187490228, "df4144942083645bd60b594de348aa6930126c3e0e5de09e39611630abf8455a"),
)
"""The training images of the competition of 2011, as torchvision takes them."""
CLASSES: Final = (
    "speed limit 20",
    "speed limit 30",
    "speed limit 50",
    "speed limit 60",
    "speed limit 70",
    "speed limit 80",
    "end of speed limit 80",
    "speed limit 100",
    "speed limit 120",
    "no passing",
    "no passing for trucks",
    "right of way at the next crossing",
    "priority road",
    "yield",
    "stop",
    "no vehicles",
    "no trucks",
    "no entry",
    "danger",
    "curve to the left",
    "curve to the right",
    "double curve",
    "bumpy road",
    "slippery road",
    "road narrows on the right",
    "road works",
    "traffic lights",
    "pedestrians",
    "children",
    "bicycles",
    "ice or snow",
    "wild animals",
    "end of all limits",
    "turn right",
    "turn left",
    "straight on",
    "straight on or right",
    "straight on or left",
    "keep right",
    "keep left",
    "roundabout",
    "end of no passing",
    "end of no passing for trucks",
)
RESIZED: Final = "scaled (bilinear) until they cover 32×32, the middle 32×32 pixels cut out"


def read_test() -> tuple[DecodedImages, Labels]:
    """The test images, decoded when they are asked for, and their labels."""
    images, truth = (fetch(file) for file in TEST)
    return of_test(images, truth)


def of_test(images: Path, truth: Path) -> tuple[DecodedImages, Labels]:
    """Images and labels of the two verified archives of the test set.

    Raises:
        InputError: If an archive is not of this form.
    """
    rows = _rows(ZipContent(truth).text("GT-final_test.csv"), truth)
    keys = [f"GTSRB/Final_Test/Images/{name}" for name, _ in rows]
    return _decoded(images, keys, files_digest(TEST)), frozen_labels([label for _, label in rows])


def read_train() -> tuple[DecodedImages, Labels]:
    """The training images and their labels, a class after the other."""
    return of_train(fetch(TRAIN[0]))


def of_train(path: Path) -> tuple[DecodedImages, Labels]:
    """Images and labels of the verified archive of the training set; errors as of `of_test`."""
    archive = ZipContent(path)
    keys, labels = [], []
    for label in range(len(CLASSES)):
        folder = f"GTSRB/Training/{label:05d}"
        for name, stated in _rows(archive.text(f"{folder}/GT-{label:05d}.csv"), path):
            keys.append(f"{folder}/{name}")
            labels.append(stated)
    return _decoded(path, keys, files_digest(TRAIN)), frozen_labels(labels)


def _rows(table: str, path: Path) -> list[tuple[str, int]]:
    """File name and class of each row."""
    try:
        rows = [(row["Filename"], int(row["ClassId"])) for row in csv.DictReader(table.splitlines(), delimiter=";")]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise InputError(f"{path} has no table with the columns Filename and ClassId ({error}).") from error
    if wrong := [label for _, label in rows if not 0 <= label < len(CLASSES)]:
        raise InputError(f"{path} has the class {wrong[0]}; GTSRB's are 0 to {len(CLASSES) - 1}.")
    return rows


def _decoded(path: Path, keys: Sequence[str], digest: str) -> DecodedImages:
    return DecodedImages(keys, partial(ZipContent, path), _preparation(), digest=digest, name="gtsrb")


def _preparation() -> Preparation:
    from benchmark.data.own.pictures import Preparation

    return Preparation((32, 32))


DATASET: Final = Dataset(
    name="gtsrb",
    title="GTSRB, German traffic signs, 32×32 pixels in colour: the 12,630 test images",
    shape=(3, 32, 32),
    classes=CLASSES,
    size=12630,
    levels=255,
    digest=files_digest(TEST),
    eps={"linf": (4 / 255, 8 / 255), "l2": (0.5, 1.0), "l1": (12.0,)},
    licence="CC0-1.0",
    source="Stallkamp, Schlipsing, Salmen & Igel 2012, https://benchmark.ini.rub.de/",
    read=read_test,
    files=TEST,
    splits={"train": Split(26640, files_digest(TRAIN), read_train, TRAIN)},
    resizing=RESIZED,
    outside=("svhn",),
)
