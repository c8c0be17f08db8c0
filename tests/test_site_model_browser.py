"""A model's page in a browser: what it says first, what is folded and opens, what can be copied."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browsers import opened
from playwright.sync_api import Browser
from sites import BOARD, make_place

pytestmark = pytest.mark.browser

MODEL = f"{BOARD}/models/dropout-e/index.html"
OTHER = f"{BOARD}/models/pgd-adversarial-training-b/index.html"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    return (make_place(tmp_path_factory.mktemp("model")) / "public").as_uri()


def test_the_first_screen_says_how_robust_it_is_who_measured_it_and_at_what_cost(browser: Browser, site: str) -> None:
    with opened(browser, site, width=1280) as watched:
        page = watched.open(OTHER)
        box = page.locator(".short").bounding_box()
        assert box
        assert box["y"] + box["height"] < 900
        told = re.fullmatch(
            r"Evaluated by this board: (\d+) evaluations, .+ passes\. Between proof and attack .+",
            page.locator(".short").inner_text(),
        )
        assert told
        assert int(told[1]) == page.locator("#cost tbody tr").count()
        assert page.locator(".keys div").count() == 5


def test_details_are_folded_and_open_where_a_link_leads(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        page = watched.open(OTHER)
        for section in ("attacks", "cost", "certificates"):
            assert not page.locator(f"#{section} table").is_visible()
            page.locator(f".toc a[href='#{section}']").click()
            page.wait_for_selector(f"#{section} table", state="visible")
        page = watched.open(f"{OTHER}#samples")
        page.wait_for_selector("#samples .strips", state="visible")


def test_the_folds_open_without_scripts_too(browser: Browser, site: str) -> None:
    with opened(browser, site, java_script_enabled=False) as watched:
        page = watched.open(OTHER)
        page.locator("#attacks summary").click()
        assert page.locator("#attacks table").is_visible()


def test_every_text_to_be_taken_has_a_button_that_copies_it(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        page = watched.open(MODEL)
        texts = page.locator("main pre")
        assert page.locator("main .copy").count() == texts.count() >= 4
        page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
        folder = Path(site.removeprefix("file://"), MODEL).parent
        for name in ("row.tex", "cite.bib"):
            wanted = (folder / name).read_text(encoding="utf-8")
            for k in range(texts.count()):
                page.locator("main .copy").nth(k).click()
                if page.wait_for_function("window.copied").json_value().strip() == wanted.strip():
                    break
            else:
                pytest.fail(f"no button copies {name}")
