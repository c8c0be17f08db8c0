"""The public datasets, read from files made by hand in their publishers' formats; and what is said of damaged ones."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from loudly import skip_loudly
from PIL import Image
from scipy.io import savemat

from benchmark.data import get_dataset
from benchmark.data.datasets import cifar100, fashion_mnist, gtsrb, imagenet, svhn, tiny_imagenet
from benchmark.data.own_copy import Recorded, verified_copy
from benchmark.data.synsets import synsets
from benchmark.errors import InputError
from models_zoo.errors import FetchError
from models_zoo.fetch import CACHE_VARIABLE, RemoteFile, cache_folder, seed

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
PUBLIC = ("fashion_mnist", "cifar100", "svhn", "gtsrb", "tiny_imagenet")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv("CURVEBOARD_IMAGENET", raising=False)
    return tmp_path / "cache"


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def picture(pixels: np.ndarray, kind: str = "PPM") -> bytes:
    """A picture's file; ``pixels`` are (h, w, 3)."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def zipped(path: Path, files: Mapping[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: Mapping[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            facts = tarfile.TarInfo(name)
            facts.size = len(content)
            archive.addfile(facts, io.BytesIO(content))
    return path


def test_every_public_file_is_fetched_over_https_and_known_by_its_digest() -> None:
    for name in PUBLIC:
        dataset = get_dataset(name)
        files = [*dataset.files, *(file for split in dataset.splits.values() for file in split.files)]
        assert files
        for file in files:
            assert all(url.startswith("https://") for url in file.urls)
            assert len(file.sha256) == 64
            assert file.size > 0
    assert get_dataset("imagenet").files == ()  # never downloaded


def test_each_is_a_label_space_of_its_own_with_distinct_classes() -> None:
    sizes = {"fashion_mnist": 10, "cifar100": 100, "svhn": 10, "gtsrb": 43, "tiny_imagenet": 200, "imagenet": 1000}
    for name, classes in sizes.items():
        dataset = get_dataset(name)
        assert dataset.labels_of == name
        assert len(dataset.classes) == len(set(dataset.classes)) == classes


def test_the_synsets_are_in_the_order_of_models() -> None:
    names = list(synsets().items())
    assert [key for key, _ in names] == sorted(synsets())
    for label, synset, name in (
        (0, "n01440764", "tench"),
        (281, "n02123045", "tabby"),
        (999, "n15075141", "toilet tissue"),
    ):
        assert names[label] == (synset, name)
    # WordNet has two cranes; the building machine has another name here.
    assert (synsets()["n02012849"], synsets()["n03126707"]) == ("crane", "construction crane")
    assert set(tiny_imagenet.SYNSETS) < set(synsets())
    assert list(tiny_imagenet.SYNSETS) == sorted(tiny_imagenet.SYNSETS)


# Fashion-MNIST


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def seeded(folder: Path, contents: Mapping[str, bytes]) -> tuple[RemoteFile, RemoteFile]:
    """Zipped files, taken into the cache."""
    folder.mkdir(exist_ok=True)
    files = []
    for name, content in contents.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        files.append(RemoteFile(name, (), len(content), hashlib.sha256(content).hexdigest(), gunzip=True))
    assert seed([folder], files) == files
    return files[0], files[1]


def test_fashion_mnist_is_read_like_mnist(tmp_path: Path) -> None:
    pixels = noise(0, 5, 28, 28)
    files = seeded(tmp_path / "f", {"images": idx(pixels), "labels": idx(np.arange(5, dtype=np.uint8))})
    images, labels = fashion_mnist.read(files)
    np.testing.assert_array_equal(images[:, 0], pixels)
    assert labels.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("images", "labels", "told"),
    [
        (idx(noise(0, 5, 28, 28))[:-1], idx(np.zeros(5, np.uint8)), "it is truncated"),
        (idx(noise(0, 5, 28, 28)), idx(np.zeros(4, np.uint8)), "holds an array"),
        (idx(noise(0, 5, 28, 28)), idx(np.full(5, 10, np.uint8)), "label from 0 to 9"),
        (b"\x1f\x8b is no idx", idx(np.zeros(5, np.uint8)), "begins with"),
    ],
)
def test_damaged_idx_files_are_told(tmp_path: Path, images: bytes, labels: bytes, told: str) -> None:
    files = seeded(tmp_path / "f", {"images": images, "labels": labels})
    with pytest.raises((InputError, FetchError), match=told):
        fashion_mnist.read(files)


