"""A synthetic board: invented models whose numbers fit together as those of a real one do.

Sample by sample, certificate <= exact <= ledger distance; every finite distance has an adversarial example with exactly
that distance when a store for them is given; later evaluations only lower the ledger. Used by the site's tests and by
``perf/site.py``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import insert
from sqlalchemy.orm import Session

from benchmark.evidence.store import EvidenceStore
from benchmark.results import GridAxis, Kind, Output
from db.schema import (
    Array,
    Cell,
    Change,
    Chunk,
    Dataset,
    DatasetArray,
    Evaluation,
    Evidence,
    Flag,
    Model,
    Protocol,
    Score,
    State,
    SummaryTable,
)
from db.session import Database

NORMS = ("linf", "l2", "l1")
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
EPS = {"linf": [0.05, 0.1, 0.2], "l2": [0.25, 0.5, 1.0], "l1": [0.5, 1.0, 2.0]}
SCALE = {"linf": 0.1, "l2": 0.55, "l1": 1.4}
CLASSES = tuple("0123456789")
METHODS = (
    ("Standard training", None, None),
    ("PGD adversarial training", "linf", 0.1),
    ("PGD adversarial training", "l2", 0.5),
    ("Cross-Lipschitz regularisation", None, None),
    ("Dropout", None, None),
    ("Max-margin regularisation", "l1", 1.0),
    ("Weight decay", None, None),
)
STRENGTH = (  # of each method, in linf, l2, l1: no method is the best in every norm
    (0.40, 0.62, 0.75),
    (2.00, 0.85, 0.50),
    (0.95, 1.75, 1.05),
    (0.80, 1.20, 1.10),
    (0.45, 0.66, 0.82),
    (0.70, 1.10, 2.10),
    (0.43, 0.70, 0.80),
)
SPREAD = (0.35, 0.25, 0.45, 0.60, 0.40, 0.55, 0.50)
ABOUT = {"shrinking": "Shrinking steps towards the boundary", "primal-dual": "Primal and dual steps"}
PAPER = "Ada Example 2020, arXiv:2001.00001"
COLUMNS = ("clean.accuracy", "clever.score", "weather.damage", "weather.accuracy_in_weather")
ARCHITECTURES = ("mlp", "lenet5", "wong_small", "resnet18")


CORRUPTIONS = ("fog", "snow", "noise")
QUERIES = (10, 100, 1000, 10000)


def outputs_of(measure: str, norm: str | None) -> tuple[Output, ...]:
    """What each invented measure declares; ``weather`` is one that no code of the site has heard of."""
    about: dict[str, tuple[str, Kind, str]] = {
        "curve": ("distance", "upper", "Attack"),
        "clever": ("score", "estimate", "CLEVER"),
        "certificate": ("radius", "lower", "Certificate"),
        "exact": ("lower", "lower", "Exact bound"),
    }
    if measure in about:
        name, kind, title = about[measure]
        told = f"{title} of each image."
        return (Output(name, kind, title, told, "distance", "higher", norm, array="" if kind == "upper" else name),)
    if measure == "clean":
        return (Output("accuracy", "scalar", "Clean", "Share of clean images.", "share", "higher"),)
    axes = GridAxis("corruption", CORRUPTIONS), GridAxis("severity", ("1", "2", "3"))
    work = (GridAxis("queries", tuple(map(str, QUERIES)), "queries an image"),)
    return (
        Output("accuracy_in_weather", "grid", "In weather", "Accuracy in weather.", "share", "higher", axes=axes),
        Output("found", "trace", "Still robust", "Robust after so many queries.", "share", "lower", "linf", axes=work),
        Output("stands", "verdict", "Storm", "Stands a storm.", "share", "higher", "linf", 0.1, "stands"),
        Output("damage", "scalar", "Damage", "What a storm costs.", "euros", "lower"),
    )


def digest(*parts: object) -> str:
    """A SHA-256 of anything, for the places where the database wants one."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


