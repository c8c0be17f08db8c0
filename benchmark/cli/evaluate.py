"""``curveboard evaluate``: run what the protocol wants and the database lacks."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from benchmark.cli.costs import print_plan
from benchmark.cli.options import Place, echo_json, json_option, on_option, place_options, readable_models

if TYPE_CHECKING:
    from benchmark.board.job import Job
    from benchmark.data import Dataset
    from benchmark.errors import InputError
    from benchmark.jobs.executors import Outcome, Setting
    from benchmark.jobs.lease import Rerun
    from benchmark.jobs.plan import Plan
    from benchmark.jobs.protocol import Protocol
    from models_zoo import Entry


class Limit(click.ParamType):  # type: ignore[type-arg]
    """A number of samples from 1 on, or ``all``."""

    name = "limit"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """The number, or ``"all"``."""
        if value == "all":
            return "all"
        if not str(value).isdecimal() or int(value) < 1:
            self.fail(f"{value!r} is neither a whole number from 1 on nor 'all'.", param, ctx)
        return int(value)


@click.command()
@click.option("--model", "-m", "slugs", multiple=True, metavar="MODEL", help="Only this model; may be repeated.")
@click.option("--dataset", "-d", metavar="DATASET", help="Only models of this dataset.")
@click.option("--protocol", "protocol_name", metavar="NAME", help="The protocol (default: the workspace's).")
@click.option("--attack", metavar="NAME", help="Only this attack's jobs.")
@click.option("--measure", metavar="NAME", help="Only this measure's jobs.")
@click.option(
    "--limit",
    type=Limit(),
    metavar="N|all",
    help="Evaluate the first N samples (default: as many as its board has, or all).",
)
@click.option(
    "--device",
    default="cpu",
    metavar="DEVICE",
    help="Where the models run: cpu; cuda, all GPUs of the machine; cuda:1, one of them.",
    show_default=True,
)
@click.option("--jobs-per-gpu", default=1, type=click.IntRange(min=1), help="Jobs that share a GPU.", show_default=True)
@click.option("--seed", default=0, type=click.IntRange(min=0), help="Seed of every job.", show_default=True)
@click.option(
    "--plan", "plan_only", is_flag=True, help="Print the jobs, with the reason and cost of each; run nothing."
)
@click.option("--rerun", type=click.Choice(["missing", "failed", "all"]), default="missing", show_default=True)
@click.option(
    "--jobs", "-j", "workers", type=click.IntRange(min=1), help="Jobs at a time (default: 1 here, a cluster's all)."
)
@on_option
@place_options
@json_option
def command(
    *,
    place: Place,
    slugs: Sequence[str],
    dataset: str | None,
    protocol_name: str | None,
    attack: str | None,
    measure: str | None,
    limit: int | str | None,
    device: str,
    jobs_per_gpu: int,
    seed: int,
    plan_only: bool,
    rerun: Rerun,
    workers: int | None,
    on: str,
    as_json: bool,
) -> None:
    """Run what the protocol wants and the database lacks.

    Every result is committed in chunks: interrupt or kill it at any moment and run it again, and it takes up where it
    was. Exit code 3 when a job failed; the others' results stand.
    """
    from benchmark.data import get_dataset
    from benchmark.jobs.executors import get_executor
    from benchmark.jobs.plan import asked_for, make_plan, wanted_jobs
    from benchmark.jobs.protocol import get_protocol
    from benchmark.jobs.settling import settle

    database, workspace = place.database, place.workspace
    check_device(device)
    _check_names(attack, measure)
    get_executor(on)
    protocol = get_protocol(protocol_name or workspace.protocol, [workspace.protocols])
    with suppress(OSError):  # the folder may not be ours to write to
        settle(database, workspace.models)
    known = readable_models([workspace.models])
    entries = _without_refused(place, _entries(place, known, slugs, dataset), named=slugs)
    datasets = {name: get_dataset(name) for name in sorted({entry.dataset for entry in entries})}
    models = {slug: entry.digest for slug, entry in known.items()}
    limits = _limits(place, protocol, datasets, limit, quiet=as_json)
    wanted = list(wanted_jobs(protocol, entries, datasets, limits=limits, seed=seed, models=models))
    asked = asked_for(wanted, attack=attack, measure=measure)
    if wanted and not asked:
        raise _not_asked(protocol, wanted, attack=attack, measure=measure)
    with database.read() as session:
        plan = make_plan(session, asked, rerun=rerun)
    _print_failed(plan)
    if plan_only or not as_json:
        print_plan(place, plan, datasets if plan_only else None, device, as_json=as_json)
    if plan_only:
        return
    ids = _register(place, protocol, entries, datasets, wanted)
    setting = setting_of(place, device, rerun=rerun, workers=workers, jobs_per_gpu=jobs_per_gpu)
    outcome = _run(plan, ids, setting, on)
    _store_facts(place, as_json=as_json)
    _print_outcome(outcome, plan, as_json=as_json)
    if len(asked) < len(wanted):
        _print_left(place, wanted, as_json=as_json)
    if outcome.stopped:
        click.get_current_context().exit(130)
    if outcome.failed or outcome.waiting or plan.failed:
        click.get_current_context().exit(3)


def _print_left(place: Place, wanted: Sequence[Job], *, as_json: bool) -> None:
    """After a part of the protocol: what the rows still lack."""
    from benchmark.jobs.plan import make_plan

    with place.database.read() as session:
        left = make_plan(session, wanted)
    if count := len(left.jobs) + len(left.failed):
        click.echo(
            f"The rows are not complete, so they are not ranked: {count} more of their {len(wanted)} jobs are to run, "
            "without --attack and --measure.",
            err=as_json,
        )


def setting_of(
    place: Place, device: str, *, rerun: Rerun = "missing", workers: int | None = None, jobs_per_gpu: int = 1
) -> Setting:
    """Where and how jobs of the workspace run."""
    from benchmark.jobs.executors import Setting
    from benchmark.jobs.lease import Again

    workspace = place.workspace
    return Setting(
        database_url=place.database_url,
        artifacts=workspace.artifacts,
        models=workspace.models,
        locks=workspace.locks,
        device=device,
        again=Again(rerun, run=uuid.uuid4().hex),
        workers=workers,
        jobs_per_gpu=jobs_per_gpu,
    )


def check_device(device: str) -> None:
    """Refuse a device that is not there, or that cannot do what is needed."""
    import torch

    from benchmark.errors import InputError

    def refuse(why: str) -> InputError:
        return InputError(f"The device {device!r} cannot be used: {why}. Give --device cpu, cuda, or cuda:N.")

    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise refuse("there is no such kind of device") from None
    if wanted.type == "mps":
        raise refuse("it has no float64, in which distances are measured")
    if wanted.type not in ("cpu", "cuda"):
        raise refuse("models are run on the CPU and on CUDA devices")
    if wanted.type == "cuda" and not torch.cuda.is_available():
        built = "this torch finds no CUDA device" if torch.version.cuda else "this torch is built without CUDA"
        raise refuse(built)
    if wanted.type == "cuda" and (wanted.index or 0) >= (count := torch.cuda.device_count()):
        raise refuse(f"this machine has {count} CUDA device{'s' if count > 1 else ''}, the last cuda:{count - 1}")


def _check_names(attack: str | None, measure: str | None) -> None:
    from benchmark.attacks import attacks
    from benchmark.errors import UnknownNameError
    from benchmark.measures import get_measure, measures

    if attack is not None and attack not in (known := {*attacks(), *measures()}):
        raise UnknownNameError("attack", attack, known)
    if measure is not None:
        get_measure(measure)


def _limits(
    place: Place, protocol: Protocol, datasets: Mapping[str, Dataset], limit: int | str | None, *, quiet: bool
) -> dict[str, int | None]:
    """How many samples of each dataset: as asked, or as many as its board has."""
    from benchmark.jobs.plan import remembered_slice

    if limit is not None:
        return dict.fromkeys(datasets, None if isinstance(limit, str) else limit)
    with place.database.read() as session:
        found = {name: remembered_slice(session, protocol.name, dataset) for name, dataset in datasets.items()}
    for name, n in found.items():
        if n is not None and n < datasets[name].size and not quiet:
            click.echo(f"{name}: the first {n} samples, as on its board; --limit all evaluates all.", err=True)
    return found


def _not_asked(protocol: Protocol, wanted: Sequence[Job], *, attack: str | None, measure: str | None) -> InputError:
    from benchmark.errors import InputError

    named = " of ".join(
        f"the {what} {name!r}" for what, name in (("attack", attack), ("measure", measure)) if name is not None
    )
    has = sorted({job.measure for job in wanted} | {str(job.parameters.get("attack", job.measure)) for job in wanted})
    return InputError(
        f"The protocol {protocol.name}@{protocol.version} does not ask for {named} on these models; it asks for "
        f"{', '.join(has)}. Add it to a protocol of your own (docs/adding.md), and name that with --protocol."
    )


def _entries(place: Place, known: Mapping[str, Entry], slugs: Sequence[str], dataset: str | None) -> list[Entry]:
    """The models asked for; those of the zoo and of the workspace when none is named."""
    from benchmark.data import get_dataset
    from benchmark.errors import InputError
    from models_zoo import get_entry

    folders = [place.workspace.models]
    _tell_gone(place, slugs)
    chosen = [get_entry(slug, folders) for slug in dict.fromkeys(slugs)] or list(known.values())
    if dataset is not None:
        get_dataset(dataset)
        chosen = [entry for entry in chosen if entry.dataset == dataset]
        if not chosen:
            raise InputError(f"None of the models is for the dataset {dataset!r}: {', '.join(slugs) or 'the zoo'}.")
    return chosen


def _tell_gone(place: Place, slugs: Sequence[str]) -> None:
    """Say which rows cannot be evaluated because their models' files are gone; refused if they were asked for."""
    from benchmark.board.names import GONE, gone
    from benchmark.errors import InputError
    from db.queries import boards
    from models_zoo import present

    with place.database.read() as session:
        lost = gone(boards(session), present([place.workspace.models]))
    for slug in sorted(lost.values()):
        if slug in slugs:
            raise InputError(f"{slug}: {GONE}. Put its folder back into {place.workspace.models}, or withdraw it.")
        if not slugs:
            click.echo(f"Left out: {slug}: {GONE}.", err=True)


