"""Memory that runs out halves what is measured at a time, not the run."""

from __future__ import annotations

import pytest
import torch
from sqlalchemy import select
from test_evaluate import Fake, contents, evaluate, fake, rows  # noqa: F401 - a fixture

from benchmark.memory import out_of_memory
from db.schema import Chunk, State
from db.session import Database


def hungry(most: int, error: BaseException):
    """A measure's behaviour on a device that holds so many images."""

    def run(task):
        if len(task.x) > most:
            raise error

    return staticmethod(run)


def ranges(workspace) -> dict[int, list[tuple[int, int]]]:
    with Database(workspace.database_url).read() as session:
        found: dict[int, list[tuple[int, int]]] = {}
        for chunk in session.scalars(select(Chunk).order_by(Chunk.evaluation_id, Chunk.start)):
            found.setdefault(chunk.evaluation_id, []).append((chunk.start, chunk.stop))
        return found


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 TiB"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 TiB"),
    ],
)
def test_fewer_samples_at_a_time_are_tried_and_the_run_ends_whole(fake, workspace, monkeypatch, error):  # noqa: F811
    monkeypatch.setattr(Fake, "behave", hungry(2, error))
    assert evaluate(workspace) == 0
    assert {row.state for row in rows(workspace)} == {State.DONE}
    for row in rows(workspace)[1:]:
        cut = ranges(workspace)[row.id]
        assert (cut[0][0], cut[-1][1]) == (0, 8)
        assert [start for start, _ in cut[1:]] == [stop for _, stop in cut[:-1]]  # without a gap
        assert max(stop - start for start, stop in cut) == 2


def test_what_has_not_fitted_once_is_not_tried_again(fake, workspace, monkeypatch):  # noqa: F811
    fake.calls.clear()
    monkeypatch.setattr(Fake, "behave", hungry(2, MemoryError()))
    assert evaluate(workspace) == 0
    assert fake.calls.count(0) == 2 * 3  # two jobs, each twice too large
    assert fake.calls.count(3) == 2


def test_memory_that_lacked_for_a_moment_changes_nothing(fake, workspace, monkeypatch):  # noqa: F811
    evaluate(workspace)
    before = contents(workspace)
    failures = iter([MemoryError()])

    def lack_once(task):
        for error in failures:
            raise error

    monkeypatch.setattr(Fake, "behave", staticmethod(lack_once))
    assert evaluate(workspace, "--rerun", "all") == 0
    assert contents(workspace) == before


def test_a_single_sample_that_does_not_fit_is_a_failure_with_advice(fake, workspace, monkeypatch):  # noqa: F811
    monkeypatch.setattr(Fake, "behave", hungry(0, MemoryError()))
    assert evaluate(workspace) == 3
    assert "Out of memory" in rows(workspace)[1].reason


def test_a_measure_of_samples_together_is_not_cut(fake, workspace, monkeypatch):  # noqa: F811
    monkeypatch.setattr(Fake, "per_sample", False)
    monkeypatch.setattr(Fake, "behave", hungry(2, MemoryError()))
    assert evaluate(workspace) == 3
    assert "Out of memory" in rows(workspace)[1].reason


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), ValueError("out of memory"), KeyError("memory")])
def test_other_errors_are_none_of_memory(error):
    assert not out_of_memory(error)
