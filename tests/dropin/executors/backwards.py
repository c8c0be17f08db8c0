"""This machine, the last job first."""

from benchmark.jobs.executors import get_executor


class Backwards:
    name = "backwards"
    title = "This machine, the last job first"

    def run(self, jobs, setting, report):
        return get_executor("local").run(jobs[::-1], setting, report)

    def each(self, work, items, crew, report):
        get_executor("local").each(work, items[::-1], crew, report)


EXECUTOR = Backwards()
