"""The command line; see the package's docstring."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from benchmark.errors import BenchmarkError
from models_zoo.errors import ZooError
from models_zoo.own_code import use
from perf import Benchmark, Options, benchmarks, get_benchmark
from perf.document import write_section
from perf.machine import describe
from perf.process import ROOT, ContestantError


def _names(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if value else None


def _numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    names = _names(context, parameter, value)
    return tuple(int(name) for name in names) if names else None


@click.command()
@click.argument("names", nargs=-1, metavar="[BENCHMARK]...")
@click.option("--models", callback=_names, help="Slugs of the zoo, separated by commas.")
@click.option("--samples", type=click.IntRange(min=1), help="Images of each dataset.")
@click.option("--norms", callback=_names, help="Of linf, l2, l1, separated by commas.")
@click.option("--peers", callback=_names, help="Contestants, separated by commas (see perf/peers.py).")
@click.option("--seeds", callback=_numbers, help="Seeds of our own runs, separated by commas.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Of each process.")
@click.option("--workspace", type=click.Path(path_type=Path, file_okay=False), help="Whose models may be named too.")
@click.option("--cifar", type=click.Path(path_type=Path, dir_okay=False), help="CIFAR-10 sample, .npz with x and y.")
@click.option("--quick", is_flag=True, help="A smoke run; the documents stay as they are.")
@click.option("--resume", is_flag=True, help="Take the peers' results that an interrupted run left in --out.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=ROOT / "build" / "perf")
@click.option("--document", type=click.Path(path_type=Path), default=ROOT / "docs" / "performance.md")
def main(names: tuple[str, ...], out: Path, document: Path, **values: Any) -> None:
    """Measure, and put the results into docs/performance.md; without names, every benchmark."""
    options = Options(**values)
    use(options.workspace)
    try:
        chosen = [get_benchmark(name) for name in names] or list(benchmarks().values())
    except BenchmarkError as error:
        raise click.ClickException(str(error)) from error
    failed = [benchmark.name for benchmark in chosen if not _measure(benchmark, options, out, document)]
    if failed:
        raise click.ClickException(f"Failed: {', '.join(failed)}.")


def _measure(benchmark: Benchmark, options: Options, out: Path, document: Path) -> bool:
    """Run one benchmark and keep its result; its errors are told, and the next one has its turn."""
    click.echo(f"{benchmark.name}: {benchmark.title} …", err=True)
    try:
        result = benchmark.run(options, out / benchmark.name)
    except (BenchmarkError, ZooError, ContestantError) as error:
        click.echo(f"{benchmark.name} failed: {error}", err=True)
        return False
    kept = {
        "benchmark": benchmark.name,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": describe(options.device, options.threads),
        "options": asdict(options),
        "result": result,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{benchmark.name}.json").write_text(json.dumps(kept, indent=1, default=str) + "\n")
    report = benchmark.report(result)
    (out / f"{benchmark.name}.md").write_text(report + "\n")
    if not options.quick:
        write_section(document, benchmark, kept, report)
    click.echo(report)
    return True


if __name__ == "__main__":
    sys.exit(main())
