"""Many runs, one a task: killed or interrupted at any moment, each goes on from its last epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmark.errors import BenchmarkError
from models_zoo.errors import ZooError
from models_zoo.training.finish import About, write_submission
from models_zoo.training.loop import Epoch, Run, train


@dataclass(frozen=True)
class Task:
    """A run to be trained.

    Attributes:
        slug: The model's name.
        run: What to train.
        folder: Where its checkpoint and its submission go.
        about: For its card.
        device: Where to compute.
    """

    slug: str
    run: Run
    folder: Path
    about: About
    device: str = "cpu"


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        slug: Which.
        state: ``done``, ``failed`` or ``stopped`` (after an epoch, because it was asked to).
        text: The accuracy that it ended with, or why it failed.
    """

    slug: str
    state: str
    text: str


class _StoppedError(Exception):
    """Asked to stop after an epoch."""


def train_task(task: Task, stopping: Callable[[], bool]) -> Ended:
    """Train a run, as work for `benchmark.jobs.executors.Executor.each`; one that fails keeps no other from its end.

    Args:
        task: What to train.
        stopping: Asked after each epoch, whose checkpoint is written by then, whether to stop.
    """

    def between(_: Epoch) -> None:
        if stopping():
            raise _StoppedError

    if stopping():
        return Ended(task.slug, "stopped", "not begun")
    try:
        task.folder.mkdir(parents=True, exist_ok=True)
        trained = train(task.run, folder=task.folder, device=task.device, report=between)
        write_submission(task.run, trained, task.folder, slug=task.slug, about=task.about)
    except _StoppedError:
        return Ended(task.slug, "stopped", "its last epoch is kept")
    except (BenchmarkError, ZooError, OSError) as error:
        return Ended(task.slug, "failed", str(error))
    last = trained.epochs[trained.kept - 1]
    return Ended(task.slug, "done", f"training accuracy {last.accuracy:.1%}. {' '.join(trained.notes)}".rstrip())
