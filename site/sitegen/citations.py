"""How a board is cited."""

from __future__ import annotations

from sitegen.board_view import BoardView
from sitegen.model.files import bibtex_entry


def board_bibtex(view: BoardView) -> str:
    """The BibTeX entry of the board itself."""
    year = max((built.record.finished[:4] for built in view.everyone), default="")
    fields = {"title": f"Robustness curves: {view.title}", "author": "Curveboard", "year": year}
    note = f"{len(view.everyone)} models; dataset {view.board.dataset.digest[:16]}"
    return bibtex_entry(view.board.slug, {**fields, "note": note})
