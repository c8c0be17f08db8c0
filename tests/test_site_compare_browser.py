"""Comparing models in a browser: toggles, zoom, a panel a model, every pair."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import synthetic
from axe_playwright_python.sync_playwright import Axe
from browsers import opened
from playwright.sync_api import Browser, Page
from sites import make_plain

from benchmark.differences import paired_difference
from sitegen.pairs import difference, signed

pytestmark = pytest.mark.browser

N = 80
BOARD = f"boards/synthetic-{N}-standard"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    return make_plain(folder, models=12, n=N)


def six(site: Path) -> list[str]:
    return sorted(folder.name for folder in (site / BOARD / "models").iterdir())[:6]


def compare(site: Path, **more: str) -> str:
    query = "".join(f"&{name}={value}" for name, value in more.items())
    return f"{BOARD}/compare.html?models={','.join(six(site))}{query}"


def texts(page: Page, selector: str) -> list[str]:
    return [" ".join(text.split()) for text in page.locator(selector).all_inner_texts()]


def test_six_models_have_fifteen_pairs_with_their_differences(browser: Browser, site: Path) -> None:
    with opened(browser, site.as_uri()) as watched:
        page = watched.open(compare(site), ready="#comparetool")
        assert page.locator("#cmppairs tbody tr").count() == 15
        cells = page.eval_on_selector_all("#cmppairs tbody tr", "rows => rows.map((r) => r.cells[1].textContent)")
        distances = []
        for slug in six(site):
            with (site / BOARD / "models" / slug / "samples.csv").open() as file:
                rows = list(csv.DictReader(file))
            column = next(name for name in rows[0] if "linf" in name and "distance" in name)
            distances.append(np.array([float(row[column] or "inf") for row in rows]))
        wanted = []
        for i in range(6):
            for j in range(i + 1, 6):
                ends = paired_difference(distances[i], distances[j], np.array([synthetic.EPS["linf"][0]]))
                wanted.append(difference(*(float(end[0]) for end in ends)))
        assert cells == wanted


def test_a_difference_is_written_with_its_sign() -> None:
    assert [signed(value) for value in (0.125, -0.125, 0.0, -0.0004, 1.0)] == ["+12.5", "−12.5", "0.0", "0.0", "+100.0"]
    assert difference(0.95, 0.85, 1.0) == "+95.0 (+85.0 to +100.0)"
    assert difference(-0.95, -1.0, -0.85) == "−95.0 (−100.0 to −85.0)"


def test_a_chosen_pair_is_drawn_and_its_samples_are_shown(browser: Browser, site: Path) -> None:
    with opened(browser, site.as_uri()) as watched:
        page = watched.open(compare(site), ready="#comparetool")
        before = page.locator("#cmpgap path.line").get_attribute("d"), texts(page, "#cmpsamples li")
        button = page.locator("#cmppairs button").nth(9)
        first, second = (" ".join(part.split()[1:]) for part in " ".join(button.inner_text().split()).split(" minus "))
        button.click()
        page.wait_for_function("location.search.includes('pair=')")
        assert page.locator("#cmpgaptitle").inner_text() == f"{first} minus {second}"
        assert f"{first} and {second} differ most" in page.locator("#cmpsamples").inner_text()
        assert page.locator("#cmpgap path.line").get_attribute("d") != before[0]
        assert texts(page, "#cmpsamples li") != before[1]
        page = watched.open(page.url.removeprefix(f"{site.as_uri()}/"), ready="#comparetool")
        assert page.locator("#cmpgaptitle").inner_text() == f"{first} minus {second}"
        assert page.locator("#cmppairs button[aria-pressed='true']").count() == 1


def test_a_name_in_the_legend_hides_the_model_from_chart_and_panels(browser: Browser, site: Path) -> None:
    with opened(browser, site.as_uri(), accept_downloads=True) as watched:
        page = watched.open(compare(site, each="1"), ready="#comparetool")
        assert page.locator("#cmppanels li").count() == 6
        assert page.locator("#cmppanels li").first.locator("path.line.pale").count() == 5
        page.locator("#cmpcurves .legend button").nth(2).press("Enter")
        page.wait_for_function("location.search.includes('hide=')")
        gone = six(site)[2]
        assert page.locator("#cmpcurves .plot path.line").count() == 5
        assert page.locator(f"#cmpcurves .plot path[data-k='{gone}']").count() == 0
        assert page.locator("#cmppanels li").count() == 5
        assert page.locator("#cmptables tbody tr").count() == 6, "the figures stay"
        assert page.evaluate("document.activeElement.closest('li').dataset.k") == gone
        with page.expect_download() as download:
            page.locator("#cmpcsv").click()
        head = next(csv.reader(StringIO(Path(download.value.path()).read_text())))
        assert head == ["eps", *(slug for slug in six(site) if slug != gone)]


def test_the_curves_are_zoomed_and_the_address_keeps_it(browser: Browser, site: Path) -> None:
    with opened(browser, site.as_uri()) as watched:
        page = watched.open(compare(site), ready="#comparetool")
        page.locator("#cmpcurves .plot").focus()
        for _ in range(3):
            page.keyboard.press("+")
        page.wait_for_function("location.search.includes('view=')")
        wanted = page.locator("#cmpcurves .plot > svg").get_attribute("viewBox")
        page = watched.open(page.url.removeprefix(f"{site.as_uri()}/"), ready="#comparetool")
        found = page.locator("#cmpcurves .plot > svg").get_attribute("viewBox")
        assert [float(v) for v in (found or "").split()] == pytest.approx(
            [float(v) for v in (wanted or "").split()], abs=0.3
        )
        page.get_by_role("button", name="Show the whole chart").click()
        assert page.locator("#cmpcurves .plot > svg").get_attribute("viewBox") == "0 0 2000 1000"


def test_letters_and_colours_are_those_of_the_board(browser: Browser, site: Path) -> None:
    badges = """() => Object.fromEntries([...document.querySelectorAll("#curves .legend li[data-k]")]
        .filter((li) => li.querySelector(".badge")).map((li) => [li.dataset.k,
            li.querySelector(".badge").className.replace(" thick", "") + li.querySelector(".badge").textContent]))"""
    with opened(browser, site.as_uri()) as watched:
        board = watched.open(f"{BOARD}/index.html?sel={','.join(six(site))}", ready="#board").evaluate(badges)
        page = watched.open(compare(site), ready="#comparetool")
        ours = page.evaluate(badges.replace("#curves", "#cmpcurves"))
        assert set(ours) == set(six(site))
        assert ours == {slug: board[slug] for slug in ours}
        assert any(letter[-1] >= "I" for letter in ours.values())


def test_without_scripts_every_pair_has_its_difference_and_its_samples(browser: Browser, site: Path) -> None:
    with opened(browser, site.as_uri(), java_script_enabled=False) as watched:
        page = watched.open(f"{BOARD}/compare.html")
        for k in range(4):
            section = page.locator("#comparestatic section").nth(k)
            assert section.locator(".differences tbody tr").count() == 6
            assert section.locator(".samples h4").count() == 6
            assert section.locator(".panels li").count() == 4
        page.locator("#comparestatic section summary").first.click()
        panel = page.locator("#comparestatic .panels li").first
        assert panel.is_visible()
        assert panel.locator("use").count() == 4
        assert all(
            page.locator(str(href)).count() == 1
            for href in panel.locator("use").evaluate_all(
                "all => all.map((u) => '[id=\"' + u.getAttribute('href').slice(1) + '\"]')"
            )
        )


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1440, "light")])
def test_axe_finds_nothing_and_it_fits_the_screen(browser: Browser, site: Path, width: int, scheme: str) -> None:
    with opened(browser, site.as_uri(), width=width, color_scheme=scheme) as watched:
        page = watched.open(compare(site, each="1"), ready="#comparetool")
        page.locator("#cmpcurves .legend button").first.click()
        page.wait_for_function("location.search.includes('hide=')")
        found = Axe().run(page, options={"preload": False})
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
