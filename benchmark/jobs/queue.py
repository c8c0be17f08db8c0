"""The jobs of a run as one evaluator sees them: those that nobody has taken or ended yet, in order."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session, load_only

from benchmark.board.job import Job
from benchmark.jobs.lease import is_open
from benchmark.jobs.setting import Setting
from db.schema import Evaluation
from db.session import Database, server_time

LOOK: Final = 200
"""Jobs looked up at once."""


class Queue:
    """Gives out the next free job, at the cost of one query.

    So an evaluator claims about as many jobs as it runs, not every job of the run, however many others there are. An
    evaluator that has lost a claim to another chooses among ever more of the next free jobs, so that many that begin at
    once do not run after each other along the list.

    Args:
        database: The database.
        jobs: The jobs with the ids of their evaluations, in the order in which they are to begin.
        setting: What may be run, and where the lock files are.
        taken: Told of each job that another evaluator has or has ended.
    """

    def __init__(
        self,
        database: Database,
        jobs: Sequence[tuple[Job, int]],
        setting: Setting,
        taken: Callable[[Job, int], object] = lambda job, number: None,
    ) -> None:
        self._database, self._left, self._setting, self._taken = database, list(jobs), setting, taken
        self._losses = 0
        self._random = random.Random()  # noqa: S311 - no secret; which job an evaluator takes changes no result

    def next(self, *, lost: bool = False) -> tuple[Job, int] | None:
        """The next job to claim, with the id of its evaluation; None when none is left.

        Args:
            lost: Whether somebody else was quicker to claim the last one.
        """
        self._losses = self._losses + 1 if lost else 0
        while self._left:
            batch = self._left[:LOOK]
            free = self._free([number for _, number in batch])
            for job, number in batch:
                if number not in free:
                    self._taken(job, number)
            open_ = [one for one in batch if one[1] in free]
            self._left[:LOOK] = open_
            if open_:
                return self._left.pop(self._random.randrange(min(len(open_), 2**self._losses)))
        return None

    def _free(self, numbers: list[int]) -> set[int]:
        """Which of these evaluations can be claimed now."""

        def look(session: Session) -> set[int]:
            now = server_time(session)
            columns = (
                Evaluation.state,
                Evaluation.owner,
                Evaluation.lease_until,
                Evaluation.reason,
                Evaluation.provenance,
            )
            rows = session.scalars(
                select(Evaluation).where(Evaluation.id.in_(numbers)).options(load_only(*columns, raiseload=True))
            )
            return {row.id for row in rows if is_open(row, self._setting.locks, now, self._setting.again)}

        return self._database.consult(look)
