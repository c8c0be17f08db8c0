"""Ray: jobs on the machines of a cluster, or on all cores of this one. Needs ``pip install 'curveboard[ray]'``.

A worker is a Ray actor with a `Runner` of its own, so model and data stay loaded from job to job. Results take the same
way as on one machine: claimed by lease, committed chunk by chunk. So whatever is killed (a worker, a node, this driver)
loses at most its chunk; the driver only hands out jobs, and hands out again those of workers that it has seen die.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from benchmark import plugins
from benchmark.board.job import Job
from benchmark.errors import BenchmarkError, WorkspaceError
from benchmark.jobs.executors import Jobs
from benchmark.jobs.lease import Owner, give_up_for
from benchmark.jobs.runner import Progress, Report, Runner, Setting
from benchmark.processes import interruptible
from db.errors import DatabaseError
from db.session import Database

TICK: Final = 0.5
"""Seconds between two looks at what the workers have to report."""

START: Final = 3
"""Workers in a row that may die before they are ready; then no more are started."""

_log = logging.getLogger(__name__)


class Worker:
    """What runs in a process of Ray's: one job at a time, while other threads answer the driver."""

    def __init__(self, setting: Setting, plugged: Path | None) -> None:
        self._setting, self._plugged = setting, plugged
        self._events: deque[Progress] = deque()
        self._stop = threading.Event()
        self._runner: Runner | None = None

    def prepare(self, expected: Mapping[str, str]) -> tuple[str, str, str]:
        """Host, name as an evaluator, and what keeps this process from working ("" if nothing does)."""
        host = socket.gethostname()
        try:
            found = versions()
            other = [
                f"{name} {found[name]} here, {expected[name]} there"
                for name in expected
                if found[name] != expected[name]
            ]
            if other:
                return host, "", f"it has other versions than the driver ({'; '.join(other)}); install the same"
            plugins.use(self._plugged)
            self._runner = Runner(self._setting, self._note, self._stop.is_set)
            self._runner.store.require()
            self._runner.database.require_head()
            self._owner = Owner(self._setting.locks).__enter__()
        except (BenchmarkError, DatabaseError, OSError) as error:
            return host, "", str(error)
        return host, self._owner.name, ""

    def _note(self, progress: Progress) -> None:
        self._events.append(progress)

    def work(self, job: Job, evaluation_id: int) -> tuple[str, str]:
        """Run a job; returns its state as in `Progress`, or ``trouble`` and what this machine lacks."""
        assert self._runner is not None
        if self._stop.is_set():
            return "stopped", ""
        try:
            return self._runner.run(job, evaluation_id, self._owner.name), ""
        except (BenchmarkError, DatabaseError, OSError) as error:
            return "trouble", str(error)

    def events(self) -> list[Progress]:
        """What has happened since this was last asked."""
        return [self._events.popleft() for _ in range(len(self._events))]

    def stop(self) -> None:
        """Let the running job finish its chunk, and begin no other."""
        self._stop.set()


def versions() -> dict[str, str]:
    """What must be the same on all machines for the results to be."""
    return {name: version(name) for name in ("curveboard", "torch", "numpy")}


class Ray:
    """A cluster of Ray's: that of an address or of RAY_ADDRESS, else one started on this machine."""

    name = "ray"
    title = "Ray: this machine's cores, or a cluster (--on ray://HOST:PORT, or RAY_ADDRESS)"

    def run(self, jobs: Jobs, setting: Setting, report: Report) -> Mapping[int, str]:
        """Run jobs in the workers of a cluster.

        SIGINT lets every running job finish its chunk, then ends the run; a second one ends it at once.

        Raises:
            WorkspaceError: If Ray is not installed or does not answer, or no machine can work.
        """
        try:
            import ray
        except ImportError as error:
            raise WorkspaceError(f"Ray is not installed ({error}): pip install 'curveboard[ray]'.") from None
        with _connected(ray, setting.address or os.environ.get("RAY_ADDRESS") or "local"):
            return _Drive(ray, setting, report, jobs).run()


@contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    where = "this machine" if address == "local" else address
    try:
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False, **_quiet(address))
    except (ConnectionError, TimeoutError, RuntimeError, ValueError, ImportError) as error:
        raise WorkspaceError(
            f"Ray does not answer at {where}: {str(error).strip() or type(error).__name__}. Is it running there (ray "
            "start --head), of the same version, and can it be reached from here?"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _quiet(address: str) -> dict[str, Any]:
    return {"include_dashboard": False} if address == "local" else {}


@dataclass
class _Seat:
    """A worker as the driver sees it."""

    actor: Any
    host: str = ""
    owner: str = ""
    work: tuple[Job, int] | None = None


class _Drive:
    """Hands out jobs until all have ended."""

    def __init__(self, ray: Any, setting: Setting, report: Report, jobs: Jobs) -> None:
        self.ray, self.setting, self.report = ray, setting, report
        self.left, self.states = deque(jobs), dict[int, str]()
        self.stopping = threading.Event()
        self.seats: dict[Any, _Seat] = {}
        """Reference to the answer that is awaited of a worker -> the worker."""
        self.idle: list[_Seat] = []
        self.asked: list[Any] = []
        self.heard = 0.0
        self.database = Database(setting.database_url)
        self.wanted = min(len(jobs), setting.workers or self._room())
        self.troubles: list[str] = []
        self.stillborn = 0

    def run(self) -> dict[int, str]:
        """Run the jobs; returns the state of each."""
        for _ in range(self.wanted):
            self._hire()
        told = False
        with interruptible(self.stopping.set):
            while self._busy() or (self.left and not self.stopping.is_set()):
                if not self.seats:
                    raise WorkspaceError(f"No machine can work. {'; '.join(dict.fromkeys(self.troubles))}.")
                if self.stopping.is_set() and not told:
                    told = True
                    for seat in self.seats.values():
                        seat.actor.stop.remote()
                self._look()
        for _, number in self.left:
            self.states[number] = "stopped"
        return self.states

    def _busy(self) -> bool:
        return any(seat.work for seat in self.seats.values())

    def _room(self) -> int:
        """Jobs that the cluster has room for."""
        has = self.ray.cluster_resources()
        if self.setting.device.startswith("cuda"):
            return max(1, int(has.get("GPU", 0) * self.setting.jobs_per_gpu))
        return max(1, int(has.get("CPU", 1) // (self.setting.threads or 1)))

    def _hire(self) -> None:
        """Ask for one more worker, wherever there is room."""
        threads = self.setting.threads or 1
        gpu = self.setting.device.startswith("cuda")
        made = self.ray.remote(
            num_cpus=threads,
            num_gpus=1 / self.setting.jobs_per_gpu if gpu else 0,
            max_concurrency=3,
            scheduling_strategy="SPREAD",
        )(Worker)
        actor = made.remote(_for_workers(self.setting, threads), plugins.workspace_folder())
        self.seats[actor.prepare.remote(versions())] = _Seat(actor)

    def _look(self) -> None:
        """Wait a moment for an answer; take note of those that have come, and of what workers report."""
        ready, _ = self.ray.wait(list(self.seats), num_returns=1, timeout=TICK)
        for answer in ready:
            seat = self.seats.pop(answer)
            try:
                found = self.ray.get(answer)
            except self.ray.exceptions.RayError as error:
                self._lost(seat, error)
                continue
            if seat.work:
                self._ended(seat, *found)
            else:
                self._arrived(seat, *found)
        if not self.asked and time.monotonic() - self.heard >= TICK:
            self.heard = time.monotonic()
            self.asked = [seat.actor.events.remote() for seat in self.seats.values() if seat.work]
        if self.asked:
            answered, self.asked = self.ray.wait(self.asked, num_returns=len(self.asked), timeout=0)
            for answer in answered:
                self._tell(answer)

    def _arrived(self, seat: _Seat, host: str, owner: str, trouble: str) -> None:
        """A worker has started, or says why it cannot."""
        seat.host, seat.owner = host, owner
        if trouble:
            self._dismiss(seat, trouble)
        else:
            self.stillborn = 0
            self._employ(seat)

    def _ended(self, seat: _Seat, state: str, text: str) -> None:
        """A job has ended, or its worker cannot go on."""
        assert seat.work is not None
        self._tell(seat.actor.events.remote())
        if state == "trouble":
            self.left.append(seat.work)
            self._dismiss(seat, text)
            return
        self.states[seat.work[1]] = state
        self._employ(seat)

    def _employ(self, seat: _Seat) -> None:
        """Give a worker its next job; one for which there is none is let go."""
        seat.work = self.left.popleft() if self.left and not self.stopping.is_set() else None
        if seat.work:
            self.seats[seat.actor.work.remote(*seat.work)] = seat
        else:
            self.idle.append(seat)

    def _dismiss(self, seat: _Seat, trouble: str) -> None:
        """Work on without a machine that cannot work, and say which."""
        self.troubles.append(f"{seat.host}: {trouble}")
        _log.warning("The worker on %s cannot work: %s", seat.host, trouble)
        self.ray.kill(seat.actor)
        self._recall()

    def _lost(self, seat: _Seat, error: Exception) -> None:
        """A worker has died, or its node: its job is handed out again, and another worker asked for."""
        where = seat.host or "a machine of the cluster"
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        _log.warning("A worker on %s died; what it had committed is kept.", where)
        if seat.work:
            self.left.append(seat.work)
            give_up_for(self.database, seat.work[1], seat.owner)
        else:
            self.stillborn += 1
            self.troubles.append(f"{where}: the worker died before it was ready: {reason}")
        if self.stillborn < START:
            self._hire()
        self._recall()

    def _recall(self) -> None:
        """Give those that had nothing to do what has come back."""
        while self.idle and self.left and not self.stopping.is_set():
            self._employ(self.idle.pop())

    def _tell(self, answer: Any) -> None:
        try:
            for progress in self.ray.get(answer, timeout=30):
                self.report(progress)
        except (self.ray.exceptions.RayError, TimeoutError):
            return  # the worker is dead: its job's answer will say so


def _for_workers(setting: Setting, threads: int) -> Setting:
    """The setting in a worker: Ray shows a process the GPUs that are its own, as the first ones."""
    device = "cuda" if setting.device.startswith("cuda") else setting.device
    return dataclasses.replace(setting, threads=threads, workers=1, device=device)


EXECUTOR = Ray()
