"""The curve engine against every peer: how near its examples are, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmark.threat import Norm
from perf import Benchmark, Options
from perf.contestant import AUTOATTACK, OURS, ROUNDING
from perf.models import CIFAR_EPS, RESNET
from perf.peers import PEERS, peers
from perf.process import run_all
from perf.tables import failed, table

NORMS = ("linf", "l2", "l1")

MODELS: Final = ("wong2018-mnist-linf0.1", "advertorch-mnist-lenet-clean", "advertorch-mnist-lenet-adv")
SEEDS: Final = (0, 1, 2)
NEAR: Final = 1.01
"""A distance counts as the best there is up to this factor."""

Floats = NDArray[np.float64]


def run(options: Options, folder: Path) -> dict[str, Any]:
    """Run every contestant on every model and norm, one process after the other."""
    return run_all(
        "perf.contestant", tasks(options), folder, keep=lambda task: options.resume and task["contestant"] != OURS
    )


def tasks(options: Options) -> Iterator[dict[str, Any]]:
    """What is to be run: for each model and norm AutoAttack, the peers, and our engine with each seed."""
    models = options.models or (MODELS[:1] if options.quick else MODELS + ((RESNET,) if options.cifar else ()))
    for model in models:
        for norm in options.norms or NORMS:
            task = {
                "model": model,
                "norm": norm,
                "samples": options.samples or _samples(model, options),
                "seed": 0,
                "device": options.device,
                "threads": options.threads,
                "cifar": str(options.cifar) if options.cifar else None,
            }
            for name in _contestants(norm, options):
                yield {**task, "contestant": name, **({"eps": _eps(model, norm)} if name == AUTOATTACK else {})}
            seeds = options.seeds or (SEEDS[:1] if options.quick else SEEDS)
            yield from ({**task, "contestant": OURS, "seed": seed} for seed in seeds)


def _samples(model: str, options: Options) -> int:
    if options.quick:
        return 8
    if model != RESNET:
        return 100
    return 500 if options.device.startswith("cuda") else 16


def _contestants(norm: str, options: Options) -> list[str]:
    names = options.peers
    if names is None and options.quick:
        names = ("pdpgd", "ddn", "fmn")
    with_autoattack = norm in NORMS and (names is None or AUTOATTACK in names)
    wanted = None if names is None else tuple(name for name in names if name != AUTOATTACK)
    found = [peer.name for peer in peers(norm, wanted)]  # type: ignore[arg-type]
    return ([AUTOATTACK] if with_autoattack else []) + found


def _eps(model: str, norm: str) -> float:
    """The first published budget of the model's dataset."""
    if model == RESNET:
        return CIFAR_EPS[norm][0]
    from benchmark.data import get_dataset
    from models_zoo import get_entry

    eps: dict[Norm, tuple[float, ...]] = dict(get_dataset(get_entry(model).dataset).eps)
    return eps[norm][0]  # type: ignore[index]


@dataclass(frozen=True, eq=False)
class Duel:
    """All contestants on one model and norm.

    Attributes:
        model: The model.
        norm: The norm.
        ours: Our engine's results, one a seed.
        peers: The peers' results by name.
        autoattack: AutoAttack's result, if it was run.
    """

    model: str
    norm: str
    ours: list[dict[str, Any]]
    peers: dict[str, dict[str, Any]]
    autoattack: dict[str, Any] | None

    @cached_property
    def best_of_peers(self) -> Floats:
        """The smallest distance that any peer found for each sample, ``inf`` where none did."""
        return np.asarray(np.min([distances(result) for result in self.peers.values()], axis=0))

    @cached_property
    def best_of_all(self) -> Floats:
        """The smallest distance that anybody found: peers, AutoAttack, and each of our seeds."""
        everybody = [*self.peers.values(), *self.ours, *([self.autoattack] if self.autoattack else [])]
        return np.asarray(np.min([distances(result) for result in everybody], axis=0))

    def mean_ratio(self, result: dict[str, Any]) -> float:
        """Mean distance ÷ mean of the peers' best, over the samples that a peer broke; ``inf`` if one is missing."""
        broken = np.isfinite(self.best_of_peers)
        return float(distances(result)[broken].mean() / self.best_of_peers[broken].mean())

    def no_peer_nearer(self, result: dict[str, Any]) -> float:
        """Share of samples, of those anybody broke, where no peer's distance is smaller by more than 1 %."""
        broken = np.isfinite(self.best_of_all)
        return float((distances(result)[broken] <= NEAR * self.best_of_peers[broken]).mean())

    def near(self, result: dict[str, Any]) -> float:
        """Share of samples, of those anybody broke, where the distance is within 1 % of the best of all."""
        broken = np.isfinite(self.best_of_all)
        return float((distances(result)[broken] <= NEAR * self.best_of_all[broken]).mean())


