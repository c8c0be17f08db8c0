"""CLEVER where numbers end: ties, masked and extreme gradients, a thousand classes. Each is a defined state."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark.clever import clever_estimates, clever_scores
from benchmark.clever.targets import choose_targets
from benchmark.errors import InputError
from benchmark.measures import Inputs, Task, get_measure

NORMS = ("linf", "l2", "l1")
SMALL = {"batches": 10, "samples": 8}


def linear(classes: int = 5, scale: float = 1.0) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, classes))
    with torch.no_grad():
        model[1].weight.mul_(scale)
        model[1].bias.mul_(scale)
    return model


def images(n: int = 4) -> Tensor:
    return torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("norm", NORMS)
def test_tied_logits_score_0_and_say_so(norm: str) -> None:
    model = linear(scale=0.0)
    estimates = clever_estimates(model, images(), norm=norm, **SMALL)
    assert (estimates.score == 0).all()
    assert estimates.tied.all()
    assert not estimates.zero.any()


def test_two_tied_classes_of_five_score_0_too() -> None:
    model = linear()
    with torch.no_grad():
        model[1].weight[1], model[1].bias[1] = model[1].weight[0], model[1].bias[0]
        model[1].bias[:2] += 10
    assert (clever_scores(model, images(), norm=NORMS, **SMALL) == 0).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", [1e-24, 1e-18, 1e12, 1e18])
def test_the_scale_of_the_logits_does_not_matter(scale: float, norm: str) -> None:
    scores = clever_scores(linear(scale=scale), images(), norm=norm, **SMALL)
    assert scores == pytest.approx(clever_scores(linear(), images(), norm=norm, **SMALL), rel=1e-4)
    assert (scores > 0).all()


class Steps(nn.Module):
    """No gradient passes the threshold."""

    def forward(self, x: Tensor) -> Tensor:
        hard = x.flatten(1).round() + 0 * x.flatten(1)
        return torch.stack([hard.sum(dim=1) + 1, x.new_zeros(len(x))], dim=1)


def test_a_model_without_gradients_has_no_score() -> None:
    estimates = clever_estimates(Steps(), images(), norm=NORMS, **SMALL)
    assert estimates.zero.all()
    assert np.isnan(estimates.score).all()
    measure, model, y = get_measure("clever"), Steps(), torch.zeros(4, dtype=torch.int64)
    result = measure.run(Task(model, model, images(), y), measure.Parameters(**SMALL))
    assert [flag.code for flag in result.flags] == ["zero-gradients"]
    scores = {s.name: s.value for s in measure.summarise(Inputs(result.arrays, y.numpy()), measure.Parameters())}
    assert scores == {"scored": 1.0, "unknown": 1.0}


def test_a_score_that_is_unknown_is_counted_and_not_dropped_in_silence() -> None:
    measure, model, x = get_measure("clever"), linear(), images(4)
    y = model(x).argmax(dim=1)
    arrays = dict(measure.run(Task(model, model, x, y), measure.Parameters(**SMALL)).arrays)
    arrays["score"] = np.where(np.arange(4) == 1, np.nan, arrays["score"])
    scores = {s.name: s for s in measure.summarise(Inputs(arrays, y.numpy()), measure.Parameters(**SMALL))}
    assert scores["unknown"].value == 0.25
    assert scores["mean_score"].value == pytest.approx(np.nanmean(arrays["score"]))
    assert scores["mean_score"].low < scores["mean_score"].value < scores["mean_score"].high


def test_the_mean_of_one_image_is_known_no_better_than_one_image_can_tell() -> None:
    measure, model, x = get_measure("clever"), linear(), images(1)
    y = model(x).argmax(dim=1)
    arrays = measure.run(Task(model, model, x, y), measure.Parameters(norm="l2", **SMALL)).arrays
    (mean,) = (
        s for s in measure.summarise(Inputs(arrays, y.numpy()), measure.Parameters(norm="l2")) if s.name == "mean_score"
    )
    assert mean.high - mean.low > 4  # of the range from 0 to R = 5


def test_of_many_classes_the_likeliest_are_taken_and_of_few_all() -> None:
    logits = torch.randn(3, 1000, generator=torch.Generator().manual_seed(0))
    labels = logits.argmax(dim=1)
    chosen = choose_targets(logits, labels, "untargeted")
    assert torch.equal(chosen, logits.topk(21, dim=1).indices[:, 1:])
    assert choose_targets(logits[:, :21], logits[:, :21].argmax(dim=1), "untargeted").shape == (3, 20)
    assert choose_targets(logits, labels, "untargeted", most=5000).shape == (3, 999)
    with pytest.raises(InputError, match="most_targets=0"):
        choose_targets(logits, labels, "untargeted", most=0)


def test_the_score_over_the_likeliest_classes_is_that_over_all_where_the_nearest_is_among_them() -> None:
    model, x = linear(60), images()
    few, every = (clever_scores(model, x, norm="l2", most_targets=k, **SMALL) for k in (20, 59))
    assert (few >= every * (1 - 1e-6)).all()
    assert few == pytest.approx(every, rel=1e-6)
