"""The batch evaluator: plan, run, record, resume; through the command line, as a user would."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
import types
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from sqlalchemy import func, select

from benchmark import plugins
from benchmark.board.job import Job
from benchmark.board.ledger import ledger
from benchmark.board.record import ChunkResult, add_chunk
from benchmark.cli import run
from benchmark.data import get_dataset
from benchmark.errors import UnsupportedModelError
from benchmark.jobs.job import seed_of
from benchmark.jobs.lease import MOST_ATTEMPTS, Again, Owner, claim, is_dead, owned
from benchmark.measures import Measure, Needs, Result
from benchmark.results import Flag, GridAxis, Output, Score, Summary, Table
from benchmark.workspace import Workspace
from db.queries import RowStatus, boards
from db.schema import Cell, Chunk, Evaluation, State
from db.session import Database
from models_zoo import load_model

JOB = Job(
    model="m",
    model_digest="a" * 64,
    dataset="d",
    dataset_digest="b" * 64,
    n=10,
    samples=10,
    measure="fake",
    version=1,
    attack_version=2,
    parameters={"norm": "l2", "effort": "standard"},
    changed={"norm": "l2"},
    seed=0,
    needs={"suite:c": "d" * 64},
)

PROTOCOL = """
name = "fast"
version = {version}
title = "A protocol for tests"

[[measures]]
measure = "clean"

