"""The site's pages, one a file.

To add a page, add a file here (or an entry point of the group ``curveboard.pages``) that holds a constant
``PAGE = Page(...)``, and a template beside the others if it needs one. The page of a single model is made apart
(`sitegen.model`), since it is kept until its row changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from sqlalchemy.orm import Session

from db.queries import ChangeInfo, Overview
from sitegen.board_view import BoardView
from sitegen.grid_view import GridRanking, grid_ranking, shared_grids
from sitegen.menu import Page, pages


@dataclass(frozen=True)
class Site:
    """What pages are made from.

    Attributes:
        session: An open session, for reading.
        views: The boards with their built rows.
        changes: The changelog, the newest first.
        overview: How much the database holds.
        as_of: The moment that the site shows, if it is not the present.
        address: Where the site will be, ending in a slash; empty if that is not known.
    """

    session: Session
    views: Sequence[BoardView]
    changes: Sequence[ChangeInfo]
    overview: Overview
    as_of: datetime | None
    address: str = ""

    @cached_property
    def grids(self) -> dict[str, list[GridRanking]]:
        """Board's slug -> its models ranked by each grid that they share: several pages tell of it."""
        return {v.board.slug: [grid_ranking(v, grid) for grid in shared_grids(v)] for v in self.views}


__all__ = ["Page", "Site", "all_pages", "pages"]


def all_pages(site: Site) -> dict[str, bytes]:
    """Every file that is not a model's, by path from the site's root."""
    files: dict[str, bytes] = {}
    for page in pages().values():
        files.update(page.make(site))
    return files
