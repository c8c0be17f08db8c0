"""A page for each dataset: how far its classes lie apart, what an ε is on that scale, samples that nobody keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from benchmark.curve import Floats, RobustnessCurve
from db import queries
from db.queries import DatasetInfo
from sitegen.axes import Axis, nice, published
from sitegen.board_view import BoardView
from sitegen.charts.base import Chart, Line
from sitegen.pages import Page, Site
from sitegen.pictures import png, strip, to_pixels
from sitegen.render import Frame, render
from sitegen.sheets import dataset_sheets
from sitegen.threats import UNION, is_count, ordered, symbol
from sitegen.words import number

NEAREST: Final = "nearest_"
"""What the arrays of inter-class distances are called, before the norm; ``index_`` follows for whose they are."""
PAIRS: Final = 4
BROKEN: Final = 12


@dataclass(frozen=True)
class Pair:
    """Two images of different classes that are near each other."""

    file: str
    alt: str
    first: int
    second: int
    labels: tuple[str, str]
    distance: float
    width: int
    height: int


@dataclass(frozen=True)
class NormScale:
    """How far the classes lie apart in a norm.

    Attributes:
        symbol: The norm.
        smallest: Distance of the nearest pair of different classes.
        median: Median over images of the distance to the nearest image of another class.
        largest: The largest of those.
        shares: (published eps, its share of the smallest, of the median).
        chart: Their distribution.
        pairs: The nearest pairs.
        compared: How many images were compared with each other.
    """

    symbol: str
    smallest: float
    median: float
    largest: float
    shares: Sequence[tuple[float, float, float]]
    chart: Chart
    pairs: Sequence[Pair]
    compared: int


@dataclass(frozen=True)
class Hopeless:
    """Samples of a board that every model loses at the reference budget of a norm."""

    view: BoardView
    symbol: str
    eps: float
    models: int
    count: int
    misclassified: int
    samples: Sequence[tuple[int, str, float, str]]


def _make(site: Site) -> dict[str, bytes]:
    """The datasets' pages and their list."""
    session, views, as_of = site.session, site.views, site.as_of
    by_id: dict[int, list[BoardView]] = {}
    for view in views:
        by_id.setdefault(view.board.dataset.id, []).append(view)
    names = {dataset_id: dataset_page_name(own[0].board.dataset, views) for dataset_id, own in by_id.items()}
    listing = [(own[0].board.dataset, names[dataset_id], own) for dataset_id, own in by_id.items()]
    index = Frame("Datasets", "The datasets of the boards.", "../", "Datasets", as_of=as_of)
    pages = {"datasets/index.html": render("datasets.html", index, datasets=listing)}
    for dataset_id, own in by_id.items():
        pages.update(_dataset_page(session, own, names[dataset_id], as_of))
    return pages


def dataset_page_name(dataset: DatasetInfo, views: Sequence[BoardView]) -> str:
    """The newest dataset of a name has the plain address."""
    newest = max(view.board.dataset.id for view in views if view.board.dataset.name == dataset.name)
    return dataset.name if dataset.id == newest else f"{dataset.name}-{dataset.digest[:8]}"


def _dataset_page(session: Session, views: Sequence[BoardView], name: str, as_of: datetime | None) -> dict[str, bytes]:
    dataset = views[0].board.dataset
    files: dict[str, bytes] = {}
    images = queries.dataset_array(session, dataset.id, "images")
    if images is None:
        images = queries.dataset_array(session, dataset.id, "thumbnails")  # of large ones
    labels = queries.dataset_array(session, dataset.id, "labels")
    picture = _Pictures(dataset, images, labels, f"datasets/{name}", files)
    scales = []
    stored = queries.dataset_arrays(session, dataset.id)
    for norm in ordered(name.removeprefix(NEAREST) for name in stored if _is_nearest(name)):
        nearest = queries.dataset_array(session, dataset.id, f"{NEAREST}{norm}")
        indices = queries.dataset_array(session, dataset.id, f"{NEAREST}index_{norm}")
        if nearest is not None and np.isfinite(nearest).any():
            scales.append(_scale(dataset, norm, nearest, indices, picture))
    frame = Frame(
        dataset.title,
        f"How far the classes of {dataset.name} lie apart, and what its published budgets are on that scale.",
        "../",
        "Datasets",
        crumbs=(("Datasets", "index.html"),),
        as_of=as_of,
    )
    if images is not None:
        for k, made in enumerate(dataset_sheets(images)):
            files[f"datasets/{name}/sheet-{k}.png"] = made
    hopeless = [
        found
        for view in views
        for threat, axis in view.axes.items()
        if threat != UNION and (found := _hopeless(view, axis, picture)) is not None
    ]
    files[f"datasets/{name}.html"] = render(
        "dataset.html",
        frame,
        dataset=dataset,
        views=views,
        scales=scales,
        hopeless=hopeless,
        scale_of=max((scale.compared for scale in scales), default=0),
    )
    return files


