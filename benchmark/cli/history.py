"""``curveboard history``: the changelog."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from benchmark.cli.options import Place, echo_json, json_option, place_options

if TYPE_CHECKING:
    from db.queries import ChangeInfo


@click.command()
@click.argument("model", required=False)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the newest N entries.")
@place_options
@json_option
def command(*, place: Place, model: str | None, limit: int | None, as_json: bool) -> None:
    """Show what changed on the board, or for one MODEL: by which attack, on how many samples, and the ranks."""
    from benchmark.errors import InputError, UnknownNameError
    from db.queries import changes, find_models, former_names

    with place.database.read() as session:
        known = {found.slug for found in find_models(session)}
        if model is not None and (now := former_names(session).get(model)) is not None:
            raise InputError(f"The model {model!r} was renamed; it is called {now!r} now.")
        if model is not None and model not in known:
            raise UnknownNameError("model on this board", model, known)
        found = changes(session, model=model, limit=limit)
    if as_json:
        echo_json([_values(change) for change in found])
        return
    for change in found:
        click.echo(f"{change.at:%Y-%m-%d %H:%M} UTC  {change.called}: {_headline(change)}")
        for line in _lines(change.detail):
            click.echo(f"    {line}")
    if not found:
        click.echo("Nothing has changed yet: no row is complete.")


def _values(change: ChangeInfo) -> dict[str, Any]:
    return {
        "at": change.at.isoformat(),
        "kind": change.kind,
        "model": change.model,
        "called": change.called,
        "dataset": change.dataset,
        "measure": change.measure,
        "parameters": change.parameters,
        "detail": change.detail,
    }


def _headline(change: ChangeInfo) -> str:
    joined = {"model-added": "joined", "new-weights": "new weights on", "model-returned": "back on"}
    if change.kind in joined:
        return f"{joined[change.kind]} the board of {change.dataset}"
    if change.kind == "renamed":
        reason = change.detail.get("reason")
        return f"is called {change.detail.get('to')} from now on{f' ({reason})' if reason else ''}"
    if change.kind == "verified":
        return f"re-checked, {change.detail.get('examples')} examples, by {change.detail.get('by')}"
    if change.kind == "withdrawn":
        return f"withdrawn: {change.detail.get('what')} ({change.detail.get('reason')})"
    by = change.detail.get("by") or change.measure or ""
    parts = []
    for norm, counts in change.detail.get("norms", {}).items():
        words = {
            "lowered": "lowered",
            "found": "of these first found",
            "new": "on new samples",
        }
        seen = [f"{counts[key]} {text}" for key, text in words.items() if counts.get(key)]
        if seen:
            parts.append(f"{norm}: {', '.join(seen)}")
    sources = ", ".join(f"{count} from {slug}" for slug, count in change.detail.get("sources", {}).items())
    return "; ".join([f"{by}{f' ({sources})' if sources else ''}", *(parts or ["nothing lowered"])])


def _lines(detail: Mapping[str, Any]) -> Iterator[str]:
    for board in detail.get("boards", ()):
        name = f"{board['protocol']}@{board['version']}[:{board['n']}]"
        if board.get("left"):
            yield f"{name}: not complete any more, so not ranked"
        for norm, points in board["norms"].items():
            for point in points:
                before, after = point["before"], point["after"]
                if before is None:
                    text = f"robust {after['robust_accuracy']:.1%}, rank {after['rank']} of {board['rows']}"
                elif before != after:
                    text = (
                        f"robust {before['robust_accuracy']:.1%} → {after['robust_accuracy']:.1%}, "
                        f"rank {before['rank']} → {after['rank']} of {board['rows']}"
                    )
                else:
                    continue
                yield f"{name} {norm} at {point['eps']:g}: {text}"
