"""The conformance report of a submission, made in a process of its own: whatever was sent, it can be stopped."""

from __future__ import annotations

import dataclasses
import json
import math
import multiprocessing
import os
import resource
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark import plugins
from benchmark.conformance import Check, Report, check_conformance
from benchmark.errors import BenchmarkError, InputError
from benchmark.jobs.settling import warm_up
from models_zoo import Entry, ZooError
from models_zoo.loading import load_entry

MOST_ANSWER: Final = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What loading and checking a model may use.

    Attributes:
        seconds: Wall time.
        memory: Bytes of address space besides what the process has (on a CPU; a GPU's driver maps more than there is).
    """

    seconds: float = 1800.0
    memory: int = 16 << 30


@dataclass(frozen=True)
class Checked:
    """A report, and the wall time in seconds that it took."""

    report: Report
    seconds: float


def check_apart(
    entry: Entry,
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    *,
    classes: int,
    claimed_accuracy: float | None = None,
    device: str = "cpu",
    limits: Limits | None = None,
) -> Checked:
    """Load a model and check it, in a child process; see `benchmark.conformance.check_conformance`.

    Args:
        entry: The model.
        x: Images, shape (n, c, h, w).
        y: Labels, shape (n,).
        classes: Number of classes.
        claimed_accuracy: Clean accuracy that its authors report.
        device: Where it is checked.
        limits: What it may use. Beyond them the model is refused, in a line of the report.

    Raises:
        InputError: If the model cannot be loaded.
    """
    limits = limits or Limits()
    warm_up()
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe(duplex=False)
    about = {"device": device, "memory": limits.memory, "classes": classes, "claimed_accuracy": claimed_accuracy}
    place = dict(os.environ), plugins.workspace_folder(), torch.get_num_threads()
    process = context.Process(target=_work, args=(theirs, place, entry, (x, y), about), daemon=True)
    begin = time.perf_counter()
    process.start()
    theirs.close()
    try:
        answer = _answer(ours, process, limits)
    finally:
        process.kill()
        process.join()
    return Checked(_report(answer), time.perf_counter() - begin)


def _answer(ours: Connection, process: Any, limits: Limits) -> dict[str, Any]:
    try:
        if not ours.poll(limits.seconds):
            return _refusal("time", f"It was stopped: loading and checking it took more than {limits.seconds:g} s.")
        answer: dict[str, Any] = json.loads(ours.recv_bytes(MOST_ANSWER))
        return answer
    except (EOFError, OSError, ValueError):
        process.join(5)
        text = f"The process that checked it died (status {process.exitcode}; was memory short?)."
        return _refusal("process", text)


def _refusal(name: str, message: str) -> dict[str, Any]:
    return {"checks": [dataclasses.asdict(Check(name, "refuse", math.nan, "", message))]}


def _report(answer: Mapping[str, Any]) -> Report:
    if "error" in answer:
        raise InputError(str(answer["error"]))
    return Report(tuple(Check(**check) for check in answer["checks"]))


def _work(
    answers: Connection,
    place: tuple[Mapping[str, str], Path | None, int],
    entry: Entry,
    data: tuple[NDArray[np.float32], NDArray[np.int64]],
    about: Mapping[str, Any],
) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    environment, home, threads = place
    os.environ.clear()
    os.environ.update(environment)
    plugins.use(home)
    torch.set_num_threads(threads)
    try:
        device = torch.device(about["device"])
        if device.type == "cpu":
            _limit_memory(about["memory"])
        module = load_entry(entry, device=device)
        x, y = (torch.from_numpy(array).to(device) for array in data)
        report = check_conformance(
            module,
            x,
            y,
            classes=about["classes"],
            claimed_accuracy=about["claimed_accuracy"],
        )
        answer: dict[str, Any] = {"checks": [dataclasses.asdict(check) for check in report.checks]}
    except (ZooError, BenchmarkError, OSError) as error:
        answer = {"error": str(error)[:10_000]}
    except MemoryError:
        answer = _refusal("memory", f"It takes more than {about['memory'] >> 20} MiB of memory.")
    answers.send_bytes(json.dumps(answer).encode())


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _limit_memory(more: int) -> None:
    """Let this process take at most ``more`` bytes besides what it has."""
    pages = Path("/proc/self/statm")
    if not pages.exists():  # not Linux
        return
    limit = int(pages.read_text().split()[0]) * resource.getpagesize() + more
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit if soft == resource.RLIM_INFINITY else min(limit, soft), hard))
