"""``curveboard dataset``: folders, tables, arrays and Parquet of one's own images; and what is said of bad ones."""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.cli import run
from benchmark.data import get_dataset
from benchmark.data.own.pictures import Picture, Preparation, decode
from benchmark.errors import BenchmarkError, InputError
from benchmark.workspace import Workspace

RED, GREEN, BLUE = (220, 20, 20), (20, 200, 20), (20, 20, 220)


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace, the current folder."""
    monkeypatch.setenv("CURVEBOARD_PLUGINS", "")
    Workspace.create(tmp_path / "board")
    monkeypatch.chdir(tmp_path / "board")
    return tmp_path / "board"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three classes with three pictures each, of different sizes."""
    for name, colour in {"red": RED, "green": GREEN, "blue": BLUE}.items():
        for k in range(3):
            save(tmp_path / "photos" / name / f"{k}.png", plain(colour, 40 + k, 50 + 2 * k))
    return tmp_path / "photos"


def plain(colour: tuple[int, ...], height: int, width: int, mode: str = "RGB") -> Image.Image:
    """A picture of one colour, with a corner that tells them apart."""
    image = Image.new(mode, (width, height), colour)
    image.putpixel((0, 0), tuple(255 - c for c in colour))
    return image


def save(path: Path, image: Image.Image, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def add(path: Path, *options: str, name: str = "own") -> int:
    return run(["dataset", "add", str(path), "--name", name, *options])


def own(name: str = "own"):
    return get_dataset(name)


def test_a_folder_of_classes_is_a_dataset_by_one_command(board, photos, capsys):
    assert add(photos, "--size", "32") == 0
    printed = capsys.readouterr().out
    assert re.search(r"0 +blue +3\n1 +green +3\n2 +red +3", printed)
    assert "40×50 (3), 41×52 (3), 42×54 (3)" in printed
    dataset = own()
    assert (dataset.classes, dataset.shape, dataset.size) == (("blue", "green", "red"), (3, 32, 32), 9)
    x, y = dataset.load()
    centre = (x[:, :, 16, 16] * 255).round().int().tolist()
    assert [tuple(c) for c in centre] == [(BLUE, GREEN, RED)[label] for label in y.tolist()]
    assert len(set(y[:6].tolist())) > 1  # mixed, so that a slice is of several classes
    assert dataset.eps["linf"] == (8 / 255,)


def test_it_is_evaluated_and_shown_like_any_other(board, photos, capsys):
    assert add(photos, "--size", "16", "--eps", "linf=8/255,0.1", "--eps", "l2=0.5") == 0
    assert run(["list", "datasets"]) == 0
    assert "own" in capsys.readouterr().out
    assert run(["dataset", "show", "own", "--check"]) == 0
    assert "Every image is the one of the digest" in capsys.readouterr().out
    assert dict(own().eps) == {"linf": (8 / 255, 0.1), "l2": (0.5,)}
    assert run(["dataset", "remove", "own"]) == 0
    assert "own" not in __import__("benchmark.data").data.all_datasets()
    assert (photos / "red" / "0.png").exists()


def test_the_pixels_are_those_of_torchvisions_resize_and_crop():
    """Resize(5) then CenterCrop(4) of a 9 × 7 picture: 6 × 5 by bilinear scaling, cut from row 1, column 0."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8))
    made = Preparation((4, 4), 5).apply(Picture(picture))
    expected = np.asarray(picture.resize((5, 6), Image.Resampling.BILINEAR))[1:5, 0:4]
    np.testing.assert_array_equal(made, expected.transpose(2, 0, 1))


def test_a_changed_image_is_noticed_and_only_when_it_is_read(board, photos):
    assert add(photos, "--size", "16") == 0
    dataset = own()
    keys = [line.split(",")[0] for line in (board / "datasets/own/test.csv").read_text().splitlines()[1:]]
    save(photos / keys[4], plain((1, 2, 3), 40, 50))
    assert len(dataset.batch(0, 4)[0]) == 4
    with pytest.raises(InputError, match=rf"own: {keys[4]} has changed since the dataset was added"):
        dataset.batch(4, 5)
    (photos / keys[5]).unlink()
    with pytest.raises(InputError, match=rf"{keys[5]} is in the manifest, but there is no such file"):
        dataset.batch(5, 6)


def test_an_edited_manifest_is_noticed(board, photos):
    assert add(photos, "--size", "16") == 0
    path = board / "datasets/own/test.csv"
    lines = path.read_text().splitlines()
    key, label, *rest = lines[1].split(",")
    path.write_text("\n".join([lines[0], ",".join([key, str((int(label) + 1) % 3), *rest]), *lines[2:], ""]))
    with pytest.raises(InputError, match="was read with the digest"):
        own().batch(0, 1)


def test_splits_are_folders_called_so(board, photos, tmp_path):
    for split in ("train", "validation"):
        for name in ("a", "b"):
            for k in range(2):
                save(tmp_path / "split" / split / name / f"{k}.png", plain((k, len(name), len(split)), 8, 8))
    assert add(tmp_path / "split") == 0
    dataset = own()
    assert (dataset.at, dataset.size, dataset.split("train").size) == ("val", 4, 4)
    assert dataset.digest != dataset.split("train").digest


def test_a_table_of_labels_in_its_order(board, photos, capsys):
    (photos / "labels.csv").write_text("﻿File;Label\nred/0.png;r\nblue/1.png;b\ngreen/2.png;g\nred/1.png;r\n")
    assert add(photos, "--size", "16") == 0
    assert "5 images of the folder are not in labels.csv" in capsys.readouterr().out
    assert own().classes == ("b", "g", "r")
    assert own().labels().tolist() == [2, 0, 1, 2]


def test_of_many_classes_the_first_are_told_and_how_many_more(board, photos, tmp_path, capsys):
    names = [f"class-{i:03}" for i in range(1000)] + ["red", "green", "blue"]
    (tmp_path / "classes.txt").write_text("\n".join(names))
    assert add(photos, "--size", "16", "--classes", str(tmp_path / "classes.txt")) == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) < 30
    assert "class-009" in said.partition("… and 993 more classes")[0]
    count = own().size
    assert f"… and 993 more classes with {count} images" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty; its first line names the columns"),
        ("a,b\n1,2\n", "has the columns a, b; which is the file"),
        ("file,label\nred/0.png,r\nred/0.png,g\n", "line 3: red/0.png is there already, in line 2"),
        ("file,label\nred/0.png\n", "line 2: 1 fields where the first line has 2"),
        ("file,label\nred/9.png,r\nblue/0.png,b\n", "red/9.png: there is no such file"),
        ("file,label\n../secret.png,r\nblue/0.png,b\n", "its path leads out of the folder"),
        ("file,label\nred/0.png,-1\nblue/0.png,1\n", "The label -1 is none of the 2 classes"),
        ("file,label\nred/0.png,r\n", "There is one class only"),
    ],
)
def test_a_bad_table_is_told_where(board, photos, capsys, text, said):
    (photos / "labels.csv").write_text(text)
    assert add(photos, "--size", "16") == 1
    assert said in capsys.readouterr().err
    assert not (board / "datasets/own").exists()
    assert list((board / "datasets").iterdir()) == []


@pytest.mark.parametrize("save_arrays", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("layout", ["nhwc", "nchw", "nhw"])
def test_an_npz_is_memory_mapped(board, tmp_path, save_arrays, layout):
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 9, 1 if layout == "nhw" else 3), dtype=np.uint8)
    stored = {"nhwc": images, "nchw": images.transpose(0, 3, 1, 2), "nhw": images[..., 0]}[layout]
    y = np.arange(20) % 4
    save_arrays(tmp_path / "a.npz", x_test=stored, y_test=y, x_train=stored[:8], y_train=y[:8])
    assert add(tmp_path / "a.npz") == 0
    np.testing.assert_array_equal(own().stored(0, 20), images.transpose(0, 3, 1, 2))
    assert own().labels().tolist() == y.tolist()
    assert own().split("train").size == 8


def test_the_values_of_an_array_are_what_was_said(board, tmp_path, capsys):
    shares = np.linspace(0, 1, 4 * 16).reshape(4, 4, 4)
    np.savez(tmp_path / "a.npz", images=shares.astype(np.float32), labels=np.arange(4) % 2)
    assert add(tmp_path / "a.npz", name="shares") == 0
    assert "rounded to 255 levels" in capsys.readouterr().out
    np.testing.assert_array_equal(own("shares").stored(0, 4)[:, 0], np.rint(shares * 255))
    np.savez(tmp_path / "b.npz", images=np.rint(shares * 16).astype(np.uint8), labels=np.arange(4) % 2)
    assert add(tmp_path / "b.npz", "--levels", "16", name="sixteen") == 0
    assert abs(own("sixteen").load()[0][:, 0].numpy() - shares).max() < 1 / 32 + 1 / 510
    np.savez(tmp_path / "c.npz", images=shares - 0.5, labels=np.arange(4) % 2)
    assert add(tmp_path / "c.npz", name="normalised") == 1
    assert "normalisation belongs to the model" in capsys.readouterr().err


def test_an_array_of_objects_is_never_unpickled(board, tmp_path, capsys):
    np.savez(tmp_path / "a.npz", images=np.array([[[print]]], dtype=object), labels=np.arange(1))
    assert add(tmp_path / "a.npz") == 1
    assert "pickled Python objects, which are never read" in capsys.readouterr().err
    (tmp_path / "b.npz").write_bytes(b"PK\3\4 cut")
    assert add(tmp_path / "b.npz") == 1
    assert "cannot be read as an .npz" in capsys.readouterr().err


def test_parquet_files_as_hugging_face_has_them(board, photos, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    files = sorted(photos.rglob("*.png"))
    column = pyarrow.array([{"bytes": file.read_bytes(), "path": file.name} for file in files])
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cold", "warm"]}}
    table = pyarrow.table({"image": column, "label": [k % 2 for k in range(len(files))]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    (tmp_path / "hub/data").mkdir(parents=True)
    for split in ("train", "test"):
        parquet.write_table(table, tmp_path / f"hub/data/{split}-00000-of-00001.parquet")
    assert add(tmp_path / "hub", "--size", "16") == 0
    assert own().classes == ("cold", "warm")
    assert own().split("train").size == own().size == 9
    assert own().labels().tolist() == [k % 2 for k in range(9)]


def test_parquet_without_pyarrow_says_what_to_install(board, tmp_path, monkeypatch, capsys):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    assert add(tmp_path / "a.parquet") == 1
    assert "pip install 'curveboard[parquet]'" in capsys.readouterr().err


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def test_what_had_to_be_done_to_a_picture_is_told():
    lying = Image.new("RGB", (4, 2), RED)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90°
    turned = decode(encoded(lying, "JPEG", exif=exif))
    assert (turned.image.size, list(turned.notes)) == ((2, 4), ["turned upright, as their EXIF orientation says"])
    glass = decode(encoded(Image.new("RGBA", (2, 2), (0, 0, 0, 0)), "PNG"))
    assert glass.image.getpixel((0, 0)) == (255, 255, 255)
    assert glass.notes == {"transparent parts laid over white"}
    print_ = decode(encoded(Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "JPEG"))
    assert print_.image.getpixel((0, 0))[0] > 200
    assert print_.notes == {"CMYK converted to RGB"}
    deep = decode(encoded(Image.fromarray(np.array([[0, 65535], [257, 32896]], dtype=np.uint16)), "PNG"))
    assert (np.asarray(deep.image).tolist(), deep.grey) == ([[0, 255], [1, 128]], True)
    assert deep.notes == {"16 bits a channel: rounded to 8"}
    frames = [Image.new("L", (2, 2), k) for k in (0, 255)]
    moving = decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert moving.notes == {"several frames: the first is taken"}


def bomb() -> bytes:
    """A PNG of some bytes that says it has 10^10 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    size = (100_000).to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + size + b"\x08\x00\x00\x00\x00") + chunk(b"IDAT", b"")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"no picture", "it is no picture of a known kind"),
        (bomb(), "it has more than 89,478,485 pixels"),
        (encoded(plain(RED, 64, 64), "JPEG")[:400], "it cannot be decoded"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is no picture of a known kind"),
    ],
    ids=["empty", "text", "bomb", "cut", "program"],
)
def test_bad_pictures_are_named_and_left_out_only_when_told(board, photos, capsys, content, said):
    (photos / "red" / "bad.png").write_bytes(content)
    assert add(photos, "--size", "16") == 1
    error = capsys.readouterr().err
    assert "1 pictures cannot be used" in error
    assert f"red/bad.png: {said}" in error
    assert add(photos, "--size", "16", "--skip-bad") == 0
    assert own().size == 9


