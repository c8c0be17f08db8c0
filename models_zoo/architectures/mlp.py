"""Fully connected networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from torch import nn

VERSION: Final = 1

ACTIVATIONS: Final = {"relu": nn.ReLU, "softplus": nn.Softplus, "tanh": nn.Tanh}


def build(
    *,
    inputs: int,
    hidden: Sequence[int],
    outputs: int,
    activation: str = "relu",
    beta: float = 1.0,
    dropout: float = 0.0,
) -> nn.Module:
    """A network ``inputs - hidden[0] - … - outputs``.

    Args:
        inputs: Values an image, c·h·w.
        hidden: Width of each hidden layer; none for a linear classifier.
        outputs: Number of classes.
        activation: ``relu``, ``softplus`` or ``tanh``.
        beta: Sharpness of the softplus, log(1 + exp(beta·z)) / beta.
        dropout: Probability, after each hidden layer; has no effect in eval mode.

    Returns:
        Images, shape (n, c, h, w), to logits, shape (n, outputs).

    Raises:
        ValueError: If the activation is unknown.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}; it is one of {', '.join(ACTIVATIONS)}")
    layers: list[nn.Module] = [nn.Flatten()]
    widths = [inputs, *hidden]
    for before, after in pairwise(widths):
        layers += [
            nn.Linear(before, after),
            nn.Softplus(beta) if activation == "softplus" else ACTIVATIONS[activation](),
        ]
        if dropout:
            layers.append(nn.Dropout(dropout))
    layers.append(nn.Linear(widths[-1], outputs))
    return nn.Sequential(*layers)
