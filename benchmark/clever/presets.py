"""Settings of CLEVER that are known by a name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from benchmark.errors import InputError, UnknownNameError
from benchmark.threat import Norm


@dataclass(frozen=True)
class Preset:
    """How gradients are sampled and the largest of them fitted.

    Attributes:
        name: The name it is looked up by.
        batches: N_b: how many maxima the law is fitted to.
        samples: N_s: points a maximum is taken over.
        radius: R of each norm's ball, in that norm. With ``shared``, the l2 radius is the largest of the mixed radii.
        cap: Whether no score exceeds R. Gradients beyond R have not been seen, so a larger score is extrapolated.
        clip: Whether points are clipped to the box [0, 1].
        shared: Whether all norms use one set of points, drawn in l2 balls of radii uniform from 0 to R.
        penalty: Weight of the squared scale in the fit, see `benchmark.clever.weibull.fit_reverse_weibull`.
        starts: Initial shapes of the fit; none for the best optimum there is.
        reject_below: KS p-value below which the largest gradient replaces the fitted endpoint.
    """

    name: str
    batches: int
    samples: int
    radius: Mapping[Norm, float]
    cap: bool
    clip: bool
    shared: bool = False
    penalty: float = 0.01
    starts: tuple[float, ...] = ()
    reject_below: float = 0.0

    def __post_init__(self) -> None:
        if self.batches < 2:
            raise InputError(f"CLEVER fits a law to the maxima of at least 2 batches, got batches={self.batches}.")
        if self.samples < 2:
            raise InputError(f"CLEVER takes each maximum over at least 2 samples, got samples={self.samples}.")
        for norm, radius in self.radius.items():
            if not 0 < radius < float("inf"):
                raise InputError(f"The radius of the {norm} ball must be positive and finite, got {radius}.")


NORMS: Final[tuple[Norm, ...]] = ("linf", "l2", "l1")
"""The norms that CLEVER can be computed in: those with a uniform distribution in their ball (`sampling.unit_ball`)."""

PAPER: Final = Preset("paper", 500, 1024, MappingProxyType(dict.fromkeys(NORMS, 5.0)), cap=True, clip=False)
"""Weng et al. 2018, arXiv:1801.10578, section 5: a ball of radius 5 in each norm's own metric."""

CLEVER2018: Final = Preset(
    "clever2018",
    500,
    1024,
    MappingProxyType(dict.fromkeys(NORMS, 3.0)),
    cap=False,
    clip=True,
    shared=True,
    starts=(0.1, 1, 5, 10, 20, 50, 100),
    reject_below=0.001,
)
"""The code its authors released: one set of points for all norms, no cap, seven starts of the fit.

Their fit runs SciPy's Nelder-Mead from each of the seven shapes; ours goes uphill from each along the likelihood's
profile, to the local optimum that the start leads to.
"""

BOARD: Final = Preset(
    "board",
    32,
    32,
    MappingProxyType({"linf": 0.5, "l2": 5.0, "l1": 10.0}),
    cap=True,
    clip=True,
)
"""The default protocol's: points in the box only, where adversarial examples are, and fewer of them."""

PRESETS: Final[dict[str, Preset]] = {p.name: p for p in (PAPER, CLEVER2018, BOARD)}


def resolve(
    preset: str | Preset, *, batches: int | None = None, samples: int | None = None, radius: float | None = None
) -> Preset:
    """A preset with some of its settings changed.

    Args:
        preset: A name of `PRESETS`, or a preset.
        batches: N_b, or None for the preset's.
        samples: N_s, or None for the preset's.
        radius: R for every norm, or None for the preset's.

    Returns:
        The settings.

    Raises:
        UnknownNameError: If there is no preset of that name.
        InputError: If a number is out of range.
    """
    if radius is not None and not 0 < radius < float("inf"):
        raise InputError(f"The radius of the balls must be positive and finite, got {radius}.")
    if isinstance(preset, str):
        if preset not in PRESETS:
            raise UnknownNameError("CLEVER preset", preset, PRESETS)
        preset = PRESETS[preset]
    return replace(
        preset,
        batches=preset.batches if batches is None else batches,
        samples=preset.samples if samples is None else samples,
        radius=preset.radius if radius is None else MappingProxyType(dict.fromkeys(NORMS, float(radius))),
    )
