"""Markdown tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_NUMBER = re.compile(r"[-+\d.,/–% e]+|inf|")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; columns whose cells are all numbers are aligned to the right."""
    numeric = [all(_NUMBER.fullmatch(row[i]) for row in rows) for i in range(len(head))]
    rule = ["---:" if right else "---" for right in numeric]
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in (head, rule, *rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)


def failed(failures: Sequence[dict[str, Any]]) -> list[str]:
    """Heading and table of the contestants that failed (`perf.process.run_all`); nothing if none did."""
    rows = [[f["contestant"], f["model"], f["norm"], f["error"].splitlines()[-1]] for f in failures]
    return ["### Failed", table(["contestant", "model", "norm", "error"], rows)] if rows else []