def _without_refused(place: Place, chosen: Sequence[Entry], *, named: Sequence[str]) -> list[Entry]:
    """Leave out models that can have no rows of their own, and say why; refused if they were asked for."""
    from benchmark.board.names import refusal, same_model
    from benchmark.data import all_datasets
    from benchmark.errors import InputError, UnknownNameError

    kept: dict[str, Entry] = {}
    datasets = all_datasets()
    with place.database.read() as session:
        for entry in chosen:
            reason = refusal(session, entry)
            if entry.dataset not in datasets:
                reason = f"{entry.slug}: {UnknownNameError('dataset', entry.dataset, datasets)}"
            if reason is None and entry.digest in kept:
                reason = same_model(entry.slug, kept[entry.digest].slug)
            if reason is None:
                kept[entry.digest] = entry
            elif entry.slug in named:
                raise InputError(reason)
            else:
                click.echo(f"Left out: {reason}", err=True)
    return list(kept.values())


def _register(
    place: Place,
    protocol: Protocol,
    entries: Sequence[Entry],
    datasets: Mapping[str, Dataset],
    wanted: Sequence[Job],
) -> dict[str, int]:
    from benchmark.jobs.register import register

    with place.database.write() as session:
        return register(
            session,
            protocol=protocol,
            entries={entry.slug: entry for entry in entries},
            datasets=datasets,
            wanted=wanted,
        )


