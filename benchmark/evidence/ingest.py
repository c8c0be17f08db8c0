"""Reading a bundle: verified in a scratch database first, and only then entered into a real one."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from benchmark.board.history import record_change, record_rows
from benchmark.data import Dataset, all_datasets
from benchmark.errors import InputError
from benchmark.evidence.bundle import FORMAT
from benchmark.evidence.check import Report, Subject, check, choose
from benchmark.evidence.container import Container
from benchmark.evidence.proofs import needs
from benchmark.evidence.store import EvidenceStore, StoredEvidence, unpack
from benchmark.jobs import record
from benchmark.jobs.job import Job
from benchmark.jobs.lease import release
from benchmark.results import Flag, Score, Summary
from benchmark.threat import norm_names
from db.schema import Base, Cell, Chunk, Evaluation, Protocol, State
from db.session import Database, alone
from models_zoo import Entry, catalogue
from models_zoo.cards import card_table, parse_card
from models_zoo.catalogue import CARD
from models_zoo.loading import load_entry


@dataclass(frozen=True)
class Contents:
    """A bundle whose card and dataset have been read.

    Attributes:
        container: The open file.
        entry: The model, its files unpacked beside its card.
        dataset: The dataset, from the bundle where it carries it.
        notes: What a reader of the verdict should know.
    """

    container: Container
    entry: Entry
    dataset: Dataset
    notes: tuple[str, ...]


@dataclass
class Ingested:
    """What came into the database.

    Attributes:
        slug: The model.
        entered: Evaluations entered.
        known: Evaluations that were there already.
        notes: What was left out, and why.
        report: The verification that came first; with problems, nothing was entered.
    """

    slug: str
    report: Report
    entered: int = 0
    known: int = 0
    notes: list[str] = field(default_factory=list)


def verify_bundle(
    path: Path, *, samples: int | None = None, seed: int = 0, device: str = "cpu", trust_code: bool = False
) -> Report:
    """Verify a bundle by itself: no workspace, no network if it carries its weights and data.

    Args:
        path: The bundle.
        samples: Only so many samples, drawn at random.
        seed: Of the drawing.
        device: Where the model runs.
        trust_code: Whether Python code in it may run, in a process of its own.

    Raises:
        InputError: If it is no sound bundle.
        ZooError: If the model in it cannot be read or does not fit.
    """
    with open_bundle(path, trust_code=trust_code) as contents:
        return _verify(contents, samples=samples, seed=seed, device=device)


def ingest(
    database: Database,
    store: EvidenceStore,
    models: Path,
    path: Path,
    *,
    device: str = "cpu",
    trust_code: bool = False,
) -> Ingested:
    """Verify a bundle, then enter what is new in it. Doing it again changes nothing.

    Args:
        database: The database.
        store: Where its evidence goes.
        models: Folder of submitted models, where the model's files go.
        path: The bundle.
        device: Where the model runs.
        trust_code: Whether Python code in it may run.

    Raises:
        InputError: If it is no sound bundle, or contradicts what is here: another model of the same name, another
            protocol of the same name and version, a dataset that is not registered.
    """
    with open_bundle(path, trust_code=trust_code) as contents:
        _refuse_conflicts(database, models, contents)
        report = _verify(contents, samples=None, seed=0, device=device)
        outcome = Ingested(contents.entry.slug, report)
        if report.problems:
            return outcome
        _copy_evidence(contents, store)
        entry = _install(contents.entry, models)
        with database.write() as session:
            _enter(session, contents, entry, outcome)
    return outcome


@contextmanager
def open_bundle(path: Path, *, trust_code: bool) -> Iterator[Contents]:
    """Open a bundle and unpack the model's files into a scratch folder, under names that the card's reader accepts."""
    with Container(path) as container, tempfile.TemporaryDirectory(prefix="curveboard-bundle-") as scratch:
        manifest = container.manifest
        if manifest.get("format") != FORMAT:
            raise InputError(f"{path} has the format {manifest.get('format')!r}; this program reads {FORMAT!r}.")
        with _sound(path):
            _require_tables(manifest)
            entry = _unpack_model(container, Path(scratch), trust_code=trust_code)
            if entry.digest != manifest["model"]["digest"]:
                raise InputError(
                    f"{path}: the model's card and files have the digest {entry.digest[:12]}…, the bundle states "
                    f"{manifest['model']['digest'][:12]}…; it was altered, or made by another version of curveboard."
                )
            dataset, note = _dataset(container)
        yield Contents(container, entry, dataset, (note,) if note else ())


def _require_tables(manifest: Mapping[str, Any]) -> None:
    """Raise unless the manifest has the lists of tables that others walk through."""
    evaluations = _tables(manifest["evaluations"])
    chunks = [chunk for evaluation in evaluations for chunk in _tables(evaluation["chunks"])]
    if any(chunk["evidence"] is not None and not isinstance(chunk["evidence"], str) for chunk in chunks):
        raise TypeError("a chunk's evidence is no digest")
    for protocol in _tables(manifest["protocols"]):
        int(protocol["version"]), str(protocol["name"]), dict(protocol["spec"])
    _tables(manifest["files"])


def _tables(values: Any) -> list[dict[str, Any]]:
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise TypeError("what should be a list of tables is none")
    return values


@contextmanager
def _sound(path: Path) -> Iterator[None]:
    """What goes wrong with the types inside a manifest is the bundle's fault."""
    try:
        yield
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path} is no sound bundle: {type(error).__name__}: {str(error)[:200]}.") from error


