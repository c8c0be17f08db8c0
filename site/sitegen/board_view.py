"""A board ranked under every threat: who is where at which ε, who leads, and who gets a colour and a letter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmark.statistics import Ranks, ranks_of_counts
from db.queries import Board, RowStatus
from sitegen import words
from sitegen.axes import Axis
from sitegen.findings import outputs_of
from sitegen.numbers import RESAMPLES
from sitegen.ranking import LeadRange, Stretch, lead_ranges, stretches
from sitegen.rows import BuiltRow
from sitegen.threats import ordered, symbol

LETTERS: Final = "ABCDEFGH"


@dataclass(frozen=True, eq=False)
class Ranking:
    """A board under one threat.

    Attributes:
        axis: The ε axis.
        rows: The rows that were attacked under this threat on all samples, in the order of the board.
        counts: Robust samples, shape (models, g).
        table: Ranks with intervals at the axis' ranked positions.
        lead_ranges: Who leads where.
        order: Indices of the rows, the best at the reference budget first.
    """

    axis: Axis
    rows: Sequence[BuiltRow]
    counts: NDArray[np.int32]
    table: Ranks
    lead_ranges: Sequence[LeadRange]
    order: Sequence[int]

    @property
    def leader(self) -> BuiltRow | None:
        """The best row at the reference budget; None where every model is broken there."""
        best = self.order[0] if self.order else None
        return None if best is None or not self.counts[best, self.axis.at_published[0]] else self.rows[best]

    @cached_property
    def stretches(self) -> list[Stretch]:
        """Who leads where, and how clearly."""
        return stretches(self.lead_ranges, self.table, self.axis.ranked, whole=self.axis.whole)


@dataclass(frozen=True)
class BoardView:
    """A board with its built rows.

    Attributes:
        board: The board.
        title: ``mnist · 1000 images · standard v1``.
        axes: Its axes; none where no threat was attacked.
        rows: The rows that are compared, in the order of their slugs.
        apart: The other rows, each with why it is not ranked.
        rankings: By threat.
        highlighted: Slugs of the rows that get a letter and a colour, in that order.
    """

    board: Board
    title: str
    axes: Mapping[str, Axis]
    rows: Sequence[BuiltRow]
    apart: Sequence[tuple[BuiltRow, str]]
    rankings: Mapping[str, Ranking]
    highlighted: Sequence[str]

    @property
    def folder(self) -> str:
        """The board's folder in the site."""
        return f"boards/{self.board.slug}"

    @property
    def everyone(self) -> list[BuiltRow]:
        """All rows, ranked or not."""
        return [*self.rows, *(built for built, _ in self.apart)]

    def apart_in(self, threat: str) -> list[tuple[BuiltRow, str]]:
        """Compared rows that are not ranked under a threat, each with the reason."""
        lacking = [built for built in self.rows if threat not in built.record.threats]
        return [(built, _not_attacked(built, threat, self.board.n)) for built in lacking]

    def letter(self, slug: str) -> str:
        """The letter of a highlighted row, else empty."""
        return LETTERS[self.highlighted.index(slug)] if slug in self.highlighted else ""

    def style(self, slug: str) -> str:
        """The series' class of a highlighted row, else that of the others."""
        return f"s{self.highlighted.index(slug)}" if slug in self.highlighted else "faint"


def board_title(board: Board) -> str:
    """The board's name for people."""
    return f"{board.dataset.name} · {words.images(board.n)} · {board.protocol.name} v{board.protocol.version}"


def board_threats(board: Board) -> list[str]:
    """The threats that a board ranks: those of its protocol, or else all that its rows' measures attack."""
    stated = board.protocol.spec.get("threats")
    if stated:
        return ordered(str(threat) for threat in stated)
    outputs = (output for row in board.rows for cell in row.cells for output in outputs_of(cell))
    return ordered(output.threat for output in outputs if output.kind == "upper" and output.threat)


def board_view(board: Board, built: Sequence[BuiltRow], axes: Mapping[str, Axis]) -> BoardView:
    """Rank the rows of a board under every threat."""
    compared = [b for b in built if _is_compared(b, axes)]
    chosen = {id(b) for b in compared}
    apart = [(b, _why_apart(b, board)) for b in built if id(b) not in chosen]
    rankings = {threat: _ranking(axis, compared, board.n) for threat, axis in axes.items()}
    return BoardView(
        board=board,
        title=board_title(board),
        axes=axes,
        rows=compared,
        apart=apart,
        rankings=rankings,
        highlighted=_highlighted(rankings, compared),
    )


