"""A row's part of the site, computed once and kept until something it depends on changes.

Each row is built into a folder of its own in the cache: its page with all files, and the numbers that the pages of the
whole board need. The folder's name is the digest of everything the row depends on, this program's text included.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import benchmark.curve
import benchmark.statistics
from benchmark.board.verdicts import row_data
from benchmark.curve import Floats
from benchmark.evidence.store import EvidenceStore
from benchmark.plugins import workspace_folder
from db import queries
from db.queries import ChangeInfo, DatasetInfo, Row, RowStatus
from db.schema import State
from db.session import Database
from db.texts import plain
from sitegen import links
from sitegen.axes import Axis
from sitegen.charts.pdf import pdf
from sitegen.facts import RowFacts, row_facts
from sitegen.grids import GridNumbers, grid_numbers, load_grids, save_grids
from sitegen.menu import navigation
from sitegen.model.page import model_page, page_bytes
from sitegen.model.sections import Bundle
from sitegen.model.strips import PictureData
from sitegen.numbers import Numbers, load_numbers, numbers_of, save_numbers
from sitegen.pictures import Examples
from sitegen.records import (
    FilesRecord,
    RowRecord,
    Summary,
    load,
    save,
)
from sitegen.row_record import record_of
from sitegen.scripts_data import bins_js
from sitegen.sheets import adversarial_sheet
from sitegen.staging import link_or_copy
from sitegen.suites import SuiteSheet

SUMMARY: Final = "summary.json"
NUMBERS: Final = "numbers.bin"
LACKING: Final = "lacking.txt"
"""Digests of evidence that was not at hand when the row was built."""
PAGE: Final = "page"
"""Subfolder of the files that go into the site."""


@dataclass(frozen=True)
class RowTask:
    """What a row is built from; plain values, to be sent to another process."""

    url: str
    dataset: DatasetInfo
    n: int
    board_title: str
    row: Row
    changes: tuple[ChangeInfo, ...]
    artifacts: Path | str
    as_of: datetime | None
    cache: Path
    axes: Mapping[str, Axis]
    bundle: Path | None = None
    gone: bool = False
    """Whether the workspace has the model's files no more."""
    sheets: Mapping[str, SuiteSheet] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Digest of everything the row's page depends on."""
        model, evaluations = self.row.model, (*self.row.cells, *self.row.others)
        facts = [
            program_digest(),
            [self.dataset.name, self.dataset.digest, self.dataset.title, self.dataset.card],
            [self.n, self.board_title, self.row.status, self.row.protocol.name, self.row.protocol.version],
            [model.slug, model.digest, model.title, model.card, model.added_at, model.withdrawn, self.gone],
            [[e.key, e.state, e.reason, e.finished_at, e.outputs] for e in sorted(evaluations, key=lambda e: e.id)],
            [[threat, axis.published, axis.maximum, axis.reference] for threat, axis in self.axes.items()],
            [[change.id, change.at, change.called, change.detail] for change in self.changes],
            self.as_of,
            self.bundle.name if self.bundle else None,
            sorted((name, sheet.address, sheet.cells, sheet.size) for name, sheet in self.sheets.items()),
        ]
        text = json.dumps(facts, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:40]

    @cached_property
    def folder(self) -> Path:
        """Where the row is kept."""
        return self.cache / self.fingerprint


def program_digest() -> str:
    """Digest of the program's text: a changed template or formula makes every page anew."""
    return _program_digest(workspace_folder())


