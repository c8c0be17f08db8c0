"""Builds the module of one parsed ONNX file."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, fx

from models_zoo.errors import WeightsError, shown
from models_zoo.formats.builder import Builder, as_float32
from models_zoo.formats.onnx.call import Call, Sizes, Value, sizes_or_tensor
from models_zoo.formats.onnx.operators import ON_SIZES, OPERATORS

OLDEST_OPSET: Final = 6
NEWEST_OPSET: Final = 28
"""The opsets whose operators are known here; a later one may change what an operator means."""

NUMBERS: Final = frozenset({"float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"})
"""Types of arrays that are read; all real numbers as float32."""

FLOATS: Final = frozenset({"FLOAT", "FLOAT16"})


class Reader:
    """One parsed file.

    Attributes:
        shape: What it says of its images, the batch first: None for any number.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.graph, self.name = model.graph, name
        self.opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
        if not OLDEST_OPSET <= self.opset <= NEWEST_OPSET:
            raise WeightsError(
                f"{name} uses opset {self.opset}; opsets {OLDEST_OPSET} to {NEWEST_OPSET} are read. Export it with one "
                "of them."
            )
        if len(model.functions) or len(self.graph.sparse_initializer):
            raise WeightsError(f"{name} holds local functions or sparse arrays, which are not supported.")
        self.arrays = {tensor.name: self.array(tensor) for tensor in self.graph.initializer}
        inputs = [i for i in self.graph.input if i.name not in self.arrays]
        if len(inputs) != 1 or len(self.graph.output) != 1:
            raise WeightsError(
                f"{self.name} takes {len(inputs)} inputs and gives {len(self.graph.output)} outputs; a classifier "
                "takes images alone and gives logits alone."
            )
        self.input = inputs[0]
        self.shape = self._declared_shape()

    def module(self, builder: Builder) -> fx.GraphModule:
        """The module of the file, read into ``builder``."""
        images: Any = builder.images
        if self.kind != "FLOAT":
            images = builder.call(Tensor.to, images, torch.float32)
        values: dict[str, Value] = {"": None, **self.arrays, self.input.name: images}
        for node in self.graph.node:
            self._add(node, values, builder)
        output = self.graph.output[0].name
        logits = values.get(output)
        if isinstance(logits, Sizes) or logits is None:
            raise WeightsError(f"{self.name} gives {output[:80]!r}, which is no tensor computed from the images.")
        return builder.finish(logits)

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
        if values.dtype.name not in NUMBERS:
            raise WeightsError(f"{self.name} holds {tensor.name[:80]!r} as {values.dtype}, which is not supported.")
        array = torch.from_numpy(np.array(values))
        if array.dtype == torch.float64 and bool((array.isfinite() & ~array.to(torch.float32).isfinite()).any()):
            raise WeightsError(f"{self.name} holds numbers in {tensor.name[:80]!r} that are beyond float32.")
        return as_float32(array)

    def _declared_shape(self) -> list[int | None]:
        from onnx import TensorProto

        kind = self.input.type.tensor_type
        self.kind = TensorProto.DataType.Name(kind.elem_type)
        if self.kind not in FLOATS:
            raise WeightsError(f"{self.name} takes {self.kind} as its input; images are float32 numbers in [0, 1].")
        if not kind.HasField("shape"):
            raise WeightsError(f"{self.name} does not say of what shape its images are; export it with a shape.")
        sizes = [d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else None for d in kind.shape.dim]
        if any(size is None for size in sizes[1:]):
            raise WeightsError(
                f"{self.name} takes images of any height and width, shape {tuple(sizes)}; export it for one size, with "
                "the batch alone left open."
            )
        return sizes

    def _add(self, node: Any, values: dict[str, Value], builder: Builder) -> None:
        kind = node.op_type
        if kind == "If" and not node.domain:
            self._branch(node, values, builder)
            return
        if node.domain not in ("", "ai.onnx") or kind not in OPERATORS:
            raise WeightsError(
                f"{self.name} uses the operator {kind[:80]!r}, which is not among those that programs may use "
                "(docs/submitting.md lists them). Export without it, or as .pt2, or submit weights for an architecture."
            )
        if missing := [i for i in node.input if i not in values]:
            raise WeightsError(
                f"{self.name}: the operator {kind} reads {missing[0][:80]!r}, which is not computed before it, or is a "
                "second output (a mask, indices) that is not supported."
            )
        call = Call(
            builder, [values[i] for i in node.input], self._attributes(node), kind, self.opset, len(node.output)
        )
        try:
            results = self._results(call)
        except WeightsError as error:
            raise WeightsError(
                f"{self.name}: the operator {call.described()} is not supported here: {error}"
            ) from error
        except Exception as error:  # shapes and attributes of a stranger's graph break torch's functions anyhow
            raise WeightsError(
                f"{self.name}: the operator {call.described()} cannot be computed: {shown(error)}"
            ) from error
        values.update(zip(node.output, results, strict=False))

    def _branch(self, node: Any, values: dict[str, Value], builder: Builder) -> None:
        """An If whose condition is known when the file is read: exporters write them about shapes."""
        condition = values.get(node.input[0]) if len(node.input) == 1 else None
        if not isinstance(condition, Tensor) or condition.numel() != 1:
            raise WeightsError(f"{self.name}: the operator 'If' depends on the images, which is not supported.")
        name = "then_branch" if bool(condition) else "else_branch"
        branch = next((a.g for a in node.attribute if a.name == name), None)
        if branch is None or len(branch.output) != len(node.output):
            raise WeightsError(f"{self.name}: the operator 'If' has no {name} with {len(node.output)} outputs.")
        inner = {**values, **{tensor.name: self.array(tensor) for tensor in branch.initializer}}
        for each in branch.node:
            self._add(each, inner, builder)
        values.update({name: inner.get(o.name) for name, o in zip(node.output, branch.output, strict=True)})

    def _results(self, call: Call) -> list[Value]:
        if call.name in ON_SIZES and call.on_sizes():
            found: Any = ON_SIZES[call.name](call)
            found = [sizes_or_tensor(part) for part in found] if isinstance(found, list) else sizes_or_tensor(found)
        else:
            found = OPERATORS[call.name](call)
        call.check()
        return list(found) if isinstance(found, list | tuple) else [found]

    def _attributes(self, node: Any) -> dict[str, Any]:
        from onnx import AttributeProto, helper

        found: dict[str, Any] = {}
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                raise WeightsError(f"{self.name}: {node.op_type} has an attribute of a function's, outside of any.")
            if attribute.type == AttributeProto.TENSOR:
                found[attribute.name] = self.array(attribute.t)
            elif attribute.type in (
                AttributeProto.FLOAT, AttributeProto.FLOATS, AttributeProto.INT, AttributeProto.INTS,
                AttributeProto.STRING,
            ):  # fmt: skip
                value = helper.get_attribute_value(attribute)
                found[attribute.name] = value.decode() if isinstance(value, bytes) else value
            else:
                raise WeightsError(
                    f"{self.name}: the operator {node.op_type} has the attribute {attribute.name[:80]!r} of a kind "
                    "that is not supported."
                )
        return found
