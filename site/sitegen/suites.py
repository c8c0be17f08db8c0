"""Pictures of a suite's cells: one sheet of the site for each dataset and suite, of which pages show parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from benchmark.results import Output
from db import queries
from db.queries import SUITE, DatasetInfo
from sitegen.pictures import png, to_pixels


@dataclass(frozen=True)
class SuiteSheet:
    """A sheet with one image in every cell: the first axis down, the second across.

    Attributes:
        address: From the site's root.
        cells: Lengths of the axes.
        size: (height, width) of a picture, in pixels.
        absent: Cells without a picture: they could not be had (`benchmark.board.suite_pictures`).
    """

    address: str
    cells: tuple[int, int]
    size: tuple[int, int]
    absent: frozenset[tuple[int, int]] = frozenset()

    def tile(self, root: str, down: int, across: int, label: str, *, side: int = 48) -> Markup:
        """One cell's picture, scaled so that its longer side is ``side`` pixels of the page; blank if there is none."""
        label = label.replace("_", " ")
        scale = side / max(self.size)
        h, w = (length * scale for length in self.size)
        if (down, across) in self.absent:
            blank = Markup('<span class="tile absent" title="{}: no picture" style="width:{}px;height:{}px"></span>')
            return blank.format(label, f"{w:g}", f"{h:g}")
        style = (
            f"width:{w:g}px;height:{h:g}px;background:url({root}{self.address}) {-across * w:g}px {-down * h:g}px/"
            f"{self.cells[1] * w:g}px {self.cells[0] * h:g}px"
        )
        return Markup('<span class="tile" role="img" aria-label="{}" title="{}" style="{}"></span>').format(
            label, label, style
        )


def suite_sheets(session: Session, dataset: DatasetInfo) -> dict[str, SuiteSheet]:
    """The sheets of a dataset, by the suite's name."""
    found = {}
    for name in queries.dataset_arrays(session, dataset.id):
        if name.startswith(SUITE) and (pictures := _pictures(session, dataset, name)) is not None:
            a, s, _, h, w = pictures.shape
            suite = name.removeprefix(SUITE)
            address = f"suites/{dataset.name}-{dataset.digest[:8]}-{suite}.png"
            absent = frozenset((int(i), int(j)) for i, j in np.argwhere(~pictures.any(axis=(2, 3, 4))))
            found[suite] = SuiteSheet(address, (a, s), (h, w), absent)
    return found


def sheet_files(session: Session, dataset: DatasetInfo) -> dict[str, bytes]:
    """The sheets' files, by path from the site's root."""
    files = {}
    for suite, sheet in suite_sheets(session, dataset).items():
        pictures = _pictures(session, dataset, f"{SUITE}{suite}")
        assert pictures is not None
        files[sheet.address] = _sheet(pictures)
    return files


def _pictures(session: Session, dataset: DatasetInfo, name: str) -> NDArray[np.uint8] | None:
    stored = queries.dataset_array(session, dataset.id, name)
    return stored if stored is not None and stored.ndim == 5 and stored.dtype == np.uint8 else None


def _sheet(pictures: NDArray[np.uint8]) -> bytes:
    rows = [np.concatenate([to_pixels(cell) for cell in row], axis=1) for row in pictures]
    return png(np.concatenate(rows, axis=0), effort=6)


def sheet_of(sheets: Mapping[str, SuiteSheet], parameters: Mapping[str, Any], output: Output) -> SuiteSheet | None:
    """The sheet of the suite that a grid's parameters name, if its cells are those of the grid."""
    sheet = sheets.get(str(parameters.get("suite", "")))
    fits = sheet is not None and tuple(len(axis.labels) for axis in output.axes) == sheet.cells
    return sheet if fits else None
