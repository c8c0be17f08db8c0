"""``curveboard dataset``: a board on images of your own, without code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from benchmark.cli.options import Place, echo_json, echo_table, json_option, place_options

if TYPE_CHECKING:
    from benchmark.data import Dataset
    from benchmark.data.own.sources import Wishes
    from benchmark.data.own.survey import Sizes, Survey

NORMS_HELP: Final = "A perturbation budget, for instance linf=8/255 or l2=0.5,1; once a norm."

_MOST_CLASSES: Final = 30
"""Classes that a table may have; of more the first `_FIRST_CLASSES` are shown."""

_FIRST_CLASSES: Final = 10


@click.group()
def command() -> None:
    """Make a dataset of your own images, and look at it."""


class SideParameter(click.ParamType[tuple[int, int]]):
    """A size: one number for a square, or HxW."""

    name = "HxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """(height, width)."""
        if isinstance(value, tuple):
            return value
        sides = str(value).lower().replace("×", "x").split("x")
        if not (1 <= len(sides) <= 2 and all(side.isdecimal() and 1 <= int(side) <= 10000 for side in sides)):
            self.fail(f"{value!r} is no size; give one number, or height x width as in 224x224.", param, ctx)
        return int(sides[0]), int(sides[-1])


@command.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--name", required=True, metavar="NAME", help="The dataset's name on the board.")
@click.option("--title", metavar="TEXT", help="What it is, in one line.")
@click.option("--size", type=SideParameter(), help="Scale pictures until they cover this, and cut out the middle.")
@click.option("--resize", type=click.IntRange(1, 10000), metavar="N", help="Scale the shorter side to N first.")
@click.option("--crop", type=SideParameter(), help="Cut this out of the middle (default: a square of --resize).")
@click.option("--interpolation", type=click.Choice(["bilinear", "bicubic"]), default="bilinear", show_default=True)
@click.option("--colour/--grey", default=None, help="Three channels or one (default: as the pictures are).")
@click.option("--classes", metavar="NAMES", help="The classes in order: a,b,c or a file with one a line.")
@click.option("--first-label", default=0, metavar="N", show_default=True, help="Where labels are numbers: the first.")
@click.option("--label-space", metavar="NAME", help="A dataset with the same classes: its models fit this one too.")
@click.option("--eps", multiple=True, metavar="NORM=EPS", help=NORMS_HELP)
@click.option("--licence", metavar="TEXT", help="Of the images.")
@click.option("--source", metavar="TEXT", help="Who made them.")
@click.option("--images", metavar="NAME", help="The array or column that holds the images.")
@click.option("--labels", metavar="NAME", help="The array or column that holds the labels.")
@click.option("--layout", type=click.Choice(["nhwc", "nchw"]), help="Of an array of images, where it is ambiguous.")
@click.option("--levels", type=click.FloatRange(min=0, min_open=True), help="The value of white in an array.")
@click.option("--follow-links", is_flag=True, help="Read links that lead out of the folder.")
@click.option("--skip-bad", is_flag=True, help="Leave out pictures that cannot be read.")
@click.option("--preview", type=click.Path(path_type=Path, dir_okay=False), help="Write a contact sheet, a PNG.")
@click.option("--dry-run", is_flag=True, help="Read and report; write no dataset.")
@click.option("--replace", is_flag=True, help="Take the place of the workspace's dataset of this name.")
@place_options
@json_option
def add(*, place: Place, path: Path, name: str, dry_run: bool, as_json: bool, **options: Any) -> None:
    """Make a dataset of the images in PATH, without code.

    PATH is a folder with a sub-folder of images for each class (or train/ and test/ with such sub-folders), a folder
    with a labels.csv (columns file and label), an .npz, or a folder of .parquet files. The images stay where they are
    and are decoded when they are needed; a changed one is noticed by its digest.
    """
    from benchmark.data.own.survey import survey

    _check_name(place, name, replace=options["replace"], dry_run=dry_run)
    wishes, sizes, eps = _wishes(options), _sizes(options), _eps(options["eps"])
    _check_label_space(options["label_space"])
    with _staged(place, name, dry_run=dry_run) as staging:
        from benchmark.data.own.kinds import find

        source = find(path, wishes, staging)
        with _progress(f"reading {name}") as report:
            seen = survey(source, wishes, sizes, skip_bad=options["skip_bad"], report=report)
        root = None if dry_run else place.workspace.root
        dataset = _describe(staging, seen, name=name, eps=eps, options=options, root=root)
        if options["preview"]:
            from benchmark.data.own.preview import contact_sheet

            options["preview"].write_bytes(contact_sheet(dataset))
    _print(seen, dataset, dry_run=dry_run, as_json=as_json, preview=options["preview"])


def _check_name(place: Place, name: str, *, replace: bool, dry_run: bool) -> None:
    import re

    from benchmark.data import all_datasets
    from benchmark.errors import InputError

    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,59}", name):
        raise InputError(f"{name!r} is no name for a dataset; use small letters, digits, - and _, at most 60.")
    if not dry_run and (place.workspace.datasets / name).exists():
        if not replace:
            raise InputError(f"The workspace has a dataset {name!r}; choose another name, or give --replace.")
    elif name in all_datasets() and not dry_run:
        raise InputError(f"There is a dataset called {name!r} already; choose another name.")


def _check_label_space(name: str | None) -> None:
    from benchmark.data import get_dataset

    if name:
        get_dataset(name)


def _wishes(options: dict[str, Any]) -> Wishes:
    from benchmark.data.own.sources import Wishes

    return Wishes(
        classes=_classes(options["classes"]),
        first_label=options["first_label"],
        images=options["images"] or "",
        labels=options["labels"] or "",
        layout=options["layout"] or "",
        levels=options["levels"],
        follow_links=options["follow_links"],
    )


def _classes(value: str | None) -> tuple[str, ...]:
    if not value:
        return ()
    named = Path(value).read_text(encoding="utf-8").splitlines() if Path(value).is_file() else value.split(",")
    return tuple(name.strip() for name in named if name.strip())


def _sizes(options: dict[str, Any]) -> Sizes:
    from benchmark.data.own.survey import Sizes

    if options["size"] and (options["resize"] or options["crop"]):
        raise click.UsageError("Give either --size, or --resize and --crop.")
    return Sizes(**{key: options[key] for key in ("size", "resize", "crop", "colour", "interpolation")})


def _eps(given: Sequence[str]) -> dict[str, tuple[float, ...]] | None:
    from benchmark.data.own.card import number
    from benchmark.threat import norm_names

    found: dict[str, tuple[float, ...]] = {}
    for text in given:
        norm, _, values = text.partition("=")
        if norm not in norm_names():
            raise click.UsageError(f"--eps {text}: the norm is one of {', '.join(norm_names())}, as in linf=8/255.")
        try:
            found[norm] = tuple(number(value) for value in values.split(","))
        except (ValueError, ZeroDivisionError):
            raise click.UsageError(f"--eps {text}: give positive numbers, as in linf=8/255 or l2=0.5,1.") from None
    return found or None


@contextmanager
def _staged(place: Place, name: str, *, dry_run: bool) -> Iterator[Path]:
    """A folder to write into, that takes the dataset's place in one step when all went well."""
    import secrets
    import shutil
    import tempfile

    if dry_run:
        with tempfile.TemporaryDirectory(prefix="curveboard-") as scratch:
            yield Path(scratch)
        return
    home = place.workspace.datasets
    home.mkdir(exist_ok=True)
    token = secrets.token_hex(4)
    staging, replaced = home / f".adding-{token}", home / f".replaced-{token}"
    staging.mkdir()
    try:
        yield staging
        if (home / name).exists():
            (home / name).rename(replaced)
        staging.rename(home / name)
    finally:
        for folder in (staging, replaced):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _progress(text: str) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(text, total=None)
        yield lambda done, of: progress.update(task, completed=done, total=of)


