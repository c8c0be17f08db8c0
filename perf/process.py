"""One contestant in one process: it starts fresh, has its own random state and memory, and cannot slow another down."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
STANDINS: Final = Path(__file__).parent / "standins"

_THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class ContestantError(Exception):
    """A contestant's process failed; the text is the end of what it wrote."""


def call(module: str, argument: dict[str, Any], *, threads: int, timeout: float | None = None) -> dict[str, Any]:
    """Run ``python -m module`` with a JSON argument, and read the JSON that it writes last.

    Args:
        module: A module whose ``main`` reads its argument from ``sys.argv[1]`` and prints one line of JSON at the end.
        argument: JSON values.
        threads: Threads that numerical libraries may use.
        timeout: Seconds after which the process is ended.

    Raises:
        ContestantError: If the process fails or is ended.
    """
    environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads))}
    paths = [str(ROOT), str(STANDINS), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    command = [sys.executable, "-m", module, json.dumps(argument)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ContestantError(f"ended after {timeout:.0f} seconds") from error
    if done.returncode != 0:
        raise ContestantError("\n".join(done.stderr.strip().splitlines()[-5:]) or f"exit status {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def cached_call(module: str, argument: dict[str, Any], folder: Path, *, resume: bool) -> dict[str, Any]:
    """`call`, its result kept in ``folder``: an interrupted run can be taken up again.

    Args:
        module: As of `call`.
        argument: As of `call`; with a key ``threads``. What it holds names the file.
        folder: Where results are kept.
        resume: Whether a result that lies there is taken instead of running.
    """
    digest = hashlib.sha256(json.dumps([module, argument], sort_keys=True).encode()).hexdigest()[:16]
    path = folder / f"{argument.get('contestant', module)}-{digest}.json"
    if resume and path.is_file():
        kept: dict[str, Any] = json.loads(path.read_text())
        return kept
    result = call(module, argument, threads=argument["threads"])
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result))
    return result


def run_all(
    module: str, tasks: Iterable[dict[str, Any]], folder: Path, *, keep: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """`cached_call` for one task after the other; what fails leaves the others their turn.

    Args:
        module: As of `call`.
        tasks: Arguments, as of `cached_call`.
        folder: Where results are kept.
        keep: Which tasks' kept results are taken instead of running.

    Returns:
        ``results`` and ``failures``: each task with what it measured, or with its ``error``.

    Raises:
        ContestantError: If every one fails.
    """
    results, failures = [], []
    for task in tasks:
        try:
            results.append({**task, **cached_call(module, task, folder, resume=keep(task))})
        except ContestantError as error:
            failures.append({**task, "error": str(error)})
    if not results:
        raise ContestantError(f"Every contestant failed; the first said: {failures[0]['error'] if failures else '-'}")
    return {"results": results, "failures": failures}
