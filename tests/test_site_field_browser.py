"""The field in a browser: robust accuracy against what a model costs and when it came, and records over time."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
import synthetic
from browsers import opened
from playwright.sync_api import Browser, Page
from sites import build
from sqlalchemy import select

from benchmark.curve import proportion_interval
from db.migrate import upgrade
from db.schema import Chunk, Model
from db.session import Database
from sitegen import words
from sitegen.charts.badges import BADGE, FIELD, spread
from sitegen.charts.field import pareto

pytestmark = pytest.mark.browser

N = 40
PAGE = f"boards/synthetic-{N}-standard/index.html"
UNDATED = 3


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twelve models of different cost, of which three name no year."""
    folder = tmp_path_factory.mktemp("field")
    database = Database(f"sqlite:///{folder / 'board.db'}")
    upgrade(database)
    synthetic.populate(database, models=12, n=N, exact=0, attacks=("shrinking",))
    with database.write() as session:
        for model in session.scalars(select(Model).order_by(Model.id)).all()[:UNDATED]:
            model.card = {**model.card, "year": None}
        for chunk in session.scalars(select(Chunk)).all():
            chunk.forward_passes = 100 * chunk.evaluation.model_id**3
    database.engine.dispose()
    build(folder)
    return (folder / "public").as_uri()


def truth(page: Page) -> list[dict[str, object]]:
    """Every model's title, year, and robust images at ε = 0 and at the slider's."""
    return page.evaluate(
        """async () => {
            const d = await CB.threat(new URLSearchParams(location.search).get("norm") ?? "linf");
            const at = CB.nearest(d.grid, Number(document.getElementById("epsnumber").value));
            const of = new Map(CB.allModels().models.map((m) => [m.slug, m]));
            return d.slugs.map((slug, i) => ({ title: of.get(slug).title, year: of.get(slug).year,
                clean: d.counts[i * d.g], robust: d.counts[i * d.g + at] }));
        }"""
    )


def corners(page: Page, path: str) -> list[tuple[float, float]]:
    """The right upper ends of a falling step line's flat pieces, in shares of the plot from the left and the bottom."""
    found = re.findall(r"V(\d+)H(\d+)|M\d+ (\d+)H(\d+)", page.locator(path).get_attribute("d") or "")
    return [(int(x or u) / 2000, 1 - int(y or v) / 1000) for y, x, v, u in found]


# Letters of tied models


def test_letters_of_points_never_hide_each_other() -> None:
    rng = np.random.default_rng(3)
    for points in (
        [(1.0, 0.0)] * 14,
        [(0.5, 0.5)] * 14,
        [(0.0, 1.0), (0.01, 1.0), (0.02, 0.99)] * 4,
        *([tuple(p) for p in rng.integers(0, 12, (14, 2)) / 11] for _ in range(20)),
    ):
        spots = spread(points)
        assert all(0 <= x <= 1 and 0 <= y <= 1 for x, y in spots)
        for (ax, ay), (bx, by) in itertools.combinations(spots, 2):
            assert max(abs(ax - bx) * FIELD[0], abs(ay - by) * FIELD[1]) > BADGE - 1
        assert spots[0] == points[0]
    apart = [(0.1, 0.1), (0.5, 0.5), (0.9, 0.1)]
    assert spread(apart) == apart


def test_scripts_spread_letters_as_the_server_does(browser: Browser, site: str) -> None:
    rng = np.random.default_rng(4)
    with opened(browser, site) as watched:
        page = watched.open(PAGE, ready="#board")
        for points in ([(1.0, 0.0)] * 14, *((rng.integers(0, 9, (12, 2)) / 8).tolist() for _ in range(8))):
            ours = [list(spot) for spot in spread([tuple(p) for p in points])]
            assert page.evaluate("points => CB.spread(points)", points) == ours


@pytest.mark.parametrize("width", [360, 1440])
def test_no_two_letters_of_the_field_overlap_at_any_eps(browser: Browser, site: str, width: int) -> None:
    with opened(browser, site, width=width) as watched:
        for query in ("", "?eps=0.3", "?eps=0.02", "?norm=l1&against=year", "?norm=union&against=passes"):
            page = watched.open(PAGE + query, ready="#board")
            for chart in ("#field", "#records"):
                boxes = page.eval_on_selector_all(
                    f"{chart} .badge",
                    "all => all.map((b) => b.getBoundingClientRect()).map((r) => [r.x, r.y, r.width, r.height])",
                )
                assert boxes or (chart, query) == ("#records", "?eps=0.3")
                for a, b in itertools.combinations(boxes, 2):
                    gap = np.hypot(a[0] - b[0], a[1] - b[1])
                    assert gap >= a[2] - 0.5, (query, chart)