def duels(results: list[dict[str, Any]]) -> list[Duel]:
    """Sort results by model and norm."""
    found: dict[tuple[str, str], Duel] = {}
    for result in results:
        key = (result["model"], result["norm"])
        duel = found.setdefault(key, Duel(*key, [], {}, None))
        if result["contestant"] == OURS:
            duel.ours.append(result)
        elif result["contestant"] == AUTOATTACK:
            found[key] = Duel(*key, duel.ours, duel.peers, result)
        else:
            duel.peers[result["contestant"]] = result
    return list(found.values())


def distances(result: dict[str, Any]) -> Floats:
    """Distances of a result: null in the file is ``inf``."""
    return np.array([math.inf if d is None else d for d in result["distances"]])


def report(result: dict[str, Any]) -> str:
    """The summary, AutoAttack's table, one table a model and norm, and how to read them."""
    return "\n\n".join([_INTRODUCTION, *comparison(result)])


def comparison(result: dict[str, Any]) -> list[str]:
    """The parts of the report that any set of contestants has."""
    fought = duels(result["results"])
    complete = [duel for duel in fought if duel.ours and duel.peers]
    parts = ["### Summary", _summary(complete)] if complete else []
    against = [duel for duel in fought if duel.ours and duel.autoattack]
    if against:
        parts += ["### Robust accuracy without AutoAttack", _AUTOATTACK, _autoattack_table(against)]
    for duel in fought:
        n = len(next(iter([*duel.ours, *duel.peers.values()]))["distances"]) if duel.ours or duel.peers else 0
        parts += [f"### {duel.model}, {duel.norm}, {n} images", _duel_table(duel)] if n else []
    return [*parts, "### Settings", _settings(fought), *failed(result["failures"])]


_INTRODUCTION = """\
Each contestant runs alone in its own process. Its candidates are re-verified and measured by `benchmark.verification`,
in float64. *Mean* and *median* are over all images, a misclassified one counting 0; *mean* leaves out images where the
contestant found nothing, and *found* says how many it did. *Near* is the share of images where it is within 1 % of the
best that anybody found. *Refused* are claimed examples that do not hold: the label does not change, or by so little
that rounding could undo it. *Forward* and *backward* are passes an image, counted around the model. *Seconds* are
processor time on the CPU and wall time on a GPU, without loading and re-verifying. *÷ bare* divides them by what the
same passes take, at the same batch sizes, if nothing but the model runs: a copy of it is timed beside every sixteenth
call, so that both meet the machine at the same speed."""

_AUTOATTACK = """\
AutoAttack standard decides one eps; our curve decides all of them. Robust accuracy on the same images, and our passes
(forward and backward, for the whole curve) ÷ AutoAttack's (for this eps)."""


def _span(values: list[float], digits: int) -> str:
    """One number, or the range over seeds."""
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low}–{high}"