@dataclass
class Board:
    """What `populate` made: ids to look things up by."""

    dataset_id: int
    protocol_id: int
    n: int
    models: dict[str, int] = field(default_factory=dict)


def populate(
    database: Database,
    *,
    models: int = 7,
    n: int = 60,
    seed: int = 0,
    store: EvidenceStore | None = None,
    title: str | None = None,
    attacks: tuple[str, ...] = ("shrinking", "primal-dual"),
    exact: int = 20,
    weather: bool = False,
) -> Board:
    """Fill an empty database with a board.

    Args:
        database: A database at the newest migration.
        models: Number of complete rows.
        n: Samples.
        seed: Of everything random.
        store: Where to keep adversarial examples; without one there are distances only.
        title: A title for the first model.
        attacks: Names of the attacks of each norm, the strongest first.
        exact: Samples that the exact solver measured, on every second model.
        weather: Whether every model has an evaluation of a measure with outputs of the kinds that others lack.
    """
    rng = np.random.default_rng(seed)
    images = rng.integers(90, 166, size=(n, 1, 8, 8), dtype=np.uint8)
    labels = np.arange(n) % len(CLASSES)
    images[:, 0, :, :] += (labels * 2).astype(np.uint8)[:, None, None]
    with database.write() as session:
        board = _frame(session, images, labels)
    for first in range(0, models, 50):
        with database.write() as session:
            for index in range(first, min(first + 50, models)):
                builder = _Row(session, board, index, rng=rng, images=images, labels=labels, store=store)
                builder.add(title=title if index == 0 else None, attacks=attacks, exact=exact if index % 2 == 0 else 0)
                if weather:
                    builder.add_weather()
    return board


def add_model(database: Database, board: Board, *, seed: int = 1, n: int | None = None) -> str:
    """One more complete row; returns its slug."""
    rng = np.random.default_rng(seed)
    size = board.n if n is None else n
    images = rng.integers(90, 166, size=(size, 1, 8, 8), dtype=np.uint8)
    with database.write() as session:
        row = _Row(
            session,
            board,
            len(board.models),
            rng=rng,
            images=images,
            labels=np.arange(size) % len(CLASSES),
            store=None,
        )
        row.add(title=None, attacks=("shrinking", "primal-dual"), exact=0)
    return row.slug


def _frame(session: Session, images: NDArray[np.uint8], labels: NDArray[Any]) -> Board:
    dataset = Dataset(
        name="synthetic",
        digest=digest("dataset", images.shape),
        title="Invented images of 8×8 pixels",
        size=len(images),
        card={
            "shape": [1, 8, 8],
            "classes": list(CLASSES),
            "levels": 255,
            "eps": EPS,
            "licence": "CC0-1.0",
            "source": "drawn at random",
        },
        added_at=START,
    )
    if len(images) <= 2000:
        facts = {"images": images, "labels": labels.astype(np.int64), **_nearest(images, labels)}
        dataset.arrays = [DatasetArray(name=name, data=data) for name, data in facts.items()]
    measures = [
        {"measure": "clean"},
        {"measure": "curve", "norm": list(NORMS), "attack": "*"},
        {"measure": "clever", "norm": list(NORMS)},
        {"measure": "certificate", "norm": list(NORMS)},
    ]
    protocol = Protocol(
        name="standard",
        version=2,
        title="Whole curves in three norms",
        spec={"name": "standard", "version": 2, "measures": measures, "columns": list(COLUMNS)},
        added_at=START,
    )
    session.add_all([dataset, protocol])
    session.flush()
    return Board(dataset.id, protocol.id, len(images))


def _nearest(images: NDArray[np.uint8], labels: NDArray[Any]) -> dict[str, NDArray[Any]]:
    x = images.reshape(len(images), -1) / 255.0
    gaps = np.abs(x[:, None] - x[None])
    found = {}
    for norm in NORMS:
        d = gaps.max(2) if norm == "linf" else np.sqrt((gaps**2).sum(2)) if norm == "l2" else gaps.sum(2)
        d[labels[:, None] == labels[None]] = np.inf
        found[f"nearest_{norm}"] = d.min(1)
        found[f"nearest_index_{norm}"] = d.argmin(1).astype(np.int64)
    return found


