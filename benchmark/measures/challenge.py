"""Adversarial examples that somebody brings, as a measure: the evaluator re-checks them as it does any attack's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.errors import InputError
from benchmark.measures import Inputs, Measure, Method, Needs, Result, Task
from benchmark.results import Output, Score
from benchmark.threat import Norm, norm_names

if TYPE_CHECKING:
    from benchmark.data import Dataset


@dataclass(frozen=True)
class ChallengeParameters:
    """Parameters of a challenge.

    Attributes:
        norm: The norm the examples were made for; whatever they lower in the other norms counts as well.
        author: Who found them.
        paper: Where it is described.
        sha256: Of the file that was brought.
        evidence: Digest of the examples in it that hold, in the evidence store.
    """

    norm: Norm | None = None
    author: str = ""
    paper: str = ""
    sha256: str = ""
    evidence: str = ""


class Challenge(Measure[ChallengeParameters]):
    """Examples brought by somebody else."""

    name = "challenge"
    version = 1
    title = "Challenge: adversarial examples that somebody brought"
    chunk = 500
    abstaining = True
    Parameters = ChallengeParameters

    def needs(self, parameters: ChallengeParameters) -> Needs:
        """The examples."""
        return Needs(examples=(parameters.evidence,) if parameters.evidence else ())

    def outputs(self, parameters: ChallengeParameters, dataset: Dataset) -> Sequence[Output]:
        """Their distances in every norm, and how many there are."""
        return (*brought_distances(), Output("examples", "scalar", "Examples", "Examples that hold.", unit="examples"))

    def method(self, parameters: ChallengeParameters) -> Method:
        """Who is credited."""
        who = f"challenge: {parameters.author or 'anonymous'}"
        return Method("Challenge", parameters.paper, contributor=who, change="challenge-accepted")

    def run(self, task: Task, parameters: ChallengeParameters) -> Result:
        """Hand the examples to the evaluator, which re-checks them."""
        if task.examples is None:
            raise InputError("A challenge is entered with: curveboard challenge MODEL FILE.")
        return Result(adversarials=task.examples)

    def summarise(self, inputs: Inputs, parameters: ChallengeParameters) -> list[Score]:
        """How many examples there are."""
        return [Score("examples", float(len(inputs.labels)), unit="examples")]


def brought_distances() -> tuple[Output, ...]:
    """An output for the distances in each norm."""
    return tuple(
        Output(
            f"distance_{norm}",
            "upper",
            "Distance",
            "Distance of the example, as re-checked.",
            unit="distance",
            direction="higher",
            threat=norm,
            array=f"distance_{norm}",
        )
        for norm in norm_names()
    )


MEASURE = Challenge()