def test_the_real_fashion_mnist_has_the_digests_that_are_registered(cache: Path) -> None:
    if not DEBIAN.is_dir():
        skip_loudly("the real Fashion-MNIST is not here (Debian's package dataset-fashion-mnist)")
    dataset = get_dataset("fashion_mnist")
    assert len(seed([DEBIAN], [*fashion_mnist.TEST, *fashion_mnist.TRAIN], cache=cache)) == 4
    x, y = dataset.batch(0, 10000)
    assert tuple(x.shape) == (10000, 1, 28, 28)
    assert y[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    assert y.bincount().tolist() == [1000] * 10
    assert float(x.mean()) == pytest.approx(0.2868, abs=5e-5)  # as published: 0.2860 of the training images
    train = dataset.split("train")
    assert train.stored(0, 60000).mean() / 255 == pytest.approx(0.2860, abs=5e-5)
    assert np.bincount(train.labels()).tolist() == [6000] * 10


# CIFAR-100


def test_cifar100_gives_the_fine_labels(tmp_path: Path) -> None:
    planes = noise(1, 3, 3, 32, 32)
    records = b"".join(bytes([7, fine]) + planes[k].tobytes() for k, fine in enumerate((0, 49, 99)))
    path = tarred(tmp_path / "a.tar.gz", {cifar100.TEST: records})
    images, labels = cifar100.read_archive(path)
    np.testing.assert_array_equal(images, planes)
    assert [cifar100.CLASSES[label] for label in labels] == ["apple", "mountain", "worm"]


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"cifar-100-binary/train.bin": b"x" * 3074}, "no archive of CIFAR-100"),
        ({cifar100.TEST: b"\0" * 3073}, "no multiple of 3074"),
        ({cifar100.TEST: b"\0d" + b"\0" * 3072}, "the label 100"),
        ({cifar100.TEST: b""}, "0 bytes"),
    ],
)
def test_other_archives_are_no_cifar100(tmp_path: Path, files: dict[str, bytes], told: str) -> None:
    with pytest.raises(InputError, match=told):
        cifar100.read_archive(tarred(tmp_path / "a.tar.gz", files))


def test_a_cut_archive_is_told(tmp_path: Path) -> None:
    path = tarred(tmp_path / "a.tar.gz", {cifar100.TEST: noise(0, 3074 * 4).tobytes()})
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="no archive of CIFAR-100"):
        cifar100.read_archive(path)


# SVHN


def test_svhn_counts_from_zero(tmp_path: Path) -> None:
    pixels = noise(2, 32, 32, 3, 4)
    savemat(tmp_path / "a.mat", {"X": pixels, "y": np.uint8([[10], [1], [9], [10]])}, do_compression=True)
    images, labels = svhn.read_mat(tmp_path / "a.mat")
    np.testing.assert_array_equal(images[3, 2], pixels[:, :, 2, 3])
    assert images.shape == (4, 3, 32, 32)
    assert labels.tolist() == [0, 1, 9, 0]


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"X": noise(0, 32, 32, 3, 2)}, "no file of SVHN"),
        ({"X": noise(0, 32, 32, 3, 2), "y": np.uint8([[1]])}, "1 labels"),
        ({"X": noise(0, 32, 32, 3, 2).astype(float), "y": np.uint8([[1], [2]])}, "float64"),
        ({"X": noise(0, 32, 32, 3, 2), "y": np.uint8([[0], [2]])}, "labels from 0 to 2"),
    ],
)
def test_other_matlab_files_are_no_svhn(tmp_path: Path, arrays: dict[str, np.ndarray], told: str) -> None:
    savemat(tmp_path / "a.mat", arrays)
    with pytest.raises(InputError, match=told):
        svhn.read_mat(tmp_path / "a.mat")


def test_a_matlab_file_with_another_digest_is_never_parsed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("parsed before it was verified")

    monkeypatch.setattr("scipy.io.loadmat", forbidden)
    cache.mkdir()
    file = dataclasses.replace(svhn.TEST, urls=())
    (cache / file.sha256).write_bytes(b"hostile")
    with pytest.raises(FetchError, match="could not be fetched"):
        svhn.read(file)


# GTSRB


def signs(rows: list[tuple[str, int]]) -> str:
    head = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\r\n"
    return head + "".join(f"{name};40;40;5;5;35;35;{label}\r\n" for name, label in rows)


def test_gtsrb_is_decoded_when_it_is_asked_for(tmp_path: Path) -> None:
    flat = np.broadcast_to(np.uint8([10, 200, 30]), (40, 44, 3))
    files = {f"GTSRB/Final_Test/Images/{k:05d}.ppm": picture(flat) for k in range(2)}
    files["GTSRB/Final_Test/Images/00002.ppm"] = b"P6 no picture"
    truth = zipped(tmp_path / "t.zip", {"GT-final_test.csv": signs([(f"{k:05d}.ppm", 16 + k) for k in range(4)])})
    images, labels = gtsrb.of_test(zipped(tmp_path / "i.zip", files), truth)
    assert images.shape == (4, 3, 32, 32)
    assert labels.tolist() == [16, 17, 18, 19]
    assert (images[0:2] == np.uint8([10, 200, 30])[:, None, None]).all()
    with pytest.raises(InputError, match=r"gtsrb: GTSRB/Final_Test/Images/00002.ppm"):
        images[2:3]
    with pytest.raises(InputError, match=r"has no GTSRB/Final_Test/Images/00003.ppm"):
        images[3:4]


