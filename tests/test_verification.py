"""The only door to the ledger: what it lets in, what it refuses, and why."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmark.errors import InputError
from benchmark.verification import REASONS, SLACK, verify

NAN, INF = float("nan"), float("inf")


class Threshold(nn.Module):
    """Class 1 where the image's mean exceeds a half, by logits (0, sum − h·w/2)."""

    def forward(self, x):
        lead = (x - 0.5).flatten(1).sum(1)
        return torch.stack([torch.zeros_like(lead), lead], dim=1)


def image(value: float) -> torch.Tensor:
    return torch.full((1, 1, 2, 2), value)


X, Y = image(0.25), torch.tensor([0])


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (image(0.75), "holds"),
        (image(NAN), "not finite"),
        (image(INF), "not finite"),
        (image(1.0 + 1e-7), "outside the box [0, 1]"),
        (torch.tensor([[[[-1e-9, 1.0], [1.0, 1.0]]]]), "outside the box [0, 1]"),
        (image(0.25), "the label does not change"),
        (image(0.5), "the label does not change"),
    ],
)
def test_each_candidate_gets_its_verdict(candidate, reason):
    verdict = verify(Threshold(), X, Y, candidate)
    assert REASONS[int(verdict.reason[0])] == reason
    assert bool(verdict.holds[0]) == (reason == "holds")
    assert (verdict.distances["l2"].item() == INF) == (reason != "holds")


def test_a_lead_within_floating_point_noise_proves_nothing():
    class Scaled(nn.Module):
        """Leads by ``lead`` at logits of size 100."""

        def __init__(self, lead):
            super().__init__()
            self.lead = lead

        def forward(self, x):
            changed = (x.flatten(1).sum(1) > 2).float()
            return torch.stack([torch.full_like(changed, 100.0), 99.0 + changed * (1 + self.lead)], dim=1)

    below = verify(Scaled(100 * SLACK / 2), X, Y, image(0.75))
    above = verify(Scaled(100 * SLACK * 4), X, Y, image(0.75))
    assert REASONS[int(below.reason[0])] == "the label changes only within floating-point slack"
    assert bool(above.holds[0])


def test_distances_are_measured_in_each_norm_in_float64():
    candidate = torch.tensor([[[[0.5, 0.75], [0.75, 0.75]]]])
    verdict = verify(Threshold(), X, Y, candidate)
    assert verdict.distances["linf"].tolist() == [0.5]
    assert verdict.distances["l1"].tolist() == [1.75]
    assert verdict.distances["l2"].item() == pytest.approx((3 * 0.25 + 0.0625) ** 0.5, rel=1e-15)
    assert all(d.dtype == torch.float64 for d in verdict.distances.values())


def test_a_misclassified_image_has_distance_zero_whatever_is_claimed():
    verdict = verify(Threshold(), X, torch.tensor([1]), image(0.0))
    assert verdict.distances["linf"].tolist() == [0.0]
    assert not verdict.correct[0]
    assert not verdict.holds[0]


def test_the_model_is_judged_in_eval_mode_and_left_as_it_was():
    model = nn.Sequential(nn.Dropout(0.99), Threshold()).train()
    model[1].eval()
    assert bool(verify(model, X, Y, image(0.75)).holds[0])
    assert [module.training for module in model.modules()] == [True, True, False]


def test_a_crash_of_the_model_is_no_misclassification():
    class Broken(Threshold):
        def forward(self, x):
            return super().forward(x) * NAN

    with pytest.raises(InputError, match="not finite on 1 clean images"):
        verify(Broken(), X, Y, image(0.75))


def test_non_finite_logits_on_a_candidate_prove_nothing():
    class Fragile(Threshold):
        def forward(self, x):
            logits = super().forward(x)
            return torch.where(logits[:, 1:] > 0, torch.full_like(logits, NAN), logits)

    assert not verify(Fragile(), X, Y, image(0.75)).holds[0]


@pytest.mark.parametrize(
    ("candidates", "message"),
    [(torch.zeros(2, 1, 2, 2), "must be equal"), (torch.zeros(1, 1, 2, 2).double(), "checked as float32")],
)
def test_what_does_not_fit_is_refused(candidates, message):
    with pytest.raises(InputError, match=message):
        verify(Threshold(), X, Y, candidates)


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    verify(Threshold(), X, Y, image(0.75))
    assert torch.rand(1) == expected
