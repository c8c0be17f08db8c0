"""``curveboard restore``: a board from its backup."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
def command(*, file: Path, folder: Path) -> None:
    """Make the workspace in the backup FILE anew in FOLDER, which must be new or empty.

    Every file is checked against the digest that the backup states; a damaged backup changes nothing.
    """
    from benchmark.evidence.backup import restore

    workspace = restore(file, folder)
    click.echo(
        f"Restored into {workspace.root}. Check it: curveboard doctor -w {folder} && curveboard verify -w {folder}"
    )
