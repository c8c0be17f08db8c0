"""Jobs in an array of evaluators; without Slurm submitit runs them as processes here."""

from __future__ import annotations

import pytest
from test_ray import command, ended, expected, slow  # noqa: F401 - fixtures
from test_ray import results as results_of


@pytest.mark.filterwarnings("ignore")
def test_an_array_of_evaluators_shares_the_jobs_and_ends_in_the_bytes_of_one_process(slow, expected):  # noqa: F811
    pytest.importorskip("submitit", reason="submitit is not installed (the extra `slurm`)")
    code, said = ended(command(slow, "--on", "slurm", "-j", "2"))
    assert code == 0, said
    assert "6 done" in said
    assert results_of(slow) == expected
