"""What a dataset says about ε: how far each image is from the nearest image of another class; for the site's pages."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from benchmark.board.suite_pictures import store_suite_pictures
from benchmark.data import Dataset as Data
from benchmark.data import get_dataset
from benchmark.errors import BenchmarkError
from benchmark.threat import norm_names
from db.schema import Cell, Dataset, DatasetArray
from db.session import Database
from models_zoo.errors import ZooError

if TYPE_CHECKING:
    from torch import Tensor

COMPARED: Final = 2**37
"""Numbers that are compared a norm at most: all pairs of MNIST's 10,000 images (a minute), of 6,600 of CIFAR-10's, of
950 of 3 × 224 × 224. Of a larger slice, the first images are compared with each other."""
HELD: Final = 2**28
"""Bytes of stored images that are held at once."""
WHOLE: Final = 3 * 64 * 64
"""Numbers of an image up to which images are stored as they are; of larger ones, thumbnails."""
THUMBNAIL: Final = 64
"""Longer side of a thumbnail, in pixels."""
SHOWN: Final = 2**25
"""Bytes of images that are stored for a dataset's page at most; of a larger slice, the first."""
SLOW: Final = 2**34
"""Numbers compared a norm from which on it is announced: some ten seconds."""
_PAIRS: Final = 2**21
"""Pairs of images whose distances are held at once."""
_NUMBERS: Final = 2**24
"""Numbers of float32 images that are held at once, twice."""