@cache
def _program_digest(root: Path | None) -> str:
    homes = [Path(__file__).parent, *([root / "pages", root / "panels"] if root is not None else [])]
    files = [p for home in homes for p in sorted(home.rglob("*")) if p.suffix in {".py", ".html"}]
    files += [Path(str(module.__file__)) for module in (benchmark.curve, benchmark.statistics)]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    digest.update(repr(navigation()).encode())
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class BuiltRow:
    """What the board's pages need of a row.

    Attributes:
        row: The row.
        folder: Where its files are.
        record: Its figures.
        files: Its page's files.
        numbers: threat -> its curve in numbers; one that was not attacked on all samples is missing.
    """

    row: Row
    folder: Path
    record: RowRecord
    files: FilesRecord
    numbers: Mapping[str, Numbers]

    def distances(self, threat: str) -> Floats:
        """The ledger, shape (n,); mapped, not read."""
        found: Floats = np.load(self.folder / f"distances-{threat}.npy", mmap_mode="r")
        return found

    @cached_property
    def grids(self) -> dict[str, GridNumbers]:
        """Its grids of two axes (`GridKey.text`)."""
        return load_grids(self.folder)

    @property
    def page_folder(self) -> str:
        """The folder of its page below its board's ``models/``; older weights have their digest in it."""
        model = self.row.model
        return f"{model.slug}-{model.digest[:8]}" if self.row.status is RowStatus.SUPERSEDED else model.slug

    @property
    def slug(self) -> str:
        """The model's slug."""
        return self.row.model.slug

    @property
    def title(self) -> str:
        """The model's title."""
        return self.row.model.title


def is_built(task: RowTask) -> bool:
    """Whether the row is in the cache, and as it was left.

    The site's files are hard links to the cache's: an edit in place changes both, and the file's time shows it.
    """
    try:
        written = (task.folder / SUMMARY).stat().st_mtime_ns
        if (task.folder / LACKING).exists() and _have_come_back(task):
            return False
        with os.scandir(task.folder / PAGE) as entries:
            return all(entry.stat().st_mtime_ns <= written for entry in entries)
    except FileNotFoundError:
        return False


def _have_come_back(task: RowTask) -> bool:
    """Whether evidence that was not at hand for the row's pictures is there now."""
    store = EvidenceStore(task.artifacts)
    digests = (task.folder / LACKING).read_text(encoding="utf-8").split()
    return any(store.has(digest) for digest in digests)


