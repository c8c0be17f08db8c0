"""The site at scale: invented boards, built cold, again, and after one new model; what a browser loads; the slider.

There is no peer that builds such a site, so the figures stand beside a bare minimum measured in the same run: reading
and sorting every row's distances once. The budgets are those of the project: 2 minutes cold on 2 cores, 5 seconds after
one new model, 300 kB for the board's page with all that it loads at first, 60 frames a second with 500 curves.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from perf import Benchmark, Options
from perf.tables import table

SAMPLES = 10_000
MODELS = (200, 1_000, 2_000)
FRAMES = 300

# Drags the slider over its whole range, one position a frame, and says how long each frame took.
DRAG = """async (frames) => {
  const slider = document.getElementById("eps"), last = Number(slider.max), times = [];
  let before = performance.now();
  for (let k = 0; k < frames; k++) {
    slider.value = String(Math.round(last * (k / frames)));
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    times.push(now - before);
    before = now;
  }
  return times;
}"""


def run(options: Options, folder: Path) -> dict[str, Any]:
    """For each number of models: populate a database, build the site three times, open the board, drag the slider."""
    n = options.samples or (500 if options.quick else SAMPLES)
    load = os.getloadavg()[0]
    sizes = [_size(models, n, folder) for models in ((60,) if options.quick else MODELS)]
    return {"samples": n, "cores": len(os.sched_getaffinity(0)), "load": load, "sizes": sizes}


def _size(models: int, n: int, folder: Path) -> dict[str, Any]:
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    import synthetic

    import sitegen
    from db.migrate import upgrade
    from db.session import Database

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    database = Database(f"sqlite:///{folder / 'board.db'}")
    upgrade(database)
    board = synthetic.populate(database, models=models, n=n, attacks=("shrinking",), exact=0)
    os.sync()  # what the disk still has to write of it is not the site's

    def build() -> sitegen.BuildReport:
        return sitegen.build(database, folder / "public", artifacts=folder / "artifacts")

    bare = _timed(lambda: _bare_minimum(database))[0]
    cold, _ = _timed(build)
    warm, _ = _timed(build)
    synthetic.add_model(database, board, n=n)
    added, report = _timed(build)
    found = {
        "models": models,
        "bare": bare,
        "cold": cold,
        "warm": warm,
        "added": added,
        "pages": report.pages,
        "files": report.files,
        "bytes": report.bytes,
        "largest": {"page": report.largest[0], "bytes": report.largest[1]},
        "browser": _browser(folder / "public" / "boards" / f"synthetic-{n}-standard" / "index.html"),
    }
    database.engine.dispose()
    shutil.rmtree(folder)
    return found


def report(result: dict[str, Any]) -> str:
    """One table, a column for each number of models, each figure beside its budget."""
    lines: list[tuple[str, Callable[[dict[str, Any]], str], str]] = [
        ("cold build", lambda size: _both(size["cold"]), "120 s for 1,000 models on 2 cores"),
        ("again, nothing changed", lambda size: _both(size["warm"]), ""),
        ("after one new model", lambda size: _both(size["added"]), "5 s"),
        ("bare minimum: read and sort every distance", lambda size: _both(size["bare"]), ""),
        ("largest page", lambda size: f"{size['largest']['bytes'] / 1000:.0f} kB", ""),
        ("whole site", lambda size: f"{size['bytes'] / 1e6:.0f} MB, {size['pages']} pages", ""),
    ]
    if all(size["browser"] for size in result["sizes"]):
        lines += [
            ("the board with all that it loads at first", _kilobytes("first"), "300 kB"),
            ("– of that without scripts", _kilobytes("plain"), "300 kB"),
            ("loaded when the reader turns to it", _kilobytes("later"), ""),
            ("slider, median frame", _milliseconds("median"), "16.7 ms"),
            ("slider, processor time a frame", _milliseconds("busy"), "16.7 ms"),
            ("slider, 95 % of the frames within", _milliseconds("p95"), ""),
        ]
    rows = [[what, *(told(size) for size in result["sizes"]), budget] for what, told, budget in lines]
    head = (
        f"Invented boards × 3 norms × {result['samples']} samples, built on {result['cores']} cores. In brackets: "
        "processor time, of all processes; wall times are longer than on an idle machine if others keep it busy "
        f"(load average when it began: {result['load']:.1f}). Bytes are those of the files, not packed. The slider is "
        "dragged over its whole range with up to 500 curves in headless Chromium without a GPU."
    )
    names = [f"{size['models']:,} models" for size in result["sizes"]]
    return f"{head}\n\n" + table(["what", *names, "budget"], rows)


def _kilobytes(key: str) -> Callable[[dict[str, Any]], str]:
    return lambda size: f"{size['browser'][key] / 1000:.0f} kB"


def _milliseconds(key: str) -> Callable[[dict[str, Any]], str]:
    return lambda size: f"{size['browser'][key]:.1f} ms"


def _both(seconds: dict[str, float]) -> str:
    return f"{seconds['wall']:.1f} s ({seconds['processor']:.1f} s)"


def _timed(call: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Wall time, and processor time with that of the processes that it started and awaited."""
    begin, used = time.perf_counter(), _processor()
    value = call()
    return {"wall": time.perf_counter() - begin, "processor": _processor() - used}, value


