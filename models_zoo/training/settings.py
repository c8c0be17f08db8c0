"""What every recipe has in common: optimiser, schedule, epochs, augmentation, validation. No torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from models_zoo.errors import TrainingError

Optimiser = Literal["sgd", "adamw"]
Schedule = Literal["steps", "cosine", "constant"]
Augmentation = Literal["none", "crop", "crop-flip"]
Keep = Literal["last", "best"]

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """How a network is trained, whatever is minimised.

    Attributes:
        epochs: Passes over the training samples.
        batch_size: Samples a step.
        optimiser: ``sgd`` (with Nesterov momentum where asked for) or ``adamw``.
        lr: Learning rate at the start.
        momentum: Of SGD.
        nesterov: Whether SGD's momentum is Nesterov's.
        weight_decay: L2 in SGD, decoupled in AdamW.
        schedule: ``steps`` (× `gamma` at each of `milestones`), ``cosine`` (to 0), or ``constant``.
        milestones: Shares of all epochs, for instance ``(0.5, 0.75)``.
        gamma: Factor at a milestone.
        dropout: Probability handed to the architecture's argument ``dropout``; None leaves the architecture's own.
        augmentation: ``crop`` (a random shift by up to an eighth of the side, zero-padded), ``crop-flip`` (and a
            random horizontal flip), or ``none``.
        validation: Training samples that are left out of training and looked at after each epoch.
        keep: Which epoch's weights are the result: the ``last`` one's or, by accuracy on the validation samples
            (adversarial for an adversarial recipe), the ``best`` one's: early stopping.
        awp: Size γ of adversarial weight perturbation (Wu et al. 2020, arXiv:2004.05884); 0 for none.
        awp_warmup: Epochs before it begins.
        dtype: ``float32`` or ``float64``.
    """

    epochs: int = 30
    batch_size: int = 128
    optimiser: Optimiser = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    schedule: Schedule = "cosine"
    milestones: tuple[float, ...] = (0.5, 0.75)
    gamma: float = 0.1
    dropout: float | None = None
    augmentation: Augmentation = "none"
    validation: int = 0
    keep: Keep = "last"
    awp: float = 0.0
    awp_warmup: int = 0
    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        for name, low in (("epochs", 1), ("batch_size", 1), ("validation", 0), ("awp_warmup", 0)):
            if getattr(self, name) < low:
                raise TrainingError(f"{name} is {getattr(self, name)}; it is at least {low}.")
        for name in ("lr", "gamma"):
            if not 0 < getattr(self, name) < math.inf:
                raise TrainingError(f"{name} is {getattr(self, name)}; it is a finite number above 0.")
        for name in ("momentum", "weight_decay", "awp"):
            if not 0 <= getattr(self, name) < math.inf:
                raise TrainingError(f"{name} is {getattr(self, name)}; it is a finite number, 0 or more.")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise TrainingError(f"dropout is {self.dropout}; it is a probability from 0 to below 1.")
        if any(not 0 < share < 1 for share in self.milestones) or list(self.milestones) != sorted(self.milestones):
            raise TrainingError(
                f"milestones are {self.milestones}; they are rising shares of all epochs, each in (0, 1)."
            )
        if self.keep == "best" and not self.validation:
            raise TrainingError(
                "keep is 'best' with no validation samples: early stopping needs some. Set for instance validation=500."
            )


def from_values(kind: type[T], values: Mapping[str, Any], *, where: str) -> T:
    """A dataclass from plain values, for instance of a TOML file.

    Args:
        kind: The dataclass.
        values: Its fields; lists stand for tuples, whole numbers for floats.
        where: What is being read, for errors.

    Raises:
        TrainingError: If a field is unknown or of another type.
    """
    hints = get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    if unknown := sorted(set(values) - set(known)):
        raise TrainingError(f"{where} has no setting {unknown[0]!r}; it has {', '.join(known) or 'none'}.")
    return kind(**{name: _converted(value, hints[name], f"{where}: {name}") for name, value in values.items()})


def _converted(value: Any, hint: Any, where: str) -> Any:
    origin, choices = get_origin(hint), get_args(hint)
    if origin is Literal:
        if value not in choices:
            raise TrainingError(f"{where} is {value!r}; it is one of {', '.join(map(str, choices))}.")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise TrainingError(f"{where} is {value!r}; it is a list.")
        return tuple(_converted(item, choices[0], where) for item in value)
    if choices:  # a union with None
        inner = next(c for c in choices if c is not type(None))
        return None if value is None else _converted(value, inner, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise TrainingError(f"{where} is {value!r}; it is a {hint.__name__}.")
    return value
