"""The 10,000 test images of MNIST."""

from __future__ import annotations

from functools import partial
from typing import Final

from benchmark.data import Dataset, Split
from models_zoo.data import MNIST_FILES, mnist

DATASET: Final = Dataset(
    name="mnist",
    title="MNIST, 28×28 pixels: the 10,000 test images",
    shape=(1, 28, 28),
    classes=tuple("0123456789"),
    size=10000,
    levels=255,
    digest="3eb39d5746695130583b51aa93f4d2d3bda611c1bab9b61e6d4d27e6072a8224",
    eps={"linf": (0.1, 0.2, 0.3), "l2": (1.0, 1.5, 2.0), "l1": (2.5, 5.0, 10.0)},
    licence="CC-BY-SA-3.0",
    source="LeCun, Cortes & Burges 1998, http://yann.lecun.com/exdb/mnist/",
    read=partial(mnist, "test"),
    files=MNIST_FILES["test"],
    splits={
        "train": Split(
            60000,
            "ee6165ac2c6106f3d4f0be9879887cc55cd2dee1742d302acc79358ae205e505",
            partial(mnist, "train"),
            MNIST_FILES["train"],
        )
    },
    outside=("fashion_mnist",),
)
