"""Matrix products."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from models_zoo.errors import WeightsError
from models_zoo.formats.onnx.call import Call


def _gemm(call: Call) -> Any:
    if not call.is_float(0):
        raise WeightsError("it multiplies whole numbers.")
    x, weight, added = call.value(0), call.value(1), call.optional(2)
    alpha, beta = call.get("alpha", 1.0), call.get("beta", 1.0)
    if call.opset < 7:
        call.ignore("broadcast")
    if call.get("transA", 0):
        x = call.apply(torch.t, x)
    if not call.get("transB", 0):
        weight = call.apply(torch.t, weight)
    if isinstance(weight, Tensor):
        weight = weight.contiguous() if alpha == 1 else weight * alpha
        alpha = 1.0
    if added is not None and beta != 1:
        added = call.apply(operator.mul, added, beta)
    outputs = call.builder.shape(weight)[0]
    if added is not None and call.builder.shape(added) == [1, outputs]:
        added = call.apply(torch.flatten, added)
    if alpha == 1 and (added is None or call.builder.shape(added) == [outputs]):
        return call.apply(functional.linear, x, weight, added)
    product = call.apply(functional.linear, x, weight)
    product = product if alpha == 1 else call.apply(operator.mul, product, alpha)
    return product if added is None else call.apply(operator.add, product, added)


def _matmul(call: Call) -> Any:
    x, weight = call.value(0), call.value(1)
    if isinstance(weight, Tensor) and weight.ndim == 2 and weight.is_floating_point() and not isinstance(x, Tensor):
        return call.apply(functional.linear, x, weight.t().contiguous())
    return call.apply(torch.matmul, x, weight)


def _einsum(call: Call) -> Any:
    equation = str(call.get("equation", ""))
    return call.apply(torch.einsum, equation, *(call.value(i) for i in range(len(call.inputs))))


TABLE: Final[Mapping[str, Callable[[Call], Any]]] = {"Einsum": _einsum, "Gemm": _gemm, "MatMul": _matmul}
