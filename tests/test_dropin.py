"""One file of each kind is dropped into a workspace: each is seen wherever results are.

The files are in ``tests/dropin/``, in the folders that a workspace has for them. Nothing else knows their names.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import html5lib
import pytest
import torch
from safetensors.torch import save_file

from benchmark import plugins
from benchmark.cli import run
from models_zoo import architectures
from models_zoo.own_code import VARIABLE

FILES = Path(__file__).parent / "dropin"
BOARD = "noisy_stripes-12-dropped"
CARD = """
slug = "{slug}"
title = "A bilinear form, {slug}"
authors = ["Somebody"]
year = 2026
licence = "MIT"
dataset = "noisy_stripes"

[model]
form = "weights"
architecture = "bilinear_form"
arguments = {{ side = 8, classes = 2 }}

[[weights]]
file = "weights.safetensors"
size = {size}
sha256 = "{sha256}"
"""


def submit(root: Path, slug: str, scale: float) -> None:
    """Put a model into the workspace: of the energies of differences along the columns and along the rows."""
    network = architectures.build("bilinear_form", {"side": 8, "classes": 2})
    down, across = (-1.0) ** torch.arange(8), torch.ones(8) * scale
    state = {"left": torch.stack([-down, across]), "right": torch.stack([across, -down])}
    assert network.state_dict().keys() == state.keys()
    folder = root / "models" / slug
    folder.mkdir(parents=True)
    save_file(state, folder / "weights.safetensors")
    content = (folder / "weights.safetensors").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    (folder / "model.toml").write_text(CARD.format(slug=slug, size=len(content), sha256=digest))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace with all files, evaluated and published."""
    root = tmp_path_factory.mktemp("dropin") / "board"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "")  # so that it is put back
        assert run(["init", str(root)]) == 0
        shutil.copytree(FILES, root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        plugins.use(root)
        submit(root, "narrow", 0.5)
        submit(root, "wide", 1.0)
        models = ["-m", "narrow", "-m", "wide"]
        command = ["evaluate", *models, "--protocol", "dropped", "--on", "backwards", "-w", str(root)]
        assert run(command) == 0
        assert run(["publish", "-w", str(root), "-j", "2"]) == 0
        yield root


def printed(place: Path, capsys: pytest.CaptureFixture[str], *command: str) -> str:
    capsys.readouterr()
    assert run([*command, "-w", str(place)]) == 0
    return capsys.readouterr().out


def page(place: Path, *parts: str) -> Element:
    text = place.joinpath("public", *parts).read_text()
    return html5lib.parse(text, namespaceHTMLElements=False)


def words(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())


def script(place: Path, name: str) -> dict[str, Any]:
    """What a data file of the board hands to the page's scripts."""
    text = place.joinpath("public", "boards", BOARD, name).read_text()
    value: dict[str, Any] = json.loads(text[text.index(".push(") + 6 : text.rindex(")")])[1]
    return value


def columns(place: Path, name: str = "index.html") -> dict[str, tuple[str, list[Element]]]:
    """Heading -> tooltip and cells, the first row first."""
    table = next(t for t in page(place, "boards", BOARD, name).iter("table") if t.get("id") == "table")
    heads, *rows = ([*tr] for tr in table.iter("tr"))
    return {words(h): (h.get("title", ""), [row[k] for row in rows]) for k, h in enumerate(heads)}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("norms", "mean_change"),
        ("attacks", "turned"),
        ("suites", "fog"),
        ("datasets", "noisy_stripes"),
        ("measures", "everything"),
        ("protocols", "dropped"),
        ("executors", "backwards"),
        ("pages", "totals"),
        ("panels", "stars"),
        ("architectures", "bilinear_form"),
        ("recipes", "smoothed"),
        ("models", "narrow"),
    ],
)
def test_each_file_is_listed(place, capsys, kind, name):
    assert re.search(rf"^{name} ", printed(place, capsys, "list", kind), re.MULTILINE)


def test_a_model_shows_all_results(place, capsys):
    shown = json.loads(printed(place, capsys, "show", "narrow", "--json"))
    found = {(e["measure"], e["parameters"].get("attack"), e["state"]) for e in shown["evaluations"]}
    assert found == {("everything", None, "done"), ("curve", "turned", "done")}
    assert {"lead", "stars", "found"} <= {score["name"] for e in shown["evaluations"] for score in e["scores"]}


@pytest.mark.parametrize("form", ["csv", "json"])
def test_the_export_has_every_kind(place, capsys, form):
    def exported(what: str) -> list[dict[str, Any]]:
        text = printed(place, capsys, "export", "--what", what, "--format", form)
        return json.loads(text) if form == "json" else list(csv.DictReader(io.StringIO(text)))

    assert {"lead", "stars"} <= {line["score"] for line in exported("scores")}
    assert {line["kind"] for line in exported("samples")} == {"upper", "lower", "estimate", "verdict"}
    tables = {(line["output"], line["cell"]) for line in exported("tables")}
    assert {("in_fog", "black × 3"), ("effort", "4")} <= tables
    distances = exported("distances")
    assert {line["norm"] for line in distances} >= {"linf", "mean_change"}
    assert len([line for line in distances if line["norm"] == "mean_change"]) == 24


