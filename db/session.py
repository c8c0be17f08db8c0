"""The one way to the database: engine, sessions, and the check that its schema is the one expected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import NullPool

from db.errors import DatabaseError, RevisionError, UnavailableError

HEAD: Final = "0002"
"""The newest migration; a test holds it equal to alembic's head."""

BUSY_SECONDS: Final = 60

_ALONE: Final = 0x6375727665
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
                f"The database URL {str(url)!r} cannot be used: {error}. Give one like sqlite:///board.db."
            ) from error
        except ModuleNotFoundError as error:
            raise DatabaseError(
                f"The driver for {self.url.drivername!r} is not installed ({error.name}); "
                "for PostgreSQL: pip install 'curveboard[postgresql]'."
            ) from error
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    def revision(self) -> str | None:
        """The migration the database stands at; None for an empty one."""
        with translated(self.url), self.engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            return revision

    def require_head(self) -> None:
        """Raise `RevisionError` unless the schema is the one this program was written for."""
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

    def __str__(self) -> str:
        return self.url.render_as_string(hide_password=True)


def alone(session: Session) -> None:
    """Let no other writer that asks for this in until the transaction ends; for "insert what is not there yet".

    On SQLite every writer is alone from the start.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ALONE})


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Raise the driver's errors as `UnavailableError`, in words."""
    try:
        yield
    except (OperationalError, DBAPIError) as error:
        where = url.render_as_string(hide_password=True)
        raise UnavailableError(
            f"The database {where} cannot be used: {str(error.orig).strip()}. Nothing was changed; check that it "
            "exists, that you may write to it, that its disk has room, and that no other program holds it locked."
        ) from error
    except SQLAlchemyError as error:
        raise DatabaseError(f"The database refused: {error}") from error


def _engine(url: URL) -> Engine:
    # No pool: a connection a session costs little beside an evaluation, and none is left open behind anybody's back.
    if url.get_backend_name() != "sqlite":
        return create_engine(url, poolclass=NullPool)
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_SECONDS})

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
