"""The boards as files: CSV and JSON a board, one SQLite for everything, figures for papers, a Croissant description."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from db.queries import ChangeInfo
from sitegen.axes import Axis
from sitegen.board_charts import curves_chart, ranks_chart
from sitegen.board_view import BoardView
from sitegen.pdf import pdf
from sitegen.plots import svg
from sitegen.render import Frame, render
from sitegen.rows import BuiltRow


def download_pages(
    views: Sequence[BoardView], changes: Sequence[ChangeInfo], *, as_of: datetime | None
) -> dict[str, bytes]:
    """Every file for downloading, and the page that lists them."""
    files: dict[str, bytes] = {}
    rows = {view.board.slug: [_flat(view, built) for built in view.everyone] for view in views}
    for view in views:
        files[f"{view.folder}/board.csv"] = _csv(rows[view.board.slug])
        files[f"{view.folder}/board.json"] = _board_json(view, rows[view.board.slug])
        for norm in view.axes if view.rows else ():
            for name, chart in (("curves", curves_chart(view, norm)), ("ranks", ranks_chart(view, norm))):
                drawn = svg(chart, width=760, height=460)
                files[f"{view.folder}/figures/{name}-{norm}.svg"] = drawn.encode()
                files[f"{view.folder}/figures/{name}-{norm}.pdf"] = pdf(drawn)
    files["curveboard.sqlite"] = _sqlite(views, rows, changes)
    data = {name: content for name, content in files.items() if name.endswith((".csv", ".json", ".sqlite"))}
    files["croissant.json"] = _json(_croissant(views, data))
    frame = Frame("Downloads", "The boards as CSV, JSON and SQLite.", "", "Downloads", as_of=as_of)
    sizes = {name: len(content) for name, content in files.items()}
    files["downloads.html"] = render("downloads.html", frame, views=views, sizes=sizes)
    return files


def _flat(view: BoardView, built: BuiltRow) -> dict[str, Any]:
    """A row of the CSV; shares, not percentages."""
    card = built.row.model.card
    flat: dict[str, Any] = {
        "board": view.board.slug,
        "slug": built.slug,
        "title": built.title,
        "digest": built.row.model.digest,
        "status": built.row.status.value,
        "protocol_version": built.row.protocol.version,
        "architecture": built.summary["architecture"],
        "training_method": card.get("training_method") or "",
        "training_norm": card.get("training_norm") or "",
        "training_eps": card.get("training_eps"),
        "extra_data": bool(card.get("extra_data")),
        "year": card.get("year"),
        "venue": card.get("venue") or "",
        "flags": " ".join(built.summary["flags"]),
        "seconds": round(built.summary["seconds"], 3),
    }
    flat |= _triple("clean_accuracy", built.summary["clean"])
    for norm, axis in view.axes.items():
        figures = built.summary["norms"].get(norm, {})
        for k, eps in enumerate(axis.published):
            flat |= _triple(f"{norm}_{eps:g}", figures["published"][k] if figures else None)
            flat[f"{norm}_{eps:g}_certified"] = figures["certified"][k] if figures else None
        flat |= _triple(f"{norm}_area", figures.get("area"))
        for name in ("median", "clever", "violations", "decided", "censored"):
            flat[f"{norm}_{name}"] = figures.get(name)
    return flat


def _triple(name: str, value: Sequence[float] | None) -> dict[str, float | None]:
    low, high = (value[1], value[2]) if value else (None, None)
    return {name: value[0] if value else None, f"{name}_low": low, f"{name}_high": high}


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    buffer = io.StringIO()
    if rows:
        writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return buffer.getvalue().encode()


def _board_json(view: BoardView, rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A line for each model, which is as readable as indented JSON and several times as fast to write."""
    head = json.dumps(_board(view), ensure_ascii=False, allow_nan=False, sort_keys=True)
    lines = ",\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False, sort_keys=True) for row in rows)
    return f'{head[:-1]},\n"models": [\n{lines}\n]}}\n'.encode()


def _board(view: BoardView) -> dict[str, Any]:
    dataset = view.board.dataset
    return {
        "board": view.board.slug,
        "dataset": {"name": dataset.name, "digest": dataset.digest, "title": dataset.title, "samples": view.board.n},
        "protocol": {
            "name": view.board.protocol.name,
            "version": view.board.protocol.version,
            "spec": view.board.protocol.spec,
        },
        "axes": {norm: _axis(axis) for norm, axis in view.axes.items()},
        "ranks": {norm: _ranks(view, norm) for norm in view.axes},
    }


def _axis(axis: Axis) -> dict[str, Any]:
    return {"published": list(axis.published), "maximum": axis.maximum, "reference": dict(axis.reference)}


def _ranks(view: BoardView, norm: str) -> list[dict[str, Any]]:
    ranking = view.rankings[norm]
    at = np.searchsorted(ranking.axis.ranked, ranking.axis.published)
    return [
        {
            "eps": float(ranking.axis.ranked[i]),
            "models": {
                built.slug: [int(ranking.table.rank[k, i]), int(ranking.table.low[k, i]), int(ranking.table.high[k, i])]
                for k, built in enumerate(ranking.rows)
            },
        }
        for i in at
    ]


