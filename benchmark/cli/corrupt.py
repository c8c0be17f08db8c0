"""``curveboard corrupt``: write a corrupted dataset in the published layout, or look at it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from benchmark.data.corruptions.suite import GeneratedSuite


@click.command()
@click.argument("dataset")
@click.option("--output", "-o", type=click.Path(path_type=Path, file_okay=False), help="Folder to write the suite to.")
@click.option("--preview", type=click.Path(path_type=Path, dir_okay=False), help="Picture file for a contact sheet.")
@click.option("--suite", "name", metavar="SUITE", help="Which suite (default: the one for the dataset's images).")
@click.option("--corruption", "-c", "only", multiple=True, help="Only this corruption; may be given several times.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many images.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random numbers.")
@click.option(
    "--glass",
    type=click.Choice(["copy", "exchange"]),
    default="copy",
    show_default=True,
    help="Glass blur of colours: overwrite, as published by a slip, or exchange.",
)
@click.option(
    "--stored",
    type=click.Choice(["plain", "jpeg"]),
    default="plain",
    show_default=True,
    help="Keep what was computed, or take it through JPEG 85 as the published ImageNet-C.",
)
def command(
    dataset: str,
    *,
    output: Path | None,
    preview: Path | None,
    name: str | None,
    only: tuple[str, ...],
    limit: int | None,
    seed: int,
    glass: Any,
    stored: Any,
) -> None:
    """Corrupt the images of DATASET as MNIST-C, CIFAR-10-C or ImageNet-C do.

    The suite is written as it is published: an array a corruption for small images, pictures in folders for large ones.
    What is there already is kept, so that a command that was stopped goes on where it was.
    """
    import dataclasses

    from benchmark.data.corruptions import Quirks

    if (output is None) == (preview is None):
        raise click.UsageError("Give either --output FOLDER or --preview FILE.")
    suite = _suite(dataset, name)
    suite = dataclasses.replace(suite, seed=seed, quirks=Quirks(glass=glass, stored=stored))
    names = _chosen(suite, only)
    if preview is not None:
        _preview(suite, names, preview, limit or 4)
    elif output is not None:
        _write(suite, names, output, min(limit or suite.size, suite.size))


def _suite(dataset: str, name: str | None) -> GeneratedSuite:
    from benchmark.data import get_dataset
    from benchmark.data.corruptions.suite import GeneratedSuite
    from benchmark.data.suites import get_suite, suites
    from benchmark.errors import InputError

    base = get_dataset(dataset)
    if name is not None:
        suite = get_suite(name).on(base)
        if not isinstance(suite, GeneratedSuite):
            raise InputError(f"{name!r} is not generated; choose one of {', '.join(_generated())}.")
        if reason := suite.unavailable():
            raise InputError(reason)
        return suite
    made = [s.on(base) for s in suites().values() if isinstance(s, GeneratedSuite)]
    fitting = [s for s in made if not s.unavailable()]
    if not fitting:
        reasons = " ".join(suite.unavailable() for suite in made)
        raise InputError(f"No suite is meant for images of shape {base.shape}. {reasons}")
    return fitting[0]


def _generated() -> list[str]:
    from benchmark.data.corruptions.suite import GeneratedSuite
    from benchmark.data.suites import suites

    return [name for name, suite in suites().items() if isinstance(suite, GeneratedSuite)]


def _chosen(suite: GeneratedSuite, only: tuple[str, ...]) -> tuple[str, ...]:
    from benchmark.errors import UnknownNameError

    known = suite.axes[0].labels
    for name in only:
        if name not in known:
            raise UnknownNameError(f"corruption of {suite.name}", name, known)
    return only or known


def _preview(suite: GeneratedSuite, names: tuple[str, ...], file: Path, count: int) -> None:
    from benchmark.data.corruptions import as_bytes
    from benchmark.data.corruptions.sheet import contact_sheet

    x, _ = suite.base.batch(0, min(count, suite.size))
    sheet = contact_sheet(as_bytes(x.numpy()), family=suite.family, seed=suite.seed, quirks=suite.quirks, names=names)
    sheet.save(file)
    click.echo(f"{suite.title}: {len(names)} corruptions of {len(x)} images, in {file}.")


def _write(suite: GeneratedSuite, names: tuple[str, ...], folder: Path, size: int) -> None:
    import numpy as np

    from benchmark.data.corruptions.layout import Layout, claim, write
    from benchmark.errors import InputError

    severities = suite.axes[1].labels
    layout: Layout = {"mnist": "mnist", "cifar": "arrays"}.get(suite.family, "folders")  # type: ignore[assignment]
    missing = {name: reason for name in names if (reason := suite.missing((name, severities[0])))}
    for name, reason in missing.items():
        click.echo(f"{name} is left out: {reason}", err=True)
    chosen = tuple(name for name in names if name not in missing)
    if not chosen:
        raise InputError("There is no corruption left to write.")

    claim(folder, {"suite": suite.name, "dataset": suite.base.name, "digest": suite.digest, "images": size})

    def made(name: str, severity: str) -> Iterator[tuple[Any, Any]]:
        for start in range(0, size, 500):
            x, y = suite.batch((name, severity), start, min(start + 500, size))
            yield np.rint(x.numpy() * 255).astype(np.uint8), y.numpy()

    for name in write(folder, layout, chosen, severities, made, size=size, classes=suite.base.classes):
        click.echo(f"{name}: {len(severities)} severities of {size} images")
    click.echo(f"{suite.title} of {suite.base.name}, seed {suite.seed}, is in {folder}.")
