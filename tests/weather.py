"""A board whose models have answers an image in a grid of two axes: every state that a row of such a grid can have."""

from pathlib import Path

import numpy as np
import synthetic
from sqlalchemy import select

from benchmark.cli import run
from db.schema import Array, Chunk, Evaluation, SummaryTable
from db.session import Database

BOARD = "boards/synthetic-40-standard"
LONG = "A network with a title that is longer than the screen of any phone, trained in the usual way"
PAGE = f"{BOARD}/grid-weather-accuracy-in-weather.html"


def weather_site(root: Path) -> Path:
    """A built site on which one model lacks a cell, one the grid, and one was measured on fewer images."""
    assert run(["init", str(root)]) == 0
    database = Database(f"sqlite:///{root / 'curveboard.db'}")
    synthetic.populate(database, models=7, n=40, exact=0, weather=True, title=LONG)
    labels = np.arange(40) % 10
    with database.write() as session:
        found = session.scalars(select(Evaluation).where(Evaluation.measure == "weather").order_by(Evaluation.id)).all()
        for k, evaluation in enumerate(found):
            n = 30 if k == 5 else 40
            right = np.clip(36 - 3 * k - np.array([[0, 4, 8], [2, 6, 10], [1, 3, 20]]) * (1 + (k == 1)), 0, n)
            wrong = np.arange(n)[:, None, None] >= right
            answers = np.where(wrong, (labels[:n, None, None] + 1) % 10, labels[:n, None, None]).astype(np.int16)
            values = (answers == labels[:n, None, None]).mean(axis=0)
            if k == 4:
                answers[:, 2, 1], values[2, 1] = -1, np.nan
            outputs = [dict(o) for o in evaluation.outputs]
            for output in outputs:
                if output["name"] == "accuracy_in_weather":
                    output["array"] = "answers"
            if k == 6:
                outputs = [o for o in outputs if o["name"] != "accuracy_in_weather"]
            evaluation.outputs, evaluation.samples = outputs, n
            chunk = session.scalars(select(Chunk).where(Chunk.evaluation_id == evaluation.id)).one()
            session.add(Array(chunk_id=chunk.id, name="answers", data=answers))
            table = session.scalars(
                select(SummaryTable).where(
                    SummaryTable.evaluation_id == evaluation.id, SummaryTable.name == "accuracy_in_weather"
                )
            ).one()
            table.data = np.stack([values, values - 0.05, values + 0.05])
    assert run(["publish", "-w", str(root)]) == 0
    return root / "public"