def _sqlite(
    views: Sequence[BoardView], rows: Mapping[str, Sequence[Mapping[str, Any]]], changes: Sequence[ChangeInfo]
) -> bytes:
    """A small database of all boards; the same rows give the same bytes."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "curveboard.sqlite"
        connection = sqlite3.connect(path)
        try:
            connection.executescript(
                """
                CREATE TABLE models (board TEXT, slug TEXT, title TEXT, digest TEXT, status TEXT, architecture TEXT,
                    training_method TEXT, training_norm TEXT, training_eps REAL, year INTEGER, venue TEXT,
                    extra_data INTEGER, flags TEXT, clean_accuracy REAL);
                CREATE TABLE robust_accuracy (board TEXT, slug TEXT, norm TEXT, eps REAL, published INTEGER,
                    value REAL);
                CREATE TABLE figures (board TEXT, slug TEXT, norm TEXT, name TEXT, value REAL);
                CREATE TABLE changes (id INTEGER, at TEXT, kind TEXT, model TEXT, dataset TEXT, detail TEXT);
                """
            )
            for view in views:
                _insert_board(connection, view, rows[view.board.slug])
            connection.executemany(
                "INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (c.id, c.at.isoformat(), c.kind, c.model, c.dataset, json.dumps(c.detail, sort_keys=True))
                    for c in changes
                ],
            )
            connection.commit()
        finally:
            connection.close()
        return path.read_bytes()


def _insert_board(connection: sqlite3.Connection, view: BoardView, rows: Sequence[Mapping[str, Any]]) -> None:
    names = [
        "board",
        "slug",
        "title",
        "digest",
        "status",
        "architecture",
        "training_method",
        "training_norm",
        "training_eps",
        "year",
        "venue",
        "extra_data",
        "flags",
        "clean_accuracy",
    ]
    marks = ", ".join("?" * len(names))
    connection.executemany(f"INSERT INTO models VALUES ({marks})", [[row[n] for n in names] for row in rows])  # noqa: S608
    connection.executemany("INSERT INTO robust_accuracy VALUES (?, ?, ?, ?, ?, ?)", _points(view))
    figures = [
        (view.board.slug, built.slug, norm, name, found[name])
        for built in view.everyone
        for norm, found in built.summary["norms"].items()
        for name in ("median", "clever", "violations", "decided", "censored")
        if found[name] is not None
    ]
    connection.executemany("INSERT INTO figures VALUES (?, ?, ?, ?, ?)", figures)


def _points(view: BoardView) -> Iterator[tuple[str, str, str, float, int, float]]:
    """The curves at the ticks and the published budgets of their axes."""
    for norm, axis in view.axes.items():
        wanted = sorted({*axis.ticks, *axis.published})
        at = np.searchsorted(axis.grid, np.array(wanted) - 1e-12)
        for built in view.everyone:
            if norm in built.numbers:
                for eps, i in zip(wanted, at, strict=True):
                    share = int(built.numbers[norm].counts[i]) / view.board.n
                    yield view.board.slug, built.slug, norm, eps, int(eps in axis.published), share


def _croissant(views: Sequence[BoardView], data: Mapping[str, bytes]) -> dict[str, Any]:
    """The download as a dataset in the Croissant format (MLCommons, JSON-LD), with checksums."""
    kinds = {"csv": "text/csv", "json": "application/json", "sqlite": "application/vnd.sqlite3"}
    distribution = [
        {
            "@type": "cr:FileObject",
            "@id": name,
            "name": name,
            "contentUrl": name,
            "encodingFormat": kinds[name.rpartition(".")[2]],
            "contentSize": f"{len(content)} B",
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        for name, content in sorted(data.items())
    ]
    record_sets = [_record_set(view) for view in views if view.everyone]
    return {
        "@context": {
            "@language": "en",
            "@vocab": "https://schema.org/",
            "sc": "https://schema.org/",
            "cr": "http://mlcommons.org/croissant/",
            "dct": "http://purl.org/dc/terms/",
            "conformsTo": "dct:conformsTo",
            "recordSet": "cr:recordSet",
            "field": "cr:field",
            "source": "cr:source",
            "fileObject": "cr:fileObject",
            "extract": "cr:extract",
            "column": "cr:column",
            "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        },
        "@type": "sc:Dataset",
        "name": "curveboard",
        "description": "Robustness curves, ranks, certificates and CLEVER scores of image classifiers.",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "distribution": distribution,
        "recordSet": record_sets,
    }


def _record_set(view: BoardView) -> dict[str, Any]:
    first = _flat(view, view.everyone[0])
    csv_file = f"{view.folder}/board.csv"
    texts = {"board", "slug", "title", "digest", "status", "architecture", "training_method", "training_norm"}
    texts |= {"venue", "flags"}
    return {
        "@type": "cr:RecordSet",
        "@id": view.board.slug,
        "name": view.board.slug,
        "description": f"One record a model of {view.title}.",
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{view.board.slug}/{name}",
                "name": name,
                "dataType": "sc:Text" if name in texts else "sc:Boolean" if name == "extra_data" else "sc:Float",
                "source": {"fileObject": {"@id": csv_file}, "extract": {"column": name}},
            }
            for name in first
        ],
    }


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, sort_keys=True) + "\n").encode()