def test_a_link_out_of_the_folder_is_not_followed_unless_told(board, photos, tmp_path, capsys):
    save(tmp_path / "elsewhere.png", plain((9, 9, 9), 40, 40))
    (photos / "red" / "link.png").symlink_to(tmp_path / "elsewhere.png")
    assert add(photos, "--size", "16") == 1
    assert "red/link.png: it is a link that leads out of the folder" in capsys.readouterr().err
    assert add(photos, "--size", "16", "--follow-links") == 0
    assert own().size == 10


def test_names_of_any_language_and_empty_classes(board, photos, capsys):
    save(photos / "été 雪" / "ñandú.png", plain((9, 9, 9), 40, 40))
    (photos / "yellow").mkdir()
    (photos / "yellow" / "notes.txt").write_text("later")
    assert add(photos, "--size", "16", "--preview", "sheet.png") == 0
    printed = capsys.readouterr().out
    assert own().classes == ("blue", "green", "red", "yellow", "été 雪")
    assert "1 of 5 classes have no image in the split test: yellow" in printed
    assert "1 files are no images by their names" in printed
    with Image.open("sheet.png") as sheet:
        assert sheet.width > 100


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes")
def test_a_file_name_that_is_no_text_is_told(board, photos, capsys):
    (photos / "red" / os.fsdecode(b"\xff.png")).write_bytes(b"")
    assert add(photos, "--size", "16") == 1
    assert "is no UTF-8; rename the file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--size", "16", "--resize", "20"], "Give either --size, or --resize and --crop"),
        (["--size", "0"], "is no size"),
        (["--eps", "l7=1"], "the norm is one of"),
        (["--eps", "linf=-1"], "give positive numbers"),
        (["--crop", "60"], "the picture has 40×50 pixels where 60×60 are cut out"),
        (["--classes", "blue,green"], "The label 'red' is none of the 2 classes"),
        (["--label-space", "digits", "--size", "8"], "The classes are not those of 'digits'"),
        (["--name", "digits", "--size", "8"], "There is a dataset called 'digits' already"),
        (["--name", "../up", "--size", "8"], "is no name for a dataset"),
    ],
)
def test_bad_options_are_told(board, photos, capsys, options, said):
    assert add(photos, *options) in {1, 2}
    assert said in capsys.readouterr().err


