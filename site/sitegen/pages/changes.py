"""The changelog as a page and as an Atom feed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from sitegen.changes import Story, by_norm, move_text, story
from sitegen.pages import Page, Site
from sitegen.render import Frame, render

SHOWN: Final = 200
"""Entries on the page and in the feed; a model's page has all of its own."""


def _make(site: Site) -> dict[str, bytes]:
    """``changes/index.html`` and ``changes/atom.xml``."""
    frame = Frame("Changes", "What changed on the boards, and by which attack.", "../", "Changes", as_of=site.as_of)
    stories = [story(change) for change in site.changes[:SHOWN]]
    homes = {
        built.slug: f"{view.folder}/models/{built.page_folder}/index.html" for view in site.views for built in view.rows
    }
    page = render("changes.html", frame, page={"history": stories}, homes=homes, total=len(site.changes))
    return {"changes/index.html": page, "changes/atom.xml": _atom(stories, _name(site), site).encode()}


def _name(site: Site) -> str:
    """A name of this site that no other has: the digest of its first model's; two sites may be in one reader."""
    first = min(((c.at, c.id, c.model or "", str(c.detail)) for c in site.changes), default=None)
    return hashlib.sha256(repr(first).encode()).hexdigest()[:16]


def _atom(stories: Sequence[Story], name: str, site: Site) -> str:
    """RFC 4287; the feed's date is its newest entry's, so that the same database gives the same bytes."""
    updated = stories[0].at if stories else site.as_of or datetime(1970, 1, 1, tzinfo=UTC)
    home = f"{site.address}changes/" if site.address else ""
    entries = "".join(_entry(entry, name, home) for entry in stories)
    itself = f'<link rel="self" type="application/atom+xml" href={quoteattr(f"{home}atom.xml")}/>\n' if home else ""
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom">\n'
        f"<title>Curveboard: changes</title>\n<id>urn:curveboard:{name}:changes</id>\n"
        "<author><name>Curveboard</name></author>\n"
        f'<link rel="alternate" type="text/html" href={quoteattr(f"{home}index.html")}/>\n{itself}'
        f"<updated>{updated.isoformat()}</updated>\n"
        f"{entries}</feed>\n"
    )


def _entry(entry: Story, name: str, home: str) -> str:
    told = [f"{norm} {move_text(move)}." for _, norm, moves in by_norm(entry.moves[:12]) for move in moves]
    text = " ".join([*entry.sentences, *told])
    return (
        f"<entry><title>{escape(entry.title)}</title><id>urn:curveboard:{name}:change:{entry.id}</id>"
        f"<updated>{entry.at.isoformat()}</updated><link href={quoteattr(f'{home}index.html#change-{entry.id}')}/>"
        f"<summary>{escape(text)}</summary></entry>\n"
    )


PAGE = Page("changes", _make, menu="Changes", address="changes/index.html", order=40)
