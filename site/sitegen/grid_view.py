"""The grids that the rows of a board share, and where their pages are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmark.results import Output
from sitegen.board_view import BoardView
from sitegen.grid_ranks import Place, ranking, same_images
from sitegen.grids import GridKey, GridNumbers, declared_grids
from sitegen.rows import BuiltRow
from sitegen.threats import titled

MOST_POSITIONS: Final = 16
"""Positions of the second axis that have a table each; of more, the table over all stands alone."""


@dataclass(frozen=True)
class SharedGrid:
    """A grid that several rows of a board have.

    Attributes:
        key: Which.
        output: Its declaration.
        stem: Of its files in the board's folder.
    """

    key: GridKey
    output: Output
    stem: str

    @property
    def title(self) -> str:
        """Its title, with its threat if it speaks of one."""
        return titled(self.output)

    @property
    def address(self) -> str:
        """Of its page, from the board's folder."""
        return f"{self.stem}.html"


@dataclass(frozen=True)
class Section:
    """The models at one position of the second axis, or over all.

    Attributes:
        anchor: Its fragment.
        label: Of the position; ``all`` over all of them.
        at: Places on the second axis.
        places: The models, the best first.
    """

    anchor: str
    label: str
    at: Sequence[int]
    places: Sequence[Place]


@dataclass(frozen=True)
class GridRanking:
    """Models ranked by a grid.

    Attributes:
        grid: Which.
        rows: Rows that have it on the same images.
        numbers: Their grids.
        sections: Over all positions, then at each of them.
        apart: Rows that are not ranked, each with the reason.
    """

    grid: SharedGrid
    rows: Sequence[BuiltRow]
    numbers: Sequence[GridNumbers]
    sections: Sequence[Section]
    apart: Sequence[tuple[BuiltRow, str]]


def shared_grids(view: BoardView) -> list[SharedGrid]:
    """The grids of two axes that at least two compared rows have, in the order in which they are declared."""
    declared = [declared_grids(built.row.cells) for built in view.rows]
    counted = Counter(key for own in declared for key in own)
    outputs: dict[GridKey, Output] = {}
    for own in declared:
        outputs = own | outputs
    found: list[SharedGrid] = []
    for key in sorted((k for k in outputs if counted[k] > 1), key=lambda k: (-counted[k], k)):
        base = re.sub(r"[^a-z0-9]+", "-", f"grid {key.output}".lower()).strip("-")
        again = sum(grid.stem == base or grid.stem.startswith(f"{base}-") for grid in found)
        found.append(SharedGrid(key, outputs[key], f"{base}-{again + 1}" if again else base))
    return found


def grid_ranking(view: BoardView, grid: SharedGrid) -> GridRanking:
    """Rank a board's rows by a grid; whoever cannot be compared stands apart with the reason."""
    own = {b.slug: b.grids[grid.key.text] for b in view.rows if grid.key.text in b.grids}
    most = same_images(own) if own else 0
    rows = [b for b in view.rows if b.slug in own and own[b.slug].samples == most]
    numbers = [own[b.slug] for b in rows]
    apart = [(b, _why(b, grid, own, most)) for b in view.rows if b not in rows]
    second = grid.output.axes[1]
    everything = range(len(second.labels))
    sections = [Section("all", "all", everything, ranking(numbers, grid.output, everything))]
    if 1 < len(second.labels) <= MOST_POSITIONS:
        for k, label in enumerate(second.labels):
            anchor = f"at-{k + 1}"
            sections.append(Section(anchor, label, (k,), ranking(numbers, grid.output, (k,))))
    return GridRanking(grid, rows, numbers, sections, [*apart, *view.apart])


def _why(built: BuiltRow, grid: SharedGrid, own: Mapping[str, GridNumbers], most: int) -> str:
    if built.slug in own:
        return f"measured on {own[built.slug].samples} images, the others on {most}"
    measure = grid.key.output.partition(".")[0]
    for problem in built.record.problems:
        if problem.measure == measure:
            return f"{measure} {problem.state}: {problem.reason}".rstrip(": ")
    other = any(key.output == grid.key.output for key in declared_grids(built.row.cells))
    return f"{measure} was measured with other parameters" if other else f"{measure} was not measured"
