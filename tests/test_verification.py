"""The only door to the ledger: what it lets in, what it refuses, and why."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmark.attacks.outward import _SAFETY as SAFETY
from benchmark.errors import InputError, UnsupportedModelError
from benchmark.twin import batch_dependence, twin_of
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


# every machine, batch and precision -----------------------------------------------------------------------------------


class Net(nn.Module):
    """A small random network whose hidden values are shifted by ``offset`` and whose last bias takes that back."""

    def __init__(self, offset=0.0, masked=0):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Parameter(torch.randn(16, 64, generator=generator) / 4)
        self.last = nn.Parameter(torch.randn(64, 5, generator=generator) / 8)
        self.bias = nn.Parameter((-offset * self.last.double().sum(0)).float())
        self.offset, self.masked = offset, masked

    def forward(self, x):
        logits = (x.flatten(1) @ self.first).relu().add(self.offset) @ self.last + self.bias
        return torch.cat([logits, torch.full_like(logits[:, :1], -1e9).expand(-1, self.masked)], dim=1)


def near_boundary(model, count=400, seed=0):
    """Images, their labels, and candidates just beyond the boundary towards another image, by bisection."""
    x = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    exact = twin_of(model)
    y = exact(x.double()).argmax(1)
    other = exact(x.flip(0).double()).argmax(1) != y
    x, far, y = x[other], x.flip(0)[other], y[other]
    low, high = torch.zeros(len(x), 1, 1, 1), torch.ones(len(x), 1, 1, 1)
    for _ in range(40):
        middle = (low + high) / 2
        there = (exact(torch.lerp(x, far, middle).double()).argmax(1) != y).view(-1, 1, 1, 1)
        low, high = torch.where(there, low, middle), torch.where(there, middle, high)
    beyond = (high * (1 + 10 ** torch.linspace(-7, -1, len(x)).view(-1, 1, 1, 1))).clamp(max=1)
    return x, y, torch.lerp(x, far, beyond)


@pytest.mark.parametrize(("offset", "copyable"), [(0.0, True), (0.0, False), (1000.0, True), (30000.0, True)])
def test_what_is_believed_holds_alone_in_any_batch_and_in_float64(offset, copyable):
    model = Net(offset).eval()
    x, y, candidates = near_boundary(model)
    exact = twin_of(model)
    judged = model
    if not copyable:
        judged = Net(offset).eval()
        judged.n_parameters = 1  # as of a model in another process
        assert twin_of(judged) is None
    held = verify(judged, x, y, candidates).holds
    assert 0.1 < held.float().mean() < 1  # some are too near the boundary to tell
    with torch.no_grad():
        assert (exact(candidates.double()).argmax(1) != y)[held].all()
        for size in (1, 3, 64, len(x)):
            answers = torch.cat([model(part) for part in candidates.split(size)])
            assert (answers.argmax(1) != y)[held].all()


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_what_is_believed_beforehand_by_itself_is_believed_among_others(offset):
    """An attack on one image checks its example as one on many does: rounding is measured on as many images."""
    model = Net(offset).eval()
    x, y, candidates = near_boundary(model)
    ones = [slice(i, i + 1) for i in range(len(x))]
    alone = torch.cat([verify(model, x[i], y[i], candidates[i], safety=SAFETY).holds for i in ones])
    among = verify(model, x, y, candidates).holds
    assert alone.sum() > 20
    assert not (alone & ~among).any()


def test_far_from_the_boundary_everything_is_believed_whatever_is_hidden():
    for model in (Net(), Net(1000.0), Net(masked=1)):
        x = torch.rand(50, 1, 4, 4, generator=torch.Generator().manual_seed(1))
        y = model(x).argmax(1)
        clear = (model(x.flip(0)).argmax(1) != y) & (
            model(x).topk(2, dim=1).values.diff(dim=1).abs()[:, 0] > 0.05
        ).flip(0)
        assert clear.sum() > 10
        assert (verify(model, x, y, x.flip(0)).holds == clear)[clear].all()


def test_a_class_that_is_never_predicted_changes_nothing():
    plain, masked = Net().eval(), Net(masked=2).eval()
    x, y, candidates = near_boundary(plain)
    assert torch.equal(verify(plain, x, y, candidates).holds, verify(masked, x, y, candidates).holds)


def test_randomness_is_seen_beside_a_masked_class():
    class Noisy(Net):
        def forward(self, x):
            logits = super().forward(x)
            return torch.cat([logits[:, :5] + 3e-4 * torch.randn_like(logits[:, :5]), logits[:, 5:]], dim=1)

    x = torch.rand(10, 1, 4, 4)
    assert verify(Noisy(masked=1), x, torch.zeros(10, dtype=torch.int64), x).randomised
    assert not verify(Net(masked=1), x, torch.zeros(10, dtype=torch.int64), x).randomised


def test_an_example_that_holds_in_its_batch_only_is_not_believed():
    class Centred(Net):
        def forward(self, x):
            return super().forward(x - 0.5 * x.mean(0, keepdim=True))

    model = Centred().eval()
    x = torch.rand(200, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        y = model(x).argmax(1)
        held = verify(model, x, y, x.flip(0).roll(3, 0)).holds
        alone = torch.cat([model(image[None]) for image in x.flip(0).roll(3, 0)]).argmax(1)
    assert (alone != y)[held].all()
    change, depends = batch_dependence(model, x[:4])
    assert depends
    assert change > 0.01
    for offset in (0.0, 1000.0):
        assert not batch_dependence(Net(offset).eval(), x[:4])[1]


def test_a_single_output_is_refused():
    class One(nn.Module):
        def forward(self, x):
            return x.flatten(1).sum(1, keepdim=True)

    with pytest.raises(UnsupportedModelError, match="1 output"):
        verify(One(), X, Y, image(0.75))


# targets --------------------------------------------------------------------------------------------------------------


class Bands(nn.Module):
    """Classes 0, 1, 2 for means in [0, 1/3], [1/3, 2/3], [2/3, 1]: logits are minus the distance to the middle."""

    def forward(self, x):
        middles = torch.tensor([1 / 6, 1 / 2, 5 / 6], dtype=x.dtype)
        return -(x.flatten(1).mean(1, keepdim=True) - middles).abs()


def test_a_target_must_be_reached_itself():
    x, y = torch.cat([image(0.1)] * 3), torch.tensor([0, 0, 0])
    candidates = torch.cat([image(0.5), image(0.9), image(0.9)])
    targets = torch.tensor([2, 2, 1])
    assert verify(Bands(), x, y, candidates).holds.tolist() == [True, True, True]
    verdict = verify(Bands(), x, y, candidates, targets=targets)
    assert verdict.holds.tolist() == [False, True, False]
    assert [REASONS[i] for i in verdict.reason] == [
        "the target class is not reached",
        "holds",
        "the target class is not reached",
    ]
    assert verdict.distances["linf"].tolist() == [INF, pytest.approx(0.8), INF]


def test_a_misclassified_image_is_at_its_target_only_if_that_is_its_class():
    x, y = torch.cat([image(0.5), image(0.5)]), torch.tensor([0, 0])
    verdict = verify(Bands(), x, y, torch.cat([image(0.9), image(0.9)]), targets=torch.tensor([1, 2]))
    assert verdict.distances["linf"].tolist() == [0.0, pytest.approx(0.4)]
    assert verdict.correct.tolist() == [False, False]


@pytest.mark.parametrize(
    ("targets", "message"),
    [([0], "is its label"), ([3], "classes 0 to 2"), ([-1], "classes 0 to 2"), ([1, 1], "needed"), ([1.0], "needed")],
)
def test_a_wrong_target_is_named(targets, message):
    with pytest.raises(InputError, match=message):
        verify(Bands(), image(0.1), torch.tensor([0]), image(0.9), targets=torch.tensor(targets))
