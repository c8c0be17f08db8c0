"""Pages beside the boards: home, list of boards, method, submit, glossary; and whoever makes the others."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from db.queries import ChangeInfo, Overview
from sitegen.attack_pages import attack_pages
from sitegen.axes import SYMBOLS, Axis
from sitegen.board_charts import curves_chart
from sitegen.board_view import BoardView, Lead, headline, leads
from sitegen.change_pages import change_pages
from sitegen.changes import story
from sitegen.compare_page import compare_pages
from sitegen.dataset_pages import dataset_pages
from sitegen.downloads import download_pages
from sitegen.glossary import GLOSSARY
from sitegen.render import Frame, render
from sitegen.words import FLAGS


def other_pages(
    session: Session,
    views: Sequence[BoardView],
    changes: Sequence[ChangeInfo],
    overview: Overview,
    *,
    as_of: datetime | None,
) -> dict[str, bytes]:
    """Every page that is not a board's or a model's, by path from the site's root."""
    pages = _general_pages(views, changes, overview, as_of)
    pages.update(compare_pages(session, views, as_of=as_of))
    pages.update(attack_pages(views, as_of=as_of))
    pages.update(dataset_pages(session, views, as_of=as_of))
    pages.update(change_pages(views, changes, as_of=as_of))
    pages.update(download_pages(views, changes, as_of=as_of))
    return pages


def _general_pages(
    views: Sequence[BoardView], changes: Sequence[ChangeInfo], overview: Overview, as_of: datetime | None
) -> dict[str, bytes]:
    featured = max(views, key=lambda v: (len(v.rows), v.board.n), default=None)
    home = Frame(
        "Robustness leaderboards from whole curves",
        "Image classifiers ranked by their whole robustness curve in three norms, with certificates and evidence.",
        "",
        as_of=as_of,
    )
    boards = Frame("Boards", "All boards: dataset, slice and protocol.", "../", "Boards", as_of=as_of)
    method = Frame(
        "Method", "What is measured, each number with its formula and its limits.", "", "Method", as_of=as_of
    )
    submit = Frame("Submit", "Put a model on the board, or challenge one.", "", "Submit", as_of=as_of)
    glossary = Frame("Glossary", "The words of this site.", "", as_of=as_of)
    return {
        "index.html": render(
            "home.html",
            home,
            views=views,
            featured=featured,
            turns=_turns(featured) if featured else [],
            axis=next(iter(featured.axes.values())) if featured else None,
            chart=curves_chart(featured, next(iter(featured.axes))) if featured and featured.rows else None,
            stories=[story(change) for change in changes[:6]],
            overview=overview,
            turns_of=_turns,
        ),
        "boards/index.html": render("boards.html", boards, views=views, turns_of=_turns),
        "method.html": render("method.html", method, flags=sorted(FLAGS.items())),
        "submit.html": render("submit.html", submit),
        "glossary.html": render("glossary.html", glossary, words=sorted(GLOSSARY.items())),
    }


def _turns(view: BoardView) -> list[tuple[str, list[tuple[str, str, str, float]], list[Lead], Axis]]:
    """Who leads where in each norm: its symbol, the words, the strip, the axis."""
    return [(SYMBOLS[norm], headline(view, norm), leads(view, norm), axis) for norm, axis in view.axes.items()]
