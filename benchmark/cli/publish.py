"""``curveboard publish``: build the site."""

from __future__ import annotations

from datetime import UTC, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmark.cli.options import Place, echo_json, json_option, place_options

if TYPE_CHECKING:
    from sitegen import BuildReport


class Moment(click.ParamType):  # type: ignore[type-arg]
    """A day or a moment in ISO 8601; a day means its end, a time without a zone is UTC."""

    name = "date"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read it."""
        if isinstance(value, datetime):
            return value
        text = str(value)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text!r} is no date; give one like 2026-03-01 or 2026-03-01T12:00.", param, ctx)
        if len(text) <= len("2026-03-01"):
            moment = datetime.combine(moment, time.max)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@click.command()
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Where to (default: public/ in the workspace).")
@click.option("--as-of", type=Moment(), metavar="DATE", help="The boards as they stood on that day.")
@click.option(
    "--bundles",
    is_flag=True,
    help="Offer each model's bundle (weights, evidence, provenance) for download; it may take many megabytes a model.",
)
@click.option(
    "--url", "address", default="", help="Where the site will be (https://…), so that the feed's links are whole."
)
@click.option("--jobs", "-j", type=click.IntRange(min=1), help="Processes (default: one for each processor).")
@place_options
@json_option
def command(
    *,
    place: Place,
    output: Path | None,
    as_of: datetime | None,
    bundles: bool,
    address: str,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Build the site: static pages that need no server and no network.

    The new site takes the old one's place when it is complete; a build that fails changes nothing.
    """
    if bundles and as_of is not None:
        raise click.UsageError("A bundle holds a model as it is now, so --bundles does not go with --as-of.")
    if address and not address.startswith(("https://", "http://")):
        raise click.UsageError(f"--url is {address!r}; give where the site will be, like https://example.org/board/.")
    report = publish(place, output=output, as_of=as_of, jobs=jobs, bundles=bundles, address=address)
    if as_json:
        echo_json(
            {
                "index": str(report.index),
                "boards": report.boards,
                "rows": report.rows,
                "rows_built": report.built,
                "pages": report.pages,
                "files": report.files,
                "bytes": report.bytes,
            }
        )
        return
    kept = f", {report.rows - report.built} rows unchanged" if report.rows > report.built else ""
    click.echo(
        f"{report.boards} boards, {report.rows} rows, {report.pages} pages, {report.bytes / 1e6:.1f} MB{kept}.\n"
        f"Open {report.index}"
    )


def publish(
    place: Place,
    *,
    output: Path | None = None,
    as_of: datetime | None = None,
    jobs: int | None = None,
    bundles: bool = False,
    address: str = "",
) -> BuildReport:
    """Build the site of a workspace (by default into its ``public/``); nothing is written into the database."""
    import sitegen
    from benchmark.evidence.store import EvidenceStore

    database, workspace = place.database, place.workspace
    folder = (output or workspace.public).absolute()
    EvidenceStore(workspace.artifacts).reach()  # else every page would be built anew without its pictures
    return sitegen.build(
        database,
        folder,
        artifacts=workspace.artifacts,
        as_of=as_of,
        jobs=jobs,
        bundles=_bundles(place, folder) if bundles else None,
        gone=gone_models(place, as_of=as_of),
        address=address,
    )


def _bundles(place: Place, folder: Path) -> dict[str, Path]:
    from benchmark.evidence.site_bundles import site_bundles
    from benchmark.evidence.store import EvidenceStore

    workspace = place.workspace
    home = folder.with_name(f".{folder.name}-bundles")
    return site_bundles(place.database, EvidenceStore(workspace.artifacts), [workspace.models], home, report=_say)


def gone_models(place: Place, *, as_of: datetime | None = None) -> dict[int, str]:
    """Slugs of the models whose rows stand although their files are gone, by id; each is told of."""
    from benchmark.board.names import GONE, gone
    from db.queries import boards
    from models_zoo import present

    with place.database.read() as session:
        found = gone(boards(session, as_of=as_of), present([place.workspace.models]))
    for slug in sorted(found.values()):
        _say(f"{slug}: {GONE}.")
    return found


def _say(text: str) -> None:
    click.echo(text, err=True)
