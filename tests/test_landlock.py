"""Submitted code leaves everybody's files alone, where the kernel can see to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from loudly import skip_loudly

from models_zoo.serving import landlock
from models_zoo.serving.builders import Served
from models_zoo.serving.sandbox import SandboxedModel

CODE = """
import os, tempfile
from pathlib import Path
import torch
from torch import nn

HOME = Path({victim!r})


def tried(act):
    try:
        act()
    except OSError as error:
        return float(error.errno)
    return 0.0


class Model(nn.Module):
    def forward(self, x):
        results = [
            tried(lambda: (HOME / "mine").unlink()),
            tried(lambda: open(HOME / "mine", "w").close()),
            tried(lambda: os.truncate(HOME / "mine", 0)),
            tried(lambda: (HOME / "mine").rename(HOME / "yours")),
            tried(lambda: (HOME / "new").touch()),
            tried(lambda: (HOME / "link").symlink_to("mine")),
            tried(lambda: (HOME / "empty").rmdir()),
            tried(lambda: Path("own").touch()),
            tried(lambda: Path("own").unlink()),
            tried(lambda: os.system("rm -f " + str(HOME / "mine"))),
        ]
        return torch.tensor([results] * len(x))


def make(folder):
    return Model()
"""


def test_submitted_code_touches_no_file_but_in_its_temporary_folder(tmp_path):
    if not landlock.version():
        skip_loudly("this kernel has no Landlock")
    victim = tmp_path / "victim"
    (victim / "empty").mkdir(parents=True)
    (victim / "mine").write_text("mine")
    (tmp_path / "model.py").write_text(CODE.format(victim=str(victim)))
    model = SandboxedModel(Served("code", str(tmp_path / "model.py"), "make", str(tmp_path)))
    (errors,) = model(torch.zeros(1, 1, 2, 2)).tolist()
    denied, own = errors[:7], errors[7:9]
    assert all(error in {1.0, 13.0} for error in denied), denied  # EPERM, EACCES
    assert own == [0.0, 0.0], "its own folder is its own"
    assert (victim / "mine").read_text() == "mine", "its children cannot either"
    assert sorted(path.name for path in victim.iterdir()) == ["empty", "mine"]


def test_reading_goes_on_and_writing_elsewhere_is_over(tmp_path):
    if not landlock.version():
        skip_loudly("this kernel has no Landlock")
    (tmp_path / "in").mkdir()
    (tmp_path / "out").write_text("before")
    code = (
        "import sys; from pathlib import Path; from models_zoo.serving.landlock import restrict_writes\n"
        "assert restrict_writes([Path('in')])\n"
        "Path('in/file').write_text('x'); print(Path('out').read_text(), file=open('/dev/null', 'w'))\n"
        "try:\n    Path('out').write_text('after')\n"
        "except PermissionError:\n    sys.exit(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=os.environ, check=False)
    assert done.returncode == 7
    assert (tmp_path / "out").read_text() == "before"


def test_without_landlock_nothing_is_claimed(monkeypatch, tmp_path):
    monkeypatch.setattr(landlock, "version", lambda: 0)
    assert landlock.restrict_writes([Path(tmp_path)]) is False
    (tmp_path / "file").write_text("still allowed")


if not sys.platform.startswith("linux"):
    pytest.skip("Landlock is Linux's", allow_module_level=True)
