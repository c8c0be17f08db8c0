"""Claimed figures: shares on cards, per cent in RobustBench's files; neither is ever taken for the other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models_zoo.cards import check_share
from models_zoo.claims import card_in, robustbench_claims
from models_zoo.errors import CardError


@pytest.mark.parametrize(("value", "hint"), [(93.0, "93 % is 0.93"), (-0.1, "from 0 to 1"), (9300.0, "from 0 to 1")])
def test_a_share_beyond_0_to_1_is_refused_with_what_it_would_be(value: float, hint: str) -> None:
    with pytest.raises(CardError, match=hint):
        check_share("clean_accuracy", value, "claims.value")
    check_share("clean_accuracy", 0.93, "claims.value")
    check_share("parameters", value, "claims.value")


def card(folder: Path, **fields: str) -> Path:
    path = folder / "Linf" / "model.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"eps": "8/255", **fields}), encoding="utf-8")
    return path


def test_robustbench_gives_per_cent(tmp_path: Path) -> None:
    clean, robust = robustbench_claims(card(tmp_path, clean_acc="94.78", autoattack_acc="0.00"))
    assert (clean.value, robust.value) == (pytest.approx(0.9478), 0.0)


@pytest.mark.parametrize("value", ["0.9478", "9478", "-3"])
def test_what_is_no_percentage_in_a_robustbench_file_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(CardError, match="needed is a percentage"):
        robustbench_claims(card(tmp_path, clean_acc=value))


def test_a_model_finds_its_card_in_the_whole_tree(tmp_path: Path) -> None:
    names = {"dataset": "cifar10", "threat_model": "Linf", "name": "model"}
    path = card(tmp_path / "cifar10", clean_acc="94.78")
    assert card_in(path, arguments={}) == path
    assert card_in(tmp_path, arguments=names) == path
    for other in ({"name": "another"}, {"dataset": "../cifar10"}, {"name": "../../../secret"}):
        (tmp_path.parent / "secret.json").write_text("{}")
        with pytest.raises(CardError, match="has no"):
            card_in(tmp_path, arguments=names | other)
    with pytest.raises(CardError, match="give the card itself"):
        card_in(tmp_path, arguments={"inputs": 64})


def test_autoattack_and_other_evaluations_are_kept_apart(tmp_path: Path) -> None:
    found = robustbench_claims(card(tmp_path, clean_acc="90", reported="60", autoattack_acc="50.5", external="49.0"))
    assert {claim.source.split(",")[0]: claim.value for claim in found if claim.name == "robust_accuracy"} == {
        "reported by the authors": pytest.approx(0.6),
        "AutoAttack": pytest.approx(0.505),
        "an external evaluation": pytest.approx(0.49),
    }
