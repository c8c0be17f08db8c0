"""``curveboard submit``: check a model, and take it into the workspace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from benchmark.cli.options import Place, echo_json, json_option, place_options, time_limit_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmark.apart import Limits
    from benchmark.conformance import Report
    from benchmark.jobs.checking import Checked
    from db.queries import ModelInfo
    from models_zoo import Entry
    from models_zoo.cards import Form

FORMS: Final = ("weights", "pt2", "onnx", "keras", "jax", "code")
"""`models_zoo.cards.Form`, written out so that the command line's help does not import the zoo."""

MARKS = {"pass": "✓", "flag": "⚑", "refuse": "✗"}


@click.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option("--init", "init", is_flag=True, help="Write a commented model.toml into PATH, to be filled in.")
@click.option(
    "--form", type=click.Choice(FORMS), default="weights", show_default=True, help="With --init: how it comes."
)
@click.option("--dry-run", is_flag=True, help="Check and report; change nothing. Needs no workspace.")
@click.option(
    "--trust-code", is_flag=True, help="Let the submitted Python code run (forms code, jax), once you have read it."
)
@click.option("--replace", is_flag=True, help="Take the place of the workspace's model of the same slug.")
@click.option("--from", "source", metavar="SOURCE", help="timm:NAME or robustbench:DATASET/THREAT/NAME, not a PATH.")
@click.option("--architecture", metavar="NAME", help="PATH is a state dict alone, for this architecture.")
@click.option("--arguments", metavar="JSON", help="With --architecture: what it is built with.")
@click.option("--dataset", metavar="NAME", help="With --init, --from or --architecture: what it classifies.")
@click.option("--slug", metavar="SLUG", help="With --from or --architecture: the model's name.")
@click.option(
    "--claims",
    type=click.Path(path_type=Path),
    help="A RobustBench card (JSON), or the folder model_info with all of them: the model's figures as claims.",
)
@click.option("--device", default="cpu", metavar="cpu|cuda", show_default=True, help="Where the model is checked.")
@time_limit_option("Refuse a model that takes longer to be loaded and checked.")
@place_options
@json_option
def command(*, place: Place, path: Path | None, init: bool, dry_run: bool, as_json: bool, **options: Any) -> None:
    """Check the model in the folder PATH and take it into the workspace.

    PATH holds a model.toml (see --init) and the files that it names. The conformance report says for each check what
    was seen; a refused model changes nothing (exit code 4). Nothing in the folder is run, except Python code with
    --trust-code.
    """
    if (path is None) == (options["source"] is None):
        raise click.UsageError("Give either the PATH of a folder or --from SOURCE.")
    if init:
        assert path is not None
        _init(path, options["form"], options["dataset"] or "digits")
        return
    from benchmark.processes import warm_up

    warm_up()
    from benchmark.apart import Limits
    from benchmark.cli.evaluate import check_device
    from benchmark.jobs.submission import accept

    check_device(options["device"])
    with _staged(place, path, dry_run=dry_run, options=options) as entry:
        _refuse_taken(place, entry, dry_run=dry_run, replace=options["replace"])
        checked = _check(entry, options["device"], Limits(seconds=options["time_limit"]))
        accepted = checked.report.verdict != "refuse" and not dry_run
        if accepted:
            accept(place.database, place.workspace.models, entry, checked, device=options["device"])
        _print(entry, checked.report, accepted=accepted, dry_run=dry_run, as_json=as_json)
    if checked.report.verdict == "refuse":
        click.get_current_context().exit(4)


def _init(folder: Path, form: Form, dataset: str) -> None:
    from benchmark.data import all_datasets, get_dataset
    from models_zoo.architectures import architectures
    from models_zoo.submission import scaffold

    get_dataset(dataset)
    card = scaffold(
        folder, form=form, dataset=dataset, architectures=", ".join(architectures()), datasets=", ".join(all_datasets())
    )
    click.echo(f"Fill in {card}, put the files that it names beside it, then: curveboard submit --dry-run {folder}")


@contextmanager
def _staged(place: Place, path: Path | None, *, dry_run: bool, options: dict[str, Any]) -> Iterator[Entry]:
    """The submission, copied to where it can be checked; gone at the end unless it was moved away."""
    import contextlib
    import dataclasses
    import tempfile

    from benchmark.jobs.settling import settle, watched
    from models_zoo.claims import card_in, robustbench_claims
    from models_zoo.renaming import staging
    from models_zoo.submission import stage, write_card

    with contextlib.ExitStack() as stack:
        if dry_run:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="curveboard-")))
        else:  # beside where it goes, so that it can be moved there in one step
            models = place.workspace.models
            settle(place.database, models)
            stack.enter_context(watched(place.database_url, models))
            folder = stack.enter_context(staging(models))
        adapted = stack.enter_context(tempfile.TemporaryDirectory(prefix="curveboard-adapted-"))
        target = folder / "model"
        target.mkdir()
        if options["architecture"] is not None and path is not None:
            entry = _bare(path, target, options)
        else:
            if options["source"] is not None:
                _adapt(Path(adapted), options)
            entry = stage(path or Path(adapted), target, trust_code=options["trust_code"])
        if options["claims"] is not None:
            card = card_in(options["claims"], arguments=entry.arguments)
            found = robustbench_claims(card, norm=entry.training_norm)
            entry = dataclasses.replace(entry, claims=entry.claims + found)
            write_card(entry)
        yield entry


