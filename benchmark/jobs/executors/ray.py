"""Ray: chunks of jobs on the machines of a cluster, or on this one's cores. Needs ``pip install 'curveboard[ray]'``.

A worker is a Ray actor that measures one chunk at a time and keeps model and data loaded. It writes evidence into the
store and nothing into the database: its results come back to this driver, which has claimed the jobs and commits them
(`benchmark.jobs.coordinator`). So whatever is killed (a worker, a node, this driver) loses at most its chunk.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from benchmark import plugins
from benchmark.board.job import Job
from benchmark.board.record import ChunkResult
from benchmark.errors import BenchmarkError, WorkspaceError
from benchmark.jobs.coordinator import Coordinator, Hand, Piece
from benchmark.jobs.ended import Ended, verdict
from benchmark.jobs.executors import Jobs
from benchmark.jobs.measuring import Known, Measuring, Subject
from benchmark.jobs.provenance import provenance
from benchmark.jobs.setting import Report, Setting
from benchmark.jobs.workbench import InfrastructureError, Workbench
from benchmark.measures import get_measure
from benchmark.processes import interruptible

TICK: Final = 0.5
"""Seconds within which an interruption is noticed."""

START: Final = 3
"""Workers in a row that may die before they are ready; then no more are started."""

_log = logging.getLogger(__name__)

Answer = list[ChunkResult] | Ended
"""What a worker has measured, or why it could not; in the state ``trouble`` the machine is at fault, not the job."""


@dataclass(frozen=True)
class Ready:
    """A worker has started.

    Attributes:
        host: Where.
        ran_on: Its provenance.
        trouble: What keeps it from working; empty if nothing does.
    """

    host: str
    ran_on: Mapping[str, Any] = field(default_factory=dict)
    trouble: str = ""


class Worker:
    """What runs in a process of Ray's."""

    def __init__(self, setting: Setting, plugged: Path | None) -> None:
        self._setting, self._plugged = setting, plugged
        self._ready: Ready | None = None
        self._measuring: Measuring | None = None

    def prepare(self, expected: Mapping[str, str]) -> Ready:
        """Get ready, if this process can work with a driver of these versions; asked again, it answers as before."""
        if self._ready is None:
            self._ready = self._prepared(expected)
        return self._ready

    def _prepared(self, expected: Mapping[str, str]) -> Ready:
        host, found = socket.gethostname(), versions()
        other = [
            f"{name} {found[name]} here, {there} there" for name, there in expected.items() if found[name] != there
        ]
        if other:
            return Ready(host, trouble=f"it has other versions than the driver ({'; '.join(other)}); install the same")
        try:
            plugins.use(self._plugged)
            self._bench = Workbench(self._setting)
            self._bench.store.require()
        except (BenchmarkError, OSError) as error:
            return Ready(host, trouble=str(error))
        return Ready(host, provenance(self._setting.device))

    def measure(self, job: Job, start: int, stop: int, known: Known) -> Answer:
        """Measure some samples of a job."""
        try:
            if self._measuring is None or self._measuring.job.key != job.key:
                self._measuring = Measuring(job, Subject.of(job, self._bench), self._bench)
            return list(self._measuring.measured(start, stop, known))
        except InfrastructureError as failure:
            return Ended("trouble", str(failure.reason))
        except Exception as error:
            return verdict(error)


def versions() -> dict[str, str]:
    """What must be the same on all machines for the results to be."""
    return {name: version(name) for name in ("curveboard", "torch", "numpy")}


class Ray:
    """A cluster of Ray's: that of an address or of RAY_ADDRESS, else one started on this machine."""

    name = "ray"
    title = "Ray: this machine's cores, or a cluster (--on ray://HOST:PORT, or RAY_ADDRESS)"

    def run(self, jobs: Jobs, setting: Setting, report: Report) -> Mapping[int, str]:
        """Run jobs in the workers of a cluster, each chunk wherever there is room.

        SIGINT lets every worker finish its chunk, then ends the run; a second one ends it at once.

        Raises:
            WorkspaceError: If Ray is not installed or does not answer, or no machine can work.
        """
        try:
            import ray
        except ImportError as error:
            raise WorkspaceError(f"Ray is not installed ({error}): pip install 'curveboard[ray]'.") from None
        with _connected(ray, setting.address or os.environ.get("RAY_ADDRESS") or "local"):
            return _Drive(ray, jobs, setting, report).run()


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
    hand: Hand | None = None
    host: str = "a machine of the cluster"
    piece: Piece | None = None
    shares: bool = False
    """Whether evidence that it has stored has been seen from here."""


