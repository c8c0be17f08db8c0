"""How an attempt at a job ended, and why."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path

from benchmark.errors import BenchmarkError, UnsupportedModelError
from benchmark.memory import out_of_memory


@dataclass(frozen=True)
class Ended:
    """How it ended.

    Attributes:
        state: As in `benchmark.jobs.setting.Progress`.
        text: Why, or what was found.
    """

    state: str
    text: str = ""


def verdict(error: BaseException) -> Ended:
    """What an error amid the measuring says of the job: that the measure does not apply to the model, or it failed."""
    if isinstance(error, UnsupportedModelError):
        return Ended("unsupported", str(error))
    return Ended("failed", _described(error))


def _described(error: BaseException) -> str:
    """Why a job failed, in a line or two: the user's errors as they are, others with where they arose."""
    if out_of_memory(error):
        return f"Out of memory: {error}. Use a machine with more memory, or a smaller --limit."
    if isinstance(error, BenchmarkError) or type(error).__module__.startswith(("models_zoo.", "db.")):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"
