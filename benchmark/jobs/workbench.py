"""What an attempt at a job works with, and how it tells its own faults from those of the database and the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from benchmark.board.job import Job
from benchmark.data import Dataset
from benchmark.errors import BenchmarkError, EvidenceError, WorkspaceError
from benchmark.evidence.store import EvidenceStore
from benchmark.jobs.lease import LostLeaseError
from db.errors import DatabaseError
from db.session import Database


@dataclass(frozen=True)
class InfrastructureError(Exception):
    """Not the job's fault: the database or the disk failed, and the run must end."""

    reason: BaseException


class WaitingError(BenchmarkError):
    """A reference model lacks what the measure compares with; it may come."""


@contextmanager
def infrastructure() -> Iterator[None]:
    """What fails inside is the fault of the database or the disk, not of the job."""
    try:
        yield
    except LostLeaseError:
        raise
    except (DatabaseError, EvidenceError, WorkspaceError, OSError) as error:
        raise InfrastructureError(error) from error


class Workbench(Protocol):
    """What an attempt works with; `benchmark.jobs.runner.Runner` is one."""

    @property
    def database(self) -> Database:
        """The database."""

    @property
    def store(self) -> EvidenceStore:
        """The evidence."""

    @property
    def model(self) -> Callable[[str, str], nn.Module]:
        """A model by slug and digest, kept loaded."""

    def initial(self, slug: str) -> nn.Module | None:
        """A model as its training began; None if its card states no run."""

    def source(self, slug: str, digest: str, dataset: Dataset) -> nn.Module:
        """Another model by slug and digest, of the dataset's label space and image shape."""

    @property
    def dataset(self) -> Callable[[str, str], Dataset]:
        """A dataset by name and digest."""

    @property
    def pool(self) -> Callable[[str, str], Tensor]:
        """Images of a dataset to start from, on the device."""

    @property
    def stopping(self) -> Callable[[], bool]:
        """Whether to stop after the chunk."""

    def progress(self, job: Job, done: int, text: str, seconds: float) -> None:
        """Report that so many samples of a job are done."""
