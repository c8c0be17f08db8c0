"""Certificates of real networks, against published figures and an attack."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmark.certificates import trace
from benchmark.certificates.crown import certified
from benchmark.data import get_dataset
from benchmark.library import robustness_curve
from benchmark.threat import Norm
from models_zoo import load_model

pytestmark = pytest.mark.shared

UNION: dict[Norm, float] = {"l1": 1.0, "l2": 0.3, "linf": 0.1}
"""The radii whose union Croce & Hein 2020 certify."""


def test_wong_2018_is_certified_nearly_as_far_as_an_attack_fails(seeded_cache: Path) -> None:
    """Exact robust error on all of MNIST: 4.38 %; certified by the paper's own bound 5.82 %."""
    model = load_model("wong2018-mnist-linf0.1")
    x, y = get_dataset("mnist").load(120)
    safe = certified(trace(model, x), x, y, 0.1, norm="linf")
    attacked = torch.tensor(robustness_curve(model, x, y, norm="linf", effort="quick").distances) <= 0.1
    assert not (safe & attacked).any()
    assert (~safe).double().mean() <= 0.08
    assert (~safe).sum() >= attacked.sum()


def test_mmr_universal_is_certified_in_three_norms_at_once(seeded_cache: Path) -> None:
    """Published on the first 1,000: 12.4 % by attack, 20.8 % certified."""
    model = load_model("croce2020-mmr-universal-mnist")
    x, y = get_dataset("mnist").load(40)
    graph = trace(model, x)
    safe = torch.stack([certified(graph, x, y, eps, norm=norm) for norm, eps in UNION.items()]).all(dim=0)
    assert (~safe).double().mean() <= 0.25
    undefended = load_model("advertorch-mnist-lenet-clean")
    assert not certified(trace(undefended, x[:4]), x[:4], y[:4], 0.1, norm="linf").any()
