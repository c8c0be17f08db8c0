"""Accuracy under common corruptions: a grid corruption × severity, and what it is summed up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from benchmark.data.corruptions.references import STATED
from benchmark.data.corruptions.scores import Reference, corruption_errors
from benchmark.errors import InputError
from benchmark.measures import Inputs, Measure, Needs, Result, Task
from benchmark.measures.corruption_cells import (
    MISSING,
    OPERATIONS,
    Floats,
    Resamples,
    classes,
    correct_of,
    grid_suite,
    grid_suite_of,
    margin,
    mean_score,
    means,
    missing_flag,
    ratio_score,
    scalar,
    standard,
    worst_score,
)
from benchmark.measures.means import proportions
from benchmark.results import Output, Score, Summary, Table, Work

if TYPE_CHECKING:
    from benchmark.data import Dataset


@dataclass(frozen=True)
class CorruptionParameters:
    """Parameters of the grid.

    Attributes:
        suite: A suite of corruption × severity.
        reference: Whose errors mCE is normalised by: ``"alexnet"``, as published for ImageNet-C, or another one whose
            errors are stated; or a model of the zoo, measured on the same images; empty for none: there is no mCE then.

    Raises:
        InputError: If stated errors are asked for that are of another suite.
    """

    suite: str = "mnist-c"
    reference: str = ""

    def __post_init__(self) -> None:
        stated = STATED.get(self.reference)
        if stated is not None and self.suite != stated.suite:
            raise InputError(
                f"The errors of {self.reference} are of {stated.suite}, not of {self.suite}: normalise by a model of "
                "the zoo, or by none."
            )

    @property
    def whose(self) -> str:
        """The reference's name."""
        return STATED[self.reference].reference.name if self.reference in STATED else self.reference


class Corruptions(Measure[CorruptionParameters]):
    """Accuracy under each corruption at each severity."""

    name = "corruptions"
    version = 2
    title = "Common corruptions: accuracy under each corruption at each severity"
    paper = "Hendrycks & Dietterich 2019, arXiv:1903.12261; Mu & Gilmer 2019, arXiv:1906.02337"
    chunk = 500
    abstaining = True
    Parameters = CorruptionParameters

    def needs(self, parameters: CorruptionParameters) -> Needs:
        """The suite, and the reference model where mCE is normalised by one of the zoo."""
        known = not parameters.reference or parameters.reference in STATED
        return Needs(suites=(parameters.suite,), references=() if known else (parameters.reference,))

    def outputs(self, parameters: CorruptionParameters, dataset: Dataset) -> Sequence[Output]:
        """The grid, its margins and means; mCE only where there is a reference."""
        suite = grid_suite(parameters.suite, dataset)
        names, severities = suite.axes
        extra = [name for name in names.labels if name not in standard(suite)]
        over = f"{len(standard(suite))} corruptions" + (f" (without {', '.join(extra)})" if extra else "")
        text = "Share of images classified correctly in each cell."
        found = [
            Output(
                "grid",
                "grid",
                "Accuracy under corruption",
                text,
                "share",
                "higher",
                array="prediction",
                axes=(replace(names, apart=tuple(extra)), severities),
            ),
            margin("by_corruption", "Accuracy a corruption", "Mean over the severities.", names),
            margin("by_severity", "Accuracy a severity", f"Mean over {over}.", severities),
            scalar("mean_accuracy", "Mean accuracy", f"Mean over {over} and all severities; not normalised."),
            scalar("mean_error", "Mean error", f"1 − mean accuracy over {over}; not normalised.", "lower"),
            scalar("clean_accuracy", "Clean accuracy", "On the same images without corruption."),
            scalar("worst_corruption", "Worst corruption", "Lowest accuracy of a corruption over its severities."),
            scalar("worst_severity", "Worst severity", f"Lowest accuracy of a severity over {over}."),
        ]
        if parameters.reference:
            by = f"{parameters.whose} is 1"
            error = "Error over all severities ÷ that of the reference"
            found += [
                margin("ce", "CE", f"{error}; {by}.", names, direction="lower", unit=""),
                scalar("mce", f"mCE by {parameters.whose}", f"Mean over {over}: {error}; {by}.", "lower", ""),
                scalar(
                    "relative_mce",
                    f"Relative mCE by {parameters.whose}",
                    f"As mCE, of errors less the clean error; {by}.",
                    "lower",
                    "",
                ),
                scalar(
                    "undefined_ce",
                    "Corruptions without CE",
                    f"Those under which {parameters.whose} makes no error: they have no CE, and there is no mCE.",
                    "none",
                    "corruptions",
                ),
            ]
        return found

    def work(self, parameters: CorruptionParameters, dataset: Dataset) -> Work | None:
        """A forward pass of each cell and of the clean images."""
        names, severities = grid_suite(parameters.suite, dataset).axes
        passes = len(names.labels) * len(severities.labels) + 1
        return Work(forward=passes, steps=passes, operations=OPERATIONS)

    def run(self, task: Task, parameters: CorruptionParameters) -> Result:
        """Classify the chunk's images in every cell.

        Returns:
            ``clean`` (n,) and ``prediction`` (n, corruptions, severities): classes, −1 in a cell that cannot be had.
        """
        suite, device = grid_suite_of(task, parameters.suite), task.x.device
        names, severities = (axis.labels for axis in suite.axes)
        predicted = np.full((len(task.x), len(names), len(severities)), MISSING, dtype=np.int16)
        reasons = {name: suite.missing((name, severities[0])) for name in names}
        for i, name in enumerate(names):
            for j, severity in enumerate(severities if not reasons[name] else ()):
                x, _ = suite.batch((name, severity), task.first, task.first + len(task.x))
                predicted[:, i, j] = classes(task.model, x, device)
        arrays = {"clean": classes(task.model, task.x, device), "prediction": predicted}
        return Result(arrays, flags=missing_flag(reasons))

    def summarise(self, inputs: Inputs, parameters: CorruptionParameters) -> Summary:
        """Accuracies with Clopper–Pearson intervals, means with Gaffke's, mCE with the paired bootstrap's."""
        suite = grid_suite(parameters.suite, inputs.dataset)
        names, chosen = suite.axes[0].labels, standard(suite)
        rows = [names.index(name) for name in chosen]
        correct = correct_of(inputs.arrays["prediction"], inputs.labels)
        clean = correct_of(inputs.arrays["clean"], inputs.labels)
        by_corruption, by_severity = correct.mean(axis=2), correct[:, rows].mean(axis=1)
        tables = {
            "grid": proportions(correct),
            "by_corruption": means(by_corruption),
            "by_severity": means(by_severity),
        }
        scores = [
            *mean_score("clean_accuracy", clean),
            *mean_score("mean_accuracy", by_corruption[:, rows].mean(axis=1)),
            *mean_score("mean_error", 1 - by_corruption[:, rows].mean(axis=1), direction="lower"),
            *worst_score("worst_corruption", by_corruption[:, rows]),
            *worst_score("worst_severity", by_severity),
        ]
        if parameters.reference:
            base = _Base.of(parameters.reference, inputs, names)
            errors = dict(zip(names, (1 - correct).mean(axis=0), strict=True))
            ce = corruption_errors(errors, base.reference)
            tables["ce"] = Table(np.array([ce[name] for name in names]))
            undefined = sum(not mean > 0 for mean in (np.mean(base.reference.errors.get(name, 0)) for name in chosen))
            scores.append(Score("undefined_ce", float(undefined), unit="corruptions"))
            scores += base.scores((1 - by_corruption)[:, rows], 1 - clean, names, rows)
        return Summary(scores, tables)


