"""The one way to the database: engine, sessions, and the check that its schema is the one expected."""

from __future__ import annotations

import functools
import random
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import NullPool

from db.errors import DatabaseError, GoneError, RevisionError, UnavailableError
from db.urls import BUSY_SECONDS, open_sqlite, shown, sqlite_file, without_password

HEAD: Final = "0003"
"""The newest migration; a test holds it equal to alembic's head."""

PATIENCE: Final = 120.0
"""Seconds for which `Database.transact` waits for a server that went away: a restart takes less."""

_AWAY: Final = (
    "connection refused",
    "connection reset",
    "connection timed out",
    "network is unreachable",
    "no route to host",
    "no such file or directory",
    "server closed the connection",
    "ssl connection has been closed",
    "temporary failure in name resolution",
    "the database system is",  # … starting up, shutting down, in recovery mode, not (yet) accepting connections
    "timeout expired",
    "too many clients",
    "remaining connection slots",
)
"""Pieces of what a driver says of a server that is away or on its way."""

_WAIT_FOR: Final = {"57P01", "57P02", "57P03", "53300", "40001", "40P01"}
"""SQL states beside 08…: shutting down, crashed, starting up; too many connections; not serialisable, deadlock."""

T = TypeVar("T")

_WRITER: Final = 0x6375727665
"""The advisory lock's number: "curve" in ASCII."""


class Database:
    """A database reached by URL.

    Args:
        url: Any SQLAlchemy URL, for instance ``sqlite:////data/board/curveboard.db`` or ``postgresql+psycopg://…``.

    Raises:
        DatabaseError: If the URL cannot be understood, or its driver is not installed.
    """

    def __init__(self, url: str | URL) -> None:
        try:
            self.url = make_url(url)
            if self.url.drivername in {"postgresql", "postgres"}:
                self.url = self.url.set(drivername="postgresql+psycopg")
            self.engine = _engine(self.url)
        except (ArgumentError, NoSuchModuleError) as error:
            raise DatabaseError(
                f"The database URL {without_password(str(url))!r} cannot be used: {without_password(str(error))}. Give "
                "one like sqlite:///board.db."
            ) from None
        except ModuleNotFoundError as error:
            raise DatabaseError(
                f"The driver for {self.url.drivername!r} is not installed ({error.name}); "
                "for PostgreSQL: pip install 'curveboard[postgresql]'."
            ) from error
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        weakref.finalize(self, self.engine.dispose)  # pooled connections are closed with it, or at the program's end

    def revision(self) -> str | None:
        """The migration the database stands at; None for an empty one, and for a file that is not there."""
        if self.is_missing:
            return None
        with translated(self.url), self.engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            return revision

    @property
    def is_missing(self) -> bool:
        """Whether it is a SQLite file that is not there; nothing but `db.migrate.upgrade` makes one."""
        path = sqlite_file(self.url)
        return path is not None and not path.exists()

    def require_head(self) -> None:
        """Raise `RevisionError` unless the schema is the one this program was written for."""
        if self.is_missing:
            raise RevisionError(
                f"There is no database {self}. Put it back, or make an empty one: curveboard db upgrade."
            )
        revision = self.revision()
        if revision == HEAD:
            return
        if revision is None:
            raise RevisionError(f"The database {self} is empty. Create its tables: curveboard db upgrade.")
        if revision < HEAD:
            raise RevisionError(
                f"The database {self} stands at migration {revision}, this program needs {HEAD}. "
                "Back it up, then: curveboard db upgrade."
            )
        raise RevisionError(
            f"The database {self} stands at migration {revision}, which is newer than this program's {HEAD}. "
            "Use a newer version of curveboard."
        )

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one state of the database and writes nothing."""
        with translated(self.url), self._sessions() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session whose changes are committed at the end, all or none."""
        with translated(self.url), self._sessions() as session:
            if self.engine.dialect.name == "sqlite":
                session.connection(execution_options={"curveboard_immediate": True})
            try:
                yield session
                session.commit()
            except BaseException:
                session.rollback()
                raise

    def transact(self, work: Callable[[Session], T], *, patience: float | None = None) -> T:
        """Do some work in a transaction, again if the server goes away meanwhile: it survives a restart.

        A connection may break while a commit is on its way; whether it arrived cannot be known then. So ``work`` must
        be safe to do twice: it looks at what is there before it writes.

        Args:
            work: Given a writing session; what it did is committed when it returns.
            patience: Seconds to keep trying; `PATIENCE` by default.

        Returns:
            What ``work`` returned.

        Raises:
            UnavailableError: If the server has not come back by then.
        """
        return self._patiently(self.write, work, PATIENCE if patience is None else patience)

    def consult(self, work: Callable[[Session], T], *, patience: float | None = None) -> T:
        """Read something, again if the server goes away meanwhile; as `transact`, but nothing is written.

        What ``work`` returns must be plain values: its rows end with its session.
        """
        return self._patiently(self.read, work, PATIENCE if patience is None else patience)

    def _patiently(
        self, opened: Callable[[], AbstractContextManager[Session]], work: Callable[[Session], T], patience: float
    ) -> T:
        deadline = time.monotonic() + patience
        pause = 0.1
        while True:
            try:
                with opened() as session:
                    return work(session)
            except GoneError:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise
                time.sleep(min(pause * random.uniform(0.5, 1.5), left))  # noqa: S311 - spreads the returning crowd
                pause = min(2 * pause, 5.0)

    def __str__(self) -> str:
        return shown(self.url)


def only_writer(session: Session) -> None:
    """Let no other writer that asks for this in until the transaction ends; for "insert what is not there yet".

    On SQLite every writer is alone from the start.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WRITER})


def server_time(session: Session) -> float:
    """Seconds since 1970 by the database server's clock, which is one for all machines that use it."""
    if session.get_bind().dialect.name == "postgresql":
        return float(session.scalar(text("SELECT extract(epoch FROM clock_timestamp())")) or 0.0)
    return time.time()  # a SQLite file is used by the machines that mount it


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Raise the driver's errors as `UnavailableError`, in words."""
    try:
        yield
    except (OperationalError, DBAPIError) as error:
        where, said = shown(url), without_password(str(error.orig).strip())
        kind = GoneError if _is_gone(error) else UnavailableError
        raise kind(
            f"The database {where} cannot be used: {said}. Nothing was changed; check that it "
            "exists, that you may write to it, that its disk has room, and that no other program holds it locked."
        ) from error
    except SQLAlchemyError as error:
        raise DatabaseError(f"The database refused: {without_password(str(error))}") from error


def _is_gone(error: DBAPIError) -> bool:
    """Whether the server is away, or is coming back: worth waiting for."""
    if error.connection_invalidated:
        return True
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return str(state).startswith("08") or state in _WAIT_FOR
    # A refused connection has no state; one whose name, user or password is wrong is refused in words of the server.
    words = str(error.orig).lower()
    return any(sign in words for sign in _AWAY)


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        # A connection that the server has closed meanwhile is noticed before it is used.
        return create_engine(url, pool_size=2, max_overflow=8, pool_pre_ping=True, pool_recycle=1800)
    # No pool: to open a file costs nothing, and none is left open behind anybody's back.
    path = sqlite_file(url)
    if path is None:
        engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_SECONDS})
    else:
        engine = create_engine(url, poolclass=NullPool, creator=functools.partial(open_sqlite, path))

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy, not the driver, begins transactions
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A writer takes the lock at once: one that read first and then wants to write could never be waited for.
        immediate = connection.get_execution_options().get("curveboard_immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine
