"""Ray: chunks of jobs on the machines of a cluster, or on this one's cores. Needs ``pip install 'curveboard[ray]'``.

A worker is a Ray actor that measures one chunk at a time and keeps model and data loaded. It writes evidence into the
store and nothing into the database: its results come back to this driver, which has claimed the jobs and commits them
(`benchmark.jobs.coordinator`). So whatever is killed (a worker, a node, this driver) loses at most its chunk.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import os
import socket
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmark import plugins
from benchmark.errors import WorkspaceError
from benchmark.jobs.coordinator import Coordinator, Hand, Piece
from benchmark.jobs.ended import Ended
from benchmark.jobs.executors import Crew, Jobs, Work
from benchmark.jobs.parcel import packed
from benchmark.jobs.setting import Report, Setting
from benchmark.jobs.worker import Answer, Home, Lacking, Ready, Trouble, Worker, differing, models_of, versions
from benchmark.measures import get_measure
from benchmark.processes import interruptible
from models_zoo import ZooError, get_entry

TICK: Final = 0.5
"""Seconds within which an interruption is noticed."""

PATIENCE: Final = 20.0
"""Seconds within which a cluster must answer."""

START: Final = 3
"""Workers in a row that may die before they are ready; then no more are started."""

_log = logging.getLogger(__name__)


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
        ray = _library()
        with _connected(ray, setting.address or os.environ.get("RAY_ADDRESS") or "local"):
            return _Drive(ray, jobs, setting, report).run()

    def each(self, work: Work, items: Sequence[Any], crew: Crew, report: Callable[[Any], None]) -> None:
        """Do items as tasks of a cluster; one whose node is lost is done again."""
        ray = _library()
        stop = threading.Event()
        with _connected(ray, crew.address or os.environ.get("RAY_ADDRESS") or "local"), interruptible(stop.set):
            task = ray.remote(num_cpus=1, num_gpus=int(crew.gpu), scheduling_strategy="SPREAD")(do)
            plugged, waiting = plugins.workspace_folder(), list(reversed(items))
            running: list[Any] = []
            while waiting or running:
                while waiting and len(running) < (crew.workers or len(items)):
                    running.append(task.remote(work, waiting.pop(), plugged, versions()))
                ready, running = ray.wait(running, num_returns=1, timeout=TICK)
                if stop.is_set():
                    for one in running:
                        ray.cancel(one)
                    return
                for one in ready:
                    report(_answer(ray, one))


def do(work: Work, item: Any, plugged: Path | None, expected: Mapping[str, str]) -> Any:
    """One item, on a node; an interruption kills it."""
    if trouble := differing(expected):
        raise WorkspaceError(trouble)
    plugins.use(plugged)
    return work(item, lambda: False)


def _answer(ray: Any, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise WorkspaceError(f"A task failed: {error.cause}") from None
    except ray.exceptions.RayError as error:
        raise WorkspaceError(f"A worker died; what it had finished is kept. {str(error).splitlines()[0]}") from None


def _library() -> Any:
    """Ray itself."""
    try:
        import ray
    except ImportError as error:
        raise WorkspaceError(f"Ray is not installed ({error}): pip install 'curveboard[ray]'.") from None
    return ray


@contextmanager
def _connected(ray: Any, address: str) -> Iterator[None]:
    where = "this machine" if address == "local" else address
    if address == "local":
        os.environ.setdefault("RAY_worker_niceness", "0")  # else workers give way to whatever else this machine does
    try:
        _knock(address)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it warns of is said below, or is none of the user's business
            ray.init(address, logging_level=logging.ERROR, log_to_driver=False, **_quiet(address))
    except (OSError, RuntimeError, ValueError, ImportError) as error:
        raise WorkspaceError(
            f"Ray does not answer at {where}: {str(error).strip() or type(error).__name__}. Is it running there (ray "
            "start --head), of the same version, and can it be reached from here?"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Ask at once whether anybody listens: Ray would ask for minutes, and log each time."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()


def _quiet(address: str) -> dict[str, Any]:
    return {"include_dashboard": False} if address == "local" else {}


@dataclass
class _Seat:
    """A worker as the driver sees it."""

    actor: Any
    hand: Hand | None = None
    host: str = "a machine of the cluster"
    piece: Piece | None = None
    given: set[str] = field(default_factory=set)
    """Models that were sent to it."""


class _Drive:
    """Hands out chunks to workers until all jobs have ended."""

    def __init__(self, ray: Any, jobs: Jobs, setting: Setting, report: Report) -> None:
        self.ray, self.setting = ray, setting
        self.coordinator = Coordinator(jobs, setting, report)
        self.home = Home.here()
        self.parcel = functools.lru_cache(maxsize=16)(self._parcel)
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
        actor = made.remote(_for_workers(self.setting, threads), self.home)
        self.seats[actor.prepare.remote(versions())] = _Seat(actor)

    def _look(self) -> None:
        """Wait a moment for an answer, and take note of those that have come."""
        ready, _ = self.ray.wait(list(self.seats), num_returns=1, timeout=TICK)
        if not ready:
            self._look_around()
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

    def _look_around(self) -> None:
        """Nothing has come: see whether anything still can. Ray lets a new worker wait for a node for ever."""
        if not any(node["Alive"] for node in self.ray.nodes()):
            raise WorkspaceError(
                "No machine of the Ray cluster is left (killed, or out of memory?). What was committed is kept; run "
                "the command again."
            )

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
        if isinstance(answer, Lacking):
            refused = self._supply(seat, piece, answer)
            if refused is None:
                return
            answer = refused
        trouble = answer.text if isinstance(answer, Trouble) else self._unseen(answer)
        if trouble:
            self.coordinator.back(piece, died=False)
            self._dismiss(seat, trouble)
        elif isinstance(answer, Ended):
            self.coordinator.take(piece, answer, hand)
            self._employ(seat, hand)
        elif isinstance(answer, list):
            self._employ(seat, hand)  # first: it works on while this is committed
            self.coordinator.take(piece, answer, hand)

    def _supply(self, seat: _Seat, piece: Piece, lacking: Lacking) -> Trouble | Ended | None:
        """Send a worker the models that it lacks, and ask it again; or say why that is of no use."""
        for slug in lacking.slugs:
            try:
                entry = get_entry(slug, [self.setting.models])
                if entry.digest != models_of(piece.job)[slug]:
                    raise ZooError(f"The model {slug!r} has changed since the plan was made; run the command again.")
                if slug in seat.given or entry.folder.parent != self.setting.models:
                    return Trouble(f"it has not the model {slug!r} as it is here, nor does it take it in")
                seat.actor.receive.remote(slug, self.parcel(slug))
            except (ZooError, OSError) as error:
                return Ended("failed", str(error))
            seat.given.add(slug)
        self._ask(seat, piece)
        return None

    def _parcel(self, slug: str) -> Any:
        """A submitted model in the object store, from which each node takes it once."""
        return self.ray.put(packed(self.setting.models / slug))

    def _unseen(self, answer: Answer) -> str:
        """What is wrong if evidence that a worker has stored is not to be seen from here.

        A folder of one name on two machines may be two folders; an address is one everywhere, and asking would cost.
        """
        results = answer if isinstance(answer, list) and isinstance(self.setting.artifacts, Path) else []
        for file in (one.evidence for one in results if one.evidence):
            if not self.coordinator.bench.store.has(file.digest):
                where = self.coordinator.bench.store.where(file.digest)
                return f"what it stores does not come to {where}; the store must be one place for all machines"
        return ""

    def _employ(self, seat: _Seat, hand: Hand) -> None:
        """Give a worker its next chunk."""
        seat.piece = piece = self.coordinator.next(hand)
        if piece is None:
            self.idle.append(seat)
        else:
            self._ask(seat, piece)

    def _ask(self, seat: _Seat, piece: Piece) -> None:
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
