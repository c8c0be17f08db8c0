"""Programs that a stranger sends: what they cost is known before anything is computed, and there is an end to it."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from models_zoo.errors import WeightsError
from models_zoo.formats import load_program
from models_zoo.formats.sizes import N, Size, equal, fitted

BATCH = torch.export.Dim.DYNAMIC


def onnx_file(path: Path, nodes: list[onnx.NodeProto], arrays: dict[str, np.ndarray]) -> Path:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    initial = [numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def refused(path: Path, match: str) -> None:
    begin = time.monotonic()
    with pytest.raises(WeightsError, match=match):
        load_program(path, path.name)
    assert time.monotonic() - begin < 60


def test_squarings_of_a_size_end(tmp_path: Path) -> None:
    class Squarings(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            n = x.shape[0] + 1
            for _ in range(12):
                n = n * n
            return x.flatten(1) * n

    program = torch.export.export(Squarings(), (torch.rand(4, 1, 8, 8),), dynamic_shapes=({0: BATCH},))
    torch.export.save(program, tmp_path / "m.pt2")
    refused(tmp_path / "m.pt2", "not supported")


def test_many_matrix_products_for_one_image_are_too_much(tmp_path: Path) -> None:
    nodes = [helper.make_node("Flatten", ["x"], ["a0"]), helper.make_node("Tile", ["a0", "r"], ["b0"])]
    nodes += [helper.make_node("MatMul", [f"b{i}", "w"], [f"b{i + 1}"]) for i in range(3000)]
    nodes.append(helper.make_node("Identity", ["b3000"], ["y"]))
    arrays = {"r": np.array([1 << 12, 64]), "w": np.zeros((4096, 4096), np.float32)}
    refused(onnx_file(tmp_path / "m.onnx", nodes, arrays), "floating-point operations for one image")


def test_constants_that_are_unfolded_without_end_are_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["c0"]),
        *[helper.make_node("MatMul", [f"c{i}", f"c{i}"], [f"c{i + 1}"]) for i in range(100)],
        helper.make_node("ReduceSum", ["c100"], ["t"], keepdims=0),
        helper.make_node("Mul", ["x", "t"], ["y"]),
    ]
    refused(onnx_file(tmp_path / "m.onnx", nodes, {"s": np.array([4096, 4096])}), "more with its constants")


@pytest.mark.parametrize("shape", [[1 << 20, 1 << 20], [1 << 62], [1 << 33]])
def test_a_constant_of_terabytes_is_not_allocated(tmp_path: Path, shape: list[int]) -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["c"]),
        helper.make_node("ReduceSum", ["c"], ["t"], keepdims=0),
        helper.make_node("Mul", ["x", "t"], ["y"]),
    ]
    refused(onnx_file(tmp_path / "m.onnx", nodes, {"s": np.array(shape)}), "ConstantOfShape")


def test_a_program_of_too_many_operations_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models_zoo.formats.budget.MAX_NODES", 50)
    nodes = [helper.make_node("Relu", ["x"], ["a0"])]
    nodes += [helper.make_node("Neg", [f"a{i}"], [f"a{i + 1}"]) for i in range(60)]
    nodes.append(helper.make_node("Flatten", ["a60"], ["y"]))
    refused(onnx_file(tmp_path / "m.onnx", nodes, {}), "more than 50 operations")


class TestSizes:
    def test_arithmetic_is_exact(self) -> None:
        assert (N * 6 + 4) // 2 - 2 == N * 3
        assert N * 12 / (N * 4) == 3
        assert (N * 3 + 5).at(7) == 26

    def test_what_depends_on_the_batch_is_not_decided(self) -> None:
        assert not equal(N, -1)
        assert N + 1 > 1
        for question in (lambda: equal(N, 1), lambda: N > 1, lambda: N * N, lambda: N // 2, lambda: 8 // N):
            with pytest.raises(WeightsError):
                question()

    def test_a_size_is_told_from_three_batches(self) -> None:
        assert fitted([8, 8, 8], [2, 3, 7]) == 8
        assert fitted([9, 13, 29], [2, 3, 7]) == N * 4 + 1
        with pytest.raises(WeightsError, match="evenly"):
            fitted([1, 1, 3], [2, 3, 7])

    def test_no_size_is_beyond_all_memory(self) -> None:
        size: int | Size = N * 1024
        with pytest.raises(WeightsError, match="beyond"):
            for _ in range(5):
                size = size * 1024
