"""The models and images that contestants are measured on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.data import Dataset, get_dataset
from benchmark.errors import InputError
from benchmark.workspace import Workspace
from models_zoo import get_entry, load_model
from models_zoo.own_code import workspace_folder

RESNET: Final = "autoattack-resnet18"
"""The CIFAR-10 ResNet-18 of AutoAttack's authors, from the wheel of pyautoattack: a network of real size."""

CIFAR_EPS: Final[dict[str, tuple[float, ...]]] = {"linf": (8 / 255,), "l2": (0.5,), "l1": (12.0,)}


@dataclass(frozen=True, eq=False)
class Workload:
    """A model and its images.

    Attributes:
        model: In eval mode, parameters without gradients, on the device.
        x: Images, shape (n, c, h, w), float32.
        y: Labels, shape (n,).
        eps: Published perturbation budgets in each norm.
    """

    model: nn.Module
    x: Tensor
    y: Tensor
    eps: dict[str, tuple[float, ...]]


def load(slug: str, samples: int, *, device: str = "cpu", cifar: Path | None = None) -> Workload:
    """The model called ``slug`` with the first images of its dataset.

    Args:
        slug: A model of the zoo or of the workspace in use, or `RESNET`.
        samples: How many images.
        device: Where model and images are put.
        cifar: Where the CIFAR-10 sample lies; needed by `RESNET`.
    """
    if slug == RESNET:
        model, (x, y), eps = _resnet(), _cifar(cifar, samples), CIFAR_EPS
    else:
        dataset = dataset_of(slug)
        model, (x, y), eps = load_model(slug, folders=folders()), dataset.load(samples), dict(dataset.eps)  # type: ignore[arg-type]
    return Workload(model.eval().requires_grad_(False).to(device), x.to(device), y.to(device), eps)


def folders() -> tuple[Path, ...]:
    """Folders of models beside the zoo's: those of the workspace in use."""
    root = workspace_folder()
    return () if root is None else (Workspace.load(root).models,)


def dataset_of(slug: str) -> Dataset:
    """The dataset that a model is evaluated on."""
    return get_dataset(get_entry(slug, folders()).dataset)


def _resnet() -> nn.Module:
    import pyautoattack
    from pyautoattack.examples.resnet import ResNet18

    weights = Path(pyautoattack.__file__).parent / "examples" / "model_test.pt"
    network: Any = ResNet18()
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network  # type: ignore[no-any-return]


def _cifar(path: Path | None, samples: int) -> tuple[Tensor, Tensor]:
    if path is None or not path.is_file():
        raise InputError(f"{RESNET} needs the CIFAR-10 sample, there is no file {path}; say --cifar FILE.npz.")
    with np.load(path) as data:
        x, y = data["x"][:samples], data["y"][:samples]
    # Contiguous: networks take a tenth longer over strided images, and AutoAttack fails on them.
    images = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2), dtype=np.float32) / 255)
    return images, torch.from_numpy(y.astype(np.int64))
