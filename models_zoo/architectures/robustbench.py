"""The architectures of RobustBench (Croce et al. 2021, arXiv:2010.09670), an optional package."""

from __future__ import annotations

from typing import Any, Final

from torch import nn

from models_zoo.errors import CardError, ZooError

VERSION: Final = 1


def build(*, dataset: str, threat_model: str, name: str) -> nn.Module:
    """The network of RobustBench's model ``name``, without weights.

    Args:
        dataset: ``cifar10``, ``cifar100`` or ``imagenet``.
        threat_model: ``Linf``, ``L2`` or ``corruptions``.
        name: For instance ``"Carmon2019Unlabeled"``.

    Raises:
        CardError: If RobustBench has no such model, or only as an ensemble.
        ZooError: If RobustBench is not installed.
    """
    facts = facts_of(dataset, threat_model, name)
    network: nn.Module = facts["model"]()
    return network


def facts_of(dataset: str, threat_model: str, name: str) -> dict[str, Any]:
    """What RobustBench knows of a model: ``model`` makes the network, ``gdrive_id`` is its weights' address."""
    try:
        from robustbench.model_zoo import model_dicts
        from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel
    except ImportError as error:
        raise ZooError(
            f"The model robustbench:{dataset}/{threat_model}/{name} needs an optional package: "
            "pip install 'curveboard[robustbench]'."
        ) from error
    try:
        facts: dict[str, Any] = model_dicts[BenchmarkDataset(dataset)][ThreatModel(threat_model)][name]
    except (KeyError, ValueError) as error:
        raise CardError(f"RobustBench has no model {dataset}/{threat_model}/{name}.") from error
    if not callable(facts.get("model")) or not isinstance(facts.get("gdrive_id"), str):
        raise CardError(f"RobustBench's {name} is an ensemble or has no weights of its own; export it as a program.")
    return facts