def _summary(fought: list[Duel]) -> str:
    rows = []
    for duel in fought:
        peers_seconds = sum(peer["seconds"] for peer in duel.peers.values())
        rows.append(
            [
                duel.model,
                duel.norm,
                _span([duel.mean_ratio(ours) for ours in duel.ours], 3),
                _span([100 * duel.no_peer_nearer(ours) for ours in duel.ours], 0) + " %",
                _span([100 * duel.near(ours) for ours in duel.ours], 0) + " %",
                _share(duel, peers_seconds),
                "" if duel.autoattack is None else _share(duel, peers_seconds + duel.autoattack["seconds"]),
                _span([ours["seconds"] / ours["bare_seconds"] for ours in duel.ours], 2),
                str(len(duel.peers)),
            ]
        )
    head = [
        "model",
        "norm",
        "mean ÷ best of peers",
        "no peer nearer",
        "near",
        "seconds ÷ all peers'",
        "with AutoAttack's",
        "÷ bare",
        "peers",
    ]
    text = (
        "Our engine; ranges are over its seeds. *Best of peers* is the mean of the per-image minimum over all of them. "
        "*No peer nearer* is the share of images where no peer is nearer by more than 1 %; *near* compares with our "
        "other seeds too. The seconds are the longest seed's, against all of those peers together, without and with "
        "AutoAttack at its one eps."
    )
    return f"{text}\n\n{table(head, rows)}"


def _share(duel: Duel, seconds: float) -> str:
    """The slowest seed's part of so many seconds, as a fraction of one."""
    return f"1/{seconds / max(ours['seconds'] for ours in duel.ours):.1f}"


def _autoattack_table(fought: list[Duel]) -> str:
    rows = []
    for duel in fought:
        theirs = duel.autoattack
        assert theirs is not None
        eps = theirs["eps"]
        shares = [float((distances(ours) > eps).mean()) for ours in duel.ours]
        passes = [(o["forward"] + o["backward"]) / (theirs["forward"] + theirs["backward"]) for o in duel.ours]
        share = float((distances(theirs) > eps * (1 + ROUNDING)).mean())
        rows.append(
            [
                duel.model,
                duel.norm,
                f"{eps:.4g}",
                _span([100 * s for s in shares], 1) + " %",
                f"{100 * share:.1f} %",
                _lower(shares, share),
                f"1/{1 / max(passes):.1f}",
            ]
        )
    return table(["model", "norm", "eps", "ours", "AutoAttack", "lower", "passes"], rows)


def _lower(ours: list[float], theirs: float) -> str:
    """Whose robust accuracy is lower: AutoAttack's is a win as soon as one of our seeds is above it."""
    if max(ours) > theirs:
        return "AutoAttack"
    if min(ours) == theirs:
        return "equal"
    return "ours" if max(ours) < theirs else "ours or equal"


def _duel_table(duel: Duel) -> str:
    entries = [(f"**curveboard**, seed {ours['seed']}", ours) for ours in duel.ours]
    entries += sorted(duel.peers.items(), key=lambda item: _finite_mean(distances(item[1])))
    rows = []
    for name, result in entries:
        d = distances(result)
        rows.append(
            [
                name,
                f"{_finite_mean(d):.4g}",
                f"{np.median(d):.4g}",
                f"{100 * np.isfinite(d).mean():.0f} %",
                f"{100 * duel.near(result):.0f} %",
                str(result["claimed"]),
                f"{result['forward']:.0f}",
                f"{result['backward']:.0f}",
                f"{result['seconds']:.1f}",
                f"{result['seconds'] / result['bare_seconds']:.2f}",
            ]
        )
    if len(duel.peers) > 1:
        best = duel.best_of_peers
        total = sum(peer["seconds"] for peer in duel.peers.values())
        found = f"{100 * np.isfinite(best).mean():.0f} %"
        near = f"{100 * float((best <= NEAR * duel.best_of_all)[np.isfinite(duel.best_of_all)].mean()):.0f} %"
        medians = [f"{_finite_mean(best):.4g}", f"{np.median(best):.4g}"]
        rows.append(["*best of all peers*", *medians, found, near, "", "", "", f"{total:.1f}", ""])
    head = ["contestant", "mean", "median", "found", "near", "refused", "forward", "backward", "seconds", "÷ bare"]
    return table(head, rows)


def _finite_mean(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.inf


def _settings(fought: list[Duel]) -> str:
    seen = {name for duel in fought for name in duel.peers}
    rows = [[peer.name, peer.library, peer.settings] for peer in PEERS if peer.name in seen]
    return table(["peer", "library", "settings"], rows)


BENCHMARK = Benchmark("engine", "The curve engine against its peers", run, report)
