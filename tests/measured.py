"""Measures run chunk by chunk, as an evaluation runs them, on samples of a dataset."""

import numpy as np

from benchmark.data import get_dataset
from benchmark.measures import Inputs, Task

DIGITS = get_dataset("digits")


def task_of(model, n, *, first=0, dataset=DIGITS):
    x, y = dataset.batch(first, first + n)
    return Task(model=model, module=model, x=x, y=y, first=first, dataset=dataset)


def run(measure, parameters, model, n, *, chunk, dataset=DIGITS, references=()):
    """All chunks and their summary."""

    def arrays_of(one):
        parts = [
            measure.run(task_of(one, min(chunk, n - i), first=i, dataset=dataset), parameters)
            for i in range(0, n, chunk)
        ]
        return {k: np.concatenate([p.arrays[k] for p in parts]) for k in parts[0].arrays}, parts[0].flags

    arrays, flags = arrays_of(model)
    labels = dataset.labels(0, n)
    others = {name: arrays_of(one)[0] for name, one in references}
    return arrays, flags, measure.summarise(Inputs(arrays, labels, others, dataset), parameters)


def value(summary, name):
    found = [s for s in summary.scores if s.name == name]
    return found[0].value if found else None
