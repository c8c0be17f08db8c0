"""The 10,000 validation images of Tiny ImageNet, 64×64 pixels (the test set's labels were never published)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from benchmark.data import Dataset, Labels, Split, files_digest
from benchmark.data.archives import DecodedImages, ZipContent, frozen_labels
from benchmark.data.synsets import synsets
from benchmark.errors import InputError
from models_zoo.fetch import RemoteFile, fetch

ARCHIVE: Final = RemoteFile(
    name="tiny-imagenet-200.zip",
    urls=("https://cs231n.stanford.edu/tiny-imagenet-200.zip",),
    size=248100043,
    sha256="6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
)
HOME: Final = "tiny-imagenet-200"
_SYNSETS: Final = """
n01443537 n01629819 n01641577 n01644900 n01698640 n01742172 n01768244 n01770393 n01774384 n01774750
n01784675 n01855672 n01882714 n01910747 n01917289 n01944390 n01945685 n01950731 n01983481 n01984695
n02002724 n02056570 n02058221 n02074367 n02085620 n02094433 n02099601 n02099712 n02106662 n02113799
n02123045 n02123394 n02124075 n02125311 n02129165 n02132136 n02165456 n02190166 n02206856 n02226429
n02231487 n02233338 n02236044 n02268443 n02279972 n02281406 n02321529 n02364673 n02395406 n02403003
n02410509 n02415577 n02423022 n02437312 n02480495 n02481823 n02486410 n02504458 n02509815 n02666196
n02669723 n02699494 n02730930 n02769748 n02788148 n02791270 n02793495 n02795169 n02802426 n02808440
n02814533 n02814860 n02815834 n02823428 n02837789 n02841315 n02843684 n02883205 n02892201 n02906734
n02909870 n02917067 n02927161 n02948072 n02950826 n02963159 n02977058 n02988304 n02999410 n03014705
n03026506 n03042490 n03085013 n03089624 n03100240 n03126707 n03160309 n03179701 n03201208 n03250847
n03255030 n03355925 n03388043 n03393912 n03400231 n03404251 n03424325 n03444034 n03447447 n03544143
n03584254 n03599486 n03617480 n03637318 n03649909 n03662601 n03670208 n03706229 n03733131 n03763968
n03770439 n03796401 n03804744 n03814639 n03837869 n03838899 n03854065 n03891332 n03902125 n03930313
n03937543 n03970156 n03976657 n03977966 n03980874 n03983396 n03992509 n04008634 n04023962 n04067472
n04070727 n04074963 n04099969 n04118538 n04133789 n04146614 n04149813 n04179913 n04251144 n04254777
n04259630 n04265275 n04275548 n04285008 n04311004 n04328186 n04356056 n04366367 n04371430 n04376876
n04398044 n04399382 n04417672 n04456115 n04465501 n04486054 n04487081 n04501370 n04507155 n04532106
n04532670 n04540053 n04560804 n04562935 n04596742 n04597913 n06596364 n07579787 n07583066 n07614500
n07615774 n07695742 n07711569 n07715103 n07720875 n07734744 n07747607 n07749582 n07753592 n07768694
n07871810 n07873807 n07875152 n07920052 n09193705 n09246464 n09256479 n09332890 n09428293 n12267677
"""
SYNSETS: Final = tuple(_SYNSETS.split())
"""In the order of their numbers, as torchvision's ``ImageFolder`` and so everybody's models number them."""


def read_val() -> tuple[DecodedImages, Labels]:
    """The validation images, decoded when they are asked for, and their labels."""
    return of_val(fetch(ARCHIVE))


def of_val(path: Path) -> tuple[DecodedImages, Labels]:
    """Images and labels of the validation split of the verified archive, in the order of the images' numbers.

    Raises:
        InputError: If the archive is not of this form.
    """
    archive = _archive(path)
    rows = [line.split("\t")[:2] for line in archive.text(f"{HOME}/val/val_annotations.txt").splitlines() if line]
    if wrong := [row for row in rows if len(row) != 2 or row[1] not in SYNSETS]:
        raise InputError(f"{path}: val_annotations.txt has the row {wrong[0]}; needed: a file, one of its classes.")
    rows.sort(key=lambda row: _number(row[0]))
    keys = [f"{HOME}/val/images/{name}" for name, _ in rows]
    return _decoded(path, keys, ""), frozen_labels([SYNSETS.index(synset) for _, synset in rows])


def read_train() -> tuple[DecodedImages, Labels]:
    """The training images and their labels, a class after the other."""
    return of_train(fetch(ARCHIVE))


def of_train(path: Path) -> tuple[DecodedImages, Labels]:
    """Images and labels of the training split of the verified archive; errors as of `of_val`."""
    found: dict[str, list[str]] = {synset: [] for synset in SYNSETS}
    for name in _archive(path).names:
        if match := re.fullmatch(rf"{HOME}/train/(n\d{{8}})/images/\1_\d+\.JPEG", name):
            found[match[1]].append(name)
    keys = [key for synset in SYNSETS for key in sorted(found[synset], key=_number)]
    labels = [label for label, synset in enumerate(SYNSETS) for _ in found[synset]]
    return _decoded(path, keys, "train"), frozen_labels(labels)


def _archive(path: Path) -> ZipContent:
    """The archive, whose classes are those that are registered."""
    archive = ZipContent(path)
    classes = archive.text(f"{HOME}/wnids.txt").split()
    if sorted(classes) != list(SYNSETS):
        odd = sorted(set(classes) ^ set(SYNSETS))
        raise InputError(f"{path} has other classes than Tiny ImageNet's 200: {', '.join(odd[:5])} differ.")
    return archive


def _number(name: str) -> int:
    """The number at the end of a file's name."""
    digits = re.findall(r"\d+", name.rpartition("_")[2])
    return int(digits[0]) if digits else -1


def _decoded(path: Path, keys: Sequence[str], part: str) -> DecodedImages:
    from benchmark.data.own.pictures import Preparation

    preparation = Preparation((64, 64), resize="none")
    digest = files_digest((ARCHIVE,), part)
    return DecodedImages(keys, partial(ZipContent, path), preparation, digest=digest, name="tiny_imagenet")


DATASET: Final = Dataset(
    name="tiny_imagenet",
    title="Tiny ImageNet, 64×64 pixels in colour: the 10,000 validation images, 200 classes",
    shape=(3, 64, 64),
    classes=tuple(synsets()[synset] for synset in SYNSETS),
    size=10000,
    levels=255,
    digest=files_digest((ARCHIVE,)),
    eps={"linf": (4 / 255, 8 / 255), "l2": (0.5, 1.0), "l1": (12.0,)},
    licence="",
    source="Le & Yang 2015, Stanford CS231n, https://cs231n.stanford.edu/",
    read=read_val,
    files=(ARCHIVE,),
    at="val",
    splits={"train": Split(100000, files_digest((ARCHIVE,), "train"), read_train, (ARCHIVE,))},
    outside=("svhn",),
)