class _Drive:
    """Hands out chunks to workers until all jobs have ended."""

    def __init__(self, ray: Any, jobs: Jobs, setting: Setting, report: Report) -> None:
        self.ray, self.setting = ray, setting
        self.coordinator = Coordinator(jobs, setting, report)
        self.numbers = [number for _, number in jobs]
        chunks = sum(math.ceil(job.samples / get_measure(job.measure).chunk) for job, _ in jobs)
        self.wanted = max(1, min(chunks, setting.workers or self._room()))
        self.seats: dict[Any, _Seat] = {}
        """Reference to the answer that is awaited of a worker -> the worker."""
        self.idle: list[_Seat] = []
        self.troubles: list[str] = []
        self.stillborn = 0

    def run(self) -> dict[int, str]:
        """Run the jobs; returns the state of each."""
        with self.coordinator, interruptible(self.coordinator.stop):
            for _ in range(self.wanted):
                self._hire()
            while not self.coordinator.is_over:
                if not self.seats:
                    raise WorkspaceError(f"No machine can work. {'; '.join(dict.fromkeys(self.troubles))}.")
                self._look()
        return {number: self.coordinator.states.get(number, "stopped") for number in self.numbers}

    def _room(self) -> int:
        """Workers that the cluster has room for."""
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
            scheduling_strategy="SPREAD",
        )(Worker)
        actor = made.remote(_for_workers(self.setting, threads), plugins.workspace_folder())
        self.seats[actor.prepare.remote(versions())] = _Seat(actor)

    def _look(self) -> None:
        """Wait a moment for an answer, and take note of those that have come."""
        ready, _ = self.ray.wait(list(self.seats), num_returns=1, timeout=TICK)
        for reference in ready:
            seat = self.seats.pop(reference)
            try:
                answer = self.ray.get(reference)
            except self.ray.exceptions.RayError as error:
                self._lost(seat, error)
                continue
            if seat.hand is None or seat.piece is None:
                self._arrived(seat, answer)
            else:
                self._answered(seat, seat.hand, seat.piece, answer)

    def _arrived(self, seat: _Seat, ready: Ready) -> None:
        """A worker has started, or still lives; or it says why it cannot work."""
        seat.host = ready.host
        if ready.trouble:
            self._dismiss(seat, ready.trouble)
            return
        self.stillborn = 0
        seat.hand = seat.hand or Hand(ready.ran_on)
        self._employ(seat, seat.hand)

    def _answered(self, seat: _Seat, hand: Hand, piece: Piece, answer: Answer) -> None:
        """A worker has measured its chunk, or says why it could not."""
        trouble = answer.text if isinstance(answer, Ended) and answer.state == "trouble" else self._unseen(seat, answer)
        if trouble:
            self.coordinator.back(piece, died=False)
            self._dismiss(seat, trouble)
        elif isinstance(answer, Ended):
            self.coordinator.take(piece, answer, hand)
            self._employ(seat, hand)
        else:
            self._employ(seat, hand)  # first: it works on while this is committed
            self.coordinator.take(piece, answer, hand)

    def _unseen(self, seat: _Seat, answer: Answer) -> str:
        """What is wrong if evidence that a worker has stored is not to be seen from here; asked until it is once."""
        files = [] if seat.shares or isinstance(answer, Ended) else [one.evidence for one in answer if one.evidence]
        for file in files:
            if not self.coordinator.bench.store.has(file.digest):
                where = self.coordinator.bench.store.where(file.digest)
                return f"what it stores does not come to {where}; the store must be one place for all machines"
            seat.shares = True
        return ""

    def _employ(self, seat: _Seat, hand: Hand) -> None:
        """Give a worker its next chunk."""
        seat.piece = piece = self.coordinator.next(hand)
        if piece is None:
            self.idle.append(seat)
            return
        self.seats[seat.actor.measure.remote(piece.job, piece.start, piece.stop, piece.known)] = seat

    def _dismiss(self, seat: _Seat, trouble: str) -> None:
        """Work on without a machine that cannot work, and say which."""
        self.troubles.append(f"{seat.host}: {trouble}")
        _log.warning("The worker on %s cannot work: %s", seat.host, trouble)
        self.ray.kill(seat.actor)
        self._recall()

    def _lost(self, seat: _Seat, error: Exception) -> None:
        """A worker has died, or its node: its chunk is handed out again, and another worker asked for."""
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        _log.warning("A worker on %s died; what was committed is kept.", seat.host)
        if seat.piece:
            self.coordinator.back(seat.piece, died=True)
        elif seat.hand is None:
            self.stillborn += 1
            self.troubles.append(f"{seat.host}: the worker died before it was ready: {reason}")
        self.ray.kill(seat.actor)  # should it live after all, nobody would hear of its work
        if self.stillborn < START:
            self._hire()
        self._recall()

    def _recall(self) -> None:
        """Something has come back: ask those that had nothing to do whether they still live."""
        idle, self.idle = self.idle, []
        for seat in idle:
            self.seats[seat.actor.prepare.remote(versions())] = seat


def _for_workers(setting: Setting, threads: int) -> Setting:
    """The setting in a worker: Ray shows a process the GPUs that are its own, as the first ones."""
    device = "cuda" if setting.device.startswith("cuda") else setting.device
    return dataclasses.replace(setting, threads=threads, workers=1, device=device)


EXECUTOR = Ray()
