"""Examples of large images have fewer bits where that costs next to nothing, and are themselves what is claimed."""

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.attacks import Attack, AttackResult, run_attack
from benchmark.attacks.rounded import LARGE, MOST, rounded
from benchmark.evidence.store import pack
from benchmark.threat import get_norm
from benchmark.verification import verify

SHAPE = (3, 96, 96)
Y = torch.zeros(3, dtype=torch.int64)


def pictures(shape=SHAPE):
    """Smooth pictures of 256 levels, far from black and white."""
    c, h, w = shape
    waves = [torch.sin(torch.linspace(0, 3 + i, h))[:, None] + torch.cos(torch.linspace(1, 5, w)) for i in range(3)]
    images = torch.stack(waves)[:, None].expand(3, c, h, w) * 0.15 + 0.5
    return (images * 255).round() / 255


class Half(nn.Module):
    """Class 1 beyond a plane; at distance ``near`` of the first picture, and a little more of each other one."""

    def __init__(self, x, near):
        super().__init__()
        self.normal = nn.functional.normalize(
            torch.randn(x[0].numel(), generator=torch.Generator().manual_seed(0)), dim=0
        )
        self.at = nn.functional.linear(x.flatten(1), self.normal).max() + near

    def forward(self, x):
        beyond = nn.functional.linear(x.flatten(1), self.normal.to(x)) - self.at.to(x)
        return torch.stack([torch.zeros_like(beyond), beyond], dim=1)


def nearest(model, x, norm="l2"):
    """The nearest examples of a plane, an eighth of a per mille beyond it."""
    beyond = model.at - nn.functional.linear(x.flatten(1), model.normal)
    way = model.normal if norm == "l2" else model.normal.sign() / model.normal.abs().sum()
    return x + (beyond[:, None] * way * 1.000125).view_as(x)


@pytest.mark.parametrize("near", [0.5, 3.0])
def test_in_l2_a_third_of_raw_for_a_thousandth_of_the_distance(near):
    x = pictures()
    model = Half(x, near)
    given = nearest(model, x)
    found = rounded(model, x, Y, given, norm="l2")
    before, after = verify(model, x, Y, given).distances["l2"], verify(model, x, Y, found).distances["l2"]
    assert torch.isfinite(before).all()
    assert (after <= before * (1 + MOST)).all()
    assert (after >= before * (1 - MOST)).all()
    size = [len(pack(np.arange(3), examples.numpy())) / examples.nbytes for examples in (given, found)]
    assert size[0] > 0.6
    assert size[1] < 1 / 3


def test_it_is_the_last_thing_that_every_attack_does():
    x = pictures()
    model = Half(x, 1.0)
    attack = Attack("exact", 1, "Exact", "", lambda model_, x, y, **_: AttackResult(nearest(model, x)), ("l2", "linf"))
    found = run_attack(attack, model, x, Y, norm="l2").adversarials
    assert torch.equal(found, rounded(model, x, Y, nearest(model, x), norm="l2"))
    assert not torch.equal(found, nearest(model, x))
    assert verify(model, x, Y, found).holds.all()


def test_in_linf_the_largest_change_grows_by_no_more():
    x = pictures()
    model = Half(x, 1.0)
    given = nearest(model, x, "linf")
    distance = get_norm("linf").distance
    found = rounded(model, x, Y, given, norm="linf")
    assert (distance(x, found) <= distance(x, given) * (1 + MOST)).all()
    assert verify(model, x, Y, found).holds.all()


def test_what_rounding_would_break_stays_sample_by_sample():
    x = pictures()
    model = Half(x, 1.0)
    given = nearest(model, x)

    class OfFineBits(nn.Module):
        """The plane, but for the second picture no image counts whose values are coarse."""

        def forward(self, images):
            logits = model(images)
            coarse = ((images * 2**16).frac() == 0).flatten(1).all(dim=1)
            second = (images - x[1].to(images)).flatten(1).norm(dim=1) < 5
            return torch.where((coarse & second)[:, None], torch.tensor([1.0, 0.0]).to(logits), logits)

    found = rounded(OfFineBits(), x, Y, given, norm="l2")
    assert [torch.equal(*pair) for pair in zip(found, given, strict=True)] == [False, True, False]


def test_small_images_sparse_examples_and_what_was_not_found_keep_their_bits():
    small = pictures((1, 128, 128))
    assert small[0].numel() == LARGE
    model = Half(small, 1.0)
    assert torch.equal(rounded(model, small, Y, nearest(model, small), norm="l2"), nearest(model, small))
    x = pictures()
    model = Half(x, 1.0)
    sparse = x.clone()
    sparse[:, 0, :10] = 0.123456
    broken = nearest(model, x).fill_(torch.nan)
    for left in (x.clone(), sparse, broken):
        torch.testing.assert_close(rounded(model, x, Y, left, norm="l2"), left, rtol=0, atol=0, equal_nan=True)


def test_a_target_is_still_reached():
    x = pictures()
    model = Half(x, 1.0)
    targets = torch.ones(3, dtype=torch.int64)
    found = rounded(model, x, Y, nearest(model, x), norm="l2", targets=targets)
    assert not torch.equal(found, nearest(model, x))
    assert verify(model, x, Y, found, targets=targets).holds.all()