def _unpack_model(container: Container, scratch: Path, *, trust_code: bool) -> Entry:
    manifest = container.manifest
    card = dict(manifest["model"]["card"])
    card.pop("trusted", None)
    folder = scratch / "model"
    folder.mkdir()
    entry = parse_card(card, folder=folder)
    if entry.slug != manifest["model"]["slug"]:
        raise InputError(f"the card is of {entry.slug!r}, the bundle of {manifest['model']['slug']!r}.")
    expected = {w.name for w in entry.weights}
    files = {str(file["name"]): str(file["member"]) for file in manifest["files"]}
    if not set(files) <= expected or CARD in files:
        raise InputError(f"it brings files that its card does not name: {', '.join(sorted(set(files) - expected))}.")
    for name, member in files.items():
        (folder / name).write_bytes(container.read(member))
    # What lies here needs no download; the address is no part of the model's digest.
    here = [dataclasses.replace(w, urls=()) if w.name in files else w for w in entry.weights]
    # Trust is in exactly this code: its digest is the file's, which is verified whenever it is read.
    trusted = next((w.sha256 for w in here if trust_code and w.name == entry.code), "")
    return dataclasses.replace(entry, weights=tuple(here), trusted=trusted)


def _dataset(container: Container) -> tuple[Dataset, str]:
    """The bundle's dataset, and what to know about it."""
    values = container.manifest["dataset"]
    name, digest = str(values["name"]), str(values["digest"])
    registered = all_datasets().get(name)
    same = registered is not None and registered.digest == digest
    if not values["included"]:
        if registered is None or not same:
            raise InputError(f"it does not carry its dataset {name!r}, and there is none of that digest here.")
        return registered, ""

    def read() -> tuple[Any, Any]:
        images, labels = container.array("dataset/images.npy"), container.array("dataset/labels.npy")
        if images.dtype != np.uint8 or labels.dtype != np.int64:
            raise InputError(f"The images are {images.dtype}, the labels {labels.dtype}; expected uint8 and int64.")
        return images, labels

    dataset = Dataset(
        name=name,
        title=str(values["title"]),
        shape=(int(values["shape"][0]), int(values["shape"][1]), int(values["shape"][2])),
        classes=tuple(map(str, values["classes"])),
        size=int(values["size"]),
        levels=int(values["levels"]),
        digest=digest,
        eps={norm: tuple(map(float, dict(values["eps"]).get(norm, ()))) for norm in norm_names()},
        licence=str(values["licence"]),
        source=str(values["source"]),
        read=read,
    )
    if same:
        return dataset, ""
    here = "is not registered here" if registered is None else "has another digest here"
    return dataset, f"the dataset {name!r} {here}; the images are the bundle's own, of digest {digest}"