def dataset_facts(dataset: Data, n: int, norms: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Images, labels, and each image's nearest image of another class (Risse et al. 2020: the scale of ε).

    Args:
        dataset: The dataset; it is read in batches.
        n: Its first images are meant.
        norms: Norms whose nearest images are wanted.

    Returns:
        ``labels`` (n,) int64; ``images`` (m, c, h, w) uint8, or ``thumbnails`` of large images, of as many as `SHOWN`
        allows; and for each norm ``nearest_<norm>`` (k,) float64, measured in float64 on the float32 images, and
        ``nearest_index_<norm>`` (k,) int64, among the first k images (`compared`). With a single class they are
        ``inf`` and -1.
    """
    key, images = _shown(dataset, n)
    facts: dict[str, NDArray[Any]] = {key: images, "labels": dataset.labels(0, n).copy()}
    k = compared(dataset.shape, n)
    stored, labels = dataset.stored(0, k) if norms else images[:0], facts["labels"][:k]
    for norm in norms:
        distance, index = nearest_of_another_class(stored, labels, norm, levels=dataset.levels)
        facts[f"nearest_{norm}"], facts[f"nearest_index_{norm}"] = distance, index
    return facts


def compared(shape: tuple[int, ...], n: int) -> int:
    """How many of the first ``n`` images are compared with each other: as many as time and memory allow."""
    numbers = math.prod(shape)
    return max(1, min(n, math.isqrt(COMPARED // numbers), HELD // numbers))


def nearest_of_another_class(
    stored: NDArray[Any], labels: NDArray[np.int64], norm: str, *, levels: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Each image's nearest image of another label.

    Args:
        stored: Images as they are stored, shape (n, c, h, w).
        labels: Shape (n,).
        norm: In which norm.
        levels: The value that stands for 1.

    Returns:
        Distances (n,), measured in float64 on the float32 images, and indices (n,); ``inf`` and -1 without another
        label. No more than a few million float32 numbers are held at once.
    """
    import torch

    from benchmark.threat import distances, get_norm

    def images(start: int, stop: int) -> Tensor:
        return torch.from_numpy(stored[start:stop].astype(np.float32)) / levels

    n, y = len(stored), torch.from_numpy(labels)
    columns = max(1, min(n, _NUMBERS // math.prod(stored.shape[1:])))
    rows = max(1, min(columns, _PAIRS // columns))
    distance, index = np.full(n, np.inf), np.full(n, -1, dtype=np.int64)
    for start in range(0, n, rows):
        x, own = images(start, start + rows), y[start : start + rows]
        best, chosen = torch.full((len(x),), torch.inf), torch.full((len(x),), -1)
        for first in range(0, n, columns):
            gaps = get_norm(norm).pairwise(x, images(first, first + columns))
            gaps[own[:, None] == y[None, first : first + columns]] = torch.inf
            least, where = gaps.min(dim=1)
            chosen = torch.where(least < best, where + first, chosen)
            best = torch.minimum(least, best)
        found = chosen.numpy()
        index[start : start + rows] = found
        if (known := np.flatnonzero(found >= 0)).size:
            other = torch.from_numpy(stored[found[known]].astype(np.float32)) / levels
            distance[start + known] = distances(x[torch.from_numpy(known)], other, norm).numpy()
    return distance, index


def _shown(dataset: Data, n: int) -> tuple[str, NDArray[np.uint8]]:
    """The pictures for the dataset's page: ``images`` as they are, or ``thumbnails`` of large ones."""
    import torch

    channels, height, width = dataset.shape
    large = math.prod(dataset.shape) > WHOLE
    scale = THUMBNAIL / max(height, width) if large else 1.0
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    most = max(1, min(n, SHOWN // (channels * math.prod(size))))
    parts = []
    for x, _ in dataset.batches(most, rows=64):
        small = torch.nn.functional.interpolate(x, size, mode="area") if large else x
        parts.append((small * 255).round().numpy().astype(np.uint8))
    return "thumbnails" if large else "images", np.concatenate(parts)


def store_dataset_facts(database: Database, *, report: Callable[[str], None] = lambda _: None) -> list[str]:
    """Compute and store the facts of the datasets whose boards have none yet; returns their names.

    They are of the largest slice that a board shows, and are computed again when a larger one comes; when there is
    nothing to do, a few rows are read. A dataset that is not at hand (its files cannot be fetched, or it is not
    registered here) is left without: its page says so.

    Args:
        database: The database.
        report: Told before anything that takes long: every image is compared with every other in each norm.
    """
    with database.read() as session:
        sizes = select(Cell.dataset_id, func.max(Cell.n)).group_by(Cell.dataset_id).order_by(Cell.dataset_id)
        wanted = [(dataset_id, n) for dataset_id, n in session.execute(sizes) if not _is_stored(session, dataset_id, n)]
    stored = [name for dataset_id, n in wanted if (name := _store(database, dataset_id, n, report))]
    store_suite_pictures(database)
    return stored


def _is_stored(session: Session, dataset_id: int, n: int) -> bool:
    names = set(session.scalars(select(DatasetArray.name).where(DatasetArray.dataset_id == dataset_id)))
    published = _published_norms(session.get_one(Dataset, dataset_id))
    if not names >= {"labels", *(f"nearest_{norm}" for norm in published)} or not names & {"images", "thumbnails"}:
        return False
    labels = session.scalar(select(DatasetArray.data).filter_by(dataset_id=dataset_id, name="labels"))
    return labels is not None and len(labels) >= n


def _published_norms(row: Dataset) -> tuple[str, ...]:
    """The norms that the dataset has published budgets in: only there is the nearest image a scale for ε."""
    return tuple(norm for norm in norm_names() if row.card.get("eps", {}).get(norm))


def _store(database: Database, dataset_id: int, n: int, report: Callable[[str], None]) -> str | None:
    with database.read() as session:
        row = session.get_one(Dataset, dataset_id)
        name, digest, norms = row.name, row.digest, _published_norms(row)
    try:
        dataset = get_dataset(name)
        if dataset.digest != digest:
            return None
        k = compared(dataset.shape, n)
        if k * k * math.prod(dataset.shape) > SLOW:
            report(f"{name}: comparing {k} images with each other in {len(norms)} norms; this takes minutes, once.")
        facts = dataset_facts(dataset, n, norms)
    except (BenchmarkError, ZooError, OSError):
        return None
    with database.write() as session:
        session.execute(
            delete(DatasetArray).where(DatasetArray.dataset_id == dataset_id, DatasetArray.name.in_(list(facts)))
        )
        session.add_all(DatasetArray(dataset_id=dataset_id, name=key, data=data) for key, data in facts.items())
    return name
