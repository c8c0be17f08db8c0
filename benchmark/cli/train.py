"""``curveboard train``: train a model by a recipe, or a grid of them, into folders that can be submitted."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmark.cli.options import on_option, workspace_option

if TYPE_CHECKING:
    from models_zoo.training.loop import Epoch, Run


@click.command()
@click.argument("recipe", required=False)
@click.option("--dataset", metavar="NAME", help="What to train on: its training split.")
@click.option("--architecture", metavar="NAME", help="The network.")
@click.option("--arguments", metavar="JSON", default="{}", help="What it is built with; sizes follow from the dataset.")
@click.option("--set", "changes", metavar="NAME=VALUE", multiple=True, help="A setting, or a parameter of the recipe.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--slug", metavar="SLUG", help="The model's name (default: dataset-architecture-recipe-seed).")
@click.option(
    "--grid",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Train every run of a TOML file.",
)
@click.option("--output", "-o", type=click.Path(path_type=Path), default=Path("trained"), show_default=True)
@click.option("--jobs", "-j", type=click.IntRange(min=1), help="With --grid: how many runs at a time.")
@on_option
@click.option("--device", default="cpu", metavar="cpu|cuda", show_default=True)
@click.option("--list", "listing", is_flag=True, help="List the recipes, with their papers.")
@workspace_option
def command(
    *, recipe: str | None, grid: Path | None, output: Path, jobs: int | None, device: str, on: str, **options: Any
) -> None:
    """Train a network by RECIPE into OUTPUT/SLUG, a folder that ``curveboard submit`` takes.

    A checkpoint is kept after each epoch: interrupted or killed, the same command goes on, to the same weights. A run
    that is finished is not trained again.
    """
    if options.pop("listing"):
        _list()
        return
    from benchmark.cli.evaluate import check_device

    check_device(device)
    if (recipe is None) == (grid is None):
        raise click.UsageError("Give either a RECIPE (see --list) or --grid FILE.")
    if grid is not None:
        _train_grid(grid, output, jobs=jobs, device=device, on=on)
        return
    if on != "local":
        raise click.UsageError("--on goes with --grid FILE: a single run is trained here.")
    assert recipe is not None
    slug, run = _single(recipe, **options)
    _train(run, output / slug, slug=slug, device=device, report=_echo)
    click.echo(f"Next: curveboard submit {output / slug}")


def _list() -> None:
    from models_zoo.training.recipe import recipes

    for name, recipe in recipes().items():
        click.echo(f"{name:<16}  {recipe.title}  {recipe.paper}".rstrip())


def _single(
    recipe: str,
    *,
    dataset: str | None,
    architecture: str | None,
    arguments: str,
    changes: tuple[str, ...],
    seed: int,
    slug: str | None,
) -> tuple[str, Run]:
    """The run that the options describe, and its slug."""
    from models_zoo.cards import check_slug
    from models_zoo.training.grid import make_run
    from models_zoo.training.recipe import get_recipe

    found = get_recipe(recipe)
    if dataset is None or architecture is None:
        raise click.UsageError("Give --dataset and --architecture (curveboard list datasets, list architectures).")
    try:
        given = json.loads(arguments)
    except ValueError as error:
        raise click.UsageError(f"--arguments is no JSON: {error}.") from None
    if not isinstance(given, dict):
        raise click.UsageError(f"--arguments is {arguments}; it is a JSON object.")
    settings, parameters = _split(changes, found.Parameters)
    run = make_run(
        recipe=recipe,
        dataset=dataset,
        architecture=architecture,
        arguments=given,
        parameters=parameters,
        settings=settings,
        seed=seed,
    )
    return check_slug(slug or f"{dataset}-{architecture}-{recipe}-s{seed}".replace("_", "-").lower()), run


def _split(changes: tuple[str, ...], parameters: type) -> tuple[dict[str, Any], dict[str, Any]]:
    """NAME=VALUE settings, and those that are parameters of the recipe."""
    import dataclasses

    own = {field.name for field in dataclasses.fields(parameters)}
    found: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise click.UsageError(f"--set {change!r} has no value; give NAME=VALUE.")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        found[name.strip() in own][name.strip()] = value
    return found


def _echo(epoch: Epoch) -> None:
    parts = [f"epoch {epoch.number}/{epoch.of}", f"loss {epoch.loss:.4g}", f"training {epoch.accuracy:.1%}"]
    parts += [f"validation {epoch.validation:.1%}"] if epoch.validation is not None else []
    parts += [f"under PGD {epoch.robust:.1%}"] if epoch.robust is not None else []
    click.echo(" · ".join([*parts, f"{epoch.seconds:.1f} s"]))


def _train(run: Run, folder: Path, *, slug: str, device: str, report: Any) -> None:
    from models_zoo.training.finish import finished, write_submission
    from models_zoo.training.loop import train

    if finished(run, folder):
        click.echo(f"{slug}: trained already.")
        return
    folder.mkdir(parents=True, exist_ok=True)
    trained = train(run, folder=folder, device=device, report=report)
    write_submission(run, trained, folder, slug=slug)
    last = trained.epochs[trained.kept - 1]
    click.echo(f"{slug}: {last.accuracy:.1%} of its training samples right. {' '.join(trained.notes)}".rstrip())


def _train_grid(path: Path, output: Path, *, jobs: int | None, device: str, on: str) -> None:
    """Train what is missing of a grid."""
    from benchmark.jobs.executors import Crew, work_through
    from models_zoo.training.finish import finished
    from models_zoo.training.grid import read_grid
    from models_zoo.training.many import Ended, Task, train_task

    grid, folder = read_grid(path), output.absolute()
    missing = [
        Task(slug, run, folder / slug, grid.about(slug), device)
        for slug, run in grid.runs.items()
        if not finished(run, folder / slug)
    ]
    click.echo(f"{len(grid.runs)} runs, {len(missing)} to train.")
    seen: list[Ended] = []

    def report(ended: Ended) -> None:
        if ended.state == "done" and not finished(grid.runs[ended.slug], folder / ended.slug):
            ended = Ended(ended.slug, "failed", f"what was trained does not come to {folder / ended.slug}.")
        seen.append(ended)
        state = "" if ended.state == "done" else f"{ended.state}: "
        click.echo(f"[{len(seen)}/{len(missing)}] {ended.slug}: {state}{ended.text}")

    crew = Crew(folder, workers=jobs, gpu=device.startswith("cuda"))
    work_through(train_task, missing, crew, report, on=on)
    if len(seen) < len(missing) or any(ended.state == "stopped" for ended in seen):
        raise click.Abort
    if failed := sum(ended.state == "failed" for ended in seen):
        raise click.ClickException(f"{failed} of {len(missing)} runs failed; the others are in {output}.")
