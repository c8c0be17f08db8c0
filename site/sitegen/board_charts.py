"""A board's charts: all curves of a norm over each other, and the map of ranks with its crossings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmark.curve import Floats
from sitegen.board_view import BoardView, Ranking, headline
from sitegen.plots import Chart, Line, Mark, eps_chart

TOP: Final = 12
"""Ranks that the map of ranks shows."""
DRAWN: Final = 200
"""Curves in a chart: the best ones."""
MARKED: Final = 500
"""Crossings that are marked at most: where there are more, only those of highlighted models are."""


def curves_chart(view: BoardView, norm: str) -> Chart:
    """All curves of a norm: highlighted ones in colour with a letter, the others grey."""
    ranking, axis = view.rankings[norm], view.axes[norm]
    drawn = [i for i in ranking.order if not view.letter(ranking.rows[i].slug)][: DRAWN - len(view.highlighted)]
    lines = [_curve(view, ranking, i, points=24 if len(drawn) > 40 else 60) for i in reversed(drawn)]
    front = [i for i in ranking.order if view.letter(ranking.rows[i].slug)]
    lines += [_curve(view, ranking, i, points=140) for i in reversed(front)]
    leaders = "; ".join(f"{title} {place}" for _, title, place, _ in headline(view, norm))
    return replace(
        eps_chart(axis),
        title=f"Robustness curves in {axis.symbol}",
        description=f"Robust accuracy of {len(ranking.rows)} models against ε. The best: {leaders or 'none'}.",
        lines=lines,
        css="board curves",
    )


def _curve(view: BoardView, ranking: Ranking, index: int, *, points: int) -> Line:
    built, axis = ranking.rows[index], ranking.axis
    share = ranking.counts[index] / view.board.n
    kept = _thinned(share, points, keep=np.searchsorted(axis.grid, axis.published))
    letter = view.letter(built.slug)
    at: tuple[float, ...] = ()
    if letter:
        place = view.highlighted.index(built.slug)
        level = float(share[0]) * (0.86 - 0.66 * place / max(len(view.highlighted) - 1, 1))
        at = (float(axis.grid[int(np.argmax(share <= level))] if (share <= level).any() else axis.maximum),)
    style = f"{view.style(built.slug)} thick" if letter else "faint"
    return Line(built.title if letter else "", axis.grid[kept], share[kept], style, True, letter, at, built.slug)


def _thinned(share: Floats, points: int, *, keep: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions at which a falling curve is drawn: those where it crosses one of ``points`` levels, and ``keep``."""
    level = np.floor(share * points)
    wanted = np.concatenate(([True], level[1:] != level[:-1]))
    wanted[keep] = True
    wanted[-1] = True
    return np.flatnonzero(wanted)


def ranks_chart(view: BoardView, norm: str) -> Chart:
    """The map of ranks: each model's place at each ε, and where two change places."""
    ranking, axis = view.rankings[norm], view.axes[norm]
    top = min(len(ranking.rows), TOP)
    positions = rank_positions(ranking)
    places = place_matrix(ranking, positions)
    shown = [i for i in range(len(ranking.rows)) if np.nanmin(places[i], initial=np.inf) <= top]
    back = [i for i in shown if not view.letter(ranking.rows[i].slug)][:DRAWN]
    front = [i for i in shown if view.letter(ranking.rows[i].slug)]
    lines = []
    x = axis.grid[positions]
    for i in (*back, *front):
        built = ranking.rows[i]
        letter = view.letter(built.slug)
        style = f"{view.style(built.slug)} thick" if letter else "faint"
        ends: tuple[float, ...] = ()
        if letter and (inside := np.flatnonzero(places[i] <= top)).size:
            ends = (float(x[inside[0]]), float(x[inside[-1]]))
        lines.append(Line("", x, places[i], style, False, letter, ends, built.slug))
    everyone = [*front, *back]
    found = crossings_of(x, places[everyone], top)
    if len(found) > MARKED:
        found = crossings_of(x, places[front], top)
    starts = {i: float(places[i, 0]) for i in front}
    said = ", ".join(f"{ranking.rows[i].title} {place:.0f}" for i, place in sorted(starts.items(), key=lambda s: s[1]))
    return replace(
        eps_chart(axis),
        title=f"Ranks in {axis.symbol}",
        description=f"Place of each model at each ε, 1 is the best. At ε = 0: {said or 'none'}.",
        y_label="rank",
        y_range=(top + 0.5, 0.5),
        y_ticks=[(place, str(place)) for place in range(1, top + 1)],
        marks=[reign.start for reign in ranking.reigns[1:]],
        lines=lines,
        crossings=_marks(ranking, everyone, len(front), found),
        css="board ranks",
    )


def _marks(
    ranking: Ranking, shown: Sequence[int], front: int, found: Sequence[tuple[float, float, int, int]]
) -> list[Mark]:
    """Crossings as marks; those of two highlighted models, which are the first ``front``, say who overtakes whom."""
    marks = []
    for at, place, ahead, behind in found:
        titles = [ranking.rows[shown[k]].title for k in (ahead, behind)]
        told = f"{titles[0]} overtakes {titles[1]} near ε = {at:.3g}" if max(ahead, behind) < front else ""
        marks.append(Mark(at, place, told))
    return marks


def crossings_of(x: Floats, places: Floats, top: int) -> list[tuple[float, float, int, int]]:
    """Where lines of places cross.

    Args:
        x: Positions, shape (k,), rising.
        places: Place of each model at each position, shape (models, k); NaN where it has none.
        top: Crossings below this place are left out.

    Returns:
        (position, place, who is ahead after it, who is behind), by position.
    """
    gap = places[:, None, :] - places[None, :, :]
    with np.errstate(invalid="ignore"):
        flips = (gap[..., :-1] > 0) & (gap[..., 1:] < 0)  # the first was behind and is ahead after it
    found = []
    for ahead, behind, k in np.argwhere(flips):
        share = gap[ahead, behind, k] / (gap[ahead, behind, k] - gap[ahead, behind, k + 1])
        place = places[ahead, k] + share * (places[ahead, k + 1] - places[ahead, k])
        if place <= top + 0.5:
            found.append((float(x[k] + share * (x[k + 1] - x[k])), float(place), int(ahead), int(behind)))
    return sorted(found)


def rank_positions(ranking: Ranking) -> NDArray[np.int64]:
    """Positions of the grid at which the map of ranks is drawn: about 120, the published ones among them."""
    every = max(len(ranking.axis.grid) // 120, 1)
    published = np.searchsorted(ranking.axis.grid, ranking.axis.published)
    return np.unique(np.concatenate((np.arange(0, len(ranking.axis.grid), every), published)))


def place_matrix(ranking: Ranking, positions: NDArray[np.int64]) -> Floats:
    """Place of each model at each position, ties broken by area: (models, positions); NaN where all are broken."""
    areas = np.array([row.summary["norms"][ranking.axis.norm]["area"][0] for row in ranking.rows])
    counts = ranking.counts[:, positions]
    by_area = np.argsort(-areas, kind="stable")
    order = by_area[np.argsort(-counts[by_area], axis=0, kind="stable")]
    places = np.empty(counts.shape)
    np.put_along_axis(places, order, np.arange(1.0, len(order) + 1)[:, None], axis=0)
    return np.where(counts == 0, np.nan, places)
