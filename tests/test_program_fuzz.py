"""Random small networks through both exporters and back: what is read never differs from torch.

More of them with ``make fuzz``, which sets CURVEBOARD_FUZZ to a number of times as many.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import Fail
from torch import nn

from models_zoo.formats import load_program
from tests.networks import CLASSES, IMAGE, Pack, network

TIMES = int(os.environ.get("CURVEBOARD_FUZZ", "1"))
OPSETS = range(9, 21)
A_PACK = 20
BATCH = torch.export.Dim.DYNAMIC


def export(model: nn.Module, path: Path, *, opset: int | None = None, dynamo: bool = False) -> None:
    x = torch.rand(2, *IMAGE)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if path.suffix == ".pt2":
            torch.export.save(torch.export.export(model, (x,), dynamic_shapes=({0: BATCH},)), path)
        elif dynamo:
            torch.onnx.export(
                model, (x,), path, opset_version=opset, dynamo=True, external_data=False, dynamic_shapes=({0: BATCH},)
            )
        else:
            torch.onnx.export(
                model, (x,), str(path), opset_version=opset, dynamo=False, input_names=["x"],
                dynamic_axes={"x": {0: "n"}},
            )  # fmt: skip


def answer_of(runtime: onnxruntime.InferenceSession, x: torch.Tensor) -> np.ndarray | None:
    """What onnxruntime gives; None for a graph that it cannot run (a reflecting pad of an axis of one, by opset 18)."""
    try:
        return runtime.run(None, {runtime.get_inputs()[0].name: x.numpy()})[0]
    except Fail:
        return None


def compare(pack: nn.Module, path: Path, first: int) -> None:
    program = load_program(path, path.name)
    runtime = onnxruntime.InferenceSession(path) if path.suffix == ".onnx" else None
    for n in (1, 3):
        x = torch.rand(n, *IMAGE)
        with torch.no_grad():
            found, expected = program(x), pack(x)
        if runtime is not None and (theirs := answer_of(runtime, x)) is not None:  # another reader of the same file
            assert abs(theirs - found.numpy()).max() <= 1e-4 * (1e-3 + abs(theirs).max())
        assert found.shape == expected.shape
        gap = (found - expected).abs() / (1e-3 + expected.abs().amax())
        wrong = sorted({first + int(i) // CLASSES for i in (gap > 1e-4).nonzero()[:, 1]})
        assert not wrong, f"networks {wrong} differ by {float(gap.max()):.2g}"


@pytest.mark.parametrize("opset", OPSETS)
def test_networks_of_the_scripting_exporter_give_torchs_logits(opset: int, tmp_path: Path) -> None:
    read = 0
    for part in range(2 * TIMES):
        first = (opset * 2 * TIMES + part) * A_PACK
        pack = Pack(range(first, first + A_PACK)).eval()
        try:
            export(pack, tmp_path / "m.onnx", opset=opset)
            members = [(pack, first)]
        except Exception:
            members = [(network(seed), seed) for seed in range(first, first + A_PACK)]
        for member, seed in members:
            if len(members) > 1:
                try:
                    export(member, tmp_path / "m.onnx", opset=opset)
                except Exception:
                    continue
            compare(member, tmp_path / "m.onnx", seed)
            read += A_PACK if len(members) == 1 else 1
    assert read >= A_PACK * TIMES


@pytest.mark.parametrize("form", ["m.pt2", "m.onnx"])
def test_networks_of_torch_export_give_torchs_logits(form: str, tmp_path: Path) -> None:
    for part in range(TIMES):
        first = 100_000 + part * A_PACK
        pack = Pack(range(first, first + A_PACK)).eval()
        export(pack, tmp_path / form, opset=18, dynamo=True)
        compare(pack, tmp_path / form, first)
