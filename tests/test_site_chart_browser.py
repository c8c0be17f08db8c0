"""Reading the board's charts in a browser: legend, zoom and pan, what is lifted, and taking away what is seen."""

from __future__ import annotations

import contextlib
import csv
import itertools
import re
import xml.etree.ElementTree as ET
from io import BytesIO, StringIO
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsers import Watched, opened
from PIL import Image
from playwright.sync_api import Browser, Page
from sites import BOARD, make_place

from benchmark.cli import run

pytestmark = pytest.mark.browser

PAGE = f"{BOARD}/index.html"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    return (make_place(tmp_path_factory.mktemp("chart")) / "public").as_uri()


def view(page: Page) -> list[float]:
    """Left, right, top and bottom of what is seen of the curves, as shares of the whole."""
    x, y, w, h = (float(v) for v in page.locator("#curves .plot > svg").get_attribute("viewBox").split())  # type: ignore[union-attr]
    return [x / 2000, (x + w) / 2000, y / 1000, (y + h) / 1000]


def box(page: Page, selector: str) -> dict[str, float]:
    found = page.locator(selector).first.bounding_box()
    assert found
    return dict(found)


def drag(page: Page, start: tuple[float, float], stop: tuple[float, float]) -> None:
    """Drag over the curves, from and to shares of the plot."""
    area = box(page, "#curves .plot")
    spots = [(area["x"] + x * area["width"], area["y"] + y * area["height"]) for x, y in (start, stop)]
    page.mouse.move(*spots[0])
    page.mouse.down()
    page.mouse.move(*spots[1], steps=4)
    page.mouse.up()


def seen(page: Page, where: str = "#curves") -> set[str]:
    """Slugs of the models whose lines a chart shows."""
    return set(
        page.eval_on_selector_all(
            f"{where} .plot path.line[data-k]",
            "lines => lines.filter((l) => getComputedStyle(l).display !== 'none').map((l) => l.dataset.k)",
        )
    )


def entry(page: Page, k: int) -> str:
    slug = page.locator("#curves .legend li").nth(k).get_attribute("data-k")
    assert slug
    return slug


# Zoom


