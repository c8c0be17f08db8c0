"""Texts that may be published: without the paths of this machine and without passwords."""

from __future__ import annotations

import re
from typing import Final

from db.urls import without_password

_NAME: Final = r"[^\s/\\'\"`:,;()<>|]"
_PATHS: Final = (
    re.compile(r"(?P<before>sqlite(?:\+\w+)?:///)/?[^\s'\"`]*/(?P<name>[^\s/'\"`]+)"),
    re.compile(r"(?P<before>['\"`])/(?:[^'\"`\n]*/)(?P<name>[^'\"`\n/]*)(?=['\"`])"),
    re.compile(rf"(?P<before>(?<![\w:/.…])(?:file://)?)/(?:{_NAME}+/)+(?P<name>{_NAME}*)"),
    re.compile(rf"(?P<before>(?<!\w))[A-Za-z]:\\(?:{_NAME}+\\)*(?P<name>{_NAME}*)"),
)


def plain(text: str) -> str:
    """The text with the folders of absolute paths left out (``…/name``), and passwords of URLs masked."""
    for pattern in _PATHS:
        text = pattern.sub(r"\g<before>…/\g<name>", text)
    return without_password(text)
