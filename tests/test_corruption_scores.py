"""MCE, relative mCE, flips and T5D, against published figures and small cases by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from benchmark.data.corruptions import COMMON, EXTRA
from benchmark.data.corruptions.references import ALEXNET
from benchmark.data.corruptions.scores import (
    Reference,
    corruption_errors,
    flips,
    mean_corruption_error,
    mean_of,
    top5_distances,
)
from benchmark.errors import InputError

ALEXNET_MEANS = {
    "gaussian_noise": 0.886428, "shot_noise": 0.894468, "impulse_noise": 0.922640, "defocus_blur": 0.819880,
    "glass_blur": 0.826268, "motion_blur": 0.785948, "zoom_blur": 0.798360, "snow": 0.866816, "frost": 0.826572,
    "fog": 0.819324, "brightness": 0.564592, "contrast": 0.853204, "elastic_transform": 0.646056,
    "pixelate": 0.717840, "jpeg_compression": 0.606500,
}  # fmt: skip

# ResNet-50 of Rusak et al. 2020 (arXiv:2001.06057): top-1 accuracy under each corruption in %, and its CE.
ORDER = (
    "brightness", "contrast", "defocus_blur", "elastic_transform", "fog", "frost", "gaussian_noise", "glass_blur",
    "impulse_noise", "jpeg_compression", "motion_blur", "pixelate", "shot_noise", "snow", "zoom_blur",
)  # fmt: skip
RESNET50 = {
    "clean": (
        (68.02, 39.06, 38.75, 45.25, 45.83, 38.14, 29.29, 26.79, 23.81, 53.41, 38.67, 44.79, 27.03, 32.53, 36.24),
        (56.64, 71.43, 74.71, 84.75, 66.11, 74.84, 79.77, 88.61, 82.58, 76.82, 78.03, 76.92, 81.58, 77.83, 79.86),
        39.17,
        76.70,
    ),
    "ANT": (
        (69.66, 42.12, 47.02, 48.89, 44.20, 45.50, 64.77, 36.98, 63.95, 62.36, 43.30, 54.65, 65.73, 36.71, 40.56),
        (53.74, 67.84, 64.62, 79.11, 68.10, 65.94, 39.74, 76.28, 39.07, 62.05, 72.14, 63.18, 38.31, 73.01, 74.46),
        51.09,
        62.51,
    ),
    "ANT-SIN": (
        (68.91, 46.51, 46.47, 50.23, 48.98, 46.86, 64.45, 37.54, 63.45, 60.09, 45.84, 57.41, 64.99, 42.07, 39.25),
        (55.06, 62.69, 65.29, 77.04, 62.27, 64.29, 40.10, 75.59, 39.61, 65.81, 68.90, 59.33, 39.14, 66.83, 76.09),
        52.20,
        61.20,
    ),
    "Gauss_mult": (
        (68.45, 40.95, 43.07, 47.96, 45.39, 42.05, 66.96, 32.74, 63.62, 59.86, 40.51, 50.49, 65.43, 33.73, 37.20),
        (55.89, 69.20, 69.44, 80.55, 66.65, 70.11, 37.27, 81.40, 39.43, 66.18, 75.70, 68.97, 38.64, 76.45, 78.66),
        49.23,
        64.97,
    ),
    "Gauss_sigma_0.5": (
        (67.83, 39.32, 46.66, 49.60, 43.61, 43.75, 59.21, 37.79, 56.76, 61.89, 43.61, 54.83, 59.28, 35.30, 41.23),
        (56.98, 71.12, 65.06, 78.01, 68.83, 68.05, 46.02, 75.29, 46.87, 62.83, 71.75, 62.92, 45.53, 74.64, 73.62),
        49.38,
        64.50,
    ),
    "Speckle": (
        (67.98, 40.59, 42.55, 46.96, 45.55, 41.21, 54.93, 31.63, 49.03, 57.90, 39.86, 48.67, 58.07, 34.05, 36.48),
        (56.71, 69.63, 70.07, 82.10, 66.46, 71.12, 50.85, 82.74, 55.24, 69.42, 76.52, 71.51, 46.87, 76.08, 79.57),
        46.36,
        68.33,
    ),
}


@pytest.mark.parametrize("name", COMMON)
def test_alexnets_published_means_are_those_of_its_75_errors(name):
    assert f"{mean_of(ALEXNET.errors, [name]).value:.6f}" == f"{ALEXNET_MEANS[name]:.6f}"


def test_alexnet_is_1_by_itself_and_rises_and_falls():
    assert mean_corruption_error(ALEXNET.errors, ALEXNET, COMMON).value == pytest.approx(1, abs=1e-15)
    falls = [n for n, errors in ALEXNET.errors.items() if list(errors) != sorted(errors)]
    assert falls == ["snow", "elastic_transform"]


@pytest.mark.parametrize("model", RESNET50)
def test_resnet50s_published_mce_to_the_last_digit(model):
    accuracies, ces, mean_accuracy, mce = RESNET50[model]
    errors = {name: 1 - accuracy / 100 for name, accuracy in zip(ORDER, accuracies, strict=True)}
    assert f"{100 * mean_corruption_error(errors, ALEXNET, COMMON).value:.2f}" == f"{mce:.2f}"
    assert f"{100 - 100 * mean_of(errors, COMMON).value:.2f}" == f"{mean_accuracy:.2f}"
    found = corruption_errors(errors, ALEXNET)
    # The accuracies are printed to 0.01 %, so a CE of them is known to 0.005 / 0.56 + 0.005.
    assert all(100 * found[name] == pytest.approx(ce, abs=0.0141) for name, ce in zip(ORDER, ces, strict=True))


def test_relative_mce_subtracts_each_ones_clean_error():
    reference = Reference("r", {"a": (0.5, 0.7), "b": (0.3, 0.3)}, clean=0.1)
    errors = {"a": (0.4, 0.4), "b": (0.2, 0.4)}
    assert mean_corruption_error(errors, reference, ["a", "b"], clean=0.2).value == pytest.approx(
        (0.2 / 0.5 + 0.1 / 0.2) / 2
    )
    with pytest.raises(InputError, match="clean error of r is not known"):
        mean_corruption_error(errors, Reference("r", reference.errors), ["a"], clean=0.2)


@pytest.mark.parametrize(("corruption", "severity"), list(itertools.product(COMMON[:3], range(5))))
def test_a_missing_cell_is_named_and_never_a_smaller_mean(corruption, severity):
    errors = {name: np.array(values) for name, values in ALEXNET.errors.items()}
    errors[corruption][severity] = np.nan
    missing = mean_of(errors, COMMON)
    assert missing.value is None
    assert missing.missing == (f"{corruption} at {severity + 1}",)
    assert mean_corruption_error(errors, ALEXNET, COMMON).value is None


def test_a_missing_corruption_is_named_whether_of_the_model_or_of_the_reference():
    errors = {name: values for name, values in ALEXNET.errors.items() if name != "frost"}
    assert mean_of(errors, COMMON).missing == ("frost",)
    fewer = Reference("fewer", errors)
    assert mean_corruption_error(ALEXNET.errors, fewer, COMMON).missing == ("frost",)
    assert mean_of({}, []).value is None
    assert mean_corruption_error(dict.fromkeys((*COMMON, *EXTRA), 0.5), ALEXNET, (*COMMON, *EXTRA)).missing == EXTRA


def test_flips_are_against_the_frame_before_or_the_first():
    classes = [[1, 1, 2, 2, 1], [3, 3, 3, 3, 3]]
    assert flips(classes, from_first=False).tolist() == [0.5, 0]
    assert flips([[1, 2, 2, 2, 1]], from_first=True).tolist() == [0.75]
    # Every second frame: 1 2 1 flips twice, 1 2 once, as the published evaluation counts.
    assert flips([[1, 1, 2, 2, 1]], from_first=False, every=2).tolist() == [1.0]
    with pytest.raises(InputError, match="more frames"):
        flips([[1]], from_first=False)


def definition(before, after):
    """T5D as the paper writes it."""
    order = np.argsort(-np.asarray(before), kind="stable")
    rank = np.argsort(np.argsort(-np.asarray(after), kind="stable"))
    sigma = [int(rank[c]) + 1 for c in order]
    return sum(
        1 <= j - 1 <= 5
        for i in range(1, min(5, len(sigma)) + 1)
        for j in range(min(i, sigma[i - 1]) + 1, max(i, sigma[i - 1]) + 1)
    )


@pytest.mark.parametrize("classes", [3, 5, 6, 10, 100])
def test_top5_distance_is_the_papers_sum(classes):
    rng = np.random.default_rng(classes)
    logits = rng.normal(size=(20, 4, classes))
    expected = [np.mean([definition(s[i], s[i + 1]) for i in range(3)]) for s in logits]
    assert np.allclose(top5_distances(logits, from_first=False), expected)
    first = [np.mean([definition(s[0], s[i]) for i in (1, 2, 3)]) for s in logits]
    assert np.allclose(top5_distances(logits, from_first=True), first)


def test_top5_distance_sees_no_change_beyond_the_first_five():
    logits = np.array([[[9, 8, 7, 6, 5, 4, 3], [9, 8, 7, 6, 5, 1, 2]], [[9, 8, 7, 6, 5, 4, 3], [8, 9, 7, 6, 5, 4, 3]]])
    assert top5_distances(logits, from_first=False).tolist() == [0, 2]
