"""Build the site: read the database once, build each row apart, put the pages together beside the old site, swap.

The site is a pure function of the database (and of the evidence files, for pictures): the same database gives the same
bytes. A build that fails leaves the old site as it was.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from benchmark.errors import InputError
from db import queries
from db.queries import Board, ChangeInfo
from db.session import Database
from sitegen import crossings, links
from sitegen.axes import axes
from sitegen.board_page import BoardView, board_pages, board_title, board_view
from sitegen.other_pages import other_pages
from sitegen.render import STATIC
from sitegen.rows import PAGE, RowTask, is_built, load_row
from sitegen.workers import build_rows

MARKER: Final = ".curveboard-site"
"""A file in every built site: only a folder that has it, or an empty one, is ever replaced."""
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
    artifacts: Path,
    as_of: datetime | None = None,
    jobs: int | None = None,
    cache: Path | None = None,
) -> BuildReport:
    """Build the site into ``output``.

    Args:
        database: The database.
        output: The site's folder; made, or replaced if it is a site.
        artifacts: Folder of the evidence, for the pictures.
        as_of: Show the boards as they stood at that moment.
        jobs: Processes; by default one for each processor.
        cache: Where rows are kept between builds; by default beside ``output``.

    Raises:
        CrossingError: If a certificate exceeds a verified distance.
        BrokenLinkError: If a page links to what is not there.
        InputError: If ``output`` is a folder that is no site.
    """
    output = output.absolute()
    _refuse_foreign(output)
    cache = output.with_name(f".{output.name}-cache") if cache is None else cache.absolute()
    with database.read() as session:
        boards = queries.boards(session, as_of=as_of)
        changes = queries.changes(session, as_of=as_of)
        overview = queries.overview(session)
    tasks = {
        board.slug: _tasks(database, board, changes, artifacts=artifacts, as_of=as_of, cache=cache) for board in boards
    }
    everything = [task for own in tasks.values() for task in own]
    built = _build_rows(everything, jobs)
    views = [_view(board, tasks[board.slug]) for board in boards]
    pages: dict[str, bytes] = {}
    for view in views:
        pages.update(board_pages(view, as_of=as_of))
    with database.read() as session:
        pages.update(other_pages(session, views, changes, overview, as_of=as_of))
    with _beside(output) as folder:
        _write(folder, pages, views)
        report = _report(folder, pages, views, output=output, built=built)
    _prune(cache, {task.folder.name for task in everything})
    return report


def _tasks(
    database: Database,
    board: Board,
    changes: Sequence[ChangeInfo],
    *,
    artifacts: Path,
    as_of: datetime | None,
    cache: Path,
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
            artifacts=artifacts.absolute(),
            as_of=as_of,
            cache=cache,
        )
        for row in board.rows
    ]


def _build_rows(tasks: Sequence[RowTask], jobs: int | None) -> int:
    """Build the rows that are not there yet; returns how many."""
    wanted = [task for task in tasks if not is_built(task)]
    workers = jobs or len(os.sched_getaffinity(0))
    build_rows(wanted, workers=1 if len(wanted) < ALONE else min(workers, len(wanted)))
    return len(wanted)


def _view(board: Board, tasks: Sequence[RowTask]) -> BoardView:
    return board_view(board, [load_row(task) for task in tasks], axes(board.dataset.card))


def _write(folder: Path, pages: Mapping[str, bytes], views: Sequence[BoardView]) -> None:
    for name, content in pages.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    for view in views:
        for built in view.everyone:
            target = folder / view.folder / "models" / built.page_folder
            shutil.copytree(built.folder / PAGE, target, copy_function=_link)
    shutil.copytree(STATIC, folder / "static")
    (folder / MARKER).write_text("This folder is a built site; curveboard publish replaces it.\n", encoding="utf-8")


def _link(source: str, target: str) -> None:
    """Give a file of the cache a second name in the site; copy it where that cannot be done."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _report(
    folder: Path, pages: Mapping[str, bytes], views: Sequence[BoardView], *, output: Path, built: int
) -> BuildReport:
    found = {name: links.of(content) for name, content in pages.items() if name.endswith(".html")}
    sizes = {name: len(content) for name, content in pages.items() if name.endswith(".html")}
    for view in views:
        for row in view.everyone:
            page = f"{view.folder}/models/{row.page_folder}/index.html"
            found[page] = links.Links(set(row.summary["links"]), set(row.summary["ids"]))
            sizes[page] = (folder / page).stat().st_size
    files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    links.check(found, files)
    return BuildReport(
        output=output,
        boards=len(views),
        rows=sum(len(view.everyone) for view in views),
        built=built,
        pages=len(sizes),
        files=len(files),
        bytes=sum(files.values()),
        largest=max(sizes.items(), key=lambda item: (item[1], item[0])),
    )


def _refuse_foreign(output: Path) -> None:
    if output.exists() and (not output.is_dir() or (any(output.iterdir()) and not (output / MARKER).is_file())):
        raise InputError(f"{output} exists and is no built site; it is left alone. Give another folder, or remove it.")


@contextmanager
def _beside(output: Path) -> Iterator[Path]:
    """A new folder beside ``output`` that takes its place if all goes well, and vanishes otherwise."""
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = output.with_name(f".{output.name}-building-{os.getpid()}")
    old = output.with_name(f".{output.name}-old-{os.getpid()}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
        if output.exists():
            output.rename(old)
        try:
            folder.rename(output)
        except OSError:
            if old.exists():
                old.rename(output)
            raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _prune(cache: Path, used: set[str]) -> None:
    """Forget rows that the site no longer shows, and what a killed build left behind."""
    if cache.is_dir():
        for entry in cache.iterdir():
            if entry.name.startswith(crossings.PREFIX):
                if not set(entry.stem.split("-")[1:3]) <= used:
                    entry.unlink(missing_ok=True)
            elif entry.name not in used:
                shutil.rmtree(entry, ignore_errors=True)