def _is_nearest(name: str) -> bool:
    return name.startswith(NEAREST) and not name.startswith(f"{NEAREST}index_")


@dataclass(frozen=True)
class _Pictures:
    """Makes the pictures of samples."""

    dataset: DatasetInfo
    images: NDArray[Any] | None
    labels: NDArray[Any] | None
    folder: str
    files: dict[str, bytes]

    def label(self, sample: int) -> str:
        """Name of a sample's class."""
        names = self.dataset.card.get("classes") or []
        if self.labels is None or sample >= len(self.labels):
            return "?"
        value = int(self.labels[sample])
        return str(names[value]) if value < len(names) else str(value)

    def pair(self, first: int, second: int, distance: float, symbol: str) -> Pair | None:
        """Two samples side by side."""
        if self.images is None or max(first, second) >= len(self.images):
            return None
        pixels = strip([to_pixels(self.images[first]), to_pixels(self.images[second])])
        file = f"pair-{first}-{second}.png"
        self.files[f"{self.folder}/{file}"] = png(pixels)
        labels = (self.label(first), self.label(second))
        alt = f"Sample {first}, a {labels[0]}, and sample {second}, a {labels[1]}: {symbol} distance {number(distance)}"
        return Pair(
            f"{self.folder.removeprefix('datasets/')}/{file}",
            alt,
            first,
            second,
            labels,
            distance,
            pixels.shape[1],
            pixels.shape[0],
        )

    def single(self, sample: int) -> str:
        """A sample's picture; empty without images."""
        if self.images is None or sample >= len(self.images):
            return ""
        file = f"sample-{sample}.png"
        self.files[f"{self.folder}/{file}"] = png(to_pixels(self.images[sample]))
        return f"{self.folder.removeprefix('datasets/')}/{file}"


def _scale(
    dataset: DatasetInfo, norm: str, nearest: Floats, indices: NDArray[Any] | None, picture: _Pictures
) -> NormScale:
    finite = nearest[np.isfinite(nearest)]
    smallest, median, largest = float(finite.min()), float(np.median(finite)), float(finite.max())
    budgets = published(dataset.card, norm)
    pairs: list[Pair] = []
    seen: set[frozenset[int]] = set()
    for first in np.argsort(nearest, kind="stable"):
        if indices is None or len(pairs) == PAIRS:
            break
        both = frozenset((int(first), int(indices[first])))
        if both not in seen:
            seen.add(both)
            found = picture.pair(int(first), int(indices[first]), float(nearest[first]), symbol(norm))
            pairs += [found] if found else []
    return NormScale(
        symbol=symbol(norm),
        smallest=smallest,
        median=median,
        largest=largest,
        shares=[(eps, _share(eps, smallest), _share(eps, median)) for eps in budgets],
        chart=_distribution(norm, finite, budgets),
        pairs=pairs,
        compared=len(nearest),
    )


def _share(eps: float, distance: float) -> float:
    """A budget as a share of a distance; none of 0, where the same image is in two classes."""
    return eps / distance if distance > 0 else float("nan")


def _distribution(norm: str, nearest: Floats, budgets: Sequence[float]) -> Chart:
    steps = RobustnessCurve(nearest, "linf").thin(200)
    top = float(nearest.max()) * 1.05 or 1.0
    step = nice(top / 5, whole=is_count(norm))
    ticks = [round(k * step, 10) for k in range(int(top / step) + 1)]
    return Chart(
        title=f"Distance to the nearest image of another class in {symbol(norm)}",
        description=f"From {number(float(nearest.min()))} to {number(float(nearest.max()))}, "
        f"median {number(float(np.median(nearest)))}.",
        x_label=f"distance in {symbol(norm)}; dotted: published ε",
        y_label="share of images",
        x_range=(0.0, top),
        x_ticks=ticks,
        marks=[eps for eps in budgets if eps <= top],
        lines=[Line("", np.append(steps.eps, top), np.append(steps.robust_error, 1.0), style="s0 thick")],
    )


def _hopeless(view: BoardView, axis: Axis, picture: _Pictures) -> Hopeless | None:
    rows = view.rankings[axis.threat].rows
    if not rows:
        return None
    robust = np.bitwise_or.reduce([built.numbers[axis.threat].robust for built in rows])
    lost = np.flatnonzero(~np.unpackbits(robust, count=view.board.n).astype(np.bool_))
    best = np.max([built.distances(axis.threat)[lost] for built in rows], axis=0) if len(lost) else np.empty(0)
    order = np.argsort(best, kind="stable")[:BROKEN]
    samples = [(int(lost[k]), picture.label(int(lost[k])), float(best[k]), picture.single(int(lost[k]))) for k in order]
    misclassified = int((best == 0).sum())
    return Hopeless(view, axis.symbol, axis.published[0], len(rows), len(lost), misclassified, samples)


PAGE = Page("datasets", _make, menu="Datasets", address="datasets/index.html", order=30)
