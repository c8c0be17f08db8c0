"""A measure of every kind of output but the adversarial examples, which are the attack's."""

from dataclasses import dataclass

import numpy as np
import torch

from benchmark.measures import Measure, Needs, Result
from benchmark.results import GridAxis, Output, Score, Summary, Table

WORK = GridAxis("looks", ("1", "2", "4"), "looks a sample")


@dataclass(frozen=True)
class Settings:
    suite: str = "fog"
    norm: str = "linf"


class Everything(Measure[Settings]):
    name = "everything"
    version = 1
    title = "One output of every kind"
    chunk = 5
    Parameters = Settings

    def needs(self, parameters):
        return Needs(suites=(parameters.suite,))

    def outputs(self, parameters, dataset):
        from benchmark.data.suites import get_suite

        threat, eps = parameters.norm, dataset.eps[parameters.norm][0]
        axes = get_suite(parameters.suite).axes
        return [
            Output("lead", "scalar", "Lead", "Mean lead of the first logit.", "logits", "higher"),
            Output("proven", "lower", "Proven", "Radius proven.", "distance", "higher", threat, array="proven"),
            Output("guess", "estimate", "Guess", "Radius guessed.", "distance", "higher", threat, array="guess"),
            Output("safe", "verdict", "Safe", "Whether it is safe.", "share", "higher", threat, eps, array="safe"),
            Output("in_fog", "grid", "In fog", "Accuracy in fog.", "share", "higher", axes=axes),
            Output("effort", "trace", "Effort", "Accuracy after so many looks.", "share", "lower", axes=(WORK,)),
            Output("stars", "stars", "Stars", "What the critics say.", direction="higher"),
        ]

    def run(self, task, parameters):
        suite = task.suites[parameters.suite]
        with torch.no_grad():
            lead = task.model(task.x)
            foggy = []
            for cell in suite.cells():
                x, y = suite.batch(cell, task.first, task.first + len(task.x))
                foggy.append((task.model(x.to(task.x)).argmax(1).cpu() == y).numpy())
        margin = (lead[:, 0] - lead[:, 1]).abs().cpu().numpy().astype(np.float64)
        proven = np.where(margin > 0, 0.2, 0.0)
        return Result(
            {
                "lead": margin,
                "proven": proven,
                "guess": 3 * proven,
                "safe": np.arange(task.first, task.first + len(margin)) % 3 == 0,
                "foggy": np.stack(foggy, axis=1),
            }
        )

    def summarise(self, inputs, parameters):
        lead = inputs.arrays["lead"]
        cells = inputs.arrays["foggy"].mean(axis=0).reshape(2, 3)
        values = np.array([0.75, 0.5, 0.25])
        spread = lead.std()
        return Summary(
            [
                Score("lead", lead.mean(), lead.mean() - spread, lead.mean() + spread, 0.95, "logits", "higher"),
                Score("stars", 4.0),
            ],
            {
                "in_fog": Table(cells, np.maximum(cells - 0.1, 0), np.minimum(cells + 0.1, 1), 0.95),
                "effort": Table(values, values - 0.05, values + 0.05, 0.95),
            },
        )


MEASURE = Everything()
