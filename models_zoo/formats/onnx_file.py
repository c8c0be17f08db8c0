"""Reads ONNX files into differentiable modules: the operators that image classifiers are made of.

Written here because the converter there is (onnx2torch) imports torchvision, and runtimes (onnxruntime) give no
gradients. The optional package ``onnx`` parses the file; data outside the file is refused, wherever it is.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, fx
from torch.nn import functional

from models_zoo.errors import WeightsError, ZooError, shown
from models_zoo.formats.builder import Builder, as_float32

Value = fx.Node | Tensor | None
"""A value of the graph: computed from the images, or known now."""

OLDEST_OPSET: Final = 9


def load_onnx(path: Path, name: str) -> fx.GraphModule:
    """The module of an ONNX file.

    Args:
        path: Where it lies.
        name: What it is called, for messages.

    Returns:
        Images, shape (n, c, h, w), to logits, shape (n, k).

    Raises:
        WeightsError: If the file is damaged, keeps data outside itself, takes or gives more than one tensor, or uses an
            operator that is not in the table below.
        ZooError: If the package ``onnx`` is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise ZooError(f"{name}: ONNX files need an optional package: pip install 'curveboard[onnx]'.") from error
    try:
        model = onnx.load_model_from_string(path.read_bytes())
        return _Reader(model, name).module()
    except ZooError:
        raise
    except Exception as error:  # protobuf and the shapes of a hostile graph fail in many ways; none is a bug here
        raise WeightsError(f"{name} is no sound ONNX file: {shown(error)}. Is it truncated?") from error


class _Reader:
    """Builds the module of one parsed file."""

    def __init__(self, model: Any, name: str) -> None:
        self.graph, self.name, self.builder = model.graph, name, Builder()
        self.opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
        if self.opset < OLDEST_OPSET:
            raise WeightsError(f"{name} uses opset {self.opset}; export it with opset {OLDEST_OPSET} or later.")
        if len(model.functions) or len(self.graph.sparse_initializer):
            raise WeightsError(f"{name} holds local functions or sparse arrays, which are not supported.")
        self.values: dict[str, Value] = {"": None}

    def module(self) -> fx.GraphModule:
        for tensor in self.graph.initializer:
            self.values[tensor.name] = self.array(tensor)
        inputs = [i.name for i in self.graph.input if i.name not in self.values]
        if len(inputs) != 1 or len(self.graph.output) != 1:
            raise WeightsError(
                f"{self.name} takes {len(inputs)} inputs and gives {len(self.graph.output)} outputs; a classifier "
                "takes images alone and gives logits alone."
            )
        self.values[inputs[0]] = self.builder.images
        for node in self.graph.node:
            self._add(node)
        return self.builder.finish(self.node(self.values[self.graph.output[0].name]))

    def array(self, tensor: Any) -> Tensor:
        """An array stored in the file."""
        from onnx import TensorProto, numpy_helper

        if tensor.data_location == TensorProto.EXTERNAL or len(tensor.external_data):
            place = next((e.value for e in tensor.external_data if e.key == "location"), "?")
            raise WeightsError(
                f"{self.name} keeps the array {tensor.name[:80]!r} in another file, {place[:80]!r}, which is never "
                "opened. Save the model in one file: onnx.save(model, path, save_as_external_data=False)."
            )
        values = numpy_helper.to_array(tensor)
        if values.dtype.kind not in "fiub":
            raise WeightsError(f"{self.name} holds {tensor.name[:80]!r} as {values.dtype}; only numbers are read.")
        return as_float32(torch.from_numpy(np.array(values)))

    def node(self, value: Value) -> fx.Node:
        """A value as a node of the graph; known arrays become parameters of the module."""
        if value is None:
            raise WeightsError(f"{self.name} leaves out an input that is needed.")
        return value if isinstance(value, fx.Node) else self.builder.constant(value)

    def _add(self, node: Any) -> None:
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
            raise WeightsError(
                f"{self.name} uses the operator {node.op_type[:80]!r}, which is not among those that programs may use "
                "(docs/submitting.md lists them). Export without it, or as .pt2, or submit weights for an architecture."
            )
        call = _Call(self, [self.values[i] for i in node.input], self._attributes(node), node.op_type)
        # Further outputs (a dropout's mask, a pool's indices) have no use in a classifier.
        self.values[node.output[0]] = OPERATORS[node.op_type](call)

    def _attributes(self, node: Any) -> dict[str, Any]:
        from onnx import AttributeProto, helper

        found: dict[str, Any] = {}
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                found[attribute.name] = self.array(attribute.t)
            elif attribute.type in (
                AttributeProto.FLOAT, AttributeProto.FLOATS, AttributeProto.INT, AttributeProto.INTS,
                AttributeProto.STRING,
            ):  # fmt: skip
                value = helper.get_attribute_value(attribute)
                found[attribute.name] = value.decode() if isinstance(value, bytes) else value
            else:
                raise WeightsError(f"{self.name}: {node.op_type} has an attribute of a kind that is not supported.")
        return found


