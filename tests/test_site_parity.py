"""Every figure that a page shows with scripts is the one that it shows without.

On boards of 12 and of 200 models, and on one that has every kind of row, of output and of page.

What scripts draw in the place of something that the page has without them is held to it elsewhere: the compare page in
``test_site_browser.py``, the field's axes in ``test_site_field_browser.py``, grids in ``test_site_grid_browser.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import synthetic
from browsers import opened, started
from playwright.sync_api import Browser
from sites import build, make_place

from db.migrate import upgrade
from db.session import Database

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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as browser:
        yield browser


@pytest.fixture(scope="module", params=[(12, 60), (200, 30), None], ids=["12 models", "200 models", "every kind"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parity")
    if request.param is None:
        return make_place(folder) / "public"
    models, n = request.param
    database = Database(f"sqlite:///{folder / 'board.db'}")
    upgrade(database)
    synthetic.populate(database, models=models, n=n, exact=0, attacks=("shrinking",))
    database.engine.dispose()
    build(folder)
    return folder / "public"


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
