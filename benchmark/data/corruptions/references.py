"""Whose errors mCE is normalised by: AlexNet's, as published, for ImageNet-C; named models of the zoo elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from benchmark.data.corruptions.scores import Reference

ALEXNET: Final = Reference(
    name="AlexNet",
    errors={
        "gaussian_noise": (0.69528, 0.82542, 0.93554, 0.98138, 0.99452),
        "shot_noise": (0.71224, 0.85108, 0.93574, 0.98182, 0.99146),
        "impulse_noise": (0.78374, 0.89808, 0.94870, 0.98720, 0.99548),
        "defocus_blur": (0.65624, 0.73202, 0.85036, 0.91364, 0.94714),
        "glass_blur": (0.64308, 0.75054, 0.88806, 0.91622, 0.93344),
        "motion_blur": (0.58430, 0.70048, 0.82108, 0.89750, 0.92638),
        "zoom_blur": (0.70008, 0.76992, 0.80784, 0.84198, 0.87198),
        "snow": (0.71726, 0.88392, 0.86468, 0.91870, 0.94952),
        "frost": (0.61390, 0.79734, 0.88790, 0.89942, 0.93430),
        "fog": (0.67474, 0.76050, 0.84378, 0.87260, 0.94500),
        "brightness": (0.45140, 0.48502, 0.54048, 0.62166, 0.72440),
        "contrast": (0.64548, 0.76150, 0.88874, 0.97760, 0.99270),
        "elastic_transform": (0.52596, 0.70116, 0.55686, 0.64076, 0.80554),
        "pixelate": (0.52218, 0.54620, 0.73728, 0.87092, 0.91262),
        "jpeg_compression": (0.51002, 0.54718, 0.57294, 0.65458, 0.74778),
    },
    clean=0.435,
    source="Hendrycks & Dietterich 2019, arXiv:1903.12261: the errors of torchvision's AlexNet on ImageNet-C",
)

DIGITS_STANDARD: Final = Reference(
    name="digits-standard",
    errors={
        "shot_noise": (0.198,),
        "impulse_noise": (0.264,),
        "glass_blur": (0.464,),
        "motion_blur": (0.088,),
        "shear": (0.344,),
        "scale": (0.786,),
        "rotate": (0.356,),
        "brightness": (0.514,),
        "translate": (0.766,),
        "stripe": (0.794,),
        "fog": (0.678,),
        "spatter": (0.248,),
        "dotted_line": (0.086,),
        "zigzag": (0.142,),
        "canny_edges": (0.916,),
    },
    clean=0.074,
    source="measured here: the embedded clean-trained model on the suite mnist-c (version 1, seed 0) of all 500 digits",
)

LENET_CLEAN: Final = Reference(
    name="advertorch-mnist-lenet-clean",
    errors={
        "shot_noise": (0.0314,),
        "impulse_noise": (0.1626,),
        "glass_blur": (0.0458,),
        "motion_blur": (0.0654,),
        "shear": (0.0355,),
        "scale": (0.0894,),
        "rotate": (0.0876,),
        "brightness": (0.2383,),
        "translate": (0.4751,),
        "stripe": (0.3854,),
        "fog": (0.5118,),
        "spatter": (0.0260,),
        "dotted_line": (0.0437,),
        "zigzag": (0.1699,),
        "canny_edges": (0.3619,),
    },
    clean=0.0111,
    source="measured here: advertorch's clean-trained LeNet on the suite mnist-c (version 1, seed 0), 10,000 images",
)


@dataclass(frozen=True)
class Stated:
    """Errors that are written down, with what they are of.

    Attributes:
        reference: The errors.
        suite: The suite that they are of: of no other constants or size.
        label_space: Whose images; empty for any dataset that the suite can be made of.
    """

    reference: Reference
    suite: str
    label_space: str = ""


STATED: Final = {
    "alexnet": Stated(ALEXNET, "imagenet-c"),
    "stated:digits-standard": Stated(DIGITS_STANDARD, "mnist-c", "digits"),
    "stated:advertorch-mnist-lenet-clean": Stated(LENET_CLEAN, "mnist-c", "mnist"),
}
"""References whose errors are stated, by the name that a protocol uses: they need no other model's result."""

STANDARD: Final = {("imagenet-c", ""): "alexnet"} | {
    (stated.suite, stated.label_space): name for name, stated in STATED.items() if stated.label_space
}
"""(suite, label space) -> what a protocol's ``reference = "standard"`` means there: a clean-trained model."""


def standard_reference(suite: str, label_space: str) -> str:
    """The stated reference of a suite and label space; empty where there is none."""
    return STANDARD.get((suite, label_space), STANDARD.get((suite, ""), ""))
