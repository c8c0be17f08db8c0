"""The site at scale: an invented board, built cold, built again, built after one new model; and the slider's frames.

There is no peer that builds such a site, so the figures stand beside a bare minimum measured in the same run: reading
and sorting every row's distances once. The budgets are those of the project: 2 minutes cold on 2 cores, 5 seconds after
one new model, 300 kB a page, 60 frames a second with 500 curves.
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

import numpy as np

from perf import Benchmark, Options
from perf.tables import table

SAMPLES = 10_000
MODELS = 1_000
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
    """Populate a database, build the site three times, drag the slider."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    import synthetic

    import sitegen
    from db.migrate import upgrade
    from db.session import Database

    models = 60 if options.quick else MODELS
    n = options.samples or (500 if options.quick else SAMPLES)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    database = Database(f"sqlite:///{folder / 'board.db'}")
    upgrade(database)
    board = synthetic.populate(database, models=models, n=n, attacks=("shrinking",), exact=0)
    os.sync()  # what the disk still has to write of it is not the site's

    def build() -> sitegen.BuildReport:
        return sitegen.build(database, folder / "public", artifacts=folder / "artifacts")

    load = os.getloadavg()[0]
    bare = _timed(lambda: _bare_minimum(database))[0]
    cold, _ = _timed(build)
    warm, _ = _timed(build)
    synthetic.add_model(database, board, n=n)
    added, report = _timed(build)
    found = {
        "models": models,
        "samples": n,
        "cores": len(os.sched_getaffinity(0)),
        "load": load,
        "bare": bare,
        "cold": cold,
        "warm": warm,
        "added": added,
        "pages": report.pages,
        "files": report.files,
        "bytes": report.bytes,
        "largest": {"page": report.largest[0], "bytes": report.largest[1]},
        "frames": _frames(folder / "public" / "boards" / f"synthetic-{n}-standard" / "index.html"),
    }
    database.engine.dispose()
    shutil.rmtree(folder)
    return found


def report(result: dict[str, Any]) -> str:
    """One table, each figure beside its budget."""
    rows = [
        ["cold build", _both(result["cold"]), "120 s on 2 cores"],
        ["again, nothing changed", _both(result["warm"]), ""],
        ["after one new model", _both(result["added"]), "5 s"],
        ["bare minimum: read and sort every distance", _both(result["bare"]), ""],
        ["largest page", f"{result['largest']['bytes'] / 1000:.0f} kB ({result['largest']['page']})", "300 kB"],
        ["whole site", f"{result['bytes'] / 1e6:.0f} MB, {result['files']} files, {result['pages']} pages", ""],
    ]
    if frames := result["frames"]:
        rows.append(["slider, median frame", f"{frames['median']:.1f} ms", "16.7 ms"])
        rows.append(["slider, processor time a frame", f"{frames['busy']:.1f} ms", "16.7 ms"])
        rows.append(["slider, 95 % of the frames within", f"{frames['p95']:.1f} ms", ""])
    head = (
        f"An invented board of {result['models']} models × 3 norms × {result['samples']} samples, built on "
        f"{result['cores']} cores. In brackets: processor time, of all processes; wall times are longer than on an "
        f"idle machine if others keep it busy (load average when it began: {result['load']:.1f}). The slider is "
        f"dragged over its whole range with {min(result['models'], 500)} curves in headless Chromium without "
        "a GPU."
    )
    return f"{head}\n\n" + table(["what", "measured", "budget"], rows)


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


def _frames(page: Path) -> dict[str, float] | None:
    """Median and 95th percentile of the frames' times and the main thread's processor time a frame, in ms."""
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
            shown = browser.new_page(viewport={"width": 1440, "height": 900})
            shown.goto(page.as_uri())
            shown.wait_for_selector("#board[data-ready]", state="attached", timeout=120_000)
            shown.evaluate(DRAG, 30)
            meter = shown.context.new_cdp_session(shown)
            meter.send("Performance.enable", {"timeDomain": "threadTicks"})
            begin = _main_thread(meter)
            times = np.array(shown.evaluate(DRAG, FRAMES))
            busy = (_main_thread(meter) - begin) / FRAMES * 1000
        finally:
            browser.close()
    return {"median": float(np.median(times)), "p95": float(np.quantile(times, 0.95)), "busy": busy}


def _main_thread(meter: Any) -> float:
    """Processor seconds of the page's main thread so far: script, style, layout and paint."""
    metrics = {metric["name"]: metric["value"] for metric in meter.send("Performance.getMetrics")["metrics"]}
    return float(metrics["TaskDuration"])


BENCHMARK = Benchmark("site", "The site", run, report)
