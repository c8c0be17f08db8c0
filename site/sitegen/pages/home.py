"""The first page: who leads where, the boards, the latest changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sitegen.axes import Axis
from sitegen.board_view import BoardView
from sitegen.changes import Story, story
from sitegen.charts.base import Chart
from sitegen.charts.board import curves_chart
from sitegen.leads import Lead, Sentence, leads, sentence
from sitegen.pages import Page, Site
from sitegen.pages.grids import standings
from sitegen.render import Frame, render

STORIES = 6


@dataclass(frozen=True)
class Turn:
    """Who leads where under one threat of a board."""

    axis: Axis
    sentence: Sentence
    leads: Sequence[Lead]


@dataclass(frozen=True)
class HomePage:
    """The context of the first page's template; ``featured`` is the board with curves of most rows, then threats."""

    views: Sequence[BoardView]
    featured: BoardView | None
    turns: Sequence[Turn]
    chart: Chart | None
    stories: Sequence[Story]


def turns(view: BoardView) -> list[Turn]:
    """Who leads where under each threat of a board."""
    return [Turn(axis, sentence(view, threat), leads(view, threat)) for threat, axis in view.axes.items()]


def _make(site: Site) -> dict[str, bytes]:
    featured = max(site.views, key=lambda v: (bool(v.axes), len(v.rows), len(v.axes), v.board.n), default=None)
    chart = None
    if featured is not None and featured.rows and featured.axes:
        chart = curves_chart(featured, next(iter(featured.axes)), figures=f"{featured.folder}/figures/")
    page = HomePage(
        views=site.views,
        featured=featured,
        turns=turns(featured) if featured is not None else [],
        chart=chart,
        stories=[story(change) for change in site.changes[:STORIES]],
    )
    frame = Frame(
        "Robustness leaderboards from whole curves",
        "Image classifiers ranked by their whole robustness curve, with certificates and evidence.",
        "",
        as_of=site.as_of,
    )
    return {"index.html": render("home.html", frame, page=page, turns_of=turns, standings_of=partial(standings, site))}


PAGE = Page("home", _make)