def test_a_taken_name_and_its_replacement(board, photos, capsys):
    assert add(photos, "--size", "16") == 0
    first = own().digest
    assert add(photos, "--size", "8") == 1
    assert "choose another name, or give --replace" in capsys.readouterr().err
    assert add(photos, "--size", "8", "--replace") == 0
    assert own().shape == (3, 8, 8)
    assert own().digest != first


def test_a_dry_run_writes_nothing_and_needs_no_workspace(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert add(photos, "--size", "16", "--dry-run") == 0
    assert "Nothing was written" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[images]", "[images", "is not valid TOML"),
        ('name = "own"', 'name = "other"', "its folder is named after it"),
        ('name = "own"', "name = 3", "name = 3 is not understood"),
        ("count = 9", 'count = "many"', "is no whole description of a dataset"),
        ('linf = ["8/255"]', 'linf = ["0/255"]', "is no positive number"),
        ("[splits.test]", "[splits.else]", "is no whole description of a dataset"),
    ],
)
def test_a_damaged_description_is_told(board, photos, old, new, said):
    assert add(photos, "--size", "16") == 0
    path = board / "datasets/own/dataset.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(BenchmarkError, match=said):
        own()


def test_the_same_image_under_two_classes_is_told(board, photos, capsys):
    (photos / "green" / "copy.png").write_bytes((photos / "red" / "0.png").read_bytes())
    assert add(photos, "--size", "16") == 0
    assert "are there already; 1 are under different classes" in capsys.readouterr().out


def test_a_compressed_archive_that_lost_its_array_is_told(board, tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((4, 2, 2), dtype=np.uint8), labels=np.arange(4) % 2)
    assert add(tmp_path / "a.npz") == 0
    with zipfile.ZipFile(tmp_path / "a.npz", "w"):
        pass
    with pytest.raises(InputError, match="has no array 'images' any more"):
        own().batch(0, 1)
