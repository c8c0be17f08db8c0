"""What a plan says before anything has run: passes as they are counted, and the time that they take here."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any

import pytest
import torch

from benchmark.attacks import attacks
from benchmark.cli import run
from benchmark.counting import CountingModel
from benchmark.data import get_dataset
from benchmark.jobs.estimate import Cost, Pace, Stopwatch, seconds_of
from benchmark.measures import Task, get_measure
from benchmark.results import Work
from benchmark.workspace import Workspace
from models_zoo import load_model

N = 40
SLUG = "digits-standard"


@pytest.fixture
def backend() -> str:
    """The database plays no part that differs."""
    return "sqlite"


def counted(name: str, parameters: Any) -> tuple[CountingModel, float]:
    """A measure run on some digits: its passes, and the processor's seconds."""
    dataset, measure, module = get_dataset("digits"), get_measure(name), load_model(SLUG)
    x, y = dataset.batch(0, N)
    model = CountingModel(module).eval()
    task = Task(model, module, x, y, pool=dataset.pool(dataset.size), dataset=dataset)
    begin = time.process_time()
    measure.run(task, parameters)
    return model, time.process_time() - begin


MEASURES: list[tuple[str, dict[str, Any]]] = [
    ("curve", {"norm": "linf"}),
    ("curve", {"norm": "l2"}),
    ("curve", {"norm": "l1"}),
    ("curve", {"norm": "linf", "effort": "quick"}),
    ("curve", {"norm": "l0"}),
    ("curve", {"norm": "l0", "effort": "quick"}),
    ("curve", {"norm": "l0_pixels", "attack": "sigma-zero"}),
    ("curve", {"norm": "l0", "attack": "fmn-l0"}),
    ("targeted", {"norm": "linf", "effort": "quick"}),
    ("targeted", {"norm": "l2", "effort": "quick", "choice": "hardest"}),
    ("target_matrix", {"norm": "l1"}),
    ("clever", {"norm": "l2"}),
    ("verdict", {"norm": "linf", "eps": 0.05}),
    ("verdict", {"norm": "l2", "eps": 0.25}),
    ("losses", {}),
    ("smoothness", {}),
    ("boundary-thickness", {}),
    ("clean", {}),
    ("margins", {}),
    ("ood", {}),
    ("corruptions", {}),
    ("corruption_strength", {}),
]


@pytest.mark.parametrize(("name", "given"), MEASURES)
def test_stated_passes_are_those_that_are_counted_within_a_factor_of_two(name: str, given: dict[str, Any]) -> None:
    measure = get_measure(name)
    parameters = measure.Parameters(**given)
    work = measure.work(parameters, get_dataset("digits"))
    assert work is not None
    model, _ = counted(name, parameters)
    for stated, seen in ((work.forward, model.forward_passes / N), (work.backward, model.backward_passes / N)):
        assert seen / 2 <= stated <= 2 * seen, (stated, seen)


@pytest.mark.parametrize(("name", "given"), [("curve", {"norm": "l2"}), ("clever", {"norm": "l2"})])
def test_the_time_is_right_within_a_factor_of_two(name: str, given: dict[str, Any]) -> None:
    """In seconds of the processor, so that what else the machine does plays little part."""
    measure, dataset = get_measure(name), get_dataset("digits")
    parameters = measure.Parameters(**given)
    work = measure.work(parameters, dataset)
    ratios = []
    for _ in range(3):
        pace = Stopwatch((), "cpu", clock=time.process_time).pace(SLUG, dataset)
        assert work is not None
        assert pace is not None
        _, seen = counted(name, parameters)
        ratios.append(seconds_of(work, pace, samples=N, chunks=1) / seen)
        if 0.5 <= ratios[-1] <= 2:
            return
    pytest.fail(f"estimated and seen differ by the factors {ratios}")


