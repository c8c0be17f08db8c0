"""What each corruption of a suite looks like: one image in every cell, stored with the dataset for the site's pages.

The site may not make them itself: it loads neither datasets nor torch.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from benchmark.data import Dataset as Data
from benchmark.data import get_dataset
from benchmark.data.suites import Suite, get_suite
from benchmark.errors import BenchmarkError
from db.queries import SUITE
from db.schema import Dataset, DatasetArray, Evaluation, State
from db.session import Database
from models_zoo.errors import ZooError

SIDE: Final = 96
"""Pixels of a picture's longer side, at most."""
MOST: Final = 1 << 22
"""Bytes of a suite's pictures, at most."""


def suite_pictures(suite: Suite) -> NDArray[np.uint8] | None:
    """The dataset's first image in every cell of a suite of two axes.

    Returns:
        Shape (a, s, c, h, w), zeros in a cell that cannot be had; None where there is nothing to show.
    """
    if len(suite.axes) != 2 or suite.unavailable():
        return None
    lengths = tuple(len(axis.labels) for axis in suite.axes)
    made: dict[tuple[str, ...], NDArray[np.uint8]] = {
        cell: _small(suite.batch(cell, 0, 1)[0]) for cell in suite.cells() if not suite.missing(cell)
    }
    if not made:
        return None
    blank = np.zeros_like(next(iter(made.values())))
    if blank.nbytes * int(np.prod(lengths)) > MOST:
        return None
    pictures = np.stack([made.get(cell, blank) for cell in suite.cells()])
    return pictures.reshape(*lengths, *blank.shape)


def _small(x: Any) -> NDArray[np.uint8]:
    """One image, shape (1, c, h, w) in [0, 1], as bytes of at most `SIDE` pixels."""
    import torch

    longer = max(x.shape[-2:])
    if longer > SIDE:
        size = tuple(max(1, round(side * SIDE / longer)) for side in x.shape[-2:])
        x = torch.nn.functional.interpolate(x, size, mode="area")
    found: NDArray[np.uint8] = (x[0] * 255).round().numpy().astype(np.uint8)
    return found


def store_suite_pictures(database: Database) -> list[str]:
    """Make the pictures that boards lack, of the suites that their rows were evaluated on; returns what was made.

    A suite or a dataset that is not at hand is left without, and no page shows it.
    """
    with database.read() as session:
        wanted = _wanted(session)
    stored = []
    for dataset_id, name, digest, suite_name in wanted:
        pictures = _made(name, digest, suite_name)
        if pictures is not None:
            with database.write() as session:
                session.add(DatasetArray(dataset_id=dataset_id, name=f"{SUITE}{suite_name}", data=pictures))
            stored.append(f"{name} {suite_name}")
    return stored


def _wanted(session: Session) -> list[tuple[int, str, str, str]]:
    """(dataset's id, its name and digest, the suite) of finished evaluations whose suite has no pictures yet."""
    suite = Evaluation.parameters["suite"].as_string()
    query = (
        select(Dataset.id, Dataset.name, Dataset.digest, suite)
        .join(Evaluation, Evaluation.dataset_id == Dataset.id)
        .where(Evaluation.state == State.DONE, suite.is_not(None))
        .distinct()
    )
    known = {(row.dataset_id, row.name) for row in session.execute(select(DatasetArray.dataset_id, DatasetArray.name))}
    found = sorted((i, name, digest, str(used)) for i, name, digest, used in session.execute(query))
    return [one for one in found if (one[0], f"{SUITE}{one[3]}") not in known]


def _made(name: str, digest: str, suite_name: str) -> NDArray[np.uint8] | None:
    try:
        dataset: Data = get_dataset(name)
        suite = get_suite(suite_name)
        if dataset.digest != digest or not isinstance(suite, Suite):
            return None
        return suite_pictures(suite.on(dataset))
    except (BenchmarkError, ZooError, OSError):
        return None
