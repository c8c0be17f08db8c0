"""The table of what is to run: each job with its reason and its cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from benchmark.cli.options import Place, echo_json, echo_table

if TYPE_CHECKING:
    from benchmark.board.job import Job
    from benchmark.data import Dataset
    from benchmark.jobs.estimate import Estimate
    from benchmark.jobs.plan import Plan


def print_plan(place: Place, plan: Plan, timed: Mapping[str, Dataset] | None, device: str, *, as_json: bool) -> None:
    """The jobs with their costs; with the datasets, those that have never run are estimated too."""
    from benchmark.board.job import brief
    from benchmark.jobs.estimate import estimates

    with place.database.read() as session:
        costs = estimates(session, plan.jobs, datasets=timed, models=[place.workspace.models], device=device)
    if as_json:
        echo_json([_job_values(job, cost) for job, cost in zip(plan.jobs, costs, strict=True)])
        return
    rows = [
        {
            "model": job.model,
            "dataset": f"{job.dataset}[:{job.n}]",
            "measure": job.measure,
            "parameters": " ".join(f"{k}={brief(v)}" for k, v in job.parameters.items() if v is not None),
            "reason": job.reason,
            "passes": _job_passes(cost),
            "time": _job_time(cost),
        }
        for job, cost in zip(plan.jobs, costs, strict=True)
    ]
    left = "Nothing else is to run." if plan.failed else "Nothing to do: the database has all that was asked for."
    echo_table(rows, empty=left)
    if not rows:
        return
    click.echo(f"{len(rows)} of {len(plan.wanted)} jobs are to run: {_total(costs)}.")
    if timed is None and None in costs:
        click.echo("? has not run yet; --plan times the models and says how long it will take.")
    bases = {cost.basis for cost in costs if cost is not None}
    if "stated" in bases:
        click.echo("≈ has not run yet: the passes that the measure states, as long as they take here and now.")
    if "limit" in bases:
        click.echo("≤ is ended by its limit of time; what it does not apply to is refused in seconds.")
    unknown = [job for job, cost in zip(plan.jobs, costs, strict=True) if timed is not None and cost is None]
    whys = {(job.measure, _why_unknown(job)) for job in unknown}
    for measure, why in sorted(whys):
        if why:
            click.echo(f"? {measure}: {why}.")


def _why_unknown(job: Job) -> str:
    from benchmark.measures import get_measure

    measure = get_measure(job.measure)
    return measure.why_uncounted(measure.Parameters(**job.parameters))


def _total(costs: Sequence[Estimate | None]) -> str:
    """How long all of them take, one after the other, and of how many that cannot be said."""
    known = [cost.seconds for cost in costs if cost is not None and cost.seconds is not None and cost.basis != "limit"]
    limits = [cost.seconds for cost in costs if cost is not None and cost.seconds is not None and cost.basis == "limit"]
    unknown = len(costs) - len(known) - len(limits)
    parts = [f"about {_duration(sum(known))}, one at a time"] if known else []
    parts += [f"at most {_duration(sum(limits))} where a limit of time ends them"] if limits else []
    parts += [f"{unknown} of unknown cost" if parts else "of unknown cost"] if unknown else []
    return ", and ".join(parts)


def _job_passes(cost: Estimate | None) -> str:
    if cost is None:
        return "?"
    return "–" if cost.basis == "limit" else f"{cost.passes:,.0f}"


def _job_time(cost: Estimate | None) -> str:
    if cost is None or cost.seconds is None:
        return "?"
    sign = {"stated": "≈ ", "limit": "≤ ", "recorded": ""}[cost.basis]
    return f"{sign}{_duration(cost.seconds)}"


def _job_values(job: Job, cost: Estimate | None) -> dict[str, Any]:
    return {
        "key": job.key,
        "model": job.model,
        "dataset": job.dataset,
        "n": job.n,
        "measure": job.measure,
        "parameters": job.parameters,
        "reason": job.reason,
        "estimated_passes": cost.passes if cost and cost.basis != "limit" else None,
        "estimated_seconds": cost.seconds if cost else None,
        "estimate": cost.basis if cost else None,
    }


def _duration(seconds: float) -> str:
    if seconds < 0.5:
        return "< 1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
