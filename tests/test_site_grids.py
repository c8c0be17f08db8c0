"""Boards ranked by a grid: ranks, means and states against closed forms; the page without scripts; the files."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import synthetic
from sqlalchemy import select
from weather import BOARD, weather_site

from benchmark.cli import run
from benchmark.results import GridAxis, Output
from db.schema import Evaluation, Model
from db.session import Database
from sitegen.grid_against import _worth
from sitegen.grid_ranks import over, ranking, worst_position
from sitegen.grid_view import Section
from sitegen.grids import GridNumbers, grid_numbers, load_grids, save_grids
from sitegen.pages.grids import GridPage, _table
from sitegen.panels import grid as panel

LABELS = np.array([0, 1, 2, 3] * 50)
N = len(LABELS)


def declared(direction="higher", apart=(), **kwargs) -> Output:
    axes = (GridAxis("corruption", ("fog", "snow", "noise"), "", apart), GridAxis("severity", ("1", "2")))
    return Output(
        "grid", "grid", "In weather", unit="share", direction=direction, array="prediction", axes=axes, **kwargs
    )


def predictions(right: np.ndarray) -> np.ndarray:
    """Classes of which in each cell the first so many are right, the rest wrong."""
    wrong = np.arange(N)[:, None, None] >= right
    return np.where(wrong, (LABELS[:, None, None] + 1) % 4, LABELS[:, None, None]).astype(np.int16)


def numbers(right, *, missing=(), output=None, stored=True) -> GridNumbers:
    """What the site makes of a model of whose images so many are right in each cell."""
    right = np.broadcast_to(np.asarray(right), (3, 2))
    array = predictions(right)
    values = right / N
    for i, j in missing:
        array[:, i, j], values = -1, np.where((np.arange(3)[:, None] == i) & (np.arange(2) == j), np.nan, values)
    output = output or declared()
    evaluation = SimpleNamespace(measure="weather", parameters={}, outputs=[output.to_json()])
    arrays = {"prediction": array} if stored else {}
    data = SimpleNamespace(
        arrays=arrays, samples={"prediction": np.arange(N)}, detail=SimpleNamespace(samples=N, tables=())
    )
    table = SimpleNamespace(values=values, low=values - 0.1, high=values + 0.1)
    found = SimpleNamespace(evaluation=evaluation, data=data, output=output, table=table)
    (made,) = grid_numbers([found], LABELS).values()  # type: ignore[list-item]
    return made


def test_counts_are_of_the_images_that_are_right():
    right = np.array([[10, 20], [30, 40], [0, N]])
    made = numbers(right)
    assert made.counts is not None
    assert made.drawn is not None
    assert made.counts.tolist() == right.tolist()
    # a resample of images that are all wrong, or all right, is that again; the others have the bootstrap's moments
    assert (made.drawn[2, 0] == 0).all()
    assert (made.drawn[2, 1] == N).all()
    assert abs(made.drawn[1, 1].mean() - 40) < 1.5
    assert abs(made.drawn[1, 1].std() - np.sqrt(N * 0.2 * 0.8)) < 0.8


def test_answers_that_do_not_give_the_table_are_not_used():
    output = declared()
    good = numbers(50)
    assert good.counts is not None
    evaluation = SimpleNamespace(measure="weather", parameters={}, outputs=[output.to_json()])
    array = predictions(np.full((3, 2), 50))
    data = SimpleNamespace(
        arrays={"prediction": array}, samples={"prediction": np.arange(N)}, detail=SimpleNamespace(samples=N)
    )
    values = np.full((3, 2), 0.5)
    table = SimpleNamespace(values=values, low=values, high=values)
    found = SimpleNamespace(evaluation=evaluation, data=data, output=output, table=table)
    (made,) = grid_numbers([found], LABELS).values()  # type: ignore[list-item]
    assert made.counts is None


def test_each_severity_has_its_own_order_and_the_whole_has_the_means():
    a, b = numbers([[190, 50], [190, 50], [190, 50]]), numbers([[150, 110], [150, 110], [150, 110]])
    first, second, both = (ranking([a, b], declared(), at) for at in ((0,), (1,), (0, 1)))
    assert [p.index for p in first] == [0, 1]
    assert [p.index for p in second] == [1, 0]
    assert [p.index for p in both] == [1, 0]
    assert both[0].mean is not None
    assert both[0].mean.value == pytest.approx(130 / N)
    assert both[1].behind is not None
    assert both[1].behind.value == pytest.approx(10 / N)
    # the images that only the first of two models of nested answers has right: a binomial difference
    gap = first[1].behind
    assert gap is not None
    assert gap.low is not None
    assert gap.high is not None
    half = 1.96 * np.sqrt(0.2 * 0.8 / N)
    assert gap.low == pytest.approx(0.2 - half, abs=0.02)
    assert gap.high == pytest.approx(0.2 + half, abs=0.02)
    assert [(p.rank, p.best, p.last) for p in first] == [(1, 1, 1), (2, 2, 2)]


def test_resamples_are_the_same_images_for_every_model():
    """Two models that differ on 8 of 200 images: paired, the difference is known five times as well as unpaired."""
    gap = ranking([numbers(100), numbers(92)], declared(), (0,))[1].behind
    assert gap is not None
    assert gap.low is not None
    assert gap.high is not None
    half = 1.96 * np.sqrt(0.04 * 0.96 / N)
    assert gap.high - gap.low == pytest.approx(2 * half, abs=0.015)
    assert gap.low >= 0  # the second is right on no image that the first is wrong on


def test_equals_share_a_rank_and_close_ones_an_interval():
    grids = [numbers(100), numbers(100), numbers(101), numbers(20)]
    output = declared()
    places = {p.index: p for p in ranking(grids, output, (0,))}
    assert places[2].rank == 1
    assert (places[0].rank, places[1].rank) == (2, 2)
    assert (places[0].best, places[0].last) == (1, 3)  # one image in 200 is no difference
    assert (places[3].best, places[3].last) == (4, 4)


def test_of_errors_the_smallest_is_first_and_the_largest_is_worst():
    output = declared("lower")
    grids = [numbers([[20, 20], [30, 30], [10, 10]], output=output), numbers(90, output=output)]
    places = ranking(grids, output, (0, 1))
    assert [p.index for p in places] == [0, 1]
    assert places[0].worst == ("snow", 30 / N)
    assert places[1].behind is not None
    assert places[1].behind.value == pytest.approx(70 / N)


def test_worst_label_and_worst_position():
    grid = numbers([[100, 90], [80, 95], [150, 40]])
    (place,) = ranking([grid], declared(), (0, 1))
    assert place.worst == ("snow", pytest.approx(175 / 2 / N))
    assert worst_position(grid, declared()) == ("2", pytest.approx(75 / N))


def test_a_missing_cell_is_named_and_never_a_smaller_mean():
    whole, gone = numbers(50), numbers(150, missing=[(1, 1)])
    one, two = (ranking([whole, gone], declared(), at) for at in ((0,), (1,)))
    assert [p.index for p in one] == [1, 0]  # severity 1 is whole
    assert [(p.index, p.rank, p.mean is None, p.missing) for p in two] == [
        (0, 1, False, ()),
        (1, None, True, ("snow",)),
    ]
    assert two[1].cells[0] == pytest.approx(150 / N)
    both = ranking([whole, gone], declared(), (0, 1))
    assert both[1].missing == ("snow",)
    assert worst_position(gone, declared()) is None


def square(values):
    """A grid from each class to each other one, of a model; counts are of shares alone."""
    values = np.array(values, dtype=float)
    return GridNumbers(values, values * np.nan, values * np.nan, samples=20)


def test_a_class_against_itself_is_no_missing_cell():
    classes = ("cat", "dog", "elk")
    output = replace(
        declared("higher"), unit="distance", axes=(GridAxis("label", classes), GridAxis("target", classes))
    )
    none = np.nan
    near, far = square([[none, 1, 2], [3, none, 4], [5, 6, none]]), square([[none, 7, 8], [9, none, 1], [2, 3, none]])
    first, second = ranking([near, far], output, (0, 1, 2))
    assert (first.index, first.mean.value, first.missing) == (1, 5.0, ())
    assert (second.index, second.mean.value, second.behind.value) == (0, 3.5, 1.5)
    assert first.cells.tolist() == [7.5, 5.0, 2.5]
    assert first.worst == ("elk", 2.5)
    to_dog = ranking([near, far], output, (1,))
    assert [(p.index, p.mean.value, p.worst) for p in to_dog] == [(1, 5.0, ("elk", 3.0)), (0, 3.5, ("cat", 1.0))]
    assert worst_position(near, output) == ("elk", 3.0)
    gone = square([[none, 1, 2], [3, none, none], [5, 6, none]])
    assert ranking([near, gone], output, (0, 1, 2))[1].missing == ("dog",)
    assert (
        panel.Grid().fields(SimpleNamespace(output=output, table=SimpleNamespace(values=near.values)), None)["_mean"]
        == 3.5
    )


def test_labels_apart_are_in_no_mean():
    output = declared(apart=("noise",))
    grid = numbers([[100, 100], [100, 100], [0, 0]], output=output)
    lacking = numbers([[90, 90], [90, 90], [0, 0]], missing=[(2, 0)], output=output)
    places = ranking([grid, lacking], output, (0, 1))
    assert over(output) == [0, 1]
    assert [p.mean and p.mean.value for p in places] == [pytest.approx(0.5), pytest.approx(0.45)]
    assert places[0].worst == ("fog", 0.5)
    assert Output.from_json(json.loads(json.dumps(output.to_json()))).axes[0].apart == ("noise",)


def test_without_answers_there_are_ranks_and_no_intervals():
    places = ranking([numbers(10, stored=False), numbers(20), numbers(10)], declared(), (0,))
    assert [(p.index, p.rank, p.best) for p in places] == [(1, 1, None), (0, 2, None), (2, 2, None)]
    assert places[1].behind is not None
    assert (places[1].behind.value, places[1].behind.low) == (pytest.approx(10 / N), None)


@pytest.mark.parametrize("stored", [True, False])
def test_a_page_promises_intervals_where_it_has_some(stored):
    grids = [numbers(10, stored=stored), numbers(20, stored=stored)]
    (section,) = [Section("all", "all", (0, 1), ranking(grids, declared(), (0, 1)))]
    rows = [SimpleNamespace(title=name) for name in "ab"]
    shared = SimpleNamespace(output=declared())
    ranked = SimpleNamespace(grid=shared, rows=rows, numbers=grids)
    page = SimpleNamespace(tables=[_table(ranked, section, {})])  # type: ignore[arg-type]
    assert GridPage.surveyed.fget(page) is stored  # type: ignore[attr-defined]


def test_what_is_kept_comes_back(tmp_path):
    grids = {"a": numbers(30), "b": numbers(40, stored=False)}
    save_grids(tmp_path, grids)
    back = load_grids(tmp_path)
    assert list(back) == ["a", "b"]
    assert back["a"].drawn is not None
    assert np.array_equal(back["a"].drawn, grids["a"].drawn)
    assert back["b"].counts is None
    assert np.array_equal(back["b"].values, grids["b"].values)
    assert load_grids(tmp_path / "elsewhere") == {}


def test_nothing_is_claimed_where_the_interval_holds_0():
    tau = SimpleNamespace(value=-0.4, low=-0.8, high=0.1, models=7)
    assert "does not tell" in _worth(tau, "ℓ∞", "mean error")  # type: ignore[arg-type]
    tau.low = tau.high = np.nan
    assert "too few" in _worth(tau, "ℓ∞", "mean error")  # type: ignore[arg-type]
    tau.low, tau.high = -0.8, -0.1
    assert "lower mean error" in _worth(tau, "ℓ∞", "mean error")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    return weather_site(tmp_path_factory.mktemp("grids") / "board") / BOARD


def test_a_page_for_the_grid_with_a_table_for_each_position(published):
    text = (published / "grid-weather-accuracy-in-weather.html").read_text()
    for anchor in ("all", "at-1", "at-2", "at-3"):
        assert f'<section class="gridtable" id="{anchor}">' in text
        assert f'href="#{anchor}"' in text
    assert text.count('class="data heat gridranks"') == 4
    assert "no mean: noise missing" in text
    assert "measured on 30 images, the others on 40" in text
    assert "weather was not measured" in text
    assert "Kendall’s τ" in text
    assert "paired bootstrap over images" in text
    assert "are not stored" not in text
    assert 'href="grid-weather-accuracy-in-weather.html"' in (published / "index.html").read_text()


def test_the_files_agree_with_the_page_and_name_every_state(published):
    told = json.loads((published / "grid-weather-accuracy-in-weather.json").read_text())
    assert [s["position"] for s in told["sections"]] == ["all", "1", "2", "3"]
    assert len(told["not_ranked"]) == 2
    rows = list(csv.DictReader((published / "grid-weather-accuracy-in-weather.csv").read_text().splitlines()))
    assert len(rows) == 5 * 9
    assert sum(row["value"] == "" for row in rows) == 1
    for section in told["sections"]:
        order = [m["model"] for m in section["models"] if m["rank"] is not None]
        own = [r for r in rows if section["position"] in ("all", r["severity"])]
        means = {m: np.mean([float(r["value"]) for r in own if r["model"] == m]) for m in order}
        assert order == sorted(order, key=lambda m: -means[m])
        for model in section["models"]:
            if model["rank"] is not None:
                assert model["mean"]["value"] == pytest.approx(means[model["model"]])
                assert model["mean"]["low"] <= model["mean"]["value"] <= model["mean"]["high"]
                assert model["rank_interval"][0] <= model["rank"] <= model["rank_interval"][1]
    whole, severity_2 = told["sections"][0]["models"], told["sections"][2]["models"]
    assert [m["missing"] for m in whole if m["rank"] is None] == [["noise"]]
    assert [m["missing"] for m in severity_2 if m["rank"] is None] == [["noise"]]
    assert all(m["rank"] for m in told["sections"][1]["models"])
    latex = (published / "grid-weather-accuracy-in-weather.tex").read_text().splitlines()
    assert len(latex) == 1 + 5
    assert {line.count("&") for line in latex} == {5}


def test_a_board_that_ranks_no_threat_leads_to_its_grid(published, tmp_path):
    root = tmp_path / "board"
    assert run(["init", str(root)]) == 0
    database = Database(f"sqlite:///{root / 'curveboard.db'}")
    synthetic.populate(database, models=3, n=40, exact=0, weather=True)
    with database.write() as session:
        for evaluation in session.scalars(select(Evaluation).where(Evaluation.measure != "weather")).all():
            evaluation.outputs = [o for o in evaluation.outputs if o["kind"] not in {"upper", "lower", "estimate"}]
        for evaluation in session.scalars(select(Evaluation).where(Evaluation.measure == "weather")).all():
            evaluation.outputs = [o for o in evaluation.outputs if o["kind"] == "grid"]
        assert len(session.scalars(select(Model)).all()) == 3
    assert run(["publish", "-w", str(root)]) == 0
    folder = root / "public" / "boards" / "synthetic-40-standard"
    text = (folder / "index.html").read_text()
    assert "Not ranked" not in text
    assert "This protocol ranks by no attack" in text
    assert 'href="grid-weather-accuracy-in-weather.html"' in (folder / "compare.html").read_text()
    page = (folder / "grid-weather-accuracy-in-weather.html").read_text()
    assert "the answers to the single images are not stored" in page
    assert "Fewer than 3 of these models have curves" in page
    for listed in ("index.html", "boards/index.html"):
        cards = (root / "public" / listed).read_text()
        assert "grid-weather-accuracy-in-weather.html" in cards
        assert "is first, " in cards


# On a model's page -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "apart", "mean"),
    [
        ([[0.2, 0.4], [0.6, 0.8]], (), 0.5),
        ([[0.2, 0.4], [np.nan, 0.8]], (), None),
        ([[0.2, 0.4], [np.inf, 0.8]], (), None),
        ([[0.2, 0.4], [np.nan, 0.8]], ("b",), 0.3),
        ([[0.2, 0.4], [0.6, 0.8]], ("a", "b"), None),
    ],
)
def test_a_mean_is_over_all_cells_that_count_or_there_is_none(values, apart, mean):
    axes = GridAxis("corruption", ("a", "b"), apart=apart), GridAxis("severity", ("1", "2"))
    assert panel._mean(np.array(values), axes) == (None if mean is None else pytest.approx(mean))
