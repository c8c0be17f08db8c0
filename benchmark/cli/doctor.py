"""``curveboard doctor``: is everything as it should be?"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import click

from benchmark.cli.options import Place, echo_json, json_option, place_options


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    ok: bool
    seen: str


@click.command()
@place_options
@json_option
def command(place: Place, as_json: bool) -> None:
    """Check the installation, the workspace, the database and the plug-ins; exit code 4 if something is wrong."""
    findings = [_run(subject, look) for subject, look in _looks(place)]
    if as_json:
        echo_json([vars(finding) for finding in findings])
    else:
        for finding in findings:
            click.echo(f"{'ok   ' if finding.ok else 'WRONG'}  {finding.subject:12}  {finding.seen}")
    if not all(finding.ok for finding in findings):
        click.get_current_context().exit(4)


def _run(subject: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, True, look())
    except Exception as error:  # whatever is wrong is what the user wants to hear
        return Finding(subject, False, str(error) or repr(error))


def _looks(place: Place) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "python", _python
    yield "torch", _torch
    yield "plug-ins", _plugins
    yield "zoo", lambda: _zoo(place)
    yield "workspace", lambda: _workspace(place)
    yield "database", lambda: _database(place)
    yield "contents", lambda: _contents(place)
    yield "evidence", lambda: _evidence(place)
    yield "protocol", lambda: _protocol(place)


def _python() -> str:
    from importlib.metadata import version

    return f"Python {platform.python_version()}, curveboard {version('curveboard')}"


def _torch() -> str:
    import torch

    cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    return f"torch {torch.__version__}, {torch.get_num_threads()} threads, CUDA device: {cuda}"


def _plugins() -> str:
    from benchmark.attacks import attacks
    from benchmark.data import all_datasets
    from benchmark.measures import measures

    return f"{len(attacks())} attacks, {len(measures())} measures, {len(all_datasets())} datasets"


def _zoo(place: Place) -> str:
    from models_zoo import catalogue

    try:
        folders = [place.workspace.models]
    except Exception:  # told of under "workspace"
        folders = []
    return f"{len(catalogue(folders))} models"


def _workspace(place: Place) -> str:
    from benchmark.errors import WorkspaceError
    from benchmark.evidence.store import EvidenceStore
    from benchmark.workspace import CONFIG

    workspace = place.workspace
    if not os.access(workspace.root, os.W_OK):
        raise WorkspaceError(f"{workspace.root} is missing or not writable.")
    config = workspace.root / CONFIG
    if not workspace.database_url.startswith("sqlite:") and config.stat().st_mode & 0o004:
        raise WorkspaceError(f"{config} names the board's server and can be read by all: chmod o-r {config}")
    EvidenceStore(workspace.artifacts).require()
    return str(workspace.root)


def _database(place: Place) -> str:
    from db.errors import DatabaseError
    from db.migrate import differences

    found = differences(place.database)
    if found:
        raise DatabaseError(f"{place.database}: the tables differ from the schema: {found}")
    return f"{place.database}, migration {place.database.revision()}"


def _contents(place: Place) -> str:
    from benchmark.cli.db import faults
    from db.errors import DatabaseError

    if found := faults(place.database):
        more = f" … and {len(found) - 3} more (curveboard db check)" if len(found) > 3 else ""
        raise DatabaseError("; ".join(found[:3]) + more)
    return "all rows can be read, and can be so"


def _evidence(place: Place) -> str:
    """Every file that the database refers to is there, and can be read: digest and all."""
    from sqlalchemy import select

    from benchmark.errors import EvidenceError
    from benchmark.evidence.store import EvidenceStore
    from db.schema import Chunk

    store, bad = EvidenceStore(place.workspace.artifacts), []
    with place.database.read() as session:
        digests = session.scalars(select(Chunk.evidence_digest).where(Chunk.evidence_digest.is_not(None)).distinct())
        wanted = sorted(digest for digest in digests if digest)
    for digest in wanted:
        try:
            store.get(digest)
        except EvidenceError as error:
            bad.append(str(error))
    if bad:
        raise EvidenceError(f"{len(bad)} of {len(wanted)} files cannot be used: {'; '.join(bad[:3])}")
    return f"{len(wanted)} files, each there and readable"


def _protocol(place: Place) -> str:
    from benchmark.data import all_datasets
    from benchmark.jobs.protocol import get_protocol

    workspace = place.workspace
    protocol = get_protocol(workspace.protocol, [workspace.protocols])
    cells = {name: len(list(protocol.wanted(dataset))) for name, dataset in all_datasets().items()}
    return f"{protocol.name} version {protocol.version}: " + ", ".join(f"{n} cells on {d}" for d, n in cells.items())