def _verify(contents: Contents, *, samples: int | None, seed: int, device: str) -> Report:
    """Enter the bundle into a scratch database and check that as any board is checked."""
    report = Report(notes=list(contents.notes))
    images, labels = contents.dataset.load()
    model = load_entry(contents.entry, device=device)
    with tempfile.TemporaryDirectory(prefix="curveboard-verify-") as scratch:
        database = Database(f"sqlite:///{scratch}/scratch.db")
        Base.metadata.create_all(database.engine)
        store = EvidenceStore(Path(scratch) / "artifacts")
        _copy_evidence(contents, store)
        with database.write() as session:
            model_id, dataset_id = _enter(session, contents, contents.entry, Ingested(contents.entry.slug, report))
        with database.read() as session:
            needed = needs(session, model_id=model_id, dataset_id=dataset_id)
        covered = np.any([found.covered for found in needed.ledgers.values()], axis=0)
        subject = Subject(contents.entry.slug, model, images, labels, device)
        check(subject, needed, store, report, chosen=choose(covered, samples, seed))
    return report


def _copy_evidence(contents: Contents, store: EvidenceStore) -> None:
    for digest in sorted(_evidence(contents.container.manifest)):
        data = contents.container.read(f"evidence/{digest}")
        indices, _ = unpack(data)
        stored = store.put_bytes(data, samples=len(indices))
        if stored.digest != digest:
            raise InputError(f"The bundle's evidence {digest} has the digest {stored.digest}.")


def _evidence(manifest: Mapping[str, Any]) -> set[str]:
    chunks = (chunk for evaluation in manifest["evaluations"] for chunk in evaluation["chunks"])
    return {str(chunk["evidence"]) for chunk in chunks if chunk["evidence"] is not None}


def _refuse_conflicts(database: Database, models: Path, contents: Contents) -> None:
    entry, dataset = contents.entry, contents.dataset
    known = catalogue([models]).get(entry.slug)
    if known is not None and known.digest != entry.digest:
        raise InputError(
            f"There is another model called {entry.slug!r} here (digest {known.digest[:12]}…, the bundle's is "
            f"{entry.digest[:12]}…). Rename or remove one of the two."
        )
    registered = all_datasets().get(dataset.name)
    if registered is None or registered.digest != dataset.digest:
        raise InputError(
            f"The dataset {dataset.name!r} of digest {dataset.digest[:12]}… is not registered here; rows of other data "
            "cannot be ranked with this board's. Install the package that brings it."
        )
    with database.read() as session:
        for values in contents.container.manifest["protocols"]:
            row = _protocol(session, values)
            if row is not None and row.spec != values["spec"]:
                raise InputError(
                    f"The protocol {row.name}@{row.version} says something else here than in the bundle; rows of the "
                    "two cannot be ranked together. Give one of them another version."
                )


def _protocol(session: Session, values: Mapping[str, Any]) -> Protocol | None:
    query = select(Protocol).where(Protocol.name == str(values["name"]), Protocol.version == int(values["version"]))
    return session.scalar(query)


def _install(entry: Entry, models: Path) -> Entry:
    """Put the model's card and files into the folder, unless the model is there already; returns the entry there."""
    known = catalogue([models]).get(entry.slug)
    if known is not None:
        return known
    target = models / entry.slug
    try:
        models.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=models, prefix=".ingest-"))
        try:
            for file in entry.folder.iterdir():
                shutil.copyfile(file, scratch / file.name)
            (scratch / CARD).write_text(tomli_w.dumps(card_table(entry)), encoding="utf-8")
            scratch.chmod(0o755)
            scratch.replace(target)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
    except OSError as error:
        raise InputError(f"The model cannot be put into {target}: {error.strerror or error}.") from error
    return dataclasses.replace(entry, folder=target)


def _enter(session: Session, contents: Contents, entry: Entry, outcome: Ingested) -> tuple[int, int]:
    """Enter all evaluations that are new; returns the ids of the model's and the dataset's row."""
    container = contents.container
    alone(session)
    with _sound(container.path):
        model_id = record.model_row(session, entry).id
        dataset_id = record.dataset_row(session, contents.dataset).id
        cells: list[tuple[str, int, int, int]] = []
        for values in container.manifest["evaluations"]:
            job = _job(contents, values)
            row = record.evaluation_row(session, job, model_id=model_id, dataset_id=dataset_id)
            cells += [(str(name), int(version), int(n), row.id) for name, version, n in values["cells"]]
            if row.state in {State.DONE, State.UNSUPPORTED}:
                outcome.known += 1
            elif row.state == State.RUNNING and (row.lease_until or 0) > time.time():
                outcome.notes.append(f"{job}: left out, an evaluator is working on it")
            else:
                _fill(session, container, row, values)
                outcome.entered += 1
        _enter_cells(session, container, cells, model_id=model_id, dataset_id=dataset_id)
        record_rows(session, model_id=model_id)
    return model_id, dataset_id


