"""How each number is measured, with its formula and its limits."""

from __future__ import annotations

from sitegen.pages import Page, Site
from sitegen.render import Frame, render
from sitegen.words import FLAGS


def _make(site: Site) -> dict[str, bytes]:
    told = "What is measured, each number with its formula and its limits."
    frame = Frame("Method", told, "", "Method", as_of=site.as_of)
    return {"method.html": render("method.html", frame, flags=sorted(FLAGS.items()))}


PAGE = Page("method", _make, menu="Method", address="method.html", order=50)