def build_row(task: RowTask) -> None:
    """Build a row into its folder."""
    target = task.folder
    beside = target.with_name(f".{target.name}-{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    (beside / PAGE).mkdir(parents=True)
    try:
        _build(task, beside)
        shutil.rmtree(target, ignore_errors=True)
        beside.rename(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _build(task: RowTask, folder: Path) -> None:
    """Make the row's files; a row whose results cannot be read is shown as such, and does not stop the others."""
    try:
        _fill(task, folder)
    except Exception as error:
        shutil.rmtree(folder)
        (folder / PAGE).mkdir(parents=True)
        told = plain(f"{type(error).__name__}: {error}".splitlines()[0][:300])
        _fill(replace(task, row=_unread(task.row, told)), folder, damaged=told)


def _unread(row: Row, told: str) -> Row:
    """A row without its results: as if each had failed for this reason."""
    reason = f"Its results cannot be read ({told})."
    cells = [
        replace(cell, state=State.FAILED, reason=reason) if cell.state is State.DONE else cell for cell in row.cells
    ]
    return replace(row, cells=tuple(cells), others=(), status=RowStatus.INCOMPLETE)


def _fill(task: RowTask, folder: Path, *, damaged: str = "") -> None:
    with _database(task.url).read() as session:
        data = row_data(session, task.row, task.row.done)
    facts = replace(row_facts(task.row, data, n=task.n, axes=task.axes), sheets=task.sheets)
    examples = Examples(task.artifacts)
    picture_data = _picture_data(task, examples)
    files: dict[str, bytes] = {}
    bundle, gone = _bundle(task), task.gone
    page = model_page(
        facts, task.dataset, task.changes, picture_data=picture_data, files=files, bundle=bundle, gone=gone
    )
    files["index.html"] = page_bytes(page, board_title=task.board_title, as_of=task.as_of)
    sheets = _add_files(files, facts, picture_data)
    for name, content in files.items():
        (folder / PAGE / name).write_bytes(content)
    if task.bundle is not None and page.bundle is not None:
        link_or_copy(task.bundle, folder / PAGE / page.bundle.name)
    if examples.lacking:
        (folder / LACKING).write_text("\n".join(sorted(examples.lacking)), encoding="utf-8")
    _keep_numbers(folder, facts, picture_data.labels)
    found = links.of(files["index.html"])
    sizes = {path.name: path.stat().st_size for path in sorted((folder / PAGE).iterdir())}
    links.check({"index.html": links.inside(found)}, sizes)
    own = FilesRecord(tuple(sorted(links.outside(found))), tuple(sorted(found.ids)), sizes, tuple(sheets))
    save(folder / SUMMARY, Summary(record_of(facts, changes=task.changes, damaged=damaged), own))


def _picture_data(task: RowTask, examples: Examples) -> PictureData:
    """What pictures are made from: what the database has of the whole slice."""
    labels, images = (_dataset_array(task.url, task.dataset.id, name) for name in ("labels", "images"))
    return PictureData(
        task.dataset.card,
        None if labels is None or len(labels) < task.n else labels[: task.n],
        None if images is None or len(images) < task.n else images,
        examples,
    )


def _add_files(files: dict[str, bytes], facts: RowFacts, picture_data: PictureData) -> list[str]:
    """Add what the compare page needs, and the figures as PDF; returns the threats that have a sheet of examples."""
    made = {threat: adversarial_sheet(found, picture_data) for threat, found in facts.threats.items()}
    sheets = {threat: content for threat, content in made.items() if content is not None}
    files |= {f"adversarial-{threat}.png": content for threat, content in sheets.items()}
    files["bins.js"] = bins_js(facts, list(sheets))
    for name in [name for name in files if name.startswith("curve-") and name.endswith(".svg")]:
        files[name.removesuffix(".svg") + ".pdf"] = pdf(files[name].decode())
    return list(sheets)


def _bundle(task: RowTask) -> Bundle | None:
    return None if task.bundle is None else Bundle(f"{task.row.model.slug}.bundle", task.bundle.stat().st_size)


def _keep_numbers(folder: Path, facts: RowFacts, labels: NDArray[np.int64] | None) -> None:
    save_grids(folder, grid_numbers(facts.found, labels))
    save_numbers(folder / NUMBERS, {threat: numbers_of(found) for threat, found in facts.threats.items()})
    for threat, found in facts.threats.items():
        np.save(folder / f"distances-{threat}.npy", found.curve.distances)


def unbuilt_row(facts: RowFacts, changes: Sequence[ChangeInfo] = ()) -> BuiltRow:
    """A row's numbers without its page, for a single figure."""
    numbers = {threat: numbers_of(found) for threat, found in facts.threats.items()}
    return BuiltRow(facts.row, Path(), record_of(facts, changes=changes), FilesRecord((), (), {}, ()), numbers)


def load_row(task: RowTask) -> BuiltRow:
    """A built row."""
    summary = load(task.folder / SUMMARY, Summary)
    covered = {threat: axis for threat, axis in task.axes.items() if threat in summary.row.threats}
    numbers = load_numbers(task.folder / NUMBERS, covered, task.n)
    return BuiltRow(task.row, task.folder, summary.row, summary.files, numbers)


@lru_cache(maxsize=4)
def _database(url: str) -> Database:
    return Database(url)


@lru_cache(maxsize=4)
def _dataset_array(url: str, dataset_id: int, name: str) -> NDArray[Any] | None:
    with _database(url).read() as session:
        return queries.dataset_array(session, dataset_id, name)


def forget_connections() -> None:
    """Close what `build_row` has opened in this process."""
    if _database.cache_info().currsize:
        _database.cache_clear()
    _dataset_array.cache_clear()
