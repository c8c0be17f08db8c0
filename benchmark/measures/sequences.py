"""How often, and how much, predictions change along sequences of frames: flip rate and top-5 distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmark.data.corruptions.scores import flips, top5_distances
from benchmark.data.corruptions.sequences import NOISES
from benchmark.data.suites import Sequences
from benchmark.errors import InputError
from benchmark.measures import Inputs, Measure, Needs, Result, Task
from benchmark.measures.corruption_cells import (
    OPERATIONS,
    Resamples,
    in_parts,
    made_of,
    margin,
    mean_score,
    means,
    ratio_score,
    scalar,
    worst_score,
)
from benchmark.results import Output, Score, Summary, Work

if TYPE_CHECKING:
    from benchmark.data import Dataset

_MOST_T5D = 25.0
"""No five places can move by more than five each."""


@dataclass(frozen=True)
class SequencesParameters:
    """Parameters.

    Attributes:
        sequences: A suite of sequences.
        reference: A model of the zoo by whose flip rates and distances those of each perturbation are divided; empty
            for none. AlexNet's rates are not public: what is so normalised is no mFR.
        difficulty: Every so many-th frame is compared (noise: each frame with the first).
        samples: Only the first so many samples of the slice are measured.

    Raises:
        InputError: If difficulty or samples are below 1.
    """

    sequences: str = "cifar-p"
    reference: str = ""
    difficulty: int = 1
    samples: int = 1000

    def __post_init__(self) -> None:
        if self.difficulty < 1 or self.samples < 1:
            raise InputError(
                f"Sequences need a difficulty and samples of at least 1, got {self.difficulty} and {self.samples}."
            )


class FlipRates(Measure[SequencesParameters]):
    """Flip rate and top-5 distance along sequences."""

    name = "sequences"
    version = 2
    title = "Sequences of perturbations: how often the predicted class flips from frame to frame"
    paper = "Hendrycks & Dietterich 2019, arXiv:1903.12261"
    chunk = 50
    at_most = "samples"
    Parameters = SequencesParameters

    def needs(self, parameters: SequencesParameters) -> Needs:
        """The suite, and the reference model if there is one."""
        references = (parameters.reference,) if parameters.reference else ()
        return Needs(suites=(parameters.sequences,), references=references)

    def outputs(self, parameters: SequencesParameters, dataset: Dataset) -> Sequence[Output]:
        """Flip rate and T5D of each perturbation and their means; ratios only where there is a reference."""
        kinds = _sequences(parameters.sequences, dataset).kinds
        over = f"Mean over {len(kinds.labels)} perturbations"
        found = [
            margin(
                "flips", "Flip rate", "Share of steps at which the predicted class changes.", kinds, direction="lower"
            ),
            margin(
                "t5d",
                "T5D",
                "Change of the first five classes' ranking a step.",
                kinds,
                direction="lower",
                unit="places",
            ),
            scalar("flip_rate", "Mean flip rate", f"{over}; not normalised.", "lower"),
            scalar("mean_t5d", "Mean T5D", f"{over}; not normalised.", "lower", "places"),
            scalar("worst_flip_rate", "Worst flip rate", "Of the perturbation with the most flips.", "lower"),
        ]
        if parameters.reference:
            by = f"{over} of the ratio to {parameters.reference}, which is 1"
            found += [
                scalar("flip_ratio", f"Flips by {parameters.reference}", f"{by}; not mFR.", "lower", ""),
                scalar("t5d_ratio", f"T5D by {parameters.reference}", f"{by}; not mT5D.", "lower", ""),
            ]
        return found

    def work(self, parameters: SequencesParameters, dataset: Dataset) -> Work | None:
        """A forward pass of every frame; some perturbations have fewer."""
        suite = _sequences(parameters.sequences, dataset)
        passes = len(suite.kinds.labels) * suite.frames
        return Work(forward=passes, steps=len(suite.kinds.labels), operations=OPERATIONS)

    def run(self, task: Task, parameters: SequencesParameters) -> Result:
        """Classify all frames of the chunk's sequences.

        Returns:
            ``flips`` and ``t5d``, shape (n, perturbations): of each sequence, a step.
        """
        given = task.suites.get(parameters.sequences)
        suite = given if isinstance(given, Sequences) else _sequences(parameters.sequences, task.dataset)
        n, kinds = len(task.x), suite.kinds.labels
        arrays: dict[str, NDArray[np.float64]] = {key: np.empty((n, len(kinds))) for key in ("flips", "t5d")}
        for i, kind in enumerate(kinds):
            frames, _ = suite.batch(kind, task.first, task.first + n)
            logits = in_parts(task.model, frames.flatten(0, 1), task.x.device).reshape(n, frames.shape[1], -1)
            values, noise = logits.cpu().numpy(), kind in NOISES
            every = 1 if noise else parameters.difficulty
            arrays["flips"][:, i] = flips(values.argmax(axis=2), from_first=noise, every=every)
            arrays["t5d"][:, i] = top5_distances(values, from_first=noise, every=every)
        return Result(arrays)

    def summarise(self, inputs: Inputs, parameters: SequencesParameters) -> Summary:
        """Means with Gaffke's intervals, ratios with the paired bootstrap's."""
        rates, distances = inputs.arrays["flips"], inputs.arrays["t5d"]
        scores: list[Score] = [
            *mean_score("flip_rate", rates.mean(axis=1), direction="lower"),
            *mean_score("mean_t5d", distances.mean(axis=1), direction="lower", unit="places", most=_MOST_T5D),
            *worst_score("worst_flip_rate", rates, direction="lower"),
        ]
        if parameters.reference:
            if parameters.reference not in inputs.references:
                raise InputError(f"There is no result of the reference {parameters.reference!r} on these images.")
            other, resamples = inputs.references[parameters.reference], Resamples.of(len(rates))
            scores += ratio_score("flip_ratio", rates, other["flips"], None, resamples)
            scores += ratio_score("t5d_ratio", distances, other["t5d"], None, resamples, within=(0.0, _MOST_T5D))
        return Summary(scores, {"flips": means(rates), "t5d": means(distances, most=_MOST_T5D)})


def _sequences(name: str, dataset: Dataset | None) -> Sequences:
    suite = made_of(name, dataset)
    if not isinstance(suite, Sequences):
        raise InputError(f"The suite {name!r} has no sequences.")
    return suite


MEASURE = FlipRates()