[[measures]]
measure = "fake"
norm = ["linf", "l2"]
"""


class Fake(Measure["Fake.Settings"]):
    """Adds the same noise to every image, in chunks of three."""

    name = "fake"
    version = 1
    title = "A measure for tests"
    chunk = 3
    behave: ClassVar = staticmethod(lambda task: None)
    calls: ClassVar[list[int]] = []

    @dataclass(frozen=True)
    class Settings:
        norm: str = "linf"

    Parameters = Settings

    def outputs(self, parameters, dataset):
        return [
            Output("found", "scalar", "Found", unit="share"),
            Output(
                "distance",
                "upper",
                "Distance",
                threat=parameters.norm,
                array=f"distance_{parameters.norm}",
            ),
        ]

    def run(self, task, parameters):
        self.calls.append(task.first)
        Fake.behave(task)
        noise = torch.rand(task.x.shape, generator=torch.Generator().manual_seed(task.seed))
        task.model(task.x)
        flag = Flag("noise", f"first {task.first}", float(task.first))
        return Result(arrays={"first": np.full(len(task.x), task.first)}, adversarials=noise, flags=[flag])

    def summarise(self, inputs, parameters):
        arrays = inputs.arrays
        distances = arrays[f"distance_{parameters.norm}"]
        return [Score("found", float(np.isfinite(distances).mean()), unit="share", direction="none")]


@pytest.fixture
def fake(monkeypatch, workspace: Workspace) -> type[Fake]:
    module = types.ModuleType("benchmark.measures.fake")
    module.MEASURE = Fake()
    real = plugins.discover("benchmark.measures", "MEASURE")
    monkeypatch.setattr("benchmark.measures.discover", lambda *_: {**real, "fake": module.MEASURE})
    monkeypatch.setitem(sys.modules, "benchmark.measures.fake", module)
    monkeypatch.setattr(Fake, "behave", staticmethod(lambda task: None))
    monkeypatch.setattr(Fake, "calls", [])
    (workspace.protocols / "fast.toml").write_text(PROTOCOL.format(version=1))
    return Fake


def evaluate(workspace: Workspace, *options: str) -> int:
    base = ["evaluate", "-w", str(workspace.root), "--protocol", "fast", "-m", "digits-standard", "--limit", "8"]
    return run([*base, *options])


def rows(workspace: Workspace) -> list[Evaluation]:
    with Database(workspace.database_url).read() as session:
        found = list(session.scalars(select(Evaluation).order_by(Evaluation.id)))
        for row in found:
            _ = row.chunks, row.scores, row.flags
            for chunk in row.chunks:
                _ = chunk.arrays
        return found


def contents(workspace: Workspace) -> list[tuple]:
    """All results, without times."""
    return [
        (
            row.key,
            row.state,
            [(s.name, s.value) for s in row.scores],
            sorted((f.code, f.message) for f in row.flags),
            [(c.start, c.evidence_digest, c.forward_passes) for c in row.chunks],
            [(a.name, a.data.tobytes()) for c in row.chunks for a in c.arrays],
        )
        for row in rows(workspace)
    ]


# The key -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"model_digest": "c" * 64},
        {"dataset_digest": "c" * 64},
        {"n": 11},
        {"samples": 9},
        {"measure": "other"},
        {"version": 2},
        {"attack_version": 3},
        {"changed": {"norm": "l1"}},
        {"seed": 1},
        {"needs": {"suite:c": "e" * 64}},
    ],
)
def test_whatever_determines_the_result_changes_the_key(change):
    assert dataclasses.replace(JOB, **change).key != JOB.key


@pytest.mark.parametrize(
    "change",
    [
        {"reason": "asked for"},
        {"model": "renamed"},
        {"dataset": "renamed"},
        {"notes": {"file": "x"}},
        {"outputs": ({"name": "o"},)},
        {"parameters": {"norm": "l2", "effort": "standard", "new": "as before"}},
    ],
)
def test_names_reasons_and_parameters_at_their_defaults_leave_the_key(change):
    assert dataclasses.replace(JOB, **change).key == JOB.key


@pytest.mark.parametrize("change", [{"n": 11}, {"samples": 9}])
def test_only_the_slice_tells_evaluations_of_one_content_apart(change):
    other = dataclasses.replace(JOB, **change)
    assert other.content_key == JOB.content_key
    assert other.key != JOB.key
    assert seed_of(other, 100) == seed_of(JOB, 100)


@pytest.mark.parametrize(
    ("first", "second"), [({"version": 1, "attack_version": 12}, {"version": 11, "attack_version": 2})]
)
def test_versions_are_apart(first, second):
    assert dataclasses.replace(JOB, **first).key != dataclasses.replace(JOB, **second).key


def test_each_chunk_has_its_own_seed_whatever_ran_before():
    assert seed_of(JOB, 0) == seed_of(JOB, 0)
    assert seed_of(JOB, 0) != seed_of(JOB, 100)


# Evaluate ----------------------------------------------------------------------------------------------------------


def test_evaluate_runs_what_is_missing_and_then_nothing(fake, workspace, capsys):
    assert evaluate(workspace) == 0
    first = contents(workspace)
    assert [row[1] for row in first] == [State.DONE] * 3
    assert fake.calls == [0, 3, 6, 0, 3, 6]
    capsys.readouterr()
    assert evaluate(workspace) == 0
    assert "Nothing to do" in capsys.readouterr().out
    assert contents(workspace) == first
    assert len(fake.calls) == 6


def test_plan_prints_each_job_with_its_reason_and_runs_nothing(fake, workspace, capsys):
    assert evaluate(workspace, "--plan", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert [job["measure"] for job in plan] == ["clean", "fake", "fake"]
    assert {job["reason"] for job in plan} == {"never run"}
    assert rows(workspace) == []


def test_a_new_version_of_a_measure_is_the_only_thing_planned(fake, workspace, capsys, monkeypatch):
    evaluate(workspace)
    monkeypatch.setattr(Fake, "version", 2)
    capsys.readouterr()
    evaluate(workspace, "--plan", "--json")
    plan = json.loads(capsys.readouterr().out)
    assert [job["measure"] for job in plan] == ["fake", "fake"]
    assert plan[0]["reason"] == "a new version (1.0 → 2.0)"
    assert plan[0]["estimated_passes"] > 0


def test_results_are_recorded_with_passes_provenance_flags_and_evidence(fake, workspace):
    evaluate(workspace)
    row = rows(workspace)[1]
    assert [(c.start, c.stop) for c in row.chunks] == [(0, 3), (3, 6), (6, 8)]
    assert [c.forward_passes for c in row.chunks] == [3, 3, 2]
    assert row.provenance["packages"]["torch"] == torch.__version__.partition("+")[0] or row.provenance["packages"]
    assert [(f.code, f.value) for f in row.flags] == [("noise", 6.0)]
    files = {path.name.partition(".")[0] for path in workspace.artifacts.rglob("*.safetensors")}
    assert {c.evidence_digest for r in rows(workspace) for c in r.chunks} - {None} == files


def test_only_verified_distances_reach_the_ledger(fake, workspace, monkeypatch):
    """Of what is claimed, only what changes the label inside the box counts, at the distance it has."""
    x, y = get_dataset("digits").batch(0, 8)
    model = load_model("digits-standard")
    with torch.no_grad():
        wrong = model(x).argmax(dim=1) != y
    claims = x.roll(1, 0).clone()  # images of other samples: most are of another class
    claims[1] = x[1]  # changes nothing
    claims[2] = claims[2] + 2.0  # outside the box
    claims[3] = float("nan")
    with torch.no_grad():
        changed = model(claims.nan_to_num().clamp(0, 1)).argmax(dim=1) != y
    expected = (claims - x).double().flatten(1).norm(dim=1)
    expected[~changed] = torch.inf
    expected[1:4] = torch.inf
    expected[wrong] = 0.0
    assert wrong.any()
    assert (torch.isfinite(expected) & ~wrong).sum() >= 2
    monkeypatch.setattr(
        Fake, "run", lambda self, task, p: Result(adversarials=claims[task.first : task.first + len(task.x)])
    )
    evaluate(workspace)
    with Database(workspace.database_url).read() as session:
        row = session.scalars(select(Evaluation).where(Evaluation.norm == "l2")).one()
        entry = ledger(session, model_id=row.model_id, dataset_id=row.dataset_id, norm="l2", n=8)
    np.testing.assert_allclose(entry.distances, expected.numpy(), rtol=1e-12)
    assert entry.covered.all()


def test_a_failing_job_is_recorded_and_the_rest_goes_on(fake, workspace, capsys, monkeypatch):
    def explode(task):
        if task.first == 3:
            raise FloatingPointError("logits are NaN")

    monkeypatch.setattr(Fake, "behave", staticmethod(explode))
    assert evaluate(workspace) == 3
    states = [(row.measure, row.state, row.reason) for row in rows(workspace)]
    assert states[0] == ("clean", State.DONE, None)
    assert states[1][1] == State.FAILED
    assert "logits are NaN" in states[1][2]
    monkeypatch.setattr(Fake, "behave", staticmethod(lambda task: None))
    capsys.readouterr()
    assert evaluate(workspace) == 3
    assert "Failed before, left alone" in capsys.readouterr().err
    fake.calls.clear()
    assert evaluate(workspace, "--rerun", "failed") == 0
    assert fake.calls == [3, 6, 3, 6], "the chunks before the failure are kept"


def test_a_measure_that_does_not_apply_is_no_failure(fake, workspace, monkeypatch):
    def refuse(task):
        raise UnsupportedModelError("it has a sine")

    monkeypatch.setattr(Fake, "behave", staticmethod(refuse))
    assert evaluate(workspace) == 0
    assert [row.state for row in rows(workspace)] == [State.DONE, State.UNSUPPORTED, State.UNSUPPORTED]


def test_out_of_memory_is_a_failure_with_advice(fake, workspace, monkeypatch):
    def starve(task):
        raise torch.OutOfMemoryError("tried to allocate 1 TiB")

    monkeypatch.setattr(Fake, "behave", staticmethod(starve))
    assert evaluate(workspace) == 3
    assert "Out of memory" in rows(workspace)[1].reason


def test_rerun_all_computes_everything_again_with_the_same_result(fake, workspace):
    evaluate(workspace)
    before = contents(workspace)
    fake.calls.clear()
    assert evaluate(workspace, "--rerun", "all") == 0
    assert len(fake.calls) == 6
    assert contents(workspace) == before


def test_an_interrupted_run_goes_on_where_it_was_and_ends_the_same(fake, workspace, tmp_path, monkeypatch):
    evaluate(workspace)
    undisturbed = contents(workspace)
    other = Workspace.create(tmp_path / "other")
    from db.migrate import upgrade

    upgrade(Database(other.database_url))
    (other.protocols / "fast.toml").write_text(PROTOCOL.format(version=1))

    def interrupt(task):
        if task.first == 3 and len(fake.calls) == 2:
            raise KeyboardInterrupt

    fake.calls.clear()
    monkeypatch.setattr(Fake, "behave", staticmethod(interrupt))
    assert evaluate(other) == 130
    assert [row.state for row in rows(other)] == [State.DONE, State.QUEUED, State.QUEUED]
    assert evaluate(other) == 0
    assert fake.calls == [0, 3, 3, 6, 0, 3, 6]
    assert contents(other) == undisturbed


def test_worker_processes_give_the_same_results(workspace, tmp_path):
    """With spawned workers no fake can be used: clean accuracy of two models."""
    protocol = 'name = "fast"\nversion = 1\ntitle = "clean"\n[[measures]]\nmeasure = "clean"\n'
    (workspace.protocols / "fast.toml").write_text(protocol)
    assert evaluate(workspace, "-m", "digits-dropout", "-j", "2") == 0
    found = [(row.state, row.chunks[0].stop) for row in rows(workspace)]
    assert found == [(State.DONE, 8), (State.DONE, 8)]


def test_workers_end_when_their_parent_is_killed(workspace):
    command = ["evaluate", "-w", str(workspace.root), "-m", "digits-standard", "-m", "digits-dropout", "-j", "2"]
    code = f"from benchmark.cli import run\nif __name__ == '__main__':\n    run({command!r})\n"
    script = workspace.root / "evaluate.py"
    script.write_text(code)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        owners = _wait_for(lambda: [f.stem for f in workspace.locks.glob("*.lock")], lambda found: len(found) == 2)
    finally:
        parent.kill()
        parent.wait()
    _wait_for(lambda: [is_dead(owner, workspace.locks) for owner in owners], all)


def _wait_for(look, enough):
    """What ``look`` sees as soon as it is enough; fails after a minute."""
    for _ in range(600):
        if enough(seen := look()):
            return seen
        time.sleep(0.1)
    raise AssertionError(f"still {seen} after a minute")


def test_changed_contents_of_a_protocol_need_a_new_version(fake, workspace, capsys):
    evaluate(workspace)
    changed = PROTOCOL.replace('["linf", "l2"]', '"linf"')
    (workspace.protocols / "fast.toml").write_text(changed.format(version=1))
    capsys.readouterr()
    assert evaluate(workspace) == 1
    error = capsys.readouterr().err
    assert "fast@1 is known here with other contents (different: measures)" in error
    assert "Raise the version in its file, to 2" in error
    (workspace.protocols / "fast.toml").write_text(changed.format(version=2))
    assert evaluate(workspace) == 0
    with Database(workspace.database_url).read() as session:
        assert session.scalar(select(func.count()).select_from(Cell)) == 5, "three of version 1, two of version 2"
        assert session.scalar(select(func.count()).select_from(Evaluation)) == 3, "results are shared"


def test_a_part_of_the_protocol_leaves_the_row_incomplete(fake, workspace, capsys):
    assert evaluate(workspace, "--measure", "clean") == 0
    with Database(workspace.database_url).read() as session:
        (board,) = boards(session)
    (row,) = board.rows
    assert row.status is RowStatus.INCOMPLETE
    assert row.missing == ("fake norm=linf (queued)", "fake norm=l2 (queued)")
    assert evaluate(workspace) == 0
    with Database(workspace.database_url).read() as session:
        (board,) = boards(session)
    assert [row.status for row in board.ranked] == [RowStatus.COMPLETE]
    assert board.threats == ("l2", "linf")


def test_what_the_protocol_does_not_ask_for_is_said(fake, workspace, capsys):
    assert evaluate(workspace, "--measure", "clever") == 1
    error = capsys.readouterr().err
    assert "The protocol fast@1 does not ask for the measure 'clever' on these models; it asks for clean, fake" in error


# Slices ------------------------------------------------------------------------------------------------------------


def test_a_longer_slice_takes_over_the_chunks_of_a_shorter_one_and_the_other_way_round(fake, workspace):
    assert evaluate(workspace) == 0
    fake.calls.clear()
    assert evaluate(workspace, "--limit", "11") == 0
    assert fake.calls == [8, 9, 8, 9], "samples 0 to 8 are there"
    fake.calls.clear()
    assert evaluate(workspace, "--limit", "4") == 0
    assert fake.calls == []
    eight, eleven, four = (
        {row.norm: row for row in rows(workspace) if row.measure == "fake" and row.n == n} for n in (8, 11, 4)
    )
    for norm in ("linf", "l2"):
        one, two, three = (
            np.concatenate([a.data for c in row[norm].chunks for a in c.arrays if a.name == "distance_l2"])
            for row in (eight, eleven, four)
        )
        np.testing.assert_array_equal(one, two[:8])
        np.testing.assert_array_equal(one[:4], three)
        assert [(c.start, c.stop) for c in four[norm].chunks] == [(0, 3), (3, 4)]
        assert [c.evidence_digest for c in four[norm].chunks] == [c.evidence_digest for c in eight[norm].chunks][:2]
    assert run(["verify", "-w", str(workspace.root)]) == 0


def test_a_measure_of_all_samples_together_takes_over_nothing(fake, workspace, monkeypatch):
    monkeypatch.setattr(Fake, "per_sample", False)
    assert evaluate(workspace) == 0
    fake.calls.clear()
    assert evaluate(workspace, "--limit", "11") == 0
    assert fake.calls == [0, 3, 6, 9] * 2


def test_a_board_remembers_its_slice(fake, workspace, capsys):
    assert evaluate(workspace) == 0
    bare = ["evaluate", "-w", str(workspace.root), "--protocol", "fast", "-m", "digits-standard", "--plan"]
    capsys.readouterr()
    assert run(bare) == 0
    printed = capsys.readouterr()
    assert "Nothing to do" in printed.out
    assert "the first 8 samples, as on its board" in printed.err
    assert run([*bare, "--limit", "all"]) == 0
    assert "[:500]" in capsys.readouterr().out
    assert run([*bare, "--limit", "none"]) == 2


EXECUTOR = """
from benchmark.jobs.executors import get_executor


