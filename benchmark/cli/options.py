"""Options that several verbs share, and how results are printed."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from benchmark import plugins
from benchmark.errors import WorkspaceError
from benchmark.workspace import Workspace, absolute_url, open_database

if TYPE_CHECKING:
    from db.session import Database
    from models_zoo import Entry

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Place:
    """Where a command works: ``--workspace`` and ``--database``, resolved when asked for."""

    folder: Path | None
    url: str | None

    @functools.cached_property
    def workspace(self) -> Workspace:
        """The workspace; raises `WorkspaceError` when there is none."""
        return Workspace.find(self.folder)

    def use_plugins(self) -> None:
        """Have the plug-ins of the workspace found, if there is one; what is wrong with it is said when it is used."""
        try:
            plugins.use(self.workspace.root)
        except WorkspaceError:
            plugins.use(None)

    @property
    def database_url(self) -> str:
        """The URL given, or else the workspace's; absolute."""
        return absolute_url(self.url, Path.cwd()) if self.url else self.workspace.database_url

    @functools.cached_property
    def database(self) -> Database:
        """The open database at the newest migration."""
        return open_database(self.database_url)


def readable_models(folders: Sequence[Path]) -> Mapping[str, Entry]:
    """All models by slug; those whose cards cannot be read are told of, and keep nobody else from anything."""
    from models_zoo import catalogue
    from models_zoo.errors import CardError

    unreadable: list[CardError] = []
    found = catalogue(folders, unreadable=unreadable)
    for error in unreadable:
        click.echo(f"Left out: {error}", err=True)
    return found


class NormName(click.ParamType):  # type: ignore[type-arg]
    """The name of a registered norm, or one of a few other words.

    Args:
        besides: Words that are taken as well.
    """

    name = "norm"

    def __init__(self, *besides: str) -> None:
        self.besides = besides

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name, or a usage error that lists the known ones."""
        from benchmark.threat import norm_names

        known = (*norm_names(), *self.besides)
        if value not in known:
            self.fail(f"{value!r} is not one of {', '.join(known)}.", param, ctx)
        return str(value)


def place_options(function: F) -> F:
    """Add ``--workspace`` and ``--database``; the command receives them as ``place``."""

    @click.option(
        "--workspace", "-w", type=click.Path(path_type=Path), help="The workspace's folder (default: around this one)."
    )
    @click.option("--database", metavar="URL", help="Another database, by SQLAlchemy URL.")
    @functools.wraps(function)
    def wrapped(*args: Any, workspace: Path | None, database: str | None, **kwargs: Any) -> Any:
        place = Place(workspace, database)
        place.use_plugins()
        return function(*args, place=place, **kwargs)

    return wrapped  # type: ignore[return-value]


def workspace_option(function: F) -> F:
    """Add ``--workspace`` to a command that needs nothing of a workspace but its plug-ins."""

    @click.option(
        "--workspace", "-w", type=click.Path(path_type=Path), help="The workspace whose files are found as well."
    )
    @functools.wraps(function)
    def wrapped(*args: Any, workspace: Path | None, **kwargs: Any) -> Any:
        Place(workspace, None).use_plugins()
        return function(*args, **kwargs)

    return wrapped  # type: ignore[return-value]


def on_option(function: F) -> F:
    """Add ``--on``; the command receives the executor's name or address as ``on``."""
    return click.option(
        "--on",
        default="local",
        metavar="EXECUTOR",
        help="Where it runs (curveboard list executors), or its address: ray://HOST:PORT.",
        show_default=True,
    )(function)


def time_limit_option(text: str) -> Callable[[F], F]:
    """Add ``--time-limit``, in seconds, to a command that looks at what a stranger sent."""
    return click.option(
        "--time-limit",
        type=click.FloatRange(min=1),
        default=1800.0,
        show_default=True,
        metavar="SECONDS",
        help=text,
    )


def json_option(function: F) -> F:
    """Add ``--json``; the command receives it as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")(function)


def echo_json(value: Any) -> None:
    """Print JSON; what is infinite or not a number is printed as null."""
    click.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return str(value)


def echo_table(rows: Sequence[Mapping[str, Any]], *, empty: str) -> None:
    """Print rows as an aligned table, or ``empty``."""
    if not rows:
        click.echo(empty)
        return
    names = list(rows[0])
    cells = [[_cell(row.get(name)) for name in names] for row in rows]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(names)]
    click.echo("  ".join(n.ljust(w) for n, w in zip(names, widths, strict=True)).rstrip())
    for line in cells:
        click.echo("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
