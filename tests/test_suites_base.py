"""The base types of suites: cells, digests, availability."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from benchmark.data import get_dataset
from benchmark.data.suites import Sequences, Suite
from benchmark.errors import InputError
from benchmark.results import GridAxis


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Darkened(Suite):
    def batch(self, cell, start, stop):
        x, y = self.base.batch(start, stop)
        return x / int(cell[1]), y


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Rolled(Sequences):
    def batch(self, sequence, start, stop):
        x, y = self.base.batch(start, stop)
        axis = {"down": 2, "right": 3}[sequence]
        return torch.stack([x.roll(k, axis) for k in range(self.frames)], dim=1), y


DARKENED = Darkened(
    name="darkened",
    title="Darkened",
    version=1,
    axes=(GridAxis("corruption", ("all", "none")), GridAxis("severity", ("1", "2"))),
)
ROLLED = Rolled(name="rolled", title="Rolled", version=1, kinds=GridAxis("kind", ("down", "right")), frames=3)


def test_a_suite_is_of_a_dataset_and_has_the_same_samples_in_every_cell():
    digits = get_dataset("digits")
    suite = DARKENED.on(digits)
    assert list(suite.cells()) == [("all", "1"), ("all", "2"), ("none", "1"), ("none", "2")]
    x, y = suite.batch(("all", "2"), 3, 7)
    assert torch.equal(x * 2, digits.batch(3, 7)[0])
    assert torch.equal(y, digits.batch(3, 7)[1])
    assert suite.size == 500
    assert suite.unavailable() == ""


def test_sequences_have_an_axis_of_frames():
    x, y = ROLLED.on(get_dataset("digits")).batch("right", 0, 4)
    assert x.shape == (4, 3, 1, 8, 8)
    assert torch.equal(x[:, 2], x[:, 0].roll(2, 3))
    assert len(y) == 4


def test_the_registered_suite_is_of_no_dataset():
    with pytest.raises(InputError, match=r"suite\.on\(dataset\)"):
        DARKENED.batch(("all", "1"), 0, 1)


def test_the_digest_depends_on_the_version_the_axes_and_the_data():
    digits = get_dataset("digits")
    fewer = dataclasses.replace(DARKENED, axes=(GridAxis("corruption", ("all",)), DARKENED.axes[1]))
    longer = dataclasses.replace(ROLLED, frames=4)
    seen = [
        DARKENED.on(digits),
        DARKENED.on(digits.split("train")),
        dataclasses.replace(DARKENED, version=2).on(digits),
        fewer.on(digits),
        ROLLED.on(digits),
        longer.on(digits),
    ]
    assert len({suite.digest for suite in seen}) == len(seen)
    assert DARKENED.on(digits).digest == seen[0].digest
