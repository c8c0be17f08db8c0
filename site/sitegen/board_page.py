"""A board's pages: for each norm the curves, the map of ranks, who leads where, the table; and the scripts' data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmark.curve import Floats
from benchmark.statistics import Ranks, ranks_of_counts
from db.queries import Board
from sitegen import words
from sitegen.axes import SYMBOLS, Axis
from sitegen.numbers import RESAMPLES
from sitegen.plots import Chart, Line
from sitegen.ranking import Reign, reigns
from sitegen.render import Frame, render
from sitegen.rows import BuiltRow
from sitegen.scripts_data import push, words16

PAGE_ROWS: Final = 200
"""Rows of a static page; the rest follow on pages of their own."""
LETTERS: Final = "ABCDEFGH"
TOP: Final = 12
"""Ranks that the map of ranks shows."""
DRAWN: Final = 200
"""Curves in a chart: the best ones."""


@dataclass(frozen=True)
class TableRow:
    """A row of the static table."""

    built: BuiltRow
    letter: str
    rank: int
    rank_low: int
    rank_high: int
    figures: Mapping[str, Any]

    @property
    def ranks(self) -> str:
        """The interval of the rank: ``1–3``."""
        return str(self.rank_low) if self.rank_low == self.rank_high else f"{self.rank_low}–{self.rank_high}"


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


def _stacked(arrays: Sequence[NDArray[np.int32]], *shape: int) -> NDArray[np.int32]:
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


def curves_chart(view: BoardView, norm: str) -> Chart:
    """All curves of a norm: highlighted ones in colour with a letter, the others grey."""
    ranking, axis = view.rankings[norm], view.axes[norm]
    drawn = [i for i in ranking.order if not view.letter(ranking.rows[i].slug)][: DRAWN - len(view.highlighted)]
    lines = [_curve(view, ranking, i, points=24 if len(drawn) > 40 else 60) for i in reversed(drawn)]
    front = [i for i in ranking.order if view.letter(ranking.rows[i].slug)]
    lines += [_curve(view, ranking, i, points=140) for i in reversed(front)]
    leaders = "; ".join(f"{title} {place}" for _, title, place, _ in headline(view, norm))
    return Chart(
        title=f"Robustness curves in {axis.symbol}",
        description=f"Robust accuracy of {len(ranking.rows)} models against ε. The best: {leaders or 'none'}.",
        x_label=axis.label,
        y_label="robust accuracy",
        x_range=(0.0, axis.maximum),
        x_ticks=axis.ticks,
        marks=axis.published,
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
    """The map of ranks: each model's place at each ε."""
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
    starts = {i: float(places[i, 0]) for i in front}
    said = ", ".join(f"{ranking.rows[i].title} {place:.0f}" for i, place in sorted(starts.items(), key=lambda s: s[1]))
    return Chart(
        title=f"Ranks in {axis.symbol}",
        description=f"Place of each model at each ε, 1 is the best. At ε = 0: {said or 'none'}.",
        x_label=axis.label,
        y_label="rank",
        x_range=(0.0, axis.maximum),
        y_range=(top + 0.5, 0.5),
        x_ticks=axis.ticks,
        y_ticks=[(place, str(place)) for place in range(1, top + 1)],
        marks=[reign.start for reign in ranking.reigns[1:]],
        lines=lines,
        css="board ranks",
    )


