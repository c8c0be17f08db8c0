"""A board ranked in every norm: who is where at which ε, who leads, and who gets a colour and a letter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmark.statistics import Ranks, ranks_of_counts
from db.queries import Board
from sitegen import words
from sitegen.axes import Axis
from sitegen.numbers import RESAMPLES
from sitegen.ranking import Reign, reigns
from sitegen.rows import BuiltRow

LETTERS: Final = "ABCDEFGH"


@dataclass(frozen=True, eq=False)
class Ranking:
    """A board in one norm.

    Attributes:
        axis: The ε axis.
        rows: Its ranked rows, in the order of the board.
        counts: Robust samples, shape (models, g).
        table: Ranks with intervals at the axis' ranked positions.
        reigns: Who leads where.
        order: Indices of the rows, the best at the reference budget first.
    """

    axis: Axis
    rows: Sequence[BuiltRow]
    counts: NDArray[np.int32]
    table: Ranks
    reigns: Sequence[Reign]
    order: Sequence[int]

    @property
    def leader(self) -> BuiltRow | None:
        """The best row at the reference budget."""
        return self.rows[self.order[0]] if self.rows else None


@dataclass(frozen=True)
class BoardView:
    """A board with its built rows.

    Attributes:
        board: The board.
        title: ``mnist · 1000 images · standard v1``.
        axes: Its axes.
        rows: Complete rows that have all norms, in the order of their slugs: the ranked ones.
        apart: The other rows, each with why it is not ranked.
        rankings: By norm.
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

    def letter(self, slug: str) -> str:
        """The letter of a highlighted row, else empty."""
        return LETTERS[self.highlighted.index(slug)] if slug in self.highlighted else ""

    def style(self, slug: str) -> str:
        """The series' class of a highlighted row, else that of the others."""
        return f"s{self.highlighted.index(slug)}" if slug in self.highlighted else "faint"


def board_title(board: Board) -> str:
    """The board's name for people."""
    return f"{board.dataset.name} · {board.n} images · {board.protocol.name} v{board.protocol.version}"


def board_view(board: Board, built: Sequence[BuiltRow], axes: Mapping[str, Axis]) -> BoardView:
    """Rank the rows of a board in every norm."""
    complete = [b for b in built if b.row.status == "complete" and set(axes) <= set(b.numbers)]
    chosen = {id(b) for b in complete}
    apart = [(b, _why_apart(b, board)) for b in built if id(b) not in chosen]
    rankings = {norm: _ranking(axis, complete, board.n) for norm, axis in axes.items()}
    return BoardView(
        board=board,
        title=board_title(board),
        axes=axes,
        rows=complete,
        apart=apart,
        rankings=rankings,
        highlighted=_highlighted(rankings, complete),
    )


def _why_apart(built: BuiltRow, board: Board) -> str:
    status = built.row.status.value
    if status == "stale":
        return f"stale: evaluated by version {built.row.protocol.version}, the board has {board.protocol.version}"
    if status == "superseded":
        return "older weights of a model that the board ranks"
    problems = [found for found in built.summary["problems"] if found[2] != "unsupported"]
    failed = [
        f"{words.measure_title(measure)} {norm or ''}".strip()
        for measure, norm, state, _ in problems
        if state == "failed"
    ]
    waiting = len(problems) - len(failed)
    parts = [f"failed: {words.listed(failed)}"] if failed else []
    parts += [f"{waiting} of {len(built.row.cells)} evaluations still to come"] if waiting else []
    return f"incomplete: {'; '.join(parts) or 'not every norm was attacked on all samples'}"


def _ranking(axis: Axis, rows: Sequence[BuiltRow], n: int) -> Ranking:
    numbers = [built.numbers[axis.norm] for built in rows]
    counts = _stacked([found.counts for found in numbers], len(axis.grid))
    ranked = _stacked([found.ranked for found in numbers], len(axis.ranked))
    resampled = _stacked([found.resampled for found in numbers], len(axis.ranked), RESAMPLES)
    table = ranks_of_counts(ranked, resampled, eps=axis.ranked)
    reference = int(np.searchsorted(axis.grid, axis.published[0]))
    order = _order(counts[:, reference], rows, axis.norm)
    return Ranking(axis, rows, counts, table, reigns(counts, axis.grid, n), order)


