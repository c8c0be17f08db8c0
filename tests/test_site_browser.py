"""The site in a browser: every interaction, every width, with and without scripts, and for those who cannot see it."""

from __future__ import annotations

import functools
import http.server
import re
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import synthetic
from axe_playwright_python.sync_playwright import Axe
from browsers import opened
from playwright.sync_api import Browser, Page
from sites import BOARD, build, make_place

from benchmark.curve import proportion_interval
from db.migrate import upgrade
from db.session import Database
from sitegen import words
from sitegen.charts.badges import letter_places
from sitegen.crossings import grid_crossings

pytestmark = pytest.mark.browser

MODEL = f"{BOARD}/models/dropout-e/index.html"
FIRST = ("index.html", f"{BOARD}/index.html", f"{BOARD}/compare.html", MODEL)


def pages_of(site: str) -> list[str]:
    """Every page there is, those that are looked at most first."""
    folder = Path(unquote(urlsplit(site).path))
    others = sorted(str(page.relative_to(folder)) for page in folder.rglob("*.html"))
    return [*FIRST, *(page for page in others if page not in FIRST)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a built site on the disk."""
    return (make_place(tmp_path_factory.mktemp("browser")) / "public").as_uri()


def column(page: Page, head: str) -> list[str]:
    """The main values of a column of the ranking."""
    return page.eval_on_selector_all(
        "#table tbody tr",
        """(rows, head) => {
            const heads = [...document.querySelectorAll("#table thead th")];
            const at = heads.findIndex((th) => th.textContent.trim() === head);
            const cells = rows.map((row) => row.cells[at]);
            return cells.map((cell) => (cell.querySelector("b, a, span") ?? cell).textContent);
        }""",
        head,
    )


def names(page: Page) -> list[str]:
    return page.eval_on_selector_all("#table tbody th > a:first-of-type", "links => links.map((a) => a.textContent)")


# Every page


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_no_page_scrolls_sideways_or_complains(browser: Browser, site: str, width: int) -> None:
    for scheme in ("light", "dark") if width == 360 else ("light",):
        with opened(browser, site, width=width, color_scheme=scheme) as watched:
            for path in pages_of(site):
                page = watched.open(path)
                page.wait_for_load_state("networkidle")
                assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, scheme)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(browser: Browser, site: str, scheme: str) -> None:
    with opened(browser, site, color_scheme=scheme) as watched:
        for path in pages_of(site):
            page = watched.open(path, ready="#board" if path == FIRST[1] else None)
            # The dark scheme changes colours alone. Preloading would fetch style sheets.
            only = {"runOnly": ["color-contrast"]} if scheme == "dark" else {}
            found = Axe().run(page, options={"preload": False} | only)
            assert found.violations_count == 0, f"{path}: {found.generate_report()}"


def test_the_pages_are_whole_without_scripts(browser: Browser, site: str) -> None:
    with opened(browser, site, java_script_enabled=False) as watched:
        page = watched.open(f"{BOARD}/index.html")
        assert page.locator("#table tbody tr").count() == 4
        assert page.locator("#curves .plot path.line").count() == 4
        assert not page.locator(".js").filter(visible=True).count()
        page.locator(".tabs a", has_text="ℓ₂").click()
        assert page.url.endswith("l2.html")
        assert "ℓ₂ ≤ 0.25" in page.locator("#table caption").inner_text()
        page = watched.open(f"{BOARD}/compare.html")
        assert page.locator("#comparestatic figure.fig").count() == 8
        assert not page.locator("#comparetool").is_visible()


def test_it_prints_on_white_without_controls(browser: Browser, site: str) -> None:
    with opened(browser, site, color_scheme="dark") as watched:
        page = watched.open(f"{BOARD}/index.html", ready="#board")
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert not page.locator(".slider").is_visible()
        assert page.locator("#curves path.line").first.is_visible()


def test_the_site_works_under_any_path_of_a_server(browser: Browser, site: str, tmp_path: Path) -> None:
    root = Path(site.removeprefix("file://"))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "down").symlink_to(root)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with opened(browser, f"http://127.0.0.1:{server.server_address[1]}/deep/down") as watched:
                page = watched.open("index.html")
                page.locator(".button.primary").click()
                page.wait_for_selector("#board[data-ready]", state="attached")
                page.locator("#table tbody th > a").first.click()
                page.wait_for_selector("#curves")
        finally:
            server.shutdown()


def test_the_theme_is_chosen_and_remembered(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        page = watched.open("index.html")
        colour = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(colour)
        button = page.locator("[data-theme-toggle]")
        button.click()
        button.click()
        assert button.inner_text() == "Theme: dark"
        assert page.evaluate(colour) != light
        page = watched.open("method.html")
        assert page.evaluate(colour) != light


# The board


def test_moving_eps_changes_accuracies_ranks_and_the_line(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        page = watched.open(f"{BOARD}/index.html", ready="#board")
        before = column(page, "Robust %"), names(page)
        line = page.locator("#curves .cursor").bounding_box()
        slider = page.locator("#eps")
        slider.focus()
        for _ in range(40):
            page.keyboard.press("ArrowRight")
        page.wait_for_function("new URLSearchParams(location.search).has('eps')")
        eps = float(page.locator("#epsnumber").input_value())
        assert eps > 0.05
        assert column(page, "Robust %") != before[0]
        moved = page.locator("#curves .cursor").bounding_box()
        assert line
        assert moved
        assert moved["x"] > line["x"]
        ranks = [int(rank) for rank in column(page, "Rank")]
        assert ranks == sorted(ranks)
        accuracies = [float(value) for value in column(page, "Robust %")]
        assert accuracies == sorted(accuracies, reverse=True)


def test_scripts_and_server_agree_at_the_published_budgets(browser: Browser, site: str) -> None:
    with opened(browser, site, java_script_enabled=False) as watched:
        page = watched.open(f"{BOARD}/l1.html")
        served = page.eval_on_selector_all(
            "#table tbody tr", "rows => rows.map((r) => r.innerText.replace(/\\s+/g, ' '))"
        )
        served_names = names(page)
    with opened(browser, site) as watched:
        page = watched.open(f"{BOARD}/l1.html?cols=acc,p1", ready="#board")
        assert names(page) == served_names
        for row, value, rank in zip(served, column(page, "Robust %"), column(page, "Rank"), strict=True):
            assert f" {value} " in row
            assert row.startswith(rank)
        page.locator("#marks button", has_text=re.compile("^1$")).click()
        assert column(page, "Robust %") == sorted(column(page, "ε 1"), key=float, reverse=True)


def test_intervals_of_the_script_are_clopper_and_pearsons(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        page = watched.open(f"{BOARD}/index.html", ready="#board")
        for n in (40, 10_000):
            counts = [0, 1, n // 3, n - 1, n]
            low, high = proportion_interval(counts, n)
            found = page.evaluate("([counts, n]) => counts.map((k) => CB.interval(k, n))", [counts, n])
            assert [f[0] for f in found] == pytest.approx(low.tolist(), abs=1e-9)
            assert [f[1] for f in found] == pytest.approx(high.tolist(), abs=1e-9)


def test_every_state_of_the_board_is_in_its_address(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        page = watched.open(f"{BOARD}/index.html", ready="#board")
        page.locator(".tabs a", has_text="ℓ₂").click()
        page.wait_for_function("document.querySelector('#curves .xlabel').textContent.includes('ℓ₂')")
        page.locator("#epsnumber").fill("0.4")
        page.locator("#epsnumber").press("Enter")
        page.locator("#columns summary").click()
        page.locator("#columnmenu input[value=year]").check()
        page.keyboard.press("Escape")
        page.locator("#table thead button", has_text="Clean").click()
        page.locator("#filters summary").click()
        page.locator("#filter-method").select_option("PGD adversarial training")
        page.keyboard.press("Escape")
        page.locator("#search").fill("training")
        page.locator("#table tbody input").first.check()
        page.wait_for_function("location.search.includes('sel=')")
        wanted = page.url, names(page), column(page, "Year"), page.locator("#table th[aria-sort]").inner_text()
        assert len(wanted[1]) < 4
        for part in (
            "norm=l2",
            "eps=0.4",
            "sort=clean.accuracy",
            "dir=desc",
            "method=PGD",
            "q=training",
            "cols=",
            "sel=",
        ):
            assert part in wanted[0]
        page = watched.open(wanted[0].removeprefix(f"{site}/"), ready="#board")
        assert (names(page), column(page, "Year"), page.locator("#table th[aria-sort]").inner_text()) == wanted[1:]
        assert page.locator("#epsnumber").input_value() == "0.4"
        assert page.locator("#search").input_value() == "training"
        assert page.locator("#table tbody input:checked").count() == 1


def test_headings_sort_both_ways_and_say_so(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        page = watched.open(f"{BOARD}/index.html", ready="#board")
        for head in ("Model", "Area"):
            button = page.locator("#table thead button", has_text=head)
            button.click()
            first = names(page)
            state = page.locator("#table th[aria-sort]")
            assert state.count() == 1
            assert state.get_attribute("aria-sort") == ("ascending" if head == "Model" else "descending")
            button.click()
            assert names(page) == first[::-1]


def test_a_click_into_the_chart_moves_eps(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        page = watched.open(f"{BOARD}/index.html", ready="#board")
        plot = page.locator("#ranks .plot")
        box = plot.bounding_box()
        assert box
        plot.click(position={"x": box["width"] / 3, "y": box["height"] / 2})
        page.wait_for_function("new URLSearchParams(location.search).has('eps')")
        assert float(page.locator("#epsnumber").input_value()) == pytest.approx(0.1, abs=0.003)


def test_going_back_returns_to_the_norm_before(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        page = watched.open(f"{BOARD}/index.html", ready="#board")
        page.locator(".tabs a", has_text="union").click()
        page.wait_for_function("document.querySelector('#ranks .xlabel').textContent.includes('multiple')")
        page.go_back()
        page.wait_for_function("!document.querySelector('#ranks .xlabel').textContent.includes('multiple')")
        assert page.locator(".tabs a[aria-current]").inner_text().startswith("ℓ∞")


def test_the_sweep_runs_and_stops(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        page = watched.open(f"{BOARD}/index.html", ready="#board")
        page.locator("#sweep").click()
        page.wait_for_function("Number(document.getElementById('epsnumber').value) > 0.06")
        page.locator("#sweep").click()
        page.wait_for_function("document.getElementById('sweep').textContent.includes('Sweep')")
        stopped = page.locator("#epsnumber").input_value()
        page.wait_for_timeout(150)
        assert page.locator("#epsnumber").input_value() == stopped


# The compare page


def test_chosen_rows_lead_to_a_comparison_with_a_permalink(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        page = watched.open(f"{BOARD}/index.html", ready="#board")
        for k in range(2):
            page.locator("#table tbody input").nth(k).check()
        chosen = names(page)[:2]
        page.locator("#compare").click()
        page.wait_for_selector("#comparetool[data-ready]", state="attached")
        assert page.locator("#chosen a").all_inner_texts() == chosen
        assert page.locator("#cmpgaptitle").inner_text() == f"{chosen[0]} minus {chosen[1]}"
        third = page.locator("#modellist option").first.get_attribute("value")
        assert third
        page.locator("#addmodel").fill(third)
        page.locator("#addmodel").press("Enter")
        page.wait_for_function("document.querySelectorAll('#chosen li').length === 3")
        page.locator("#normtabs a", has_text="ℓ₁").click()
        page.wait_for_function("document.querySelector('#cmpcurves .xlabel').textContent.includes('ℓ₁')")
        address = page.url
        page = watched.open(address.removeprefix(f"{site}/"), ready="#comparetool")
        assert page.locator("#chosen li").count() == 3
        assert page.locator("#cmptables tbody tr").count() == 3
        page.locator("#chosen button").first.click()
        page.wait_for_function("document.querySelectorAll('#chosen li').length === 2")


def crossings_told(page: Page, selector: str) -> dict[tuple[str, str], tuple[float, float, float, float]]:
    """(who overtakes, whom) -> (eps, low, high, support) of each crossing in a list; badges are left out."""
    pattern = r"^(.+) overtakes (.+) at ε = ([\d.]+)\s+([\d.]+)–([\d.]+)\s*, in (\d+) % of the resamples$"
    found = {}
    for text in page.eval_on_selector_all(
        f"{selector} li",
        """items => items.map((item) => {
            const copy = item.cloneNode(true);
            for (const badge of copy.querySelectorAll(".badge")) badge.remove();
            return copy.textContent.replace(/\\s+/g, " ").trim();
        })""",
    ):
        told = re.match(pattern, text)
        assert told, text
        found[told[1].strip(), told[2].strip()] = tuple(map(float, told.groups()[2:]))
    return found


def test_a_comparison_shows_the_same_crossings_and_figures_with_scripts_as_without(
    browser: Browser, tmp_path: Path
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'board.db'}")
    upgrade(database)
    synthetic.populate(database, models=4, n=600, exact=0)  # enough samples for crossings that are beyond doubt
    database.engine.dispose()
    build(tmp_path)
    compare = "boards/synthetic-600-standard/compare.html"
    compared = 0
    with opened(browser, (tmp_path / "public").as_uri()) as watched:
        page = watched.open(compare, ready="#comparetool")
        slugs = page.eval_on_selector_all(
            "#comparestatic .lead a", "links => links.map((a) => a.getAttribute('href').split('/')[1])"
        )
        for k, threat in enumerate(("linf", "l2", "l1", "union")):
            page = watched.open(f"{compare}?models={','.join(slugs)}&norm={threat}", ready="#comparetool")
            static = f"#comparestatic section:nth-of-type({k + 1})"
            theirs = crossings_told(page, f"{static} > ul.plain")
            assert crossings_told(page, "#cmpwords") == theirs
            compared += len(theirs)
            assert figures(page, "#cmptables tbody tr") == figures(page, f"{static} table:not(.differences) tbody tr")
            assert figures(page, "#cmppairs tbody tr") == figures(page, f"{static} .differences tbody tr")
            assert drawing(page, "#cmpcurves") == drawing(page, f"{static} figure:nth-of-type(1)")
    assert compared >= 3


def figures(page: Page, selector: str) -> list[list[str]]:
    """The cells of some rows, letters left out."""
    return page.eval_on_selector_all(
        selector,
        """rows => rows.map((row) => [...row.cells].map((cell) => {
            const copy = cell.cloneNode(true);
            for (const badge of copy.querySelectorAll(".badge")) badge.remove();
            return copy.textContent.replace(/\\s+/g, " ").trim();
        }))""",
    )


def drawing(page: Page, selector: str) -> dict[str, object]:
    """What a chart shows: where each letter stands, and each crossing with its words."""
    return page.evaluate(
        """(selector) => {
            const chart = document.querySelector(selector);
            const all = (what, tell) => [...chart.querySelectorAll(what)].map(tell).sort();
            const near = (text) => text.replace(/[\\d.]+/g, (n) => Number(n).toFixed(2));
            return {
                letters: all(".plot .badge", (b) => b.textContent + near(b.getAttribute("style"))),
                crossings: all("path.cross", (c) => c.getAttribute("d") + c.textContent),
            };
        }""",
        selector,
    )


CASES = [0.0, 0.05, 0.125, 0.3125, 1 / 3, 12.345, 1234.5, 123456.0, 1.005, 0.00012345, 0.00001, 3e-7, 99.95, 0.0625]


def test_scripts_write_numbers_as_the_server_does(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        page = watched.open(f"{BOARD}/index.html", ready="#board")
        for digits in (2, 3, 4):
            written = page.evaluate("([c, d]) => c.map((v) => CB.num(v, d))", [CASES, digits])
            assert written == [words.number(value, digits) for value in CASES]
        shares = [k / 80 for k in range(81)]
        assert page.evaluate("c => c.map((v) => CB.pct(v))", shares) == [words.percent(share) for share in shares]


def test_scripts_place_letters_where_the_server_does(browser: Browser, site: str) -> None:
    rng = np.random.default_rng(5)
    with opened(browser, site) as watched:
        page = watched.open(f"{BOARD}/index.html", ready="#board")
        for curves, g, n in ((2, 401, 40), (8, 403, 1000), (14, 120, 7), (3, 65, 100)):
            counts = np.sort(rng.integers(0, n + 1, size=(curves, g)), axis=1)[:, ::-1]
            grid = np.linspace(0, 0.3, g)
            given = [counts.tolist(), n, grid.tolist()]
            found = page.evaluate("([counts, n, grid]) => CB.letterPlaces(counts, n, grid)", given)
            assert found == letter_places(counts, n, grid)


def test_scripts_find_crossings_number_for_number(browser: Browser, site: str) -> None:
    rng = np.random.default_rng(6)
    compared = 0
    with opened(browser, site) as watched:
        page = watched.open(f"{BOARD}/compare.html", ready="#comparetool")
        for n in (40, 300, 300, 1000):
            grid = np.unique(np.concatenate((np.linspace(0, 0.3, 301), [8 / 255])))
            first = np.searchsorted(grid, 0.1 * np.exp(0.3 * rng.normal(size=n)))
            second = np.searchsorted(grid, 0.1 * np.exp(0.8 * rng.normal(size=n)))
            given = [first.tolist(), second.tolist(), grid.tolist(), n]
            found = page.evaluate("([a, b, grid, n]) => CB.crossings(a, b, grid, n)", given)
            ours = grid_crossings(first, second, grid)
            assert [(x["position"], x["low"], x["high"], x["support"], x["first"]) for x in found] == [
                (x.position, x.low, x.high, x.support, x.first) for x in ours
            ]
            compared += len(ours)
    assert compared >= 2


def test_samples_that_differ_are_shown_as_pictures(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        page = watched.open(f"{BOARD}/compare.html", ready="#comparetool")
        first = page.locator("#cmpsamples li").first
        labels = first.locator(".tile").evaluate_all("tiles => tiles.map((t) => t.getAttribute('aria-label'))")
        assert re.fullmatch(r"Sample \d+", labels[0])
        assert all("Adversarial example of sample" in label for label in labels[1:])
        page.wait_for_load_state("networkidle")
        sheets = {url.rpartition("/")[2] for url in watched.requests if url.endswith(".png")}
        assert {"sheet-0.png", "adversarial-linf.png"} <= sheets
        assert page.locator("#cmpcurves path.cross title").count() == page.locator("#cmpwords li").count()


def test_every_crossing_is_marked_on_the_map_of_ranks_with_and_without_scripts(browser: Browser, site: str) -> None:
    counts = []
    for scripted in (True, False):
        with opened(browser, site, java_script_enabled=scripted) as watched:
            page = watched.open(f"{BOARD}/index.html", ready="#board" if scripted else None)
            counts.append(page.locator("#ranks path.cross").count())
            assert page.locator("#strip span").count() >= 1
    assert counts[0] > 0
    assert counts[0] == counts[1]


def test_on_a_phone_the_slider_stays_above_the_table(browser: Browser, site: str) -> None:
    with opened(browser, site, width=360) as watched:
        page = watched.open(f"{BOARD}/index.html", ready="#board")
        page.locator("#table tbody tr").last.scroll_into_view_if_needed()
        page.evaluate("scrollBy(0, 60)")
        slider, last = page.locator("#eps").bounding_box(), page.locator("#table tbody tr").last.bounding_box()
        assert slider
        assert last
        assert 0 <= slider["y"] < last["y"] < 900
