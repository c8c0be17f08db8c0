"""Jinja: one environment, autoescape on, every undefined name an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import BaseLoader, ChoiceLoader, Environment, FileSystemLoader, PrefixLoader, StrictUndefined
from markupsafe import Markup

from benchmark.plugins import workspace_folder
from sitegen import words
from sitegen.changes import by_norm, move_text
from sitegen.charts import html
from sitegen.glossary import anchor
from sitegen.menu import navigation

TEMPLATES: Final = Path(__file__).parent / "templates"
STATIC: Final = Path(__file__).parent / "static"


@dataclass(frozen=True)
class Frame:
    """What every page needs.

    Attributes:
        title: The page's title.
        description: One sentence for search engines and link previews.
        root: The way from the page to the site's root: ``""``, ``"../"``, ``"../../"`` …
        section: The entry of the navigation that is current.
        crumbs: (title, address) of the pages above.
        scripts: Scripts of the page besides the common one, relative to the page.
        as_of: The moment the site shows, if it is not the present.
    """

    title: str
    description: str
    root: str
    section: str = ""
    crumbs: tuple[tuple[str, str], ...] = ()
    scripts: tuple[str, ...] = ()
    as_of: datetime | None = None
    wide: bool = field(default=False)


def environment() -> Environment:
    """The environment of all templates, those of the workspace in use among them."""
    return _environment(workspace_folder())


def _loader(root: Path | None) -> BaseLoader:
    """Templates of this package, then those that lie beside a workspace's own pages and panels."""
    ours = FileSystemLoader(TEMPLATES)
    if root is None:
        return ours
    panels = PrefixLoader({"panels": FileSystemLoader(root / "panels")})
    return ChoiceLoader([ours, FileSystemLoader(root / "pages"), panels])


@cache
def _environment(root: Path | None) -> Environment:
    env = Environment(
        loader=_loader(root),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters.update(
        percent=words.percent,
        number=words.number,
        duration=words.duration,
        count=words.count,
        images=words.images,
        date=words.date,
        listed=words.listed,
        by_norm=by_norm,
        move_text=move_text,
        paper_link=words.paper_link,
        code_link=words.code_link,
        anchor=anchor,
        version=words.version,
        parameters_text=words.parameters_text,
    )
    env.globals.update(
        chart_html=html.html, flag_meaning=words.flag_meaning, navigation=navigation, reported_text=words.reported
    )
    return env


def fragment(template: str, macro: str, *arguments: object) -> Markup:
    """What a macro of a template makes: parts of a page that scripts exchange for one another."""
    return Markup(getattr(environment().get_template(template).module, macro)(*arguments))  # noqa: S704 - autoescaped


def render(template: str, frame: Frame, **context: Any) -> bytes:
    """A page."""
    values: Mapping[str, Any] = {"frame": frame, **context}
    return environment().get_template(template).render(values).encode()