def _describe(
    staging: Path,
    seen: Survey,
    *,
    name: str,
    eps: dict[str, tuple[float, ...]] | None,
    options: dict[str, Any],
    root: Path | None,
) -> Dataset:
    """Write the card, and read it again as every later command will."""
    from benchmark.data import get_dataset
    from benchmark.data.own.card import read_card, write_card
    from benchmark.errors import InputError

    if options["label_space"]:
        classes = get_dataset(options["label_space"]).classes
        if classes != seen.classes:
            raise InputError(
                f"The classes are not those of {options['label_space']!r}: {', '.join(seen.classes[:5])}, … where they "
                f"are {', '.join(classes[:5])}, …. Give the classes in its order with --classes."
            )
    card = write_card(
        staging,
        seen,
        name=name,
        title=options["title"] or "",
        label_space=options["label_space"] or "",
        licence=options["licence"] or "",
        source=options["source"] or "",
        eps=eps,
        root=root,
    )
    return read_card(card)


def _print(seen: Survey, dataset: Dataset, *, dry_run: bool, as_json: bool, preview: Path | None) -> None:
    splits = {split: seen.counts(split) for split in seen.splits}
    if as_json:
        echo_json(_facts(dataset) | {"counts": splits, "remarks": list(seen.remarks), "written": not dry_run})
        return
    total = sum(sum(counts) for counts in splits.values())
    click.echo(f"{dataset.name}: {total:,} images of {dataset.n_classes} classes, from {seen.source.kind}.\n")
    rows = [
        {"class": label, "name": name} | {split: counts[label] for split, counts in splits.items()}
        for label, name in enumerate(dataset.classes)
    ]
    few = rows if len(rows) <= _MOST_CLASSES else rows[:_FIRST_CLASSES]
    echo_table(few, empty="")
    if len(few) < len(rows):
        left = sum(sum(counts[len(few) :]) for counts in splits.values())
        click.echo(f"… and {len(rows) - len(few):,} more classes with {left:,} images: --json counts them all.")
    click.echo(f"\nPictures: {_sizes_seen(seen.seen)}.")
    click.echo(f"Images:   {'×'.join(map(str, dataset.shape))}: {dataset.resizing}.")
    click.echo(f"Digest:   {dataset.digest} ({dataset.at}, {dataset.size:,} images)")
    click.echo(
        "Budgets:  " + "; ".join(f"{norm} {', '.join(f'{e:.4g}' for e in of)}" for norm, of in dataset.eps.items())
    )
    for remark in seen.remarks:
        click.echo(f"Note: {remark}")
    if preview:
        click.echo(f"A contact sheet is in {preview}.")
    if dry_run:
        click.echo("Nothing was written.")
    else:
        click.echo(
            f"\nWritten to datasets/{dataset.name}/dataset.toml. Next: curveboard submit --init my-net --dataset "
            f"{dataset.name}"
        )


