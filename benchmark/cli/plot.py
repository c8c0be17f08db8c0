"""``curveboard plot``: the site's figures for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from benchmark.cli.options import NormName, Place, place_options

SUFFIXES = (".svg", ".pdf", ".png")


@click.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--board", metavar="BOARD", help="The board (curveboard status lists them; needed if there are several).")
@click.option(
    "--model", "-m", "models", multiple=True, metavar="MODEL", help="A model; may be repeated (default: all)."
)
@click.option("--norm", type=NormName("union"), default="linf", show_default=True, help="A norm, or union.")
@click.option(
    "--kind",
    type=click.Choice(["curves", "ranks", "band"]),
    default="curves",
    show_default=True,
    help="Curves over each other, ranks against ε, or one model between its bounds.",
)
@click.option("--width", default=640, show_default=True, type=click.IntRange(200, 4000), help="In points.")
@click.option("--height", default=400, show_default=True, type=click.IntRange(150, 4000), help="Without the legend.")
@click.option("--scale", default=3.0, show_default=True, type=click.FloatRange(0.5, 10), help="Of a PNG.")
@place_options
def command(
    *,
    place: Place,
    output: Path,
    board: str | None,
    models: Sequence[str],
    norm: str,
    kind: str,
    width: int,
    height: int,
    scale: float,
) -> None:
    """Draw a figure into OUTPUT, whose suffix (.svg, .pdf, .png) says the format.

    The figures are those of the site, drawn from the database as it is now.
    """
    from benchmark.errors import InputError
    from sitegen.figures import draw

    if output.suffix.lower() not in SUFFIXES:
        raise InputError(f"{output} ends in {output.suffix!r}; a figure is one of {', '.join(SUFFIXES)}.")
    content = draw(
        place.database,
        form=output.suffix.lower()[1:],
        board=board,
        models=tuple(models),
        norm=norm,
        kind=kind,
        size=(width, height),
        scale=scale,
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(content)
    click.echo(f"Wrote {output} ({len(content) / 1000:.0f} kB).")
