"""``curveboard submit``: check a model, and take it into the workspace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from benchmark.cli.options import Place, echo_json, json_option, place_options

if TYPE_CHECKING:
    from benchmark.conformance import Report
    from models_zoo import Entry
    from models_zoo.cards import Form

FORMS: Final = ("weights", "pt2", "onnx", "keras", "jax", "code")
"""`models_zoo.cards.Form`, written out so that the command line's help does not import the zoo."""

MEMORY = 16 << 30
"""Bytes that loading and checking a model may take."""

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
    from benchmark.cli.evaluate import check_device

    check_device(options["device"])
    with _staged(place, path, dry_run=dry_run, options=options) as entry:
        _refuse_taken(place, entry, dry_run=dry_run, replace=options["replace"])
        report = _check(entry, options["device"])
        accepted = report.verdict != "refuse" and not dry_run
        if accepted:
            _store(place, _accept(place, entry), options["device"])
        _print(entry, report, accepted=accepted, dry_run=dry_run, as_json=as_json)
    if report.verdict == "refuse":
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
    import dataclasses
    import tempfile

    from models_zoo.claims import card_in, robustbench_claims
    from models_zoo.submission import STAGING, stage, write_card

    where = None
    if not dry_run:
        # Beside where it goes, so that it can be moved there in one step; the catalogue does not look this deep.
        where = place.workspace.models
        where.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix=STAGING, dir=where, ignore_cleanup_errors=True) as staging,
        tempfile.TemporaryDirectory(prefix="curveboard-adapted-") as adapted,
    ):
        target = Path(staging) / "model"
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
    from benchmark.board.record import same_model
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
    own = {slug: other.digest for slug, other in catalogue([models]).items() if slug not in catalogue()}
    with suppress(DatabaseError) if dry_run else nullcontext(), place.database.read() as session:
        own |= {model.slug: model.digest for model in find_models(session)}
    for slug, digest in own.items():
        if digest == entry.digest and slug != entry.slug:
            raise InputError(same_model(entry.slug, slug))


def _check(entry: Entry, device: str) -> Report:
    """The conformance report of a staged entry."""
    from benchmark.conformance import IMAGES, check_conformance
    from benchmark.data import get_dataset
    from models_zoo.loading import load_entry

    dataset = get_dataset(entry.dataset)
    x, y = dataset.load(min(IMAGES, dataset.size))
    x, y = x.to(device), y.to(device)
    claimed = next((claim.value for claim in entry.claims if claim.name == "clean_accuracy"), None)
    with _limited_memory(MEMORY) if device == "cpu" else nullcontext():  # a GPU's driver maps more than there is
        module = load_entry(entry, device=device)
        return check_conformance(module, x, y, classes=dataset.n_classes, claimed_accuracy=claimed)


@contextmanager
def _limited_memory(more: int) -> Iterator[None]:
    """Let this process take at most ``more`` bytes besides what it has, so that a greedy program fails alone."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = Path("/proc/self/statm")
    if not pages.exists():  # not Linux
        yield
        return
    limit = int(pages.read_text().split()[0]) * resource.getpagesize() + more
    if soft != resource.RLIM_INFINITY:
        limit = min(limit, soft)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _accept(place: Place, entry: Entry) -> Entry:
    """Move a checked submission to its place in one step; what was there before goes."""
    import shutil

    from models_zoo import get_entry

    home = place.workspace.models / entry.slug
    if home.exists():
        shutil.move(home, entry.folder.parent / "replaced")
    entry.folder.rename(home)
    return get_entry(entry.slug, [place.workspace.models])


def _store(place: Place, entry: Entry, device: str) -> None:
    """Store the report as an evaluation like any other, so that the board shows it."""
    from benchmark.board.record import dataset_row, evaluation_row, model_row
    from benchmark.data import get_dataset
    from benchmark.jobs.executors import Setting, run_jobs
    from benchmark.jobs.job import make_job
    from benchmark.measures import get_measure

    dataset, measure = get_dataset(entry.dataset), get_measure("conformance")
    job = make_job(measure, measure.Parameters(), entry, dataset, n=dataset.size, reason="submitted")
    with place.database.write() as session:
        model, data = model_row(session, entry), dataset_row(session, dataset)
        number = evaluation_row(session, job, model_id=model.id, dataset_id=data.id).id
    workspace = place.workspace
    setting = Setting(place.database_url, workspace.artifacts, workspace.models, workspace.locks, device=device)
    run_jobs([(job, number)], setting, lambda progress: None)


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
