"""The measure `clean`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from benchmark.errors import InputError
from benchmark.measures import Inputs, Result, Task, get_measure
from benchmark.measures.clean import CleanParameters

CLEAN = get_measure("clean")


class Outputs(nn.Module):
    """Returns given outputs, whatever the images; noise is added if asked for."""

    def __init__(self, outputs: Tensor, noise: float = 0.0) -> None:
        super().__init__()
        self.outputs, self.noise = outputs, noise

    def forward(self, x: Tensor) -> Tensor:
        return self.outputs + self.noise * torch.randn_like(self.outputs)


def classify(outputs: Tensor, y: Tensor, noise: float = 0.0) -> Result:
    model = Outputs(outputs, noise)
    return CLEAN.run(Task(model, model, torch.zeros(len(y), 1, 2, 2), y, first=100), CleanParameters())


LOGITS = torch.tensor([[2.0, -1.0, 0.0], [0.0, 3.0, 1.0], [0.0, 1.0, 5.0], [4.0, 0.0, 0.0]])


def test_accuracy_is_the_share_of_right_predictions_with_its_exact_interval() -> None:
    result = classify(LOGITS, torch.tensor([0, 1, 2, 1]))
    assert result.arrays["prediction"].tolist() == [0, 1, 2, 0]
    assert result.arrays["correct"].tolist() == [True, True, True, False]
    assert list(result.flags) == []
    (score,) = CLEAN.summarise(Inputs(result.arrays, np.array([0, 1, 2, 1])), CleanParameters())
    exact = stats.binomtest(3, 4).proportion_ci(0.95, method="exact")
    assert (score.name, score.value, score.direction) == ("accuracy", 0.75, "higher")
    assert score.low == pytest.approx(exact.low)
    assert score.high == pytest.approx(exact.high)


def test_probabilities_are_flagged_and_logits_that_only_look_like_them_are_not() -> None:
    y = torch.tensor([0, 1, 2, 1])
    assert [f.code for f in classify(LOGITS.softmax(dim=1), y).flags] == ["softmax-outputs"]
    assert list(classify(LOGITS.sigmoid(), y).flags) == []  # in [0, 1], but not summing to 1
    assert (
        list(classify(LOGITS - LOGITS.sum(1, keepdim=True) / 3 + 1 / 3, y).flags) == []
    )  # summing to 1, not in [0, 1]


def test_a_randomised_model_is_flagged_with_how_much_it_varies() -> None:
    torch.manual_seed(0)
    (flag,) = classify(LOGITS, torch.zeros(4, dtype=torch.int64), noise=0.1).flags
    assert flag.code == "randomised"
    assert flag.value is not None
    assert 0.001 < flag.value < 0.5
    assert list(classify(LOGITS, torch.zeros(4, dtype=torch.int64), noise=1e-6).flags) == []  # rounding


def test_outputs_that_are_not_finite_are_an_error_that_names_the_image() -> None:
    broken = LOGITS.clone()
    broken[2, 1] = torch.nan
    with pytest.raises(InputError, match=r"not finite on 1 of 4 images, first on image 102"):
        classify(broken, torch.zeros(4, dtype=torch.int64))


def test_outputs_that_are_no_logits_are_refused() -> None:
    with pytest.raises(InputError, match=r"shape \(4, 1\) for 4 images"):
        classify(LOGITS[:, :1], torch.zeros(4, dtype=torch.int64))
