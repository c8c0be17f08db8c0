"""Transfer replay as a measure: stored examples of other models that hold on this one, re-checked as any attack's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.errors import InputError
from benchmark.measures import Inputs, Measure, Method, Needs, Result, Task
from benchmark.measures.challenge import brought_distances
from benchmark.results import Output, Score
from benchmark.threat import Norm

if TYPE_CHECKING:
    from benchmark.data import Dataset


@dataclass(frozen=True)
class TransferParameters:
    """Parameters of a replay.

    Attributes:
        norm: The norm in which these examples are the nearest; None where none was nearer than what is known.
        evidence: Digest of the examples, in the evidence store; empty where there are none.
        tried: Digest of the list of all files that were tried.
    """

    norm: Norm | None = None
    evidence: str = ""
    tried: str = ""


class Transfer(Measure[TransferParameters]):
    """Examples of other models that hold on this one."""

    name = "transfer"
    version = 1
    title = "Transfer replay: other models' adversarial examples tried on this one"
    chunk = 500
    abstaining = True
    Parameters = TransferParameters

    def needs(self, parameters: TransferParameters) -> Needs:
        """The examples."""
        return Needs(examples=(parameters.evidence,) if parameters.evidence else ())

    def outputs(self, parameters: TransferParameters, dataset: Dataset) -> Sequence[Output]:
        """Their distances in every norm, and how many there are."""
        won = Output("won", "scalar", "Won", "Samples whose nearest example is another model's.", unit="samples")
        return (*(brought_distances() if parameters.evidence else ()), won)

    def method(self, parameters: TransferParameters) -> Method:
        """Credited as transfer."""
        return Method("Transfer replay", contributor="transfer", change="transfer-lowered")

    def run(self, task: Task, parameters: TransferParameters) -> Result:
        """Hand the examples to the evaluator, which re-checks them."""
        if task.examples is None:
            raise InputError("Examples of other models are tried with: curveboard replay.")
        return Result(adversarials=task.examples)

    def summarise(self, inputs: Inputs, parameters: TransferParameters) -> list[Score]:
        """How many examples there are."""
        return [Score("won", float(len(inputs.labels)), unit="samples")]


MEASURE = Transfer()