def test_the_training_signs_lie_in_a_folder_a_class(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {}
    for label in range(43):
        home = f"GTSRB/Training/{label:05d}"
        files[f"{home}/GT-{label:05d}.csv"] = signs([("00000_00000.ppm", label), ("00000_00001.ppm", label)])
        for k in range(2):
            files[f"{home}/00000_0000{k}.ppm"] = picture(np.full((33, 33, 3), 5 * label + k, np.uint8))
    images, labels = gtsrb.of_train(zipped(tmp_path / "a.zip", files))
    assert labels.tolist() == [label for label in range(43) for _ in range(2)]
    assert images[20:22][:, 0, 0, 0].tolist() == [50, 51]


@pytest.mark.parametrize(
    ("table", "told"),
    [("Filename;ClassId\r\na.ppm;43\r\n", "the class 43"), ("Path;Label\r\na.ppm;4\r\n", "Filename and ClassId")],
)
def test_other_tables_are_refused(tmp_path: Path, table: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        gtsrb.of_test(tmp_path, zipped(tmp_path / "t.zip", {"GT-final_test.csv": table}))
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="no whole zip"):
        gtsrb.of_train(tmp_path / "cut.zip")


# Tiny ImageNet


def tiny(path: Path, **changed: bytes | str) -> Path:
    home = "tiny-imagenet-200"
    rows = "".join(f"val_{k}.JPEG\t{tiny_imagenet.SYNSETS[199 - k]}\t0\t0\t9\t9\n" for k in (10, 9, 2))
    files: dict[str, bytes | str] = {
        f"{home}/wnids.txt": "\n".join(reversed(tiny_imagenet.SYNSETS)),
        f"{home}/val/val_annotations.txt": rows,
    }
    for k in (2, 9, 10):
        files[f"{home}/val/images/val_{k}.JPEG"] = picture(np.full((64, 64, 3), 20 * k, np.uint8), "JPEG")
    for synset in tiny_imagenet.SYNSETS[:2]:
        for k in (0, 11, 2):
            files[f"{home}/train/{synset}/images/{synset}_{k}.JPEG"] = picture(np.full((64, 64), k, np.uint8), "JPEG")
    return zipped(path, files | {f"{home}/{key}": value for key, value in changed.items()})


def test_tiny_imagenet_is_numbered_by_synset_and_ordered_by_image(tmp_path: Path) -> None:
    path = tiny(tmp_path / "a.zip")
    images, labels = tiny_imagenet.of_val(path)
    assert labels.tolist() == [197, 190, 189]
    assert images[0:3][:, 1, 5, 5].tolist() == [40, 180, 200]
    train, labels = tiny_imagenet.of_train(path)
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert train[0:3][:, 2, 0, 0].tolist() == [0, 2, 11]  # one grey JPEG among colours, as there are some
    assert images.digest == get_dataset("tiny_imagenet").digest
    assert train.digest == get_dataset("tiny_imagenet").split("train").digest


def test_other_classes_or_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="other classes than Tiny ImageNet's"):
        tiny_imagenet.of_val(tiny(tmp_path / "a.zip", **{"wnids.txt": "n01440764"}))
    with pytest.raises(InputError, match=r"val_annotations\.txt has the row"):
        tiny_imagenet.of_val(tiny(tmp_path / "b.zip", **{"val/val_annotations.txt": "val_0.JPEG\tn00000000\n"}))


# ImageNet


def kit(path: Path) -> Path:
    """A development kit whose numbers run the other way round than the synsets."""
    kind = [("ILSVRC2012_ID", object), ("WNID", object), ("num_children", object)]
    rows = [(number, synset, 0) for number, synset in enumerate(reversed(list(synsets())), 1)]
    table = np.array([*rows, (1001, "n00001740", 5)], dtype=kind)
    meta = io.BytesIO()
    savemat(meta, {"synsets": table})
    home = "ILSVRC2012_devkit_t12/data"
    truth = b"1000\n1\n600\n"
    return tarred(path, {f"{home}/meta.mat": meta.getvalue(), f"{home}/ILSVRC2012_validation_ground_truth.txt": truth})


