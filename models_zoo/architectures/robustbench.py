"""The architectures of RobustBench (Croce et al. 2021, arXiv:2010.09670), an optional package."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest import mock

from torch import nn

from models_zoo.errors import CardError
from models_zoo.optional import optional

VERSION: Final = 1


def build(*, dataset: str, threat_model: str, name: str) -> nn.Module:
    """The network of RobustBench's model ``name``, without weights: nothing is downloaded.

    Args:
        dataset: ``cifar10``, ``cifar100`` or ``imagenet``.
        threat_model: ``Linf``, ``L2`` or ``corruptions``.
        name: For instance ``"Carmon2019Unlabeled"``.

    Raises:
        CardError: If RobustBench has no such model.
        ZooError: If RobustBench, or something it needs, is not installed.
    """
    facts = facts_of(dataset, threat_model, name)
    timm = optional("timm", extra="robustbench", what=_named(dataset, threat_model, name))
    with untrained():
        registered = timm_name(dataset, threat_model, name)
        if timm.is_model(registered):  # as RobustBench's own load_model has it
            network: nn.Module = timm.create_model(registered, num_classes=facts["classes"], pretrained=False)
        else:
            network = facts["model"]()
    return network


def facts_of(dataset: str, threat_model: str, name: str) -> dict[str, Any]:
    """What RobustBench knows of a model: ``model`` makes the network, ``classes`` is their number.

    Raises:
        CardError: If it has no such model.
        ZooError: If RobustBench, or something it needs, is not installed.
    """
    what = _named(dataset, threat_model, name)
    _alias_autoattack()
    with warnings.catch_warnings():  # the packages warn of one another's old ways
        warnings.simplefilter("ignore")
        zoo = optional("robustbench.model_zoo", extra="robustbench", what=what)
        enums = optional("robustbench.model_zoo.enums", extra="robustbench", what=what)
        utils = optional("robustbench.utils", extra="robustbench", what=what)
    try:
        kind = enums.BenchmarkDataset(dataset)
        facts: dict[str, Any] = zoo.model_dicts[kind][enums.ThreatModel(threat_model)][name]
    except (KeyError, ValueError) as error:
        raise CardError(f"RobustBench has no model {dataset}/{threat_model}/{name}.") from error
    return {**facts, "classes": utils.DATASET_CLASSES[kind]}


def timm_name(dataset: str, threat_model: str, name: str) -> str:
    """The name under which RobustBench may have registered a model with timm."""
    return f"{name.lower().replace('-', '_')}_{dataset.lower()}_{threat_model.lower()}"


@contextmanager
def untrained() -> Iterator[None]:
    """While the block runs, networks that are asked for with weights are made without: nothing is downloaded.

    Some of RobustBench's networks are made by timm or torchvision with ``pretrained=True``, which the submitted weights
    replace anyway.
    """
    timm = optional("timm", extra="robustbench", what="RobustBench")
    create, load = timm.create_model, nn.Module.load_state_dict
    nothing: dict[str, Any] = {}

    def create_model(*arguments: Any, **named: Any) -> Any:
        return create(*arguments, **named | {"pretrained": False})

    def load_state_dict(module: nn.Module, state: Any, *arguments: Any, **named: Any) -> Any:
        return None if state is nothing else load(module, state, *arguments, **named)

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(timm, "create_model", create_model))
        if importlib.util.find_spec("torchvision") is not None:
            weights = optional("torchvision.models", extra="robustbench", what="RobustBench").WeightsEnum
            stack.enter_context(mock.patch.object(weights, "get_state_dict", return_value=nothing))
            stack.enter_context(mock.patch.object(nn.Module, "load_state_dict", load_state_dict))
        yield


def _named(dataset: str, threat_model: str, name: str) -> str:
    return f"The model robustbench:{dataset}/{threat_model}/{name}"


def _alias_autoattack() -> None:
    """RobustBench imports ``autoattack``, whose packaged form is ``pyautoattack``: the same code under another name."""
    if "autoattack" not in sys.modules and importlib.util.find_spec("autoattack") is None:
        sys.modules["autoattack"] = importlib.import_module("pyautoattack")
