"""The architectures of RobustBench (Croce et al. 2021, arXiv:2010.09670), an optional package."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any, Final

from torch import nn

from models_zoo.errors import CardError
from models_zoo.optional import optional

VERSION: Final = 1


def build(*, dataset: str, threat_model: str, name: str) -> nn.Module:
    """The network of RobustBench's model ``name``, without weights.

    Args:
        dataset: ``cifar10``, ``cifar100`` or ``imagenet``.
        threat_model: ``Linf``, ``L2`` or ``corruptions``.
        name: For instance ``"Carmon2019Unlabeled"``.

    Raises:
        CardError: If RobustBench has no such model, or only as an ensemble.
        ZooError: If RobustBench, or something it needs, is not installed.
    """
    facts = facts_of(dataset, threat_model, name)
    network: nn.Module = facts["model"]()
    return network


def facts_of(dataset: str, threat_model: str, name: str) -> dict[str, Any]:
    """What RobustBench knows of a model: ``model`` makes the network, ``gdrive_id`` is its weights' address."""
    what = f"The model robustbench:{dataset}/{threat_model}/{name}"
    _alias_autoattack()
    zoo = optional("robustbench.model_zoo", extra="robustbench", what=what)
    enums = optional("robustbench.model_zoo.enums", extra="robustbench", what=what)
    try:
        facts: dict[str, Any] = zoo.model_dicts[enums.BenchmarkDataset(dataset)][enums.ThreatModel(threat_model)][name]
    except (KeyError, ValueError) as error:
        raise CardError(f"RobustBench has no model {dataset}/{threat_model}/{name}.") from error
    if not callable(facts.get("model")) or not isinstance(facts.get("gdrive_id"), str):
        raise CardError(f"RobustBench's {name} is an ensemble or has no weights of its own; export it as a program.")
    return facts


def _alias_autoattack() -> None:
    """RobustBench imports ``autoattack``, whose packaged form is ``pyautoattack``: the same code under another name."""
    if "autoattack" not in sys.modules and importlib.util.find_spec("autoattack") is None:
        sys.modules["autoattack"] = importlib.import_module("pyautoattack")
