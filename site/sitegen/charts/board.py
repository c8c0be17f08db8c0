"""A board's charts: all curves of a threat over each other, and the map of ranks with its crossings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmark.curve import Floats
from sitegen import words
from sitegen.board_view import BoardView, Ranking
from sitegen.charts.backdrop import backdrop
from sitegen.charts.badges import letter_places, rank_letter_places
from sitegen.charts.base import Chart, Line, Mark, eps_chart
from sitegen.leads import sentence

TOP: Final = 12
"""Ranks that the map of ranks shows."""
DRAWN: Final = 500
"""Curves in a chart: the best ones."""
TURN: Final = 0.25
"""Share of the way to the next number, under a count, on which lines of places change."""
INLINE: Final = 24
"""Grey curves that a page holds itself; more are a picture behind the others."""
MARKED: Final = 150
"""Crossings that are marked at most: of more, those with a highlighted model; of still more, those between two."""


def curves_chart(view: BoardView, threat: str, *, figures: str = "") -> Chart:
    """All curves of a threat, at every position of its axis: highlighted ones with a letter, the others grey.

    Args:
        view: The board.
        threat: The threat.
        figures: Where the page finds the folder of pictures; without it every curve is drawn.
    """
    ranking, axis = view.rankings[threat], view.axes[threat]
    front, back = _front(view, ranking), _back(view, ranking)
    behind = bool(figures) and len(back) > INLINE
    places = letter_places(ranking.counts[front], view.board.n, axis.grid)
    lines = [] if behind else [_curve(view, ranking, i, ()) for i in reversed(back)]
    lettered = [_curve(view, ranking, i, (float(axis.grid[place]),)) for i, place in zip(front, places, strict=True)]
    said = sentence(view, threat).text
    return replace(
        eps_chart(axis),
        title=f"Robustness curves in {axis.symbol}",
        description=f"Robust accuracy of {len(ranking.rows)} models against ε. {said}",
        lines=lines + lettered[::-1],
        css="board curves",
        context=_context(len(back), len(ranking.rows) - len(front)),
        backdrop=f"{figures}backdrop-{threat}.png" if behind else "",
    )


def _context(drawn: int, others: int) -> str:
    """What the grey lines are called."""
    if drawn < others:
        return f"the best {drawn} of {others} others"
    return f"{others} other{'s' if others > 1 else ''}" if others else ""


def _front(view: BoardView, ranking: Ranking) -> list[int]:
    """The highlighted rows, the best at the reference budget first."""
    return [i for i in ranking.order if view.letter(ranking.rows[i].slug)]


def _back(view: BoardView, ranking: Ranking) -> list[int]:
    return [i for i in ranking.order if not view.letter(ranking.rows[i].slug)][: DRAWN - len(view.highlighted)]


def picture(view: BoardView, threat: str) -> bytes | None:
    """The grey curves as a picture; None where a page holds them."""
    ranking = view.rankings[threat]
    back = _back(view, ranking)
    return backdrop(ranking.counts[back], view.board.n, ranking.axis.grid) if len(back) > INLINE else None


def _curve(view: BoardView, ranking: Ranking, index: int, letter_at: tuple[float, ...]) -> Line:
    built = ranking.rows[index]
    letter = view.letter(built.slug)
    style = f"{view.style(built.slug)} thick" if letter else "faint"
    share = ranking.counts[index] / view.board.n
    title = built.title if letter else ""
    return Line(title, ranking.axis.grid, share, style, True, letter, letter_at, built.slug)


def ranks_chart(view: BoardView, threat: str) -> Chart:
    """The map of ranks: each model's place at each ε, and where two change places."""
    ranking, axis = view.rankings[threat], view.axes[threat]
    top = min(len(ranking.rows), TOP)
    positions = rank_positions(ranking)
    places = place_matrix(ranking, positions)
    shown = [i for i in range(len(ranking.rows)) if np.nanmin(places[i], initial=np.inf) <= top]
    back = [i for i in shown if not view.letter(ranking.rows[i].slug)][:DRAWN]
    front = [i for i in shown if view.letter(ranking.rows[i].slug)]
    x = axis.grid[positions]
    if axis.whole:
        x, places = held(x, places)
    everyone = [*front, *back]
    found = crossings_of(x, places[everyone], top)
    for of in (min, max):
        if len(found) > MARKED:
            found = [crossing for crossing in found if of(crossing[2:]) < len(front)]
    letters = rank_letter_places([places[i] for i in front], x, top, [(at, place) for at, place, _, _ in found])
    lettered = dict(zip(front, letters, strict=True))
    if axis.whole:  # the last place is held until the number at which nothing is left
        places[:, 1:] = np.where(np.isnan(places[:, 1:]), places[:, :-1], places[:, 1:])
    lines = []
    for i in (*back, *front):
        built = ranking.rows[i]
        letter = view.letter(built.slug)
        style = f"{view.style(built.slug)} thick" if letter else "faint"
        title = built.title if letter else ""
        ends = lettered.get(i, ())
        lines.append(Line(title, *_within(x, places[i], top), style, False, letter, ends, built.slug))
    starts = {i: float(places[i, 0]) for i in front}
    said = ", ".join(f"{ranking.rows[i].title} {place:.0f}" for i, place in sorted(starts.items(), key=lambda s: s[1]))
    return replace(
        eps_chart(axis),
        title=f"Ranks in {axis.symbol}",
        description=f"Place of each model at each ε, 1 is the best. At ε = 0: {said or 'none'}.",
        y_label="rank",
        y_range=(top + 0.5, 0.5),
        y_ticks=[(place, str(place)) for place in range(1, top + 1)],
        marks=[lead.start for lead in ranking.lead_ranges[1:]],
        lines=lines,
        crossings=_marks(ranking, everyone, len(front), found),
        css="board ranks",
        legend=False,
    )


