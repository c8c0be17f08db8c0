"""Links of pages, checked against what is there: a broken one fails the build."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import unescape
from typing import Final
from urllib.parse import unquote, urlsplit

from benchmark.errors import BenchmarkError

_ATTRIBUTE: Final = re.compile(r'\s(href|src|id)="([^"]+)"')
SHOWN: Final = 10


class BrokenLinkError(BenchmarkError):
    """Pages of the site that would be published link to what is not there."""


@dataclass
class Links:
    """What a page links to, and the fragments it offers."""

    targets: set[str] = field(default_factory=set)
    ids: set[str] = field(default_factory=set)


def of(html: bytes) -> Links:
    """The links of a page that our templates made: attributes in double quotes, text without any (autoescape)."""
    found = Links()
    for name, value in _ATTRIBUTE.findall(html.decode()):
        (found.ids if name == "id" else found.targets).add(unescape(value))
    return found


def inside(found: Links) -> Links:
    """Those of a page's links that stay in its folder."""
    return Links({target for target in found.targets if not target.startswith("../")}, found.ids)


def outside(found: Links) -> set[str]:
    """Those that lead out of its folder: pages of sibling folders need them checked only once."""
    return {target for target in found.targets if target.startswith("../")}


def check(pages: Mapping[str, Links], files: Iterable[str]) -> None:
    """Check every internal link of every page.

    Args:
        pages: Path from the site's root -> its links.
        files: Every file of the site, by its path from the root.

    Raises:
        BrokenLinkError: Naming the first broken ones.
    """
    present = set(files)
    broken = sorted(
        f"{page} -> {target}"
        for page, found in pages.items()
        for target in found.targets
        if not _holds(page, target, pages, present)
    )
    if broken:
        more = f" … and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
        raise BrokenLinkError(
            f"{len(broken)} internal links lead nowhere, so the old site was kept: {'; '.join(broken[:SHOWN])}{more}."
        )


def _holds(page: str, target: str, pages: Mapping[str, Links], present: set[str]) -> bool:
    parts = urlsplit(target)
    if parts.scheme in {"http", "https", "mailto", "data"} or parts.netloc:
        return True
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(parts.path))) if parts.path else page
    if path not in present or parts.path.startswith("/"):
        return False
    fragment = unquote(parts.fragment)
    return not fragment or path not in pages or fragment in pages[path].ids
