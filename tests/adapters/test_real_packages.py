"""The adapters against the packages themselves: run by ``make test-adapters``, in an environment that has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

if not os.environ.get("CURVEBOARD_ADAPTERS"):
    pytest.skip("needs timm, torchvision and RobustBench: make test-adapters", allow_module_level=True)

from models_zoo import adapters, architectures
from models_zoo.architectures.robustbench import facts_of
from models_zoo.errors import CardError
from models_zoo.loading import load_entry
from models_zoo.submission import stage

# The packages warn of one another's old ways, which are not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

NETWORKS = (
    "resnet18",
    "vit_tiny_patch16_224",
    "convnext_atto",
    "deit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224",
)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_timm_network_comes_back_with_the_same_logits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False).eval()
    original = timm.create_model

    def create_model(name: str, *, pretrained: bool, **arguments: int) -> torch.nn.Module:
        return network if pretrained else original(name, pretrained=False, **arguments)

    monkeypatch.setattr(timm, "create_model", create_model)
    brought, staged = tmp_path / "brought", tmp_path / "staged"
    brought.mkdir()
    staged.mkdir()
    adapters.adapt(f"timm:{name}", brought, dataset="imagenet", classes=1000, slug=None)
    x = torch.rand(2, 3, 224, 224)
    loaded = load_entry(stage(brought, staged, trust_code=False))
    mean, std = (torch.tensor(network.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), network((x - mean) / std))


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    with pytest.raises(CardError, match="was trained for 1000 classes, and cifar10 has 10"):
        adapters.adapt("timm:resnet18", tmp_path, dataset="cifar10", classes=10, slug=None)


ROBUSTBENCH = (
    ("cifar10", "Linf", "Carmon2019Unlabeled"),
    ("cifar10", "Linf", "Andriushchenko2020Understanding"),  # {'last', 'best'}, and no mu and sigma in the file
    ("cifar10", "Linf", "Rice2020Overfitting"),
    ("cifar10", "Linf", "Wong2020Fast"),
    ("cifar10", "Linf", "Standard"),
    ("cifar10", "Linf", "Debenedetti2022Light_XCiT-S12"),  # of timm's registry, without an address of its own
    ("cifar10", "L2", "Augustin2020Adversarial"),
    ("cifar10", "corruptions", "Kireev2021Effectiveness_RLAT"),
    ("cifar10", "corruptions", "Diffenderfer2021Winning_LRR_CARD_Deck"),  # an ensemble, a file a member
    ("cifar100", "Linf", "Rice2020Overfitting"),
    ("imagenet", "Linf", "Salman2020Do_R18"),
    ("imagenet", "Linf", "Singh2023Revisiting_ConvNeXt-T-ConvStem"),
)
ADDED = ("mu", "sigma", "mean", "std")
"""Buffers of networks that the files do not have."""


def drawn(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Random values, the same for the same seed; variances are 1."""

    def one(key: str, value: torch.Tensor) -> torch.Tensor:
        if "running_var" in key or not value.is_floating_point():
            return torch.ones_like(value) if value.is_floating_point() else value
        return 0.05 * torch.randn_like(value)

    return {key: one(key, value) for key, value in state.items()}


def checkpoint(dataset: str, threat: str, name: str, output: str) -> None:
    """A file as its authors gave it, of random weights."""
    network = architectures.build("robustbench", {"dataset": dataset, "threat_model": threat, "name": name})
    member = output.rpartition("_m")[2].removesuffix(".pt")
    torch.manual_seed(int(member) if member.isdigit() else 7)
    part = network.models[int(member)] if member.isdigit() else network
    state = {
        key.removeprefix("model.") if dataset == "imagenet" else key: value
        for key, value in drawn(part.state_dict()).items()
        if key.rpartition(".")[2] not in ADDED
    }
    state = {f"module.{key}": value for key, value in state.items()}
    lasting = {"last": state, "best": {}} if name.startswith(("Kireev", "Andriu")) else {"state_dict": state}
    torch.save(lasting, output)


@pytest.mark.parametrize(("dataset", "threat", "name"), ROBUSTBENCH)
def test_a_robustbench_model_has_the_logits_of_its_own_loader(
    dataset: str, threat: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts_of(dataset, threat, name)  # the package can be imported from here on
    import gdown
    import timm.models._builder as builder
    from robustbench import utils

    def pretrained(network: torch.nn.Module, *_: object, **__: object) -> None:
        torch.manual_seed(7)
        network.load_state_dict(drawn(network.state_dict()))

    monkeypatch.setattr(gdown, "download", lambda *, id, output, **_: checkpoint(dataset, threat, name, output))
    monkeypatch.setattr(builder, "load_pretrained", pretrained)
    brought, staged = tmp_path / "brought", tmp_path / "staged"
    brought.mkdir()
    staged.mkdir()
    adapters.adapt(f"robustbench:{dataset}/{threat}/{name}", brought, dataset=None, classes=None, slug=None)
    assert sorted(path.name for path in brought.iterdir()) == ["model.toml", "weights.safetensors"]
    loaded = load_entry(stage(brought, staged, trust_code=False))
    original = utils.load_model(name, model_dir=tmp_path / "cache", dataset=dataset, threat_model=threat)
    x = torch.rand(2, 3, *([224, 224] if dataset == "imagenet" else [32, 32]))
    with torch.no_grad():
        expected = original(x)
        assert expected.std() > 0
        torch.testing.assert_close(loaded(x), expected)


def test_a_file_in_robustbenchs_cache_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gdown

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gdown, "download", None)
    folder = tmp_path / "models/cifar10/Linf"
    folder.mkdir(parents=True)
    checkpoint("cifar10", "Linf", "Wong2020Fast", str(folder / "Wong2020Fast.pt"))
    brought = tmp_path / "brought"
    brought.mkdir()
    adapters.adapt("robustbench:cifar10/Linf/Wong2020Fast", brought, dataset=None, classes=None, slug=None)
    assert (brought / "weights.safetensors").is_file()
