"""Many runs, each in a worker process: killed or interrupted at any moment, they go on from their last epoch."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmark.errors import BenchmarkError
from benchmark.processes import end_with_parent, interruptible
from models_zoo.errors import TrainingError, ZooError
from models_zoo.training.finish import About, write_submission
from models_zoo.training.loop import Epoch, Run, train


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


def train_many(
    runs: Mapping[str, Run],
    folder: Path,
    *,
    about: Mapping[str, About],
    workers: int = 1,
    device: str = "cpu",
    report: Callable[[Ended], None] = lambda _: None,
) -> list[Ended]:
    """Train runs in worker processes, one thread each; one that fails keeps no other from being trained.

    SIGINT lets every running epoch end, and its checkpoint be written.

    Args:
        runs: By slug.
        folder: Where each run's own folder is.
        about: For the cards, by slug.
        workers: How many at a time.
        device: Where to compute.
        report: Told as each run ends.

    Raises:
        TrainingError: If a worker process died; the others end with it, and keep their checkpoints.
    """
    if not runs:
        return []
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    ended = []
    pool = ProcessPoolExecutor(min(workers, len(runs)), context, initializer=_start, initargs=(stop,))
    with interruptible(stop.set), pool:
        futures: dict[Future[Ended], str] = {
            pool.submit(_one, slug, run, folder / slug, about[slug], device): slug for slug, run in runs.items()
        }
        for future in as_completed(futures):
            try:
                ended.append(future.result())
            except BrokenProcessPool:
                raise TrainingError(
                    "A worker process died (killed, or out of memory?). Every run keeps its last whole epoch; run the "
                    "command again, perhaps with a smaller -j."
                ) from None
            report(ended[-1])
    return ended


_stop: Any = None
"""The event that asks a worker process to stop."""


class _StoppedError(Exception):
    """Asked to stop after an epoch."""


def _start(stop: Any) -> None:
    global _stop  # noqa: PLW0603 - a process pool hands state to its tasks in no other way
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent asks through the event
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(1)


def _one(slug: str, run: Run, folder: Path, about: About, device: str) -> Ended:
    def between(_: Epoch) -> None:
        if _stop.is_set():
            raise _StoppedError

    if _stop.is_set():
        return Ended(slug, "stopped", "not begun")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trained = train(run, folder=folder, device=device, report=between)
        write_submission(run, trained, folder, slug=slug, about=about)
    except _StoppedError:
        return Ended(slug, "stopped", "its last epoch is kept")
    except (BenchmarkError, ZooError, OSError) as error:
        return Ended(slug, "failed", str(error))
    last = trained.epochs[trained.kept - 1]
    return Ended(slug, "done", f"training accuracy {last.accuracy:.1%}. {' '.join(trained.notes)}".rstrip())
