"""50,000 images of 224 × 224 are planned, evaluated on the first 8 and published within 2 GB of memory."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

ROOT = Path(__file__).parent.parent
LIMIT = 2 << 30

# The images are a sparse file of 7.5 GB: read as a whole they would not fit, as float32 not by far.
DATASET = """
import hashlib
from functools import partial
from pathlib import Path

import numpy as np

from benchmark.data import Dataset

SHAPE = (50000, 3, 224, 224)


class Sparse:
    shape, digest = SHAPE, "5" * 64

    def __init__(self):
        self.file = np.memmap(Path(__file__).parent / "images.bin", np.uint8, "r", shape=SHAPE)

    def __getitem__(self, which):
        assert len(range(SHAPE[0])[which]) <= 64, "nothing reads so many at once"
        return self.file[which]


DATASET = Dataset(
    name="large", title="Large", shape=SHAPE[1:], classes=("dark", "light"), size=SHAPE[0], levels=255,
    digest="5" * 64, eps={"linf": (4 / 255,), "l2": (3.0,)}, licence="", source="",
    read=lambda: (Sparse(), np.arange(SHAPE[0]) % 2),
)
"""
NET = """
from torch import nn

VERSION = 1


def build(*, classes):
    return nn.Sequential(nn.AvgPool2d(56), nn.Flatten(), nn.Linear(48, classes))
"""
ATTACK = """
from benchmark.attacks import Attack, AttackResult


def fade(model, x, y, *, norm, effort, seed, pool):
    return AttackResult(1 - x)


ATTACK = Attack(name="fade", version=1, title="Negative", paper="", run=fade)
"""
PROTOCOL = """
name = "small"
version = 1
title = "Small"
[[measures]]
measure = "clean"
[[measures]]
measure = "curve"
norm = ["linf", "l2"]
attack = "fade"
"""
CARD = """
slug = "tiny"
title = "Tiny"
authors = ["A"]
year = 2026
licence = "MIT"
dataset = "large"
[model]
form = "weights"
architecture = "tiny"
arguments = {{ classes = 2 }}
[[weights]]
file = "tiny.safetensors"
size = {size}
sha256 = "{sha256}"
"""
RUN = f"""
import resource, sys
import peaks
import torch  # its libraries take address space of their own, whatever is done with them
from pathlib import Path
pages = int(Path("/proc/self/statm").read_text().split()[0])
before = pages * resource.getpagesize()
# The sparse file is mapped, which takes address space but no memory.
resource.setrlimit(resource.RLIMIT_AS, (before + {LIMIT} + (8 << 30), resource.RLIM_INFINITY))
from benchmark.cli import run
for command in sys.argv[1].split(";"):
    code = run(command.split())
    assert code == 0, (command, code)
print("PEAK", peaks.peak())
"""


@pytest.fixture
def board(tmp_path: Path) -> Path:
    for name, text in {
        "datasets/large.py": DATASET,
        "architectures/tiny.py": NET,
        "attacks/fade.py": ATTACK,
        "protocols/small.toml": PROTOCOL,
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    images = np.memmap(tmp_path / "datasets/images.bin", np.uint8, "w+", shape=(50000, 3, 224, 224))
    images[:500:2] = 30
    images[1:500:2] = 200
    images.flush()
    return tmp_path


def test_a_large_dataset_is_planned_evaluated_on_a_slice_and_published(board: Path) -> None:
    content = save({"2.weight": np.float32([[-1], [1]]).repeat(48, 1), "2.bias": np.float32([24, -24])})
    (board / "models/tiny").mkdir(parents=True)
    (board / "models/tiny/tiny.safetensors").write_bytes(content)
    (board / "models/tiny/model.toml").write_text(
        CARD.format(size=len(content), sha256=hashlib.sha256(content).hexdigest())
    )
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in (".", "site", "tests")),
        "OMP_NUM_THREADS": "1",
    }
    commands = "init .;evaluate -m tiny --protocol small --plan;evaluate -m tiny --protocol small --limit 8;publish"
    done = subprocess.run(
        [sys.executable, "-c", RUN, commands], cwd=board, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.rpartition("PEAK ")[2]) < LIMIT
    assert "1 boards, 1 rows" in done.stdout
    assert (board / "curveboard.db").stat().st_size < 10 << 20
