"""What a reader takes away of a board in a browser, and the filters that say of which rows."""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ET
from io import BytesIO, StringIO
from pathlib import Path

import pytest
from browsers import opened
from PIL import Image
from playwright.sync_api import Browser, Page
from sites import BOARD, make_place

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    return (make_place(tmp_path_factory.mktemp("take")) / "public").as_uri()


def names(page: Page) -> list[str]:
    return page.eval_on_selector_all("#table tbody th > a:first-of-type", "links => links.map((a) => a.textContent)")


def taken(page: Page, what: str) -> bytes:
    with page.expect_download() as download:
        page.locator("#takemenu button", has_text=what).click()
    return Path(download.value.path()).read_bytes()


def copied(page: Page, what: str) -> str:
    """What a button has put on the clipboard; the clipboard is ours, since a test must not touch the user's."""
    page.evaluate("window.copied = ''; navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    page.locator("#takemenu button", has_text=what).click()
    text: str = page.wait_for_function("window.copied").json_value()
    return text


def test_what_is_seen_is_what_is_taken(browser: Browser, site: str) -> None:
    with opened(browser, site, accept_downloads=True) as watched:
        page = watched.open(f"{BOARD}/index.html?eps=0.07", ready="#board")
        page.locator("#table tbody input").nth(1).check()
        page.locator("#table tbody input").nth(2).check()
        chosen = names(page)[1:3]
        robust = page.eval_on_selector_all("#table tr.on .bar", "bars => bars.map((b) => b.parentNode.innerText)")
        page.locator("#take summary").click()
        rows = list(csv.DictReader(StringIO(taken(page, "Rows as CSV").decode())))
        assert [row["title"] for row in rows] == chosen
        for row, shown in zip(rows, robust, strict=True):
            assert f"{100 * float(row['robust_accuracy_0.07']):.1f}" == shown.split()[0]
        tex = copied(page, "LaTeX")
        assert tex.count(r"\\") == 3
        assert all(title.replace("_", r"\_").replace("&", r"\&") in tex for title in chosen)
        cited = copied(page, "BibTeX")
        assert cited.count("@misc{synthetic-40-standard") == 1
        assert cited.count("-evaluation,") == 2


def test_a_chart_is_taken_without_the_lines_that_a_filter_hides(browser: Browser, site: str) -> None:
    with opened(browser, site, accept_downloads=True) as watched:
        page = watched.open(f"{BOARD}/index.html", ready="#board")
        page.locator("#take summary").click()
        svg = {"svg": "http://www.w3.org/2000/svg"}
        whole = ET.fromstring(taken(page, "Curves as SVG")).findall(".//svg:path", svg)
        size = Image.open(BytesIO(taken(page, "Curves as PNG"))).size
        height = ET.fromstring(taken(page, "Curves as SVG")).get("height")
        assert size == (2 * 760, 2 * int(height or 0))
        page.locator("#search").fill("cross-lipschitz")
        fewer = ET.fromstring(taken(page, "Curves as SVG")).findall(".//svg:path", svg)
        assert len(whole) - len(fewer) == 3


def test_filters_take_several_values_and_ranges(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        both = "method=Cross-Lipschitz+regularisation&method=Standard+training"
        page = watched.open(f"{BOARD}/index.html?{both}", ready="#board")
        assert len(names(page)) == 2
        page = watched.open(f"{BOARD}/index.html", ready="#board")
        everyone = names(page)
        page.locator("#filters summary").click()
        page.locator("#filter-year-from").fill("2019")
        page.locator("#filter-year-from").press("Enter")
        page.wait_for_function("location.search.includes('year=2019..')")
        fewer = names(page)
        assert 0 < len(fewer) < len(everyone)
        page = watched.open(f"{BOARD}/index.html?year=..2018", ready="#board")
        assert set(names(page)) == set(everyone) - set(fewer)


def test_the_field_follows_the_slider_and_its_front_holds_whom_nobody_beats(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        page = watched.open(f"{BOARD}/index.html", ready="#board")
        places = "#field .badge", "badges => badges.map((b) => [parseFloat(b.style.left), parseFloat(b.style.top)])"
        before = page.eval_on_selector_all(*places)
        page.locator("#marks button").nth(1).click()
        after = page.eval_on_selector_all(*places)
        assert [x for x, _ in before] == [x for x, _ in after]
        assert all(now >= then for (_, then), (_, now) in zip(before, after, strict=True))
        assert before != after
        assert "0.1" in page.locator("#fieldtitle").inner_text()
        corners = page.locator("#field path.front").get_attribute("d")
        assert corners
        best = min(top for _, top in after)
        assert corners.startswith("M0 ")
        assert float(corners.split("H")[0].split()[1]) / 10 == pytest.approx(best, abs=0.06)