@dataclass(frozen=True, eq=False)
class _Base:
    """What mCE is normalised by.

    Attributes:
        reference: The errors.
        errors: Of a model of the zoo: its errors on the same images, (n, corruptions), means over the severities.
        clean: Of a model of the zoo: its clean errors, (n,).
    """

    reference: Reference
    errors: Floats | None = None
    clean: Floats | None = None

    @classmethod
    def of(cls, name: str, inputs: Inputs, names: Sequence[str]) -> _Base:
        """Stated errors, or those of a model that was measured on the same images."""
        stated, dataset = STATED.get(name), inputs.dataset
        if stated is not None:
            if stated.label_space and dataset is not None and dataset.labels_of != stated.label_space:
                raise InputError(f"The errors of {name} are of {stated.label_space}, not of {dataset.name}.")
            return cls(stated.reference)
        if name not in inputs.references:
            raise InputError(f"mCE is normalised by {name!r}, of which there is no result on these images.")
        arrays = inputs.references[name]
        errors = 1 - correct_of(arrays["prediction"], inputs.labels)
        clean = 1 - correct_of(arrays["clean"], inputs.labels)
        means_ = errors.mean(axis=0)
        by_name = {key: tuple(means_[i]) for i, key in enumerate(names)}
        return cls(Reference(name, by_name, float(clean.mean())), errors.mean(axis=2), clean)

    def scores(self, errors: Floats, clean: Floats, names: Sequence[str], rows: Sequence[int]) -> list[Score]:
        """MCE and relative mCE; nothing where a cell is missing."""
        resamples = Resamples.of(len(errors))
        if self.errors is not None and self.clean is not None:
            others, relative = self.errors[:, rows], self.errors[:, rows] - self.clean[:, None]
            return [
                *ratio_score("mce", errors, others, None, resamples),
                *ratio_score("relative_mce", errors - clean[:, None], relative, None, resamples, within=(-1.0, 1.0)),
            ]
        known = [float(np.mean(self.reference.errors.get(names[row], np.nan))) for row in rows]
        found = ratio_score("mce", errors, None, known, resamples)
        if self.reference.clean is not None:
            less = [value - self.reference.clean for value in known]
            found += ratio_score("relative_mce", errors - clean[:, None], None, less, resamples, within=(-1.0, 1.0))
        return found


MEASURE = Corruptions()
