"""The board's table in a browser: badges, code links, costs, headings that explain themselves, and what fits."""

from __future__ import annotations

from datetime import timedelta

import pytest
import synthetic
from browsers import opened
from playwright.sync_api import Browser, Page
from sites import build
from sqlalchemy import select

from benchmark.board.verified import record_verified
from benchmark.results import Output
from db.migrate import upgrade
from db.schema import Evaluation, Model, Score
from db.session import Database
from sitegen.pages.board import near_pages

pytestmark = pytest.mark.browser

ROWS = 130
BOARD = "boards/synthetic-30-standard/index.html"
CODE = "https://example.org/code"
BY = "curveboard 1.0, torch 2.13.0, cpu"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Many rows: the first is verified, has code and costs; the second was verified before its newest evidence."""
    folder = tmp_path_factory.mktemp("table")
    database = Database(f"sqlite:///{folder / 'board.db'}")
    upgrade(database)
    made = synthetic.populate(database, models=ROWS, n=30, exact=0)
    later, sooner = list(made.models.values())[:2]
    with database.write() as session:
        first = session.get_one(Model, later)
        first.card = first.card | {"repository": CODE}
        for model, at in ((later, timedelta(days=90)), (sooner, -timedelta(days=1))):
            detail = {"by": BY, "examples": 345, "samples": 30}
            record_verified(session, model_id=model, dataset_id=made.dataset_id, at=synthetic.START + at, detail=detail)
        clean = session.scalars(
            select(Evaluation).where(Evaluation.measure == "clean", Evaluation.model_id == later)
        ).one()
        costs = {"parameters": 1_234_567.0, "FLOPs/image": 2_500_000.0, "s/image": 0.00125}
        outputs = [Output(unit[:5].strip("/"), "scalar", unit, unit=unit) for unit in costs]
        clean.outputs = [*clean.outputs, *(output.to_json() for output in outputs)]
        clean.scores += [
            Score(name=o.name, value=v, unit=o.unit, direction="none")
            for o, v in zip(outputs, costs.values(), strict=True)
        ]
    database.engine.dispose()
    build(folder)
    return (folder / "public").as_uri()


def row_of(page: Page, slug: str) -> Page:
    return page.locator(f"#table tbody tr:has(a[href='models/{slug}/index.html'])")


FIRST, SECOND = "standard-training-a", "pgd-adversarial-training-b"


@pytest.mark.parametrize("scripted", [True, False])
def test_a_row_says_when_it_was_verified_and_where_its_code_is(browser: Browser, site: str, scripted: bool) -> None:
    with opened(browser, site, java_script_enabled=scripted) as watched:
        found = {}
        for path in (BOARD, *(BOARD.replace("index", f"linf-{k}") for k in range(2, ROWS // 25 + 2))):
            if scripted and path != BOARD:
                break
            page = watched.open(path + ("?q=training" if scripted else ""), ready="#board" if scripted else None)
            if scripted:
                page.locator("#search").fill("Standard training 0")
            for slug in (FIRST, SECOND):
                if scripted and slug == SECOND:
                    page.locator("#search").fill("PGD adversarial training 1")
                for row in row_of(page, slug).all():
                    marks = row.locator(".mark")
                    code = [link.get_attribute("href") for link in row.locator("a.code").all()]
                    found[slug] = ([mark.get_attribute("title") for mark in marks.all()], code)
        day = (synthetic.START + timedelta(days=90)).date()
        told = f"All 345 adversarial examples were re-checked on {day} ({BY})."
        assert found == {FIRST: ([told], [CODE]), SECOND: ([], [])}


def test_costs_are_columns_that_sort(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        page = watched.open(f"{BOARD}?cols=size,flops,latency,passes&sort=flops&dir=desc", ready="#board")
        top = page.locator("#table tbody tr").first
        assert "Standard training 0" in top.inner_text()
        assert [cell.inner_text() for cell in top.locator("td").all()[2:5]] == [
            "1.23\u202fM",
            "2.5\u202fM",
            "1.25",
        ]


def test_headings_lead_to_words_that_the_glossary_has(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        everything = "acc,cert,area,clean.accuracy,clever.score,p0,median,decided,unharmed,flops,passes"
        page = watched.open(f"{BOARD}?cols={everything}", ready="#board")
        links = page.eval_on_selector_all("#table thead .what", "links => links.map((a) => a.getAttribute('href'))")
        assert len(links) >= 9
        page = watched.open("glossary.html")
        ids = set(page.eval_on_selector_all("dt", "words => words.map((dt) => dt.id)"))
        assert {link.partition("#")[2] for link in links} <= ids


@pytest.mark.parametrize("scripted", [True, False])
def test_at_1280_no_name_in_the_tabs_is_cut_and_the_table_needs_no_scrolling(
    browser: Browser, site: str, scripted: bool
) -> None:
    with opened(browser, site, width=1280, java_script_enabled=scripted) as watched:
        page = watched.open(BOARD, ready="#board" if scripted else None)
        cut = "nodes => nodes.filter((n) => n.scrollWidth > n.clientWidth + 1).map((n) => n.textContent)"
        assert page.eval_on_selector_all(".tabs a span", cut) == []
        assert page.eval_on_selector_all(".tablepart .scroll", cut) == []


def test_columns_that_do_not_fit_are_left_out_until_they_are_asked_for(browser: Browser, site: str) -> None:
    def heads(page: Page) -> list[str]:
        return page.eval_on_selector_all("#table thead button", "buttons => buttons.map((b) => b.textContent)")

    with opened(browser, site, width=700) as watched:
        page = watched.open(BOARD, ready="#board")
        narrow = heads(page)
        page.locator("#columns summary").click()
        page.locator("#columnmenu input[value='clever.score']").check()
        assert "CLEVER" in heads(page)
    with opened(browser, site, width=1440) as watched:
        assert set(narrow) <= set(heads(watched.open(BOARD, ready="#board")))


def test_compare_floats_once_there_are_two_to_compare(browser: Browser, site: str) -> None:
    with opened(browser, site, width=1280) as watched:
        page = watched.open(BOARD, ready="#board")
        for k in range(3):
            page.locator("#table tbody input").nth(k).check()
        page.locator("#table tbody tr").last.scroll_into_view_if_needed()
        box = page.locator("#compare").bounding_box()
        assert page.locator("#compare").inner_text() == "Compare 3"
        assert box
        assert 0 <= box["y"] < 900


def test_on_a_phone_the_map_of_ranks_comes_before_the_table(browser: Browser, site: str) -> None:
    with opened(browser, site, width=360) as watched:
        page = watched.open(BOARD, ready="#board")
        curves, ranks, table = (page.locator(s).bounding_box() for s in ("#curves", "#ranks", "#table"))
        assert curves
        assert ranks
        assert table
        assert curves["y"] < ranks["y"] < table["y"]


def test_rows_are_paged_and_every_one_is_there_with_and_without_scripts(browser: Browser, site: str) -> None:
    for scripted in (True, False):
        with opened(browser, site, java_script_enabled=scripted) as watched:
            page = watched.open(BOARD, ready="#board" if scripted else None)
            pager = page.locator(".pager", has=page.locator("a:visible, button:visible"))
            seen = page.locator("#table tbody th > a:not(.flag)").all_inner_texts()
            for number in range(2, ROWS // 25 + 2):
                pager.get_by_text(str(number), exact=True).click()
                seen += page.locator("#table tbody th > a:not(.flag)").all_inner_texts()
            assert len(seen) == len(set(seen)) == ROWS
            assert pager.locator("li").all_inner_texts() == ["1", "…", "4", "5", "6"]


@pytest.mark.parametrize(
    ("number", "pages", "shown"),
    [
        (1, 1, [1]),
        (1, 3, [1, 2, 3]),
        (1, 80, [1, 2, 3, None, 80]),
        (4, 80, [1, 2, 3, 4, 5, 6, None, 80]),
        (40, 80, [1, None, 38, 39, 40, 41, 42, None, 80]),
        (80, 80, [1, None, 78, 79, 80]),
    ],
)
def test_a_page_leads_to_its_neighbours_and_to_both_ends(number: int, pages: int, shown: list[int | None]) -> None:
    assert near_pages(number, pages) == shown


def test_on_a_phone_a_page_of_the_table_is_no_roll(browser: Browser, site: str) -> None:
    for scripted in (True, False):
        with opened(browser, site, width=390, java_script_enabled=scripted) as watched:
            page = watched.open(BOARD, ready="#board" if scripted else None)
            assert page.evaluate("document.documentElement.scrollHeight") < 6 * 900
