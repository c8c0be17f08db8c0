"""A grid trained by Ray and by Slurm: interrupted and asked again, it ends in the bytes of one process here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from grids import GRID
from safetensors.torch import save

from benchmark.errors import WorkspaceError
from benchmark.jobs.executors import Crew, work_through
from models_zoo.training.grid import read_grid
from models_zoo.training.loop import train

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = {"ray": "ray", "slurm": "submitit"}


def started(grid: Path, out: Path, on: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "curveboard", "train", "--grid", grid, "-o", out, "--on", on, "-j", "2"]
    paths = os.pathsep.join(str(ROOT / part) for part in (".", "site"))
    environment = os.environ | {"PYTHONPATH": paths, "RAY_DISABLE_IMPORT_WARNING": "1"}
    return subprocess.Popen(
        command,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=listening,  # noqa: PLW1509 - no other thread of this process holds a lock
    )


def listening() -> None:
    """Not deaf to SIGINT, as what a script runs in the background is."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("on", LIBRARIES)
def test_interrupted_and_asked_again_it_ends_in_the_same_bytes(tmp_path, on):
    pytest.importorskip(LIBRARIES[on], reason=f"{LIBRARIES[on]} is not installed (the extra `{on}`)")
    path, out = tmp_path / "grid.toml", tmp_path / "out"
    path.write_text(GRID.replace("epochs = 1", "epochs = 150").replace("seeds = [0, 1]", "seeds = [0]"))
    process = started(path, out, on)
    while not list(out.rglob("*.ckpt")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=1200)
    assert process.returncode == 130, said
    assert "Traceback" not in said or on == "slurm"  # submitit's own, of its processes in Slurm's place
    assert list(out.rglob("*.ckpt"))
    process = started(path, out, on)
    said, _ = process.communicate(timeout=1200)
    assert process.returncode == 0, said
    assert "2 runs, " in said
    for slug, run in read_grid(path).runs.items():
        assert (out / slug / f"{slug}.safetensors").read_bytes() == save(dict(train(run).state))


def twice(item: int, stopping) -> int:
    if item == 3:
        raise ValueError("three is not taken")
    assert not stopping()
    return 2 * item


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("on", LIBRARIES)
def test_what_a_task_raises_is_told(tmp_path, monkeypatch, on):
    pytest.importorskip(LIBRARIES[on], reason=f"{LIBRARIES[on]} is not installed (the extra `{on}`)")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(ROOT / part) for part in (".", "site", "tests")))
    seen: list[int] = []
    with pytest.raises(WorkspaceError, match="three is not taken"):
        work_through(twice, [1, 2, 3], Crew(tmp_path, workers=1), seen.append, on=on)
    assert set(seen) <= {2, 4}


@pytest.mark.parametrize("on", LIBRARIES)
def test_without_the_library_it_is_said_what_to_install(tmp_path, monkeypatch, on):
    monkeypatch.setitem(sys.modules, LIBRARIES[on], None)
    with pytest.raises(WorkspaceError, match=rf"pip install 'curveboard\[{on}\]'"):
        work_through(twice, [1], Crew(tmp_path), print, on=on)
