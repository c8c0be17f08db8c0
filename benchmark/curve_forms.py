"""A curve in other forms: a file, a table of pandas, a line of matplotlib. Both libraries are asked for when needed."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from benchmark.errors import InputError
from benchmark.results import Flag

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame


class Curve(Protocol):
    """What is asked of a `benchmark.curve.RobustnessCurve` here."""

    @property
    def distances(self) -> Any: ...  # noqa: D102 - as of the curve
    @property
    def norm(self) -> str: ...  # noqa: D102
    @property
    def adversarials(self) -> Any: ...  # noqa: D102
    @property
    def flags(self) -> Sequence[Flag]: ...  # noqa: D102
    @property
    def origin(self) -> Sequence[str]: ...  # noqa: D102
    def __len__(self) -> int: ...
    def steps(self) -> Any: ...  # noqa: D102
    def robust_accuracy(self, eps: Any) -> Any: ...  # noqa: D102
    def band(self, confidence: float, *, eps: Any) -> Any: ...  # noqa: D102


def save(curve: Curve, path: Path, *, key: str = "") -> None:
    """Write a curve with its evidence, and what it is of, as an ``.npz`` file; see `load`."""
    about: dict[str, Any] = {
        "norm": curve.norm,
        "flags": [asdict(flag) for flag in curve.flags],
        "origin": list(curve.origin),
    }
    about |= {"key": key} if key else {}
    arrays: dict[str, Any] = {"distances": curve.distances, "about": np.array(json.dumps(about))}
    if curve.adversarials is not None:
        arrays["adversarials"] = curve.adversarials
    with path.open("wb") as file:  # a path without the suffix stays as it is
        np.savez_compressed(file, **arrays)


def load(path: Path) -> dict[str, Any]:
    """The fields of a curve that `save` wrote, and its key; nothing in the file is executed.

    Raises:
        InputError: If it is no such file.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            about = json.loads(str(found["about"]))
            return {
                "distances": found["distances"],
                "norm": about["norm"],
                "adversarials": found["adversarials"] if "adversarials" in found.files else None,
                "flags": tuple(Flag(**flag) for flag in about["flags"]),
                "origin": tuple(about["origin"]),
                "key": str(about.get("key", "")),
            }
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is no curve that save() wrote: {error}.") from error


def to_frame(curve: Curve, interval: Callable[[Any, int], tuple[Any, Any]]) -> DataFrame:
    """The curve's steps with pointwise intervals of (successes, trials); see `RobustnessCurve.to_frame`."""
    pandas = _needed("pandas", "frames")
    steps = curve.steps()
    robust = np.rint(steps.robust_accuracy * len(curve))
    low, high = interval(robust, len(curve))
    columns = {"eps": steps.eps, "robust_accuracy": robust / len(curve), "low": low, "high": high}
    frame: DataFrame = pandas.DataFrame(columns)
    return frame


def plot(curve: Curve, ax: Axes | None, *, up_to: float | None, confidence: float | None, **line: Any) -> Axes:
    """Draw the curve with its band; see `RobustnessCurve.plot`."""
    if ax is None:
        ax = _needed("matplotlib.pyplot", "plot").subplots()[1]
    steps = curve.steps()
    end = up_to if up_to is not None else 1.05 * float(steps.eps[-1]) or 1.0
    if not 0 < end < np.inf:
        raise InputError(f"A curve is drawn up to an eps that is finite and > 0, got {up_to!r}.")
    eps = np.append(steps.eps[steps.eps <= end], end)
    accuracy = curve.robust_accuracy(eps)
    (drawn,) = ax.plot(eps, accuracy, drawstyle="steps-post", **line)
    if confidence is not None:
        band = curve.band(confidence, eps=eps)
        ax.fill_between(eps, band.low, band.high, step="post", color=drawn.get_color(), alpha=0.15, linewidth=0)
    ax.set(xlabel=f"perturbation budget $\\varepsilon$ ({curve.norm})", ylabel="robust accuracy", xlim=(0, end))
    ax.set_ylim(0, 1)
    return ax


def _needed(module: str, extra: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise InputError(
            f"This needs {package}, which is not installed. Run: pip install 'curveboard[{extra}]'"
        ) from error
