"""How to take part."""

from __future__ import annotations

from sitegen.pages import Page, Site
from sitegen.render import Frame, render


def _make(site: Site) -> dict[str, bytes]:
    frame = Frame("Submit", "Put a model on the board, or challenge one.", "", "Submit", as_of=site.as_of)
    return {"submit.html": render("submit.html", frame)}


PAGE = Page("submit", _make, menu="Submit", address="submit.html", order=60)