def test_every_attack_that_runs_by_default_states_its_work() -> None:
    for attack in attacks().values():
        for norm in attack.norms if attack.default else ():
            if norm in ("linf", "l2", "l1"):
                assert attack.work is not None, attack.name
                efforts = [attack.work(norm, effort) for effort in ("quick", "standard", "thorough")]
                assert efforts[0].forward < efforts[1].forward < efforts[2].forward


def test_an_attack_that_cannot_say_what_it_costs_says_why() -> None:
    measure = get_measure("curve")
    for attack in attacks().values():
        parameters = measure.Parameters(attack=attack.name, norm=attack.norms[0])
        if measure.work(parameters, get_dataset("digits")) is None:
            assert measure.why_uncounted(parameters).startswith(f"{attack.name}: ")
    why = measure.why_uncounted(measure.Parameters(attack="pixel-greedy", norm="l0"))
    assert "how many it takes is the result" in why


def test_seconds_are_calls_and_images() -> None:
    pace = Pace(forward=Cost(1.0, 0.1), backward=Cost(2.0, 0.2), operation=Cost(0.01, 0.001))
    work = Work(forward=10, backward=5, steps=4, operations=3)
    # 8 calls and 200 images forward, 4 and 100 backward, 3 operations beside each of the former
    assert seconds_of(work, pace, samples=20, chunks=2) == pytest.approx(8 + 20 + 8 + 20 + 3 * (0.08 + 0.2))
    assert seconds_of(Work(forward=1, sample_steps=1), pace, samples=20, chunks=2) == pytest.approx(20 + 2)


def test_clever_of_a_thousand_classes_takes_the_likeliest() -> None:
    many = dataclasses.replace(get_dataset("digits"), classes=tuple(map(str, range(1000))))
    measure = get_measure("clever")
    work = measure.work(measure.Parameters(norm="l2"), many)
    assert work is not None
    assert work.backward == 20 * work.forward


def test_a_plan_says_what_it_costs_before_anything_has_run(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["evaluate", "-w", str(workspace.root), "-m", SLUG, "--limit", "10", "--plan"]
    assert run(at) == 0
    said = capsys.readouterr().out
    assert "about 0 s" not in said
    assert "one at a time, and" in said
    assert "≈" in said
    assert run([*at, "--json"]) == 0
    jobs = json.loads(capsys.readouterr().out)
    engine = next(job for job in jobs if job["parameters"].get("attack") == "engine")
    assert engine["estimate"] == "stated"
    assert 0.01 < engine["estimated_seconds"] < 600
    assert engine["estimated_passes"] > 1000
    assert next(job for job in jobs if job["measure"] == "clever")["parameters"]["most_targets"] == 20
    unknown = {job["measure"] for job in jobs if job["estimated_seconds"] is None}
    assert unknown == {"certificate"}
    assert "? certificate: it goes by the network's layers" in said
    limited = [job for job in jobs if job["measure"] == "exact"]
    assert {job["estimate"] for job in limited} == {"limit"}
    assert {job["estimated_seconds"] for job in limited} == {10 * 10.0}  # ten samples, ten seconds each
    assert said.count("≤ 2 min") == len(limited)
    assert "at most 3 min where a limit of time ends them, and 3 of unknown cost" in said


def test_recorded_costs_go_first(board: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["evaluate", "-w", str(board.root), "-m", SLUG, "--limit", "20", "--protocol", "standard"]
    assert run([*at, "--measure", "clean", "--plan", "--rerun", "all", "--json"]) == 0
    (job,) = json.loads(capsys.readouterr().out)
    assert job["estimate"] == "recorded"


def test_a_plan_downloads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.jobs.estimate.is_cached", lambda file: False)
    watch = Stopwatch((), "cpu")
    assert watch.pace("advertorch-mnist-lenet-clean", get_dataset("mnist")) is None


def test_a_model_without_gradients_is_timed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Rounded(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.detach().flatten(1)[:, :10].round()

    watch = Stopwatch((), "cpu")
    monkeypatch.setattr(watch, "_model", lambda slug: Rounded())
    pace = watch.pace("any", get_dataset("digits"))
    assert pace is not None
    assert pace.forward.of(1, 1) > 0
