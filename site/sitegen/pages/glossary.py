"""The words of the site."""

from __future__ import annotations

from sitegen.glossary import GLOSSARY
from sitegen.pages import Page, Site
from sitegen.render import Frame, render


def _make(site: Site) -> dict[str, bytes]:
    frame = Frame("Glossary", "The words of this site.", "", as_of=site.as_of)
    return {"glossary.html": render("glossary.html", frame, words=sorted(GLOSSARY.items()))}


PAGE = Page("glossary", _make)
