"""The changelog's entries as sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from benchmark.board.verified import VERIFIED
from db.queries import ChangeInfo
from sitegen.threats import symbol
from sitegen.words import images, number, percent


@dataclass(frozen=True)
class Move:
    """What a change did at one published budget of one board."""

    board: str
    norm: str
    eps: float
    accuracy_before: float | None
    accuracy_after: float | None
    rank_before: int | None
    rank_after: int | None


@dataclass(frozen=True)
class Story:
    """A change, told.

    Attributes:
        id: The entry's number.
        at: When.
        kind: Its kind, as stored.
        model: The model's slug, if it is about one.
        dataset: The dataset's name.
        title: One line.
        sentences: What happened.
        moves: What it did to accuracies and ranks.
    """

    id: int
    at: datetime
    kind: str
    model: str | None
    dataset: str | None
    title: str
    sentences: tuple[str, ...]
    moves: tuple[Move, ...]


def told(changes: Sequence[ChangeInfo]) -> list[ChangeInfo]:
    """The entries that changed something on a board."""
    return [change for change in changes if change.kind != VERIFIED]


def story(change: ChangeInfo) -> Story:
    """The entry as sentences and a table of moves."""
    detail = change.detail
    by = str(detail.get("by") or change.measure or "")
    model = change.called or "the board"
    boards = " and ".join(map(_name, detail.get("boards", ())))
    where = f"the board of {change.dataset}{f' ({boards})' if boards else ''}"
    titles = {
        "model-added": f"{model} joined {where}",
        "new-weights": f"{model} has new weights on {where}",
        "model-returned": f"{model} is back on {where}",
        "renamed": f"{model} is called {detail.get('to')} from now on",
        "distances-lowered": f"{by} lowered {model}",
        "challenge-accepted": f"{by} was accepted against {model}",
        VERIFIED: f"{model} was checked again",
        "transfer-lowered": f"Another model's examples lowered {model}",
    }
    sentences = [text for norm, found in sorted(detail.get("norms", {}).items()) if (text := _lowered(norm, found))]
    if change.kind == VERIFIED:
        sentences = [f"All {detail.get('examples')} adversarial examples hold, at their distances ({by})."]
    if change.kind == "challenge-accepted" and not sentences:
        sentences = ["Its examples hold, but none is nearer than what was known."]
    if change.kind == "withdrawn":
        sentences = [f"{str(detail.get('what', '')).capitalize()} was withdrawn."]
        sentences += ["The row is not complete any more, so it is not ranked."] if _left(detail) else []
    if reason := str(detail.get("reason", "")).rstrip("."):
        sentences.append(f"The reason: {reason}.")
    return Story(
        id=change.id,
        at=change.at,
        kind=change.kind,
        model=change.model,
        dataset=change.dataset,
        title=titles.get(change.kind, f"{change.kind.replace('-', ' ')}: {model}"),
        sentences=tuple(sentences),
        moves=tuple(_moves(detail)),
    )


def _left(detail: Mapping[str, Any]) -> bool:
    return any(board.get("left") for board in detail.get("boards", ()))


def _lowered(norm: str, found: Mapping[str, Any]) -> str:
    lowered, first = int(found.get("lowered", 0)), int(found.get("found", 0))
    if not lowered + int(found.get("new", 0)):
        return ""
    nearer = lowered + int(found.get("new", 0))
    text = f"In {symbol(norm)}, {nearer} {'sample has' if nearer == 1 else 'samples have'} a nearer example"
    if first:
        text += f", {first} of them had none before"
    if largest := found.get("largest"):
        text += f"; the largest fall is sample {largest['index']}, {_fall(largest['before'], largest['after'])}"
    return text + "."


def _fall(before: float, after: float) -> str:
    """A fall in words; one too small for the digits that are shown, as a share."""
    if number(before) != number(after):
        return f"from {number(before)} to {number(after)}"
    return f"from {number(before)} by {number(100 * (1 - after / before), 2)} %"


def _name(board: Mapping[str, Any]) -> str:
    return f"{board['protocol']} v{board['version']}, {images(board['n'])}"


def _moves(detail: Mapping[str, Any]) -> list[Move]:
    moves = []
    for board in detail.get("boards", ()):
        name = _name(board)
        for norm, points in board["norms"].items():
            for point in points:
                before, after = point.get("before") or {}, point.get("after") or {}
                move = Move(
                    name,
                    norm,
                    float(point["eps"]),
                    before.get("robust_accuracy"),
                    after.get("robust_accuracy"),
                    before.get("rank"),
                    after.get("rank"),
                )
                if move.accuracy_before != move.accuracy_after:
                    moves.append(move)
    return moves


def by_norm(moves: Sequence[Move]) -> list[tuple[str, str, list[Move]]]:
    """Moves of one board and norm together: (the board's name if there are several, the norm's symbol, the moves)."""
    several = len({move.board for move in moves}) > 1
    groups: dict[tuple[str, str], list[Move]] = {}
    for move in moves:
        groups.setdefault((move.board, move.norm), []).append(move)
    return [(board if several else "", symbol(norm), own) for (board, norm), own in groups.items()]


def move_text(move: Move) -> str:
    """``ε 0.1: 85.3 → 81.0 %, rank 1 → 2``; for the feed the norm stands before it."""
    was = f"{percent(move.accuracy_before)} → " if move.accuracy_before is not None else ""
    ranked = f"{move.rank_before} → " if move.rank_before not in (None, move.rank_after) else ""
    return f"ε {move.eps:g}: {was}{percent(move.accuracy_after)} %, rank {ranked}{move.rank_after}"