def _within(x: Floats, places: Floats, top: int) -> tuple[Floats, Floats]:
    """The line of these places without those below the map, but for the ones to or from which it leads.

    It is broken between one that it leads down to and one that it comes back from: it does not run along the edge.
    """
    inside = places <= top + 0.5
    near = inside.copy()
    near[1:] |= inside[:-1]
    near[:-1] |= inside[1:]
    kept = np.where(near, places, np.nan)
    gone = np.flatnonzero(~inside[:-1] & ~inside[1:] & near[:-1] & near[1:]) + 1
    return np.insert(x, gone, (x[gone - 1] + x[gone]) / 2), np.insert(kept, gone, np.nan)


def _marks(
    ranking: Ranking, shown: Sequence[int], front: int, found: Sequence[tuple[float, float, int, int]]
) -> list[Mark]:
    """Crossings as marks; those of two highlighted models, which are the first ``front``, say who overtakes whom."""
    marks = []
    for at, place, ahead, behind in found:
        first, second = (ranking.rows[shown[k]] for k in (ahead, behind))
        if max(ahead, behind) < front:
            told = f"{first.title} overtakes {second.title} {_where(ranking, at, shown[ahead], shown[behind])}"
            marks.append(Mark(at, place, told, (first.slug, second.slug)))
        else:
            marks.append(Mark(at, place))
    return marks


def _where(ranking: Ranking, at: float, ahead: int, behind: int) -> str:
    """Where the first of two models overtakes the second, in words; of counts, the first number where it is ahead."""
    axis = ranking.axis
    if not axis.whole:
        return f"near ε = {at:.3g}"
    positions = rank_positions(ranking)
    k = int(np.searchsorted(axis.grid[positions], at))
    between = np.arange(positions[k - 1], positions[k] + 1)
    places = place_matrix(ranking, between)
    changed = between[np.flatnonzero(~(places[ahead] < places[behind]))[-1] + 1]
    exact = axis.grid[changed] - axis.grid[changed - 1] == 1
    return f"{'at' if exact else 'near'} ε = {words.number(float(axis.grid[changed]))}"


def held(x: Floats, places: Floats) -> tuple[Floats, Floats]:
    """Lines of places under a count: each place is held until shortly before the number at which it changes."""
    after = np.arange(1, len(x))
    return np.insert(x, after, x[1:] - TURN * np.diff(x)), np.insert(places, after, places[:, :-1], axis=1)


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
    published = np.array(ranking.axis.at_published)
    return np.unique(np.concatenate((np.arange(0, len(ranking.axis.grid), every), published)))


def place_matrix(ranking: Ranking, positions: NDArray[np.int64]) -> Floats:
    """Place of each model at each position, ties broken by area: (models, positions); NaN where all are broken."""
    areas = np.array([row.record.threats[ranking.axis.threat].area.value for row in ranking.rows])
    counts = ranking.counts[:, positions]
    by_area = np.argsort(-areas, kind="stable")
    order = by_area[np.argsort(-counts[by_area], axis=0, kind="stable")]
    places = np.empty(counts.shape)
    np.put_along_axis(places, order, np.arange(1.0, len(order) + 1)[:, None], axis=0)
    return np.where(counts == 0, np.nan, places)