class _Call:
    """One operator applied: its inputs and attributes, and what is made of them."""

    def __init__(self, reader: _Reader, inputs: Sequence[Value], attributes: Mapping[str, Any], name: str) -> None:
        self.reader, self.inputs, self.attributes, self.name = reader, inputs, attributes, name

    def value(self, i: int) -> Value:
        """Input ``i``, or None where it is left out."""
        return self.inputs[i] if i < len(self.inputs) else None

    def node(self, i: int) -> fx.Node:
        """Input ``i`` as a node."""
        return self.reader.node(self.value(i))

    def optional(self, i: int) -> fx.Node | None:
        """Input ``i`` as a node, or None where it is left out."""
        return None if self.value(i) is None else self.node(i)

    def apply(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Value:
        """A function of values: computed now if all are known, else when there are images."""
        values = [*args, *kwargs.values()]
        if any(isinstance(v, fx.Node) for v in values):
            return self.reader.builder.call(
                function, *map(self._held, args), **{k: self._held(v) for k, v in kwargs.items()}
            )
        result = function(*args, **kwargs)
        return result if isinstance(result, Tensor) else torch.tensor(result)

    def _held(self, value: Any) -> Any:
        return self.reader.builder.constant(value) if isinstance(value, Tensor) else value

    def known(self, i: int, attribute: str = "") -> list[Any] | None:
        """A list of numbers that the graph's shape depends on: an input, or an attribute in older opsets."""
        if attribute in self.attributes:
            value = self.attributes[attribute]
            return list(value) if isinstance(value, Sequence) else [value]
        given = self.value(i)
        if given is None:
            return None
        if not isinstance(given, Tensor):
            raise self.refuse(f"takes its input {i} from the images; it must be known when the file is read")
        return list(given.flatten().tolist())

    def get(self, name: str, default: Any) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)

    def refuse(self, why: str) -> WeightsError:
        """The error for settings that are not supported."""
        return WeightsError(f"{self.reader.name}: the operator {self.name} {why}, which is not supported.")


def _unary(function: Callable[..., Any], *defaults: tuple[str, str, Any]) -> Callable[[_Call], Value]:
    """A function of one input; ``defaults`` are (attribute, keyword, default)."""

    def build(call: _Call) -> Value:
        return call.apply(function, call.value(0), **{key: call.get(name, value) for name, key, value in defaults})

    return build


def _binary(function: Callable[..., Any]) -> Callable[[_Call], Value]:
    return lambda call: call.apply(function, call.value(0), call.value(1))


def _windows(call: _Call, fill: float) -> tuple[Value, list[int]]:
    """The input, padded where its two sides differ, and the symmetric padding that is left to do."""
    if call.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise call.refuse(f"has auto_pad {call.get('auto_pad', '')!r}")
    pads = list(call.get("pads", [0, 0, 0, 0]))
    if len(pads) != 4:
        raise call.refuse("is not two-dimensional")
    top, left, bottom, right = pads
    if (top, left) == (bottom, right):
        return call.value(0), [top, left]
    return call.apply(functional.pad, call.value(0), [left, right, top, bottom], value=fill), [0, 0]


def _conv(call: _Call) -> Value:
    x, padding = _windows(call, 0.0)
    stride, dilation = list(call.get("strides", [1, 1])), list(call.get("dilations", [1, 1]))
    return call.apply(
        functional.conv2d, x, call.value(1), call.value(2), stride, padding, dilation, call.get("group", 1)
    )


def _max_pool(call: _Call) -> Value:
    x, padding = _windows(call, -math.inf)
    kernel, dilation = list(call.get("kernel_shape", [])), list(call.get("dilations", [1, 1]))
    stride, ceil = list(call.get("strides", [1, 1])), bool(call.get("ceil_mode", 0))
    return call.apply(functional.max_pool2d, x, kernel, stride, padding, dilation, ceil)


def _average_pool(call: _Call) -> Value:
    counted = bool(call.get("count_include_pad", 0))
    pads = call.get("pads", [0, 0, 0, 0])
    if not counted and list(pads[:2]) != list(pads[2:]):
        raise call.refuse("pads its sides differently without counting the padding")
    x, padding = _windows(call, 0.0)
    kernel, stride = list(call.get("kernel_shape", [])), list(call.get("strides", [1, 1]))
    return call.apply(functional.avg_pool2d, x, kernel, stride, padding, bool(call.get("ceil_mode", 0)), counted)


