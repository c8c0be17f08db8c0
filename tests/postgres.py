"""A private PostgreSQL server of Debian's package, in a folder of its own, reached by a socket."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from loudly import skip_loudly
from sqlalchemy import create_engine, make_url


class PrivateServer:
    """A server that can be stopped and started again.

    Args:
        programs: Folder of ``initdb`` and ``pg_ctl``.
        folder: An empty folder.
        durable: Whether what was committed outlives a crash; that costs time.
    """

    def __init__(self, programs: Path, folder: Path, *, durable: bool = False) -> None:
        self._options = "" if durable else " -c fsync=off -c synchronous_commit=off"
        self.programs, self.folder, self.data = programs, folder, folder / "data"
        self._starter: threading.Timer | None = None
        # The server refuses to run as root; Debian's package makes a user for it.
        root = os.geteuid() == 0
        self._as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if root else []
        if root:
            shutil.chown(folder, "postgres")
            folder.chmod(0o700)
        self._call(
            "initdb", "--pgdata", self.data, "--auth", "trust", "--username", "curveboard", "--no-sync", "-E", "UTF8"
        )

    @staticmethod
    def programs_here() -> Path | None:
        """The newest server that is installed; None without any."""
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        return found[-1] if found else None

    @property
    def url(self) -> str:
        """Of the database that every server has."""
        return f"postgresql+psycopg://curveboard@/postgres?host={self.folder}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-k {self.folder} -c listen_addresses=''{self._options}"
        self._call(
            *("pg_ctl", "--pgdata", self.data, "--options", options, "--log", self.folder / "log"),
            *("--wait", "--timeout", "300", "start"),  # to recover takes long where many tests run
        )

    def start_after(self, seconds: float) -> None:
        """Start it in a while, beside what the caller does."""
        self._starter = threading.Timer(seconds, self.start)
        self._starter.start()

    def stop(self, mode: str = "immediate") -> None:
        """Stop it; ``immediate`` is like a crash, ``fast`` breaks connections off in order.

        A start that is on its way ends first: the server answers before ``pg_ctl`` has seen that it does.
        """
        if self._starter is not None:
            self._starter.join()
        self._call("pg_ctl", "--pgdata", self.data, "--mode", mode, "--wait", "stop")

    def create(self, name: str = "", template: str = "template1") -> str:
        """Create a database; returns its URL."""
        name = name or f"test_{uuid.uuid4().hex}"
        engine = create_engine(self.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        engine.dispose()
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def _call(self, program: str, *arguments: str | Path) -> None:
        command = [*self._as_user, str(self.programs / program), *map(str, arguments)]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder)


@contextlib.contextmanager
def private_server(*, durable: bool = False) -> Iterator[PrivateServer]:
    """A running server in a folder of its own, which is removed in the end."""
    programs = PrivateServer.programs_here()
    if programs is None:
        skip_loudly("there is no PostgreSQL server (Debian's package postgresql)")
    if importlib.util.find_spec("psycopg") is None:
        skip_loudly("there is no driver of PostgreSQL (pip install 'curveboard[postgresql]')")
    folder = tempfile.mkdtemp(prefix="curveboard-pg-")
    try:
        server = PrivateServer(programs, Path(folder), durable=durable)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        os.spawnlp(os.P_NOWAIT, "rm", "rm", "-rf", folder)  # tens of thousands of files: nobody waits for them
