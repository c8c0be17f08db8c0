"""Jobs in an array of evaluators; without Slurm submitit runs them as processes here."""

from __future__ import annotations

import sys

import pytest
from test_ray import command, ended, expected, slow  # noqa: F401 - fixtures
from test_ray import results as results_of

from benchmark.errors import WorkspaceError
from benchmark.jobs.executors import get_executor


@pytest.mark.filterwarnings("ignore")
def test_an_array_of_evaluators_shares_the_jobs_and_ends_in_the_bytes_of_one_process(slow, expected):  # noqa: F811
    pytest.importorskip("submitit", reason="submitit is not installed (the extra `slurm`)")
    code, said = ended(command(slow, "--on", "slurm", "-j", "2"))
    assert code == 0, said
    assert "6 done" in said
    assert results_of(slow) == expected


def test_without_submitit_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(WorkspaceError, match=r"pip install 'curveboard\[slurm\]'"):
        get_executor("slurm").run([], None, None)
