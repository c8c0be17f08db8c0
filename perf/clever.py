"""CLEVER beside the Adversarial Robustness Toolbox's, and the Weibull fit beside SciPy's."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.clever import Preset, clever_estimates, fit_reverse_weibull
from perf import Benchmark, Options
from perf.meter import Clock, Meter
from perf.models import Workload, load
from perf.process import cached_call
from perf.tables import table

NORMS = ("linf", "l2", "l1")

MODELS: Final = ("advertorch-mnist-lenet-clean", "wong2018-mnist-linf0.1")
ART: Final = "art"
OURS: Final = "curveboard"
SHARED: Final = "curveboard, shared points"
"""All norms from one set of points, as in the code that CLEVER's authors released."""

RADIUS: Final = 5.0

_ORDER: Final[dict[str, float]] = {"linf": float("inf"), "l2": 2, "l1": 1}


def run(options: Options, folder: Path) -> dict[str, Any]:
    """Run both on every model, one process after the other, and the fits in another."""
    results = []
    for model in options.models or (MODELS[:1] if options.quick else MODELS):
        for contestant in (ART, OURS, SHARED):
            task = {
                "contestant": contestant,
                "model": model,
                "samples": options.samples or 1,
                "norms": list(options.norms or NORMS),
                "batches": 8 if options.quick else 32,
                "points": 8 if options.quick else 32,
                "device": options.device,
                "threads": options.threads,
            }
            resume = options.resume and contestant == ART
            results.append({**task, **cached_call("perf.clever", task, folder, resume=resume)})
    fits = {"contestant": "fits", "rows": 20 if options.quick else 200, "threads": 1}
    return {"results": results, "fits": cached_call("perf.clever", fits, folder, resume=False)["fits"]}


def main() -> None:
    """One contestant; its task is JSON in ``sys.argv[1]``."""
    task = json.loads(sys.argv[1])
    torch.set_num_threads(task["threads"])
    if task["contestant"] == "fits":
        result: dict[str, Any] = {"fits": _fits(task["rows"])}
    else:
        work = load(task["model"], task["samples"], device=task["device"])
        result = (_art if task["contestant"] == ART else _ours)(task, work)
    print(json.dumps(result))


def _ours(task: dict[str, Any], work: Workload) -> dict[str, Any]:
    radius = MappingProxyType(dict.fromkeys(NORMS, RADIUS))
    together = task["contestant"] == SHARED
    preset = Preset("art", task["batches"], task["points"], radius, cap=True, clip=True, shared=together)
    clever_estimates(work.model, work.x[:1], norm="l2", preset=preset, batches=2)  # pays for what torch sets up
    clock, scores = Clock(task["device"]), {}
    meter = Meter(work.model, clock).eval()
    begin = clock.now()
    for norms in [task["norms"]] if together else [[norm] for norm in task["norms"]]:
        found = clever_estimates(meter, work.x, norm=norms, preset=preset).score
        scores |= {norm: found[:, i].tolist() for i, norm in enumerate(norms)}
    seconds = clock.now() - begin - meter.paused
    return {"scores": scores, "seconds": seconds, "bare_seconds": meter.bare_seconds(work.x)}


def _art(task: dict[str, Any], work: Workload) -> dict[str, Any]:
    from art.estimators.classification import PyTorchClassifier
    from art.metrics import clever_u

    classes = work.model(work.x[:1]).shape[1]
    classifier = PyTorchClassifier(
        work.model,
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=tuple(work.x.shape[1:]),
        nb_classes=classes,
        clip_values=(0, 1),
        device_type="gpu" if task["device"].startswith("cuda") else "cpu",
    )
    images, clock = work.x.cpu().numpy(), Clock(task["device"])
    classifier.class_gradient(images[:1], label=0)
    np.random.seed(0)  # what the toolbox draws from
    scores: dict[str, list[float]] = {}
    begin = clock.now()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for norm in task["norms"]:
            # The toolbox takes the gradient at points × pool_factor points and draws its batches from them.
            scores[norm] = [
                float(
                    clever_u(
                        classifier,
                        image,
                        nb_batches=task["batches"],
                        batch_size=task["points"],
                        radius=RADIUS,
                        norm=_ORDER[norm],
                        pool_factor=task["batches"],
                        verbose=False,
                    )
                )
                for image in images
            ]
    return {"scores": scores, "seconds": clock.now() - begin}