@pytest.mark.parametrize(
    ("heading", "help_"),
    [
        ("Lead logits", "Mean lead of the first logit. Higher is better."),
        ("Proven", "Radius proven. Higher is better."),
        ("Guess", "Radius guessed. Higher is better."),
        ("Safe %", "Whether it is safe. Higher is better."),
        ("In fog %", "Accuracy in fog. Higher is better."),
        ("Effort %", "Accuracy after so many looks. Lower is better."),
        ("Stars", "What the critics say. Higher is better."),
        ("Distance", "Smallest distance at which the attack found an adversarial example. Higher is better."),
    ],
)
def test_each_kind_is_a_column_with_its_tooltip_and_values(place, heading, help_):
    tooltip, cells = columns(place)[heading]
    assert tooltip == help_
    assert len(cells) == 2
    assert not {"", "–"} & {words(cell) for cell in cells}


def test_cells_carry_their_intervals_and_what_they_are_sorted_by(place):
    data = script(place, "linf.js")["cells"]
    narrow, wide = data["everything.lead"]
    assert wide[2] == pytest.approx(2 * narrow[2])  # its weights are twice as large
    assert float(narrow[1].partition("–")[0]) < narrow[2] < float(narrow[1].partition("–")[2])
    for name in ("everything.safe", "everything.proven", "everything.effort", "curve.distance"):
        assert all(interval and sort is not None for _, interval, sort in data[name]), name
    assert all(sort is not None for cells in data.values() for _, _, sort in cells)
    assert {c["direction"] for c in script(place, "models.js")["columns"]} == {"higher", "lower"}


def test_the_models_page_has_a_part_for_every_kind(place):
    shown = page(place, "boards", BOARD, "models", "narrow", "index.html")
    sections = {s.get("id"): words(s) for s in shown.iter("section")}
    for kind, said in {
        "curves": "mean |δ|",
        "certificates": "Proven",
        "estimates": "Guess",
        "verdicts": "Safe",
        "numbers": "Lead",
        "grids": "In fog",
        "traces": "Effort",
        "stars": "Stars: ★★★★",
        "attacks": "turned",
    }.items():
        assert said in sections[kind], kind
    assert "black" in sections["grids"]  # the suite's axes
    assert "looks a sample" in sections["traces"]
    attack = page(place, "attacks", "turned.html")
    assert "a paper of the drop-in test" in words(attack)


def test_the_boards_files_have_every_kind(place, capsys):
    distances = json.loads(printed(place, capsys, "export", "--what", "distances", "--format", "json"))
    changes = [d["distance"] for d in distances if (d["model"], d["norm"]) == ("narrow", "mean_change")]
    robust = [distance is None or distance > 0.25 for distance in changes]
    folder = place / "public" / "boards" / BOARD
    (narrow, _) = csv.DictReader(io.StringIO((folder / "board.csv").read_text()))
    fields = {
        "everything.lead": 9.7363,
        "everything.proven@linf_certified": 1,
        "everything.guess@linf_median": 0.6,
        "everything.safe@linf": 1 / 3,
        "everything.in_fog_mean": 1,
        "everything.effort_last": 0.25,
        "everything.stars": 4,
        "curve.distance@mean_change_robust": sum(robust) / len(robust),
    }
    assert 0 < sum(robust) < len(robust) == 12
    for name, value in fields.items():
        assert float(narrow[name]) == pytest.approx(value, abs=1e-4), name
    evaluations = json.loads((folder / "models" / "narrow" / "model.json").read_text())["evaluations"]
    kinds = {o["kind"]: o["values"] for e in evaluations for o in e["outputs"]}
    assert kinds.keys() == {"upper", "lower", "estimate", "verdict", "scalar", "grid", "trace", "stars"}
    assert [axis["name"] for axis in kinds["grid"]["axes"]] == ["colour", "severity"]
    assert kinds["trace"]["value"] == [0.75, 0.5, 0.25]
    assert kinds["stars"] == {"value": 4.0}


def test_the_norm_has_a_board_of_its_own_ranked_by_its_distances(place):
    heads = columns(place, "mean_change.html")
    assert "ε 0.25" in heads
    assert "Distance" in heads
    assert "Proven" not in heads  # speaks of linf only
    ledger = [v for v in script(place, "mean_change.js")["certified"][0] if v is not None]
    assert not ledger  # nothing was proven in it


def test_a_page_beside_its_template_is_in_the_menu(place):
    shown = page(place, "totals.html")
    assert f"{BOARD}: 2 models" in words(shown)
    menu = next(nav for nav in page(place, "index.html").iter("nav"))
    assert "totals.html" in {a.get("href") for a in menu.iter("a")}


def test_a_panel_that_changed_makes_the_pages_anew(place, tmp_path):
    copied = tmp_path / "board"
    shutil.copytree(place, copied)
    template = copied / "panels" / "stars.html"
    template.write_text(template.read_text().replace("<h2>Stars", "<h2>Critics"))
    command = [sys.executable, "-m", "curveboard", "publish", "-w", str(copied), "-j", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    shown = page(copied, "boards", BOARD, "models", "narrow", "index.html")
    assert "Critics Stars: ★★★★" in {words(s) for s in shown.iter("section")}


def test_the_recipe_trains_the_architecture_on_the_dataset(place, capsys):
    listed = printed(place, capsys, "train", "--list")
    assert re.search("^smoothed .*Smoothed labels", listed, re.MULTILINE)