class Backwards:
    name = "backwards"
    title = "This machine, the last job first"

    def run(self, jobs, setting, report):
        return get_executor("local").run(jobs[::-1], setting, report)


EXECUTOR = Backwards()
"""


def test_an_executor_is_one_file_of_the_workspace(fake, workspace, capsys):
    (workspace.root / "executors").mkdir()
    (workspace.root / "executors" / "backwards.py").write_text(EXECUTOR)
    assert run(["list", "executors", "-w", str(workspace.root)]) == 0
    assert "the last job first" in capsys.readouterr().out
    assert evaluate(workspace, "--on", "backwards") == 0
    finished = [(row.finished_at, row.measure, row.norm) for row in rows(workspace)]
    assert [(measure, norm) for _, measure, norm in sorted(finished)] == [
        ("fake", "l2"),
        ("fake", "linf"),
        ("clean", None),
    ]
    assert evaluate(workspace, "--on", "backward") == 1
    assert "Did you mean 'backwards'" in capsys.readouterr().err


# What measures give is not believed -----------------------------------------------------------------------------------


def test_a_measure_that_changes_what_it_is_given_changes_nothing(fake, workspace, monkeypatch):
    assert evaluate(workspace) == 0
    honest = contents(workspace)

    def meddle(task):
        task.x.add_(0.3)
        task.y.zero_()
        with torch.no_grad():
            for parameter in task.module.parameters():
                parameter.zero_()

    monkeypatch.setattr(Fake, "behave", staticmethod(meddle))
    assert evaluate(workspace, "--rerun", "all") == 0
    for before, after in zip(honest, contents(workspace), strict=True):
        assert [a for a in after[5] if a[0].startswith("distance")] == [
            a for a in before[5] if a[0].startswith("distance")
        ]
        if before[3]:
            assert any(code == "model-changed" for code, _ in after[3])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"radius": np.zeros(2)}, "its first axis must be 3"),
        ({"radius": np.array([0.1, -0.2, 0.3])}, "-0.2 at row 1; a distance is never negative"),
        ({"radius": np.array([0.1, np.nan, 0.3])}, "is NaN, first at row 1"),
        ({"radius": np.array(["a", "b", "c"])}, "expected one number a sample"),
        ({"radius": np.zeros((3, 2))}, "expected one number a sample"),
        ({}, "was declared, but there is no 'radius'"),
        ({"radius": np.zeros(3), "distance_l2": np.zeros(3)}, "are the evaluator's own"),
    ],
)
def test_arrays_that_are_not_as_declared_fail_the_job(fake, workspace, monkeypatch, given, message):
    declared = [Output("radius", "lower", "Radius", threat="l2", array="radius")]
    monkeypatch.setattr(Fake, "outputs", lambda self, parameters, dataset: declared)
    monkeypatch.setattr(Fake, "run", lambda self, task, parameters: Result(arrays=given))
    assert evaluate(workspace) == 3
    assert message in rows(workspace)[1].reason


def test_a_table_of_another_shape_than_declared_fails_the_job(fake, workspace, monkeypatch):
    grid = Output("grid", "grid", "Grid", axes=(GridAxis("corruption", ("fog", "snow")),))
    monkeypatch.setattr(Fake, "outputs", lambda self, parameters, dataset: [grid])
    tables = {"grid": Table(np.zeros(3))}
    monkeypatch.setattr(Fake, "summarise", lambda self, inputs, parameters: Summary(tables=tables))
    assert evaluate(workspace) == 3
    assert "has the shape (3,); its axes say (2,)" in rows(workspace)[1].reason


def test_tables_and_declared_outputs_are_stored(fake, workspace, monkeypatch):
    grid = Output("grid", "grid", "Grid", axes=(GridAxis("corruption", ("fog", "snow")),))
    monkeypatch.setattr(Fake, "outputs", lambda self, parameters, dataset: [grid])
    table = Table(np.array([0.25, 0.5]), low=np.array([0.2, 0.4]), confidence=0.95)
    monkeypatch.setattr(Fake, "summarise", lambda self, inputs, parameters: Summary(tables={"grid": table}))
    assert evaluate(workspace) == 0
    with Database(workspace.database_url).read() as session:
        row = session.scalars(select(Evaluation).where(Evaluation.norm == "l2")).one()
        (stored,) = row.tables
        assert Output.from_json(row.outputs[0]) == grid
    np.testing.assert_array_equal(stored.data[:2], [[0.25, 0.5], [0.2, 0.4]])
    assert np.isnan(stored.data[2]).all()
    assert stored.confidence == 0.95


def test_a_measure_sees_its_reference_models(fake, workspace, monkeypatch):
    seen = {}

    def summarise(self, inputs, parameters):
        seen[parameters.norm] = {slug: arrays["first"].tolist() for slug, arrays in inputs.references.items()}
        assert len(inputs.labels) == 8
        return []

    monkeypatch.setattr(Fake, "needs", lambda self, parameters: Needs(references=("digits-dropout",)))
    monkeypatch.setattr(Fake, "summarise", summarise)
    assert evaluate(workspace) == 3
    assert "is compared with the model 'digits-dropout', which has no such evaluation" in rows(workspace)[1].reason
    assert evaluate(workspace, "-m", "digits-dropout", "--rerun", "failed") == 0
    assert seen == {norm: {"digits-dropout": [0, 0, 0, 3, 3, 3, 6, 6]} for norm in ("linf", "l2")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-m", "digits-standrad"], "Did you mean 'digits-standard'"),
        (["--protocol", "fats"], "Did you mean 'fast"),
        (["-d", "mnits"], "Did you mean 'mnist'"),
        (["-d", "mnist"], "None of the models is for the dataset 'mnist'"),
        (["--device", "cuda:7"], "The device 'cuda:7' cannot be used"),
        (["--attack", "fba-t"], "Did you mean 'fab-t'"),
    ],
)
def test_wrong_names_are_refused_with_the_nearest(fake, workspace, capsys, options, message):
    assert evaluate(workspace, *options) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_protocol_with_an_unknown_parameter_is_refused(fake, workspace, capsys):
    (workspace.protocols / "fast.toml").write_text(PROTOCOL.format(version=1) + "colour = 3\n")
    assert evaluate(workspace) == 1
    assert "the measure 'fake' has no parameter colour" in capsys.readouterr().err


# Leases ------------------------------------------------------------------------------------------------------------


def test_only_one_of_two_evaluators_gets_a_job(fake, workspace):
    evaluate(workspace, "--rerun", "missing")
    database = Database(workspace.database_url)
    row = _queued(database)
    with Owner(workspace.locks) as one, Owner(workspace.locks) as two:
        assert claim(database, row, one.name, workspace.locks, Again())
        assert not claim(database, row, two.name, workspace.locks, Again())
        assert not claim(database, row, two.name, workspace.locks, Again("all")), (
            "a living evaluator's job is never taken"
        )


def test_a_dead_evaluators_job_is_taken_over_at_once(fake, workspace):
    evaluate(workspace)
    database = Database(workspace.database_url)
    row = _queued(database)
    dead = _die_over(database, row, workspace)
    assert is_dead(dead, workspace.locks)
    with Owner(workspace.locks) as living:
        assert not is_dead(living.name, workspace.locks)
        assert claim(database, row, living.name, workspace.locks, Again())
        with database.write() as session, pytest.raises(Exception, match="was taken over"):
            owned(session, row, dead)


def test_a_job_that_evaluators_keep_dying_over_fails_and_comes_last_until_then(fake, workspace, capsys):
    assert evaluate(workspace) == 0
    database = Database(workspace.database_url)
    first, row = _queued(database, 0), _queued(database)
    for _ in range(MOST_ATTEMPTS):
        _die_over(database, first, workspace)
    capsys.readouterr()
    assert evaluate(workspace, "--plan") == 0
    planned = capsys.readouterr().out
    assert planned.index("taken up again") < planned.index("another evaluator had begun it")
    assert evaluate(workspace) == 3
    assert "3 evaluators in a row died over it" in "".join(capsys.readouterr())
    with database.read() as session:
        assert session.get_one(Evaluation, row).state == State.DONE
        failed = session.get_one(Evaluation, first)
        assert (failed.state, failed.owner) == (State.FAILED, None)
        assert "--rerun failed" in failed.reason
    assert evaluate(workspace, "--rerun", "failed") == 0
    with database.read() as session:
        assert session.get_one(Evaluation, first).state == State.DONE


def test_who_got_on_before_dying_does_not_count(fake, workspace):
    evaluate(workspace)
    database = Database(workspace.database_url)
    row = _queued(database)
    for _ in range(MOST_ATTEMPTS):
        _die_over(database, row, workspace)
    with database.write() as session:
        result = ChunkResult(
            start=0, stop=1, arrays={}, evidence=None, flags=(), seconds=0.0, forward_passes=0, backward_passes=0
        )
        add_chunk(session, session.get_one(Evaluation, row), result)
    with Owner(workspace.locks) as living:
        assert claim(database, row, living.name, workspace.locks, Again())


def test_a_lease_that_ran_out_is_free(fake, workspace):
    evaluate(workspace)
    database = Database(workspace.database_url)
    row = _queued(database)
    with Owner(workspace.locks) as owner:
        assert claim(database, row, "gone-from-another-machine", workspace.locks, Again())
        assert not claim(database, row, owner.name, workspace.locks, Again())
        with database.write() as session:
            session.get_one(Evaluation, row).lease_until = 0.0
        assert claim(database, row, owner.name, workspace.locks, Again())


def _die_over(database: Database, row: int, workspace) -> str:
    """An evaluator takes the job and is killed; its name."""
    with Owner(workspace.locks) as dead:
        assert claim(database, row, dead.name, workspace.locks, Again())
    (workspace.locks / f"{dead.name}.lock").touch()  # killed: the file stays, nobody holds it
    return dead.name


def _queued(database: Database, place: int = -1) -> int:
    """Put one evaluation, the last unless asked otherwise, back into the queue, without its results."""
    with database.write() as session:
        row = session.scalars(select(Evaluation).order_by(Evaluation.id)).all()[place]
        row.state, row.scores, row.flags = State.QUEUED, [], []
        for chunk in session.scalars(select(Chunk).where(Chunk.evaluation_id == row.id)):
            session.delete(chunk)
        return row.id
