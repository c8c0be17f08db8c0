"""The one training loop: seeded, resumable after a kill at any moment, the same weights on the same machine."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmark.data import get_dataset
from benchmark.threat.ascent import ascend, evaluating, noise
from models_zoo import architectures, preprocessing
from models_zoo.errors import TrainingError
from models_zoo.training.awp import perturbed_weights
from models_zoo.training.recipe import Recipe, Step, get_recipe
from models_zoo.training.samples import Samples, augmented, held_out, training_samples
from models_zoo.training.settings import Settings, from_values

CHECKPOINT: Final = "training.ckpt"
LOOKED_AT: Final = 1000
"""Training samples on which the accuracy is taken after each epoch."""

COLLAPSE: Final = 0.5
"""Share of its best adversarial accuracy below which a run counts as overfitted to its own attack."""


@dataclass(frozen=True)
class Run:
    """One run of a recipe, as plain values.

    Attributes:
        recipe: Name of the recipe.
        dataset: Name of the dataset.
        architecture: Name of the architecture.
        arguments: What it is built with.
        parameters: The recipe's parameters that differ from its defaults.
        settings: All settings.
        preprocessing: Input transformations of the card, applied in training too.
        seed: Of the initial weights, the order of the samples, dropout, augmentation and random starts.
    """

    recipe: str
    dataset: str
    architecture: str
    arguments: Mapping[str, Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)
    preprocessing: tuple[Mapping[str, Any], ...] = ()
    seed: int = 0

    @property
    def built_with(self) -> dict[str, Any]:
        """The architecture's arguments, the settings' dropout among them."""
        dropout = {} if self.settings.dropout is None else {"dropout": self.settings.dropout}
        return {**self.arguments, **dropout}

    @property
    def digest(self) -> str:
        """SHA-256 of all that determines the weights, the versions of recipe and architecture included."""
        values = dataclasses.asdict(self) | {
            "versions": [get_recipe(self.recipe).version, architectures.version_of(self.architecture)],
            "data": get_dataset(self.dataset).split("train").digest,
        }
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Epoch:
    """What an epoch ended with.

    Attributes:
        number: 1 for the first.
        of: How many there are.
        loss: Mean training loss.
        accuracy: On some clean training samples.
        validation: Clean accuracy on the validation samples; None without any.
        robust: Accuracy on the validation samples under PGD in the recipe's own ball; None where it has none.
        seconds: Wall time.
    """

    number: int
    of: int
    loss: float
    accuracy: float
    validation: float | None
    robust: float | None
    seconds: float


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        state: The state dict, float32, on the CPU.
        epochs: All epochs.
        kept: The epoch whose weights these are.
        notes: What is unusual: it diverged, it overfitted to its own attack; for the card.
    """

    state: Mapping[str, Tensor]
    epochs: tuple[Epoch, ...]
    kept: int
    notes: tuple[str, ...]


def train(
    run: Run,
    *,
    folder: Path | None = None,
    device: str = "cpu",
    report: Callable[[Epoch], None] = lambda _: None,
) -> Trained:
    """Train one network.

    Args:
        run: What and how.
        folder: Where a checkpoint is kept after each epoch, and taken up again; None keeps none.
        device: Where to compute; random numbers are drawn on the CPU whatever it is.
        report: Told after each epoch.

    Returns:
        The weights. Killed and run again with the same folder, they are the same to the last bit on one machine.

    Raises:
        TrainingError: If the dataset has no training split, the loss is no longer finite, or the folder holds another
            run's checkpoint.
    """
    with torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
        torch.manual_seed(run.seed)  # the initial weights and dropout draw from the global generator
        session = _Session(run, torch.device(device))
        path = None if folder is None else folder / CHECKPOINT
        if path is not None and path.exists():
            session.restore(path)
        while len(session.epochs) < run.settings.epochs:
            session.epoch()
            if path is not None:
                session.save(path)
            report(session.epochs[-1])
        return session.result()


