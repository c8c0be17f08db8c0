"""Datasets: what is known of them without loading, and what loading gives."""

from __future__ import annotations

import dataclasses
import io
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from benchmark.data import Dataset, all_datasets, files_digest, get_dataset, manifest_digest
from benchmark.data.datasets.cifar10 import read_archive
from benchmark.errors import InputError, UnknownNameError
from models_zoo.data import digits, read_idx
from models_zoo.errors import FetchError
from models_zoo.fetch import RemoteFile


def test_digits_are_float_images_in_the_box_with_their_labels() -> None:
    dataset = get_dataset("digits")
    x, y = dataset.load()
    assert x.shape == (500, 1, 8, 8)
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    assert (x.min(), x.max()) == (0, 1)
    assert torch.equal(x * 16, (x * 16).round())  # sixteen levels
    assert torch.bincount(y, minlength=10).min() > 40
    assert len(x) == dataset.size
    assert dataset.n_classes == 10


def test_a_limit_takes_the_first() -> None:
    x, y = get_dataset("digits").load()
    few, labels = get_dataset("digits").load(limit=7)
    assert torch.equal(few, x[:7])
    assert torch.equal(labels, y[:7])
    with pytest.raises(InputError, match="The limit is 0"):
        get_dataset("digits").load(limit=0)


def test_what_a_caller_does_to_the_images_stays_with_the_caller() -> None:
    x, y = get_dataset("digits").load()
    before = x.clone()
    x.zero_()
    y.zero_()
    assert torch.equal(get_dataset("digits").load()[0], before)


def test_the_digits_are_those_of_scikit_learn_in_its_order() -> None:
    published = load_digits()
    images = np.concatenate([digits("train")[0], digits("test")[0]])
    labels = np.concatenate([digits("train")[1], digits("test")[1]])
    np.testing.assert_array_equal(images.reshape(-1, 64), published.data)
    np.testing.assert_array_equal(labels, published.target)


def test_no_test_image_is_in_the_training_split() -> None:
    train = {image.tobytes() for image in digits("train")[0]}
    assert not any(image.tobytes() in train for image in digits("test")[0])


def test_a_split_is_a_dataset_of_its_own() -> None:
    dataset = get_dataset("digits")
    train = dataset.split("train")
    assert (train.size, train.n_classes, train.at) == (1297, 10, "train")
    assert train.digest != dataset.digest
    np.testing.assert_array_equal(train.stored(3, 9), digits("train")[0][3:9])
    assert torch.equal(train.split("test").load(5)[0], dataset.load(5)[0])
    assert dataset.split("test") is dataset
    assert dataset.split("train") is train  # so that it is read once
    with pytest.raises(UnknownNameError, match=r"split of digits called 'trian'\. Did you mean 'train'"):
        dataset.split("trian")


def test_a_batch_is_the_range_asked_for() -> None:
    dataset = get_dataset("digits")
    x, y = dataset.load()
    few, labels = dataset.batch(490, 510)
    assert torch.equal(few, x[490:])
    assert torch.equal(labels, y[490:])
    assert [len(part) for part, _ in dataset.batches(7, rows=3)] == [3, 3, 1]
    assert torch.equal(torch.cat([part for part, _ in dataset.batches(500, rows=77)]), x)
    with pytest.raises(InputError, match="no range"):
        dataset.batch(5, 4)


def test_a_pool_is_spread_over_the_slice_and_bounded() -> None:
    dataset = get_dataset("digits")
    x, _ = dataset.load()
    assert torch.equal(dataset.pool(500), x)
    assert torch.equal(dataset.pool(500, most=3), x[[0, 250, 499]])
    shape = (3, 224, 224)
    large = dataclasses.replace(dataset, shape=shape, size=2000, read=lambda: (Blank((2000, *shape)), np.zeros(2000)))
    assert large.pool(2000).nbytes <= 2**28


