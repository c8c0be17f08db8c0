"""What a row of a board has and lacks: the protocol, as stored, minus the results. The one place that says so."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from db.schema import State

ANY: Final = "*"
"""A parameter's value in a protocol that stands for whatever was registered when the row was planned."""

BY_NAME: Final = {"reference": "standard", "against": "stated"}
"""Parameters with values in a protocol that stand for what is stated for the dataset, or for nothing."""

OF_THE_DATASET: Final = frozenset({"suite", "sequences", "sources"})
"""Parameters whose `ANY` stands for what fits the dataset: that may be nothing."""

BROUGHT: Final = frozenset({"challenge", "transfer"})
"""Measures that only check what somebody brings: however many samples, they search for nothing."""

SETTLED: Final = frozenset({State.DONE, State.UNSUPPORTED})
"""States after which nothing more is to come."""


class Planned(Protocol):
    """An evaluation that a row wants, as far as it matters here."""

    @property
    def measure(self) -> str:
        """Its measure."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Its parameters."""

    @property
    def state(self) -> State:
        """Where it stands."""

    @property
    def outputs(self) -> Sequence[Mapping[str, Any]]:
        """The outputs that its measure declared."""

    @property
    def samples(self) -> int:
        """How many samples it measures."""

    @property
    def bundle(self) -> str | None:
        """Digest of the bundle that brought it; None if this board ran it."""


def missing(spec: Mapping[str, Any], eps: Mapping[str, Sequence[float]], planned: Sequence[Planned]) -> tuple[str, ...]:
    """What a row lacks, in words; nothing if it is complete.

    Args:
        spec: The protocol as stored.
        eps: The dataset's published budgets in each norm.
        planned: The evaluations that the row wants under this protocol.

    Returns:
        For instance ``("curve norm=l2 attack=engine (failed)", "clean (never planned)")``.
    """
    lacking = [f"{_name(e.measure, e.parameters)} ({e.state.value})" for e in planned if e.state not in SETTLED]
    for measure, asked in wanted(spec, eps):
        own = [e for e in planned if e.measure == measure]
        if not own and any(asked.get(name) == ANY for name in OF_THE_DATASET):
            continue
        if not any(_fits(e.parameters, asked) for e in own):
            lacking.append(f"{_name(measure, asked)} (never planned)")
    return tuple(lacking)


def wanted(spec: Mapping[str, Any], eps: Mapping[str, Sequence[float]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every combination that the protocol's tables ask for: the measure, and the parameters that must be so."""
    for table in spec.get("measures", ()):
        named = {name: value for name, value in table.items() if name != "measure"}
        choices = [value if isinstance(value, list) else [value] for value in named.values()]
        for values in itertools.product(*choices):
            asked = dict(zip(named, values, strict=True))
            if asked.get("eps") in ("reference", "published"):
                published = list(eps.get(asked.get("norm", ""), ()))
                budgets = published[:1] if asked["eps"] == "reference" else published
                yield from ((table["measure"], asked | {"eps": budget}) for budget in budgets)
            else:
                yield table["measure"], asked


def _fits(parameters: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    return all(
        value == ANY or (name in BY_NAME and value == BY_NAME[name]) or parameters.get(name) == value
        for name, value in asked.items()
    )


def _name(measure: str, parameters: Mapping[str, Any]) -> str:
    shown = (f"{name}={value}" for name, value in parameters.items() if name in {"norm", "attack", "eps"})
    return " ".join((measure, *shown))


def attacked(planned: Iterable[Planned], n: int) -> tuple[str, ...]:
    """The threats under which every one of the ``n`` samples was attacked.

    That is, those of which a finished evaluation that the protocol wants declares distances of all samples. Examples
    that were found under another threat, or that somebody brought, have a distance too, but say nothing of what an
    attack would have found.
    """
    found = {
        str(output["threat"])
        for e in planned
        if e.state is State.DONE and e.samples >= n
        for output in e.outputs
        if output["kind"] == "upper"
    }
    return tuple(sorted(found))


def unsearched(planned: Sequence[Planned], done: Iterable[Planned], n: int) -> bool:
    """Whether a row rests on what another board says it did not find.

    An adversarial example proves itself; that nothing nearer was found proves nothing. So a row of which another board
    reported anything is ranked once this board has attacked all its samples itself, under every threat under which the
    other one did; a row without attacks, once it has run all that the protocol wants.

    Args:
        planned: The evaluations that the row wants.
        done: All finished evaluations of the model on the dataset.
        n: The slice.
    """
    reported = [e for e in planned if e.bundle is not None]
    if not reported:
        return False
    threats = attacked(planned, n)
    own = attacked((e for e in done if e.bundle is None and e.measure not in BROUGHT), n)
    return not threats or not set(threats) <= set(own)
