"""What a dataset says about ε: how far each image is from the nearest image of another class; for the site's pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from benchmark.data import get_dataset
from benchmark.errors import BenchmarkError
from benchmark.threat import norm_names
from db.schema import Cell, Dataset, DatasetArray
from db.session import Database
from models_zoo.errors import ZooError

if TYPE_CHECKING:
    from torch import Tensor

SLOW: Final = 2000
"""Images from which on the comparison of all pairs is announced: 10,000 of MNIST take some three minutes on a core."""
_PAIRS: Final = 2**21
"""Pairs of images whose distances are held at once."""


def dataset_facts(x: Tensor, y: Tensor, norms: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Images, labels, and each image's nearest image of another class (Risse et al. 2020: the scale of ε).

    Args:
        x: Images, shape (n, c, h, w), float32 in [0, 1], on any device.
        y: Labels, shape (n,), int64.
        norms: Norms whose nearest images are wanted.

    Returns:
        ``images`` (n, c, h, w) uint8, ``labels`` (n,) int64, and for each norm ``nearest_<norm>`` (n,) float64,
        measured in float64 on the float32 images, and ``nearest_index_<norm>`` (n,) int64. With a single class they
        are ``inf`` and -1.
    """
    from benchmark.threat import distances

    facts: dict[str, NDArray[Any]] = {
        "images": (x * 255).round().to("cpu").numpy().astype(np.uint8),
        "labels": y.cpu().numpy().astype(np.int64),
    }
    for norm in norms:
        index = _nearest_of_another_class(x, y, norm)
        found = distances(x, x[index.clamp(min=0)], norm)
        found[index < 0] = float("inf")
        facts[f"nearest_{norm}"] = found.cpu().numpy()
        facts[f"nearest_index_{norm}"] = index.cpu().numpy()
    return facts


def _nearest_of_another_class(x: Tensor, y: Tensor, norm: str) -> Tensor:
    """Index of each image's nearest image of another label, shape (n,); -1 where there is none."""
    import torch

    from benchmark.threat import get_norm

    n = len(x)
    rows = max(_PAIRS // n, 1)
    found = []
    for start in range(0, n, rows):
        part = slice(start, start + rows)
        gaps = get_norm(norm).pairwise(x[part], x)
        gaps[y[part, None] == y[None]] = torch.inf
        nearest, index = gaps.min(dim=1)
        found.append(torch.where(nearest.isinf(), -1, index))
    return torch.cat(found)


def store_dataset_facts(database: Database, *, report: Callable[[str], None] = lambda _: None) -> list[str]:
    """Compute and store the facts of the datasets whose boards have none yet; returns their names.

    They are of the largest slice that a board shows, and are computed again when a larger one comes. A dataset that is
    not at hand (its files cannot be fetched, or it is not registered here) is left without: its page says so.

    Args:
        database: The database.
        report: Told before anything that takes long: every image is compared with every other in each norm.
    """
    with database.read() as session:
        sizes = select(Cell.dataset_id, func.max(Cell.n)).group_by(Cell.dataset_id).order_by(Cell.dataset_id)
        wanted = [(dataset_id, n) for dataset_id, n in session.execute(sizes) if not _is_stored(session, dataset_id, n)]
    return [name for dataset_id, n in wanted if (name := _store(database, dataset_id, n, report))]


def _is_stored(session: Session, dataset_id: int, n: int) -> bool:
    names = set(session.scalars(select(DatasetArray.name).where(DatasetArray.dataset_id == dataset_id)))
    published = _published_norms(session.get_one(Dataset, dataset_id))
    if not names >= {"images", "labels", *(f"nearest_{norm}" for norm in published)}:
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
        x, y = dataset.load(n)
    except (BenchmarkError, ZooError, OSError):
        return None
    if n > SLOW:
        report(f"{name}: comparing {n} images with each other in {len(norms)} norms; this takes minutes, once.")
    facts = dataset_facts(x, y, norms)
    with database.write() as session:
        session.execute(
            delete(DatasetArray).where(DatasetArray.dataset_id == dataset_id, DatasetArray.name.in_(list(facts)))
        )
        session.add_all(DatasetArray(dataset_id=dataset_id, name=key, data=data) for key, data in facts.items())
    return name
