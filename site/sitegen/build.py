"""Build the site: read the database once, build each row apart, put the pages together beside the old site, swap.

The site is a pure function of the database (and of the evidence files, for pictures): the same database gives the same
bytes. A build that fails leaves the old site as it was.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy.orm import Session

from db import queries
from db.queries import Board, ChangeInfo
from db.session import Database
from sitegen import links
from sitegen.axes import Axis, axes, published
from sitegen.board_view import BoardView, board_threats, board_title, board_view
from sitegen.changes import told
from sitegen.pages import Site, all_pages
from sitegen.render import STATIC
from sitegen.rows import PAGE, BuiltRow, RowTask, is_built, load_row
from sitegen.staging import Kept, exclusively, refuse_foreign, staged
from sitegen.suites import SuiteSheet, suite_sheets
from sitegen.workers import build_rows

ALONE: Final = 24
"""Rows to build from which on processes of their own are worth their start."""


@dataclass(frozen=True)
class BuildReport:
    """What a build did.

    Attributes:
        output: The site's folder.
        boards: Number of boards.
        rows: Number of rows on all boards.
        built: Rows that were built anew; the others were kept from the last build.
        pages: Number of HTML pages.
        files: Number of files.
        bytes: Their size.
        largest: The largest HTML page (path, bytes).
    """

    output: Path
    boards: int
    rows: int
    built: int
    pages: int
    files: int
    bytes: int
    largest: tuple[str, int]

    @property
    def index(self) -> Path:
        """The page to open."""
        return self.output / "index.html"


def build(
    database: Database,
    output: Path,
    *,
    artifacts: Path | str,
    as_of: datetime | None = None,
    jobs: int | None = None,
    cache: Path | None = None,
    bundles: Mapping[str, Path] | None = None,
    gone: Collection[int] = (),
    address: str = "",
) -> BuildReport:
    """Build the site into ``output``.

    Args:
        database: The database.
        output: The site's folder; made, or replaced if it is a site.
        artifacts: Folder or URL of the evidence, for the pictures.
        as_of: Show the boards as they stood at that moment.
        jobs: Processes; by default one for each processor.
        cache: Where rows are kept between builds; by default beside ``output``.
        bundles: Digest of a model -> its bundle, to be offered on its page; the file's name says what is in it.
        gone: Ids of models of which the workspace has the files no more.
        address: Where the site will be (``https://…/``), for the feed; without it the feed's links are relative.

    Raises:
        BrokenLinkError: If a page links to what is not there.
        InputError: If ``output`` is a folder that is no site.
    """
    output = output.absolute()
    refuse_foreign(output)
    cache = output.with_name(f".{output.name}-cache") if cache is None else cache.absolute()
    with exclusively(output):
        return _build(
            database,
            output,
            artifacts=artifacts,
            as_of=as_of,
            jobs=jobs,
            cache=cache,
            bundles=bundles or {},
            gone=gone,
            address=address and address.rstrip("/") + "/",
        )


def _build(
    database: Database,
    output: Path,
    *,
    artifacts: Path | str,
    as_of: datetime | None,
    jobs: int | None,
    cache: Path,
    bundles: Mapping[str, Path],
    gone: Collection[int],
    address: str,
) -> BuildReport:
    with database.read() as session:
        boards = queries.boards(session, as_of=as_of)
        changes = queries.changes(session, as_of=as_of)
        overview = queries.overview(session)
        axis_of = {board.slug: board_axes(session, board) for board in boards}
        sheets = {board.dataset.id: suite_sheets(session, board.dataset) for board in boards}
    tasks = {
        board.slug: _tasks(
            database,
            board,
            changes,
            axis_of=axis_of[board.slug],
            artifacts=artifacts,
            as_of=as_of,
            cache=cache,
            bundles=bundles,
            gone=gone,
            sheets=sheets[board.dataset.id],
        )
        for board in boards
    }
    everything = [task for own in tasks.values() for task in own]
    built = _build_rows(everything, jobs)
    views = [board_view(b, [load_row(task) for task in tasks[b.slug]], axis_of[b.slug]) for b in boards]
    with database.read() as session:
        pages = all_pages(Site(session, views, told(changes), overview, as_of, address))
    rows = {page_folder(view, row): row for view in views for row in view.everyone}
    sizes = _sizes(pages, rows)
    _check_links(pages, rows, sizes)
    kept = {path: Kept(row.folder / PAGE, row.folder.name, frozenset(row.files.sizes)) for path, row in rows.items()}
    with staged(output, kept) as folder:
        _write(folder, pages)
    report = _report(sizes, views, output=output, built=built)
    _prune(cache, {task.folder.name for task in everything})
    return report


def board_axes(session: Session, board: Board) -> dict[str, Axis]:
    """The axes of a board; those of threats without published budgets follow what the attacks have found."""
    threats = board_threats(board)
    unstated = [threat for threat in threats if not published(board.dataset.card, threat)]
    largest = {t: queries.largest_distance(session, board.dataset.id, t) for t in unstated}
    return axes(board.dataset.card, threats, largest)


def _tasks(
    database: Database,
    board: Board,
    changes: Sequence[ChangeInfo],
    *,
    axis_of: Mapping[str, Axis],
    artifacts: Path | str,
    as_of: datetime | None,
    cache: Path,
    bundles: Mapping[str, Path],
    gone: Collection[int],
    sheets: Mapping[str, SuiteSheet],
) -> list[RowTask]:
    by_model: dict[int, list[ChangeInfo]] = {}
    for change in changes:
        if change.model_id is not None and change.dataset_id in {None, board.dataset.id}:
            by_model.setdefault(change.model_id, []).append(change)
    return [
        RowTask(
            url=database.url.render_as_string(hide_password=False),
            dataset=board.dataset,
            n=board.n,
            board_title=board_title(board),
            row=row,
            changes=tuple(by_model.get(row.model.id, ())),
            artifacts=artifacts.absolute() if isinstance(artifacts, Path) else artifacts,
            as_of=as_of,
            cache=cache,
            axes=axis_of,
            bundle=bundles.get(row.model.digest),
            gone=row.model.id in gone,
            sheets=sheets,
        )
        for row in board.rows
    ]


def _build_rows(tasks: Sequence[RowTask], jobs: int | None) -> int:
    """Build the rows that are not there yet; returns how many."""
    wanted = [task for task in tasks if not is_built(task)]
    workers = jobs or len(os.sched_getaffinity(0))
    build_rows(wanted, workers=1 if len(wanted) < ALONE else min(workers, len(wanted)))
    return len(wanted)


def page_folder(view: BoardView, row: BuiltRow) -> str:
    """Where a row's page and files are in the site."""
    return f"{view.folder}/models/{row.page_folder}"


def _write(folder: Path, pages: Mapping[str, bytes]) -> None:
    for name, content in pages.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    shutil.copytree(STATIC, folder / "static")


def _sizes(pages: Mapping[str, bytes], rows: Mapping[str, BuiltRow]) -> dict[str, int]:
    """Every file of the site with its size."""
    sizes = {name: len(content) for name, content in pages.items()}
    sizes |= {f"static/{path.name}": path.stat().st_size for path in STATIC.iterdir()}
    for path, row in rows.items():
        sizes |= {f"{path}/{name}": size for name, size in row.files.sizes.items()}
    return sizes


def _check_links(pages: Mapping[str, bytes], rows: Mapping[str, BuiltRow], files: Mapping[str, int]) -> None:
    """Check the links of all pages; those of a row's page that stay in its folder were checked when it was built.

    The folders of a board's rows are siblings, so that a link that leads out of one means the same in all of them and
    is checked for the first.
    """
    found = {name: links.of(content) for name, content in pages.items() if name.endswith(".html")}
    seen: set[tuple[str, str]] = set()
    for path, row in rows.items():
        board = path.rpartition("/")[0]
        new = {target for target in row.files.outside if (board, target) not in seen}
        seen |= {(board, target) for target in new}
        found[f"{path}/index.html"] = links.Links(new, set(row.files.ids))
    links.check(found, files)


def _report(sizes: Mapping[str, int], views: Sequence[BoardView], *, output: Path, built: int) -> BuildReport:
    html = {name: size for name, size in sizes.items() if name.endswith(".html")}
    return BuildReport(
        output=output,
        boards=len(views),
        rows=sum(len(view.everyone) for view in views),
        built=built,
        pages=len(html),
        files=len(sizes) + 1,
        bytes=sum(sizes.values()),
        largest=max(html.items(), key=lambda item: (item[1], item[0])),
    )


def _prune(cache: Path, used: set[str]) -> None:
    """Forget rows that the site no longer shows, and what a killed build left behind."""
    if cache.is_dir():
        for entry in cache.iterdir():
            if entry.name not in used:
                shutil.rmtree(entry, ignore_errors=True)
