"""``curveboard evaluate``: run what the protocol wants and the database lacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from benchmark.cli.options import Place, echo_json, echo_table, json_option, place_options

if TYPE_CHECKING:
    from benchmark.data import Dataset
    from benchmark.jobs.executors.local import Outcome
    from benchmark.jobs.plan import Estimate, Plan, Rerun
    from benchmark.jobs.protocol import Protocol
    from benchmark.workspace import Workspace
    from models_zoo import Entry


@click.command()
@click.option("--model", "-m", "slugs", multiple=True, metavar="MODEL", help="Only this model; may be repeated.")
@click.option("--dataset", "-d", metavar="DATASET", help="Only models of this dataset.")
@click.option("--protocol", "protocol_name", metavar="NAME", help="The protocol (default: the workspace's).")
@click.option("--attack", metavar="NAME", help="Only this attack's jobs.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Evaluate the first N samples.")
@click.option("--device", default="cpu", metavar="cpu|cuda", help="Where the models run.", show_default=True)
@click.option("--seed", default=0, type=click.IntRange(min=0), help="Seed of every job.", show_default=True)
@click.option(
    "--plan", "plan_only", is_flag=True, help="Print the jobs, with the reason and cost of each; run nothing."
)
@click.option("--rerun", type=click.Choice(["missing", "failed", "all"]), default="missing", show_default=True)
@click.option("--jobs", "-j", "workers", default=1, type=click.IntRange(min=1), help="Worker processes.")
@place_options
@json_option
def command(
    *,
    place: Place,
    slugs: Sequence[str],
    dataset: str | None,
    protocol_name: str | None,
    attack: str | None,
    limit: int | None,
    device: str,
    seed: int,
    plan_only: bool,
    rerun: Rerun,
    workers: int,
    as_json: bool,
) -> None:
    """Run what the protocol wants and the database lacks.

    Every result is committed in chunks: interrupt or kill it at any moment and run it again, and it takes up where it
    was. Exit code 3 when a job failed; the others' results stand.
    """
    from benchmark.board.dataset_facts import store_dataset_facts
    from benchmark.data import get_dataset
    from benchmark.jobs.plan import make_plan, wanted_jobs
    from benchmark.jobs.protocol import get_protocol

    database = place.database
    workspace = place.workspace
    check_device(device)
    if attack is not None:
        _check_attack(attack)
    protocol = get_protocol(protocol_name or workspace.protocol, [workspace.protocols])
    entries = _entries(workspace, slugs, dataset)
    datasets = {name: get_dataset(name) for name in sorted({entry.dataset for entry in entries})}
    wanted = list(wanted_jobs(protocol, entries, datasets, limit=limit, seed=seed, attack=attack))
    with database.read() as session:
        plan = make_plan(session, wanted, rerun=rerun)
    _print_failed(plan)
    if plan_only or not as_json:
        _print_plan(place, plan, as_json=as_json)
    if plan_only:
        return
    outcome = _run(
        place,
        plan,
        protocol=protocol,
        entries=entries,
        datasets=datasets,
        device=device,
        workers=workers,
        rerun=rerun,
        replace=attack is None,
    )
    if not outcome.stopped:
        store_dataset_facts(database, report=lambda text: click.echo(text, err=True))
    _print_outcome(outcome, plan, as_json=as_json)
    if outcome.stopped:
        click.get_current_context().exit(130)
    if outcome.failed or plan.failed:
        click.get_current_context().exit(3)


def check_device(device: str) -> None:
    """Refuse a device that is not there."""
    import torch

    from benchmark.errors import InputError

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"The device {device!r} cannot be used: {first} Give --device cpu, or cuda.") from None


def _check_attack(name: str) -> None:
    from benchmark.attacks import attacks
    from benchmark.errors import UnknownNameError
    from benchmark.measures import measures

    known = {*attacks(), *measures()}
    if name not in known:
        raise UnknownNameError("attack", name, known)


def _entries(workspace: Workspace, slugs: Sequence[str], dataset: str | None) -> list[Entry]:
    """The models asked for; those of the zoo and of the workspace when none is named."""
    from benchmark.data import get_dataset
    from benchmark.errors import InputError
    from models_zoo import catalogue, get_entry

    folders = [workspace.models]
    chosen = [get_entry(slug, folders) for slug in dict.fromkeys(slugs)] or list(catalogue(folders).values())
    if dataset is not None:
        get_dataset(dataset)
        chosen = [entry for entry in chosen if entry.dataset == dataset]
        if not chosen:
            raise InputError(f"None of the models is for the dataset {dataset!r}: {', '.join(slugs) or 'the zoo'}.")
    return chosen


def _run(
    place: Place,
    plan: Plan,
    *,
    protocol: Protocol,
    entries: Sequence[Entry],
    datasets: dict[str, Dataset],
    device: str,
    workers: int,
    rerun: Rerun,
    replace: bool,
) -> Outcome:
    from benchmark.cli.progress import progress_display
    from benchmark.jobs.executors.local import Outcome, Setting, run_jobs
    from benchmark.jobs.record import register

    workspace = place.workspace
    with place.database.write() as session:
        ids = register(
            session,
            protocol=protocol,
            entries={entry.slug: entry for entry in entries},
            datasets=datasets,
            wanted=plan.wanted,
            replace=replace,
        )
    if not plan.jobs:
        return Outcome()
    setting = Setting(
        database_url=place.database_url,
        artifacts=workspace.artifacts,
        models=workspace.models,
        locks=workspace.locks,
        device=device,
        rerun=rerun,
    )
    with progress_display(len(plan.jobs)) as report:
        return run_jobs([(job, ids[job.key]) for job in plan.jobs], setting, report, workers=workers)


def _print_failed(plan: Plan) -> None:
    for job in plan.failed:
        click.echo(f"Failed before, left alone: {job}: {job.reason}", err=True)
    if plan.failed:
        click.echo("Run these again with --rerun failed.", err=True)


def _print_plan(place: Place, plan: Plan, *, as_json: bool) -> None:
    from benchmark.jobs.plan import estimates

    with place.database.read() as session:
        costs = estimates(session, plan.jobs)
    if as_json:
        echo_json([_job_values(job, cost) for job, cost in zip(plan.jobs, costs, strict=True)])
        return
    rows = [
        {
            "model": job.model,
            "dataset": f"{job.dataset}[:{job.n}]",
            "measure": job.measure,
            "parameters": " ".join(f"{k}={v}" for k, v in job.parameters.items() if v is not None),
            "reason": job.reason,
            "passes": f"{cost.passes:,.0f}" if cost else "?",
            "time": _duration(cost.seconds) if cost else "?",
        }
        for job, cost in zip(plan.jobs, costs, strict=True)
    ]
    echo_table(rows, empty="Nothing to do: the database has all that the protocol wants.")
    if rows:
        known = [cost for cost in costs if cost]
        unknown = len(costs) - len(known)
        total = _duration(sum(cost.seconds for cost in known))
        also = f", {unknown} of unknown cost" if unknown else ""
        click.echo(f"{len(rows)} of {len(plan.wanted)} jobs are to run: about {total}{also}.")


def _job_values(job: Any, cost: Estimate | None) -> dict[str, Any]:
    return {
        "key": job.key,
        "model": job.model,
        "dataset": job.dataset,
        "n": job.n,
        "measure": job.measure,
        "parameters": job.parameters,
        "reason": job.reason,
        "estimated_passes": cost.passes if cost else None,
        "estimated_seconds": cost.seconds if cost else None,
    }


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


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
        "elsewhere": "left to another evaluator",
        "stopped": "not finished; run the command again to go on",
    }
    counts = dataclasses.asdict(outcome)
    click.echo("; ".join(f"{counts[name]} {text}" for name, text in words.items() if counts[name]) + ".")
