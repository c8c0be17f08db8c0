"""Worker processes and interruptions: what evaluating, training and checking have in common. No torch."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from typing import Final

_PRELOADED: Final = ["benchmark.jobs.checking", "benchmark.evidence.ingest"]


@contextmanager
def interruptible(stop: Callable[[], object]) -> Iterator[None]:
    """The first SIGINT calls ``stop``, the second interrupts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def first(_signal: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop()

    before = signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def warm_up() -> None:
    """Have the process start that `benchmark.apart` takes its children from, while this one goes on."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(_PRELOADED)
    forkserver.ensure_running()


def end_with_parent() -> None:
    """End this worker when its parent is killed: nobody would hear of its work, and another run may begin at once."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # as a kill at any moment: at most the current chunk or epoch is lost
