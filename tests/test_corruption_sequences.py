"""Sequences of frames, and flips along them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from measured import run, value
from torch import nn

from benchmark.data import get_dataset
from benchmark.data.corruptions.sequences import EXTRA_NOISES, KINDS, NOISES, frames_of, perspective, sequence
from benchmark.data.suites import get_suite
from benchmark.errors import UnknownNameError
from benchmark.measures import get_measure


class Alternating(nn.Module):
    """Class by whether the brightest pixel's column is even: flips at each step of a translation."""

    def forward(self, x):
        at = x.sum(dim=(1, 2)).argmax(1)
        logits = torch.zeros(len(x), 10)
        logits[torch.arange(len(x)), at % 2] = 1
        return logits


def test_flips_of_a_translation_by_one_pixel():
    import dataclasses

    from benchmark.data import manifest_digest

    images = np.zeros((3, 1, 28, 28), np.uint8)
    images[:, :, 5, 14] = 255
    labels = np.zeros(3, np.int64)
    dot = dataclasses.replace(
        get_dataset("mnist"), name="dot", size=3, files=(), splits={}, read=lambda: (images, labels),
        digest=manifest_digest(images, labels, levels=255),
    )  # fmt: skip
    measure = get_measure("sequences")
    _, _, summary = run(measure, measure.Parameters(), Alternating(), 3, chunk=2, dataset=dot)
    rates = dict(zip(KINDS, summary.tables["flips"].values, strict=True))
    assert rates["translate"] == 1
    assert rates["brightness"] == 0
    assert value(summary, "flip_rate") == pytest.approx(np.mean(list(rates.values())))
    _, _, other = run(measure, measure.Parameters(difficulty=2), Alternating(), 3, chunk=2, dataset=dot)
    assert dict(zip(KINDS, other.tables["flips"].values, strict=True))["translate"] == 0
    reference = measure.Parameters(reference="constant")
    names = {o.name: o for o in measure.outputs(reference, dot)}
    assert "not mFR" in names["flip_ratio"].help


@pytest.mark.parametrize("kind", [*KINDS, *EXTRA_NOISES])
@pytest.mark.parametrize("family", ["cifar", "imagenet"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sequences_keep_their_shape_whatever_the_batch(kind, family, channels):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (3, channels, 28, 28)).astype(np.uint8)
    made = sequence(x, kind, family=family, seed=1, images_at=10)
    assert made.shape == (3, frames_of(kind, family), channels, 28, 28)
    assert made.dtype == np.uint8
    assert np.array_equal(sequence(x[1:2], kind, family=family, seed=1, images_at=11)[0], made[1])
    still = {"gaussian_noise": 0, "shot_noise": 0, "zoom_blur": 0, "brightness": 15, "rotate": 15}
    still |= dict.fromkeys(EXTRA_NOISES, 0)
    if kind in still:
        assert np.array_equal(made[:, still[kind]], x)
    assert not np.array_equal(made[:, 0], made[:, -1])


def test_the_tilt_keeps_the_centre_and_is_seen_from_one_pixel_too_far():
    """The published camera stands a diagonal and one pixel away, so that even the frame without tilt is smaller."""
    still = perspective(0.0, 28, 28)
    far = np.hypot(28, 28)
    assert np.allclose(
        still / still[2, 2], [[far / (far + 1), 0, 14 / (far + 1)], [0, far / (far + 1), 14 / (far + 1)], [0, 0, 1]]
    )
    for angle in (-0.2, 0.1):
        x, y, w = perspective(angle, 28, 28) @ [14, 14, 1]
        turned = np.array([x / w, y / w])
        assert np.abs(turned - 14).max() < 1


def test_frames_of_the_published_sequences():
    assert [frames_of(k, "imagenet") for k in KINDS] == [31, 31, 31, 31, 31, 31, 41, 31, 31, 31]
    assert [frames_of(k, "cifar") for k in KINDS] == [31, 31, 21, 31, 31, 31, 16, 31, 31, 31]
    assert set(NOISES) == {"gaussian_noise", "shot_noise", *EXTRA_NOISES}
    assert not set(EXTRA_NOISES) & set(KINDS)
    with pytest.raises(UnknownNameError, match="tilt"):
        sequence(np.zeros((1, 1, 28, 28), np.uint8), "tlit", family="cifar")


def test_translation_moves_by_whole_pixels_and_black_comes_in():
    x = np.arange(1, 29, dtype=np.uint8) * np.ones((1, 1, 28, 1), np.uint8)
    made = sequence(x, "translate", family="cifar")[0]
    assert np.array_equal(made[7], x[0])
    assert np.array_equal(made[10][..., 3:], x[0][..., :25])
    assert not made[10][..., :3].any()
    assert np.array_equal(made[0][..., :21], x[0][..., 7:])


SPREAD = {  # standard deviation of a frame of grey 0.5, as the published constants say
    "cifar": {
        "gaussian_noise": 0.02, "gaussian_noise_2": 0.04, "gaussian_noise_3": 0.06, "shot_noise": (0.5 / 700) ** 0.5,
        "shot_noise_2": (0.5 / 400) ** 0.5, "shot_noise_3": (0.5 / 200) ** 0.5, "speckle_noise": 0.5 * 0.05,
        "speckle_noise_2": 0.5 * 0.07, "speckle_noise_3": 0.5 * 0.1,
    },
    "imagenet": {
        "gaussian_noise": 0.03, "gaussian_noise_2": 0.05, "gaussian_noise_3": 0.08, "shot_noise": (0.5 / 300) ** 0.5,
        "shot_noise_2": (0.5 / 120) ** 0.5, "shot_noise_3": (0.5 / 60) ** 0.5, "speckle_noise": 0.5 * 0.05,
        "speckle_noise_2": 0.5 * 0.1, "speckle_noise_3": 0.5 * 0.15,
    },
}  # fmt: skip


@pytest.mark.parametrize("family", ["cifar", "imagenet"])
def test_each_noise_is_as_strong_as_published_in_frames_that_are_draws_of_their_own(family):
    x = np.full((1, 3, 32, 32), 0.5)
    for kind, spread in SPREAD[family].items():
        frames = sequence(x, kind, family=family, seed=5)[0, 1:].astype(float) / 255
        rounding = 1 / 255 / 12**0.5
        assert frames.std() == pytest.approx((spread**2 + rounding**2) ** 0.5, rel=0.02), kind
        assert abs(np.corrcoef(frames[0].ravel(), frames[1].ravel())[0, 1]) < 0.08, kind


def test_the_extra_noises_are_a_suite_of_their_own_that_no_protocol_means_by_a_star():
    for name, ten in (("cifar-p-noises", "cifar-p"), ("imagenet-p-noises", "imagenet-p")):
        extra, own = get_suite(name), get_suite(ten)
        assert not extra.default
        assert extra.sides == own.sides
        assert extra.kinds.labels == EXTRA_NOISES
        assert own.kinds.labels == KINDS
