"""The verdict against AutoAttack at one budget: who breaks more, and at what price."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from benchmark.attacks.engine.point import NORMS
from benchmark.threat.budget import within
from perf import Benchmark, Options
from perf.contestant import AUTOATTACK, ROUNDING, VERDICT
from perf.engine import distances
from perf.models import CIFAR_EPS, RESNET, dataset_of
from perf.process import run_all
from perf.tables import failed, table

BUDGETS: Final[dict[str, dict[str, float]]] = {
    "wong2018-mnist-linf0.1": {"linf": 0.1, "l2": 1.0, "l1": 2.5},
    "advertorch-mnist-lenet-adv": {"linf": 0.3, "l2": 1.0, "l1": 2.5},
    "croce2020-mmr-universal-mnist": {"linf": 0.1, "l2": 1.0, "l1": 2.5},
    "trades2019-mnist-linf0.3": {"linf": 0.3},
}
"""Where each model is judged: the budget it was trained for, and published ones of the data's in the other norms."""

SMALL: Final = ("wong2018-mnist-linf0.1", "croce2020-mmr-universal-mnist")
"""Networks small enough for 200 images; the others are judged on 100."""


def run(options: Options, folder: Path) -> dict[str, Any]:
    """Run AutoAttack and the verdict on every model and norm, one process after the other."""
    return run_all(
        "perf.contestant", tasks(options), folder, keep=lambda task: options.resume and task["contestant"] == AUTOATTACK
    )


def tasks(options: Options) -> Iterator[dict[str, Any]]:
    """What is to be run: for each model and norm AutoAttack, and the verdict with each seed."""
    for model in options.models or (tuple(BUDGETS)[:1] if options.quick else tuple(BUDGETS)):
        for norm, eps in (BUDGETS.get(model) or _published(model)).items():
            if options.norms and norm not in options.norms:
                continue
            task = {
                "model": model,
                "norm": norm,
                "eps": eps,
                "samples": options.samples or (20 if options.quick else 200 if model in SMALL else 100),
                "device": options.device,
                "threads": options.threads,
                "cifar": str(options.cifar) if options.cifar else None,
            }
            yield {**task, "contestant": AUTOATTACK, "seed": 0}
            for seed in options.seeds or (0,):
                yield {**task, "contestant": VERDICT, "seed": seed}


def _published(model: str) -> dict[str, float]:
    """The reference budgets of the data that a model is evaluated on, in the norms that the verdict has steps in."""
    budgets = CIFAR_EPS if model == RESNET else dataset_of(model).eps
    return {norm: budgets[norm][0] for norm in NORMS if norm in budgets}


def report(result: dict[str, Any]) -> str:
    """One row a model, norm and seed."""
    theirs = {(r["model"], r["norm"]): r for r in result["results"] if r["contestant"] == AUTOATTACK}
    rows = []
    for ours in (r for r in result["results"] if r["contestant"] == VERDICT):
        if (other := theirs.get((ours["model"], ours["norm"]))) is None:
            continue
        left, left_by_other = (~within(distances(r), ours["eps"] * (1 + ROUNDING)) for r in (ours, other))
        rows.append(
            [
                ours["model"],
                ours["norm"],
                f"{ours['eps']:.4g}",
                str(len(left)),
                f"{100 * left.mean():.1f} %",
                f"{100 * left_by_other.mean():.1f} %",
                str(int((left & ~left_by_other).sum())),
                str(int((left_by_other & ~left).sum())),
                *(_passes(ours, other, kind) for kind in ("forward", "backward")),
                f"1/{other['seconds'] / ours['seconds']:.1f}",
            ]
        )
    head = ["model", "norm", "ε", "images", "robust", "AutoAttack's", "broken by it alone", "by ours alone"]
    parts = [_INTRODUCTION, table([*head, "forward", "backward", "seconds"], rows)]
    return "\n\n".join([*parts, *failed(result["failures"])])


def _passes(ours: dict[str, Any], theirs: dict[str, Any], kind: str) -> str:
    ratio = theirs[kind] / ours[kind] if ours[kind] else math.inf
    return f"{ours[kind]:.0f} (1/{ratio:.1f})"


_INTRODUCTION = """\
Robust accuracy at one ε by the measure `verdict`, with nothing known of any image beforehand, and by AutoAttack
standard, on the same images, all candidates re-verified. *Forward* and *backward* are the verdict's passes an image,
counted around the model, in brackets as a part of AutoAttack's; *seconds*, of processor time on the CPU, likewise."""

BENCHMARK = Benchmark("verdict", "One ε: the verdict against AutoAttack", run, report)
