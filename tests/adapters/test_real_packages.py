"""The adapters against the packages themselves: run by ``make test-adapters``, in an environment that has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

if not os.environ.get("CURVEBOARD_ADAPTERS"):
    pytest.skip("needs timm, torchvision and RobustBench: make test-adapters", allow_module_level=True)

from models_zoo import adapters, architectures
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


@pytest.mark.parametrize("name", ["Standard", "Carmon2019Unlabeled", "Rice2020Overfitting"])
def test_a_robustbench_network_is_built(name: str) -> None:
    pytest.importorskip("torchvision")
    arguments = {"dataset": "cifar10", "threat_model": "Linf", "name": name}
    network = architectures.build("robustbench", arguments).eval()
    assert network(torch.rand(1, 3, 32, 32)).shape == (1, 10)
