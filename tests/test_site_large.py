"""A board of many models: what it loads when, the picture of its grey curves, and who gets a letter.

It is read without its data; they come when its reader turns to it, and until then nothing that was done is lost.
"""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import numpy as np
import pytest
from browsers import Watched, opened
from PIL import Image
from playwright.sync_api import Browser, Page
from sites import make_plain

from sitegen.board_view import LETTERS, _highlighted
from sitegen.charts.backdrop import HEIGHT, WIDTH, backdrop
from sitegen.leads import Lead, Sentence
from sitegen.render import fragment

MODELS = 40
BOARD = "boards/synthetic-30-standard/index.html"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("large")
    return make_plain(folder, models=MODELS, n=30).as_uri()


def data_of(watched: Watched) -> set[str]:
    """Data files that were asked for."""
    return {Path(urlsplit(url).path).name for url in watched.requests} & {"models.js", "linf.js"}


def ready(page: Page) -> None:
    page.wait_for_selector("#board[data-ready]", state="attached")


@pytest.mark.browser
@pytest.mark.parametrize("turn", ["pointer", "keyboard", "address", "tap"])
def test_data_come_when_the_reader_turns_to_the_board(browser: Browser, site: str, turn: str) -> None:
    with opened(browser, site, has_touch=turn == "tap") as watched:
        page = watched.open(BOARD + ("?eps=0.1" if turn == "address" else ""))
        if turn != "address":
            page.wait_for_load_state("networkidle")
            page.mouse.move(700, 20)  # on the site's menu
            assert data_of(watched) == set()
        if turn == "pointer":
            page.locator("#curves").hover()
        if turn == "keyboard":
            page.locator("#search").focus()
        if turn == "tap":
            page.locator("#curves .plot").tap()
        ready(page)
        assert data_of(watched) == {"models.js", "linf.js"}
        assert page.locator("#shown").inner_text() == f"{MODELS} models"


@pytest.mark.browser
def test_what_was_set_while_the_data_were_on_their_way_holds(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        page = watched.open(BOARD)
        # Within one turn of the event loop: no script can have come in between.
        page.evaluate("""() => {
            document.getElementById("search").focus();
            document.getElementById("search").value = "Dropout";
            document.getElementById("eps").value = "300";
        }""")
        ready(page)
        assert page.locator("#shown").inner_text() == f"{len(range(4, MODELS, 7))} of {MODELS} models"
        assert page.evaluate("Number(document.getElementById('eps').value)") == 300
        at = page.evaluate("CB.threat('linf').then((d) => d.grid[300])")
        assert float(page.locator("#epsnumber").input_value()) == at


@pytest.mark.browser
def test_search_reaches_models_that_the_page_does_not_hold(browser: Browser, site: str) -> None:
    with opened(browser, site, java_script_enabled=False) as watched:
        held = watched.open(BOARD).locator("#table tbody th").all_inner_texts()
    with opened(browser, site) as watched:
        page = watched.open(BOARD, ready="#board")
        page.locator("#search").fill("Standard training 7")
        found = page.locator("#table tbody th").all_inner_texts()
        assert found
        assert not set(found) & set(held)


def test_every_grey_curve_is_where_it_is_drawn_to_half_a_pixel() -> None:
    rng = np.random.default_rng(3)
    n, grid = 10_000, np.sort(np.concatenate((np.linspace(0, 0.3, 401), [0.0333, 0.1234])))
    counts = np.sort(rng.integers(0, n + 1, size=(3, len(grid))), axis=1)[:, ::-1]
    counts[2] = 0  # broken from the start: along the bottom
    picture = Image.open(io.BytesIO(backdrop(counts, n, grid)))
    assert picture.size == (WIDTH, HEIGHT)
    assert HEIGHT >= 300
    inked = np.asarray(picture.convert("RGBA"))[..., 3] > 0
    held = np.zeros_like(inked)
    for own in counts:
        for column in range(WIDTH):
            first, last = np.searchsorted(grid / grid[-1] * WIDTH, [column, column + 1])  # positions in this column
            fallen = (n - own[max(first - 1, 0) : max(last, 1)]) * HEIGHT  # n pixels each, in whole numbers
            top, bottom = fallen.min(), fallen.max()
            centres = np.flatnonzero(inked[:, column]) + 0.5
            for y in (top, bottom):
                assert np.abs(centres * n - y).min() <= 0.5 * n, (column, y)
            held[min(top // n, HEIGHT - 1) : min(bottom // n, HEIGHT - 1) + 1, column] = True
    assert not (inked & ~held)[:, :-1].any()  # the last column also has what lies beyond the last position


def test_more_curves_cover_more() -> None:
    counts, grid = np.full((9, 2), 5), np.array([0.0, 1.0])
    pictures = [Image.open(io.BytesIO(backdrop(counts[:k], 10, grid))) for k in (1, 2, 9)]
    opacities = [int(np.asarray(picture.convert("RGBA"))[..., 3].max()) for picture in pictures]
    assert opacities == sorted(set(opacities))


def ranked(leads: list[tuple[int, float]], order: list[int]) -> SimpleNamespace:
    """A threat of models 0 to 19 in that order, of which some lead, each for that long."""
    rows = [SimpleNamespace(slug=f"m{k:02}") for k in range(20)]
    ends = np.cumsum([length for _, length in leads])
    found = [
        SimpleNamespace(start=end - length, end=end, leaders=(leader,))
        for (leader, length), end in zip(leads, ends, strict=True)
    ]
    axis = SimpleNamespace(maximum=float(ends[-1]))
    return SimpleNamespace(rows=rows, lead_ranges=found, order=order, axis=axis, leader=rows[order[0]])


def test_no_letter_goes_to_a_model_that_leads_nowhere_while_a_leader_has_none() -> None:
    rest = [k for k in range(20) if k not in {3, 4}]
    few = {
        "linf": ranked([(3, 1.0), (7, 2.0), (11, 0.5)], [3, 4, *rest]),
        "l2": ranked([(4, 3.0), (12, 1.0)], [4, 3, *rest]),
    }
    chosen = _highlighted(few, few["linf"].rows)
    assert {"m03", "m04", "m07", "m11", "m12"} <= set(chosen)
    assert len(chosen) == len(LETTERS)
    many = {"linf": ranked([(k, 20.0 - k) for k in range(5, 17)], [5, *(k for k in range(20) if k != 5)])}
    assert _highlighted(many, many["linf"].rows) == [f"m{k:02}" for k in range(5, 13)]  # the longest leads


def test_a_leader_without_a_letter_is_named_below_the_strip() -> None:
    axis = SimpleNamespace(symbol="ℓ₂", maximum=1.0)
    found = [
        Lead(0.0, 0.4, "A", "s0", "First of all", True),
        Lead(0.4, 0.41, "B", "s1", "Shortly ahead", False),
        Lead(0.41, 0.8, "", "faint", "Net <& co>", False),
        Lead(0.8, 1.0, "", "faint", "Another", True),
    ]
    shown = str(fragment("macros.html", "strip", found, axis, Sentence((), "")))
    assert '<p class="unlettered">Grey: Net &lt;&amp; co&gt; 0.41–0.8, Another 0.8–1</p>' in shown
    assert "unlettered" not in str(fragment("macros.html", "strip", found[:2], axis, Sentence((), "")))
