"""The 1,000 classes of ILSVRC 2012: WordNet's synsets in the order of their numbers, as models have them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

FILE: Final = Path(__file__).parent / "synsets.txt"


@cache
def synsets() -> Mapping[str, str]:
    """Names of the classes by synset (``n01440764``), in the order of the labels: 1,000 names, no two equal."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    return {line[:9]: line[10:] for line in lines}