def _run(plan: Plan, ids: Mapping[str, int], setting: Setting, on: str) -> Outcome:
    from benchmark.cli.progress import progress_display
    from benchmark.jobs.executors import Outcome, run_jobs

    if not plan.jobs:
        return Outcome()
    with progress_display(len(plan.jobs)) as report:
        return run_jobs([(job, ids[job.key]) for job in plan.jobs], setting, report, on=on)


def _store_facts(place: Place, *, as_json: bool) -> None:
    """What the site shows of the datasets themselves; publishing writes nothing into the database."""
    from benchmark.board.dataset_facts import store_dataset_facts

    def say(text: str) -> None:
        click.echo(text, err=as_json)

    store_dataset_facts(place.database, report=say)


def _print_failed(plan: Plan) -> None:
    for job in plan.failed:
        click.echo(f"Failed before, left alone: {job}: {job.reason}", err=True)
    if plan.failed:
        click.echo("Run these again with --rerun failed.", err=True)


def _print_outcome(outcome: Outcome, plan: Plan, *, as_json: bool) -> None:
    import dataclasses

    if as_json:
        echo_json(dataclasses.asdict(outcome) | {"wanted": len(plan.wanted), "failed_before": len(plan.failed)})
        return
    if not plan.jobs:
        return
    words = {
        "done": "done",
        "unsupported": "not applicable to its model",
        "failed": "failed",
        "taken": "left to another evaluator",
        "waiting": "waiting for the models they are compared with",
        "stopped": "not finished; run the command again to go on",
    }
    counts = dataclasses.asdict(outcome)
    click.echo("; ".join(f"{counts[name]} {text}" for name, text in words.items() if counts[name]) + ".")