def _processor() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _bare_minimum(database: Any) -> None:
    """Read every distance there is, one array after the other, and sort it."""
    from sqlalchemy import select

    from db.schema import Array

    with database.read() as session:
        query = select(Array.data).where(Array.name.like("distance_%")).execution_options(yield_per=100)
        for (data,) in session.execute(query):
            np.sort(data)


def _browser(page: Path) -> dict[str, float] | None:
    """What is loaded, in bytes; the frames' median and 95th percentile and the processor time of each, in ms."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        return None
    if program is None:
        return None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            plain, _ = _opened(browser.new_context(java_script_enabled=False), page)
            loaded, shown = _opened(browser.new_context(viewport={"width": 1440, "height": 900}), page)
            found = {"plain": _bytes(plain), "first": _bytes(loaded)}
            shown.dispatch_event("#board", "focusin")
            shown.wait_for_selector("#board[data-ready]", state="attached", timeout=120_000)
            found["later"] = _bytes(loaded) - found["first"]
            shown.evaluate(DRAG, 30)
            meter = shown.context.new_cdp_session(shown)
            meter.send("Performance.enable", {"timeDomain": "threadTicks"})
            begin = _main_thread(meter)
            times = np.array(shown.evaluate(DRAG, FRAMES))
            busy = (_main_thread(meter) - begin) / FRAMES * 1000
        finally:
            browser.close()
    return found | {"median": float(np.median(times)), "p95": float(np.quantile(times, 0.95)), "busy": busy}


def _opened(context: Any, page: Path) -> tuple[set[str], Any]:
    """The page, at rest, and the addresses that it loads, which are added to as it loads more."""
    shown, loaded = context.new_page(), set[str]()
    shown.on("request", lambda request: loaded.add(request.url))
    shown.goto(page.as_uri())
    shown.wait_for_load_state("networkidle")
    return loaded, shown


def _bytes(loaded: set[str]) -> int:
    """The size of files by their addresses."""
    files = {Path(unquote(urlsplit(url).path)) for url in loaded if url.startswith("file:")}
    return sum(file.stat().st_size for file in files)


def _main_thread(meter: Any) -> float:
    """Processor seconds of the page's main thread so far: script, style, layout and paint."""
    metrics = {metric["name"]: metric["value"] for metric in meter.send("Performance.getMetrics")["metrics"]}
    return float(metrics["TaskDuration"])


BENCHMARK = Benchmark("site", "The site", run, report)