def _fits(rows: int) -> list[dict[str, Any]]:
    """Both fits of the same synthetic maxima: seconds a fit, and how often which likelihood is larger."""
    clock, found = Clock("cpu"), []
    fit_reverse_weibull(np.random.default_rng(0).random((2, 10)))
    for n in (32, 500):
        for shape in (1.5, 4.0):
            maxima = 5 - np.random.default_rng(1).weibull(shape, size=(rows, n))
            begin = clock.now()
            ours = fit_reverse_weibull(maxima)
            ours_seconds = (clock.now() - begin) / rows
            begin = clock.now()
            theirs = np.array([_scipy(row) for row in maxima])
            scipy_seconds = (clock.now() - begin) / rows
            fair = np.isfinite(theirs[:, 1]) & (theirs[:, 0] >= 1)
            gain = ours.log_likelihood[fair] - theirs[fair, 1]
            found.append(
                {
                    "n": n,
                    "shape": shape,
                    "rows": rows,
                    "ours_seconds": ours_seconds,
                    "scipy_seconds": scipy_seconds,
                    "below_1": int((~fair).sum()),
                    "worse": int((gain < -1e-4).sum()),
                    "better": int((gain > 1e-4).sum()),
                }
            )
    return found


def _scipy(row: NDArray[np.float64]) -> tuple[float, float]:
    """SciPy's c and log-likelihood."""
    from scipy import stats

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        shape, location, scale = stats.weibull_min.fit(-row)
        return float(shape), float(stats.weibull_min.logpdf(-row, shape, location, scale).sum())


def report(result: dict[str, Any]) -> str:
    """A table of both libraries on each model, and one of the fits."""
    rows = []
    by_model: dict[str, dict[str, dict[str, Any]]] = {}
    for one in result["results"]:
        by_model.setdefault(one["model"], {})[one["contestant"]] = one
    for model, found in by_model.items():
        for name, one in found.items():
            rows.append(
                [
                    model,
                    name,
                    f"{one['seconds']:.1f}",
                    f"{found[ART]['seconds'] / one['seconds']:.1f}",
                    f"{one['seconds'] / one['bare_seconds']:.2f}" if "bare_seconds" in one else "",
                    " / ".join(f"{np.mean(one['scores'][norm]):.3g}" for norm in one["norms"]),
                ]
            )
    first = result["results"][0]
    head = ["model", "contestant", "seconds", "ART's ÷ its", "÷ bare", f"mean scores, {' / '.join(first['norms'])}"]
    fits = [
        [
            str(fit["n"]),
            f"{fit['shape']:g}",
            f"{1e3 * fit['ours_seconds']:.3f}",
            f"{1e3 * fit['scipy_seconds']:.2f}",
            f"{fit['scipy_seconds'] / fit['ours_seconds']:.0f}",
            str(fit["better"]),
            str(fit["worse"]),
            str(fit["below_1"]),
        ]
        for fit in result["fits"]
    ]
    rows_fitted = result["fits"][0]["rows"]
    return "\n\n".join(
        [
            f"Untargeted scores of {first['samples']} image(s), every class a target, "
            f"{first['batches'] * first['points']} gradient points an image and norm, in one thread each. With "
            "*shared points* the norms take their gradients at the same points, so that one Jacobian serves all. "
            "*÷ bare* divides by what the same passes take if nothing but the model runs.",
            table(head, rows),
            f"The fit of a reverse Weibull law, {rows_fitted} rows at once, against `scipy.stats.weibull_min.fit` row "
            "by row. *Better* and *worse* count rows whose log-likelihood differs by more than 1e-4; rows where SciPy "
            "leaves c >= 1, below which the likelihood has no maximum, are counted apart.",
            table(["maxima", "true c", "ms", "SciPy's ms", "ratio", "better", "worse", "SciPy's c < 1"], fits),
        ]
    )


BENCHMARK = Benchmark("clever", "CLEVER", run, report)


if __name__ == "__main__":
    main()
