"""The field of a board against cost and year, for readers without scripts: their board leads here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sitegen.axes import Axis
from sitegen.board_view import BoardView
from sitegen.charts.base import Chart
from sitegen.charts.field import Against, against_charts
from sitegen.pages import Page, Site
from sitegen.render import Frame, render


@dataclass(frozen=True)
class FieldPage:
    """The context of the template: the board, the threat's axis, and each chart with who has no value in it."""

    view: BoardView
    axis: Axis
    charts: Sequence[tuple[Against, Chart, str]]


def _make(site: Site) -> dict[str, bytes]:
    files = {}
    for view in site.views:
        for threat, axis in view.axes.items():
            if not view.rankings[threat].rows or not (charts := against_charts(view, threat)):
                continue
            frame = Frame(
                title=f"The field, {view.title}, {axis.symbol}",
                description=f"Robust accuracy against what models cost, and their year, on {view.title}.",
                root="../../",
                section="Boards",
                crumbs=(("Boards", "../index.html"), (view.title, "index.html")),
                as_of=site.as_of,
            )
            page = FieldPage(view, axis, charts)
            files[f"{view.folder}/field-{threat}.html"] = render("field.html", frame, page=page)
    return files


PAGE = Page("field", _make)