def _job(contents: Contents, values: Mapping[str, Any]) -> Job:
    job = Job(
        model=contents.entry.slug,
        model_digest=contents.entry.digest,
        dataset=contents.dataset.name,
        dataset_digest=contents.dataset.digest,
        n=int(values["n"]),
        samples=int(values["samples"]),
        measure=str(values["measure"]),
        version=int(values["version"]),
        parameters=dict(values["parameters"]),
        seed=int(values["seed"]),
    )
    if job.key != values["key"]:
        raise InputError(f"The bundle states the key {values['key']!r} for {job}, which has {job.key}; it was altered.")
    return job


def _fill(session: Session, container: Container, row: Evaluation, values: Mapping[str, Any]) -> None:
    session.execute(delete(Chunk).where(Chunk.evaluation_id == row.id))  # what a failed run here had begun
    row.provenance = dict(values["provenance"]) | {
        "ingested": {"bundle": container.sha256, "finished_at": values["finished_at"]}
    }
    row.started_at = datetime.now(UTC)
    if State(values["state"]) is State.UNSUPPORTED:
        release(row, State.UNSUPPORTED, None if values["reason"] is None else str(values["reason"]))
        record_change(session, row)
        return
    for chunk in values["chunks"]:
        record.add_chunk(session, row, _chunk(container, row, chunk))
    scores = [Score(**{**score, "value": _number(score["value"])}) for score in values["scores"]]
    record.finish(row, Summary(scores), [Flag(**flag) for flag in values["flags"]])
    session.flush()
    record_change(session, row)


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _chunk(container: Container, row: Evaluation, values: Mapping[str, Any]) -> record.ChunkResult:
    start, stop = int(values["start"]), int(values["stop"])
    if not 0 <= start < stop <= row.n:
        raise InputError(f"A chunk of {row.measure} goes from {start} to {stop}, of {row.n} samples.")
    arrays = {str(name): container.array(str(member)) for name, member in dict(values["arrays"]).items()}
    for name, array in arrays.items():
        if array.shape[:1] != (stop - start,) or len(name) > 80:
            raise InputError(
                f"The array {name[:80]!r} of {row.measure} has shape {array.shape}, for {stop - start} samples."
            )
        if name.startswith("distance_") and not (array.dtype == np.float64 and array.ndim == 1 and (array >= 0).all()):
            raise InputError(f"The array {name!r} of {row.measure} holds what is no distance.")
    evidence = None
    if values["evidence"] is not None:
        data = container.read(f"evidence/{values['evidence']}")
        evidence = StoredEvidence(str(values["evidence"]), len(data), len(unpack(data)[0]))
    return record.ChunkResult(
        start=start,
        stop=stop,
        arrays=arrays,
        evidence=evidence,
        flags=[Flag(**note) for note in values["notes"]],
        seconds=float(values["seconds"]),
        forward_passes=int(values["forward_passes"]),
        backward_passes=int(values["backward_passes"]),
    )


def _enter_cells(
    session: Session,
    container: Container,
    cells: Sequence[tuple[str, int, int, int]],
    *,
    model_id: int,
    dataset_id: int,
) -> None:
    protocols: dict[tuple[str, int], int] = {}
    for values in container.manifest["protocols"]:
        row = _protocol(session, values)
        if row is None:
            row = Protocol(
                name=str(values["name"])[:80],
                version=int(values["version"]),
                title=str(values["title"]),
                spec=dict(values["spec"]),
                added_at=datetime.now(UTC),
            )
            session.add(row)
            session.flush()
        protocols[row.name, row.version] = row.id
    query = select(Cell.protocol_id, Cell.n, Cell.evaluation_id)
    mine = query.where(Cell.model_id == model_id, Cell.dataset_id == dataset_id)
    present = {tuple(row) for row in session.execute(mine)}
    for name, version, n, evaluation_id in cells:
        cell = (protocols[name, version], n, evaluation_id)
        if cell not in present:
            present.add(cell)
            session.add(
                Cell(protocol_id=cell[0], model_id=model_id, dataset_id=dataset_id, n=n, evaluation_id=evaluation_id)
            )
    session.flush()
