"""Suites as files: written and read in the published layouts, and what is wrong with a file said clearly."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import http.server
import json
import tarfile
import threading
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from benchmark.cli import group, run
from benchmark.data import get_dataset, manifest_digest
from benchmark.data.corruptions import corrupt
from benchmark.data.corruptions.layout import Source, read_pictures, write
from benchmark.data.suites import get_suite
from benchmark.errors import InputError
from models_zoo.errors import DigestError
from models_zoo.fetch import RemoteFile

DIGITS = get_dataset("digits")


@pytest.fixture
def cifar():
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (6, 3, 32, 32)).astype(np.uint8)
    labels = np.array([3, 1, 4, 1, 5, 9])
    return dataclasses.replace(
        get_dataset("cifar10"), size=6, files=(), splits={}, read=lambda: (images, labels),
        digest=manifest_digest(images, labels, levels=255),
    )  # fmt: skip


def written(folder, cifar, names=("fog", "contrast")):
    suite = get_suite("cifar-c").on(cifar)

    def made(name, severity):
        for start in (0, 4):
            x, y = suite.batch((name, severity), start, min(start + 4, 6))
            yield np.rint(x.numpy() * 255).astype(np.uint8), y.numpy()

    assert list(write(folder, "arrays", names, ("1", "2", "3", "4", "5"), made, size=6)) == list(names)
    return folder


def test_arrays_are_written_as_published_and_read_back(tmp_path, cifar):
    folder = written(tmp_path / "CIFAR-10-C", cifar)
    array = np.load(folder / "fog.npy")
    assert array.shape == (30, 32, 32, 3)
    assert np.load(folder / "labels.npy").tolist() == [3, 1, 4, 1, 5, 9] * 5
    suite = dataclasses.replace(get_suite("cifar10-c-published"), folder=folder).on(cifar)
    for severity in ("1", "3"):
        x, y = suite.batch(("fog", severity), 2, 5)
        expected = corrupt(cifar.stored(2, 5), "fog", int(severity), family="cifar", images_at=2)
        assert np.array_equal(np.rint(x.numpy() * 255), expected)
        assert y.tolist() == [4, 1, 5]


def archive_of(folder, path):
    if path.suffix == ".tar":
        with tarfile.open(path, "w") as tar:
            tar.add(folder, folder.name)
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in folder.rglob("*.npy"):
                archive.write(file, f"{folder.name}/{file.relative_to(folder)}")
    return path


@pytest.fixture
def server(tmp_path):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    handler.log_message = lambda *a: None
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=web.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{web.server_address[1]}"
    web.shutdown()
    web.server_close()
    thread.join()


@pytest.mark.parametrize("suffix", ["tar", "zip"])
def test_an_archive_is_fetched_by_url_verified_and_read(tmp_path, cifar, server, monkeypatch, suffix):
    monkeypatch.setenv("CURVEBOARD_CACHE", str(tmp_path / "cache"))
    path = archive_of(written(tmp_path / "CIFAR-10-C", cifar), tmp_path / f"c.{suffix}")
    content = path.read_bytes()
    file = RemoteFile("c", (f"{server}/c.{suffix}",), len(content), hashlib.sha256(content).hexdigest())
    suite = dataclasses.replace(get_suite("cifar10-c-published"), file=file).on(cifar)
    x, _ = suite.batch(("contrast", "5"), 0, 6)
    expected = corrupt(cifar.stored(0, 6), "contrast", 5, family="cifar")
    assert np.array_equal(np.rint(x.numpy() * 255), expected)

    other = dataclasses.replace(suite, file=dataclasses.replace(file, sha256="0" * 64))
    assert other.digest != suite.digest
    with pytest.raises(DigestError, match="expected 0000"):
        other.batch(("contrast", "5"), 0, 6)


def damaged(tmp_path, cifar, change):
    folder = written(tmp_path / "C", cifar, ("fog",))
    change(folder)
    suite = dataclasses.replace(get_suite("cifar10-c-published"), folder=folder).on(cifar)
    return suite.batch(("fog", "2"), 0, 6)


def cut(folder):
    content = (folder / "fog.npy").read_bytes()
    (folder / "fog.npy").write_bytes(content[:-1000])


def cut_in_the_header(folder):
    content = (folder / "fog.npy").read_bytes()
    (folder / "fog.npy").write_bytes(content[:40])


def reshaped(folder):
    np.save(folder / "fog.npy", np.zeros((25, 32, 32, 3), np.uint8))


def mislabelled(folder):
    labels = np.load(folder / "labels.npy")
    labels[7] = 0
    np.save(folder / "labels.npy", labels)


def pickled(folder):
    np.save(folder / "fog.npy", np.array([object()]), allow_pickle=True)


def gone(folder):
    (folder / "fog.npy").unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut, "truncated: replace it|It is truncated"),
        (cut_in_the_header, "no .npy file"),
        (reshaped, r"shape \(25, 32, 32, 3\), expected \(30, 32, 32, 3\)"),
        (mislabelled, "1 other labels than 'cifar10', first at 7"),
        (pickled, "expected plain numbers"),
        (gone, "cannot be read"),
    ],
)
def test_a_damaged_file_is_a_clear_error(tmp_path, cifar, change, message):
    with pytest.raises(InputError, match=message):
        damaged(tmp_path, cifar, change)


def test_a_tar_that_ends_early_is_a_clear_error(tmp_path, cifar):
    path = archive_of(written(tmp_path / "C", cifar, ("fog",)), tmp_path / "c.tar")
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(InputError, match=r"cannot be read|is cut"):
        Source(path, "C").array("fog.npy")


def test_a_published_suite_is_of_its_own_dataset():
    assert "test images of 'mnist'" in get_suite("mnist-c-published").on(DIGITS).unavailable()
    assert get_suite("mnist-c-published").on(get_dataset("mnist")).unavailable() == ""
    assert not get_suite("mnist-c-published").default


# ---------------------------------------------------------------------------------------------------- command line


def test_corrupt_writes_mnist_cs_layout_and_goes_on_where_it_was(tmp_path):
    folder = tmp_path / "out"
    arguments = ["corrupt", "digits", "-o", str(folder), "--limit", "20", "-c", "fog", "-c", "shear"]
    assert run(arguments) == 0
    images = np.load(folder / "fog" / "test_images.npy")
    assert images.shape == (20, 8, 8, 1)
    assert np.load(folder / "shear" / "test_labels.npy").tolist() == DIGITS.labels(0, 20).tolist()
    x, _ = DIGITS.batch(0, 20)
    assert np.array_equal(images.transpose(0, 3, 1, 2), corrupt(x.numpy(), "fog", 1, family="mnist"))
    before = (folder / "fog" / "test_images.npy").stat().st_mtime_ns
    (folder / "shear" / "test_images.npy").unlink()
    (folder / "shear" / "test_images.part").write_bytes(b"killed here")
    assert run(arguments) == 0
    assert (folder / "fog" / "test_images.npy").stat().st_mtime_ns == before
    assert np.load(folder / "shear" / "test_images.npy").shape == (20, 8, 8, 1)
    assert not list(folder.rglob("*.part"))


def test_corrupt_does_not_mix_two_suites_in_a_folder(tmp_path, capsys):
    folder = str(tmp_path / "out")
    assert run(["corrupt", "digits", "-o", folder, "--limit", "3", "-c", "fog"]) == 0
    assert run(["corrupt", "digits", "-o", folder, "--limit", "3", "-c", "fog", "--seed", "1"]) == 1
    assert "Write to another folder" in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    assert run(["corrupt", "digits", "-o", str(tmp_path / "full"), "-c", "fog"]) == 1
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"
    assert "other files" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "suite.json").read_text())["suite"] == "mnist-c"


def test_preview_draws_each_corruption(tmp_path):
    result = CliRunner().invoke(group, ["corrupt", "digits", "--preview", str(tmp_path / "p.png"), "--limit", "2"])
    assert result.exit_code == 0, result.output
    sheet = np.asarray(Image.open(tmp_path / "p.png").convert("L"))
    assert sheet.shape == (24 + 15 * 76, 130 + 2 * 2 * 76)
    rows = [sheet[24 + 76 * i : 24 + 76 * i + 72, 130:] for i in range(15)]
    for row in rows:
        assert np.array_equal(row[:, :72], rows[0][:, :72])
        assert not np.array_equal(row[:, 76:148], row[:, :72])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits"], "Give either"),
        (["digits", "-o", "x", "--preview", "y.png"], "Give either"),
        (["digitz", "-o", "x"], "digits"),
        (["digits", "--suite", "cifar-c", "-o", "x"], "have 1"),
        (["digits", "--suite", "mnist-c-published", "-o", "x"], "not generated"),
        (["digits", "-c", "fgo", "-o", "x"], "fog"),
    ],
)
def test_wrong_arguments_are_told(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(group, ["corrupt", *arguments])
    assert result.exit_code != 0
    assert message in result.output or message in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_pictures_are_written_in_imagenet_cs_folders(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (5, 3, 64, 64)).astype(np.uint8), np.array([2, 0, 2, 1, 0])

    def made(name, severity):
        yield np.minimum(images, 50 * int(severity)), labels

    names = list(write(tmp_path, "folders", ("a", "b"), ("1", "2"), made, size=5, classes=("ox", "a b", "cat")))
    assert names == ["a", "b"]
    files, found = read_pictures(tmp_path, "b", "2")
    assert found.tolist() == [0, 0, 1, 2, 2]
    order = [1, 4, 3, 0, 2]
    for file, at in zip(files, order, strict=True):
        assert np.array_equal(np.asarray(Image.open(file)).transpose(2, 0, 1), np.minimum(images[at], 100))
    assert {p.name for p in (tmp_path / "a" / "1").iterdir()} == {"0000-ox", "0001-a-b", "0002-cat"}
    with pytest.raises(InputError, match="layout is"):
        read_pictures(tmp_path, "b", "3")