# Against what


def test_the_front_holds_whoever_no_other_beats_in_both(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        for query in ("?eps=0.02", "?eps=0.12", "?norm=l2&eps=0.8"):
            page = watched.open(PAGE + query, ready="#board")
            front = pareto([(m["clean"] / N, m["robust"] / N) for m in truth(page)])  # type: ignore[operator]
            left = page.evaluate(
                "async () => (await CB.threat(new URLSearchParams(location.search).get('norm') ?? 'linf')).field"
            )
            wanted = [((x - left) / (1 - left), y) for x, y in reversed(front)]
            assert np.array(corners(page, "#field path.front")) == pytest.approx(np.array(wanted), abs=1e-3)


def test_cost_is_drawn_on_a_logarithmic_axis(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        page = watched.open(f"{PAGE}?against=passes", ready="#board")
        passes = page.evaluate("CB.allModels().models.map((m) => m.passes)")
        assert len(set(passes)) == 12
        dots = page.locator("#field path.dot").evaluate_all("all => all.map((p) => p.getAttribute('d')).join('')")
        found = np.array(sorted(int(x) for x, _ in re.findall(r"M(\d+) (\d+)h0", dots)))
        logs = np.array(sorted(math.log10(value) for value in passes))
        wanted = found[0] + (logs - logs[0]) / (logs[-1] - logs[0]) * (found[-1] - found[0])
        assert found == pytest.approx(wanted, abs=1)
        assert "left is better" in page.locator(".fieldfig figcaption").inner_text()


def test_against_years_it_says_who_has_none_and_the_front_is_the_record(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        page = watched.open(f"{PAGE}?eps=0.1", ready="#board")
        assert not page.locator("#fieldlacking").is_visible()
        assert page.locator("#against option").all_inner_texts() == [
            "accuracy at ε = 0",
            "cost of the evaluation",
            "year",
        ]
        page.locator("#against").select_option("year")
        page.wait_for_function("location.search.includes('against=year')")
        rows = truth(page)
        undated = [str(m["title"]) for m in rows if m["year"] is None]
        assert len(undated) == UNDATED
        assert page.locator("#fieldlacking").inner_text() == words.lacking(undated, "no year", 4)
        dots = page.locator("#field path.dot").evaluate_all("all => all.map((p) => p.getAttribute('d')).join('')")
        years = [m["year"] for m in rows if m["year"] is not None]
        low, high = min(years) - 0.5, max(years) + 0.5  # type: ignore[type-var, operator]
        wanted = {
            (round((m["year"] - low) / (high - low) * 2000), round((1 - m["robust"] / N) * 1000))  # type: ignore[operator]
            for m in rows
            if m["year"] is not None
        }
        drawn = {(int(x), int(y)) for x, y in re.findall(r"M(\d+) (\d+)h0", dots)}
        assert {(x, y) for x, y in drawn} == {(x, y) for x, y in wanted}
        assert page.locator("#field path.front").get_attribute("d") == page.locator(
            "#records path.record"
        ).get_attribute("d")
        page = watched.open(page.url.removeprefix(f"{site}/"), ready="#board")
        assert page.locator("#against").input_value() == "year"


# Records


def told(page: Page) -> list[tuple[int, str, str]]:
    """(year, title, figures) of each record that is listed."""
    found = []
    for text in page.locator("#recordlist li").all_inner_texts():
        year, title, figures = re.fullmatch(
            r"since (\d+)\s+(?:[A-N]\s+)?(.+): (.+)", " ".join(text.split()), re.DOTALL
        ).groups()  # type: ignore[union-attr]
        found.append((int(year), title, figures))
    return found


def records(rows: list[dict[str, object]]) -> list[tuple[int, str]]:
    """By definition: the years in which the highest count of all models so far rose, and that count in words."""
    found, most = [], 0
    for year in sorted({int(m["year"]) for m in rows if m["year"] is not None}):  # type: ignore[call-overload]
        best = max(int(m["robust"]) for m in rows if m["year"] is not None and int(m["year"]) <= year)  # type: ignore[call-overload]
        if best > most:
            most = best
            low, high = proportion_interval([best], N)
            ends = f"{words.percent(float(low[0]))}–{words.percent(float(high[0]))}"
            found.append((year, f"{words.percent(best / N)} % {ends}"))
    return found


def test_records_are_those_of_their_definition_at_every_eps_and_norm(browser: Browser, site: str) -> None:
    several = 0
    with opened(browser, site) as watched:
        for query in ("", "?eps=0.02", "?eps=0.15", "?norm=l2&eps=0.5", "?norm=l1", "?norm=union&eps=1.5"):
            page = watched.open(PAGE + query, ready="#board")
            rows, listed = truth(page), told(page)
            assert [(year, figures) for year, _, figures in listed] == records(rows)
            for year, title, figures in listed:
                own = next(m for m in rows if m["title"] == title)
                assert own["year"] == year
                assert figures.startswith(words.percent(int(own["robust"]) / N))  # type: ignore[call-overload]
            assert page.locator("#records .badge").count() == len(listed)
            assert "3 models have no year" in page.locator("#recordlist").inner_text()
            several += len(listed) > 1
    assert several >= 3


def test_where_all_are_broken_there_is_no_record(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        page = watched.open(PAGE, ready="#board")
        end = page.evaluate(
            "CB.threat('linf').then((d) => d.counts.filter((c, k) => k % d.g === d.g - 1).reduce((a, b) => a + b))"
        )
        page = watched.open(f"{PAGE}?eps=0.3", ready="#board")
        assert (page.locator("#recordlist li").count() > 0) == (end > 0)


def test_the_pages_have_field_and_records_without_scripts(browser: Browser, site: str) -> None:
    seen = []
    for scripted in (True, False):
        with opened(browser, site, java_script_enabled=scripted) as watched:
            page = watched.open(PAGE.replace("index", "l2"), ready="#board" if scripted else None)
            seen.append((told(page), page.locator("#field .badge").count(), page.locator("#records .badge").count()))
    assert seen[0] == seen[1]
    assert seen[0][1]


def marks(page: Page, chart: str) -> dict[str, object]:
    """What a chart of the field shows: dots, letters, the corners of its front, ticks, and what its axis is."""
    home = page.locator(chart)
    dots = home.locator("path.dot").evaluate_all("all => all.map((p) => p.getAttribute('d')).join('')")
    corners, x, y = [], 0, 0
    front = home.locator("path.front").get_attribute("d") or ""
    for kind, *numbers in re.findall(r"([MHVhv])(-?\d+)(?: (-?\d+))?", front):
        a, b = int(numbers[0]), int(numbers[1] or 0)
        x = {"M": a, "H": a, "h": x + a}.get(kind, x)
        y = {"M": b, "V": a, "v": y + a}.get(kind, y)
        corners.append((x, y))
    return {
        "dots": sorted(re.findall(r"M\d+ \d+", dots)),
        "front": sorted(corners),
        "ticks": home.locator(".xt").evaluate_all(
            "all => all.map((t) => [t.textContent, Math.round(10 * parseFloat(t.style.left))])"
        ),
        "letters": home.locator(".badge").evaluate_all(
            "all => all.map((b) => [b.dataset.k, ...[b.style.left, b.style.top].map((v) => Math.round(parseFloat(v)))])"
        ),
        "axis": home.locator(".xlabel").inner_text(),
    }


def test_every_axis_of_the_field_is_there_without_scripts_as_scripts_draw_it(browser: Browser, site: str) -> None:
    page_of = {"linf": PAGE, "union": PAGE.replace("index", "union")}
    with opened(browser, site) as scripted, opened(browser, site, java_script_enabled=False) as plain:
        for threat, path in page_of.items():
            served = plain.open(path)
            served.get_by_role("link", name="The same against cost of the evaluation, year").click()
            for name in ("passes", "year"):
                page = scripted.open(f"{PAGE}?against={name}&norm={threat}", ready="#board")
                assert marks(page, "#field") == marks(served, f"#{name}")
                lacking = page.locator("#fieldlacking")
                said = served.locator(f"#{name}").inner_text()
                assert page.locator("#fieldtitle").inner_text() in said
                assert not lacking.is_visible() or lacking.inner_text() in said


def test_filters_narrow_field_and_records(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        page = watched.open(f"{PAGE}?year=2022..", ready="#board")
        assert told(page)
        assert all(year >= 2022 for year, *_ in told(page))
