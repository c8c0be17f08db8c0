"""No row keeps the others from being published; what is shown comes from declared outputs alone."""

from __future__ import annotations

import ast
import json
import multiprocessing
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import synthetic
from sites import build
from sqlalchemy import delete, select, update

import benchmark.measures
import sitegen
from benchmark.results import Kind, Output
from db.migrate import upgrade
from db.schema import Array, Cell, Chunk, Evaluation, Model, Protocol, State
from db.session import Database
from sitegen import menu, staging
from sitegen import pages as page_package
from sitegen.pages import Page

BOARD = "boards/synthetic-20-standard"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database of three complete rows, and its site."""
    folder = tmp_path_factory.mktemp("rows")
    database = Database(f"sqlite:///{folder / 'board.db'}")
    upgrade(database)
    synthetic.populate(database, models=3, n=20, exact=0, weather=True)
    database.engine.dispose()
    build(folder)
    return folder


@pytest.fixture
def place(published: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(published, tmp_path / "place"))


def change(place: Path, statement: Callable[[Database], None], *, results: bool = False) -> None:
    """Change the database; stored results never change by themselves, so that rows with other ones are forgotten."""
    if results:
        shutil.rmtree(place / ".public-cache")
    database = Database(f"sqlite:///{place / 'board.db'}")
    statement(database)
    database.engine.dispose()


def page(place: Path, path: str = f"{BOARD}/index.html") -> str:
    return (place / "public" / path).read_text(encoding="utf-8")


def unrank(place: Path, reason: str) -> str:
    """Publish; the first model stands apart for this reason, on its own page too, and the others are ranked."""
    build(place)
    ranked, _, apart = page(place).partition('<section id="apart">')
    assert ranked.count('<td class="rank">') == 2
    assert re.search(reason, apart), apart[:900]
    assert "Not ranked" in page(place, f"{BOARD}/models/standard-training-a/index.html")
    return apart


def first_model(database: Database) -> int:
    with database.read() as session:
        return session.scalars(select(Model.id).where(Model.slug == "standard-training-a")).one()


def test_a_row_whose_evaluations_are_all_to_come_stands_apart(place: Path) -> None:
    def queue(database: Database) -> None:
        key = first_model(database)
        with database.write() as session:
            session.execute(update(Evaluation).where(Evaluation.model_id == key).values(state=State.QUEUED))
            session.execute(delete(Chunk).where(Chunk.evaluation_id.in_(select(Evaluation.id).filter_by(model_id=key))))

    change(place, queue)
    unrank(place, r"incomplete: 14 of 14 evaluations still to come")


def test_a_crossed_row_is_not_ranked_and_names_the_sample(place: Path) -> None:
    def cross(database: Database) -> None:
        key = first_model(database)
        with database.write() as session:
            (array,) = session.scalars(
                select(Array)
                .join(Chunk)
                .join(Evaluation)
                .where(Evaluation.measure == "certificate", Evaluation.norm == "l1", Evaluation.model_id == key)
            )
            session.execute(update(Array).where(Array.id == array.id).values(data=np.full(20, 77.0)))

    change(place, cross, results=True)
    apart = unrank(place, r"crossed: l1: sample \d+ is certified up to 77, but \S+ has a verified adversarial example")
    assert "20 samples cross" in apart or "samples cross" in apart


@pytest.mark.parametrize(
    "data",
    [np.full(20, -1.0), np.full(20, np.nan), np.zeros((20, 7)), np.array(["x"] * 20), np.empty(0)],
    ids=["negative", "nan", "shape", "text", "empty"],
)
def test_arrays_that_no_ledger_can_hold_do_not_stop_the_site(place: Path, data: np.ndarray) -> None:
    def damage(database: Database) -> None:
        key = first_model(database)
        with database.write() as session:
            ids = session.scalars(select(Array.id).join(Chunk).join(Evaluation).where(Evaluation.model_id == key)).all()
            session.execute(update(Array).where(Array.id.in_(ids)).values(data=data))

    change(place, damage, results=True)
    build(place)
    assert page(place).count('<td class="rank">') >= 2
    assert "standard-training-a" in page(place)


def test_a_row_that_was_not_attacked_in_a_norm_is_ranked_in_the_others(place: Path) -> None:
    def forget(database: Database) -> None:
        key = first_model(database)
        with database.write() as session:
            own = select(Evaluation.id).where(
                Evaluation.model_id == key, Evaluation.measure == "curve", Evaluation.norm == "l2"
            )
            session.execute(delete(Chunk).where(Chunk.evaluation_id.in_(own)))
            session.execute(update(Evaluation).where(Evaluation.id.in_(own)).values(state=State.UNSUPPORTED))

    change(place, forget)
    build(place)
    assert page(place).count('<td class="rank">') == 3
    for name, reason in (("l2", "not attacked in ℓ₂"), ("union", "not attacked in ℓ₂, so it has no union")):
        ranked, _, apart = page(place, f"{BOARD}/{name}.html").partition('<section id="aparthere">')
        assert ranked.count('<td class="rank">') == 2
        assert f"Standard training 0</a>: {reason}" in apart


def test_a_protocol_without_attacks_makes_a_board_without_ranks(place: Path) -> None:
    def keep(database: Database) -> None:
        with database.write() as session:
            attacks = select(Evaluation.id).where(Evaluation.measure == "curve")
            session.execute(update(Protocol).values(spec={"measures": [{"measure": "clean"}]}))
            session.execute(delete(Cell).where(Cell.evaluation_id.in_(attacks)))
            session.execute(update(Evaluation).where(Evaluation.id.in_(attacks)).values(state=State.QUEUED))

    change(place, keep)
    report = build(place)
    assert report.rows == 3
    text = page(place)
    assert "This protocol ranks by no attack" in text  # but by the grid of the weather
    assert ">Rank<" not in text
    assert len(re.findall(r'<th scope="row"[^>]*>(?:<span[^>]*>[^<]*</span> )?<a href="models/', text)) == 3
    assert ">Clean" in text
    assert "Not ranked in ℓ∞" not in page(place, f"{BOARD}/models/standard-training-a/index.html")
    own = page(place, f"{BOARD}/models/standard-training-a/index.html")
    assert 'id="curves"' not in own
    assert re.search(r"<dt>Clean</dt><dd>\d+\.\d %", own)


def test_nobody_leads_and_nobody_has_a_rank_where_every_model_is_broken(place: Path) -> None:
    def break_all(database: Database) -> None:
        with database.write() as session:
            ids = session.scalars(select(Array.id).where(Array.name == "distance_linf")).all()
            session.execute(update(Array).where(Array.id.in_(ids)).values(data=np.full(20, 1e-4)))
            ids = session.scalars(select(Array.id).where(Array.name == "radius")).all()
            session.execute(update(Array).where(Array.id.in_(ids)).values(data=np.zeros(20)))

    change(place, break_all, results=True)
    build(place)
    text = page(place)
    assert text.count('<td class="rank"><b>–</b>') == 3
    assert "every model is broken" in text
    tab = re.search(r'data-threat="linf".*?</a>', text)
    assert tab
    assert "at 0.05" not in tab[0]


def test_publishing_writes_nothing_and_works_on_a_database_that_may_only_be_read(place: Path) -> None:
    before = (place / "board.db").read_bytes()
    (place / "board.db").chmod(0o400)
    build(place)
    assert (place / "board.db").read_bytes() == before
    assert sorted(p.name for p in place.iterdir() if p.name.startswith("board")) == ["board.db"]


# Declared outputs


def test_outputs_of_every_kind_are_on_the_page_in_the_files_and_in_the_table(place: Path) -> None:
    build(place)
    model = page(place, f"{BOARD}/models/standard-training-a/index.html")
    for title in ("In weather", "Still robust", "Storm", "Damage", "CLEVER", "Certificate"):
        assert title in model, title
    assert re.search(r'<td class="h9"[^>]*>90\.0</td>', model)
    assert "17.5 euros" in model
    assert "queries (queries an image), logarithmic" in model
    board = page(place)
    assert '<th scope="col" title="What a storm costs. Lower is better.">Damage <small>euros</small></th>' in board
    assert '<td>17.5 <span class="ci">15–99</span></td>' in board
    value = json.loads(page(place, f"{BOARD}/models/standard-training-a/model.json"))
    (weather,) = [e for e in value["evaluations"] if e["measure"] == "weather"]
    grid = next(o for o in weather["outputs"] if o["kind"] == "grid")["values"]
    assert grid["axes"][0] == {"name": "corruption", "labels": list(synthetic.CORRUPTIONS), "unit": ""}
    assert grid["value"][0][0] == pytest.approx(0.9)
    head = page(place, f"{BOARD}/board.csv").splitlines()[0].split(",")
    for column in ("weather.damage", "weather.damage_low", "weather.stands@linf_robust", "weather.found@linf_last"):
        assert column in head
    samples = page(place, f"{BOARD}/models/standard-training-a/samples.csv").splitlines()[0]
    assert "weather.stands@linf" in samples
    assert "certificate.radius@l2" in samples


def test_columns_are_the_first_scalar_of_each_measure_where_the_protocol_names_none(place: Path) -> None:
    def forget(database: Database) -> None:
        gusts = Output("gusts", "scalar", "Gusts", "Neither many nor few are better.").to_json()
        rain = Output("rain", "scalar", "Rain", "The measure's second.", direction="lower").to_json()
        with database.write() as session:
            session.execute(update(Protocol).values(spec={}))
            for weather in session.scalars(select(Evaluation).where(Evaluation.measure == "weather")):
                weather.outputs = [gusts, *weather.outputs, rain]

    change(place, forget)
    build(place)
    heads = re.findall(r'<th scope="col" title="[^"]*">(\w+)', page(place))
    assert heads[-2:] == ["Clean", "Damage"]


def test_a_page_is_one_file_and_appears_in_the_menu(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sitegen.render import Frame, render

    def make(site: page_package.Site) -> dict[str, bytes]:
        return {"weather.html": render("glossary.html", Frame("Weather", "", ""), words=[("models", len(site.views))])}

    found = {**page_package.pages(), "weather": Page("weather", make, menu="Weather", address="weather.html")}
    for module in (page_package, menu):
        monkeypatch.setattr(module, "pages", lambda: found)
    build(place)
    assert "<h1>Glossary" in page(place, "weather.html")
    assert 'href="weather.html">Weather</a>' in page(place, "index.html")


def test_the_site_knows_no_measure_by_name() -> None:
    kinds = set(get_args(Kind))  # a measure may be called as the kind of its output
    names = (set(benchmark.measures.measures()) | {"challenge", "transfer"}) - kinds
    home = Path(sitegen.__file__).parent
    for file in home.rglob("*.py"):
        if file.name == "glossary.py":
            continue  # it explains words of the field
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in names, f"{file.name}:{node.lineno} names {node.value}"
    for file in [*home.rglob("*.html"), *home.rglob("*.js")]:
        text = file.read_text(encoding="utf-8")
        for name in names:
            assert not re.search(rf"""["']{name}["']""", text), f"{file.name} names {name}"


def test_every_kind_of_output_has_a_panel() -> None:
    from typing import get_args

    from benchmark.results import Kind
    from sitegen.panels import panels

    assert set(panels()) == set(get_args(Kind))


def test_an_output_of_an_unknown_kind_is_left_out_and_nothing_breaks(place: Path) -> None:
    def declare(database: Database) -> None:
        with database.write() as session:
            evaluation = session.scalars(select(Evaluation).where(Evaluation.measure == "weather")).first()
            assert evaluation is not None
            new = Output("dream", "scalar", "Dream").to_json() | {"kind": "hologram", "later": 1}
            evaluation.outputs = [*evaluation.outputs, new]

    change(place, declare)
    build(place)
    assert "Damage" in page(place)


# Several publishers


def _publish(folder: str, barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    build(Path(folder))


def test_two_publishers_at_once_leave_the_site_that_one_would(place: Path) -> None:
    build(place)
    wanted = {p.relative_to(place / "public"): p.read_bytes() for p in (place / "public").rglob("*") if p.is_file()}
    context = multiprocessing.get_context("spawn")
    shutil.rmtree(
        next(p for p in (place / ".public-cache").iterdir() if p.is_dir())
    )  # so that there is something to do
    barrier = context.Barrier(2)
    both = [context.Process(target=_publish, args=(str(place), barrier)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    found = {p.relative_to(place / "public"): p.read_bytes() for p in (place / "public").rglob("*") if p.is_file()}
    assert found == wanted
    assert sorted(p.name for p in place.iterdir() if p.is_dir()) == [".public-cache", ".public-spare", "public"]


@pytest.mark.parametrize("lost", [True, False], ids=["between the renames", "after them"])
def test_what_a_publisher_left_between_its_renames_is_put_right(place: Path, lost: bool) -> None:
    build(place)
    site, old = place / "public", place / ".public-old"
    before = page(place)
    if lost:
        site.rename(old)
    else:
        build(place)
        (place / ".public-spare").rename(old)
    with staging.exclusively(site):
        assert page(place) == before
        assert not old.exists()
    build(place)
    assert page(place) == before


def test_a_publisher_that_is_killed_leaves_a_site(place: Path) -> None:
    build(place)
    before = page(place)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_publish, args=(str(place), context.Barrier(1)))
    process.start()
    time.sleep(1.5)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert page(place) == before
    build(place)
    assert page(place) == before