def _sizes_seen(seen: Mapping[tuple[int, int], int]) -> str:
    """The most frequent sizes, and how many others there are."""
    by_count = sorted(seen.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{height}×{width} ({count:,})" for (height, width), count in by_count[:5])
    if len(by_count) <= 5:
        return shown
    sides = [side for size in seen for side in size]
    return f"{shown} and {len(by_count) - 5} more sizes, sides from {min(sides)} to {max(sides)}"


def _facts(dataset: Dataset) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "title": dataset.title,
        "shape": dataset.shape,
        "classes": dataset.classes,
        "label_space": dataset.labels_of,
        "evaluated": dataset.at,
        "splits": {split: dataset.split(split).size for split in (dataset.at, *dataset.splits)},
        "digest": dataset.digest,
        "eps": dataset.eps,
        "resizing": dataset.resizing,
        "licence": dataset.licence,
        "source": dataset.source,
    }


@command.command()
@click.argument("name")
@click.option("--check", is_flag=True, help="Read every image, and compare it with its digest.")
@click.option("--preview", type=click.Path(path_type=Path, dir_okay=False), help="Write a contact sheet, a PNG.")
@place_options
@json_option
def show(*, place: Place, name: str, check: bool, preview: Path | None, as_json: bool) -> None:
    """Show what is known of the dataset NAME."""
    from benchmark.data import get_dataset

    dataset = get_dataset(name)
    if check:
        _check_images(dataset)
    if preview:
        from benchmark.data.own.preview import contact_sheet

        preview.write_bytes(contact_sheet(dataset))
    if as_json:
        echo_json(_facts(dataset))
        return
    facts = _facts(dataset)
    facts["shape"] = "×".join(map(str, dataset.shape))
    facts["classes"] = f"{dataset.n_classes}: {', '.join(dataset.classes)}"
    facts["splits"] = ", ".join(f"{split} {size:,}" for split, size in facts["splits"].items())
    facts["eps"] = "; ".join(f"{norm} {', '.join(f'{e:.4g}' for e in of)}" for norm, of in dataset.eps.items())
    for key, value in facts.items():
        if value:
            click.echo(f"{key.replace('_', ' '):12} {value}")
    if check:
        click.echo("Every image is the one of the digest.")


def _check_images(dataset: Dataset) -> None:
    """Read all of all splits; the first that differs is an error."""
    splits = [dataset.split(split) for split in (dataset.at, *dataset.splits)]
    total = sum(split.size for split in splits)
    with _progress(f"checking {dataset.name}") as report:
        done = 0
        for split in splits:
            for start in range(0, split.size, 64):
                split.stored(start, min(start + 64, split.size))
                report(done + min(start + 64, split.size), total)
            done += split.size


@command.command()
@click.argument("name")
@place_options
def remove(*, place: Place, name: str) -> None:
    """Remove the workspace's dataset NAME; the images themselves, and what was evaluated on them, stay."""
    import shutil

    from benchmark.data.own import CARD
    from benchmark.errors import InputError

    home = place.workspace.datasets / name
    if not (home / CARD).is_file() or home.parent != place.workspace.datasets:
        raise InputError(f"The workspace has no dataset {name!r} made by `dataset add`; see: curveboard list datasets")
    shutil.rmtree(home)
    click.echo(f"Removed datasets/{name}. Evaluations on it stay in the database.")