def _bare(path: Path, target: Path, options: dict[str, Any]) -> Entry:
    from models_zoo.submission import bare_state_dict

    if options["slug"] is None or options["dataset"] is None:
        raise click.UsageError("A state dict alone needs --slug and --dataset beside --architecture.")
    try:
        arguments = json.loads(options["arguments"] or "{}")
    except ValueError as error:
        raise click.UsageError(f"--arguments is no JSON: {error}.") from None
    if not isinstance(arguments, dict):
        raise click.UsageError(f"--arguments is {arguments!r}; it is a JSON object.")
    return bare_state_dict(
        path,
        target,
        slug=options["slug"],
        dataset=options["dataset"],
        architecture=options["architecture"],
        arguments=arguments,
    )


def _adapt(target: Path, options: dict[str, Any]) -> None:
    from benchmark.data import get_dataset
    from models_zoo.adapters import adapt, dataset_of

    name = options["dataset"] or dataset_of(options["source"])
    classes = get_dataset(name).n_classes if name else None  # an unknown one is named before anything is downloaded
    adapt(options["source"], target, dataset=name, classes=classes, slug=options["slug"])


def _refuse_taken(place: Place, entry: Entry, *, dry_run: bool, replace: bool) -> None:
    """Refuse a slug that another model has."""
    from benchmark.board.names import refusal, same_model
    from benchmark.errors import InputError, WorkspaceError
    from db.errors import DatabaseError
    from db.queries import find_models
    from models_zoo import catalogue

    if entry.slug in catalogue():
        raise InputError(f"The zoo has a model called {entry.slug!r}; choose another slug.")
    try:
        models = place.workspace.models
        home = models / entry.slug
    except WorkspaceError:
        if dry_run:
            return
        raise
    if home.exists() and not replace:
        raise InputError(f"The workspace has a model {entry.slug!r}; choose another slug, or give --replace.")
    for slug, other in catalogue([models], unreadable=[]).items():
        if other.digest == entry.digest and slug not in {*catalogue(), entry.slug}:
            raise InputError(same_model(entry.slug, slug))
    with suppress(DatabaseError) if dry_run else nullcontext(), place.database.read() as session:
        if (reason := refusal(session, entry)) is not None:
            raise InputError(reason)
        _refuse_older(find_models(session, entry.slug), entry, replace=replace)


def _refuse_older(known: Sequence[ModelInfo], entry: Entry, *, replace: bool) -> None:
    """Refuse what would take the place of newer weights, or that of a model whose folder is gone, unasked."""
    from benchmark.errors import InputError

    if not known or known[-1].digest == entry.digest:
        return
    if any(model.digest == entry.digest for model in known):
        raise InputError(
            f"These are older weights of {entry.slug!r}, which has newer ones on the board: their row is kept and "
            "shown as superseded."
        )
    if not replace:
        raise InputError(
            f"The board has a model {entry.slug!r}, whose folder is gone; choose another slug, or give --replace if "
            "these are new weights of it."
        )


def _check(entry: Entry, device: str, limits: Limits) -> Checked:
    """The conformance report of a staged entry."""
    from benchmark.conformance import looked_at
    from benchmark.data import get_dataset
    from benchmark.jobs.checking import check_apart

    dataset = get_dataset(entry.dataset)
    x, y = dataset.load(min(looked_at(dataset.shape), dataset.size))
    claimed = next((claim.value for claim in entry.claims if claim.name == "clean_accuracy"), None)
    return check_apart(
        entry,
        x.numpy(),
        y.numpy(),
        classes=dataset.n_classes,
        claimed_accuracy=claimed,
        device=device,
        limits=limits,
    )


def _print(entry: Entry, report: Report, *, accepted: bool, dry_run: bool, as_json: bool) -> None:
    import dataclasses

    if as_json:
        echo_json(
            {
                "slug": entry.slug,
                "digest": entry.digest,
                "verdict": report.verdict,
                "accepted": accepted,
                "checks": [dataclasses.asdict(check) for check in report.checks],
            }
        )
        return
    click.echo(f"{entry.slug}: {entry.title} ({entry.form}, {entry.dataset}), digest {entry.digest[:16]}")
    for check in report.checks:
        click.echo(f"  {MARKS[check.verdict]} {check.name.replace('_', ' '):<20} {check.message}")
    if report.verdict == "refuse":
        click.echo("Refused: mend what is marked ✗. Nothing was changed. docs/submitting.md explains every check.")
    elif dry_run:
        click.echo("It would be accepted. Nothing was changed.")
    else:
        click.echo(f"Accepted. Next: curveboard evaluate -m {entry.slug}")
