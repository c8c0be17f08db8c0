"""The 8×8 digits of scikit-learn: small enough to come with the package, and for exact solvers."""

from __future__ import annotations

from functools import partial
from typing import Final

from benchmark.data import Dataset, Split
from models_zoo.data import digits

DATASET: Final = Dataset(
    name="digits",
    title="Handwritten digits, 8×8 pixels: the last 500 of scikit-learn's 1,797",
    shape=(1, 8, 8),
    classes=tuple("0123456789"),
    size=500,
    levels=16,
    digest="b668014508477a220a84eb4fd0ea2f0adb071b071daac053b371e082d1c99350",
    eps={"linf": (0.05, 0.1, 0.2), "l2": (0.25, 0.5, 1.0), "l1": (0.5, 1.0, 2.0)},
    licence="CC-BY-4.0",
    source="Alpaydin & Kaynak 1998, UCI Machine Learning Repository, https://doi.org/10.24432/C50P49",
    read=partial(digits, "test"),
    splits={
        "train": Split(
            1297, "9407c89d8ab94b3cac1c89a060978fb184e9b5e26f898732463c8ff7239f2926", partial(digits, "train")
        )
    },
    outside=("fashion_mnist",),
)
