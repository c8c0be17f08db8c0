"""The site's pages, one a file.

To add a page, add a file here (or an entry point of the group ``curveboard.pages``) that holds a constant
``PAGE = Page(...)``, and a template beside the others if it needs one. The page of a single model is made apart
(`sitegen.model`), since it is kept until its row changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from sqlalchemy.orm import Session

from benchmark.plugins import discover
from db.queries import ChangeInfo, Overview
from sitegen.board_view import BoardView


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


@dataclass(frozen=True)
class Page:
    """A page of the site, or several of one kind.

    Attributes:
        name: Unique.
        make: The site -> its files by their path from the site's root.
        menu: Its title in the site's menu; empty to leave it out.
        address: Where the menu leads to, from the site's root.
        order: Its place in the menu.
    """

    name: str
    make: Callable[[Site], Mapping[str, bytes]]
    menu: str = ""
    address: str = ""
    order: int = 100


def pages() -> Mapping[str, Page]:
    """All pages by name."""
    return cast("Mapping[str, Page]", discover(__name__, "PAGE"))


def all_pages(site: Site) -> dict[str, bytes]:
    """Every file that is not a model's, by path from the site's root."""
    files: dict[str, bytes] = {}
    for page in pages().values():
        files.update(page.make(site))
    return files
