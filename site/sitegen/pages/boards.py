"""The list of boards."""

from __future__ import annotations

from functools import partial

from sitegen.pages import Page, Site
from sitegen.pages.grids import standings
from sitegen.pages.home import turns
from sitegen.render import Frame, render


def _make(site: Site) -> dict[str, bytes]:
    frame = Frame("Boards", "All boards: dataset, slice and protocol.", "../", "Boards", as_of=site.as_of)
    return {
        "boards/index.html": render(
            "boards.html", frame, views=site.views, turns_of=turns, standings_of=partial(standings, site)
        )
    }


PAGE = Page("boards", _make, menu="Boards", address="boards/index.html", order=10)