def rank_positions(ranking: Ranking) -> NDArray[np.int64]:
    """Positions of the grid at which the map of ranks is drawn: about 120, the published ones among them."""
    every = max(len(ranking.axis.grid) // 120, 1)
    published = np.searchsorted(ranking.axis.grid, ranking.axis.published)
    return np.unique(np.concatenate((np.arange(0, len(ranking.axis.grid), every), published)))


def place_matrix(ranking: Ranking, positions: NDArray[np.int64]) -> Floats:
    """Place of each model at each position, ties broken by area: (models, positions); NaN where all are broken."""
    areas = np.array([row.summary["norms"][ranking.axis.norm]["area"][0] for row in ranking.rows])
    by_area = np.argsort(np.argsort(-areas, kind="stable"), kind="stable")
    places = np.empty((len(ranking.rows), len(positions)))
    for k, position in enumerate(positions):
        counts = ranking.counts[:, position]
        order = np.lexsort((by_area, -counts))
        places[order, k] = np.arange(1, len(order) + 1)
        places[counts == 0, k] = np.nan
    return places


def table_rows(view: BoardView, norm: str) -> list[TableRow]:
    """The ranked rows at the norm's reference budget, the best first."""
    ranking = view.rankings[norm]
    reference = int(np.searchsorted(ranking.axis.ranked, ranking.axis.published[0]))
    table = ranking.table
    return [
        TableRow(
            built=ranking.rows[i],
            letter=view.letter(ranking.rows[i].slug),
            rank=int(table.rank[i, reference]),
            rank_low=int(table.low[i, reference]),
            rank_high=int(table.high[i, reference]),
            figures=ranking.rows[i].summary["norms"][norm],
        )
        for i in ranking.order
    ]


def board_pages(view: BoardView, *, as_of: datetime | None) -> dict[str, bytes]:
    """Every page and data file of the board, by path from the site's root."""
    files: dict[str, bytes] = {f"{view.folder}/models.js": _models_js(view)}
    for norm in view.axes:
        files[f"{view.folder}/{norm}.js"] = _norm_js(view, norm)
        rows = table_rows(view, norm)
        parts = [rows[i : i + PAGE_ROWS] for i in range(0, len(rows), PAGE_ROWS)] or [[]]
        names = [_page_name(view, norm, k) for k in range(len(parts))]
        for k, part in enumerate(parts):
            files[f"{view.folder}/{names[k]}"] = _page(view, norm, part, page=k, names=names, as_of=as_of)
    return files


def _page_name(view: BoardView, norm: str, page: int) -> str:
    first = next(iter(view.axes))
    stem = "index" if norm == first else norm
    return f"{stem}.html" if page == 0 else f"{norm}-{page + 1}.html"


def _page(
    view: BoardView,
    norm: str,
    rows: Sequence[TableRow],
    *,
    page: int,
    names: Sequence[str],
    as_of: datetime | None,
) -> bytes:
    axis = view.axes[norm]
    frame = Frame(
        title=f"{view.title}, {axis.symbol}" + (f", page {page + 1}" if page else ""),
        description=f"{len(view.rows)} models ranked by their whole robustness curve in {axis.symbol} on {view.title}.",
        root="../../",
        section="Boards",
        crumbs=(("Boards", "../index.html"),),
        scripts=("../../static/charts.js", "../../static/board.js", "models.js", f"{norm}.js") if page == 0 else (),
        as_of=as_of,
        wide=True,
    )
    tabs = [(name, SYMBOLS[name], _page_name(view, name, 0), view.rankings[name].leader) for name in view.axes]
    return render(
        "board.html",
        frame,
        view=view,
        norm=norm,
        axis=axis,
        tabs=tabs,
        rows=rows,
        page=page,
        pages=names,
        reigns=headline(view, norm),
        curves=curves_chart(view, norm) if view.rows else None,
        ranks=ranks_chart(view, norm) if view.rows else None,
    )


def _models_js(view: BoardView) -> bytes:
    """What scripts need to know of each row, whatever the norm."""
    models = []
    for built in view.rows:
        card = built.row.model.card
        models.append(
            {
                "slug": built.slug,
                "title": built.title,
                "letter": view.letter(built.slug),
                "clean": built.summary["clean"],
                "arch": built.summary["architecture"],
                "method": card.get("training_method") or "",
                "threat": _threat(card),
                "year": card.get("year"),
                "venue": card.get("venue") or "",
                "extra": bool(card.get("extra_data")),
                "size": built.summary["parameters"],
                "flags": built.summary["flags"],
                "authors": words.listed(map(str, card.get("authors") or [])),
            }
        )
    return push("models", {"n": view.board.n, "highlighted": list(view.highlighted), "models": models})


def _threat(card: Mapping[str, Any]) -> str:
    norm, eps = card.get("training_norm"), card.get("training_eps")
    return "" if not norm else f"{SYMBOLS.get(norm, norm)} {eps:g}" if eps else SYMBOLS.get(norm, norm)


def _norm_js(view: BoardView, norm: str) -> bytes:
    """The curves at every position of the slider, and the ranks' intervals."""
    ranking, axis = view.rankings[norm], view.axes[norm]
    figures = [built.summary["norms"][norm] for built in ranking.rows]
    return push(
        "norm",
        {
            "norm": norm,
            "symbol": axis.symbol,
            "label": axis.label,
            "grid": [float(f"{eps:.10g}") for eps in axis.grid],
            "ticks": list(axis.ticks),
            "published": list(axis.published),
            "ranked": [float(f"{eps:.10g}") for eps in axis.ranked],
            "counts": [f["falls"] for f in figures],
            "low": words16(ranking.table.low),
            "high": words16(ranking.table.high),
            "area": [f["area"] for f in figures],
            "median": [f["median"] for f in figures],
            "clever": [f["clever"] for f in figures],
            "certified": [f["certified"] for f in figures],
            "decided": [f["decided"] for f in figures],
            "reigns": headline(view, norm),
        },
    )