def photograph(k: int) -> bytes:
    """Wider than high; the middle is of another colour than the sides."""
    pixels = np.full((300, 400, 3), 250, np.uint8)
    pixels[:, 60:340] = 40 * k
    return picture(pixels, "JPEG")


def validation(path: Path) -> Path:
    return tarred(path, {f"ILSVRC2012_val_0000000{k}.JPEG": photograph(k) for k in (3, 1, 2)}, "w")


def test_imagenet_is_read_from_the_archives(tmp_path: Path) -> None:
    labels = imagenet.labels_of(kit(tmp_path / "kit.tar.gz"))
    assert labels.tolist() == [0, 999, 400]
    images, _ = imagenet.of_archive(validation(tmp_path / "val.tar"), labels)
    assert images.shape == (3, 3, 224, 224)
    assert images[0:3][:, :, 112, 112].tolist() == [[40 * k] * 3 for k in (1, 2, 3)]
    assert images.digest == get_dataset("imagenet").digest
    with pytest.raises(InputError, match="no development kit"):
        imagenet.labels_of(validation(tmp_path / "val.tar"))
    with pytest.raises(InputError, match="no whole tar"):
        imagenet.of_archive(kit(tmp_path / "kit.tar.gz"), labels)[0][0:1]


def test_its_archive_is_verified_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = validation(tmp_path / imagenet.ARCHIVE)
    monkeypatch.setenv("CURVEBOARD_IMAGENET", str(tmp_path))
    with pytest.raises(InputError, match="has the labels; put it beside it"):
        imagenet.read()
    kit(tmp_path / imagenet.KIT)
    with pytest.raises(InputError, match=f"expected {imagenet.ARCHIVE_SHA256}"):
        imagenet.read()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert verified_copy(path, digest) == path
    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", lambda *_: pytest.fail("read again"))
        assert verified_copy(path, digest) == path
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(InputError, match="expected"):
        verified_copy(path, digest)


def folder(home: Path) -> Path:
    for k, synset in ((1, "n15075141"), (2, "n01440764"), (3, "n02123045")):
        (home / synset).mkdir(parents=True)
        (home / synset / f"ILSVRC2012_val_0000000{k}.JPEG").write_bytes(photograph(k))
    return home


def test_imagenet_is_read_from_a_folder_a_synset(tmp_path: Path) -> None:
    for home in (folder(tmp_path / "in"), folder(tmp_path / "root" / "val").parent):
        images, labels = imagenet.of_folder(home, size=3)
        assert labels.tolist() == [999, 0, 281]
        assert images[0:3][:, 0, 112, 112].tolist() == [40, 80, 120]


def test_a_folder_s_files_are_recorded_at_first_use_and_demanded_after(tmp_path: Path, cache: Path) -> None:
    home = folder(tmp_path / "in")
    assert imagenet.of_folder(home, size=3)[0][0:2].shape == (2, 3, 224, 224)
    (home / "n15075141/ILSVRC2012_val_00000001.JPEG").write_bytes(photograph(5))
    (home / "n02123045/ILSVRC2012_val_00000003.JPEG").write_bytes(photograph(6))
    images, _ = imagenet.of_folder(home, size=3)
    with pytest.raises(InputError, match=r"ILSVRC2012_val_00000001.JPEG has SHA-256 .* at its first use it was"):
        images[0:1]
    assert images[2:3][:, 0, 112, 112].tolist() == [240]  # not used before: this is its first use
    assert len((cache / "first-use/imagenet.jsonl").read_text().splitlines()) == 3


def test_a_wrong_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="Set CURVEBOARD_IMAGENET to the folder"):
        imagenet.read()
    home = folder(tmp_path / "in")
    monkeypatch.setenv("CURVEBOARD_IMAGENET", str(home))
    with pytest.raises(InputError, match="has 3 images of the validation set, not 50,000"):
        get_dataset("imagenet").read()
    (home / "n01440764/ILSVRC2012_val_00000001.JPEG").write_bytes(photograph(1))
    with pytest.raises(InputError, match="in two sub-folders"):
        imagenet.of_folder(home, size=3)
    (home / "cats").mkdir()
    with pytest.raises(InputError, match="'cats', no synset"):
        imagenet.of_folder(home, size=3)


def test_a_record_is_shared_by_processes() -> None:
    one, other = (Recorded("r", cache_folder()) for _ in range(2))
    one.demand({"a": "1", "b": "2"}, "x")
    assert other.known("b") == "2"
    other.demand({"a": "1", "c": "3"}, "x")
    assert one.known("c") == "3"
    with pytest.raises(InputError, match="x: c has SHA-256 4"):
        one.demand({"c": "4"}, "x")
    one.path.write_text("nonsense\n")
    with pytest.raises(InputError, match="is damaged"):
        Recorded("r", cache_folder()).known("a")
