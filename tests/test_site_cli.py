"""publish, plot and serve, as a user types them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import synthetic

from benchmark.cli import run
from benchmark.cli.serve import signature
from benchmark.workspace import Workspace
from db.migrate import upgrade
from db.schema import Change, State
from db.session import Database


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = Workspace.create(tmp_path_factory.mktemp("cli") / "board")
    database = Database(workspace.database_url)
    upgrade(database)
    synthetic.populate(database, models=2, n=20, exact=0)
    database.engine.dispose()
    return workspace.root


def test_publish_says_what_to_open_and_what_was_kept(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["publish", "-w", str(place)]) == 0
    assert "1 boards, 2 rows" in capsys.readouterr().out
    assert run(["publish", "-w", str(place)]) == 0
    said = capsys.readouterr().out
    assert "2 rows unchanged" in said
    assert f"Open {place / 'public' / 'index.html'}" in said


@pytest.mark.parametrize("day", ["yesterday", "2026-13-01", "1"])
def test_a_date_that_is_none_is_a_usage_error(place: Path, day: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["publish", "-w", str(place), "--as-of", day]) == 2
    assert "is no date" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "options", "begin"),
    [
        ("a.svg", ["--kind", "curves", "--norm", "union"], b"<svg"),
        ("b.pdf", ["--kind", "ranks", "--norm", "l1"], b"%PDF"),
        ("c.png", ["--kind", "band", "-m", "standard-training-a"], b"\x89PNG"),
    ],
)
def test_plot_writes_what_the_suffix_says(
    place: Path, tmp_path: Path, name: str, options: list[str], begin: bytes
) -> None:
    target = tmp_path / "figures" / name
    assert run(["plot", str(target), "-w", str(place), *options]) == 0
    assert target.read_bytes().startswith(begin)


def test_a_figure_for_a_paper_has_its_range_its_bands_its_inches_and_no_title(place: Path, tmp_path: Path) -> None:
    target = tmp_path / "paper.svg"
    options = ["--bands", "--no-title", "--up-to", "0.1", "--width", "5", "--height", "3"]
    assert run(["plot", str(target), "-w", str(place), *options]) == 0
    drawn = ET.fromstring(target.read_text())
    texts = [text.text or "" for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert drawn.get("width") == "360"
    assert not any("Robustness curves" in text for text in texts)
    numbers = [float(text) for text in texts if text.replace(".", "").isdigit()]
    assert max(numbers) == 0.1
    bands = [
        path for path in drawn.iter("{http://www.w3.org/2000/svg}path") if "mix-blend-mode" in path.get("style", "")
    ]
    assert len(bands) == 2  # one for each ranked model


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x.gif"], "a figure is one of .svg, .pdf, .png"),
        (["x.svg", "--kind", "band"], "name one with --model"),
        (["x.svg", "-m", "standard-traning-a"], "Did you mean 'standard-training-a'"),
        (["x.svg", "--board", "mnist"], "There is no board called 'mnist'"),
        (["x.svg", "--up-to", "7"], "--up-to 7 lies beyond it"),
        (["x.svg", "--bands", "--kind", "ranks"], "Bands go with --kind curves"),
        (["x.svg", "--width", "1"], "150 to 4000 points"),
    ],
)
def test_plot_explains_what_it_cannot_draw(
    place: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["plot", *arguments, "-w", str(place)]) == 1
    assert said in capsys.readouterr().err


def test_export_gives_what_the_board_shows(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["publish", "-w", str(place)]) == 0
    (shown,) = (place / "public").glob("boards/*/board.csv")
    capsys.readouterr()
    assert run(["export", "--what", "board", "-w", str(place)]) == 0
    assert capsys.readouterr().out == shown.read_text()
    assert run(["export", "--what", "board", "--json", "-w", str(place)]) == 0
    rows = json.loads(capsys.readouterr().out)
    best = max(rows, key=lambda row: row["l2_0.25"])
    assert best["l2_0.25_rank"] == 1
    assert best["authors"] == "Ada Example; Ben Sample"
    assert best["paper"].startswith("https://arxiv.org/")


def test_json_holds_json_and_show_says_on_how_many_images(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "--what", "samples", "--json", "-w", str(place)]) == 0
    assert all(isinstance(row["parameters"], dict) for row in json.loads(capsys.readouterr().out))
    assert run(["show", "standard-training-a", "-w", str(place)]) == 0
    said = capsys.readouterr().out.splitlines()
    (head,) = (line for line in said if line.startswith("measure"))
    at = head.index("images")
    assert {line[at : at + 6].strip() for line in said if line.startswith("curve")} == {"20"}


def test_a_device_that_is_not_there_is_refused_in_one_sentence(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "-w", str(place), "--device", "mps"]) == 1
    said = capsys.readouterr().err.strip()
    assert said.endswith("Give --device cpu, cuda, or cuda:N.")
    assert len(said) < 200
    assert "\n" not in said


def test_the_signature_changes_with_whatever_the_site_shows(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'board.db'}")
    upgrade(database)
    made = synthetic.populate(database, models=1, n=10, exact=0)
    seen = {signature(database)}
    with database.write() as session:
        session.add(Change(at=synthetic.START, kind="x", model_id=1, dataset_id=made.dataset_id, detail={}))
    seen.add(signature(database))
    with database.write() as session:
        from db.schema import Evaluation

        session.get_one(Evaluation, 1).state = State.FAILED
    seen.add(signature(database))
    assert len(seen) == 3
    assert signature(database) in seen
    database.engine.dispose()


def test_serve_shows_the_site_on_this_machine_and_ends_when_interrupted(place: Path) -> None:
    # A shell lets the jobs that it runs in the background, and so this test, ignore SIGINT: undone first.
    hear = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = f"{hear}; from benchmark.cli import main; main()"
    command = [sys.executable, "-c", program, "serve", "-w", str(place), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("Serving http://127.0.0.1:")
        with urllib.request.urlopen(line.split()[1] + "index.html") as answer:
            assert b"Curveboard" in answer.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_bundle_is_offered_when_asked_for_and_holds_elsewhere(
    board: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["publish", "-w", str(board.root), "--bundles"]) == 0
    pages = sorted((board.public / "boards").glob("*/models/*"))
    assert pages
    for page in pages:
        bundle = page / f"{page.name}.bundle"
        assert f'href="{bundle.name}"' in (page / "index.html").read_text(encoding="utf-8")
        assert run(["verify", "--bundle", str(bundle)]) == 0
    assert run(["publish", "-w", str(board.root)]) == 0
    assert not list(board.public.rglob("*.bundle"))
    assert f"curveboard bundle {pages[0].name}" in (pages[0] / "index.html").read_text(encoding="utf-8")
    capsys.readouterr()


def test_a_bundle_is_of_the_present(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["publish", "-w", str(place), "--bundles", "--as-of", "2026-03-01"]) == 2
    assert "--bundles does not go with --as-of" in capsys.readouterr().err
