"""PDFs of charts, the same bytes each time."""

from __future__ import annotations

from typing import Final

import vl_convert

_TRIES: Final = 24


def pdf(drawn: str) -> bytes:
    """A stand-alone SVG as a PDF.

    The converter orders fonts at random. Our charts use one face; a title in another script brings a second, and then
    the smallest of many attempts is taken, which holds every order with near certainty.
    """
    first: bytes = vl_convert.svg_to_pdf(drawn)
    if first.count(b"/Subtype /Type0") < 2:
        return first
    return min(first, *(vl_convert.svg_to_pdf(drawn) for _ in range(_TRIES)))
