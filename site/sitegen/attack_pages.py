"""A page for each source of adversarial examples: what it decided, how near it comes to the best known, its cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from db.schema import State
from sitegen.axes import NORMS, SYMBOLS
from sitegen.board_view import BoardView
from sitegen.facts import source_of
from sitegen.render import Frame, render
from sitegen.rows import BuiltRow


@dataclass(frozen=True)
class Line:
    """A source against one model in one norm."""

    view: BoardView
    built: BuiltRow
    norm: str
    decided: int
    alone: int
    lowered: float
    optimality: float | None
    seconds: float
    passes: int


@dataclass(frozen=True)
class Total:
    """A source on one board in one norm: sums, and means over the models."""

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
        """Samples it decided, in all norms and on all boards."""
        return sum(total.decided for total in self.totals)

    @property
    def alone(self) -> int:
        """Samples it alone decided."""
        return sum(total.alone for total in self.totals)


def attack_pages(views: Sequence[BoardView], *, as_of: datetime | None) -> dict[str, bytes]:
    """The attacks' pages and their list."""
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
        pages[f"attacks/{attack.slug}.html"] = render("attack.html", frame, attack=attack, symbols=SYMBOLS)
    return pages


def _attacks(views: Sequence[BoardView]) -> list[AttackView]:
    lines: dict[str, list[Line]] = {}
    titles: dict[str, set[str]] = {}
    for slug, title, line in _lines(views):
        lines.setdefault(slug, []).append(line)
        titles.setdefault(slug, set()).add(title)
    contributors, told = _contributors(views), _told(views)
    found = []
    for slug, own in lines.items():
        names = sorted(titles[slug])
        title = names[0] if len(names) == 1 else slug
        about, paper = told.get(slug, ("", ""))
        found.append(AttackView(slug, title, about, paper, _strongest(own), _totals(own), contributors.get(slug, [])))
    return sorted(found, key=lambda attack: (-attack.decided, attack.slug))


def _lines(views: Sequence[BoardView]) -> Iterator[tuple[str, str, Line]]:
    for view in views:
        for built in view.everyone:
            for norm in NORMS:
                for slug, title, *figures in built.summary["norms"].get(norm, {}).get("credits", ()):
                    yield slug, title, Line(view, built, norm, *figures)


def _told(views: Sequence[BoardView]) -> dict[str, tuple[str, str]]:
    """What each source is and its paper, as the newest evaluation that says so recorded it."""
    rows = [built for view in views for built in view.everyone]
    rows.sort(key=lambda built: (built.summary["finished"] or "", built.slug))
    return {
        slug: (about, paper) for built in rows for slug, (about, paper) in built.summary["sources"].items() if about
    }


def _strongest(lines: Sequence[Line]) -> list[Line]:
    """The lines to show: at most 300, those that matter most."""
    return sorted(lines, key=lambda x: (-x.alone, -x.decided, x.built.slug, x.norm))[:300]


def _totals(lines: Sequence[Line]) -> list[Total]:
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.view.board.slug, line.norm), []).append(line)
    totals = []
    for (_, norm), own in groups.items():
        known = [line.optimality for line in own if line.optimality is not None]
        totals.append(
            Total(
                view=own[0].view,
                symbol=SYMBOLS[norm],
                models=len(own),
                decided=sum(line.decided for line in own),
                alone=sum(line.alone for line in own),
                lowered=sum(line.lowered for line in own) / len(own),
                optimality=sum(known) / len(known) if known else None,
                seconds=sum(line.seconds for line in own),
                passes=sum(line.passes for line in own),
            )
        )
    return totals


def _contributors(views: Sequence[BoardView]) -> dict[str, list[str]]:
    """Author and paper of challenges, as they were handed in."""
    found: dict[str, set[str]] = {}
    for view in views:
        for built in view.everyone:
            for evaluation in built.row.others:
                if evaluation.measure == "challenge" and evaluation.state is State.DONE:
                    author = str(evaluation.parameters.get("author") or "anonymous")
                    paper = str(evaluation.parameters.get("paper") or "")
                    text = f"{author}, {paper}" if paper else author
                    found.setdefault(source_of(evaluation).slug, set()).add(text)
    return {slug: sorted(names) for slug, names in found.items()}
