"""A checked submission becomes one of the workspace's models: its report is stored, its folder moved to its place.

The database comes first, the folder second; a run that is killed in between is finished by whoever looks next, and one
that is killed earlier leaves nothing.
"""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from benchmark.board import checks, record
from benchmark.board.history import record_change
from benchmark.conformance import IMAGES
from benchmark.data import Dataset, get_dataset
from benchmark.errors import BenchmarkError
from benchmark.jobs.checking import Checked
from benchmark.jobs.job import make_job
from benchmark.jobs.provenance import provenance
from benchmark.measures import Inputs, get_measure
from benchmark.measures.conformance import result_of
from benchmark.results import Output
from db.errors import DatabaseError
from db.schema import Chunk, Evaluation, Model, State
from db.session import Database, only_writer
from models_zoo import Entry, ZooError
from models_zoo.cards import read_card
from models_zoo.catalogue import CARD
from models_zoo.renaming import abandoned

_WATCHER: Final = """
import sys
about = sys.stdin.readline()
if sys.stdin.read() != "done":
    from benchmark.jobs.submission import settle_after
    settle_after(about)
"""


def accept(database: Database, models: Path, entry: Entry, checked: Checked, *, device: str) -> None:
    """Enter a staged model and its report, and move its folder to its place; what was there before goes.

    Raises:
        DatabaseError: If it cannot be entered; then nothing has changed.
    """
    database.transact(functools.partial(_enter, entry=entry, checked=checked, device=device))
    _move(entry.folder, models / entry.slug)


def settle(database: Database, models: Path) -> None:
    """Finish or clear away what killed submissions have left beside the workspace's models."""
    with abandoned(models) as folders:
        for folder in folders:
            with contextlib.suppress(OSError):
                _finish(database, folder / "model", models)
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def watched(database_url: str, models: Path) -> Iterator[None]:
    """Have another process `settle` if this one is killed inside the block."""
    command = [sys.executable, "-P", "-c", _WATCHER]
    watcher = subprocess.Popen(  # noqa: S603 - our own interpreter; the URL may hold a password, so it is no argument
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )
    assert watcher.stdin is not None
    with contextlib.suppress(OSError):
        watcher.stdin.write(json.dumps({"database": database_url, "models": str(models)}) + "\n")
        watcher.stdin.flush()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            watcher.stdin.write("done")
            watcher.stdin.close()
        watcher.wait()


def settle_after(about: str) -> None:
    """What a watcher does when the process that it watched is gone."""
    values = json.loads(about)
    settle(Database(values["database"]), Path(values["models"]))


def _enter(session: Session, *, entry: Entry, checked: Checked, device: str) -> None:
    """The model's row and its report, as an evaluation like any other."""
    dataset, measure = get_dataset(entry.dataset), get_measure("conformance")
    job = make_job(measure, measure.Parameters(), entry, dataset, n=dataset.size, reason="submitted")
    only_writer(session)
    model, data = record.model_row(session, entry), record.dataset_row(session, dataset)
    row = record.evaluation_row(session, job, model_id=model.id, dataset_id=data.id)
    if row.state in {State.DONE, State.RUNNING}:
        return
    session.execute(delete(Chunk).where(Chunk.evaluation_id == row.id))
    row.provenance = provenance(device) | {"method": asdict(measure.method(measure.Parameters()))}
    row.started_at = row.started_at or datetime.now(UTC)
    _fill(session, row, dataset, checked)


def _fill(session: Session, row: Evaluation, dataset: Dataset, checked: Checked) -> None:
    measure = get_measure("conformance")
    n = min(IMAGES, row.samples)
    result = result_of(checked.report, n)
    outputs = [Output.from_json(output) for output in row.outputs]
    checks.check_arrays(row.measure, result.arrays, outputs, n)
    record.add_chunk(
        session,
        row,
        record.ChunkResult(
            start=0,
            stop=n,
            arrays=result.arrays,
            evidence=None,
            flags=result.flags,
            seconds=checked.seconds,
            forward_passes=0,
            backward_passes=0,
        ),
    )
    inputs = Inputs(dict(result.arrays), dataset.labels(0, n), {}, dataset)
    summary = checks.check_summary(row.measure, measure.summarise(inputs, measure.Parameters()), outputs)
    record.finish(row, summary, result.flags)
    record_change(session, row)


def _finish(database: Database, staged: Path, models: Path) -> None:
    """Move a staged model to its place if the database has it as the newest of its name."""
    try:
        entry = read_card(staged / CARD)
        with database.read() as session:
            newest = session.scalar(
                select(Model.digest).where(Model.slug == entry.slug).order_by(Model.id.desc()).limit(1)
            )
    except (ZooError, DatabaseError, BenchmarkError):
        return
    home = models / entry.slug
    if newest == entry.digest and not _holds(home, entry.digest):
        _move(staged, home)


def _holds(home: Path, digest: str) -> bool:
    with contextlib.suppress(ZooError):
        return read_card(home / CARD).digest == digest
    return False


def _move(staged: Path, home: Path) -> None:
    if home.exists():
        home.rename(staged.parent / "replaced")
    staged.rename(home)