def _is_compared(built: BuiltRow, axes: Mapping[str, Axis]) -> bool:
    whole = built.row.status is RowStatus.COMPLETE and not built.record.crossing and not built.record.damaged
    return whole and (not axes or bool(built.record.threats))


def _why_apart(built: BuiltRow, board: Board) -> str:
    status, record = built.row.status, built.record
    if record.damaged:
        return f"damaged: its results cannot be read ({record.damaged})"
    if record.crossing:
        return f"crossed: {record.crossing}"
    if built.row.model.withdrawn is not None:
        return f"withdrawn: {built.row.model.withdrawn}"
    told = {
        RowStatus.STALE: f"stale: evaluated by version {built.row.protocol.version}, the board has "
        f"{board.protocol.version}",
        RowStatus.REPORTED: "reported by another board: not ranked until this one has searched itself",
        RowStatus.SUPERSEDED: "older weights of a model that the board ranks",
    }
    if status in told:
        return told[status]
    problems = [problem for problem in record.problems if problem.state != "unsupported"]
    failed = [problem.name for problem in problems if problem.state == "failed"]
    waiting = len(problems) - len(failed)
    parts = [f"failed: {words.listed(failed)}"] if failed else []
    parts += [f"{waiting} of {len(built.row.cells)} evaluations still to come"] if waiting else []
    if not parts and record.missing:
        parts = [_not_attacked(built, threat, board.n) for threat in record.missing]
    return f"incomplete: {'; '.join(parts) or 'something that the protocol asks for is missing'}"


def _not_attacked(built: BuiltRow, threat: str, n: int) -> str:
    samples = built.record.missing.get(threat)
    if samples is None:
        return f"not attacked in {words.listed(symbol(t) for t in built.record.missing)}, so it has no union"
    return f"not attacked in {symbol(threat)}" + (f" on more than {samples} of {n} images" if samples else "")


def _ranking(axis: Axis, compared: Sequence[BuiltRow], n: int) -> Ranking:
    rows = [built for built in compared if axis.threat in built.numbers]
    numbers = [built.numbers[axis.threat] for built in rows]
    counts = _stacked([found.counts for found in numbers], len(axis.grid))
    ranked = _stacked([found.ranked for found in numbers], len(axis.ranked))
    resampled = _stacked([found.resampled for found in numbers], len(axis.ranked), RESAMPLES)
    table = ranks_of_counts(ranked, resampled, eps=axis.ranked)
    order = _order(counts[:, axis.at_published[0]], rows, axis.threat)
    return Ranking(axis, rows, counts, table, lead_ranges(counts, axis.grid, n, whole=axis.whole), order)


def _stacked(arrays: Sequence[NDArray[Any]], *shape: int) -> NDArray[Any]:
    """Arrays of that shape as one, also where there is none."""
    return np.stack(arrays) if arrays else np.empty((0, *shape), dtype=np.int32)


def _order(counts: NDArray[np.int32], rows: Sequence[BuiltRow], threat: str) -> list[int]:
    """The best first; equals by the area under their curves, then by slug."""
    areas = [row.record.threats[threat].area.value for row in rows]
    return sorted(range(len(rows)), key=lambda i: (-int(counts[i]), -areas[i], rows[i].slug))


def _highlighted(rankings: Mapping[str, Ranking], rows: Sequence[BuiltRow]) -> list[str]:
    """Who gets a letter: the best at each reference budget, whoever leads longest, then the next at these budgets."""
    lengths: dict[str, float] = {}
    for ranking in rankings.values():
        for lead in ranking.lead_ranges:
            for leader in lead.leaders[:1]:
                slug = ranking.rows[leader].slug
                lengths[slug] = lengths.get(slug, 0.0) + (lead.end - lead.start) / ranking.axis.maximum
    leaders = [ranking.leader.slug for ranking in rankings.values() if ranking.leader is not None]
    longest = sorted(lengths, key=lambda slug: (-lengths[slug], slug))
    best = [
        ranking.rows[i].slug
        for place in range(len(rows))
        for ranking in rankings.values()
        for i in ranking.order[place : place + 1]
    ]
    chosen = list(dict.fromkeys([*leaders, *longest, *best]))[: len(LETTERS)]
    return sorted(chosen, key=lambda slug: (-lengths.get(slug, 0.0), chosen.index(slug)))
