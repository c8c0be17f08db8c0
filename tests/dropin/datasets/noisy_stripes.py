"""Vertical and horizontal stripes under noise, so that no two images are equally far from the other class."""

import numpy as np

from benchmark.data import Dataset, manifest_digest


def read():
    labels = np.arange(12) % 2
    rows = np.broadcast_to((np.arange(8) % 2 * 0.6 + 0.2)[:, None], (8, 8))
    images = np.stack([rows.T if label else rows for label in labels])[:, None]
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, images.shape)
    return np.rint(255 * (images + noise)).astype(np.uint8), labels


DATASET = Dataset(
    name="noisy_stripes",
    title="Stripes under noise, 8×8 pixels",
    shape=(1, 8, 8),
    classes=("horizontal", "vertical"),
    size=12,
    levels=255,
    digest=manifest_digest(*read(), levels=255),
    eps={"linf": (0.1, 0.3), "mean_change": (0.25,)},
    licence="CC0-1.0",
    source="the drop-in test",
    read=read,
)
