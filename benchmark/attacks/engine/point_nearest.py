"""One ε in l2 and l1: the engine's minimum-norm searches, the cheapest first, each sample's until it is within ε.

Gradients inside the ball lead to its surface, and mostly stay there. Searches that may leave the ball and come back, by
descents along the boundary, break several times as many samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Final

from benchmark.attacks.engine.budget import BUDGETS
from benchmark.attacks.engine.linearised import descend, linearise
from benchmark.attacks.engine.stages import aim, displaced, donated, kicked, searches
from benchmark.attacks.engine.state import Search

BUDGET: Final = replace(
    BUDGETS["quick"], linearise=3, search=30, noisy=1, settle=10, targets=4, aim=8, finished=2, descent=12, donors=24
)
_ROUNDS: Final = 3
"""Exchanges, each with a displacement and a kick."""


def search_until(search: Search) -> None:
    """Run the stages on a search with an `Search.until`; what they find is in `Search.best`."""
    for _ in _stages(search):
        if not len(search.left()):
            break


def _stages(search: Search) -> Iterator[None]:
    finish = partial(descend, steps=BUDGET.descent)
    yield
    search.run("linearised", search.clean(), partial(linearise, steps=BUDGET.linearise))
    yield
    aimed = aim(search, BUDGET).nearest(1)
    yield
    aimed = search.run("descent", aimed, finish)
    yield
    rows = (searches(search, BUDGET) + aimed).nearest(1)
    yield
    search.run("descent", rows, finish)
    for _ in range(_ROUNDS):
        yield
        search.run("exchange", donated(search, search.found(), BUDGET), finish)
        yield
        displaced(search, search.found(), BUDGET)
        yield
        search.run("kick", kicked(search, search.found()), finish)
