"""``curveboard serve``: show the site, and build it again whenever the database changes."""

from __future__ import annotations

import functools
import http.server
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from benchmark.cli.options import Place, place_options

if TYPE_CHECKING:
    from db.session import Database

LOOPBACK = "127.0.0.1"


@click.command()
@click.option(
    "--host", default=LOOPBACK, show_default=True, help="Address to listen on; the default is this machine only."
)
@click.option("--port", default=8765, show_default=True, type=click.IntRange(0, 65535), help="0 takes any free port.")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Where the site is (default: public/).")
@click.option("--every", default=2.0, show_default=True, type=click.FloatRange(min=0.1), help="Seconds between looks.")
@place_options
def command(place: Place, host: str, port: int, output: Path | None, every: float) -> None:
    """Show the site in a browser, and build it again whenever the database changes.

    It listens on this machine only, unless --host says otherwise.
    """
    from benchmark.cli.publish import publish

    folder = output or place.workspace.public
    seen: tuple[object, ...] | None = signature(place.database)
    publish(place, output=folder)
    handler = functools.partial(Quiet, directory=str(folder), names=known_names(host))
    with http.server.ThreadingHTTPServer((host, port), handler) as server:
        shown = f"[{host}]" if ":" in host else host
        click.echo(f"Serving http://{shown}:{server.server_address[1]}/ – stop with Ctrl-C.")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            while True:
                time.sleep(every)
                seen = _look(place, folder, seen)
        finally:
            server.shutdown()


def _look(place: Place, folder: Path, seen: tuple[object, ...] | None) -> tuple[object, ...] | None:
    """Build the site again if the database has changed since ``seen``; one that is away for a while is waited for."""
    from sqlalchemy.exc import SQLAlchemyError

    from db.errors import DatabaseError

    try:
        now = signature(place.database)
    except (DatabaseError, SQLAlchemyError, OSError) as error:
        if seen is not None:
            click.echo(f"The database cannot be read, so the old site stays: {error}", err=True)
        return None
    if now != seen:
        _rebuild(place, folder)
    return now


def known_names(host: str) -> frozenset[str] | None:
    """The names under which a browser may ask for the site; None for any, where it is offered to other machines.

    A page elsewhere whose name an enemy points at this machine must not read what is served to this machine only.
    """
    loopback = {LOOPBACK, "localhost", "::1"}
    return frozenset(loopback) if host in loopback else None


def _host(header: str) -> str:
    """The name in a ``Host`` header, without its port; empty if it is none."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _rebuild(place: Place, folder: Path) -> None:
    from sqlalchemy.exc import SQLAlchemyError

    from benchmark.cli.publish import publish
    from benchmark.errors import BenchmarkError
    from db.errors import DatabaseError

    try:
        report = publish(place, output=folder)
    except (BenchmarkError, DatabaseError, SQLAlchemyError, OSError) as error:
        click.echo(f"The old site stays: {error}", err=True)
    else:
        click.echo(f"Built again: {report.built} of {report.rows} rows.")


def signature(database: Database) -> tuple[object, ...]:
    """Something that differs whenever the site would: what has finished, what is wanted, what is in the changelog."""
    from sqlalchemy import func, select

    from db.schema import Cell, Change, Evaluation, Model

    with database.read() as session:
        states = select(Evaluation.state, func.count(), func.max(Evaluation.finished_at)).group_by(Evaluation.state)
        counts = [tuple(row) for row in session.execute(states.order_by(Evaluation.state))]
        newest = [session.scalar(select(func.max(table.id))) for table in (Cell, Change, Model)]
        cells = session.scalar(select(func.count()).select_from(Cell))
    return (*counts, *newest, cells)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files, says nothing, lets no browser keep an old page, and answers to known names only."""

    def __init__(self, *arguments: Any, names: frozenset[str] | None = None, **options: Any) -> None:
        self.names = names
        super().__init__(*arguments, **options)

    def send_head(self) -> Any:
        """The file, unless it is asked for under a name that is not this machine's."""
        if self.names is not None and _host(self.headers.get("Host", "")) not in self.names:
            self.send_error(403, "Forbidden", "This site is served to this machine only, under its own names.")
            return None
        return super().send_head()

    def end_headers(self) -> None:
        """Ask the browser to look again each time."""
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
