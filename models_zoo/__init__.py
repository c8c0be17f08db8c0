"""The model zoo: cards, architectures and safe weight loading.

::

    from models_zoo import load_model
    model = load_model("digits-standard")      # an nn.Module in eval mode: images in [0, 1] -> logits

Importing this package does not import torch; `load_model` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from models_zoo.cards import Claim, Entry, Weights
from models_zoo.catalogue import catalogue, get_entry, present
from models_zoo.errors import ZooError

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Claim", "Entry", "Weights", "ZooError", "catalogue", "get_entry", "load_model", "present"]


def load_model(slug: str, *, folders: Sequence[Path] = (), device: str | torch.device = "cpu") -> nn.Module:
    """The model called ``slug``, ready to be evaluated.

    Args:
        slug: Its name in the zoo.
        folders: Folders of further models; see `catalogue`.
        device: Where to put it.

    Returns:
        A module in eval mode that maps images in [0, 1], shape (n, c, h, w), float32, to logits (n, k); its
        preprocessing is inside, its parameters need no gradient.

    Raises:
        ZooError: If there is no such model, or its files cannot be had, verified or read.
    """
    from models_zoo.loading import load_entry

    return load_entry(get_entry(slug, folders), device=device)