def _batch_norm(call: _Call) -> Value:
    if call.get("training_mode", 0):
        raise call.refuse("is in training mode")
    weight, bias, mean, variance = (call.value(i) for i in range(1, 5))
    return call.apply(
        functional.batch_norm, call.value(0), mean, variance, weight, bias, False, 0.1, call.get("epsilon", 1e-5)
    )


def _gemm(call: _Call) -> Value:
    if call.get("transA", 0) or call.get("alpha", 1.0) != 1 or call.get("beta", 1.0) != 1:
        raise call.refuse("transposes or scales its inputs")
    weight = call.value(1)
    if not call.get("transB", 0):
        weight = call.apply(torch.t, weight)
    return call.apply(functional.linear, call.value(0), weight, call.value(2))


def _matmul(call: _Call) -> Value:
    weight = call.value(1)
    if isinstance(weight, Tensor) and weight.ndim == 2:
        return call.apply(functional.linear, call.value(0), weight.t().contiguous())
    return call.apply(torch.matmul, call.value(0), weight)


def _clip(call: _Call) -> Value:
    low, high = call.known(1, "min"), call.known(2, "max")
    return call.apply(torch.clamp, call.value(0), low[0] if low else None, high[0] if high else None)


def _flatten(call: _Call) -> Value:
    if call.get("axis", 1) != 1:
        raise call.refuse(f"flattens from axis {call.get('axis', 1)}")
    return call.apply(torch.flatten, call.value(0), 1)


def reshape(x: Tensor, shape: Tensor, *, allow_zero: bool) -> Tensor:
    """ONNX's reshape: a 0 keeps the size there is."""
    target = [int(n) for n in shape.tolist()]
    if not allow_zero:
        target = [x.shape[i] if n == 0 else n for i, n in enumerate(target)]
    return x.reshape(target)


def _reshape(call: _Call) -> Value:
    shape, allow_zero = call.value(1), bool(call.get("allowzero", 0))
    if isinstance(shape, Tensor) and (allow_zero or 0 not in shape.tolist()):
        return call.apply(torch.reshape, call.value(0), [int(n) for n in shape.tolist()])
    return call.apply(reshape, call.value(0), shape, allow_zero=allow_zero)


def shape_of(x: Tensor) -> Tensor:
    """The sizes of a tensor as a tensor, shape (ndim,), int64."""
    return torch.tensor(x.shape, device=x.device)


def gather(x: Tensor, index: Tensor, *, axis: int) -> Tensor:
    """Slices of ``x`` along ``axis``, shape of ``index`` in its place."""
    flat = torch.where(index < 0, index + x.shape[axis], index).flatten()
    if not index.ndim:
        return x.select(axis, int(flat))
    axis %= x.ndim
    return x.index_select(axis, flat).reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def parametric_relu(x: Tensor, slope: Tensor) -> Tensor:
    """ReLU with a slope below zero that broadcasts as ONNX says."""
    return torch.where(x > 0, x, slope * x)


def _slice(call: _Call) -> Value:
    starts, ends = call.known(1, "starts"), call.known(2, "ends")
    if starts is None or ends is None:
        raise call.refuse("has no bounds")
    axes, steps = call.known(3, "axes") or list(range(len(starts))), call.known(4) or [1] * len(starts)
    result = call.value(0)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if axis < 0 or step < 1:
            raise call.refuse("counts backwards")
        result = call.apply(operator.getitem, result, (slice(None),) * axis + (slice(start, end, step),))
    return result


def _transpose(call: _Call) -> Value:
    if "perm" not in call.attributes:
        raise call.refuse("names no order of the axes")
    return call.apply(torch.permute, call.value(0), list(call.attributes["perm"]))


def _unsqueeze(call: _Call) -> Value:
    axes = call.known(1, "axes") or []
    if any(axis < 0 for axis in axes):
        raise call.refuse("counts axes from the end")
    result = call.value(0)
    for axis in sorted(axes):
        result = call.apply(torch.unsqueeze, result, axis)
    return result


def _squeeze(call: _Call) -> Value:
    axes = call.known(1, "axes")
    if axes is None:
        raise call.refuse("names no axes")
    return call.apply(torch.squeeze, call.value(0), tuple(axes))


def _concat(call: _Call) -> Value:
    axis = call.get("axis", 0)
    if all(isinstance(v, Tensor) for v in call.inputs):
        return torch.cat([v for v in call.inputs if isinstance(v, Tensor)], dim=axis)
    return call.reader.builder.call(torch.cat, [call.node(i) for i in range(len(call.inputs))], dim=axis)


