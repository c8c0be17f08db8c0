"""Training samples in memory, and what augmentation does to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from benchmark.data import Dataset
from benchmark.errors import BenchmarkError
from models_zoo.errors import TrainingError

MOST_BYTES: Final = 8 << 30
"""Largest training split that is held in memory, a byte a value."""

BLOCK: Final = 4096
SPLIT: Final = "train"


@dataclass(frozen=True)
class Samples:
    """Images as stored, with their labels.

    Attributes:
        images: Shape (n, c, h, w), uint8.
        labels: Shape (n,), int64.
        levels: The value that stands for 1.
    """

    images: Tensor
    labels: Tensor
    levels: int

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor, *, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        """The images of these indices, in [0, 1], and their labels."""
        return self.images[index].to(device, dtype) / self.levels, self.labels[index].to(device)

    def part(self, index: Tensor) -> Samples:
        """Some of the samples."""
        return Samples(self.images[index], self.labels[index], self.levels)


def training_samples(dataset: Dataset) -> Samples:
    """The training split of a dataset.

    Raises:
        TrainingError: If it has none, or one that does not fit into memory.
    """
    try:
        split = dataset.split(SPLIT)
    except BenchmarkError as error:
        raise TrainingError(
            f"The dataset {dataset.name!r} has no training split: {error} Train on one that has, or add the split."
        ) from error
    values = split.size * int(torch.tensor(dataset.shape).prod())
    if values > MOST_BYTES:
        raise TrainingError(
            f"The training split of {dataset.name!r} has {split.size} images, {values / 2**30:.1f} GiB; at most "
            f"{MOST_BYTES / 2**30:.0f} GiB are held in memory."
        )
    parts = [split.batch(i, min(i + BLOCK, split.size)) for i in range(0, split.size, BLOCK)]
    images = torch.cat([(x * dataset.levels).round_().to(torch.uint8) for x, _ in parts])
    return Samples(images, torch.cat([y for _, y in parts]), dataset.levels)


def held_out(samples: Samples, validation: int) -> tuple[Samples, Samples]:
    """Training and validation samples: the same for every seed, so that runs are compared on the same images.

    Raises:
        TrainingError: If nothing would be left to train on.
    """
    if validation >= len(samples):
        raise TrainingError(f"validation is {validation} of {len(samples)} training samples; leave some to train on.")
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0))
    if not validation:
        return samples, samples.part(order[:0])
    return samples.part(order[validation:].sort().values), samples.part(order[:validation].sort().values)


def augmented(x: Tensor, generator: torch.Generator, *, flip: bool) -> Tensor:
    """Each image shifted at random by up to an eighth of its side, zeros coming in, and mirrored with probability ½.

    Args:
        x: Images, shape (n, c, h, w).
        generator: On the CPU.
        flip: Whether to mirror.
    """
    n, _, height, width = x.shape
    reach = max(1, min(height, width) // 8)
    padded = torch.nn.functional.pad(x, (reach, reach, reach, reach))
    shift = torch.randint(0, 2 * reach + 1, (2, n), generator=generator).to(x.device)
    rows = shift[0, :, None] + torch.arange(height, device=x.device)
    columns = shift[1, :, None] + torch.arange(width, device=x.device)
    if flip:
        mirrored = (torch.rand(n, generator=generator) < 0.5).to(x.device)
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    samples = torch.arange(n, device=x.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[samples, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
