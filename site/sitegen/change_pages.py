"""The changelog as a page and as an Atom feed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from db.queries import ChangeInfo
from sitegen.board_view import BoardView
from sitegen.changes import Story, by_norm, move_text, story
from sitegen.render import Frame, render

SHOWN: Final = 200
"""Entries on the page and in the feed; a model's page has all of its own."""


def change_pages(
    views: Sequence[BoardView], changes: Sequence[ChangeInfo], *, as_of: datetime | None
) -> dict[str, bytes]:
    """``changes/index.html`` and ``changes/atom.xml``."""
    frame = Frame("Changes", "What changed on the boards, and by which attack.", "../", "Changes", as_of=as_of)
    stories = [story(change) for change in changes[:SHOWN]]
    homes = {
        built.slug: f"{view.folder}/models/{built.page_folder}/index.html" for view in views for built in view.rows
    }
    page = render("changes.html", frame, page={"history": stories}, homes=homes, total=len(changes))
    return {"changes/index.html": page, "changes/atom.xml": _atom(stories, as_of).encode()}


def _atom(stories: Sequence[Story], as_of: datetime | None) -> str:
    """RFC 4287; the feed's date is its newest entry's, so that the same database gives the same bytes."""
    updated = stories[0].at if stories else as_of or datetime(1970, 1, 1, tzinfo=UTC)
    entries = "".join(_entry(entry) for entry in stories)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom">\n'
        "<title>Curveboard: changes</title>\n<id>urn:curveboard:changes</id>\n"
        "<author><name>Curveboard</name></author>\n"
        f'<link rel="alternate" type="text/html" href="index.html"/>\n<updated>{updated.isoformat()}</updated>\n'
        f"{entries}</feed>\n"
    )


def _entry(entry: Story) -> str:
    told = [f"{norm} {move_text(move)}." for _, norm, moves in by_norm(entry.moves[:12]) for move in moves]
    text = " ".join([*entry.sentences, *told])
    return (
        f"<entry><title>{escape(entry.title)}</title><id>urn:curveboard:change:{entry.id}</id>"
        f"<updated>{entry.at.isoformat()}</updated><link href={quoteattr(f'index.html#change-{entry.id}')}/>"
        f"<summary>{escape(text)}</summary></entry>\n"
    )
