"""The ``onnx`` package's own operator tests, with all inputs but the first frozen: right, or refused by name."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

from models_zoo.errors import WeightsError
from models_zoo.formats import load_program

KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted")

CLASSIFIERS = frozenset(
    """Abs Add AveragePool BatchNormalization Ceil Celu Clip Concat Conv ConvTranspose Cos DepthToSpace Div Elu Erf Exp
    Expand Flatten Floor Gather GatherElements Gelu Gemm GlobalAveragePool GlobalMaxPool GroupNormalization HardSigmoid
    HardSwish Identity InstanceNormalization LRN LayerNormalization LeakyRelu Log LogSoftmax MatMul Max MaxPool Mean Min
    Mish Mul Neg PRelu Pad ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare Relu Reshape Selu Shape Sigmoid Sin Slice Softmax Softplus Softsign Split Sqrt Squeeze Sub
    Sum Tanh ThresholdedRelu Tile Transpose Unsqueeze Upsample Where""".split()  # noqa: SIM905
)
"""Operators of which nothing may be refused but whole numbers, other precisions, and training."""

REASONS = (
    "images are float32",
    "bfloat16",
    "BFLOAT16",
    "training mode",
    "float8",
    "uint16",
    "uint32",
    "uint64",
    "opset 1;",
)

ALLOWED = frozenset(
    {
        "test_convtranspose_output_shape",  # larger than what is computed
        "test_reduce_max_empty_set", "test_reduce_min_empty_set", "test_reduce_max_empty_set_bool",
    }
)  # fmt: skip
"""Tests of them that are refused all the same."""


def _tensor(value: Any) -> onnx.TensorProto | None:
    if isinstance(value, onnx.TensorProto):
        return value
    return numpy_helper.from_array(np.asarray(value)) if isinstance(value, np.ndarray | np.generic) else None


def _stored(path: Path, value: Any) -> onnx.TensorProto | None:
    if not value.type.HasField("tensor_type"):
        return None
    return onnx.TensorProto.FromString(path.read_bytes())


def _case(case: Any) -> tuple[onnx.ModelProto, list[Any], Any] | None:
    """The model with its further inputs frozen, its inputs and its first output; None where those are no tensors."""
    if case.model_dir is None:
        model = onnx.ModelProto.FromString(case.model.SerializeToString())
        given, expected = ([_tensor(v) for v in part] for part in case.data_sets[0])
    else:
        model = onnx.load(Path(case.model_dir) / "model.onnx")
    known = {tensor.name for tensor in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in known]
    if case.model_dir is not None:
        home = min(Path(case.model_dir).glob("test_data_set_*"))
        given = [_stored(home / f"input_{i}.pb", value) for i, value in enumerate(inputs)]
        expected = [_stored(home / f"output_{i}.pb", value) for i, value in enumerate(model.graph.output[:1])]
    if not inputs or None in given[: len(inputs)] or expected[0] is None:
        return None
    for value, tensor in list(zip(inputs, given, strict=False))[1:]:
        tensor.name = value.name
        model.graph.initializer.append(tensor)
        model.graph.input.remove(value)
    del model.graph.output[1:]
    return model, given, expected[0]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Every test's name by what became of it; any error that is not one of ours fails here."""
    path = tmp_path_factory.mktemp("onnx") / "m.onnx"
    found: dict[str, list[str]] = defaultdict(list)
    warnings.simplefilter("ignore")  # the package's own, while it makes the cases
    for kind in KINDS:
        for case in load_model_tests(kind=kind):
            read = _case(case)
            if read is None:
                continue
            model, given, expected = read
            path.write_bytes(model.SerializeToString())
            try:
                program = load_program(path, path.name)
                y = program(torch.from_numpy(np.array(numpy_helper.to_array(given[0])))).numpy()
            except WeightsError as error:
                operators = {node.op_type for node in model.graph.node}
                plain = operators <= CLASSIFIERS and not any(reason in str(error) for reason in REASONS)
                found["refused needlessly" if plain and case.name not in ALLOWED else "refused"].append(
                    f"{case.name}: {error}"
                )
                continue
            z = numpy_helper.to_array(expected)
            right = y.shape == z.shape and np.allclose(y.astype(float), z.astype(float), 1e-3, 1e-5, equal_nan=True)
            found["right" if right else "wrong"].append(case.name)
    return found


def test_none_is_wrong(outcomes: dict[str, list[str]]) -> None:
    assert outcomes["wrong"] == []


def test_most_are_read(outcomes: dict[str, list[str]]) -> None:
    counts = Counter({key: len(value) for key, value in outcomes.items()})
    assert counts["right"] >= 950, counts


def test_no_operator_of_classifiers_is_refused_without_need(outcomes: dict[str, list[str]]) -> None:
    assert outcomes["refused needlessly"] == []


def test_a_refusal_names_the_operator(outcomes: dict[str, list[str]]) -> None:
    vague = [
        text
        for text in outcomes["refused"]
        if not any(word in text for word in ("operator", "input", "opset", "holds"))
    ]
    assert vague == []
