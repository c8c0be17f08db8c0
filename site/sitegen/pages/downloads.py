"""The boards as files: CSV and JSON a board, one SQLite for everything, figures for papers, a Croissant description."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from db.queries import ChangeInfo
from sitegen.axes import Axis
from sitegen.board_view import BoardView, Ranking
from sitegen.charts.board import curves_chart, ranks_chart
from sitegen.charts.pdf import pdf
from sitegen.charts.svg import svg
from sitegen.citations import board_bibtex
from sitegen.pages import Page, Site
from sitegen.records import Share
from sitegen.render import Frame, render
from sitegen.rows import BuiltRow

FIGURES: Final = ("median", "decided", "censored")
"""Figures of a whole curve that the files hold."""


def _make(site: Site) -> dict[str, bytes]:
    """Every file for downloading, and the page that lists them."""
    views, changes, as_of = site.views, site.changes, site.as_of
    files: dict[str, bytes] = {}
    rows = {view.board.slug: flat_rows(view) for view in views}
    for view in views:
        files[f"{view.folder}/board.csv"] = _csv(rows[view.board.slug])
        files[f"{view.folder}/board.json"] = _board_json(view, rows[view.board.slug])
        files[f"{view.folder}/board.bib"] = board_bibtex(view).encode()
        for threat in drawn_threats(view):
            for name, chart in (("curves", curves_chart(view, threat)), ("ranks", ranks_chart(view, threat))):
                drawn = svg(chart, width=760, height=460)
                files[f"{view.folder}/figures/{name}-{threat}.svg"] = drawn.encode()
                files[f"{view.folder}/figures/{name}-{threat}.pdf"] = pdf(drawn)
    files["curveboard.sqlite"] = _sqlite(views, rows, changes)
    data = {name: content for name, content in files.items() if name.endswith((".csv", ".json", ".sqlite"))}
    files["croissant.json"] = _json(_croissant(views, data))
    frame = Frame("Downloads", "The boards as CSV, JSON and SQLite.", "", "Downloads", as_of=as_of)
    sizes = {name: len(content) for name, content in files.items()}
    files["downloads.html"] = render("downloads.html", frame, views=views, sizes=sizes, drawn_threats=drawn_threats)
    return files


def drawn_threats(view: BoardView) -> list[str]:
    """The threats of a board that have figures."""
    return [threat for threat, ranking in view.rankings.items() if ranking.rows]


def flat_rows(view: BoardView) -> list[dict[str, Any]]:
    """The rows of the CSV: every declared output of any row is a column of all."""
    outputs = sorted({name for built in view.everyone for name in built.record.fields})
    return [_flat(view, built) | {name: built.record.fields.get(name) for name in outputs} for built in view.everyone]


def _flat(view: BoardView, built: BuiltRow) -> dict[str, Any]:
    """A row of the CSV without its declared outputs; shares, not percentages."""
    card, record = built.row.model.card, built.record
    flat: dict[str, Any] = {
        "board": view.board.slug,
        "slug": built.slug,
        "title": built.title,
        "digest": built.row.model.digest,
        "status": "crossed" if record.crossing else built.row.status.value,
        "protocol_version": built.row.protocol.version,
        "authors": "; ".join(map(str, card.get("authors") or [])),
        "paper": str(card.get("paper") or ""),
        "repository": str(card.get("repository") or ""),
        "architecture": record.architecture,
        "parameters": record.parameters,
        "training_method": card.get("training_method") or "",
        "training_norm": card.get("training_norm") or "",
        "training_eps": card.get("training_eps"),
        "extra_data": bool(card.get("extra_data")),
        "year": card.get("year"),
        "venue": card.get("venue") or "",
        "flags": " ".join(record.flags),
        "seconds": round(record.seconds, 3),
        "passes": record.passes,
        "flops_image": record.flops,
        "seconds_image": record.latency,
        "verified": record.verified.at if record.verified else "",
        "evaluations_reported": record.reported,
    }
    flat |= _share("clean_accuracy", record.clean)
    for threat, axis in view.axes.items():
        figures = record.threats.get(threat)
        for k, eps in enumerate(axis.published):
            flat |= _share(f"{threat}_{eps:g}", figures.published[k].accuracy if figures else None)
            flat[f"{threat}_{eps:g}_certified"] = figures.published[k].certified if figures else None
            flat[f"{threat}_{eps:g}_rank"] = _rank(view.rankings[threat], built, eps)
        flat |= _share(f"{threat}_area", figures.area if figures else None)
        for name in FIGURES:
            flat[f"{threat}_{name}"] = getattr(figures, name) if figures else None
    return flat


def _rank(ranking: Ranking, built: BuiltRow, eps: float) -> int | None:
    """The row's rank at a marked budget; None where it has none, or every model is broken."""
    places = [i for i, row in enumerate(ranking.rows) if row is built]
    counts = ranking.counts[:, int(np.searchsorted(ranking.axis.grid, eps))]
    return 1 + int((counts > counts[places[0]]).sum()) if places and counts.any() else None


def _share(name: str, value: Share | None) -> dict[str, float | None]:
    found = (value.value, value.low, value.high) if value else (None, None, None)
    return dict(zip((name, f"{name}_low", f"{name}_high"), found, strict=True))


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
        "axes": {threat: _axis(axis) for threat, axis in view.axes.items()},
        "ranks": {threat: _ranks(view, threat) for threat in view.axes},
    }


def _axis(axis: Axis) -> dict[str, Any]:
    return {
        "published": list(axis.published) if axis.stated else [],
        "marked": list(axis.published),
        "maximum": axis.maximum,
        "reference": dict(axis.reference),
    }


def _ranks(view: BoardView, threat: str) -> list[dict[str, Any]]:
    ranking = view.rankings[threat]
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
                CREATE TABLE robust_accuracy (board TEXT, slug TEXT, threat TEXT, eps REAL, published INTEGER,
                    value REAL);
                CREATE TABLE figures (board TEXT, slug TEXT, threat TEXT, name TEXT, value REAL);
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
    figures: list[tuple[str, str, str | None, str, float]] = [
        (view.board.slug, built.slug, threat, name, value)
        for built in view.everyone
        for threat, found in built.record.threats.items()
        for name in FIGURES
        if (value := getattr(found, name)) is not None
    ]
    figures += [
        (view.board.slug, built.slug, None, name, value)
        for built in view.everyone
        for name, value in built.record.fields.items()
        if value is not None
    ]
    connection.executemany("INSERT INTO figures VALUES (?, ?, ?, ?, ?)", figures)


def _points(view: BoardView) -> Iterator[tuple[str, str, str, float, int, float]]:
    """The curves at the ticks and the published budgets of their axes."""
    for threat, axis in view.axes.items():
        wanted = sorted({*axis.ticks, *axis.published})
        at = np.searchsorted(axis.grid, np.array(wanted) - 1e-12)
        for built in view.everyone:
            if threat in built.numbers:
                for eps, i in zip(wanted, at, strict=True):
                    share = int(built.numbers[threat].counts[i]) / view.board.n
                    yield view.board.slug, built.slug, threat, eps, int(eps in axis.published), share


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
        "description": "Robustness curves, ranks, bounds and scores of image classifiers.",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "distribution": distribution,
        "recordSet": record_sets,
    }


def _record_set(view: BoardView) -> dict[str, Any]:
    first = flat_rows(view)[0]
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


PAGE = Page("downloads", _make, menu="Downloads", address="downloads.html", order=70)
