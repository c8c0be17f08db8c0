"""Every figure that a page shows with scripts is the one that it shows without; and what a board once got wrong.

On boards of 12 and of 200 models, and on one that has every kind of row, of output and of page.

What scripts draw in the place of something that the page has without them is held to it elsewhere: the compare page in
``test_site_browser.py``, the field's axes in ``test_site_field_browser.py``, grids in ``test_site_grid_browser.py``.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import synthetic
from axe_playwright_python.sync_playwright import Axe
from browsers import opened
from playwright.sync_api import Browser
from sites import make_place, make_plain

pytestmark = pytest.mark.browser

# What a page says outside of what scripts exchange: every text, and every figure of every chart.
SAID = """() => {
    const main = document.querySelector("main").cloneNode(true);
    for (const part of main.querySelectorAll(
        ".js, noscript, #table, #comparetool, #comparestatic, .cursorbox, .tip, .pager, [data-added]")) part.remove();
    const text = (node) => node.textContent.replace(/\\s+/g, " ").trim();
    const drawn = [...main.querySelectorAll(".plot path, .badge, .strip span")].map((part) =>
        ["class", "d", "data-k", "style", "title"].map((name) => part.getAttribute(name) ?? "").join("|") + text(part));
    const told = [...main.querySelectorAll("[aria-label]")].map((part) => part.getAttribute("aria-label"));
    return { text: text(main), drawn: drawn.sort(), told: told.sort() };
}"""

# The table of a board: model -> heading -> all that the cell says.
TABLE = """() => {
    const text = (node) => node.textContent.replace(/\\s+/g, " ").trim();
    const heads = [...document.querySelectorAll("#table thead th")]
        .map((th) => th.textContent.replace(/%/g, "").trim());
    const rows = {};
    for (const row of document.querySelectorAll("#table tbody tr")) {
        const copy = row.cloneNode(true);
        for (const part of copy.querySelectorAll("[hidden], .delta, input")) part.remove();
        const slug = row.querySelector("th a").getAttribute("href").split("/")[1];
        rows[slug] = Object.fromEntries([...copy.cells].map((cell, k) => [heads[k], text(cell).replace(/\\s/g, "")]));
    }
    return rows;
}"""


@pytest.fixture(scope="module", params=[(12, 60), (200, 30), None], ids=["12 models", "200 models", "every kind"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parity")
    if request.param is None:
        return make_place(folder) / "public"
    models, n = request.param
    return make_plain(folder, models=models, n=n)


def pages_of(site: Path) -> list[str]:
    """All pages; of more than a dozen models, which one template makes, the first and the last."""
    models = sorted(site.glob("boards/*/models/*/index.html"))
    others = sorted(set(site.rglob("*.html")) - set(models))
    return [
        str(page.relative_to(site))
        for page in (*others, *(models if len(models) <= 12 else models[:: len(models) - 1]))
    ]


def test_the_pages_looked_at_are_of_every_kind(site: Path) -> None:
    seen = {
        re.sub(r"(boards|models|datasets|attacks|correlations)/(?!index\.html)[^/]+?(?=/|\.html)", r"\1/*", name)
        for name in pages_of(site)
    }
    folders = {"boards", "attacks", "datasets", "changes", "correlations"}
    wanted = {"index.html", *(f"{folder}/index.html" for folder in folders), "attacks/*.html", "datasets/*.html"}
    wanted |= {f"boards/*/{name}.html" for name in ("index", "l2", "l1", "union", "compare", "models/*/index")}
    assert wanted <= seen


def test_every_page_says_with_scripts_what_it_says_without(browser: Browser, site: Path) -> None:
    address = site.as_uri()
    wanted, names = {}, pages_of(site)
    with opened(browser, address, java_script_enabled=False) as watched:
        wanted = {name: watched.open(name).evaluate(SAID) for name in names}
    with opened(browser, address) as watched:
        for name in names:
            page = watched.open(name)
            page.wait_for_load_state("networkidle")
            assert page.evaluate(SAID) == wanted[name], name
            if page.locator("#board[data-later]").count():
                page = watched.open(name, ready="#board")
                assert page.evaluate(SAID) == wanted[name], f"{name}, once its data are there"


def test_the_table_shows_the_same_figures_in_every_norm(browser: Browser, site: Path) -> None:
    address, compared = site.as_uri(), 0
    (folder,) = site.glob("boards/*/")
    board = str(folder.relative_to(site))
    with opened(browser, address, java_script_enabled=False) as plain, opened(browser, address) as scripted:
        for first in ("index", "l2", "l1", "union"):
            threat = "linf" if first == "index" else first
            names = [first, *sorted(path.stem for path in folder.glob(f"{threat}-*.html"))]
            for k, name in enumerate(names):
                theirs = plain.open(f"{board}/{name}.html").evaluate(TABLE)
                columns = ",".join(("p0,p1,p2,cert,area", *synthetic.COLUMNS))
                page = scripted.open(f"{board}/{first}.html?cols={columns}&page={k + 1}", ready="#board")
                ours = page.evaluate(TABLE)
                assert list(ours) == list(theirs)
                for slug, cells in theirs.items():
                    shown = {head: ours[slug].get(head) for head in cells}
                    assert shown == cells, (name, slug)
                    compared += len(cells)
    assert compared > 4 * 4 * 10  # of at least 4 models in 4 threats


def test_a_board_with_all_that_it_loads_at_first_weighs_less_than_300_kilobytes(browser: Browser, site: Path) -> None:
    """Page, styles, scripts, pictures, and the data, which a large board loads when its reader turns to it."""
    for scripted in (True, False):
        with opened(browser, site.as_uri(), java_script_enabled=scripted) as watched:
            (folder,) = site.glob("boards/*/")
            page = watched.open(f"{folder.relative_to(site)}/l2.html")
            page.wait_for_load_state("networkidle")
            loaded = [Path(unquote(urlsplit(url).path)) for url in watched.requests if not url.startswith("data:")]
            names = {path.name for path in loaded}
            large = page.locator("#board[data-later]").count() == 1
            assert {"l2.html", "site.css"} <= names
            assert ({"models.js", "l2.js", "board.js"} <= names) == (scripted and not large)
            assert sum(path.stat().st_size for path in loaded) < 300_000, names


THREATS = ("index", "l2", "l1", "union")


def board_of(site: Path) -> str:
    (folder,) = site.glob("boards/*/")
    return str(folder.relative_to(site))


def test_letters_belong_to_leaders_before_anybody_else(browser: Browser, site: Path) -> None:
    leading, lettered, nameless = set(), set(), set()
    with opened(browser, site.as_uri(), java_script_enabled=False) as watched:
        for name in THREATS:
            page = watched.open(f"{board_of(site)}/{name}.html")
            named = page.locator("#curves .legend li:has(.badge)")
            lettered |= set(named.evaluate_all("all => all.map((li) => li.lastChild.textContent)"))
            for lead in page.locator("#strip .strip span").all():
                title = (lead.get_attribute("title") or "").rpartition(", ")[0]
                leading.add(title)
                if "faint" in (lead.get_attribute("class") or ""):
                    nameless.add(title)
                    assert title in page.locator("#strip .unlettered").inner_text()
            # Letters are on their charts, and none hides another.
            boxes = [badge.bounding_box() for badge in page.locator("#curves .plot .badge").all()]
            middles = [(b["x"] + b["width"] / 2, b["y"] + b["height"] / 2) for b in boxes if b]
            assert len(middles) == named.count()
            for k, (x, y) in enumerate(middles):
                assert all(max(abs(x - u), abs(y - v)) > 6 for u, v in middles[:k])
    assert leading
    assert nameless == leading - lettered
    assert not nameless or lettered <= leading


def test_no_line_of_the_rank_map_runs_along_its_lower_edge(browser: Browser, site: Path) -> None:
    """A model below the last rank of the map is not on it: at most a line leads down to where it leaves."""
    with opened(browser, site.as_uri(), java_script_enabled=False) as watched:
        for name in THREATS:
            page = watched.open(f"{board_of(site)}/{name}.html")
            lines = page.locator("#ranks path.line").evaluate_all("all => all.map((p) => p.getAttribute('d'))")
            assert lines
            for line in lines:
                y, before = 0, -1
                for kind, _, down in re.findall(r"([Ml])(-?\d+) (-?\d+)", line):
                    y = int(down) if kind == "M" else y + int(down)
                    assert not (kind == "l" and y > 1000 and before > 1000), (name, line)
                    before = y


def test_nothing_is_lost_by_an_emptied_field_and_a_search_without_hits_says_so(browser: Browser, site: Path) -> None:
    with opened(browser, site.as_uri()) as watched:
        page = watched.open(f"{board_of(site)}/index.html?eps=0.1", ready="#board")
        for entered in ("", "-"):
            page.locator("#epsnumber").press("Control+a")
            page.locator("#epsnumber").press("Delete")
            page.locator("#epsnumber").press_sequentially(entered)
            page.locator("#epsnumber").blur()
            assert float(page.locator("#epsnumber").input_value()) == pytest.approx(0.1)
        assert not page.locator("#filtered").is_visible()
        page.locator("#search").fill("nobody is called that")
        assert "No model fits" in page.locator("#table tbody").inner_text()
        assert "speak of all models" in page.locator("#filtered").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_arrows_of_changed_ranks_can_be_read_in_the_union(browser: Browser, site: Path, scheme: str) -> None:
    with opened(browser, site.as_uri(), color_scheme=scheme) as watched:
        page = watched.open(f"{board_of(site)}/union.html?eps=1.5", ready="#board")
        assert page.locator("#table .delta.up, #table .delta.down").count()
        assert Axe().run(page, options={"preload": False}).response["violations"] == []


def test_no_model_has_a_rank_or_leads_where_every_model_is_broken(browser: Browser, site: Path) -> None:
    with opened(browser, site.as_uri()) as watched:
        page = watched.open(f"{board_of(site)}/index.html", ready="#board")
        data = page.evaluate("""() => CB.threat("linf").then((d) => {
            const robust = (k) => d.slugs.some((_, i) => d.counts[i * d.g + k]);
            return { broken: [...d.grid.keys()].filter((k) => !robust(k)), last: d.g - 1 };
        })""")
        at = data["broken"][0] if data["broken"] else data["last"]
        page.locator("#eps").fill(str(at))
        page.wait_for_function("(at) => document.querySelector('#marks') && Number(eps.value) === at", arg=at)
        page.locator("#eps").dispatch_event("change")
        ranks = page.locator("#table tbody .rank b").all_inner_texts()
        assert (set(ranks) == {"–"}) == bool(data["broken"])
        assert "1" in ranks or data["broken"]
        if data["broken"]:
            assert page.locator("#table .delta.up").count() == 0
            ends = page.locator("#strip .strip span").evaluate_all(
                "all => all.map(({ style }) => parseFloat(style.left) + parseFloat(style.width))"
            )
            assert max(ends) <= 100 * at / data["last"] + 1


def test_certified_shares_are_seen_in_print(browser: Browser, site: Path) -> None:
    model = next(site.glob("boards/*/models/*/index.html")).relative_to(site)
    with opened(browser, site.as_uri()) as watched:
        page = watched.open(str(model))
        page.emulate_media(media="print")
        seen = page.locator(".plot path.dot").evaluate_all("""all => all.map((dot) => {
            const { strokeOpacity, display, stroke } = getComputedStyle(dot);
            return strokeOpacity === "1" && display !== "none" && stroke !== "none";
        })""")
        assert seen
        assert all(seen)