class Blank:
    """Black images that are made when they are asked for."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.digest = shape, get_dataset("digits").digest

    def __getitem__(self, which: slice) -> np.ndarray:
        return np.zeros((len(range(self.shape[0])[which]), *self.shape[1:]), dtype=np.uint8)


def test_the_digest_depends_on_every_part() -> None:
    images = np.arange(32, dtype=np.uint8).reshape(2, 1, 4, 4)
    labels = np.array([3, 4])
    changed = images.copy()
    changed[1, 0, 3, 3] += 1
    digests = [
        manifest_digest(images, labels, levels=255),
        manifest_digest(changed, labels, levels=255),
        manifest_digest(images, labels[::-1], levels=255),
        manifest_digest(images, labels, levels=16),
        manifest_digest(images.reshape(2, 4, 2, 2), labels, levels=255),
    ]
    assert len(set(digests)) == len(digests)


def test_data_other_than_was_registered_is_refused_with_both_digests() -> None:
    registered = get_dataset("digits")
    images, labels = registered.read()

    def altered() -> tuple[np.ndarray, np.ndarray]:
        return images[::-1], labels

    with pytest.raises(InputError, match=registered.digest):
        dataclasses.replace(registered, read=altered).load()


def test_transposed_images_become_contiguous_and_keep_their_digest() -> None:
    registered = get_dataset("digits")
    images, labels = registered.read()
    strided = np.asfortranarray(images)

    x, _ = dataclasses.replace(registered, read=lambda: (strided, labels)).load(5)
    assert not strided.flags.c_contiguous
    assert x.is_contiguous()
    assert torch.equal(x, registered.load(5)[0])


def test_an_unknown_dataset_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'digits'"):
        get_dataset("digit")


def test_what_is_known_without_loading_is_consistent() -> None:
    for dataset in all_datasets().values():
        assert set(dataset.eps) == {"linf", "l2", "l1"}
        for values in dataset.eps.values():
            assert list(values) == sorted(values)
            assert min(values) > 0
        assert dataset.source
        assert len(dataset.digest) == 64


def test_listing_datasets_does_not_import_torch() -> None:
    program = "import sys; from benchmark.data import all_datasets; all_datasets(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_cifar10_is_read_from_the_binary_archive(tmp_path: Path) -> None:
    planes = np.arange(3 * 32 * 32, dtype=np.uint32).astype(np.uint8)
    batch = b"".join(bytes([label]) + np.roll(planes, label).tobytes() for label in (3, 8))
    path = archive_of(tmp_path, "cifar-10-batches-bin/test_batch.bin", batch)
    images, labels = read_archive(path)
    assert images.shape == (2, 3, 32, 32)
    assert labels.tolist() == [3, 8]
    np.testing.assert_array_equal(images[0], np.roll(planes, 3).reshape(3, 32, 32))


@pytest.mark.parametrize(
    ("member", "content"), [("other.bin", b"x" * 3073), ("test_batch.bin", b"x" * 3072), ("", b"")]
)
def test_an_archive_without_whole_records_is_refused(tmp_path: Path, member: str, content: bytes) -> None:
    path = archive_of(tmp_path, f"cifar-10-batches-bin/{member}", content)
    with pytest.raises(InputError, match="test_batch"):
        read_archive(path)
    path.write_bytes(b"\x1f\x8b no archive")
    with pytest.raises(InputError, match="no archive"):
        read_archive(path)


def archive_of(folder: Path, member: str, content: bytes) -> Path:
    with tarfile.open(folder / "a.tar.gz", "w:gz") as archive:
        facts = tarfile.TarInfo(member)
        facts.size = len(content)
        archive.addfile(facts, io.BytesIO(content))
    return folder / "a.tar.gz"


def test_a_dataset_of_verified_files_is_known_by_their_digests() -> None:
    one, other = (RemoteFile("a", (), 1, digit * 64) for digit in "12")
    assert files_digest([one]) != files_digest([other]) != files_digest([one, other])
    registered = get_dataset("digits")
    images, labels = registered.read()
    by_files = dataclasses.replace(registered, files=(one,), digest=files_digest([one]))
    assert len(by_files.load()[0]) == 500
    with pytest.raises(InputError, match="expected \\(500, 1, 8, 8\\)"):
        dataclasses.replace(by_files, read=lambda: (images[:9], labels[:9])).load()


@pytest.mark.shared
def test_mnist_is_the_published_test_set(seeded_cache: Path) -> None:
    dataset: Dataset = get_dataset("mnist")
    x, y = dataset.load()
    assert x.shape == (10000, 1, 28, 28)
    assert y[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert round(float(x.mean()), 4) == 0.1325
    assert torch.bincount(y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_an_idx_file_is_read_as_its_header_says(tmp_path: Path) -> None:
    path = tmp_path / "images"
    path.write_bytes(struct.pack(">HBBII", 0, 8, 2, 2, 3) + bytes(range(6)))
    assert read_idx(path).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0",
        b"PK\3\4 a zip",
        struct.pack(">HBBI", 0, 8, 1, 5) + b"four",
        struct.pack(">HBBI", 0, 8, 3, 5),
        struct.pack(">HBBIIII", 0, 8, 4, *[2**32 - 1] * 4),
        struct.pack(">HBBI", 0, 13, 1, 1) + b"\0\0\0\0",
    ],
)
def test_a_damaged_idx_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(FetchError):
        read_idx(path)
