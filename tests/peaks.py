"""The most memory that a process has held at once.

Not ``ru_maxrss``: a process inherits it from the one that started it, and it never falls.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

STATUS = Path("/proc/self/status")


def peak() -> int:
    """The most bytes that this process has held since it started, or since `forget`."""
    if not STATUS.exists():
        pytest.skip("needs Linux's /proc")
    found = re.search(r"VmHWM:\s*(\d+) kB", STATUS.read_text())
    assert found, "the kernel does not tell VmHWM"
    return int(found[1]) * 1024


def forget() -> int:
    """Count from now on; returns the bytes that are held now."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()