def untrained(run: Run, samples: Callable[[], Samples], device: torch.device) -> nn.Module:
    """The network as the first step finds it; its weights are drawn from the global generator.

    Args:
        run: What is to be trained.
        samples: Gives what it is trained on, for architectures that begin at training images (Gaussian kernels).
        device: Where to compute.
    """
    dtype = getattr(torch, run.settings.dtype)
    network = architectures.build(run.architecture, run.built_with).to(device, dtype).train()
    if architectures.starts_from_images(run.architecture):
        found = samples()
        first = torch.arange(min(LOOKED_AT, len(found)))
        architectures.initialise(run.architecture, network, found.take(first, dtype=dtype, device=device)[0])
    return network


class _Session:
    """A run in progress."""

    def __init__(self, run: Run, device: torch.device) -> None:
        self.run, self.device = run, device
        self.recipe: Recipe[Any] = get_recipe(run.recipe)
        self.parameters = from_values(self.recipe.Parameters, run.parameters, where=f"The recipe {run.recipe!r}")
        self.dtype = getattr(torch, run.settings.dtype)
        self.samples, self.validation = held_out(training_samples(get_dataset(run.dataset)), run.settings.validation)
        self.generator = torch.Generator().manual_seed(run.seed)
        self.network = untrained(run, lambda: self.samples, device)
        self.whole = nn.Sequential(preprocessing.build(run.preprocessing), self.network)
        self.steps = -(-len(self.samples) // run.settings.batch_size)
        self.optimiser = _optimiser(self.network, run.settings)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, _rates(run.settings, self.steps * run.settings.epochs)
        )
        self.epochs: list[Epoch] = []
        self.best: dict[str, Any] = {}

    def epoch(self) -> None:
        """Train for one epoch and look at the result."""
        begin, total = time.perf_counter(), 0.0
        settings = self.run.settings
        order = torch.randperm(len(self.samples), generator=self.generator)
        for position, index in enumerate(torch.split(order, settings.batch_size)):
            loss = self._step(*self._take(self.samples, index))
            if not math.isfinite(loss):
                raise TrainingError(
                    f"The loss became {loss} in epoch {len(self.epochs) + 1}, step {position + 1}. Lower lr (now "
                    f"{settings.lr}); the last whole epoch's checkpoint is kept."
                )
            total += loss * len(index)
        number = len(self.epochs) + 1
        accuracy = self._accuracy(self.samples.part(torch.arange(min(LOOKED_AT, len(self.samples)))))
        validation = self._accuracy(self.validation) if len(self.validation) else None
        robust = self._robust(number)
        self.epochs.append(
            Epoch(
                number,
                settings.epochs,
                total / len(self.samples),
                accuracy,
                validation,
                robust,
                time.perf_counter() - begin,
            )
        )
        judged = validation if robust is None else robust
        if settings.keep == "last" or not self.best or (judged or 0.0) > self.best["judged"]:
            state = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
            self.best = {"epoch": number, "judged": judged or 0.0, "state": state}

    def _step(self, x: Tensor, y: Tensor) -> float:
        settings, recipe = self.run.settings, self.recipe
        if settings.augmentation != "none":
            x = augmented(x, self.generator, flip=settings.augmentation == "crop-flip")
        step = Step(self.whole, x, y, self.generator)
        perturbed = recipe.perturb(step, self.parameters)

        def objective() -> Tensor:
            return recipe.objective(step, perturbed, self.parameters)

        if settings.awp and len(self.epochs) >= settings.awp_warmup:
            with perturbed_weights(self.network, objective, settings.awp):
                loss = self._backward(objective)
        else:
            loss = self._backward(objective)
        self.optimiser.step()
        self.schedule.step()
        return loss

    def _backward(self, objective: Callable[[], Tensor]) -> float:
        loss = objective()
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _take(self, samples: Samples, index: Tensor) -> tuple[Tensor, Tensor]:
        return samples.take(index[index < len(samples)], dtype=self.dtype, device=self.device)

    def _accuracy(self, samples: Samples, attack: Callable[[Tensor, Tensor], Tensor] | None = None) -> float:
        right = 0
        with evaluating(self.whole):
            for index in torch.split(torch.arange(len(samples)), 500):
                x, y = self._take(samples, index)
                if attack is not None:
                    x = attack(x, y)
                with torch.no_grad():
                    right += int((self.whole(x).argmax(dim=1) == y).sum())
        return right / len(samples)

    def _robust(self, number: int) -> float | None:
        """Accuracy on the validation samples under ten steps of PGD; the draws are the epoch's own."""
        norm, eps = getattr(self.parameters, "norm", None), getattr(self.parameters, "eps", None)
        if norm is None or eps is None or not len(self.validation):
            return None
        generator = torch.Generator().manual_seed(number)

        def attack(x: Tensor, y: Tensor) -> Tensor:
            return ascend(
                lambda z: functional.cross_entropy(self.whole(z), y, reduction="sum"),
                x,
                noise(x, generator),
                norm=norm,
                eps=eps,
                step=eps / 4,
                steps=10,
            )

        return self._accuracy(self.validation, attack)

    def save(self, path: Path) -> None:
        """Keep everything that the next epoch depends on; whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "run": self.run.digest,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
            "global": torch.get_rng_state(),
            "epochs": [dataclasses.asdict(epoch) for epoch in self.epochs],
            "best": self.best,
        }
        part = path.with_suffix(".part")
        torch.save(content, part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint."""
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            if content["run"] != self.run.digest:
                raise TrainingError(
                    f"{path} is the checkpoint of another run (other settings, data or versions). Remove it, or train "
                    "into another folder."
                )
            self.network.load_state_dict(content["network"])
            self.optimiser.load_state_dict(content["optimiser"])
            self.schedule.load_state_dict(content["schedule"])
            self.generator.set_state(content["generator"])
            torch.set_rng_state(content["global"])
            self.epochs = [Epoch(**values) for values in content["epochs"]]
            self.best = content["best"]
        except TrainingError:
            raise
        except Exception as error:  # a damaged file can fail anyhow
            raise TrainingError(f"The checkpoint {path} cannot be read: {type(error).__name__}. Remove it.") from error

    def result(self) -> Trained:
        """The kept weights, and what is unusual about the run."""
        state = {
            name: (value.float() if value.is_floating_point() else value).cpu().contiguous()
            for name, value in self.best["state"].items()
        }
        classes = get_dataset(self.run.dataset).n_classes
        return Trained(state, tuple(self.epochs), int(self.best["epoch"]), tuple(_notes(self.epochs, classes)))


def _notes(epochs: list[Epoch], classes: int) -> list[str]:
    notes = []
    if epochs[-1].accuracy < 1.5 / classes:
        notes.append(
            f"It diverged: {epochs[-1].accuracy:.1%} of its own training samples are right, no better than chance."
        )
    robust = [epoch.robust for epoch in epochs if epoch.robust is not None]
    if robust and robust[-1] < COLLAPSE * max(robust):
        notes.append(
            f"It overfitted to its own attack (catastrophic overfitting): under PGD {robust[-1]:.1%} of the validation "
            f"samples were right after the last epoch, {max(robust):.1%} at best."
        )
    return notes


def _optimiser(network: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    if settings.optimiser == "adamw":
        return torch.optim.AdamW(network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    return torch.optim.SGD(
        network.parameters(),
        lr=settings.lr,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
    )


def _rates(settings: Settings, steps: int) -> Callable[[int], float]:
    """The learning rate at a step, relative to the first."""
    if settings.schedule == "cosine":
        return lambda step: (1 + math.cos(math.pi * step / steps)) / 2
    if settings.schedule == "steps":
        return lambda step: settings.gamma ** sum(step >= share * steps for share in settings.milestones)
    return lambda step: 1.0
