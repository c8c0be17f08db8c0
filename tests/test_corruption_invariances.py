"""What no corruption may change, determinism, severities, quirks, and what is refused."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from benchmark.data.corruptions import (
    COMMON,
    CORRUPTIONS,
    EXTRA,
    FAMILIES,
    MNIST_C,
    Quirks,
    corrupt,
    family_corruptions,
    frost,
    levels,
)
from benchmark.data.corruptions.constants import TABLES
from benchmark.errors import InputError, UnknownNameError

ALL = [(family, name) for family in FAMILIES for name in family_corruptions(family) if name != "frost"]


def some_images(n, channels, side, seed=0):
    """Smooth images with edges, so that blurs, warps and contours have something to do."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.random((n, channels, side, side)), (0, 0, 2, 2), mode="wrap")
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    smooth[:, :, side // 3 : side // 2] = 1
    smooth[:, :, :2] = 0
    return np.rint(smooth * 255).astype(np.uint8)


@pytest.fixture
def photographs(monkeypatch):
    """Stand-ins of the right kind for the photographs, which are not here: five pictures."""
    rng = np.random.default_rng(7)
    pictures = tuple(np.round(rng.random((3, 70, 90)) * 255) / 255 for _ in range(5))
    monkeypatch.setattr(frost, "photographs", lambda shrink: pictures)
    return pictures


@pytest.mark.parametrize(("family", "name"), ALL)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 28, 32, 64])
def test_shape_type_and_input_are_kept(family, name, channels, side):
    if CORRUPTIONS[name].colour and channels == 1:
        channels = 3
    if family != "mnist":
        side = max(side, 24)
    x = some_images(2, channels, side)
    before = x.copy()
    for severity in {1, levels(family)}:
        made = corrupt(x, name, severity, family=family)
        assert made.shape == x.shape
        assert made.dtype == np.uint8
        assert np.array_equal(x, before)
        assert not np.array_equal(made, x)


@pytest.mark.parametrize(("family", "name"), [(f, n) for f, n in ALL if f == "imagenet"])
def test_images_of_224_pixels(family, name, photographs):
    made = corrupt(some_images(1, 3, 224), name, 3, family=family)
    assert made.shape == (1, 3, 224, 224)
    assert made.std() > 0


@pytest.mark.parametrize(("family", "name"), ALL)
@pytest.mark.parametrize("value", [0, 255])
def test_black_and_white_images(family, name, value):
    x = np.full((3, 3, 32, 32), value, np.uint8)
    made = corrupt(x, name, levels(family), family=family)
    assert made.dtype == np.uint8
    if name in ("gaussian_blur", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "contrast", "pixelate"):
        assert np.array_equal(made, x), "a blur of a constant is that constant"


def test_an_empty_batch_is_an_empty_batch():
    assert corrupt(np.zeros((0, 1, 28, 28), np.uint8), "fog", 1, family="mnist").shape == (0, 1, 28, 28)


@pytest.mark.parametrize(("family", "name"), [(f, n) for f, n in ALL if levels(f) == 5])
def test_severities_differ_and_lie_on_one_scale(family, name):
    x = some_images(3, 3, 64)
    # Each severity draws for itself: CIFAR-10-C's motion blurs 3 and 4 differ by less than a byte but for their angles.
    made = [corrupt(x, name, severity, family=family) for severity in (0, 1, 2, 3, 4, 5)]
    assert np.array_equal(made[0], x)
    assert len({m.tobytes() for m in made}) == 6
    rows = TABLES[family][name]
    for severity in range(1, 6):
        assert CORRUPTIONS[name].constants(family, severity) == rows[severity - 1]
    between = CORRUPTIONS[name].constants(family, 2.5)
    for a, value, b in zip(rows[1], between, rows[2], strict=True):
        assert min(a, b) <= value <= max(a, b)


def test_an_effect_grows_from_none():
    x = some_images(3, 3, 32).astype(float)
    for name in ("gaussian_noise", "shot_noise", "fog", "brightness", "motion_blur", "contrast"):
        gaps = [
            np.abs(corrupt(x.astype(np.uint8), name, s, family="cifar", stream="path") - x).mean()
            for s in (0.05, 0.5, 1, 3, 5)
        ]
        assert gaps == sorted(gaps)
        assert gaps[0] < 0.35 * gaps[2], name


# ---------------------------------------------------------------------------------------------------- determinism


@pytest.mark.parametrize(("family", "name"), ALL)
def test_pixels_do_not_depend_on_the_batch(family, name):
    side = {"mnist": 28, "cifar": 32, "imagenet64": 64, "imagenet": 64}[family]
    x = some_images(70, 3, side)
    whole = corrupt(x, name, levels(family), family=family, seed=4, images_at=100)
    parts = [
        corrupt(x[a:b], name, levels(family), family=family, seed=4, images_at=100 + a)
        for a, b in ((0, 1), (1, 4), (4, 70))
    ]
    assert np.array_equal(whole, np.concatenate(parts))
    picked = corrupt(x[[5, 2]], name, levels(family), family=family, seed=4, images_at=[105, 102])
    assert np.array_equal(picked, whole[[5, 2]])


