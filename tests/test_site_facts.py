"""What the site computes: facts of rows, ranks, leads, charts, pictures."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy import update

import benchmark.flags
from benchmark.curve import RobustnessCurve
from benchmark.differences import paired_difference
from benchmark.results import Output
from benchmark.statistics import crossings
from benchmark.threat.budget import limit
from db import queries
from db.migrate import upgrade
from db.queries import Board
from db.schema import Array, Chunk, Evaluation
from db.session import Database
from sitegen import changes, words
from sitegen.axes import Axis, axes, nice
from sitegen.board_view import BoardView, _ranking, board_threats, board_view
from sitegen.charts.badges import APART, HEIGHT, MAP, REACH, WIDTH, letter_places, rank_letter_places
from sitegen.charts.base import Area, Chart, Line, area_path, path
from sitegen.charts.board import crossings_of, rank_positions, ranks_chart
from sitegen.charts.field import pareto
from sitegen.charts.html import html
from sitegen.charts.svg import svg
from sitegen.crossings import grid_crossings
from sitegen.facts import RowFacts, ThreatFacts, credits_of, row_facts
from sitegen.findings import Found, newest
from sitegen.leads import leads, sentence
from sitegen.numbers import load_numbers, numbers_of, save_numbers
from sitegen.pictures import difference, png, strip, to_pixels
from sitegen.ranking import lead_ranges
from sitegen.records import RowRecord, load, save
from sitegen.row_record import record_of
from sitegen.rows import unbuilt_row
from sitegen.scripts_data import ESCAPE, falls, words16
from sitegen.sheets import COLUMNS, dataset_sheets
from sitegen.threats import UNION
from sitegen.words import paper_link

NORMS = ("linf", "l2", "l1")


def axes_of(board: Board) -> dict[str, Axis]:
    return axes(board.dataset.card, board_threats(board), {})


@pytest.fixture(scope="module")
def populated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Database, Board]:
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('facts') / 'board.db'}")
    upgrade(database)
    synthetic.populate(database, models=4, n=40, exact=10)
    with database.read() as session:
        (board,) = queries.boards(session)
    return database, board


def facts_of(populated: tuple[Database, Board], index: int = 0) -> RowFacts:
    database, board = populated
    row = board.rows[index]
    with database.read() as session:
        data = queries.row_data(session, [e.id for e in row.done])
    return row_facts(row, data, n=board.n, axes=axes_of(board))


# Axes


def test_an_axis_holds_every_published_budget_exactly_and_reaches_beyond_it() -> None:
    found = axes({"eps": {"linf": [8 / 255, 4 / 255], "l2": [0.5], "l1": [12.0]}}, ["l2", "l1", "linf"], {})
    assert list(found) == [*NORMS, UNION]
    linf = found["linf"]
    assert linf.published == (4 / 255, 8 / 255)
    assert set(linf.published) <= set(linf.grid.tolist())
    assert set(linf.published) <= set(linf.ranked.tolist())
    assert linf.maximum >= 1.5 * 8 / 255
    assert 200 <= len(linf.grid) <= 600
    assert found[UNION].reference == {"linf": 4 / 255, "l2": 0.5, "l1": 12.0}


@given(st.floats(1e-6, 1e6))
def test_nice_steps_are_just_below_what_was_asked(value: float) -> None:
    step = nice(value)
    assert 0.39 * value <= step <= value * (1 + 1e-6)
    assert float(f"{step:.3g}") == step


# Facts of a row


def test_the_band_is_ordered_sample_by_sample(populated: tuple[Database, Board]) -> None:
    facts = facts_of(populated)
    for norm in NORMS:
        found = facts.threats[norm]
        assert found.lower is not None
        assert (found.lower <= found.curve.distances).all()
        for eps in found.axis.published:
            certified = found.certified(eps)
            assert certified is not None
            assert certified <= found.curve.robust_accuracy(eps)


def test_the_union_is_as_robust_as_all_norms_at_once(populated: tuple[Database, Board]) -> None:
    facts = facts_of(populated)
    union = facts.threats[UNION]
    for scale in (0.5, 1.0, 2.0):
        robust = np.all(
            [facts.threats[n].curve.distances > scale * eps for n, eps in union.axis.reference.items()], axis=0
        )
        assert union.curve.robust_accuracy(scale) == pytest.approx(robust.mean())


def test_every_adversarial_sample_is_credited_to_someone_once(populated: tuple[Database, Board]) -> None:
    facts = facts_of(populated).threats["l2"]
    adversarial = int(((facts.curve.distances > 0) & np.isfinite(facts.curve.distances)).sum())
    found = credits_of(facts)
    assert sum(credit.decided for credit in found) == adversarial
    assert {credit.source.slug for credit in found} == {"shrinking", "primal-dual"}
    assert all(0 < (credit.optimality or 0) <= 1 for credit in found)
    assert max(credit.optimality or 0 for credit in found) > 0.9


def test_a_certificate_above_a_verified_distance_is_a_crossing_that_names_the_sample(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'board.db'}")
    upgrade(database)
    synthetic.populate(database, models=1, n=20, exact=0)
    with database.write() as session:
        (array,) = (
            session.query(Array)
            .join(Chunk)
            .join(Evaluation)
            .where(Evaluation.measure == "certificate", Evaluation.norm == "l2")
        )
        radius = array.data.copy()
        radius[7] = 9.5
        session.execute(update(Array).where(Array.id == array.id).values(data=radius))
    with database.read() as session:
        (board,) = queries.boards(session)
    crossing = facts_of((database, board)).crossing
    assert crossing is not None
    assert (crossing.threat, crossing.sample, crossing.certified, crossing.samples) == ("l2", 7, 9.5, 1)
    assert re.match(r"l2: sample 7 is certified up to 9\.5, but \S+ has a verified adversarial", crossing.text)


def test_examples_of_another_norm_are_no_attack(populated: tuple[Database, Board]) -> None:
    database, board = populated
    row = board.rows[0]
    without = tuple(replace(e, outputs=()) if (e.measure, e.norm) == ("curve", "l2") else e for e in row.cells)
    with database.read() as session:
        data = queries.row_data(session, [e.id for e in row.done])
    facts = row_facts(replace(row, cells=without), data, n=board.n, axes=axes_of(board))
    assert list(facts.threats) == ["linf", "l1"]
    assert facts.missing == {"l2": 0}


def test_a_record_comes_back_from_the_disk_as_it_was(populated: tuple[Database, Board], tmp_path: Path) -> None:
    record = record_of(facts_of(populated))
    save(tmp_path / "record.json", record)
    assert load(tmp_path / "record.json", RowRecord) == record


def test_an_axis_without_published_budgets_follows_the_data() -> None:
    found = axes({"eps": {"linf": [0.1]}}, ["linf", "l0", "linf-targeted-next"], {"l0": 31.0})
    assert list(found) == ["linf", "linf-targeted-next", "l0", UNION]
    assert not found["l0"].stated
    assert found["l0"].published == (5.0, 10.0, 20.0)
    assert found["l0"].maximum >= 30
    assert found["linf-targeted-next"].published == (0.1,)
    assert set(found[UNION].reference) == {"linf", "l0"}


# Ranks


def test_a_rows_numbers_come_back_from_the_disk_as_they_were(populated: tuple[Database, Board], tmp_path: Path) -> None:
    facts = facts_of(populated)
    axis_of = {norm: found.axis for norm, found in facts.threats.items()}
    kept = {norm: numbers_of(found) for norm, found in facts.threats.items()}
    save_numbers(tmp_path / "numbers", kept)
    for norm, found in load_numbers(tmp_path / "numbers", axis_of, facts.n).items():
        distances, axis = facts.threats[norm].curve.distances, axis_of[norm]
        assert found.counts.tolist() == [int((distances > eps).sum()) for eps in axis.grid]
        assert found.ranked.tolist() == [int((distances > eps).sum()) for eps in axis.ranked]
        assert np.array_equal(found.resampled, kept[norm].resampled)
        robust = np.unpackbits(found.robust, count=facts.n).astype(bool)
        assert np.array_equal(robust, distances > axis.published[0])


def test_lead_ranges_tell_who_leads_where_and_pass_over_jitter() -> None:
    grid = np.linspace(0, 1, 101)
    first = np.where(grid < 0.5, 80, 20)
    second = np.where(grid < 0.5, 60, 40)
    jitter = np.where(np.isclose(grid, 0.2), 81, 10)
    found = lead_ranges(np.stack([first, second, jitter]), grid, 100)
    assert [(r.leaders, r.start, round(r.end, 9)) for r in found] == [((0,), 0.0, 0.5), ((1,), 0.5, 1.0)]


def test_lines_cross_where_they_meet_and_name_who_is_ahead() -> None:
    x = np.array([0.0, 1.0, 2.0, 3.0])
    places = np.array([[1.0, 1.0, 3.0, np.nan], [2.0, 2.0, 1.0, 1.0], [3.0, 3.0, 2.0, 2.0]])
    found = crossings_of(x, places, 3)
    assert [(round(at, 6), round(place, 6), ahead, behind) for at, place, ahead, behind in found] == [
        (1.333333, 1.666667, 1, 0),
        (1.666667, 2.333333, 2, 0),
    ]
    assert crossings_of(x, places, 1) == []


@given(arrays(np.int64, (5, 9), elements=st.integers(0, 30)))
def test_every_change_of_order_is_a_crossing(counts: NDArray[np.int64]) -> None:
    order = np.argsort(-counts, axis=0, kind="stable")
    places = np.argsort(order, axis=0, kind="stable") + 1.0
    flips = sum(
        int((places[a, k] > places[b, k]) != (places[a, k + 1] > places[b, k + 1]))
        for a, b in combinations(range(5), 2)
        for k in range(8)
    )
    assert len(crossings_of(np.arange(9.0), places, 5)) == flips


def test_a_verdict_of_distances_is_whether_they_exceed_its_budget(populated: tuple[Database, Board]) -> None:
    database, board = populated
    row = board.rows[0]
    curve = next(e for e in row.cells if (e.measure, e.norm) == ("curve", "linf"))
    with database.read() as session:
        data = queries.row_data(session, [curve.id])[curve.id]
    output = Output("robust", "verdict", "Robust", threat="linf", eps=0.05, array="distance_linf")
    found = Found(curve, data, output, board.n)
    assert found.robust.tolist() == (data.arrays["distance_linf"] > 0.0500009).tolist()
    assert 0 < found.robust.mean() < 1


def view_of(populated: tuple[Database, Board]) -> BoardView:
    board = replace(populated[1], rows=populated[1].ranked)
    return board_view(board, [unbuilt_row(facts_of(populated, k)) for k in range(len(board.rows))], axes_of(board))


def test_the_sentence_says_of_nobody_that_he_is_clearly_best_where_the_strip_is_hatched(
    populated: tuple[Database, Board],
) -> None:
    view = view_of(populated)
    for threat in view.axes:
        clear = {lead.title for lead in leads(view, threat) if lead.clear}
        told = sentence(view, threat)
        assert {phrase.title for phrase in told.clear} == clear
        assert ("sampling error" in told.open) == any(not lead.clear for lead in leads(view, threat))


def test_where_the_reference_budget_decides_nothing_the_sentence_says_who_is_ahead_and_of_how_many(
    populated: tuple[Database, Board],
) -> None:
    view = view_of(populated)
    told = 0
    for threat, ranking in view.rankings.items():
        reference = int(np.searchsorted(ranking.axis.ranked, ranking.axis.published[0]))
        possible = int((ranking.table.low[:, reference] == 1).sum())
        counts = ranking.counts[:, ranking.axis.at_published[0]]
        level = int((counts == counts.max()).sum())
        assert ranking.leader is not None
        said = f"{ranking.leader.title} is ahead, but any of {possible} models may be the best"
        assert (said in sentence(view, threat).open) == (possible > 1 and level == 1)
        assert (f"{level} models are level at the top" in sentence(view, threat).open) == (possible > 1 and level > 1)
        told += possible > 1
    assert told


@given(arrays(np.int64, (6, 80), elements=st.integers(0, 50)))
def test_letters_stand_on_their_curves_and_never_over_each_other(drawn: NDArray[np.int64]) -> None:
    counts = np.sort(drawn, axis=1)[:, ::-1]
    grid = np.linspace(0, 0.3, 80)
    places = letter_places(counts, 50, grid)
    x = [grid[p] / 0.3 * WIDTH for p in places]
    y = [(1 - counts[k, p] / 50) * HEIGHT for k, p in enumerate(places)]
    for a, b in combinations(range(6), 2):
        assert max(abs(x[a] - x[b]), abs(y[a] - y[b])) >= APART - 1


@given(arrays(np.int64, (8, 60), elements=st.integers(0, 50)))
def test_letters_on_the_map_of_ranks_hide_no_crossing_and_no_letter(drawn: NDArray[np.int64]) -> None:
    x, top = np.linspace(0, 0.3, 60), 8
    places = np.argsort(np.argsort(np.sort(drawn)[:, ::-1], axis=0, kind="stable"), axis=0) + 1.0
    found = [(at, place) for at, place, _, _ in crossings_of(x, places, top)]
    letters = rank_letter_places(list(places), x, top, found)
    scale = np.array([MAP[0] / 0.3, MAP[1] / top])
    spots = np.array(
        [(at, np.interp(at, x, own)) for own, ats in zip(places, letters, strict=True) for at in ats if at]
    )
    assert all(ats[0] == 0 for ats in letters)  # before the axis, where there is one letter a place
    if len(spots) and found:
        assert np.abs((spots[:, None] - np.array(found)[None]) * scale).max(axis=2).min() >= REACH
    for one, other in combinations(spots, 2):
        assert np.abs((one - other) * scale).max() >= 2 * REACH


def test_crossings_at_the_resolution_of_the_axis_are_those_of_the_statistics() -> None:
    rng = np.random.default_rng(3)
    hardness = rng.normal(size=2000)
    grid = np.linspace(0, 0.4, 401)
    spread = [np.exp(0.3 * hardness + 0.2 * rng.normal(size=2000)), np.exp(0.8 * hardness)]
    first, second = (0.1 * spread[0], 0.1 * spread[1])
    (ours,) = grid_crossings(np.searchsorted(grid, first), np.searchsorted(grid, second), grid)
    (theirs,) = crossings(RobustnessCurve(first, "linf"), RobustnessCurve(second, "linf"), resamples=300)
    assert ours.first == (theirs.ahead == "first")
    assert ours.eps == pytest.approx(theirs.eps, abs=0.002)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.004)
    assert ours.support == pytest.approx(theirs.support, abs=0.03)
    assert grid_crossings(np.searchsorted(grid, first), np.searchsorted(grid, first), grid) == []


def test_a_lead_is_clear_only_where_nobody_else_may_be_first(populated: tuple[Database, Board]) -> None:
    view = view_of(populated)
    for norm, axis in view.axes.items():
        strip, ranking = leads(view, norm), view.rankings[norm]
        assert strip[0].start == 0
        assert all(a.end == b.start for a, b in pairwise(strip))
        for eps, high in zip(axis.ranked, ranking.table.high.T, strict=True):
            for lead in strip:
                if lead.start < eps < lead.end:
                    leader = next(k for k, row in enumerate(ranking.rows) if row.title == lead.title)
                    assert lead.clear == (high[leader] == 1)


def test_nobody_leads_where_everything_is_broken() -> None:
    assert lead_ranges(np.zeros((2, 5), dtype=np.int64), np.linspace(0, 1, 5), 10) == []
    assert lead_ranges(np.empty((0, 5), dtype=np.int64), np.linspace(0, 1, 5), 10) == []


@given(st.lists(st.floats(0, 2), min_size=5, max_size=60), st.integers(0, 100))
def test_a_paired_difference_is_that_of_the_robust_accuracies(values: list[float], seed: int) -> None:
    a = np.array(values)
    b = np.random.default_rng(seed).permutation(a) * 0.9
    eps = np.array([0.0, 0.3, 1.0])
    gap, low, high = paired_difference(a, b, eps)
    assert gap == pytest.approx([(a > e).mean() - (b > e).mean() for e in limit(eps)])
    assert ((low >= -1) & (low <= gap) & (gap <= high) & (high <= 1)).all()
    _, low, high = paired_difference(a, a, eps)
    assert low == pytest.approx(-high)
    assert (high > 0).all()  # that two never differ on a few samples does not mean that they never do


# Data of scripts


@given(st.lists(st.integers(0, 70_000) | st.integers(0, 9), min_size=1, max_size=50))
def test_falling_counts_survive_their_encoding(values: list[int]) -> None:
    falling = np.array(sorted(values, reverse=True))
    k, *rest = base64.b64decode(falls(falling))
    size = next(j for j, byte in enumerate(rest) if byte < 128) + 1
    read = [sum((byte & 127) << 7 * j for j, byte in enumerate(rest[:size]))]
    bits = "".join(f"{byte:08b}" for byte in rest[size:])
    while len(read) < len(falling):
        quotient = len(bits) - len(bits.lstrip("1"))
        width = 32 if quotient >= ESCAPE else k
        start = min(quotient + 1, ESCAPE)
        number = int(bits[start : start + width] or "0", 2)
        read.append(read[-1] - (number if quotient >= ESCAPE else (quotient << k) + number))
        bits = bits[start + width :]
    assert read == falling.tolist()
    assert len(bits) < 8
    small = falling % 65_536
    assert np.array_equal(np.frombuffer(base64.b64decode(words16(small)), dtype="<u2"), small)


# Charts and pictures


def chart(**parts: object) -> Chart:
    return Chart("Title", "What is seen", "ε", "robust accuracy", (0.0, 1.0), x_ticks=(0.0, 0.5, 1.0), **parts)  # type: ignore[arg-type]


def test_a_step_is_drawn_where_it_is() -> None:
    d = path(chart(), np.array([0.0, 0.25, 1.0]), np.array([1.0, 0.5, 0.5]), step=True)
    assert d == "M0 0h500v500h1500"


def test_a_gap_breaks_a_line() -> None:
    d = path(chart(), np.array([0.0, 0.5, 0.75, 1.0]), np.array([1.0, np.nan, 0.5, 0.0]), step=False)
    assert d == "M0 0M1500 500l500 500"


def test_an_area_goes_there_and_back() -> None:
    x = np.array([0.0, 0.5, 1.0])
    d = area_path(chart(), Area("", x, np.array([0.5, 0.25, 0.25]), np.array([1.0, 0.75, 0.75])))
    assert d == "M0 0H1000V250H2000V250V750V750H1000V500H0Z"


def test_texts_in_charts_are_escaped_in_pages_and_files() -> None:
    line = Line("<b>&", np.array([0.0, 1.0]), np.array([1.0, 0.0]), badge="<", badge_at=(0.5,))
    for drawn in (str(html(chart(lines=[line]))), svg(chart(lines=[line]))):
        assert "<b>" not in drawn
        assert "&lt;b&gt;&amp;" in drawn


def test_every_colour_has_its_own_letter_or_name() -> None:
    lines = [
        Line(f"m{k}", np.array([0.0, 1.0]), np.array([1.0, 0.0]), f"s{k}", badge="ABC"[k], badge_at=(0.5,))
        for k in range(3)
    ]
    drawn = svg(chart(lines=lines))
    assert all(re.search(rf">{letter}<", drawn) for letter in "ABC")


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_a_png_is_read_back_bit_for_bit_by_another_library(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, size=shape, dtype=np.uint8)
    with Image.open(io.BytesIO(png(pixels))) as image:
        assert np.array_equal(np.asarray(image), pixels)


def test_a_sheet_shows_each_image_in_its_place() -> None:
    images = np.random.default_rng(0).integers(0, 256, size=(47, 3, 4, 5), dtype=np.uint8)
    (made,) = dataset_sheets(images)
    page = np.asarray(Image.open(io.BytesIO(made)))
    assert page.shape == (3 * 4, COLUMNS * 5, 3)
    for k, image in enumerate(images):
        y, x = k // COLUMNS * 4, k % COLUMNS * 5
        assert np.array_equal(page[y : y + 4, x : x + 5], image.transpose(1, 2, 0))
    assert (page[8:, 7 * 5 :] == 255).all()


def test_a_difference_is_grey_where_nothing_changed_and_white_where_most_did() -> None:
    clean = np.full((1, 2, 2), 0.4)
    adversarial = clean.astype(np.float32)
    adversarial[0, 0, 0] += 0.1
    pixels = difference(clean, adversarial)
    assert pixels[0, 0] == 255
    assert abs(int(pixels[1, 1]) - 128) <= 1
    assert strip([pixels, pixels]).shape == (2, 5)
    assert to_pixels(np.zeros((3, 4, 4), dtype=np.float32)).shape == (4, 4, 3)


# Words


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (float("nan"), "–"), (float("inf"), "∞"), (0.12345, "0.123"), (123456.0, "123456"), (0.0, "0")],
)
def test_numbers_are_written_short(value: float | None, shown: str) -> None:
    assert words.number(value) == shown


def test_lists_read_as_english() -> None:
    assert [words.listed("abc"[:k]) for k in range(4)] == ["", "a", "a and b", "a, b and c"]


def test_json_values_of_the_page_are_plain(populated: tuple[Database, Board]) -> None:
    from sitegen.model.files import model_json
    from sitegen.model.page import model_page
    from sitegen.model.strips import PictureData

    page = model_page(facts_of(populated), populated[1].dataset, (), picture_data=PictureData({}), files={})
    value = json.loads(json.dumps(model_json(page), allow_nan=False))
    assert value["threats"]["linf"]["published"][0]["eps"] == 0.05
    assert page.latex.splitlines()[0].startswith("% Model & Clean & linf 0.05")
    assert page.latex.count("&") == 2 * (2 + 9) - 2
    entries = page.bibtex.split("@misc{")[1:]
    assert [entry.partition(",")[0].rpartition("-")[2] for entry in entries] == ["paper", "model", "evaluation"]
    assert ["author" in entry for entry in entries] == [False, True, True]  # who made it need not have written it up
    assert "year = {2000}" in entries[0]  # of the number 0000.00000, whenever the model was made


def test_bibtex_of_a_card_that_names_its_paper(populated: tuple[Database, Board]) -> None:
    from sitegen.model.files import bibtex

    row = facts_of(populated).row
    told = {
        "paper": "https://arxiv.org/abs/1706.06083",
        "paper_title": "50 % of A_B {sic}",
        "paper_authors": ["A", "B"],
    }
    named = replace(row, model=replace(row.model, title="A & B", card=row.model.card | told))
    paper, model, evaluation = bibtex(named, dataset="digits", n=1).split("@misc{")[1:]
    assert r"  title = {{50 \% of A\_B \{sic\}}}," in paper.splitlines()
    assert "  author = {A and B}," in paper.splitlines()
    assert r"  title = {{A \& B}}," in model.splitlines()
    assert r"  title = {{Robustness of A \& B}}," in evaluation.splitlines()


def test_an_address_does_not_end_its_entry(populated: tuple[Database, Board]) -> None:
    from sitegen.model.files import bibtex

    row = facts_of(populated).row
    card = row.model.card | {"paper": "https://a.b/c}, note={x"}
    text = bibtex(replace(row, model=replace(row.model, card=card)), dataset="digits", n=1)
    assert "  url = {https://a.b/c%7D,%20note=%7Bx}," in text.splitlines()


@pytest.mark.parametrize(
    ("paper", "year"),
    [
        ("https://arxiv.org/abs/1706.06083", "2017"),
        ("Ada Example 2020, arXiv:2001.00001", "2020"),
        ("https://openreview.net/forum?id=1706.06083", ""),
        ("", ""),
    ],
)
def test_a_papers_year_is_read_from_its_number(paper: str, year: str) -> None:
    assert words.arxiv_year(paper) == year


# Words


def codes_that_can_be_raised() -> set[str]:
    """Every code of `benchmark.flags`."""
    return {value for name, value in vars(benchmark.flags).items() if name.isupper() and isinstance(value, str)}


def test_every_warning_that_can_be_raised_is_explained() -> None:
    codes = codes_that_can_be_raised()
    assert {"randomised", "seeds-disagree", "square-gain"} <= codes
    assert {code for code in codes if not words.flag_meaning(code)} == set()


def test_an_attack_page_tells_title_and_paper_as_the_evaluation_recorded_them(
    populated: tuple[Database, Board],
) -> None:
    credit = next(c for c in credits_of(facts_of(populated).threats["linf"]) if c.source.slug == "shrinking")
    assert credit.source.about == "Shrinking steps towards the boundary"
    assert paper_link(credit.source.paper) == "https://arxiv.org/abs/2001.00001"


@pytest.mark.parametrize(
    ("provenance", "told"),
    [
        ({}, ""),
        (
            {"device": "cpu", "processor": "Fast 1", "threads": 1, "python": "3.11.7", "packages": {"torch": "2.13.0"}},
            "Fast 1, 1 thread; Python 3.11.7, torch 2.13.0",
        ),
        (
            {"device": "H100", "processor": "Fast 1", "threads": 8, "packages": {"scipy": None}, "ingested": {}},
            "H100, 8 threads",
        ),
        ({"device": "cpu", "ingested": {"bundle": "ab"}}, "cpu; taken from a bundle"),
    ],
)
def test_circumstances_are_told_as_far_as_they_are_known(provenance: dict[str, object], told: str) -> None:
    assert words.circumstances(provenance) == told


def test_a_sample_where_nothing_was_found_counts_as_robust_at_every_position(populated: tuple[Database, Board]) -> None:
    database, board = populated
    row = board.rows[0]
    with database.read() as session:
        data = dict(queries.row_data(session, [e.id for e in row.done]))
    for key, one in data.items():
        arrays = {name: array.copy() for name, array in one.arrays.items()}
        for name, array in arrays.items():
            if name.startswith("distance_"):
                array[one.samples[name] == 3] = np.inf
        data[key] = replace(one, arrays=arrays)
    for facts in row_facts(row, data, n=board.n, axes=axes_of(board)).threats.values():
        assert facts.curve.distances[3] == np.inf
        expected = [np.count_nonzero(facts.curve.distances > limit) for limit in facts.axis.limits]
        np.testing.assert_array_equal(facts.counts, expected)


def test_the_ledger_of_a_row_is_the_least_of_what_its_evaluations_found(populated: tuple[Database, Board]) -> None:
    facts = facts_of(populated).threats["l2"]
    assert len(facts.parts) > 1
    table = np.stack([part.distances for part in facts.parts])
    assert (table[-1] > table.min(axis=0)).any()  # the last is not the nearest everywhere
    np.testing.assert_array_equal(facts.curve.distances, table.min(axis=0))
    np.testing.assert_array_equal(table[facts.winner, np.arange(len(facts.winner))], facts.curve.distances)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_the_front_holds_exactly_whom_nobody_beats(drawn: list[tuple[int, int]]) -> None:
    def beaten(x: int, y: int) -> bool:
        return any((a >= x and b >= y) and (a, b) != (x, y) for a, b in drawn)

    assert set(pareto(drawn)) == {point for point in drawn if not beaten(*point)}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (0.29, 0.28, "from 0.29 to 0.28"),
        (np.inf, 0.28, "from ∞ to 0.28"),
        (0.067001, 0.066999, "from 0.067 by 0.003 %"),
    ],
)
def test_a_fall_too_small_for_the_digits_shown_is_told_as_a_share(before, after, said):
    assert changes._fall(before, after) == said


def test_unstated_budgets_of_a_count_are_whole():
    found = axes({"eps": {}}, ["l0", "l2"], {"l0": 7.0, "l2": 7.0})
    assert found["l0"].published == (1.0, 2.0, 3.0)
    assert found["l2"].published == (0.625, 1.25, 2.5)


@pytest.mark.parametrize(("largest", "budgets", "end"), [(2.0, (1.0, 2.0), 3.0), (3.0, (1.0, 2.0, 3.0), 5.0)])
def test_the_axis_of_a_count_reaches_beyond_a_few_changes(largest, budgets, end):
    axis = axes({"eps": {}}, ["l0_pixels"], {"l0_pixels": largest})["l0_pixels"]
    assert axis.published == budgets
    assert axis.maximum == end
    assert axis.maximum > largest


@pytest.mark.parametrize("budgets", [[1], [1, 2, 3], [10, 25], [300], [7, 400, 1001], [7, 3001], [2.5, 4]])
def test_the_axis_of_a_count_has_whole_positions_only(budgets):
    axis = axes({"eps": {"l0_pixels": budgets}}, ["l0_pixels"], {})["l0_pixels"]
    for values in (axis.grid, axis.ticks, axis.ranked, axis.published, [axis.maximum]):
        assert all(float(value).is_integer() for value in values)
    assert set(axis.published) == {int(eps) for eps in budgets}
    assert set(axis.published) <= set(axis.grid.tolist()) & set(axis.ranked.tolist())
    assert set(axis.ticks) <= set(axis.grid.tolist())
    assert axis.maximum >= 1.5 * max(axis.published)
    assert len(axis.grid) <= 1000
    if axis.maximum <= 400:
        assert axis.grid.tolist() == list(range(int(axis.maximum) + 1))
    assert axis.label == "number of pixels changed, ε in ℓ₀ (pixels)"


def view_of_counts(budgets, **distances):
    """A board in ℓ0 of models with these distances."""
    axis = axes({"eps": {"l0": budgets}}, ["l0"], {})["l0"]
    rows = []
    for title, own in distances.items():
        values = np.array(own, dtype=float)
        counts = np.array([(values > eps).sum() for eps in axis.grid])
        facts = ThreatFacts(axis, RobustnessCurve(values, "l0"), np.zeros(len(own)), (), counts, (), None)
        area = SimpleNamespace(value=np.minimum(values, axis.maximum).mean())
        record = SimpleNamespace(threats={"l0": SimpleNamespace(area=area)})
        rows.append(SimpleNamespace(slug=title, title=title, numbers={"l0": numbers_of(facts)}, record=record))
    n = len(next(iter(distances.values())))
    ranking = _ranking(axis, rows, n)
    return BoardView(SimpleNamespace(n=n), "", {"l0": axis}, rows, (), {"l0": ranking}, list(distances))


def test_sentences_and_the_strip_of_a_count_name_whole_numbers():
    view = view_of_counts([1, 2, 3], First=[1] * 70 + [4] * 30, Second=[0] * 20 + [2] * 78 + [4] * 2)
    assert [(lead.title, lead.start, lead.end, lead.last, lead.clear) for lead in leads(view, "l0")] == [
        ("First", 0, 1, 0, True),
        ("Second", 1, 2, 1, True),
        ("First", 2, 4, 3, True),
    ]
    assert sentence(view, "l0").text == (
        "First is clearly best at ε = 0 and from ε = 2 on and Second is clearly best at ε = 1. "
        "From ε = 4 on every model is broken."
    )
    told = [mark.title for mark in ranks_chart(view, "l0").crossings]
    assert told == ["Second overtakes First at ε = 1", "First overtakes Second at ε = 2"]


def test_a_count_whose_last_image_is_broken_at_the_end_of_the_axis_is_told():
    view = view_of_counts([1, 2], First=[1] * 30 + [3] * 70, Second=[0] * 100)
    assert view.axes["l0"].maximum == 3
    assert sentence(view, "l0").text == "First is clearly best everywhere. From ε = 3 on every model is broken."


@pytest.mark.parametrize("place", [100, 101, 102])
def test_the_number_at_which_a_model_is_overtaken_is_found_between_the_places_of_the_map(place):
    view = view_of_counts([300], First=[place] * 95 + [450] * 5, Second=[0] * 20 + [440] * 80)
    ranking = view.rankings["l0"]
    assert len(rank_positions(ranking)) < len(ranking.axis.grid) / 2
    (found,) = ranks_chart(view, "l0").crossings[:1]
    assert found.title == f"Second overtakes First at ε = {place}"
    assert place - 3 < found.x <= place + 3


def attacked_by(attack, distances, threat="l0"):
    """The median that a curve by one attack declares beside its distances."""
    upper = Output("distance", "upper", "Distance", threat=threat, array=f"distance_{threat}")
    median = Output("median_distance", "scalar", "Median", threat=threat)
    evaluation = SimpleNamespace(measure="curve", parameters=attack, outputs=[upper.to_json(), median.to_json()])
    values = np.array(distances, dtype=float)
    stored = SimpleNamespace(arrays={upper.array: values}, samples={upper.array: np.arange(len(values))})
    return Found(evaluation, stored, median, len(values))


def test_of_several_attacks_figures_those_of_the_nearest_are_shown():
    engine, later = attacked_by("engine", [0, 1, 2]), attacked_by("later", [0, 2, 3])
    assert newest([engine, later]) == newest([later, engine]) == {"curve.median_distance@l0": engine}
    few = attacked_by("few", [0, np.inf, 1])  # near where it found any, but not on every image
    assert newest([few, later])["curve.median_distance@l0"] is later
    again = attacked_by("again", [0, 1, 2])
    assert newest([engine, again])["curve.median_distance@l0"] is again


def test_the_largest_distance_is_of_attacks_under_that_threat(made_board):
    with Database(made_board.database_url).read() as session:
        found = {norm: queries.largest_distance(session, 1, norm) for norm in ("linf", "l2", "l1")}
    assert 0 < found["linf"] < found["l2"]
    assert found["l1"] == 0, "examples have distances there too, but nobody attacked"
