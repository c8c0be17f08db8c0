"""A process that measures chunks for a coordinator elsewhere: it needs the store of evidence, and no database.

Submitted models and plug-ins that its machine lacks, or has in another version, are sent to it.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Final

from benchmark import plugins
from benchmark.board.job import Job
from benchmark.board.record import ChunkResult
from benchmark.errors import BenchmarkError
from benchmark.jobs.ended import Ended, verdict
from benchmark.jobs.measuring import Known, Measuring, Subject
from benchmark.jobs.parcel import packed, unpacked
from benchmark.jobs.provenance import provenance
from benchmark.jobs.setting import Setting
from benchmark.jobs.workbench import InfrastructureError, Workbench
from models_zoo import ZooError, get_entry

PLUGINS: Final = "*/*.py"
"""The plug-ins in a workspace."""


@dataclass(frozen=True)
class Ready:
    """A worker has started.

    Attributes:
        host: Where.
        ran_on: Its provenance.
        trouble: What keeps it from working; empty if nothing does.
    """

    host: str
    ran_on: Mapping[str, object] = field(default_factory=dict)
    trouble: str = ""


@dataclass(frozen=True)
class Trouble:
    """The machine cannot go on; the job is not at fault."""

    text: str


@dataclass(frozen=True)
class Lacking:
    """Models that are not here as the plan found them; nothing was measured."""

    slugs: tuple[str, ...]


Answer = list[ChunkResult] | Ended | Trouble | Lacking
"""What a worker has measured, how the job has ended by that, or why it could not measure."""


@dataclass(frozen=True)
class Home:
    """The plug-ins of the driver's workspace.

    Attributes:
        folder: Where they lie there; None if no workspace is in use.
        files: What is in them.
    """

    folder: Path | None
    files: bytes

    @classmethod
    def here(cls) -> Home:
        """Those of this process."""
        folder = plugins.workspace_folder()
        return cls(folder, packed(folder, PLUGINS) if folder else b"")


class Worker:
    """What runs in a worker's process.

    Args:
        setting: Where and how.
        home: The driver's plug-ins.
    """

    def __init__(self, setting: Setting, home: Home) -> None:
        self._setting, self._home = setting, home
        self._received = Path(tempfile.mkdtemp(prefix="curveboard-worker-"))
        weakref.finalize(self, shutil.rmtree, self._received, ignore_errors=True)
        self._ready: Ready | None = None
        self._measuring: Measuring | None = None

    def prepare(self, expected: Mapping[str, str]) -> Ready:
        """Get ready, if this process can work with a driver of these versions; asked again, it answers as before."""
        if self._ready is None:
            self._ready = self._prepared(expected)
        return self._ready

    def _prepared(self, expected: Mapping[str, str]) -> Ready:
        host = socket.gethostname()
        if trouble := differing(expected):
            return Ready(host, trouble=trouble)
        try:
            plugins.use(self._plugins())
            self._bench = Workbench(self._setting, received=self._models)
            self._bench.store.require()
        except (BenchmarkError, OSError) as error:
            return Ready(host, trouble=str(error))
        return Ready(host, provenance(self._setting.device))

    def _plugins(self) -> Path | None:
        """The folder of plug-ins: that of the driver's path if it holds the same, else one with what was sent."""
        folder = self._home.folder
        if folder is None or packed(folder, PLUGINS) == self._home.files:
            return folder
        return unpacked(self._home.files, self._received / "plug-ins")

    @property
    def _models(self) -> Path:
        return self._received / "models"

    def receive(self, slug: str, files: bytes) -> None:
        """Take in a model that was lacking."""
        unpacked(files, self._models / slug)

    def measure(self, job: Job, start: int, stop: int, known: Known) -> Answer:
        """Measure some samples of a job."""
        try:
            if self._measuring is None or self._measuring.job.key != job.key:
                if lacking := [slug for slug, digest in models_of(job).items() if not self._has(slug, digest)]:
                    return Lacking(tuple(lacking))
                self._measuring = Measuring(job, Subject.of(job, self._bench), self._bench)
            return list(self._measuring.measured(start, stop, known))
        except InfrastructureError as failure:
            return Trouble(str(failure.reason))
        except Exception as error:
            return verdict(error)

    def _has(self, slug: str, digest: str) -> bool:
        try:
            return get_entry(slug, self._bench.folders(slug)).digest == digest
        except ZooError:
            return False


def models_of(job: Job) -> dict[str, str]:
    """The models that a job's measure runs, with their digests."""
    sources = {name: digest for name, digest in job.needs.items() if name.startswith("source:")}
    return {job.model: job.model_digest} | {name.removeprefix("source:"): digest for name, digest in sources.items()}


def versions() -> dict[str, str]:
    """What must be the same on all machines for the results to be."""
    return {name: version(name) for name in ("curveboard", "torch", "numpy")}


def differing(expected: Mapping[str, str]) -> str:
    """How the versions here differ from those of a driver; empty if they do not."""
    found = versions()
    other = [f"{name} {found[name]} here, {there} there" for name, there in expected.items() if found[name] != there]
    return f"it has other versions than the driver ({'; '.join(other)}); install the same" if other else ""
