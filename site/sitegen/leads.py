"""Who is clearly best from where to where, and where that is open: as a strip, and as one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sitegen import words
from sitegen.board_view import BoardView


@dataclass(frozen=True)
class Lead:
    """A stretch of ε in the strip that shows who leads.

    Attributes:
        start: Where it begins.
        end: Where it ends.
        letter: The leader's letter, or empty.
        style: Its series' class.
        title: The leader's title.
        clear: Whether no other model shares the first rank in the 95 % interval.
        whole: Whether distances are counts: at its end, a whole number, it leads no more.
    """

    start: float
    end: float
    letter: str
    style: str
    title: str
    clear: bool
    whole: bool = False

    @property
    def last(self) -> float:
        """The last ε at which it leads."""
        return max(self.end - 1, self.start) if self.whole else self.end


@dataclass(frozen=True)
class Phrase:
    """A model that is clearly best, and where, in words."""

    letter: str
    style: str
    title: str
    places: str


@dataclass(frozen=True)
class Sentence:
    """What can be said of who is best.

    Attributes:
        clear: Who is clearly best, where.
        open: What is to be said of the rest, as a sentence of its own; empty if nothing.
    """

    clear: Sequence[Phrase]
    open: str

    @property
    def text(self) -> str:
        """All of it without letters."""
        told = words.listed(f"{phrase.title} is clearly best {phrase.places}" for phrase in self.clear)
        return " ".join(filter(None, (f"{told}." if told else "", self.open)))


def leads(view: BoardView, threat: str) -> list[Lead]:
    """The strip of a threat."""
    ranking = view.rankings[threat]
    found = []
    for stretch in ranking.stretches:
        built = ranking.rows[stretch.leader]
        letter, style = view.letter(built.slug), view.style(built.slug)
        whole = ranking.axis.whole
        found.append(Lead(stretch.start, stretch.end, letter, style, built.title, stretch.clear, whole))
    return found


def sentence(view: BoardView, threat: str) -> Sentence:
    """Who is clearly best where; of the rest only that it is open."""
    strip = leads(view, threat)
    if len(view.rankings[threat].rows) == 1:
        return Sentence((), f"Only one model is ranked: {view.rankings[threat].rows[0].title}.")
    if not strip:
        return Sentence((), "Every model is broken at every ε above 0." if view.rankings[threat].rows else "")
    end = strip[-1].end
    places: dict[str, list[str]] = {}
    for lead in strip:
        if lead.clear:
            places.setdefault(lead.title, []).append(_place(lead, end))
    first = {lead.title: lead for lead in reversed(strip)}
    clear = [Phrase(first[t].letter, first[t].style, t, words.listed(own)) for t, own in places.items()]
    unclear = any(not lead.clear for lead in strip)
    n = view.board.n
    if not clear:
        told = f"No model is clearly best anywhere: the first ranks are within the sampling error of {words.images(n)}."
    elif unclear:
        told = f"Elsewhere the first rank is within the sampling error of {words.images(n)}."
    else:
        told = ""
    told = " ".join(filter(None, (told, _ahead(view, threat))))
    return Sentence(clear, " ".join(filter(None, (told, _broken(view, threat, end)))))


def _broken(view: BoardView, threat: str, end: float) -> str:
    """From where on no model is robust on any image; empty where one is at the end of the axis."""
    ranking = view.rankings[threat]
    if ranking.counts[:, -1].any():
        return ""
    where = f"From ε = {words.number(end)} on" if ranking.axis.whole else f"Beyond ε = {words.number(end)}"
    return f"{where} every model is broken."


def _ahead(view: BoardView, threat: str) -> str:
    """Who is ahead at the reference budget, and of how many that may be chance; empty where the lead there is clear."""
    ranking, axis = view.rankings[threat], view.axes[threat]
    if ranking.leader is None:
        return ""
    counts = ranking.counts[:, axis.at_published[0]]
    first = int((ranking.table.low[:, int(np.searchsorted(axis.ranked, axis.published[0]))] == 1).sum())
    level = int((counts == counts.max()).sum())
    if first < 2:
        return ""
    where = f"At ε = {words.number(axis.published[0])}"
    if level >= first:
        return f"{where}, {level} models are level at the top."
    if level > 1:
        return f"{where}, {level} models are level at the top, and any of {first} may be the best."
    return f"{where}, {ranking.leader.title} is ahead, but any of {first} models may be the best."


def _place(lead: Lead, end: float) -> str:
    start, last = words.number(lead.start), words.number(lead.last)
    if lead.end == end:
        return f"from ε = {start} on" if lead.start else "everywhere"
    if lead.last == lead.start:
        return f"at ε = {start}"
    return f"from {start} to {last}" if lead.start else f"up to ε = {last}"
