"""ImageNet-C as its authors published it (JPEG files of quality 85): the user's own copy."""

from __future__ import annotations

from typing import Final

from benchmark.data.corruptions.published_pictures import PublishedPictures
from benchmark.data.corruptions.suite import family_axes

SUITE: Final = PublishedPictures(
    name="imagenet-c-published",
    title="ImageNet-C, as published",
    version=1,
    paper="Hendrycks & Dietterich 2019, arXiv:1903.12261",
    licence="CC-BY-4.0",
    default=False,
    of="imagenet",
    own="imagenet_c",
    source="https://zenodo.org/records/2235448",
    archives={  # with the MD5 that Zenodo shows; no other digest is public
        "noise.tar": "e80562d7f6c3f8834afb1ecf27252745",
        "blur.tar": "2d8e81fdd8e07fef67b9334fa635e45c",
        "weather.tar": "33ffea4db4d93fe4a428c40a6ce0c25d",
        "digital.tar": "89157860d7b10d5797849337ca2e5c03",
        "extra.tar": "d492dfba5fc162d8ec2c3cd8ee672984",
    },
    groups={
        "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
        "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
        "weather": ("snow", "frost", "fog", "brightness"),
        "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
        "extra": ("speckle_noise", "gaussian_blur", "spatter", "saturate"),
    },
    axes=family_axes("imagenet"),
)