def _stacked(arrays: Sequence[NDArray[Any]], *shape: int) -> NDArray[Any]:
    """Arrays of that shape as one, also where there is none."""
    return np.stack(arrays) if arrays else np.empty((0, *shape), dtype=np.int32)


def _order(counts: NDArray[np.int32], rows: Sequence[BuiltRow], norm: str) -> list[int]:
    """The best first; equals by the area under their curves, then by slug."""
    areas = [row.summary["norms"][norm]["area"][0] for row in rows]
    return sorted(range(len(rows)), key=lambda i: (-int(counts[i]), -areas[i], rows[i].slug))


def _highlighted(rankings: Mapping[str, Ranking], rows: Sequence[BuiltRow]) -> list[str]:
    """Whoever leads somewhere in some norm, the longest leads first; then the best at the reference budgets."""
    lengths: dict[str, float] = {}
    for ranking in rankings.values():
        for reign in ranking.reigns:
            for leader in reign.leaders[:1]:
                slug = ranking.rows[leader].slug
                lengths[slug] = lengths.get(slug, 0.0) + (reign.end - reign.start) / ranking.axis.maximum
    chosen = sorted(lengths, key=lambda slug: (-lengths[slug], slug))[: len(LETTERS)]
    best = [
        ranking.rows[i].slug
        for place in range(len(rows))
        for ranking in rankings.values()
        for i in ranking.order[place : place + 1]
    ]
    for slug in best:
        if len(chosen) >= min(len(LETTERS), len(rows)):
            break
        if slug not in chosen:
            chosen.append(slug)
    return chosen


def headline(view: BoardView, norm: str) -> list[tuple[str, str, str, float]]:
    """Who leads where: (letter, title, the range in words, where it begins) of each reign."""
    ranking = view.rankings[norm]
    found = []
    for k, reign in enumerate(ranking.reigns):
        names = [ranking.rows[i] for i in reign.leaders]
        until = ranking.reigns[k + 1].start if k + 1 < len(ranking.reigns) else None
        if k == 0:
            place = f"up to ε = {until:g}" if until is not None else "everywhere"
        else:
            place = f"from {reign.start:g} to {until:g}" if until is not None else f"from {reign.start:g} on"
        title = words.listed(b.title for b in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        found.append((view.letter(names[0].slug), title + (" (tied)" if len(names) > 1 else ""), place, reign.start))
    return found


@dataclass(frozen=True)
class Lead:
    """A stretch of ε in the strip that shows who leads.

    Attributes:
        start: Where it begins.
        end: Where it ends.
        letter: The leader's letter, or empty.
        style: Its series' class.
        title: The leader's title.
        clear: Whether no other model shares the first rank in the 95 % interval.
    """

    start: float
    end: float
    letter: str
    style: str
    title: str
    clear: bool


def leads(view: BoardView, norm: str) -> list[Lead]:
    """Who leads where, and where that is more than the sampling of images can explain.

    Intervals are known at the axis' ranked positions; in between the nearest one holds.
    """
    ranking = view.rankings[norm]
    ranked = ranking.axis.ranked
    middles = (ranked[1:] + ranked[:-1]) / 2
    found: list[Lead] = []
    for reign in ranking.reigns:
        leader = reign.leaders[0]
        built = ranking.rows[leader]
        edges = np.unique(np.clip(np.concatenate(([reign.start, reign.end], middles)), reign.start, reign.end))
        for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            nearest = int(np.argmin(np.abs(ranked - (start + end) / 2)))
            clear = int(ranking.table.high[leader, nearest]) == 1
            last = found[-1] if found else None
            if last is not None and last.end == start and (last.title, last.clear) == (built.title, clear):
                found[-1] = replace(last, end=end)
            else:
                found.append(Lead(start, end, view.letter(built.slug), view.style(built.slug), built.title, clear))
    return found
