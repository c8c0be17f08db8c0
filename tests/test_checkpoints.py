"""Checkpoints as training leaves them: taken where that is safe, else told in the user's words."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from models_zoo.errors import CardError, WeightsError
from models_zoo.formats.checkpoints import named_as
from models_zoo.formats.weights import read_arrays
from models_zoo.submission import stage


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


def read(content: Any, path: Path, network: nn.Module) -> dict[str, Tensor]:
    torch.save(content, path)
    return named_as(read_arrays(path, path.name), network.state_dict())


def lightning(network: nn.Module) -> dict[str, Any]:
    state = {f"model.{key}": value for key, value in network.state_dict().items()}
    state["criterion.weight"] = torch.ones(2)  # a loss has weights too
    return {
        "epoch": 3, "global_step": 10, "pytorch-lightning_version": "2.5", "state_dict": state, "loops": {"a": {}},
        "callbacks": {}, "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(1)}}}], "lr_schedulers": [],
        "hyper_parameters": {"lr": 0.1},
    }  # fmt: skip


CHECKPOINTS = {
    "plain.pt": lambda net: net.state_dict(),
    "lightning.ckpt": lightning,
    "parallel.pth": lambda net: {f"module.{k}": v for k, v in net.state_dict().items()},
    "averaged.pt": lambda net: AveragedModel(net).state_dict(),
    "compiled.pt": lambda net: {"model": {f"_orig_mod.module.{k}": v for k, v in net.state_dict().items()}},
    "nested.pt": lambda net: {"epoch": 1, "net": {"state_dict": net.state_dict(), "best": 0.5}},
    "unusual.pt": lambda net: {"classifier_weights": dict(net.state_dict()), "accuracy": 0.9, "args": {"lr": 0.1}},
    "deep.pt": lambda net: {"state_dict": {f"trainer.network.{k}": v for k, v in net.state_dict().items()}},
    "pytorch_model.bin": lambda net: net.state_dict(),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_state_dict_is_found_and_named_as_the_network(name: str, tmp_path: Path, network: nn.Module) -> None:
    found = read(CHECKPOINTS[name](network), tmp_path / name, network)
    expected = network.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_safetensors_are_read_under_any_name(tmp_path: Path, network: nn.Module) -> None:
    save_file(network.state_dict(), tmp_path / "model.bin")
    assert read_arrays(tmp_path / "model.bin", "model.bin").keys() == network.state_dict().keys()


def test_prefixes_that_fit_in_two_ways_are_left(network: nn.Module) -> None:
    state = {
        f"{prefix}.{key}": value for prefix in ("student", "teacher") for key, value in network.state_dict().items()
    }
    assert named_as(state, network.state_dict()) == state


def test_two_tables_that_could_be_it_are_named(tmp_path: Path, network: nn.Module) -> None:
    torch.save({"student": network.state_dict(), "teacher": network.state_dict()}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="'student', 'teacher', of which 2 could be"):
        read_arrays(tmp_path / "w.pt", "w.pt")


def told(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read_arrays(path, path.name)
    text = str(caught.value)
    assert "weights_only" not in text  # torch's advice is to switch the protection off
    return text


@pytest.mark.parametrize("name", ["w.pt", "w.ckpt", "w.safetensors"])
def test_a_pointer_of_git_lfs_is_told(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
    assert "git lfs pull" in told(tmp_path / name)


def test_a_web_page_is_told(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_text("<!DOCTYPE html><html></html>")
    assert "web page" in told(tmp_path / "w.pth")


def test_torchscript_under_another_suffix_is_told(tmp_path: Path, network: nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates it; files of it there are
        torch.jit.freeze(torch.jit.trace(network.eval(), torch.rand(1, 4))).save(str(tmp_path / "w.pt"))
    assert "TorchScript" in told(tmp_path / "w.pt")


def test_a_program_under_another_suffix_is_told(tmp_path: Path, network: nn.Module) -> None:
    torch.export.save(torch.export.export(network, (torch.rand(2, 4),)), tmp_path / "w.pt2")
    (tmp_path / "w.pt2").rename(tmp_path / "w.pt")
    assert 'form = "pt2"' in told(tmp_path / "w.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_pickled_model_is_told_with_what_to_do(zipped: bool, tmp_path: Path, network: nn.Module) -> None:
    torch.save(network, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    text = told(tmp_path / "w.pt")
    assert "torch.nn.modules.container.Sequential" in text
    assert "torch.save(model.state_dict()" in text


def test_objects_of_a_training_script_are_told(tmp_path: Path, network: nn.Module) -> None:
    torch.save({"state_dict": network.state_dict(), "args": argparse.Namespace(lr=0.1)}, tmp_path / "w.pt")
    assert "argparse.Namespace" in told(tmp_path / "w.pt")


def test_a_folder_of_hugging_face_is_told_what_it_lacks(tmp_path: Path, network: nn.Module) -> None:
    (tmp_path / "config.json").write_text("{}")
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(CardError, match="Hugging Face"):
        stage(tmp_path, tmp_path / "target")
