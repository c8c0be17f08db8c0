"""The registry of pages, and the site's menu."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from benchmark.plugins import discover


@dataclass(frozen=True)
class Page:
    """A page of the site, or several of one kind.

    Attributes:
        name: Unique.
        make: The `sitegen.pages.Site` -> its files by their path from the site's root.
        menu: Its title in the site's menu; empty to leave it out.
        address: Where the menu leads to, from the site's root.
        order: Its place in the menu.
    """

    name: str
    make: Callable[[Any], Mapping[str, bytes]]
    menu: str = ""
    address: str = ""
    order: int = 100


def pages() -> Mapping[str, Page]:
    """All pages by name."""
    return cast("Mapping[str, Page]", discover("sitegen.pages", "PAGE"))


def navigation() -> list[tuple[str, str]]:
    """(title, address) of the pages that are in the site's menu, in order."""
    shown = [page for page in pages().values() if page.menu]
    return [(page.menu, page.address) for page in sorted(shown, key=lambda page: (page.order, page.name))]
