"""A bundle of each model for the site to offer, made again only when what is in it changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from benchmark.errors import BenchmarkError
from benchmark.evidence.bundle import FORMAT, write_bundle
from benchmark.evidence.store import EvidenceStore
from db.schema import Cell, Evaluation, Model, State
from db.session import Database
from models_zoo import get_entry
from models_zoo.errors import ZooError


def site_bundles(
    database: Database, store: EvidenceStore, folders: Sequence[Path], home: Path, *, report: Callable[[str], None]
) -> dict[str, Path]:
    """The bundles of all models that have results on a board, with the weights that the zoo has.

    Args:
        database: The database.
        store: Its evidence.
        folders: Folders of submitted models.
        home: Where bundles are kept between builds; those of no use any more are deleted.
        report: Told which model has no bundle, and why.

    Returns:
        Digest of the model -> the file.
    """
    home.mkdir(parents=True, exist_ok=True)
    with database.read() as session:
        wanted = [(model.slug, model.digest, _key(session, model)) for model in session.scalars(_with_results())]
    found: dict[str, Path] = {}
    for slug, digest, key in wanted:
        path = home / f"{slug}-{key[:24]}.bundle"
        try:
            if get_entry(slug, folders).digest != digest:
                continue  # older weights of a model that has newer ones
            if not path.is_file():
                write_bundle(database, store, folders, slug, path)
        except (BenchmarkError, ZooError) as error:
            report(f"{slug} has no bundle on the site: {error}")
        else:
            found[digest] = path
    for path in home.iterdir():
        if path not in found.values():
            path.unlink()
    return found


def _with_results() -> Select[Model]:
    done = select(Cell.model_id).join(Evaluation, Cell.evaluation_id == Evaluation.id)
    return select(Model).where(Model.id.in_(done.where(Evaluation.state == State.DONE))).order_by(Model.slug)


def _key(session: Session, model: Model) -> str:
    """Digest of what a bundle of the model would hold."""
    query = select(Evaluation.key, Evaluation.state, Evaluation.finished_at).where(
        Evaluation.model_id == model.id, Evaluation.state.in_([State.DONE, State.UNSUPPORTED])
    )
    rows = sorted([key, state.value, str(finished)] for key, state, finished in session.execute(query))
    text = json.dumps([FORMAT, version("curveboard"), model.digest, model.card, rows], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
