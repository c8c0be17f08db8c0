"""Skipping that nobody can overlook."""

from __future__ import annotations

import os
import warnings
from typing import NoReturn

import pytest


def skip_loudly(reason: str) -> NoReturn:
    """Skip, and say so among the warnings too; in CI a missing tool is an error."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must have it: {reason}")
    warnings.warn(UserWarning(f"SKIPPED: {reason}"), stacklevel=2)
    pytest.skip(reason)
