"""Corruptions against their definitions, scikit-image and Pillow; what no corruption may change; determinism."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage, stats
from skimage import color, filters, transform

from benchmark.data.corruptions import (
    CORRUPTIONS,
    FAMILIES,
    Quirks,
    blur,
    corrupt,
    digital,
    family_corruptions,
    frost,
    sampling,
    shapes,
    unavailable,
    weather,
)
from benchmark.data.corruptions.constants import TABLES
from benchmark.data.corruptions.draws import Draws
from models_zoo.errors import FetchError

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


# ---------------------------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_brightness_of_greys_adds(severity):
    x = some_images(3, 1, 32)
    added = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    expected = np.floor(np.minimum(x / 255 + added, 1) * 255 + 1e-6)
    assert np.array_equal(corrupt(x, "brightness", severity, family="cifar"), expected)


def test_mnist_brightness_is_min_of_x_plus_a_half_and_1():
    x = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    assert np.array_equal(corrupt(x, "brightness", 1, family="mnist"), np.minimum(x + 127.5, 255).astype(np.uint8))


@pytest.mark.parametrize(("name", "channel"), [("brightness", 2), ("saturate", 1)])
@pytest.mark.parametrize("severity", [1, 3, 4, 5])
def test_brightness_and_saturation_are_scikit_images_hsv(name, channel, severity):
    x = some_images(2, 3, 32)
    x[0, :, :4] = 128  # greys, whose hue is the published generators' red
    hsv = color.rgb2hsv(x.transpose(0, 2, 3, 1) / 255)
    row = TABLES["imagenet"][name][severity - 1]
    factor, offset = (1, row[0]) if name == "brightness" else row
    hsv[..., channel] = np.clip(hsv[..., channel] * factor + offset, 0, 1)
    expected = color.hsv2rgb(hsv).transpose(0, 3, 1, 2)
    made = digital.__dict__[name](x / 255, Draws(0, [0, 1]), **dict(zip(CORRUPTIONS[name].fields, row, strict=True)))
    assert np.allclose(np.clip(made, 0, 1), np.clip(expected, 0, 1), atol=1e-12)


def test_contrast_keeps_the_channel_means_and_scales_about_them():
    x = np.zeros((1, 3, 32, 32), np.uint8)
    x[:, :, ::2] = [[[[100]], [[50]], [[200]]]]
    made = corrupt(x, "contrast", 2, family="cifar")  # means 50, 25, 100; factor ½
    assert np.array_equal(made[0, :, 0, 0], [75, 37, 150])
    assert np.array_equal(made[0, :, 1, 0], [25, 12, 50])


def test_translate_moves_by_three_pixels_on_both_axes():
    x = np.zeros((40, 1, 28, 28), np.uint8)
    x[:, :, 14, 14] = 200
    made = corrupt(x, "translate", 1, family="mnist")
    at = {tuple(np.argwhere(image[0])[0]) for image in made}
    assert at == {(11, 11), (11, 17), (17, 11), (17, 17)}
    assert (np.count_nonzero(made, axis=(1, 2, 3)) == 1).all()
    assert made.max() == 200


@pytest.mark.parametrize("name", ["shear", "rotate", "scale"])
def test_affine_maps_are_scikit_images_warp(name):
    x = some_images(12, 1, 28)
    cosine, sine = np.cos(0.4), np.sin(0.4)
    linear = {
        "shear": [np.array([[1, -s * sine], [0, cosine]]) for s in (1, -1)],
        "rotate": [np.array([[cosine, -s * sine], [s * sine, cosine]]) for s in (1, -1)],
        "scale": [np.eye(2) / 0.7],
    }[name]
    made = corrupt(x, name, 1, family="mnist")
    seen = set()
    for image, result in zip(x, made, strict=True):
        matches = []
        for number, matrix in enumerate(linear):
            whole = np.eye(3)
            whole[:2, :2], whole[:2, 2] = matrix, 13.5 - matrix @ [13.5, 13.5]
            expected = transform.warp(image[0] / 255, transform.AffineTransform(whole), order=1, mode="constant")
            if np.abs(np.floor(expected * 255 + 1e-3) - result[0]).max() <= 1:
                matches.append(number)
        assert matches, f"{name} is none of the maps"
        seen.update(matches)
    assert seen == set(range(len(linear)))


def test_stripe_inverts_seven_columns_on_each_side():
    x = some_images(2, 1, 28)
    expected = x.copy()
    expected[..., :7] = 255 - x[..., :7]
    expected[..., 21:] = 255 - x[..., 21:]
    assert np.array_equal(corrupt(x, "stripe", 1, family="mnist"), expected)


def test_dotted_line_is_the_profile_of_a_line_in_runs_of_two_columns():
    made = corrupt(np.zeros((60, 1, 28, 28), np.uint8), "dotted_line", 1, family="mnist")[:, 0]
    starts = set()
    rows, columns = np.arange(28)[:, None], np.arange(28)
    for image in made:
        drawn = image.any(axis=0)
        starts.add(int(np.argmax(drawn)))
        lit = np.flatnonzero(drawn)
        assert not drawn[27]
        assert set(np.diff(lit)) == {1, 3}  # runs of two, two apart
        lines = [
            np.clip(np.log(1 - np.minimum(np.abs(rows - r0 - (r1 - r0) / 27 * columns), 2.2999) / 2.3) + 1, 0, 1)
            for r0 in range(27)
            for r1 in range(27)
        ]  # fmt: skip
        gaps = [np.abs(line[:, lit] * 255 - image[:, lit]).max() for line in lines]
        assert min(gaps) < 1
    assert starts == {0, 2}  # the first blank run begins at column 0 or at column 1


def test_zigzag_is_drawn_between_columns_2_and_25_with_amplitude_2():
    segments = shapes._zigzag(10, 0)
    assert segments[0].tolist() == [2, 10, 4, 12]
    assert segments[1].tolist() == [4, 12, 8, 8]
    for climb in range(-5, 5):
        lines = shapes._lines((28, 28), shapes._zigzag(13, climb))
        assert not lines[:, :1].any()
        assert not lines[:, 26:].any()
        assert lines[:, 2:24].any(axis=0).all()
    assert corrupt(np.zeros((20, 1, 28, 28), np.uint8), "zigzag", 1, family="mnist").any(axis=(1, 2, 3)).all()


def test_pixelate_and_jpeg_are_pillows_own():
    x = some_images(2, 3, 32)
    for severity, (share, quality) in enumerate(
        zip((0.95, 0.9, 0.85, 0.75, 0.65), (80, 65, 58, 50, 40), strict=True), 1
    ):
        for image, small, packed in zip(
            x, corrupt(x, "pixelate", severity, family="cifar"),
            corrupt(x, "jpeg_compression", severity, family="cifar"), strict=True,
        ):  # fmt: skip
            picture = Image.fromarray(image.transpose(1, 2, 0))
            side = int(32 * share)
            expected = picture.resize((side, side), Image.Resampling.BOX).resize((32, 32), Image.Resampling.BOX)
            assert np.array_equal(small.transpose(1, 2, 0), np.asarray(expected))
            content = io.BytesIO()
            picture.save(content, "JPEG", quality=quality)
            assert np.array_equal(packed.transpose(1, 2, 0), np.asarray(Image.open(content)))


def test_gaussian_blur_is_scikit_images():
    x = some_images(1, 3, 32)
    for severity, sigma in enumerate((1, 2, 3, 4, 6), 1):
        expected = filters.gaussian(x[0].transpose(1, 2, 0) / 255, sigma=sigma, channel_axis=-1)
        made = corrupt(x, "gaussian_blur", severity, family="imagenet")[0]
        assert np.array_equal(made, np.floor(expected * 255 + 1e-3).transpose(2, 0, 1))


@pytest.mark.parametrize("side", [28, 32, 33])
@pytest.mark.parametrize("factor", [1.0, 1.01, 1.06, 1.25, 2.0, 3.0])
def test_a_zoom_is_scipys_clipped_about_the_centre(side, factor):
    x = some_images(1, 1, side)[0, 0] / 255
    inner = int(np.ceil(side / factor))
    top = (side - inner) // 2
    whole = ndimage.zoom(x[top : top + inner, top : top + inner], factor, order=1)
    trim = (len(whole) - side) // 2
    expected = whole[trim : trim + side, trim : trim + side]
    assert np.allclose(sampling.zoomed(x[None, None], factor)[0, 0], expected, atol=1e-12)


def test_zoom_blur_is_the_mean_over_numpys_zooms():
    x = some_images(2, 3, 32) / 255
    zooms = np.arange(1, 1.11, 0.01)
    expected = (x + sum(sampling.zoomed(x, float(z)) for z in zooms)) / (len(zooms) + 1)
    assert np.allclose(blur.zoom_blur(x, Draws(0, [0, 1]), stop=1.11, step=0.01), expected, atol=1e-12)


def test_motion_blur_along_a_row_is_a_one_sided_mean():
    x = np.zeros((1, 1, 9, 40))
    x[..., 5] = 1
    made = blur.along(x, np.array([180.0]), radius=10, sigma=3)
    weights = np.exp(-(np.arange(21) ** 2) / 18)
    assert np.allclose(made[0, 0, 4, 5:26], weights / weights.sum(), atol=1e-12)
    other = blur.along(x, np.array([0.0]), radius=10, sigma=3)
    assert np.allclose(other[0, 0, 4, :6], (weights / weights.sum())[5::-1], atol=1e-12)


def test_defocus_is_the_disks_mean():
    kernel = blur.disk(3, 0.1)
    assert kernel.sum() == pytest.approx(1)
    assert np.count_nonzero(kernel > 1e-6) == 29  # whole points within a radius of 3
    x = some_images(1, 1, 40) / 255
    expected = ndimage.correlate(x[0, 0], kernel, mode="mirror")
    assert np.allclose(blur.defocus_blur(x, Draws(0, [0]), radius=3, alias=0.1)[0, 0], expected, atol=1e-12)
    wide = blur.defocus_blur(x, Draws(0, [0]), radius=10, alias=0.5)
    assert np.allclose(wide[0, 0], ndimage.correlate(x[0, 0], blur.disk(10, 0.5), mode="mirror"), atol=1e-12)


@pytest.mark.parametrize("swap", [True, False])
def test_glass_blurs_steps_follow_each_other(swap):
    """Both ways of going through the steps, against the definition pixel by pixel."""
    rng = np.random.default_rng(3)
    places = np.tile(np.arange(35, 6, -1), 2)
    others = places[:, None] + rng.integers(-7, 1, (len(places), 100))
    expected = []
    for image in range(100):
        pixels = np.arange(36)
        for place, other in zip(places, others[:, image], strict=True):
            pixels[place], kept = pixels[other], pixels[place]
            if swap:
                pixels[other] = kept
        expected.append(pixels)
    assert np.array_equal(blur.shuffled(36, places, others, swap=swap), expected)
    assert np.array_equal(blur.shuffled(36, places, others[:, :3], swap=swap), expected[:3])


def test_glass_blur_exchanges_greys_and_overwrites_colours_unless_told():
    x = some_images(1, 1, 32, seed=5)
    x3 = np.repeat(x, 3, axis=1)
    copied = corrupt(x3, "glass_blur", 1, family="cifar")
    exchanged = corrupt(x3, "glass_blur", 1, family="cifar", quirks=Quirks(glass="exchange"))
    assert np.array_equal(corrupt(x, "glass_blur", 1, family="cifar")[:, 0], exchanged[:, 0])
    assert not np.array_equal(copied, exchanged)
    # σ .05 blurs nothing: exchanging keeps the multiset of pixels.
    assert np.array_equal(np.sort(exchanged[0, 0].ravel()), np.sort(x[0, 0].ravel()))
    assert not np.array_equal(np.sort(copied[0, 0].ravel()), np.sort(x[0, 0].ravel()))


def test_fog_is_x_plus_a_field_scaled_back():
    draws = Draws.of("fog", images=range(3))
    whole = weather.plasma(draws, 32, 2.0, 32, 32)
    assert whole.min(axis=(1, 2)).tolist() == [0, 0, 0]
    assert whole.max(axis=(1, 2)).tolist() == [1, 1, 1]
    assert np.array_equal(weather.plasma(draws, 32, 2.0, 10, 7), whole[:, :10, :7])
    x = some_images(3, 3, 32) / 255
    made = weather.fog(x, draws, height=1.5, decay=2.0, size=32)
    top = x.max(axis=(1, 2, 3), keepdims=True)
    assert np.allclose(made, (x + 1.5 * whole[:, None]) * top / (top + 1.5), atol=1e-12)


def test_the_diamond_square_step_is_the_mean_of_four():
    """With no noise after the first two scales, every finer point is the mean of its four neighbours on a torus."""
    field = weather.plasma(Draws(5, [0]), 64, 1e6, 64, 64)[0]
    centres = (field[:-2:2, :-2:2] + field[2::2, :-2:2] + field[:-2:2, 2::2] + field[2::2, 2::2]) / 4
    assert np.allclose(field[1:-2:2, 1:-2:2], centres, atol=1e-5)


def test_elastic_transform_samples_as_scipy_does():
    images = some_images(3, 2, 20) / 255
    rng = np.random.default_rng(1)
    rows, columns = rng.uniform(-15, 40, (2, 3, 20, 20))
    for about_edge, mode in ((True, "reflect"), (False, "mirror")):
        expected = [
            [ndimage.map_coordinates(channel, [r, c], order=1, mode=mode) for channel in image]
            for image, r, c in zip(images, rows, columns, strict=True)
        ]
        assert np.allclose(digital.sampled(images, rows, columns, about_edge=about_edge), expected, atol=1e-12)


def test_the_affine_part_takes_three_corners_to_where_they_were():
    moves = np.random.default_rng(2).uniform(-3, 3, (3, 2))
    matrix = digital._affine(moves, 32, 32)
    corners = np.array([[26, 26], [26, 6], [6, 6]])
    assert np.allclose(np.column_stack([corners + moves, np.ones(3)]) @ matrix.T, corners)


def test_snow_and_spatter_of_water_only_brighten_and_mud_is_brown():
    x = np.full((4, 3, 64, 64), 90, np.uint8)
    assert (corrupt(x, "snow", 3, family="imagenet64") >= 90).all()
    water = corrupt(x, "spatter", 1, family="imagenet")
    assert (water >= 90).all()
    assert (water > 90).any()
    red, green, blue = (corrupt(x, "spatter", 5, family="imagenet")[:, i] for i in range(3))
    covered = red != 90
    assert covered.any()
    assert red[covered].min() == 63
    assert (green[covered] >= 42).all()
    assert blue[covered].min() == 20


def test_contours_find_a_squares_rim():
    image = np.zeros((2, 24, 24))
    image[0, 6:18, 6:18] = 200
    edges = weather.contours(image, low=50, high=150)
    assert not edges[1].any()
    inner = np.zeros((24, 24), bool)
    inner[8:16, 8:16] = True
    outer = np.ones((24, 24), bool)
    outer[4:20, 4:20] = False
    assert not edges[0][inner | outer].any()
    assert edges[0].sum() >= 40


def test_frost_is_a_share_of_the_image_and_a_part_of_a_photograph(photographs):
    x = np.zeros((30, 3, 32, 32), np.uint8)
    made = corrupt(x, "frost", 1, family="cifar")
    windows = [np.floor(0.2 * p * 255 + 1e-3) for p in photographs]
    found = [
        any(
            np.array_equal(made[0], window[:, i : i + 32, j : j + 32])
            for window in windows
            for i in range(39)
            for j in range(59)
        )
    ]
    assert all(found)
    assert len({image.tobytes() for image in made}) > 20
    assert unavailable("frost", "cifar", 3) == ""


def test_photographs_that_cannot_be_had_are_not_asked_for_again_at_every_cell(monkeypatch, tmp_path):
    asked = []

    def gone(file):
        asked.append(file.name)
        raise FetchError("no such host")

    monkeypatch.setenv("CURVEBOARD_CACHE", str(tmp_path))
    monkeypatch.setattr(frost, "fetch", gone)
    monkeypatch.setattr(frost, "_failed", {})
    frost.photographs.cache_clear()
    for _ in range(3):
        assert "no such host" in unavailable("frost", "cifar", 3)
    assert asked == ["frost1.png"]
    (tmp_path / frost.PHOTOGRAPHS[0].sha256).write_bytes(b"")  # somebody has put it there
    assert "no such host" in unavailable("frost", "cifar", 3)
    assert len(asked) == 2


def test_without_its_photographs_there_is_no_frost(monkeypatch):
    def gone(shrink):
        raise FetchError("no such host")

    monkeypatch.setattr(frost, "photographs", gone)
    assert "no such host" in unavailable("frost", "cifar", 3)
    with pytest.raises(FetchError):
        corrupt(some_images(1, 3, 32), "frost", 1, family="cifar")


# ---------------------------------------------------------------------------------------------------- moments


def test_shot_noise_has_poissons_moments():
    x = np.full((200, 1, 28, 28), 77, np.uint8)
    values = corrupt(x, "shot_noise", 1, family="mnist").astype(float)
    levels_seen = np.unique(values)
    assert set(levels_seen) <= {0, 85, 170, 255}
    # Cut at 1: the exact moments of min(Poisson(3 · 77 / 255) / 3, 1).
    counts = np.minimum(np.arange(40), 3) * 85
    chance = stats.poisson.pmf(np.arange(40), 3 * 77 / 255)
    assert values.mean() == pytest.approx((counts * chance).sum(), rel=0.01)
    assert values.var() == pytest.approx((counts**2 * chance).sum() - (counts * chance).sum() ** 2, rel=0.02)


def test_gaussian_and_speckle_noise_have_their_deviations():
    x = np.full((100, 3, 32, 32), 127, np.uint8)
    for name, severity, expected in (("gaussian_noise", 5, 0.10), ("speckle_noise", 5, 0.2 * 127 / 255)):
        values = corrupt(x, name, severity, family="cifar") / 255
        assert values.std() == pytest.approx(expected, rel=0.01)
        assert values.mean() == pytest.approx(126.5 / 255, abs=0.001)  # bytes are cut down, half a level on average


def test_impulse_noise_is_salt_and_pepper_in_equal_parts():
    values = corrupt(np.full((100, 1, 28, 28), 99, np.uint8), "impulse_noise", 1, family="mnist")
    assert set(np.unique(values)) == {0, 99, 255}
    assert (values == 255).mean() == pytest.approx(0.085, abs=0.004)
    assert (values == 0).mean() == pytest.approx(0.085, abs=0.004)
