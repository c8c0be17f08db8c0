"""Published suites of which the user has a copy: ImageNet-C's pictures, CIFAR-100-C's arrays, packed or unpacked."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.data import Dataset, get_dataset, manifest_digest
from benchmark.data.corruptions.published import PublishedSuite
from benchmark.data.corruptions.published_pictures import PublishedPictures
from benchmark.data.suites import get_suite
from benchmark.data.synsets import synsets
from benchmark.errors import InputError

N = 4
LABELS = (3, 0, 999, 3)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURVEBOARD_CACHE", str(tmp_path / "cache"))


def small(name: str) -> Dataset:
    """The dataset with four images of noise in place of its own."""
    dataset = get_dataset(name)
    images = np.random.default_rng(0).integers(0, 256, (N, *dataset.shape)).astype(np.uint8)
    labels = np.array(LABELS) if dataset.n_classes == 1000 else np.array(LABELS) % 100
    return dataclasses.replace(
        dataset, size=N, files=(), splits={}, read=lambda: (images, labels),
        digest=manifest_digest(images, labels, levels=255),
    )  # fmt: skip


def picture(seed: int, side: int = 224) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side // 8, side // 8, 3)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((side, side)).save(stream, "JPEG", quality=85)
    return stream.getvalue()


def key(sample: int) -> str:
    return f"{list(synsets())[LABELS[sample]]}/ILSVRC2012_val_{sample + 1:08d}.JPEG"


def unpacked(home: Path, *, group: str = "") -> Path:
    """A copy with the cell fog 3."""
    for sample in range(N):
        file = home / group / "fog" / "3" / key(sample)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(sample))
    return home


def expected(start: int, stop: int) -> np.ndarray:
    images = [np.asarray(Image.open(io.BytesIO(picture(i)))) for i in range(start, stop)]
    return np.stack(images).transpose(0, 3, 1, 2)


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PublishedPictures:
    """ImageNet-C of four images; the copy is made by the tests."""
    (tmp_path / "copy").mkdir()
    monkeypatch.setenv("CURVEBOARD_IMAGENET_C", str(tmp_path / "copy"))
    made = get_suite("imagenet-c-published").on(small("imagenet"))
    assert isinstance(made, PublishedPictures)
    return made


def packed(copy: Path, suite: PublishedPictures, tmp_path: Path) -> PublishedPictures:
    """The same as ``weather.tar``; the suite knows its MD5."""
    with tarfile.open(copy / "weather.tar", "w") as tar:
        tar.add(unpacked(tmp_path / "elsewhere") / "fog", "fog")
    md5 = hashlib.md5((copy / "weather.tar").read_bytes(), usedforsecurity=False).hexdigest()
    return dataclasses.replace(suite, archives=suite.archives | {"weather.tar": md5})


@pytest.mark.parametrize("how", ["folders", "a folder for each archive", "archives"])
def test_pictures_are_those_of_the_samples_whichever_way_they_lie(
    tmp_path: Path, suite: PublishedPictures, how: str
) -> None:
    copy = tmp_path / "copy"
    if how == "archives":
        suite = packed(copy, suite, tmp_path)
    else:
        unpacked(copy, group="" if how == "folders" else "weather")
    assert suite.unavailable() == ""
    assert suite.missing(("fog", "3")) == ""
    for start, stop in ((0, 4), (1, 3), (3, 9)):
        x, y = suite.batch(("fog", "3"), start, stop)
        assert y.tolist() == list(LABELS[start:stop])
        assert np.array_equal(np.rint(x.numpy() * 255), expected(start, min(stop, N)))


def test_without_a_copy_it_says_what_to_put_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CURVEBOARD_IMAGENET_C", raising=False)
    told = get_suite("imagenet-c-published").on(small("imagenet")).unavailable()
    assert "Set CURVEBOARD_IMAGENET_C to the folder with noise.tar" in told
    assert "not of 'cifar10'" in get_suite("imagenet-c-published").on(get_dataset("cifar10")).unavailable()


def test_a_missing_cell_is_named(tmp_path: Path, suite: PublishedPictures) -> None:
    unpacked(tmp_path / "copy")
    assert "neither the folder fog/5 nor weather.tar" in suite.missing(("fog", "5"))
    assert "neither the folder snow/3" in suite.missing(("snow", "3"))


def removed(copy: Path) -> None:
    (copy / "fog" / "3" / key(2)).unlink()


def other_size(copy: Path) -> None:
    (copy / "fog" / "3" / key(2)).write_bytes(picture(2, side=256))


def cut(copy: Path) -> None:
    file = copy / "fog" / "3" / key(2)
    file.write_bytes(file.read_bytes()[:900])


def other_synset(copy: Path) -> None:
    file = copy / "fog" / "3" / key(2)
    file.parent.rename(file.parent.with_name("n01440764x"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (removed, "has no n15075141/ILSVRC2012_val_00000003.JPEG"),
        (other_synset, "has no n15075141/ILSVRC2012_val_00000003.JPEG"),
        (other_size, "fog/3/n15075141/ILSVRC2012_val_00000003.JPEG has 256×256 pixels, not 224×224"),
        (cut, "fog/3/n15075141/ILSVRC2012_val_00000003.JPEG: it cannot be decoded"),
    ],
)
def test_a_file_that_is_not_right_is_named(
    tmp_path: Path, suite: PublishedPictures, change: Callable[[Path], None], message: str
) -> None:
    change(unpacked(tmp_path / "copy"))
    with pytest.raises(InputError, match=message):
        suite.batch(("fog", "3"), 0, 4)


def test_a_picture_that_changed_since_its_first_use_is_refused(tmp_path: Path, suite: PublishedPictures) -> None:
    copy = unpacked(tmp_path / "copy")
    suite.batch(("fog", "3"), 0, 4)
    (copy / "fog" / "3" / key(1)).write_bytes(picture(77))
    with pytest.raises(InputError, match="at its first use it was"):
        suite.batch(("fog", "3"), 0, 4)


def test_an_archive_of_another_digest_or_without_a_picture_is_refused(tmp_path: Path, suite: PublishedPictures) -> None:
    known = packed(tmp_path / "copy", suite, tmp_path)
    with pytest.raises(InputError, match=r"weather.tar has MD5 [0-9a-f]{32}, expected 33ffea4d"):
        suite.batch(("fog", "3"), 0, 4)
    with pytest.raises(InputError, match=f"weather.tar has no snow/3/{key(0)}"):
        known.batch(("snow", "3"), 0, 4)


# CIFAR-100-C


@pytest.fixture
def arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[PublishedSuite, Path, np.ndarray]:
    """CIFAR-100-C of four images, unpacked: the suite, its folder, and the array of fog."""
    home = tmp_path / "copy" / "CIFAR-100-C"
    home.mkdir(parents=True)
    monkeypatch.setenv("CURVEBOARD_CIFAR100_C", str(tmp_path / "copy"))
    fog = np.random.default_rng(1).integers(0, 256, (5 * N, 32, 32, 3)).astype(np.uint8)
    np.save(home / "fog.npy", fog)
    np.save(home / "labels.npy", np.tile(np.array(LABELS) % 100, 5))
    suite = get_suite("cifar100-c-published").on(small("cifar100"))
    assert isinstance(suite, PublishedSuite)
    return suite, home, fog


def test_arrays_are_read_unpacked_and_packed(tmp_path: Path, arrays: tuple[PublishedSuite, Path, np.ndarray]) -> None:
    suite, home, fog = arrays
    wanted = fog[N + 1 : N + 3].transpose(0, 3, 1, 2)
    x, y = suite.batch(("fog", "2"), 1, 3)
    assert np.array_equal(np.rint(x.numpy() * 255), wanted)
    assert y.tolist() == [0, 99]
    with tarfile.open(tmp_path / "copy" / "CIFAR-100-C.tar", "w") as tar:
        tar.add(home, "CIFAR-100-C")
    fresh = dataclasses.replace(suite)
    with pytest.raises(InputError, match=r"CIFAR-100-C.tar has MD5 [0-9a-f]{32}, expected 11f0ed0f"):
        fresh.batch(("fog", "2"), 1, 3)
    md5 = hashlib.md5((tmp_path / "copy" / "CIFAR-100-C.tar").read_bytes(), usedforsecurity=False).hexdigest()
    known = dataclasses.replace(suite, file=dataclasses.replace(suite.file, md5=md5))
    assert np.array_equal(np.rint(known.batch(("fog", "2"), 1, 3)[0].numpy() * 255), wanted)


def test_an_array_that_changed_since_its_first_use_is_refused(
    arrays: tuple[PublishedSuite, Path, np.ndarray],
) -> None:
    suite, home, fog = arrays
    suite.batch(("fog", "2"), 0, 4)
    np.save(home / "fog.npy", fog[::-1].copy())
    with pytest.raises(InputError, match="at its first use it was"):
        dataclasses.replace(suite).batch(("fog", "2"), 0, 4)
