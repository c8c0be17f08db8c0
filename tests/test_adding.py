"""Every example of docs/adding.md works as it stands there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"<!-- (file|run): (\S+) -->\n```\w+\n(.*?)```", re.DOTALL)

# Stands for having put the files into the packages' own folders.
ADD = """
import benchmark.attacks, benchmark.data.datasets, benchmark.measures, models_zoo.architectures
for package in (benchmark.attacks, benchmark.data.datasets, benchmark.measures, models_zoo.architectures):
    package.__path__.append(package.__name__.replace(".", "/"))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A workspace with every file of the page in place."""
    folder = tmp_path_factory.mktemp("adding")
    blocks = BLOCK.findall((ROOT / "docs" / "adding.md").read_text())
    assert len(blocks) >= 9
    curveboard(folder, ["init", "."])
    for kind, name, text in blocks:
        if kind == "file":
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    fill(folder, "benchmark/data/datasets/stripes.py", DIGEST=digest(folder))
    model = folder / "models" / "my-model"
    printed = script(folder, next(text for kind, name, text in blocks if (kind, name) == ("run", "weights")))
    (folder / "my-model.safetensors").rename(model / "my-model.safetensors")
    size, sha256 = re.search(r"size = (\d+)\nsha256 = '(\w+)'", printed).groups()
    fill(folder, "models/my-model/model.toml", SIZE=size, SHA256=sha256)
    return folder


def script(folder: Path, text: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", ADD + text], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def curveboard(folder: Path, *commands: list[str]) -> str:
    """Run commands, one after the other in one process; returns all they print."""
    return script(folder, f"from benchmark.cli import run\nfor c in {commands!r}:\n    assert run(c) == 0, c")


def fill(folder: Path, name: str, **values: str) -> None:
    text = (folder / name).read_text()
    for placeholder, value in values.items():
        assert placeholder in text
        text = text.replace(placeholder, value)
    (folder / name).write_text(text)


def digest(folder: Path) -> str:
    code = (
        "from benchmark.data import manifest_digest\nfrom benchmark.data.datasets.stripes import read\n"
        "print(manifest_digest(*read(), levels=255))"
    )
    return script(folder, code).strip()


def test_the_files_are_found_by_the_registries(place):
    kinds = ("attacks", "measures", "datasets", "protocols", "models")
    listed = curveboard(place, *(["list", kind] for kind in kinds))
    for name in ("fade", "margin", "stripes", "margins", "my-model"):
        assert re.search(rf"^{name} ", listed, re.MULTILINE), name


def test_the_standard_protocol_plans_the_new_attack(place):
    plan = json.loads(curveboard(place, ["evaluate", "-m", "my-model", "--plan", "--json"]))
    assert {job["parameters"].get("attack") for job in plan} >= {"engine", "fade"}


def test_the_new_model_is_evaluated_by_the_new_measure_and_attack(place):
    printed = curveboard(place, ["evaluate", "-m", "my-model", "--protocol", "margins"], ["show", "my-model", "--json"])
    shown = json.loads(printed.partition("done.\n")[2])
    assert [e["state"] for e in shown["evaluations"]] == ["done", "done"]
    scores = {score["name"]: score["value"] for e in shown["evaluations"] for score in e["scores"]}
    assert "mean_margin" in scores


def test_the_new_page_is_published(place):
    curveboard(place, ["publish"])
    page = (place / "public" / "totals.html").read_text()
    assert "<h1>Totals</h1>" in page
    assert '<a href="totals.html" aria-current="page">Totals</a>' in page