def _cast(call: _Call) -> Value:
    from onnx import helper

    kind = np.dtype(helper.tensor_dtype_to_np_dtype(call.get("to", 1))).kind
    if kind not in "fiub":
        raise call.refuse("casts to a type that is not a number's")
    dtype = {"f": torch.float32, "b": torch.bool}.get(kind, torch.int64)
    return call.apply(Tensor.to, call.value(0), dtype)


def _pad(call: _Call) -> Value:
    pads, fill = call.known(1, "pads") or [], call.known(2, "value") or [0.0]
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}.get(call.get("mode", "constant"))
    if mode is None or len(pads) != 8 or any(pads[:2]) or any(pads[4:6]) or call.value(3) is not None:
        raise call.refuse("pads other axes than height and width, or in an unusual mode")
    sides = [pads[3], pads[7], pads[2], pads[6]]
    return call.apply(functional.pad, call.value(0), sides, mode, *(fill if mode == "constant" else []))


def _reduce(function: Callable[..., Any]) -> Callable[[_Call], Value]:
    def build(call: _Call) -> Value:
        axes = call.known(1, "axes")
        if not axes:
            raise call.refuse("names no axes")
        return call.apply(function, call.value(0), tuple(axes), bool(call.get("keepdims", 1)))

    return build


def _softmax(function: Callable[..., Any]) -> Callable[[_Call], Value]:
    def build(call: _Call) -> Value:
        return call.apply(function, call.value(0), call.get("axis", 1 if call.reader.opset < 13 else -1))

    return build


def _layer_norm(call: _Call) -> Value:
    weight = call.value(1)
    if not isinstance(weight, Tensor) or call.get("axis", -1) != -weight.ndim:
        raise call.refuse("normalises other axes than the last")
    return call.apply(
        functional.layer_norm, call.value(0), list(weight.shape), weight, call.value(2), call.get("epsilon", 1e-5)
    )


def _constant(call: _Call) -> Value:
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        if name in call.attributes:
            value = call.attributes[name]
            return value if isinstance(value, Tensor) else torch.tensor(value)
    raise call.refuse("holds no numbers")


def _same(call: _Call) -> Value:
    return call.value(0)


OPERATORS: Final[Mapping[str, Callable[[_Call], Value]]] = {
    "Abs": _unary(torch.abs),
    "Add": _binary(operator.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Constant": _constant,
    "Conv": _conv,
    "Div": _binary(operator.truediv),
    "Dropout": _same,
    "Elu": _unary(functional.elu, ("alpha", "alpha", 1.0)),
    "Equal": _binary(operator.eq),
    "Erf": _unary(torch.erf),
    "Exp": _unary(torch.exp),
    "Flatten": _flatten,
    "Gather": lambda call: call.apply(gather, call.value(0), call.value(1), axis=call.get("axis", 0)),
    "Gelu": _unary(functional.gelu, ("approximate", "approximate", "none")),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda call: call.apply(torch.mean, call.value(0), [2, 3], True),
    "GlobalMaxPool": lambda call: call.apply(torch.amax, call.value(0), [2, 3], True),
    "Greater": _binary(operator.gt),
    "GreaterOrEqual": _binary(operator.ge),
    "HardSwish": _unary(functional.hardswish),
    "Identity": _same,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": _unary(functional.leaky_relu, ("alpha", "negative_slope", 0.01)),
    "Less": _binary(operator.lt),
    "LessOrEqual": _binary(operator.le),
    "Log": _unary(torch.log),
    "LogSoftmax": _softmax(torch.log_softmax),
    "MatMul": _matmul,
    "Max": _binary(torch.maximum),
    "MaxPool": _max_pool,
    "Min": _binary(torch.minimum),
    "Mul": _binary(operator.mul),
    "Neg": _unary(torch.neg),
    "PRelu": _binary(parametric_relu),
    "Pad": _pad,
    "Pow": _binary(torch.pow),
    "Reciprocal": _unary(torch.reciprocal),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "Relu": _unary(functional.relu),
    "Reshape": _reshape,
    "Selu": _unary(functional.selu),
    "Shape": _unary(shape_of),
    "Sigmoid": _unary(torch.sigmoid),
    "Slice": _slice,
    "Softmax": _softmax(torch.softmax),
    "Softplus": _unary(functional.softplus),
    "Sqrt": _unary(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _binary(operator.sub),
    "Tanh": _unary(torch.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": lambda call: call.apply(torch.where, call.value(0), call.value(1), call.value(2)),
}
"""The operators there are: pure functions of tensors."""
