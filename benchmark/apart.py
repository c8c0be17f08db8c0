"""Work on what a stranger sent, in a process of its own: whatever it is, it can be stopped."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import torch

from benchmark import plugins
from benchmark.errors import BenchmarkError, InputError
from benchmark.memory import out_of_memory
from benchmark.processes import end_with_parent, warm_up

MOST_ANSWER: Final = 64 << 20


@dataclass(frozen=True)
class Limits:
    """What the work may use.

    Attributes:
        seconds: Wall time.
        memory: Bytes of address space besides what the process has (on a CPU; a GPU's driver maps more than there is).
    """

    seconds: float = 1800.0
    memory: int = 16 << 30


class StoppedError(BenchmarkError):
    """The work was beyond its limits, or its process died.

    Args:
        kind: ``time``, ``memory`` or ``process``.
        text: What happened.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def run_apart(work: Callable[..., Any], *arguments: Any, limits: Limits, device: str = "cpu") -> Any:
    """Call ``work(*arguments)`` in a child process of the same workspace, environment and threads.

    Args:
        work: A function of a module; what it returns is a JSON value.
        arguments: Picklable.
        limits: What it may use.
        device: Where it computes.

    Raises:
        InputError: If it raised an expected error; with that error's text.
        StoppedError: If it was beyond its limits, or its process died.
    """
    warm_up()
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe(duplex=False)
    place = dict(os.environ), plugins.workspace_folder(), torch.get_num_threads()
    memory = limits.memory if torch.device(device).type == "cpu" else None
    process = context.Process(target=_child, args=(theirs, place, memory, work, arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        answer = _answer(ours, process, limits)
    finally:
        process.kill()
        process.join()
    if "error" in answer:
        raise InputError(str(answer["error"]))
    if "memory" in answer:
        raise StoppedError("memory", f"It takes more than {limits.memory >> 20} MiB of memory.")
    return answer["value"]


def _answer(ours: Connection, process: Any, limits: Limits) -> dict[str, Any]:
    try:
        if not ours.poll(limits.seconds):
            raise StoppedError("time", f"It was stopped: loading and checking it took more than {limits.seconds:g} s.")
        answer: dict[str, Any] = json.loads(ours.recv_bytes(MOST_ANSWER))
        return answer
    except (EOFError, OSError, ValueError):
        process.join(5)
        text = f"The process that checked it died (status {process.exitcode}; was memory short?)."
        raise StoppedError("process", text) from None


def _child(
    answers: Connection,
    place: tuple[Mapping[str, str], Path | None, int],
    memory: int | None,
    work: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    from db.errors import DatabaseError
    from models_zoo import ZooError

    threading.Thread(target=end_with_parent, daemon=True).start()
    environment, home, threads = place
    os.environ.clear()
    os.environ.update(environment)
    plugins.use(home)
    torch.set_num_threads(threads)
    try:
        if memory is not None:
            _limit_memory(memory)
        answer = {"value": work(*arguments)}
    except (ZooError, BenchmarkError, DatabaseError, OSError) as error:
        answer = {"error": str(error)[:10_000]}
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        answer = {"memory": True}
    answers.send_bytes(json.dumps(answer).encode())


def _limit_memory(more: int) -> None:
    """Let this process take at most ``more`` bytes besides what it has."""
    pages = Path("/proc/self/statm")
    if not pages.exists():  # not Linux
        return
    limit = int(pages.read_text().split()[0]) * resource.getpagesize() + more
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit if soft == resource.RLIM_INFINITY else min(limit, soft), hard))
