"""The pure parts of the performance harness; nothing is timed here, and no peer is needed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmark.errors import InputError, UnknownNameError
from perf import Options, benchmarks, get_benchmark
from perf.contestant import AUTOATTACK, OURS, measure
from perf.document import command, replaced, section
from perf.engine import MODELS, duels, report, tasks
from perf.meter import Clock, Meter
from perf.models import RESNET, Workload, load
from perf.peers import PEERS, Peer, peers
from perf.process import ContestantError, cached_call, call, run_all
from perf.tables import table


def result(contestant: str, distances: list[float | None], **values: Any) -> dict[str, Any]:
    return {
        "model": "m",
        "norm": "l2",
        "contestant": contestant,
        "seed": 0,
        "distances": distances,
        "claimed": 0,
        "forward": 10.0,
        "backward": 10.0,
        "seconds": 2.0,
        "wall_seconds": 2.0,
        "bare_seconds": 1.0,
        "flags": [],
        **values,
    }


RESULTS = [
    result(AUTOATTACK, [None, 1.0, None, 0.0], eps=1.0, seconds=4.0, forward=70.0, backward=30.0),
    result("fab-t", [2.0, 1.0, None, 0.0], seconds=3.0),
    result("pdpgd", [1.0, 2.0, None, 0.0], seconds=7.0),
    result(OURS, [0.9, 0.9, 5.0, 0.0]),
    result(OURS, [0.9, 1.1, 5.0, 0.0], seed=1),
]


def test_a_duel_compares_with_the_best_of_all_peers_sample_by_sample() -> None:
    (duel,) = duels(RESULTS)
    assert duel.best_of_peers.tolist() == [1.0, 1.0, math.inf, 0.0]
    assert duel.best_of_all.tolist() == [0.9, 0.9, 5.0, 0.0]
    assert duel.mean_ratio(duel.ours[0]) == pytest.approx(0.9)
    assert duel.mean_ratio(duel.ours[1]) == pytest.approx(1.0)
    assert duel.near(duel.ours[0]) == 1.0
    assert duel.near(duel.ours[1]) == 0.75
    assert duel.near(duel.peers["fab-t"]) == 0.25  # only the misclassified sample


def test_a_sample_that_only_a_peer_broke_makes_our_mean_infinite() -> None:
    (duel,) = duels([*RESULTS[:3], result(OURS, [0.9, None, 5.0, 0.0])])
    assert duel.mean_ratio(duel.ours[0]) == math.inf


def test_the_report_states_ratios_ranges_over_seeds_and_autoattack() -> None:
    text = report({"results": RESULTS, "failures": [{**RESULTS[1], "error": "first line\nout of | memory"}]})
    assert "| m | l2 | 0.900–1.000 | 75–100 % | 75–100 % | 1/5.0 | 1/7.0 | 2.00 | 2 |" in text
    assert "| m | l2 | 1 | 25.0–50.0 % | 50.0 % | ours or equal | 1/5.0 |" in text
    assert "| **curveboard**, seed 0 | 1.7 | 0.9 | 100 % | 100 % | 0 | 10 | 10 | 2.0 | 2.00 |" in text
    assert "| *best of all peers* | 0.6667 | 1 | 75 % | 25 % |  |  |  | 10.0 |  |" in text
    assert "out of \\| memory" in text
    assert "first line" not in text


def test_autoattack_that_is_stronger_is_said_to_be() -> None:
    stronger = [RESULTS[0] | {"distances": [0.5, 0.5, 0.5, 0.0]}, RESULTS[1], RESULTS[3]]
    assert "| 25.0 % | 0.0 % | AutoAttack |" in report({"results": stronger, "failures": []})


def test_tasks_run_each_peer_of_the_norm_once_and_ours_with_every_seed() -> None:
    options = Options(models=(MODELS[0],), norms=("l1",), seeds=(3, 4))
    todo = list(tasks(options))
    names = [task["contestant"] for task in todo]
    assert names[0] == AUTOATTACK
    assert todo[0]["eps"] == 2.5
    assert names[1:-2] == [peer.name for peer in peers("l1")]
    assert "ddn" not in names  # an attack for l2
    assert [(task["contestant"], task["seed"]) for task in todo[-2:]] == [(OURS, 3), (OURS, 4)]
    assert {task["samples"] for task in todo} == {100}
    json.dumps(todo)


def test_peers_can_be_named_and_unknown_ones_are_refused() -> None:
    options = Options(models=(RESNET,), norms=("linf",), peers=("fmn",), seeds=(0,))
    todo = list(tasks(options))
    assert [task["contestant"] for task in todo] == ["fmn", OURS]
    assert todo[0]["samples"] == 16
    with pytest.raises(UnknownNameError, match="Did you mean 'pdpgd'"):
        list(tasks(Options(peers=("pdgpd",))))


def test_every_norm_has_peers_and_every_peer_states_its_settings() -> None:
    for norm in ("linf", "l2", "l1"):
        assert len(peers(norm)) >= 5  # type: ignore[arg-type]
    assert all(peer.settings and peer.library for peer in PEERS)
    assert len({peer.name for peer in PEERS}) == len(PEERS)


def test_the_l0_benchmark_runs_the_peers_of_l0_and_no_autoattack(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("perf.process.call", lambda module, task, **_: result(OURS, [1.0]) | task)
    got = get_benchmark("sparse").run(Options(models=("m",), seeds=(0,)), tmp_path)["results"]
    assert [one["contestant"] for one in got] == ["sigma-zero", "fmn-l0", "vfga", OURS]
    assert {one["norm"] for one in got} == {"l0"}
    assert "| m | l0 | 1.000 |" in get_benchmark("sparse").report({"results": got, "failures": []})


def test_one_contestant_that_fails_leaves_the_others_their_turn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run(module: str, task: dict[str, Any], **_: Any) -> dict[str, Any]:
        if task["contestant"] == "bad":
            raise ContestantError("no memory")
        return {"distances": [1.0]}

    monkeypatch.setattr("perf.process.call", run)
    todo = [{"contestant": name, "threads": 1} for name in ("bad", "good")]
    got = run_all("m", todo, tmp_path, keep=lambda task: False)
    assert [one["contestant"] for one in got["results"]] == ["good"]
    assert got["failures"] == [{**todo[0], "error": "no memory"}]
    with pytest.raises(ContestantError, match="Every contestant failed; the first said: no memory"):
        run_all("m", todo[:1], tmp_path, keep=lambda task: False)


def test_the_resnet_needs_its_images() -> None:
    with pytest.raises(InputError, match="--cifar"):
        load(RESNET, 1)


def linear_workload() -> Workload:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval().requires_grad_(False)
    x = torch.full((4, 1, 2, 2), 0.5) + 0.1 * torch.rand(4, 1, 2, 2)
    y = model(x).argmax(dim=1)
    y[0] = (y[0] + 1) % 3
    return Workload(model, x, y, {})


def test_a_contestant_is_verified_and_its_passes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    work = linear_workload()

    def lying(model: nn.Module, x: torch.Tensor, y: torch.Tensor, norm: str) -> torch.Tensor:
        leaf = x.clone().requires_grad_()
        torch.autograd.grad(model(leaf).sum(), leaf)
        model(x[:1])
        return (x + 1e-6).clamp(0, 1)  # moved, but far from any boundary

    monkeypatch.setattr("perf.contestant.PEERS", (Peer("liar", "none", "none", lying),))
    task = {"contestant": "liar", "norm": "linf", "device": "cpu", "seed": 0}
    measured = measure(task, work)
    assert measured["distances"] == [0.0, None, None, None]
    assert measured["claimed"] == 3
    assert measured["forward"] == pytest.approx((3 + 1) / 4)  # the misclassified image is not given to a peer
    assert measured["backward"] == pytest.approx(3 / 4)
    assert measured["bare_seconds"] > 0


def test_the_meter_knows_the_size_of_every_pass() -> None:
    work = linear_workload()
    meter = Meter(work.model, Clock("cpu"))
    with torch.no_grad():
        meter(work.x)
        meter(work.x[:1])
    leaf = work.x[:2].clone().requires_grad_()
    logits = meter(leaf)
    for k in range(2):
        torch.autograd.grad(logits[:, k].sum(), leaf, retain_graph=True)
    assert meter.sizes == {"forward": {4: 1, 1: 1}, "graph": {2: 1}, "backward": {2: 2}}


def test_bare_passes_are_timed_beside_every_sixteenth_call_and_are_not_the_searchs() -> None:
    ticks = iter(range(10_000))
    clock = Clock("cpu")
    clock.now = lambda: float(next(ticks))  # type: ignore[method-assign]
    work = linear_workload()
    meter = Meter(work.model, clock)
    leaf = work.x.clone().requires_grad_()
    begin = clock.now()
    for _ in range(32):
        torch.autograd.grad(meter(leaf).sum(), leaf)
    assert clock.now() - begin - meter.paused == 1 + 2  # a tick from this look to the last, and one up to each pause
    assert meter.timings == {"forward": {}, "graph": {4: [1.0] * 2}, "backward": {4: [1.0] * 2}}
    assert meter.bare_seconds(work.x) == 32 + 32
    assert meter.forward_passes == meter.backward_passes == 32 * 4
    with torch.no_grad():
        meter(work.x[:1])
    assert meter.bare_seconds(work.x) == 32 + 32 + 1  # a kind that was not timed is timed at the end


def test_bare_passes_stay_those_of_the_model_as_it_was_whatever_is_done_to_it() -> None:
    meter = Meter(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), Clock("cpu"))
    x = torch.rand(2, 1, 2, 2)
    before = meter.bare(x)
    for module in meter.modules():
        if isinstance(module, nn.Linear):
            module.weight.data.zero_()
            module.bias.data.zero_()
    assert not meter(x).any()
    torch.testing.assert_close(meter.bare(x), before)


def test_a_process_that_fails_is_an_error_with_the_end_of_what_it_said() -> None:
    with pytest.raises(ContestantError, match=r"No module named perf\.no_such"):
        call("perf.no_such", {}, threads=1)


def test_results_are_kept_and_taken_again_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr("perf.process.call", lambda *a, **k: calls.append(a) or {"n": len(calls)})
    task = {"contestant": "a", "threads": 1}
    assert cached_call("m", task, tmp_path, resume=True) == {"n": 1}
    assert cached_call("m", task, tmp_path, resume=True) == {"n": 1}
    assert cached_call("m", task, tmp_path, resume=False) == {"n": 2}
    assert cached_call("m", {**task, "threads": 2}, tmp_path, resume=True) == {"n": 3}


def test_a_section_of_the_document_is_replaced_and_the_rest_stays() -> None:
    once = replaced("# Performance\n\nBy hand.\n", "engine", "## Engine\n\nfirst")
    twice = replaced(replaced(once, "statistics", "## Statistics"), "engine", "## Engine\n\nsecond \\1")
    assert "By hand." in twice
    assert "first" not in twice
    assert "second \\1" in twice
    assert twice.index("## Engine") < twice.index("## Statistics")
    assert replaced(twice, "engine", "## Engine\n\nsecond \\1") == twice


def test_a_section_says_where_when_and_how_it_was_measured() -> None:
    kept = {"date": "2026-01-02", "machine": {"processor": "abacus"}, "options": {"models": ["m"], "seeds": [0, 1]}}
    text = section(get_benchmark("engine"), kept, "body")
    assert "Measured 2026-01-02 on: processor abacus." in text
    assert "python -m perf engine --models m --seeds 0,1`" in text
    assert command("site", {"device": "cuda", "threads": 4, "cifar": "x.npz"}).endswith(
        "site --device cuda --threads 4 --cifar FILE"
    )


def test_tables_align_numbers_to_the_right() -> None:
    text = table(["a", "b"], [["x", "1.5"], ["y|z", "10 %"]])
    assert text.splitlines() == ["| a | b |", "| --- | ---: |", "| x | 1.5 |", "| y\\|z | 10 % |"]


def test_benchmarks_are_the_files_of_the_package() -> None:
    assert {"engine", "statistics"} <= set(benchmarks())
    with pytest.raises(UnknownNameError, match="'engine'"):
        get_benchmark("engin")


def test_the_document_holds_a_section_of_every_benchmark() -> None:
    text = (Path(__file__).parents[1] / "docs" / "performance.md").read_text()
    for name in benchmarks():
        begin, end = text.index(f"<!-- begin {name}:"), text.index(f"<!-- end {name} -->")
        assert "Measured 20" in text[begin:end]
        assert text[begin:end].count("\n| ") > 3, f"{name} has no table"


def test_the_statistics_report_is_a_table() -> None:
    text = get_benchmark("statistics").report({"timings": [{"what": "nothing", "seconds": 0.01234}]})
    assert "| nothing | 0.012 |" in text
