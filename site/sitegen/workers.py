"""Build rows in processes of their own.

Each is a fresh interpreter that is sent its tasks: unlike with `multiprocessing`, nothing of the caller is forked or
imported again, so that the site can be built from any script, thread or notebook.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence

from sitegen.rows import RowTask, build_row, forget_connections


def build_rows(tasks: Sequence[RowTask], *, workers: int) -> None:
    """Build all rows; the first error ends it.

    Args:
        tasks: The rows.
        workers: Number of processes; with 1 the rows are built in this one.
    """
    if workers == 1:
        try:
            for task in tasks:
                build_row(task)
        finally:
            forget_connections()
        return
    command = [sys.executable, "-P", "-c", "import sys; from sitegen.workers import main; sys.exit(main())"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # the processes share the cores; BLAS would take all for each
    processes = []
    try:
        for k in range(workers):
            process = subprocess.Popen(  # noqa: S603
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            processes.append(process)
            assert process.stdin is not None
            pickle.dump(list(tasks[k::workers]), process.stdin)
            process.stdin.close()
        for process in processes:
            _finish(process)
    finally:
        for process in processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _finish(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    said = process.stdout.read()
    if process.wait() == 0:
        return
    if said:
        raise pickle.loads(said)  # noqa: S301 - our own process wrote it
    raise RuntimeError(f"A process that built rows ended with code {process.returncode}.")


def main() -> int:
    """Take tasks from the standard input, build them; an error goes to the standard output."""
    tasks = pickle.load(sys.stdin.buffer)  # noqa: S301 - our own process sent it
    try:
        for task in tasks:
            build_row(task)
    except Exception as error:
        pickle.dump(error, sys.stdout.buffer)
        return 1
    return 0
