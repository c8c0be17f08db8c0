"""How many models each board compares."""

from sitegen.pages import Page
from sitegen.render import Frame, render


def make(site):
    frame = Frame("Totals", "How many models each board compares.", "", "Totals", as_of=site.as_of)
    return {"totals.html": render("totals.html", frame, views=site.views)}


PAGE = Page("totals", make, menu="Totals", address="totals.html")