class _Row:
    """Adds one model with its evaluations."""

    def __init__(
        self,
        session: Session,
        board: Board,
        index: int,
        *,
        rng: np.random.Generator,
        images: NDArray[np.uint8],
        labels: NDArray[Any],
        store: EvidenceStore | None,
    ) -> None:
        self.session, self.board, self.index, self.rng, self.store = session, board, index, rng, store
        self.x = (images.astype(np.float32) / np.float32(255)).astype(np.float32)
        self.labels = labels
        self.n = len(images)
        self.kind = index % len(METHODS)
        method = METHODS[self.kind][0].lower().replace(" ", "-")
        self.slug = f"{method}-{index}" if index >= len(METHODS) else f"{method}-{'abcdefg'[index]}"
        self.at = START + timedelta(hours=index)
        self.count = 0

    def add(self, *, title: str | None, attacks: tuple[str, ...], exact: int) -> None:
        """The model, its evaluations and cells."""
        method, norm, eps = METHODS[self.kind]
        architecture = ARCHITECTURES[self.index % len(ARCHITECTURES)]
        card = {
            "slug": self.slug,
            "title": title or f"{method} {self.index}",
            "authors": ["Ada Example", "Ben Sample"],
            "paper": "https://arxiv.org/abs/0000.00000",
            "year": 2017 + self.index % 9,
            "venue": ("ICML", "NeurIPS", "ICLR", "")[self.index % 4],
            "licence": "MIT",
            "dataset": "synthetic",
            "architecture": architecture,
            "arguments": {"width": 32},
            "preprocessing": [],
            "training_method": method,
            "training_norm": norm,
            "training_eps": eps,
            "extra_data": self.index % 5 == 4,
            "notes": "",
            "claims": [
                {"name": "clean_accuracy", "value": 0.97, "norm": None, "eps": None, "source": "its paper"},
                {"name": "robust_accuracy", "value": 0.41, "norm": "linf", "eps": 0.1, "source": "its paper, table 2"},
            ]
            if norm
            else [],
        }
        model = Model(
            slug=self.slug, digest=digest("model", self.slug), title=card["title"], card=card, added_at=self.at
        )
        self.session.add(model)
        self.session.flush()
        self.model_id = model.id
        self.board.models[self.slug] = model.id
        self.wrong = self.rng.random(self.n) < 0.02 + 0.01 * (self.index % 4)
        hardness = self.rng.normal(size=self.n)
        self.best = {name: np.full(self.n, np.inf) for name in NORMS}
        self._clean()
        for k, name in enumerate(NORMS):
            drawn = np.exp(SPREAD[self.kind] * (0.8 * hardness + 0.6 * self.rng.normal(size=self.n)))
            drawn *= SCALE[name] * STRENGTH[self.kind][k] * (1 + 0.03 * (self.index // len(METHODS)))
            self._attacks(name, np.minimum(drawn, {"linf": 0.3, "l2": 1.6, "l1": 4.0}[name]), attacks)
        for name in NORMS:
            self._bounds(name, exact)
        self.session.add(
            Change(at=self.at, kind="model-added", model_id=model.id, dataset_id=self.board.dataset_id, detail={})
        )

    def _attacks(self, norm: str, distances: NDArray[Any], attacks: tuple[str, ...]) -> None:
        for k, attack in enumerate(attacks):
            claimed = distances * (1 + 0.25 * k * self.rng.random(self.n)) * (1 - 0.1 * (self.rng.random(self.n) < 0.2))
            found = self.rng.random(self.n) > 0.01 + 0.1 * k
            arrays, evidence = self._examples(norm, claimed, found)
            arrays["origin"] = np.full(self.n, b"clean-start" if k == 0 else b"pool-start")
            for other in NORMS:
                self.best[other] = np.minimum(self.best[other], arrays[f"distance_{other}"])
            shares = self._scores(arrays[f"distance_{norm}"], norm)
            parameters = {"norm": norm, "attack": attack, "effort": "standard"}
            self._evaluation(
                "curve", parameters, arrays, evidence=evidence, scores=shares, passes=(9000, 7000 * (k + 1))
            )

    def _bounds(self, norm: str, exact: int) -> None:
        best = self.best[norm]
        finite = np.where(np.isfinite(best), best, 3 * SCALE[norm])
        radius = finite * self.rng.uniform(0.3, 0.8, self.n)
        self._evaluation("certificate", {"norm": norm, "method": "crown"}, {"radius": radius})
        score = finite * np.exp(0.2 * self.rng.normal(size=self.n) - 0.05)
        self._evaluation(
            "clever",
            {"norm": norm, "preset": "board", "targets": "untargeted"},
            {"score": np.where(self.wrong, 0.0, score)},
            scores=[Score(name="mean_clever", value=float(score.mean()), unit="distance", direction="higher")],
        )
        if exact and norm != "l2":
            upper = finite[:exact] * self.rng.uniform(0.9, 1.0, exact)
            solved = self.rng.random(exact) < 0.9
            lower = np.where(solved, upper, np.maximum(radius[:exact], upper * 0.8))
            self._evaluation("exact", {"norm": norm}, {"lower": lower, "upper": upper, "solved": solved}, cell=False)

    def _clean(self) -> None:
        predicted = np.where(self.wrong, (self.labels + 1) % len(CLASSES), self.labels).astype(np.int64)
        share = float(1 - self.wrong.mean())
        flags = []
        if self.index % 7 == 4:
            flags.append(Flag(code="randomised", message="Two passes of one image differ by 0.013.", value=0.013))
        self._evaluation(
            "clean",
            {},
            {"prediction": predicted, "correct": ~self.wrong},
            scores=[Score(name="accuracy", value=share, unit="share", direction="higher")],
            flags=flags,
        )

    def add_weather(self) -> None:
        """An evaluation with a grid, a trace, a verdict and a scalar."""
        grid = np.clip(0.9 - 0.1 * np.arange(9).reshape(3, 3) / 4 - 0.02 * self.index, 0, 1)
        trace = np.array([0.9, 0.7, 0.4, 0.2]) - 0.01 * self.index
        stands = self.best["linf"] > 0.1
        self._evaluation(
            "weather",
            {},
            {"stands": stands},
            scores=[
                Score(name="damage", value=17.5 + self.index, low=15.0, high=99.0, unit="euros", direction="lower")
            ],
            tables=[
                SummaryTable(name=name, data=np.stack([values, values - 0.05, values + 0.05]), confidence=0.95)
                for name, values in (("accuracy_in_weather", grid), ("found", trace))
            ],
        )

    def _scores(self, distances: NDArray[Any], norm: str) -> list[Score]:
        return [
            Score(
                name=f"robust_accuracy_{eps:g}",
                value=float((distances > eps).mean()),
                unit="share",
                direction="higher",
            )
            for eps in EPS[norm]
        ]

    def _examples(
        self, norm: str, claimed: NDArray[Any], found: NDArray[np.bool_]
    ) -> tuple[dict[str, NDArray[Any]], str | None]:
        """The distances in every norm, and the examples' digest."""
        found = found & ~self.wrong
        adversarials = None
        if self.store is None:
            pixels = 64
            factor = {
                "linf": {"linf": 1.0, "l2": np.sqrt(pixels), "l1": pixels},
                "l2": {"linf": 0.4, "l2": 1.0, "l1": np.sqrt(pixels) * 0.8},
                "l1": {"linf": 0.5, "l2": 0.6, "l1": 1.0},
            }[norm]
            measured = {other: claimed * factor[other] for other in NORMS}
        else:
            adversarials = self._perturbed(norm, claimed)
            delta = (adversarials.astype(np.float64) - self.x).reshape(self.n, -1)
            measured = {
                "linf": np.abs(delta).max(1),
                "l2": np.sqrt((delta**2).sum(1)),
                "l1": np.abs(delta).sum(1),
            }
        arrays: dict[str, NDArray[Any]] = {}
        for other, values in measured.items():
            arrays[f"distance_{other}"] = np.where(self.wrong, 0.0, np.where(found, values, np.inf))
        if adversarials is None or self.store is None:
            return arrays, None
        stored = self.store.put(np.flatnonzero(found).astype(np.int64), adversarials[found])
        if self.session.get(Evidence, stored.digest) is None:
            self.session.add(
                Evidence(digest=stored.digest, bytes=stored.bytes, samples=stored.samples, created_at=self.at)
            )
            self.session.flush()
        return arrays, stored.digest

    def _perturbed(self, norm: str, claimed: NDArray[Any]) -> NDArray[np.float32]:
        shape = self.x.shape
        if norm == "linf":
            delta = self.rng.choice([-1.0, 1.0], size=shape)
        elif norm == "l2":
            delta = self.rng.normal(size=shape)
            delta /= np.sqrt((delta**2).sum((1, 2, 3), keepdims=True))
        else:
            delta = np.zeros((self.n, shape[2] * shape[3]))
            for row in delta:
                chosen = self.rng.choice(row.size, 16, replace=False)
                row[chosen] = self.rng.choice([-1, 1], size=16) / 16
            delta = delta.reshape(shape)
        return np.clip(self.x + delta * claimed[:, None, None, None], 0, 1).astype(np.float32)

    def _evaluation(
        self,
        measure: str,
        parameters: dict[str, Any],
        arrays: dict[str, NDArray[Any]],
        *,
        evidence: str | None = None,
        scores: list[Score] | None = None,
        flags: list[Flag] | None = None,
        tables: list[SummaryTable] | None = None,
        passes: tuple[int, int] = (1, 0),
        cell: bool = True,
    ) -> None:
        self.count += 1
        at = self.at + timedelta(minutes=self.count)
        samples = len(next(iter(arrays.values())))
        evaluation = Evaluation(
            key=digest(self.slug, measure, sorted(parameters.items())),
            model_id=self.model_id,
            dataset_id=self.board.dataset_id,
            n=self.n,
            samples=samples,
            measure=measure,
            version=1000,
            parameters=parameters,
            norm=parameters.get("norm"),
            outputs=[output.to_json() for output in outputs_of(measure, parameters.get("norm"))],
            seed=0,
            state=State.DONE,
            created_at=self.at,
            started_at=at - timedelta(seconds=50),
            finished_at=at,
            provenance={
                "device": "cpu",
                "packages": {"numpy": "2.4.6", "torch": "2.13.0"},
                "method": {"title": ABOUT.get(parameters.get("attack", measure), ""), "paper": PAPER},
            },
            scores=scores or [],
            flags=flags or [],
            tables=tables or [],
        )
        self.session.add(evaluation)
        self.session.flush()
        chunk = Chunk(
            evaluation_id=evaluation.id,
            start=0,
            stop=samples,
            seconds=0.02 * samples,
            forward_passes=passes[0] * samples,
            backward_passes=passes[1] * samples,
            evidence_digest=evidence,
            notes=[],
        )
        self.session.add(chunk)
        self.session.flush()
        self.session.execute(
            insert(Array), [{"chunk_id": chunk.id, "name": name, "data": data} for name, data in sorted(arrays.items())]
        )
        if cell:
            self.session.add(
                Cell(
                    protocol_id=self.board.protocol_id,
                    model_id=self.model_id,
                    dataset_id=self.board.dataset_id,
                    n=self.n,
                    evaluation_id=evaluation.id,
                )
            )
