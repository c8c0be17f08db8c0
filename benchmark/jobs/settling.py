"""What killed submissions have left beside the workspace's models is finished or cleared away. No torch."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import select

from db.errors import DatabaseError
from db.schema import Model
from db.session import Database
from models_zoo.cards import read_card
from models_zoo.catalogue import CARD
from models_zoo.errors import ZooError
from models_zoo.renaming import abandoned

_WATCHER: Final = """
import sys
about = sys.stdin.readline()
if sys.stdin.read() != "done":
    from benchmark.jobs.settling import settle_after
    settle_after(about)
"""


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


def _finish(database: Database, staged: Path, models: Path) -> None:
    """Move a staged model to its place if the database has it as the newest of its name."""
    try:
        entry = read_card(staged / CARD)
        with database.read() as session:
            newest = session.scalar(
                select(Model.digest).where(Model.slug == entry.slug).order_by(Model.id.desc()).limit(1)
            )
    except (ZooError, DatabaseError):
        return
    home = models / entry.slug
    if newest == entry.digest and not _holds(home, entry.digest):
        move(staged, home)


def _holds(home: Path, digest: str) -> bool:
    with contextlib.suppress(ZooError):
        return read_card(home / CARD).digest == digest
    return False


def move(staged: Path, home: Path) -> None:
    """Move a staged model to its place; what was there before goes."""
    if home.exists():
        home.rename(staged.parent / "replaced")
    staged.rename(home)
