"""On which device each worker of this machine runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmark.jobs.executors.local import devices
from benchmark.jobs.setting import Setting


def setting(**values) -> Setting:
    return Setting("sqlite:///x.db", Path("a"), Path("m"), Path("l"), **values)


@pytest.mark.parametrize("gpus", [1, 2, 8])
@pytest.mark.parametrize("share", [1, 3])
def test_cuda_is_every_gpu_of_the_machine_with_so_many_jobs_each(gpus, share):
    found = devices(setting(device="cuda", jobs_per_gpu=share), gpus)
    assert Counter(found) == {f"cuda:{k}": share for k in range(gpus)}
    assert len(set(found[:gpus])) == gpus  # few jobs are spread, not piled on the first


def test_asked_for_fewer_workers_than_gpus_it_uses_as_many():
    assert devices(setting(device="cuda", workers=2), 4) == ["cuda:0", "cuda:1"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"device": "cpu"}, ["cpu"]),
        ({"device": "cpu", "workers": 3}, ["cpu"] * 3),
        ({"device": "cpu", "jobs_per_gpu": 4}, ["cpu"]),
        ({"device": "cuda:1"}, ["cuda:1"]),
        ({"device": "cuda:1", "jobs_per_gpu": 2}, ["cuda:1"] * 2),
    ],
)
def test_a_device_that_is_named_is_the_one(values, expected):
    assert devices(setting(**values), 4) == expected
