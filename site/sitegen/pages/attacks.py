"""A page for each source of adversarial examples: what it decided, how near it comes to the best known, its cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from db.schema import State
from sitegen.board_view import BoardView
from sitegen.facts import source_of
from sitegen.pages import Page, Site
from sitegen.records import CreditRecord
from sitegen.render import Frame, render
from sitegen.rows import BuiltRow
from sitegen.threats import UNION, symbol


@dataclass(frozen=True)
class Line:
    """A source against one model under one threat."""

    view: BoardView
    built: BuiltRow
    threat: str
    credit: CreditRecord

    @property
    def symbol(self) -> str:
        """The threat as the literature writes it."""
        return symbol(self.threat)


@dataclass(frozen=True)
class Total:
    """A source on one board under one threat: sums, and means over the models."""

    view: BoardView
    symbol: str
    models: int
    decided: int
    alone: int
    lowered: float
    optimality: float | None
    seconds: float
    passes: int


@dataclass(frozen=True)
class AttackView:
    """Everything about a source."""

    slug: str
    title: str
    about: str
    paper: str
    lines: Sequence[Line]
    totals: Sequence[Total]
    contributors: Sequence[str]

    @property
    def decided(self) -> int:
        """Samples it decided, under all threats and on all boards."""
        return sum(total.decided for total in self.totals)

    @property
    def alone(self) -> int:
        """Samples it alone decided."""
        return sum(total.alone for total in self.totals)


def _make(site: Site) -> dict[str, bytes]:
    """The attacks' pages and their list."""
    views, as_of = site.views, site.as_of
    attacks = _attacks(views)
    index = Frame("Attacks", "Which attack decided how many samples, and at what cost.", "../", "Attacks", as_of=as_of)
    pages = {"attacks/index.html": render("attacks.html", index, attacks=attacks)}
    for attack in attacks:
        frame = Frame(
            attack.title,
            f"What {attack.title} decided on every board, and at what cost.",
            "../",
            "Attacks",
            crumbs=(("Attacks", "index.html"),),
            as_of=as_of,
        )
        pages[f"attacks/{attack.slug}.html"] = render("attack.html", frame, attack=attack)
    return pages


def _attacks(views: Sequence[BoardView]) -> list[AttackView]:
    lines: dict[str, list[Line]] = {}
    for line in _lines(views):
        lines.setdefault(line.credit.slug, []).append(line)
    contributors = _contributors(views)
    found = []
    for slug, own in lines.items():
        told = _told(own)
        title = told.title if len({line.credit.title for line in own}) == 1 else slug
        strongest, totals = _strongest(own), _totals(own)
        found.append(AttackView(slug, title, told.about, told.paper, strongest, totals, contributors.get(slug, [])))
    return sorted(found, key=lambda attack: (-attack.decided, attack.slug))


def _lines(views: Sequence[BoardView]) -> Iterator[Line]:
    for view in views:
        for built in view.everyone:
            for threat, figures in built.record.threats.items():
                for credit in figures.credits if threat != UNION else ():
                    yield Line(view, built, threat, credit)


def _told(lines: Sequence[Line]) -> CreditRecord:
    """What a source is and its paper, as the newest evaluation that says so recorded it."""
    newest = max(lines, key=lambda x: (bool(x.credit.about), x.built.record.finished, x.built.slug))
    return newest.credit


def _strongest(lines: Sequence[Line]) -> list[Line]:
    """The lines to show: at most 300, those that matter most."""
    return sorted(lines, key=lambda x: (-x.credit.alone, -x.credit.decided, x.built.slug, x.threat))[:300]


def _totals(lines: Sequence[Line]) -> list[Total]:
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.view.board.slug, line.threat), []).append(line)
    totals = []
    for (_, threat), own in groups.items():
        credits = [line.credit for line in own]
        known = [credit.optimality for credit in credits if credit.optimality is not None]
        totals.append(
            Total(
                view=own[0].view,
                symbol=symbol(threat),
                models=len(own),
                decided=sum(credit.decided for credit in credits),
                alone=sum(credit.alone for credit in credits),
                lowered=sum(credit.lowered for credit in credits) / len(own),
                optimality=sum(known) / len(known) if known else None,
                seconds=sum(credit.seconds for credit in credits),
                passes=sum(credit.passes for credit in credits),
            )
        )
    return totals


def _contributors(views: Sequence[BoardView]) -> dict[str, list[str]]:
    """Author and paper of what was handed in: evaluations whose parameters name an author."""
    found: dict[str, set[str]] = {}
    for view in views:
        for built in view.everyone:
            for evaluation in built.row.others:
                author = str(evaluation.parameters.get("author") or "")
                paper = str(evaluation.parameters.get("paper") or "")
                if author and evaluation.state is State.DONE:
                    text = f"{author}, {paper}" if paper else author
                    found.setdefault(source_of(evaluation).slug, set()).add(text)
    return {slug: sorted(names) for slug, names in found.items()}


PAGE = Page("attacks", _make, menu="Attacks", address="attacks/index.html", order=20)