def test_a_drag_shows_what_it_spans_and_the_address_keeps_it(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        page = watched.open(PAGE, ready="#board")
        reset = page.get_by_role("button", name="Show the whole chart")
        assert view(page) == [0, 1, 0, 1]
        assert not reset.is_visible()
        drag(page, (0.4, 0.2), (0.9, 0.7))
        assert view(page) == pytest.approx([0.4, 0.9, 0.2, 0.7], abs=0.01)
        assert reset.is_visible()
        page.wait_for_function("location.search.includes('view=')")
        ticks = [float(t) for t in page.locator("#curves .xt:not([hidden])").all_inner_texts()]
        assert len(ticks) >= 3
        assert all(0.4 * 0.3 <= tick <= 0.9 * 0.3 for tick in ticks)
        assert set(page.locator("#ranks .xt:not([hidden])").all_inner_texts()) == set(map("{:g}".format, ticks))
        wanted = view(page)
        page = watched.open(page.url.removeprefix(f"{site}/"), ready="#board")
        assert view(page) == pytest.approx(wanted, abs=1e-3)
        page.get_by_role("button", name="Show the whole chart").click()
        assert view(page) == [0, 1, 0, 1]
        page.wait_for_function("!location.search.includes('view=')")


def test_a_thin_drag_zooms_along_one_axis_only_and_a_zoomed_chart_is_dragged(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        page = watched.open(PAGE, ready="#board")
        drag(page, (0.5, 0.5), (0.8, 0.51))
        assert view(page) == pytest.approx([0.5, 0.8, 0, 1], abs=0.01)
        drag(page, (0.2, 0.5), (0.7, 0.5))
        assert view(page) == pytest.approx([0.35, 0.65, 0, 1], abs=0.01)
        drag(page, (0.1, 0.5), (1.0, 0.5))
        drag(page, (0.1, 0.5), (1.0, 0.5))
        assert view(page) == pytest.approx([0, 0.3, 0, 1], abs=0.01), "it stops at the axis"


def test_wheel_and_keys_zoom_and_the_page_still_scrolls(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        page = watched.open(PAGE, ready="#board")
        area = box(page, "#curves .plot")
        page.mouse.click(area["x"] + area["width"] / 2, area["y"] + 40)
        page.mouse.wheel(0, 60)
        page.wait_for_function("scrollY > 0")
        assert view(page) == [0, 1, 0, 1]
        page.locator("#curves .zoomtools button").last.focus()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.matches('#curves .plot')")
        page.evaluate("scrollTo(0, 0)")
        area = box(page, "#curves .plot")
        page.mouse.move(area["x"] + area["width"] / 4, area["y"] + area["height"] / 2)
        page.mouse.wheel(0, -120)
        left, right, *_ = view(page)
        assert right - left < 0.9
        assert (0.25 - left) / (right - left) == pytest.approx(0.25, abs=0.02), "it zooms at the pointer"
        page.keyboard.press("0")
        assert view(page) == [0, 1, 0, 1]
        for _ in range(30):
            page.keyboard.press("+")
        left, right, top, bottom = view(page)
        assert right - left == pytest.approx(1 / 16)
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowUp")
        moved = view(page)
        assert moved[0] > left
        assert moved[2] < top
        assert moved[3] - moved[2] == pytest.approx(bottom - top)
        page.keyboard.press("Escape")
        assert view(page) == [0, 1, 0, 1]


def test_in_a_zoomed_chart_a_click_still_means_the_eps_below_it(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        page = watched.open(f"{PAGE}?view=0.1..0.2,0..1", ready="#board")
        area = box(page, "#curves .plot")
        page.mouse.click(area["x"] + area["width"] / 4, area["y"] + 30)
        page.wait_for_function("location.search.includes('eps=')")
        assert float(page.locator("#epsnumber").input_value()) == pytest.approx(0.125, abs=0.001)
        for chart in ("#curves", "#ranks"):
            line, plot = box(page, f"{chart} .cursor"), box(page, f"{chart} .plot")
            assert line["x"] - plot["x"] == pytest.approx(plot["width"] / 4, abs=3)
        slider = page.locator("#eps")
        low, high = (int(slider.get_attribute(name) or "") for name in ("min", "max"))
        assert (int(slider.input_value()) - low) / (high - low) == pytest.approx(0.25, abs=0.02)
        drag(page, (0.25, 0.5), (0.75, 0.5))  # the line of ε itself is moved, not the view
        assert float(page.locator("#epsnumber").input_value()) == pytest.approx(0.175, abs=0.001)
        assert view(page) == pytest.approx([1 / 3, 2 / 3, 0, 1], abs=1e-3)


def test_letters_stand_on_their_lines_in_any_view(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        for query in ("", "?view=0.02..0.1,0.3..0.9", "?view=0.05..0.15,0..1"):
            page = watched.open(PAGE + query, ready="#board")
            left, right, top, bottom = view(page)
            found = page.evaluate(
                """() => [...document.querySelectorAll("#curves .plot > .badge")]
                    .filter((b) => getComputedStyle(b).display !== "none").map((b) => [b.dataset.k,
                        parseFloat(b.style.left) / 100, parseFloat(b.style.top) / 100])"""
            )
            assert found
            for slug, x, y in found:
                assert -1e-9 <= x <= 1 + 1e-9
                assert -1e-9 <= y <= 1 + 1e-9
                off = page.evaluate(
                    """([slug, x, y]) => {
                        const path = document.querySelector(`#curves path[data-k="${slug}"]`);
                        let least = Infinity;
                        for (let s = 0, all = path.getTotalLength(); s < all; s += 1) {
                            const p = path.getPointAtLength(s);
                            least = Math.min(least, Math.hypot(p.x - x, p.y - y));
                        }
                        return least;
                    }""",
                    [slug, 2000 * (left + x * (right - left)), 1000 * (top + y * (bottom - top))],
                )
                assert off < 3, (query, slug)


# Touch


class Fingers:
    """Fingers on the curves of a phone, at shares of the plot; the browser is told as by its touch screen."""

    def __init__(self, page: Page) -> None:
        self.screen = page.context.new_cdp_session(page)
        self.page = page
        page.locator("#curves .plot").evaluate("plot => plot.scrollIntoView({ block: 'center' })")
        self.area = box(page, "#curves .plot")

    def _tell(self, kind: str, spots: list[tuple[float, float]]) -> None:
        x, y, w, h = (self.area[name] for name in ("x", "y", "width", "height"))
        points = [{"x": x + sx * w, "y": y + sy * h, "id": k} for k, (sx, sy) in enumerate(spots)]
        self.screen.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def move(self, *path: list[tuple[float, float]]) -> None:
        """From the first places through the others; then they are lifted."""
        self._tell("touchStart", path[0][:1])
        if len(path[0]) > 1:
            self._tell("touchStart", path[0])
        for before, after in itertools.pairwise(path):
            for step in range(1, 9):
                at = [
                    (bx + (ax - bx) * step / 8, by + (ay - by) * step / 8)
                    for (bx, by), (ax, ay) in zip(before, after, strict=True)
                ]
                self._tell("touchMove", at)
        self._tell("touchEnd", [])
        self.page.wait_for_timeout(100)


def on_phone(browser: Browser, site: str) -> contextlib.AbstractContextManager[Watched]:
    return opened(browser, site, width=390, has_touch=True, is_mobile=True)


def test_two_fingers_zoom_about_what_is_between_them(browser: Browser, site: str) -> None:
    with on_phone(browser, site) as watched:
        page = watched.open(PAGE, ready="#board")
        eps = page.locator("#epsnumber").input_value()
        fingers = Fingers(page)
        scrolled = page.evaluate("scrollY")
        fingers.move([(0.3, 0.4), (0.5, 0.4)], [(0.2, 0.4), (0.6, 0.4)])  # twice as far apart, about (0.4, 0.4)
        assert view(page) == pytest.approx([0.2, 0.7, 0.2, 0.7], abs=0.01)
        assert page.locator("#epsnumber").input_value() == eps
        assert page.evaluate("scrollY") == scrolled
        page.wait_for_function("location.search.includes('view=')")
        fingers.move([(0.4, 0.5), (0.6, 0.5)], [(0.2, 0.3), (0.4, 0.3)])  # both move: what is seen moves with them
        assert view(page) == pytest.approx([0.3, 0.8, 0.3, 0.8], abs=0.01)
        fingers.move([(0.1, 0.5), (0.9, 0.5)], [(0.48, 0.5), (0.52, 0.5)])
        assert view(page) == [0, 1, 0, 1]


def test_one_finger_moves_what_is_zoomed(browser: Browser, site: str) -> None:
    with on_phone(browser, site) as watched:
        page = watched.open(f"{PAGE}?view=0..0.15,0.25..0.75", ready="#board")
        before = view(page)
        Fingers(page).move([(0.7, 0.3)], [(0.5, 0.5)])
        step = 0.2 * (before[1] - before[0])
        assert view(page) == pytest.approx([before[0] + step, before[1] + step, 0.15, 0.65], abs=0.02)


def test_one_finger_along_the_curves_moves_eps_and_one_down_scrolls_the_page(browser: Browser, site: str) -> None:
    with on_phone(browser, site) as watched:
        page = watched.open(PAGE, ready="#board")
        fingers = Fingers(page)
        fingers.move([(0.3, 0.5)], [(0.7, 0.52)])
        end = float(page.locator("#epsnumber").get_attribute("max") or 0)
        assert float(page.locator("#epsnumber").input_value()) == pytest.approx(0.7 * end, rel=0.02)
        scrolled, eps = page.evaluate("scrollY"), page.locator("#epsnumber").input_value()
        fingers.move([(0.2, 0.8)], [(0.21, 0.1)])
        assert page.evaluate("scrollY") > scrolled + 50
        assert page.locator("#epsnumber").input_value() == eps


# The legend


def test_a_click_on_a_name_hides_and_shows_its_lines(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        page = watched.open(PAGE, ready="#board")
        everyone, slug = seen(page), entry(page, 1)
        button = page.locator("#curves .legend button").nth(1)
        assert button.get_attribute("aria-pressed") == "true"
        crosses = "#ranks .cross"
        shown = "all => all.filter((c) => getComputedStyle(c).display !== 'none').length"
        before = page.eval_on_selector_all(crosses, shown)
        button.click()
        assert button.get_attribute("aria-pressed") == "false"
        assert seen(page) == everyone - {slug}
        assert slug not in seen(page, "#ranks")
        assert not page.locator(f"#curves .plot > .badge[data-k='{slug}']").is_visible()
        assert page.eval_on_selector_all(crosses, shown) < before
        assert page.locator("#table tbody tr").count() == 4, "the table keeps its rows"
        page.wait_for_function("location.search.includes('hide=')")
        page = watched.open(page.url.removeprefix(f"{site}/"), ready="#board")
        assert seen(page) == everyone - {slug}
        page.locator("#curves .legend button").nth(1).press("Enter")
        assert seen(page) == everyone
        assert page.eval_on_selector_all(crosses, shown) == before


def test_a_name_in_focus_or_under_the_pointer_dims_the_rest(browser: Browser, site: str) -> None:
    with opened(browser, site) as watched:
        page = watched.open(PAGE, ready="#board")
        hot = "lines => [...new Set(lines.map((l) => l.dataset.k))]"
        buttons = page.locator("#curves .legend button")
        buttons.nth(0).focus()
        assert page.eval_on_selector_all("path.hotline", hot) == [entry(page, 0)]
        assert page.locator("#curves .plot.dim").count() == 1
        buttons.nth(0).blur()
        assert page.locator(".dim").count() == 0
        buttons.nth(2).hover()
        assert page.eval_on_selector_all("path.hotline", hot) == [entry(page, 2)]


def test_without_scripts_the_legend_names_the_same_models(browser: Browser, site: str) -> None:
    texts = []
    for scripted in (True, False):
        with opened(browser, site, java_script_enabled=scripted) as watched:
            page = watched.open(PAGE, ready="#board" if scripted else None)
            texts.append(page.locator("#curves .legend li").all_inner_texts())
            assert page.locator("#curves .legend button").count() == (len(texts[0]) if scripted else 0)
    assert texts[0] == texts[1]
    assert len(texts[0]) == 4


# Taking what is seen


def taken(page: Page, what: str) -> bytes:
    page.locator("#take summary").click()
    with page.expect_download() as download:
        page.locator("#takemenu button", has_text=re.compile(f"^{what}$")).click()
    page.keyboard.press("Escape")
    return Path(download.value.path()).read_bytes()


def test_what_is_taken_is_zoomed_and_toggled_as_it_is_seen(browser: Browser, site: str) -> None:
    with opened(browser, site, accept_downloads=True) as watched:
        page = watched.open(f"{PAGE}?view=0.05..0.1,0.2..0.8", ready="#board")
        gone = entry(page, 0)
        title = page.locator("#curves .legend li").nth(0).inner_text().split("\n")[-1]
        page.locator("#curves .legend button").nth(0).click()
        rows = list(csv.reader(StringIO(taken(page, "Curves as CSV").decode())))
        assert set(rows[0][1:]) == seen(page)
        assert gone not in rows[0]
        eps = [float(row[0]) for row in rows[1:]]
        assert (eps[0], eps[-1]) == (0.05, 0.1)
        accuracies = [[float(value) for value in row[1:]] for row in rows[1:]]
        assert all(
            a >= b for first, second in itertools.pairwise(accuracies) for a, b in zip(first, second, strict=True)
        )
        picture = taken(page, "Curves as SVG").decode()
        root = ET.fromstring(picture)
        boxes = {part.get("viewBox") for part in root.iter("{http://www.w3.org/2000/svg}svg")} - {root.get("viewBox")}
        assert boxes == {page.locator("#curves .plot > svg").get_attribute("viewBox")}
        assert title not in picture
        drawn = {part.get("d") for part in root.iter("{http://www.w3.org/2000/svg}path")}
        hidden = page.locator(f"#curves path[data-k='{gone}']").get_attribute("d")
        assert hidden not in drawn
        assert {page.locator(f"#curves path[data-k='{slug}']").get_attribute("d") for slug in seen(page)} <= drawn
        image = Image.open(BytesIO(taken(page, "Curves as PNG")))
        assert image.size == (2 * int(root.get("width", "0")), 2 * int(root.get("height", "0")))
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 20


# For everybody


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1440, "light")])
def test_axe_finds_nothing_on_a_zoomed_chart_and_it_fits_the_screen(
    browser: Browser, site: str, width: int, scheme: str
) -> None:
    with opened(browser, site, width=width, color_scheme=scheme) as watched:
        page = watched.open(f"{PAGE}?view=0.05..0.1,0.2..0.8", ready="#board")
        page.locator("#curves .legend button").nth(0).click()
        page.locator("#against").select_option("year")
        found = Axe().run(page, options={"preload": False})
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_finger_moves_eps_on_the_whole_chart(browser: Browser, site: str) -> None:
    with opened(browser, site, width=360, has_touch=True) as watched:
        page = watched.open(PAGE, ready="#board")
        area = box(page, "#curves .plot")
        page.touchscreen.tap(area["x"] + area["width"] / 3, area["y"] + 60)
        page.wait_for_function("location.search.includes('eps=')")
        assert float(page.locator("#epsnumber").input_value()) == pytest.approx(0.1, abs=0.004)
        assert view(page) == [0, 1, 0, 1]
        page.get_by_role("button", name="Zoom in").tap()
        assert view(page) != [0, 1, 0, 1]


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of a real board whose distances are counts."""
    board = tmp_path_factory.mktemp("counted") / "board"
    assert run(["init", str(board)]) == 0
    part = ["--limit", "10", "-m", "digits-standard", "-m", "digits-conv"]
    assert run(["evaluate", "--protocol", "sparse", *part, "-w", str(board)]) == 0
    assert run(["publish", "-w", str(board)]) == 0
    return board / "public"


def test_under_a_count_every_place_of_the_slider_the_charts_and_the_table_is_whole(
    browser: Browser, counted: Path
) -> None:
    (place,) = counted.glob("boards/*/l0.js")
    with opened(browser, counted.as_uri()) as watched:
        page = watched.open(f"{place.parent.relative_to(counted)}/index.html", ready="#board")
        data = page.evaluate("CB.threat('l0').then(({ grid, g, m }) => ({ grid, g, m }))")
        end = data["grid"][-1]
        assert data["grid"] == list(range(int(end) + 1))
        assert "number of values changed, ε in ℓ₀" in page.locator("#curves").inner_text()
        at, typed = page.locator("#eps"), page.locator("#epsnumber")
        assert (at.get_attribute("max"), typed.get_attribute("step")) == (str(end), "1")
        at.focus()
        page.keyboard.press("Home")
        for eps in (1, 2):
            page.keyboard.press("ArrowRight")
            assert typed.input_value() == str(eps)
            page.wait_for_function(
                "(eps) => document.querySelector('#table caption').innerText.includes(`≤ ${eps},`)", arg=eps
            )
        for wanted, eps in (("2.995", "3"), ("0.6", "1")):
            typed.fill(wanted)
            typed.press("Enter")
            assert typed.input_value() == eps
        assert [
            page.evaluate("([v]) => CB.threat('l0').then((d) => CB.under(d, v))", [v]) for v in (0, 0.9, 1, 1.6)
        ] == [0, 0, 1, 1]
        drag(page, (0.9 / end, 0.5), (2.3 / end, 0.51))
        assert page.locator("#curves .xt:not([hidden])").all_inner_texts() == ["1", "2"]
        assert (at.get_attribute("min"), at.get_attribute("max")) == ("1", "2")
        page = watched.open(f"{place.parent.relative_to(counted)}/index.html?view=1.2..1.6,0..1", ready="#board")
        assert page.locator("#curves .xt:not([hidden])").count() == 0
        assert page.locator("#curves .plot > .badge").evaluate_all(
            "all => all.every((b) => b.style.display === 'none')"
        )
