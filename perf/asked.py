"""The process of one black-box contestant: at most so many images shown a sample, the nearest example kept.

A peer is given one sample at a time, so that every image that it shows the model belongs to that sample, and the image
of another class from which our attacks start. It is credited with the nearest example that it showed within its budget,
whether it returns it or not. Ours run on all samples at once and are credited with what they return.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.attacks import get_attack
from benchmark.attacks.access import limited
from benchmark.attacks.outward import pushed_outward
from benchmark.data import get_dataset
from benchmark.threat import Norm, distances, get_norm
from benchmark.verification import verify
from models_zoo import get_entry, load_model

_LEAD: Final = 1e-4
"""Relative lead from which a peer's image counts: some 25 times what verification asks for, so that it is believed."""

OURS: Final = ("hopskipjump", "geoda", "square")


class SpentError(Exception):
    """A contestant has shown the model as many images as it may."""


class Asked(nn.Module):
    """A model that remembers the nearest example of one sample among the first images that it is shown.

    Args:
        model: The model.
        x: The clean image, shape (1, c, h, w).
        y: Its label, shape (1,).
        norm: The norm to be small.
        queries: Images after which it refuses to go on.
    """

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor, norm: Norm, queries: int) -> None:
        super().__init__()
        self.model, self.x, self.y, self.norm, self.queries = model, x, y, norm, queries
        self.shown, self.best, self.distance = 0, x.clone(), math.inf

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (n, k); raises `SpentError` at the end of the budget."""
        images = images.detach().float()
        with torch.no_grad():
            logits: Tensor = self.model(images)
        self._note(images, logits, max(0, self.queries - self.shown))
        self.shown += len(images)
        if self.shown >= self.queries:
            raise SpentError
        return logits

    def _note(self, images: Tensor, logits: Tensor, left: int) -> None:
        seen, given = images[:left], logits[:left]
        if not len(seen):
            return
        own = given[:, self.y].squeeze(1)
        top = given.index_fill(1, self.y, -math.inf).amax(dim=1)
        holds = top - own > _LEAD * torch.maximum(top.abs(), own.abs())
        holds &= ((seen >= 0) & (seen <= 1)).flatten(1).all(dim=1)
        apart = distances(self.x.expand_as(seen), seen, self.norm).masked_fill(~holds, math.inf)
        nearest = int(apart.argmin())
        if apart[nearest] < self.distance:
            self.distance, self.best = float(apart[nearest]), seen[nearest : nearest + 1].clone()


def _foolbox(model: nn.Module) -> Any:
    import foolbox  # type: ignore[import-not-found]

    return foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")


def _foolbox_hopskipjump(model: nn.Module, x: Tensor, y: Tensor, start: Tensor, task: Mapping[str, Any]) -> None:
    import foolbox

    attack = foolbox.attacks.HopSkipJumpAttack(steps=64, constraint=task["norm"])
    attack.run(_foolbox(model), x, foolbox.criteria.Misclassification(y), starting_points=start)


def _foolbox_boundary(model: nn.Module, x: Tensor, y: Tensor, start: Tensor, task: Mapping[str, Any]) -> None:
    import foolbox

    attack = foolbox.attacks.BoundaryAttack(steps=task["queries"])
    attack.run(_foolbox(model), x, foolbox.criteria.Misclassification(y), starting_points=start)


def _art(attack: str, model: nn.Module, x: Tensor, y: Tensor, start: Tensor, **settings: Any) -> None:
    from art.attacks import evasion  # type: ignore[import-not-found]
    from art.estimators.classification import PyTorchClassifier  # type: ignore[import-not-found]

    classes = 10
    classifier = PyTorchClassifier(
        model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(x.shape[1:]),
        nb_classes=classes,
        clip_values=(0, 1),
        device_type="cpu",
    )
    more = {} if attack == "SquareAttack" else {"x_adv_init": start.numpy()}
    getattr(evasion, attack)(classifier, verbose=False, **settings).generate(
        x.numpy(), y=np.eye(classes)[y.numpy()], **more
    )


def _art_hopskipjump(model: nn.Module, x: Tensor, y: Tensor, start: Tensor, task: Mapping[str, Any]) -> None:
    _art("HopSkipJump", model, x, y, start, norm={"l2": 2, "linf": np.inf}[task["norm"]], max_iter=64)


def _art_boundary(model: nn.Module, x: Tensor, y: Tensor, start: Tensor, task: Mapping[str, Any]) -> None:
    _art("BoundaryAttack", model, x, y, start, targeted=False, max_iter=task["queries"])


def _art_square(model: nn.Module, x: Tensor, y: Tensor, start: Tensor, task: Mapping[str, Any]) -> None:
    _art("SquareAttack", model, x, y, start, norm=np.inf, eps=task["eps"], max_iter=task["queries"])


PEERS: Final[Mapping[str, Callable[..., None]]] = MappingProxyType(
    {
        "foolbox-hopskipjump": _foolbox_hopskipjump,
        "art-hopskipjump": _art_hopskipjump,
        "foolbox-boundary": _foolbox_boundary,
        "art-boundary": _art_boundary,
        "art-square": _art_square,
    }
)

_SHOWN = 0


class _Counted(nn.Module):
    """Counts images for the module, since an attack works on a copy."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        global _SHOWN  # noqa: PLW0603
        _SHOWN += len(x)
        logits: Tensor = self.model(x)
        return logits


def measure(task: Mapping[str, Any]) -> dict[str, Any]:
    """Run one contestant.

    Args:
        task: ``contestant``, ``model``, ``norm``, ``samples``, ``seed``, ``threads``, ``queries``, ``eps``.

    Returns:
        ``distances`` (null where nothing holds) and ``queries``, images shown a sample (of ours without the pool's).
    """
    dataset = get_dataset(get_entry(task["model"]).dataset)
    model, (x, y) = load_model(task["model"]), dataset.load(task["samples"])
    pool = dataset.pool(dataset.size)
    with torch.no_grad():
        right, classes = model(x).argmax(dim=1) == y, model(pool).argmax(dim=1)
    found, shown = x.clone(), 0
    if task["contestant"] in PEERS:
        apart = get_norm(task["norm"]).pairwise(x, pool).masked_fill(classes[None] == y[:, None], math.inf)
        start = pool[apart.argmin(dim=1)]
        for i in range(len(x)):
            if right[i]:
                one, seed = slice(i, i + 1), task["seed"] * len(x) + i
                np.random.seed(seed)
                torch.manual_seed(seed)
                asked = Asked(model, x[one], y[one], task["norm"], task["queries"]).eval()
                with contextlib.suppress(SpentError):
                    PEERS[task["contestant"]](asked, x[one], y[one], start[one], task)
                found[one], shown = asked.best, shown + asked.shown
    else:
        attack = get_attack(task["contestant"])
        given = {"norm": task["norm"], "effort": "quick", "seed": task["seed"], "queries": task["queries"]}
        with limited(_Counted(model), attack.access, attack.name) as seen:
            found = attack.run(seen, x, y, pool=pool, **given).adversarials
        shown = _SHOWN - len(pool)
        found = pushed_outward(model, x, y, found)
    distance = verify(model, x, y, found).distances[task["norm"]].tolist()
    return {
        "distances": [d if math.isfinite(d) else None for d in distance],
        "queries": shown / max(1, int(right.sum())),
    }


def main() -> None:
    """Read the task, JSON, from ``sys.argv[1]``; print one line of JSON."""
    task = json.loads(sys.argv[1])
    torch.set_num_threads(task["threads"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = measure(task)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
