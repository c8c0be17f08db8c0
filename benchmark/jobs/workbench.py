"""What a process works with: models, images and the store of evidence, kept loaded from job to job. No database."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmark.data import Dataset, get_dataset
from benchmark.errors import EvidenceError, InputError, WorkspaceError
from benchmark.evidence.store import EvidenceStore
from benchmark.jobs.lease import LostLeaseError
from benchmark.jobs.setting import Setting
from db.errors import DatabaseError
from models_zoo import get_entry, load_model


@dataclass(frozen=True)
class InfrastructureError(Exception):
    """Not the job's fault: the database or the disk failed, and the run must end."""

    reason: BaseException


@contextmanager
def infrastructure() -> Iterator[None]:
    """What fails inside is the fault of the database or the disk, not of the job."""
    try:
        yield
    except LostLeaseError:
        raise
    except (DatabaseError, EvidenceError, WorkspaceError, OSError) as error:
        raise InfrastructureError(error) from error


class Workbench:
    """Models, data and evidence of this process; the last of each stays loaded.

    Args:
        setting: Where they are, and on which device they go.
        received: A folder of models that come before those of the setting.

    Attributes:
        store: The evidence.
        device: Where models run.
        model: A model by slug and digest.
        dataset: A dataset by name and digest.
        pool: Images of a dataset to start from, on the device.
    """

    def __init__(self, setting: Setting, *, received: Path | None = None) -> None:
        self.store = EvidenceStore(setting.artifacts)
        self.device = setting.device
        self.model = functools.lru_cache(maxsize=1)(self._load_model)
        self.dataset = functools.lru_cache(maxsize=1)(self._load_dataset)
        self.pool = functools.lru_cache(maxsize=1)(self._load_pool)
        self._models, self._received = setting.models, received
        if setting.threads:
            torch.set_num_threads(setting.threads)

    def folders(self, slug: str) -> list[Path]:
        """Where a model is looked for, besides the zoo."""
        if self._received and (self._received / slug).is_dir():
            return [self._received]
        return [self._models]

    def source(self, slug: str, digest: str, dataset: Dataset) -> nn.Module:
        """Another model by slug and digest.

        Raises:
            ZooError: If there is none of that name.
            InputError: If it has changed, or classifies other images.
        """
        entry = get_entry(slug, self.folders(slug))
        named = get_dataset(entry.dataset)
        if named.labels_of != dataset.labels_of or named.shape != dataset.shape:
            raise InputError(
                f"The source model {slug!r} is for {named.labels_of} in images of shape {named.shape}, "
                f"{dataset.name} has {dataset.labels_of} in {dataset.shape}; they must be equal."
            )
        if entry.rejects:
            raise InputError(f"The source model {slug!r} may reject images; choose models that always give a class.")
        return self.model(slug, digest)

    def initial(self, slug: str) -> nn.Module | None:
        """The model as its training began, rebuilt; None if its card states no training run."""
        from models_zoo.training.finish import initial_model

        return initial_model(get_entry(slug, self.folders(slug)))

    def _load_model(self, slug: str, digest: str) -> nn.Module:
        entry = get_entry(slug, self.folders(slug))
        if entry.digest != digest:
            raise InputError(f"The model {slug!r} has changed since the plan was made; run the command again.")
        return load_model(slug, folders=self.folders(slug), device=self.device)

    def _load_dataset(self, name: str, digest: str) -> Dataset:
        dataset = get_dataset(name)
        if dataset.digest != digest:
            raise InputError(f"The dataset {name!r} has changed since the plan was made; run the command again.")
        return dataset

    def _load_pool(self, name: str, digest: str) -> Tensor:
        dataset = self.dataset(name, digest)
        return dataset.pool(dataset.size).to(self.device)
