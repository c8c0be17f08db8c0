"""What an attack's smallest distances are told as: the outputs and scores that every curve of distances has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmark.results import Output, Score


def distance_outputs(threat: str, *, distance: str, found: str, median: str, mean: str) -> Sequence[Output]:
    """Each sample's distance under a threat, and what the distances come to.

    Args:
        threat: The norm, or the norm and the goal.
        distance: What a distance says, in a sentence.
        found: Whose share ``found`` is.
        median: Whose median.
        mean: Whose mean.
    """
    return (
        Output(
            "distance",
            "upper",
            "Distance",
            distance,
            unit="distance",
            direction="higher",
            threat=threat,
            array=f"distance_{threat}",
        ),
        Output("found", "scalar", "Found", found, "share", threat=threat),
        Output("median_distance", "scalar", "Median distance", median, "distance", "higher", threat=threat),
        Output("mean_distance", "scalar", "Mean distance", mean, "distance", "higher", threat=threat),
    )


def distance_scores(distances: NDArray[np.floating]) -> list[Score]:
    """Share found, median, and mean where one was found, of distances (n,), ``inf`` where none was."""
    distances = np.asarray(distances, dtype=np.float64)
    found = np.isfinite(distances)
    median = float(np.quantile(distances, 0.5, method="lower"))
    scores = [
        Score("found", float(found.mean()), unit="share"),
        Score("median_distance", median, unit="distance", direction="higher"),
    ]
    if found.any():
        scores.append(Score("mean_distance", float(distances[found].mean()), unit="distance", direction="higher"))
    return scores
