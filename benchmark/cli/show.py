"""``curveboard show``: everything known of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from benchmark.cli.options import Place, echo_json, echo_table, json_option, place_options

if TYPE_CHECKING:
    from db.queries import EvaluationDetail, EvaluationInfo, ModelInfo


@click.command()
@click.argument("model")
@place_options
@json_option
def command(place: Place, model: str, as_json: bool) -> None:
    """Show MODEL's card, and its evaluations with scores, flags and cost."""
    from benchmark.errors import UnknownNameError
    from db.queries import boards, find_models, row_data

    with place.database.read() as session:
        found = find_models(session, model)
        if not found:
            raise UnknownNameError("model in the database", model, {m.slug for m in find_models(session)})
        info = found[-1]
        rows = [row for board in boards(session) for row in board.rows if row.model.id == info.id]
        evaluations = {e.id: e for row in rows for e in (*row.cells, *row.others)}
        details = {key: data.detail for key, data in row_data(session, list(evaluations)).items()}
    facts = [_evaluation(evaluations[key], details[key]) for key in evaluations]
    if as_json:
        echo_json({"model": _card(info), "evaluations": facts})
        return
    for name, value in _card(info).items():
        click.echo(f"{name:18} {value}")
    click.echo()
    echo_table([_summary(fact) for fact in facts], empty="It has no evaluations yet.")
    for fact in facts:
        for flag in fact["flags"]:
            click.echo(f"Flag on {fact['measure']} {fact['norm'] or ''}: {flag['message']} [{flag['code']}]")


def _card(info: ModelInfo) -> dict[str, Any]:
    kept = {name: value for name, value in info.card.items() if value not in (None, "", [], {}) and name != "weights"}
    return {"slug": info.slug, "digest": info.digest, "added": info.added_at.isoformat(), **kept}


def _evaluation(info: EvaluationInfo, detail: EvaluationDetail) -> dict[str, Any]:
    import dataclasses

    return {
        "key": info.key,
        "measure": info.measure,
        "norm": info.norm,
        "parameters": dict(info.parameters),
        "n": info.n,
        "samples": detail.samples,
        "seed": info.seed,
        "state": info.state.value,
        "reason": info.reason,
        "finished": info.finished_at.isoformat() if info.finished_at else None,
        "seconds": detail.seconds,
        "forward_passes": detail.forward_passes,
        "backward_passes": detail.backward_passes,
        "scores": [dataclasses.asdict(score) for score in detail.scores],
        "flags": [dataclasses.asdict(flag) for flag in detail.flags],
        "provenance": dict(detail.provenance),
    }


def _summary(fact: dict[str, Any]) -> dict[str, Any]:
    scores = (f"{s['name']} {s['value']:.4g}" for s in fact["scores"] if s["value"] is not None)
    other = " ".join(f"{k}={v}" for k, v in fact["parameters"].items() if k != "norm")
    return {
        "measure": fact["measure"],
        "norm": fact["norm"],
        "parameters": other or None,
        "state": fact["state"],
        "seconds": fact["seconds"],
        "scores": ", ".join(scores) or fact["reason"],
    }
