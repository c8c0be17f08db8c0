"""Neurons of a layer as the linear functions whose bounds are wanted, and the margins of the logits."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmark.certificates.coefficients import Coefficients, Dense, Patches


def neurons(
    shape: torch.Size, like: Tensor, *, step: int | None = None, both_signs: bool = False
) -> Iterator[Coefficients]:
    """Each neuron of a layer as a row, in pieces; a piece of both signs holds its rows, then their negatives.

    Args:
        shape: Shape of the layer for one sample.
        like: Gives the type and the device.
        step: Channels, or neurons of a flat layer, in a piece; all by default.
        both_signs: Whether each row's negative is wanted too.
    """
    step = step or shape[0]
    for begin in range(0, shape[0], step):
        eye = torch.eye(shape[0], dtype=torch.float64, device=like.device)[begin : begin + step]
        if both_signs:
            eye = torch.cat([eye, -eye])
        if len(shape) == 3:
            yield Patches(eye.view(1, len(eye), 1, 1, shape[0], 1, 1), (shape[1], shape[2]), (shape[1], shape[2]))
        else:
            yield Dense(eye.view(1, len(eye), *shape))


def chosen(shape: torch.Size, rows: Tensor) -> Coefficients:
    """Chosen neurons of a layer as rows, then their negatives.

    Args:
        shape: Shape of the layer for one sample.
        rows: For each neuron its sample and its place in the layer, shape (k, 1 + dimensions of the layer).
    """
    eye = torch.eye(shape[0], dtype=torch.float64, device=rows.device)[rows[:, 1]]
    both, twice = torch.cat([eye, -eye]), torch.cat([rows, rows])
    if len(shape) == 3:
        size = (shape[1], shape[2])
        return Patches(
            both.view(-1, 1, 1, 1, shape[0], 1, 1), size, size, chosen=(twice[:, 0], twice[:, 2], twice[:, 3])
        )
    return Dense(both[:, None], twice[:, 0])


def margin_rows(y: Tensor, classes: int, piece: slice = slice(None)) -> Tensor:
    """The functions ``f_c - f_j`` for each ``j != c`` as coefficients of the logits.

    Args:
        y: Labels, shape (n,).
        classes: Number of logits, k.
        piece: Which of the k - 1 other classes, in their order.

    Returns:
        Shape (n, k - 1, k) or fewer rows, float64; classes in their order, the label left out.
    """
    places = torch.arange(classes - 1, device=y.device)[piece]
    others = places + (places >= y[:, None])
    rows = torch.zeros(*others.shape, classes, dtype=torch.float64, device=y.device)
    rows.scatter_(2, others[..., None], -1.0)
    return rows.scatter_(2, y[:, None, None].expand(-1, len(places), 1), 1.0)
