"""The page of a grid in a browser: positions, comparisons, widths, and for those who cannot see it."""

import json
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser
from weather import PAGE, weather_site

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weather_site(tmp_path_factory.mktemp("browser") / "board")


def shown(page) -> list[str]:
    return page.eval_on_selector_all(".gridtable", "all => all.filter((t) => !t.hidden).map((t) => t.id)")


def order(page, anchor: str) -> list[str]:
    return page.eval_on_selector_all(f"#{anchor} tbody tr", "rows => rows.map((r) => r.dataset.slug)")


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1280, "dark")])
def test_no_width_scrolls_sideways_and_axe_finds_nothing(browser: Browser, site: Path, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((site / PAGE).as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert complaints == []
    context.close()


def test_the_slider_shows_a_position_in_its_own_order_and_the_address_has_it(browser: Browser, site: Path) -> None:
    page = browser.new_page()
    page.goto((site / PAGE).as_uri())
    assert shown(page) == ["all"]
    page.fill("#position", "3")
    assert shown(page) == ["at-3"]
    assert page.url.endswith("#at-3")
    assert page.locator('#grid .tabs [aria-current="true"]').inner_text() == "severity 3"
    told = json.loads((site / PAGE).with_suffix(".json").read_text())
    assert order(page, "at-3") == [m["model"] for m in told["sections"][3]["models"]]
    assert order(page, "at-3") != order(page, "at-1")
    page.goto("about:blank")
    page.goto((site / PAGE).as_uri() + "#at-2")
    assert shown(page) == ["at-2"]
    page.close()


def test_comparing_with_the_first_says_what_the_page_says_without_scripts(browser: Browser, site: Path) -> None:
    page = browser.new_page()
    page.goto((site / PAGE).as_uri())
    told = json.loads((site / PAGE).with_suffix(".json").read_text())["sections"][0]["models"]
    first, second, third = (m["model"] for m in told[:3])
    page.select_option("#base", first)
    cells = page.locator(f'#all tr[data-slug="{second}"] .behind')
    behind = told[1]["behind_the_first"]
    expected = " to ".join(f"{-100 * behind[end]:.1f}" for end in ("high", "low")).replace("-", "−")
    assert cells.inner_text().split(maxsplit=1)[0] == f"{-100 * behind['value']:.1f}".replace("-", "−")
    assert cells.locator(".ci").inner_text() == expected
    page.select_option("#base", third)
    value = page.locator(f'#all tr[data-slug="{second}"] .cell').first.inner_text()
    assert value == f"{100 * (told[1]['cells'][0] - told[2]['cells'][0]):+.1f}"
    assert f"base={third}" in page.url
    page.reload()
    assert page.locator("#base").input_value() == third
    page.select_option("#base", "")
    assert page.locator(f'#all tr[data-slug="{second}"] .cell').first.inner_text() == f"{100 * told[1]['cells'][0]:.1f}"
    page.close()


def test_without_scripts_every_position_is_there(browser: Browser, site: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((site / PAGE).as_uri())
    assert page.locator(".gridtable").count() == 4
    assert all(page.locator(".gridtable").nth(k).is_visible() for k in range(4))
    assert not page.locator("#gridtools").is_visible()
    context.close()
