"""The 50,000 validation images of ILSVRC 2012 (ImageNet), 224×224 pixels: the user's own copy, never downloaded.

Either the two files as ImageNet gives them (the validation archive and the development kit, which has the labels), or
a folder with a sub-folder a synset, as torchvision's ``ImageNet`` and ``ImageFolder`` make it.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmark.data import Dataset, Labels
from benchmark.data.archives import Content, DecodedImages, frozen_labels
from benchmark.data.own_copy import Recorded, digest_of, own_copy, verified_copy
from benchmark.data.synsets import synsets
from benchmark.errors import InputError
from models_zoo.fetch import cache_folder

if TYPE_CHECKING:
    from benchmark.data.own.pictures import Preparation

ARCHIVE: Final = "ILSVRC2012_img_val.tar"
ARCHIVE_SHA256: Final = "c7e06a6c0baccf06d8dbeb6577d71efff84673a5dbdd50633ab44f8ea0456ae0"
KIT: Final = "ILSVRC2012_devkit_t12.tar.gz"
KIT_SHA256: Final = "b59243268c0d266621fd587d2018f69e906fb22875aca0e295b48cafaa927953"
NEEDED: Final = f"{ARCHIVE} and {KIT}, or with one sub-folder a synset (n01440764 …)"
IMAGE: Final = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")
SIZE: Final = 50000
RESIZED: Final = "scaled (bilinear) so that the shorter side is 256, the middle 224×224 pixels cut out"
DIGEST: Final = hashlib.sha256("\n".join((ARCHIVE_SHA256, KIT_SHA256, RESIZED)).encode()).hexdigest()


def read() -> tuple[DecodedImages, Labels]:
    """The images in the order of their numbers, decoded when they are asked for, and their labels."""
    home = own_copy("imagenet", needed=NEEDED)
    if (home / ARCHIVE).is_file():
        if not (home / KIT).is_file():
            raise InputError(f"{home} has {ARCHIVE} but not {KIT}, which has the labels; put it beside it.")
        archive = verified_copy(home / ARCHIVE, ARCHIVE_SHA256)
        return of_archive(archive, labels_of(verified_copy(home / KIT, KIT_SHA256)))
    return of_folder(home)


def of_archive(path: Path, labels: Labels) -> tuple[DecodedImages, Labels]:
    """Images of the verified validation archive, with the labels of the development kit."""
    keys = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, len(labels) + 1)]
    return _decoded(keys, partial(TarContent, path)), labels


def labels_of(kit: Path) -> Labels:
    """The labels in the verified development kit, in the order of the images, numbered by the synsets' order.

    The kit numbers the classes in an order of its own; ``meta.mat`` says which synset has which number.

    Raises:
        InputError: If the kit is not of this form.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        with tarfile.open(kit) as archive:
            files = {Path(member.name).name: member for member in archive if member.isfile()}
            meta = archive.extractfile(files["meta.mat"])
            truth = archive.extractfile(files["ILSVRC2012_validation_ground_truth.txt"])
            assert meta is not None
            assert truth is not None
            table = loadmat(meta, squeeze_me=True, variable_names=["synsets"])["synsets"]
            numbers = [int(line) for line in truth.read().split()]
        order = {synset: label for label, synset in enumerate(synsets())}
        label_of = {
            int(row["ILSVRC2012_ID"]): order[str(row["WNID"])] for row in table if int(row["num_children"]) == 0
        }
        return frozen_labels([label_of[number] for number in numbers])
    except (tarfile.TarError, MatReadError, KeyError, IndexError, TypeError, ValueError, OSError, EOFError) as error:
        raise InputError(f"{kit} is no development kit of ILSVRC 2012 ({type(error).__name__}: {error}).") from error


def of_folder(home: Path, *, size: int = SIZE) -> tuple[DecodedImages, Labels]:
    """Images of a folder with a sub-folder a synset; each file's digest is recorded at its first use.

    Args:
        home: The folder.
        size: How many images there must be.

    Raises:
        InputError: If sub-folders or images are missing or of other names.
    """
    order = {synset: label for label, synset in enumerate(synsets())}
    found: dict[str, tuple[str, int]] = {}
    twice = set()
    home = home / "val" if (home / "val").is_dir() else home  # as torchvision's ImageNet unpacks it
    for folder in sorted(path for path in home.iterdir() if path.is_dir()):
        if folder.name not in order:
            raise InputError(f"{home} has the sub-folder {folder.name!r}, no synset of ILSVRC 2012; needed: {NEEDED}.")
        for path in folder.iterdir():
            if IMAGE.fullmatch(path.name):
                twice |= {path.name} & found.keys()
                found[path.name] = (f"{folder.name}/{path.name}", order[folder.name])
    if len(found) != size:
        raise InputError(f"{home} has {len(found):,} images of the validation set, not {size:,}. Needed: {NEEDED}.")
    if twice:
        raise InputError(f"{home} has {min(twice)} in two sub-folders: one of its labels is wrong.")
    rows = [found[name] for name in sorted(found)]
    return _decoded([key for key, _ in rows], partial(FolderContent, home)), frozen_labels([label for _, label in rows])


class TarContent:
    """Files in a tar that is not compressed: each is read where it lies.

    Args:
        path: The archive.

    Raises:
        InputError: If it is no whole tar.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with tarfile.open(path, "r:") as archive:
                self._at = {Path(m.name).name: (m.offset_data, m.size) for m in archive if m.isfile()}
        except (tarfile.TarError, EOFError, OSError) as error:
            raise InputError(f"{path} is no whole tar archive ({error})") from error

    def __call__(self, key: str) -> bytes:
        """The bytes of one file."""
        if key not in self._at:
            raise InputError(f"{self.path} has no {key}: it is not the archive that ImageNet gives")
        start, size = self._at[key]
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(size)


class FolderContent:
    """Files in a folder, whose digests are recorded at their first use and demanded after.

    Args:
        home: The folder.
    """

    def __init__(self, home: Path) -> None:
        self._home, self._record = home, Recorded("imagenet", cache_folder())

    def __call__(self, key: str) -> bytes:
        """The bytes of one file; raises `InputError` where they are others than at the first use."""
        try:
            content = (self._home / key).read_bytes()
        except OSError as error:
            raise InputError(f"it cannot be read ({error.strerror})") from error
        self._record.demand({Path(key).name: digest_of(content)}, str(self._home))
        return content


def _decoded(keys: Sequence[str], content: Callable[[], Content]) -> DecodedImages:
    return DecodedImages(keys, content, _preparation(), digest=DIGEST, name="imagenet")


def _preparation() -> Preparation:
    from benchmark.data.own.pictures import Preparation

    return Preparation((224, 224), resize=256)


DATASET: Final = Dataset(
    name="imagenet",
    title="ImageNet (ILSVRC 2012), 224×224 pixels in colour: the 50,000 validation images, 1,000 classes",
    shape=(3, 224, 224),
    classes=tuple(synsets().values()),
    size=SIZE,
    levels=255,
    digest=DIGEST,
    eps={"linf": (4 / 255,), "l2": (2.0, 3.0), "l1": (255.0,)},
    licence="ImageNet's terms of access: research and teaching, not commercial",
    source="Russakovsky et al. 2015, arXiv:1409.0575, https://image-net.org/",
    read=read,
    at="val",
    resizing=RESIZED,
)
