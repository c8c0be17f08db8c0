"""Tiny models of the digits as folders to be submitted: linear classifiers, each by a formula from its seed."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import numpy as np
import tomli_w
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from benchmark.cli import run
from benchmark.data import get_dataset
from benchmark.workspace import Workspace

ARGUMENTS = {"inputs": 64, "hidden": [], "outputs": 10}


@functools.cache
def _digits() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = get_dataset("digits").load(400)
    return x.flatten(1).double().numpy(), np.eye(10)[y.numpy()]


def make(folder: Path, slug: str, seed: int) -> Path:
    """A folder with a card and weights: ridge regression on some of the pixels, other ones for each seed."""
    x, targets = _digits()
    rng = np.random.default_rng(seed)
    seen = x * (rng.random(64) < 0.8)
    features = np.hstack([seen, np.ones((len(x), 1))])
    solved = np.linalg.solve(features.T @ features + np.eye(65) * rng.uniform(0.1, 10), features.T @ targets)
    weight = torch.tensor(solved[:64].T * (rng.uniform(1, 3)), dtype=torch.float32)
    made = folder / slug
    made.mkdir(parents=True, exist_ok=True)
    weight_name, bias_name = parameter_names()
    bias = torch.tensor(solved[64], dtype=torch.float32)
    save_file({weight_name: weight.contiguous(), bias_name: bias}, made / "w.safetensors")
    content = (made / "w.safetensors").read_bytes()
    card = {
        "slug": slug,
        "title": f"Linear {seed}",
        "dataset": "digits",
        "model": {"form": "weights", "architecture": "mlp", "arguments": ARGUMENTS},
        "weights": [{"file": "w.safetensors", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}],
    }
    (made / "model.toml").write_text(tomli_w.dumps(card))
    return made


@functools.cache
def parameter_names() -> tuple[str, ...]:
    """Those of the weight and the bias."""
    from models_zoo.architectures import build

    return tuple(build("mlp", ARGUMENTS).state_dict())


def submit(workspace: Workspace, folder: Path, *options: str) -> int:
    """``curveboard submit``; returns the exit code."""
    return run(["submit", str(folder), "-w", str(workspace.root), *options])
