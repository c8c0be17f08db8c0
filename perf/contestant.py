"""The process of one contestant: run it on one model and norm, re-verify what it claims, print one line of JSON."""

from __future__ import annotations

import contextlib
import io
import json
import math
import sys
import time
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.threat import Norm
from benchmark.verification import verify
from perf.meter import Clock, Meter
from perf.models import Workload, load
from perf.peers import PEERS

OURS: Final = "curveboard"
AUTOATTACK: Final = "autoattack"
VERDICT: Final = "verdict"

_MODULES: Final = {
    OURS: "benchmark.library",
    VERDICT: "benchmark.measures.verdict",
    AUTOATTACK: "pyautoattack",
    "pyautoattack": "pyautoattack",
    "adv-lib": "adv_lib.attacks",
    "foolbox": "foolbox",
}
ROUNDING: Final = 1e-6
"""An example that AutoAttack puts on the sphere of radius eps may lie outside by this share of eps, by rounding."""


def main() -> None:
    """Read the task, JSON, from ``sys.argv[1]``; see `measure`."""
    task = json.loads(sys.argv[1])
    torch.set_num_threads(task["threads"])
    torch.manual_seed(task["seed"])
    cifar = Path(task["cifar"]) if task.get("cifar") else None
    work = load(task["model"], task["samples"], device=task["device"], cifar=cifar)
    with _quiet():
        result = measure(task, work)
    print(json.dumps(result))


def measure(task: dict[str, Any], work: Workload) -> dict[str, Any]:
    """Run one contestant.

    Args:
        task: ``contestant``, ``model``, ``norm``, ``samples``, ``seed``, ``device``, ``threads``, ``cifar``; ``eps``
            for AutoAttack and the verdict; ``effort`` for our engine (standard if left out), and ``alone``: whether
            each image is a call of its own.
        work: The model and images.

    Returns:
        ``distances`` (null where nothing holds), ``claimed`` (candidates that did not hold), ``forward`` and
        ``backward`` (passes an image), ``seconds``, ``wall_seconds``, ``bare_seconds`` and ``flags``.
    """
    norm: Norm = task["norm"]
    with torch.no_grad():  # the first passes pay for what the libraries set up
        right = work.model(work.x).argmax(dim=1) == work.y
    _warm_up(work)
    _load_library(task["contestant"])
    clock = Clock(task["device"])
    meter = Meter(work.model, clock).eval()
    begin, wall = clock.now(), time.perf_counter()
    candidates, flags = _run(task, meter, work, right)
    seconds, wall_seconds = clock.now() - begin - meter.paused, time.perf_counter() - wall - meter.paused_wall
    verdict = verify(work.model, work.x, work.y, candidates)
    moved = (candidates != work.x).flatten(1).any(dim=1).cpu()
    return {
        "distances": [d if math.isfinite(d) else None for d in verdict.distances[norm].tolist()],
        "claimed": int((moved & ~verdict.holds & verdict.correct).sum()),
        "forward": meter.forward_passes / len(work.x),
        "backward": meter.backward_passes / len(work.x),
        "seconds": seconds,
        "wall_seconds": wall_seconds,
        "bare_seconds": meter.bare_seconds(work.x[right]),
        "flags": flags,
    }


def _load_library(contestant: str) -> None:
    """Import what a contestant is run from: it takes up to 0.7 s, and is not its work."""
    library = next((peer.library for peer in PEERS if peer.name == contestant), contestant)
    if library in _MODULES:
        import_module(_MODULES[library])


def _run(task: dict[str, Any], model: nn.Module, work: Workload, right: Tensor) -> tuple[Tensor, list[str]]:
    if task["contestant"] == OURS:
        return _ours(task, model, work)
    if task["contestant"] == VERDICT:
        return _verdict(task, model, work)
    x, y = work.x[right].clone(), work.y[right].clone()
    if task["contestant"] == AUTOATTACK:
        found = _autoattack(task, model, x, y)
    else:
        (peer,) = (peer for peer in PEERS if peer.name == task["contestant"])
        found = peer.run(model, x, y, task["norm"])
    candidates = work.x.clone()
    candidates[right] = found.detach().float().clamp(0, 1)
    return candidates, []


def _ours(task: dict[str, Any], model: nn.Module, work: Workload) -> tuple[Tensor, list[str]]:
    from benchmark.library import robustness_curve

    candidates, flags = [], set()
    size = 1 if task.get("alone") else len(work.x)
    for x, y in zip(work.x.split(size), work.y.split(size), strict=True):
        effort = task.get("effort", "standard")
        curve = robustness_curve(model, x, y, norm=task["norm"], seed=task["seed"], effort=effort)
        candidates.append(torch.from_numpy(np.asarray(curve.adversarials)).to(x.device))
        flags |= {flag.code for flag in curve.flags}
    return torch.cat(candidates), sorted(flags)


def _verdict(task: dict[str, Any], model: nn.Module, work: Workload) -> tuple[Tensor, list[str]]:
    from benchmark.measures import Task
    from benchmark.measures.verdict import MEASURE, VerdictParameters

    found = MEASURE.run(
        Task(model, work.model, work.x, work.y, seed=task["seed"]), VerdictParameters(task["norm"], task["eps"])
    )
    assert found.adversarials is not None
    return found.adversarials, [flag.code for flag in found.flags]


def _autoattack(task: dict[str, Any], model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    from pyautoattack import AutoAttack

    attack = AutoAttack(
        model, norm=task["norm"].capitalize(), eps=task["eps"], version="standard", seed=task["seed"], device=x.device
    )
    adversarials: Tensor = attack.run_standard_evaluation(x, y, batch_size=500)[0]
    return adversarials


def _warm_up(work: Workload) -> None:
    leaf = work.x[:8].clone().requires_grad_()
    torch.autograd.grad(work.model(leaf).sum(), leaf)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


if __name__ == "__main__":
    main()
