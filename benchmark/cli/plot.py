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
@click.option("--bands", is_flag=True, help="Around each curve the 95 % band of the sampling; for a few models.")
@click.option("--title/--no-title", default=True, show_default=True, help="Whether the figure has its title.")
@click.option("--up-to", type=click.FloatRange(0, min_open=True), metavar="EPS", help="Where the ε axis ends.")
@click.option(
    "--width", default=640.0, show_default=True, type=click.FloatRange(1, 4000), help="In points; up to 40: inches."
)
@click.option(
    "--height", default=400.0, show_default=True, type=click.FloatRange(1, 4000), help="Likewise, without the legend."
)
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
    bands: bool,
    title: bool,
    up_to: float | None,
    width: float,
    height: float,
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
        size=(_points(width), _points(height)),
        scale=scale,
        bands=bands,
        title=title,
        up_to=up_to,
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(content)
    click.echo(f"Wrote {output} ({len(content) / 1000:.0f} kB).")


def _points(size: float) -> int:
    """A size in points; one of at most 40 is in inches of 72 points, as papers give the width of a column."""
    from benchmark.errors import InputError

    points = round(72 * size if size <= 40 else size)
    if not 150 <= points <= 4000:
        raise InputError(f"A figure is 150 to 4000 points wide and high (2.1 to 40 inches), got {points}.")
    return points
