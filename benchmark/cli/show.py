"""``curveboard show``: everything known of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from benchmark.cli.options import Place, echo_json, echo_table, json_option, place_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from db.queries import EvaluationData, EvaluationInfo, ModelInfo


@click.command()
@click.argument("model")
@place_options
@json_option
def command(place: Place, model: str, as_json: bool) -> None:
    """Show MODEL's card, and its evaluations with scores, flags and cost."""
    from benchmark.board.verdicts import row_data
    from benchmark.errors import UnknownNameError
    from db.queries import boards, find_models

    with place.database.read() as session:
        found = find_models(session, model)
        if not found:
            raise UnknownNameError("model in the database", model, {m.slug for m in find_models(session)})
        info = found[-1]
        rows = [row for board in boards(session) for row in board.rows if row.model.id == info.id]
        evaluations = {e.id: e for row in rows for e in (*row.cells, *row.others)}
        found_data: dict[int, EvaluationData] = {}
        for row in rows:
            new = [e for e in (*row.cells, *row.others) if e.id not in found_data]
            found_data |= row_data(session, row, new)
    facts = [_evaluation(evaluations[key], found_data[key]) for key in evaluations]
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


def _evaluation(info: EvaluationInfo, data: EvaluationData) -> dict[str, Any]:
    import dataclasses

    detail = data.detail

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
        "outputs": [_output(output, data) for output in info.outputs],
        "scores": [dataclasses.asdict(score) for score in detail.scores],
        "flags": [dataclasses.asdict(flag) for flag in detail.flags],
        "provenance": dict(detail.provenance),
    }


def _output(output: Mapping[str, Any], data: EvaluationData) -> dict[str, Any]:
    """A declared output with its values: a number, a table, or what the samples come to."""
    shown: dict[str, Any] = {name: output[name] for name in ("name", "kind", "title", "unit", "direction", "threat")}
    for score in data.detail.scores:
        if output["kind"] == "scalar" and score.name == output["name"]:
            shown |= {"value": score.value, "low": score.low, "high": score.high, "confidence": score.confidence}
    for table in data.detail.tables:
        if table.name == output["name"]:
            axes = [{"name": axis["name"], "labels": list(axis["labels"])} for axis in output["axes"]]
            shown |= {"axes": axes, "values": table.values, "low": table.low, "high": table.high}
    if (values := data.arrays.get(output["array"] or "")) is not None:
        shown |= {"samples": len(values), **_of_samples(output, values)}
    return shown


def _of_samples(output: Mapping[str, Any], values: NDArray[Any]) -> dict[str, Any]:
    import numpy as np

    from benchmark.results import Output, verdicts

    if output["kind"] == "verdict":
        return {"robust": float(verdicts(Output.from_json(output), values).mean())}
    finite = values[np.isfinite(values)]
    return {"finite": len(finite), "median": float(np.quantile(values, 0.5, method="lower")) if len(values) else None}


def _in_a_word(output: Mapping[str, Any]) -> str:
    """A declared output, short enough for a table."""
    name = output["name"]
    if "axes" in output:
        return f"{name} {' × '.join(str(len(axis['labels'])) for axis in output['axes'])} values"
    for key, word in (("value", ""), ("robust", ""), ("median", "median ")):
        if output.get(key) is not None:
            return f"{name} {word}{output[key]:.4g}"
    return ""


def _summary(fact: dict[str, Any]) -> dict[str, Any]:
    declared = [text for output in fact["outputs"] if (text := _in_a_word(output))]
    names = {output["name"] for output in fact["outputs"]}
    scores = [
        f"{s['name']} {s['value']:.4g}" for s in fact["scores"] if s["value"] is not None and s["name"] not in names
    ]
    other = " ".join(f"{k}={v}" for k, v in fact["parameters"].items() if k != "norm" and v is not None)
    images = str(fact["n"]) if fact["samples"] == fact["n"] else f"{fact['samples']} of {fact['n']}"
    return {
        "measure": fact["measure"],
        "norm": fact["norm"],
        "images": images,
        "parameters": other or None,
        "state": fact["state"],
        "seconds": fact["seconds"],
        "results": ", ".join((*declared, *scores)) or fact["reason"],
    }
