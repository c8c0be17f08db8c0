"""Running one job to its end in this process: claim it, measure what is missing, and say how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmark.board.job import Job
from benchmark.jobs.attempt import Attempt
from benchmark.jobs.ended import Ended
from benchmark.jobs.lease import DeadlyError, claim, kept_alive
from benchmark.jobs.measuring import Measuring
from benchmark.jobs.provenance import provenance
from benchmark.jobs.setting import Progress, Report, Setting
from benchmark.jobs.workbench import Workbench
from db.session import Database


class Runner:
    """Runs jobs in this process, keeping the last model and pool loaded.

    Args:
        setting: Where and how.
        report: Receives what happens.
        stopping: Asked after each chunk whether to stop.
    """

    def __init__(self, setting: Setting, report: Report, stopping: Callable[[], bool] = lambda: False) -> None:
        self.setting, self.report, self.stopping = setting, report, stopping
        self.database = Database(setting.database_url)
        self.bench = Workbench(setting)

    def run(self, job: Job, evaluation_id: int, owner: str) -> str:
        """Run one job to its end; returns its state as in `Progress`.

        Raises:
            BenchmarkError | DatabaseError | OSError: If the database or the artifacts cannot be read or written: the
                job is put back.
        """
        begin = time.perf_counter()
        try:
            ours = claim(self.database, evaluation_id, owner, self.setting.locks, self.setting.again)
            ended = self._attempted(job, evaluation_id, owner) if ours else Ended("taken")
        except DeadlyError as error:
            ended = Ended("failed", str(error))
        done = job.samples if ended.state == "done" else 0
        self.report(Progress(job, done, ended.state, ended.text, time.perf_counter() - begin))
        return ended.state

    def _attempted(self, job: Job, evaluation_id: int, owner: str) -> Ended:
        """Run a job that is ours, and give it up in the state it ended in."""
        again = self.setting.again.rerun == "all"
        attempt = Attempt(self.database, self.bench, job, evaluation_id, owner, take_over=not again)
        with kept_alive(self.database, owner):
            try:
                return attempt.finish() if self._measured(attempt) else attempt.stop()
            except (Exception, KeyboardInterrupt) as error:
                return attempt.give_up(error)

    def _measured(self, attempt: Attempt) -> bool:
        """Measure and commit what is missing; False if it was told to stop before the last."""
        pieces = attempt.begin(provenance(self.bench.device))
        measuring = Measuring(attempt.job, attempt.subject, self.bench)
        for start, stop in pieces:
            for result in measuring.measured(start, stop, attempt.known(start, stop)):
                self.report(attempt.commit(result))
                if attempt.left and self.stopping():
                    return False
        return True