def test_blocks_do_not_show(monkeypatch):
    x = some_images(9, 1, 28)
    whole = [corrupt(x, name, 1, family="mnist") for name in MNIST_C]
    monkeypatch.setattr("benchmark.data.corruptions._PIXELS", 3 * 28 * 28)
    for name, made in zip(MNIST_C, whole, strict=True):
        assert np.array_equal(corrupt(x, name, 1, family="mnist"), made), name


DIGEST = """
import hashlib, numpy as np
from benchmark.data.corruptions import *
from benchmark.data.corruptions import family_corruptions
x = (np.arange(2 * 3 * 32 * 32, dtype=np.int64).reshape(2, 3, 32, 32) * 2654435761 % 251).astype(np.uint8)
digest = hashlib.sha256()
for family in ("mnist", "cifar"):
    for name in family_corruptions(family):
        if name != "frost":
            digest.update(corrupt(x, name, 1, family=family, seed=1).tobytes())
print(digest.hexdigest())
"""


def test_pixels_are_the_same_in_another_process(monkeypatch):
    run = [
        subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True, env=None)
        for _ in range(2)
    ]
    x = (np.arange(2 * 3 * 32 * 32, dtype=np.int64).reshape(2, 3, 32, 32) * 2654435761 % 251).astype(np.uint8)
    digest = hashlib.sha256()
    for family in ("mnist", "cifar"):
        for name in family_corruptions(family):
            if name != "frost":
                digest.update(corrupt(x, name, 1, family=family, seed=1).tobytes())
    assert {r.stdout.strip() for r in run} == {digest.hexdigest()}


def test_seed_corruption_severity_and_image_each_change_the_noise():
    x = np.full((2, 3, 32, 32), 128, np.uint8)

    def noise(seed=0, name="gaussian_noise", severity=1, at=0):
        return corrupt(x, name, severity, family="cifar", seed=seed, images_at=at)[0].astype(int).ravel()

    base = noise() - 127.5
    for other in (noise(seed=1), noise(severity=2), noise(at=1), noise(name="speckle_noise")):
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.1


def test_one_stream_gives_one_draw_at_all_severities():
    x = np.full((1, 3, 32, 32), 128, np.uint8)
    first, second = (
        corrupt(x, "gaussian_noise", s, family="cifar", stream="path")[0].astype(int).ravel() for s in (2, 4)
    )
    assert np.corrcoef(first, second)[0, 1] > 0.99


# ---------------------------------------------------------------------------------------------------- quirks, errors


def test_storing_as_jpeg_is_a_choice():
    x = some_images(1, 3, 64)
    plain = corrupt(x, "gaussian_noise", 3, family="imagenet64")
    stored = corrupt(x, "gaussian_noise", 3, family="imagenet64", quirks=Quirks(stored="jpeg"))
    content = io.BytesIO()
    Image.fromarray(plain[0].transpose(1, 2, 0)).save(content, "JPEG", quality=85, optimize=True)
    assert np.array_equal(stored[0].transpose(1, 2, 0), np.asarray(Image.open(content)))
    assert not np.array_equal(stored, plain)


def test_imagenets_elastic_unit_is_244_by_a_slip():
    x = some_images(1, 3, 224)
    published = corrupt(x, "elastic_transform", 3, family="imagenet")
    by_side = corrupt(x, "elastic_transform", 3, family="imagenet", quirks=Quirks(elastic="side"))
    assert not np.array_equal(published, by_side)


def test_the_families_are_the_published_ones():
    assert len(MNIST_C) == len(COMMON) == 15
    assert EXTRA == ("speckle_noise", "gaussian_blur", "spatter", "saturate")
    for family in FAMILIES:
        for name, rows in TABLES[family].items():
            assert len(rows) == levels(family)
            assert all(len(row) == len(CORRUPTIONS[name].fields) for row in rows)
            assert len(CORRUPTIONS[name].neutral) == len(CORRUPTIONS[name].fields)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 28, 28), np.uint8), r"shape \(n, 1 or 3, h, w\), got \(2, 28, 28\)"),
        (np.zeros((2, 2, 28, 28), np.uint8), "1 or 3"),
        (np.zeros((2, 1, 28, 28), np.int64), "int64"),
        (np.full((2, 1, 28, 28), 1.5), "reach from 1.5 to 1.5"),
    ],
)
def test_images_of_another_kind_are_refused(images, message):
    with pytest.raises(InputError, match=message):
        corrupt(images, "fog", 1, family="mnist")


def test_wrong_names_and_severities_are_refused():
    x = np.zeros((1, 1, 28, 28), np.uint8)
    with pytest.raises(InputError, match="severity is 2; the family mnist has 0"):
        corrupt(x, "fog", 2, family="mnist")
    with pytest.raises(UnknownNameError, match="gaussian_blur"):
        corrupt(x, "gausian_blur", 1, family="cifar")
    with pytest.raises(UnknownNameError, match="family"):
        corrupt(x, "fog", 1, family="cifra")
    with pytest.raises(InputError, match="needs colours"):
        corrupt(x, "saturate", 1, family="cifar")
    with pytest.raises(InputError, match="'copy' or 'exchange'"):
        Quirks(glass="swap")
