"""Reads ``torch.export`` archives without running anything they say.

An archive is a zip file with ``models/<name>.json`` (the graph of ATen operations), ``data/weights/`` and
``data/constants/`` (raw numbers, and an index of their shapes). Members that are pickles are refused where they are
needed, and never opened otherwise (the sample inputs).
"""

from __future__ import annotations

import json
import math
import operator
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, fx
from torch.nn import functional

from models_zoo.errors import WeightsError, shown
from models_zoo.formats.builder import Builder, as_float32
from models_zoo.formats.weights import refuse_packed_zip

MAX_GRAPH_BYTES: Final = 64 << 20

DTYPES: Final = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
"""Numbers of the archive's schema."""


def _batch_norm(  # noqa: PLR0917 - the order is ATen's
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn: bool = False,
) -> tuple[Any, ...]:
    return x, mean, variance, weight, bias, training, momentum, eps


def _dropout(x: Tensor, *_: Any) -> tuple[Any, ...]:
    return x, 0.0, False


def _pooling(x: Tensor, kernel: Any, stride: Any = (), *others: Any) -> tuple[Any, ...]:
    return x, kernel, stride or None, *others  # ATen's empty stride is the kernel's size


FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "conv1d.default": functional.conv1d,
    "conv2d.default": functional.conv2d,
    "conv2d.padding": functional.conv2d,
    "conv_transpose2d.input": functional.conv_transpose2d,
    "linear.default": functional.linear,
    "batch_norm.default": functional.batch_norm,
    "relu.default": functional.relu,
    "softplus.default": functional.softplus,
    "max_pool2d.default": functional.max_pool2d,
    "avg_pool2d.default": functional.avg_pool2d,
    "adaptive_avg_pool2d.default": functional.adaptive_avg_pool2d,
    "dropout.default": functional.dropout,
    "flatten.using_ints": torch.flatten,
    "view.default": torch.reshape,
    "reshape.default": torch.reshape,
    "add.Tensor": operator.add,
    "sub.Tensor": operator.sub,
    "mul.Tensor": operator.mul,
    "div.Tensor": operator.truediv,
    "mean.dim": torch.mean,
    "sym_size.int": Tensor.size,
}
"""ATen operations that have a Python function: modules that trace others know these by name."""

REORDERED: Final = {
    "batch_norm.default": _batch_norm,
    "dropout.default": _dropout,
    "max_pool2d.default": _pooling,
    "avg_pool2d.default": _pooling,
}
"""Where the Python function takes other arguments, or in another order."""

ATEN: Final = frozenset(
    """
    _to_copy.default abs.default adaptive_avg_pool1d.default adaptive_max_pool2d.default add.Scalar addmm.default
    alias.default amax.default amin.default arange.default arange.start argmax.default avg_pool1d.default
    baddbmm.default bmm.default broadcast_to.default cat.default ceil.default celu.default chunk.default
    clamp.Tensor clamp.default clamp_max.default clamp_min.default clone.default constant_pad_nd.default
    contiguous.default convolution.default cos.default cumsum.default detach.default div.Scalar div.Tensor_mode
    einsum.default elu.default eq.Scalar eq.Tensor erf.default exp.default expand.default expand_as.default
    eye.default flip.default floor.default full.default full_like.default gather.default ge.Scalar gelu.default
    glu.default group_norm.default gt.Scalar gt.Tensor hardsigmoid.default hardswish.default hardtanh.default
    index.Tensor index_select.default instance_norm.default layer_norm.default le.Scalar leaky_relu.default
    lift_fresh_copy.default log.default log1p.default log_sigmoid.default log_softmax.int logsumexp.default
    lt.Scalar lt.Tensor masked_fill.Scalar matmul.default max.default max.dim max_pool1d.default maximum.default
    mean.default min.default min.dim minimum.default mish.default mm.default mul.Scalar narrow.default ne.Scalar
    neg.default new_zeros.default ones.default ones_like.default pad.default permute.default pixel_shuffle.default
    pixel_unshuffle.default pow.Scalar pow.Tensor_Scalar pow.Tensor_Tensor prelu.default reciprocal.default
    relu6.default repeat.default rms_norm.default roll.default round.default rsqrt.default rsub.Scalar
    scaled_dot_product_attention.default select.int selu.default sigmoid.default sign.default silu.default
    sin.default slice.Tensor softmax.int split.Tensor split_with_sizes.default sqrt.default square.default
    squeeze.default squeeze.dim squeeze.dims stack.default std.correction std.dim sub.Scalar sum.default
    sum.dim_IntList t.default tanh.default tile.default to.dtype to.dtype_layout transpose.int tril.default
    triu.default unbind.int unflatten.int unfold.default unsqueeze.default upsample_bilinear2d.vec
    upsample_nearest2d.vec var.correction var.dim where.ScalarOther where.self zeros.default zeros_like.default
    """.split()  # noqa: SIM905 - a hundred names read better as prose
)
"""Further ATen operations: functions of tensors that touch no file, no device and no state."""

CREATORS: Final = frozenset({"arange", "eye", "full", "ones", "zeros"})
"""Operations that make a tensor from numbers; it is to lie where the images are, not where it was exported."""

SCALAR_FUNCTIONS: Final = {
    f"_operator.{name}": getattr(operator, name)
    for name in (
        "add",
        "sub",
        "mul",
        "floordiv",
        "truediv",
        "mod",
        "neg",
        "eq",
        "ne",
        "ge",
        "gt",
        "le",
        "lt",
        "getitem",
    )
}
"""Arithmetic of sizes."""

CHECKS: Final = frozenset(
    f"torch.ops.aten.{name}"
    for name in ("_assert_scalar.default", "_assert_tensor_metadata.default", "sym_constrain_range_for_size.default")
)
"""Operations that only check; they are left out."""


def load_pt2(path: Path, name: str) -> fx.GraphModule:
    """The module of a ``.pt2`` archive.

    Args:
        path: Where it lies.
        name: What it is called, for messages.

    Returns:
        Images, shape (n, c, h, w), to logits, shape (n, k).

    Raises:
        WeightsError: If the archive is damaged, holds a pickle where numbers should be, was exported in training mode,
            takes or gives more than one tensor, or uses an operation that is not in the tables above.
    """
    refuse_packed_zip(path, name)
    try:
        with zipfile.ZipFile(path) as archive:
            return _Reader(archive, name).module()
    except WeightsError:
        raise
    except (
        zipfile.BadZipFile, OSError, RecursionError, KeyError, ValueError, TypeError, AttributeError, IndexError,
        StopIteration, RuntimeError, AssertionError, NotImplementedError, OverflowError,
    ) as error:  # fmt: skip
        raise WeightsError(
            f"{name} is no sound torch.export archive: {shown(error)}. Is it truncated? "
            "Save it again with torch.export.save."
        ) from error


class _Reader:
    """Builds the module of one open archive."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self.archive, self.name = archive, name
        models = [m for m in archive.infolist() if Path(m.filename).parent.name == "models"]
        if len(models) != 1 or models[0].file_size > MAX_GRAPH_BYTES:
            raise WeightsError(
                f"{name} holds {len(models)} graphs in the folder models/; export one model of a usual size, with "
                "torch 2.8 or later (earlier ones write pickles)."
            )
        self.root = models[0].filename.partition("/models/")[0]
        self.model = Path(models[0].filename).stem
        self.graph_module = json.loads(archive.read(models[0]))["graph_module"]
        self.builder = Builder()
        self.values: dict[str, Any] = {}

    def module(self) -> fx.GraphModule:
        signature, graph = self.graph_module["signature"], self.graph_module["graph"]
        self._read_inputs(signature["input_specs"])
        for node in graph["nodes"]:
            self._add(node)
        outputs = signature["output_specs"]
        if len(outputs) != 1 or "user_output" not in outputs[0]:
            kinds = ", ".join(next(iter(output)) for output in outputs)
            raise WeightsError(
                f"{self.name} gives {kinds}; a classifier gives its logits alone. Export the model in eval mode: "
                "torch.export.export(model.eval(), …)."
            )
        return self.builder.finish(self.values[outputs[0]["user_output"]["arg"]["as_tensor"]["name"]])

    def _read_inputs(self, specs: list[dict[str, Any]]) -> None:
        tensors = {**self._tensors("weights"), **self._tensors("constants")}
        images = 0
        for spec in specs:
            ((kind, content),) = spec.items()
            if kind == "user_input":
                images += 1
                self.values[content["arg"]["as_tensor"]["name"]] = self.builder.images
            elif kind in ("parameter", "buffer", "tensor_constant"):
                self.values[content["arg"]["name"]] = self.builder.constant(tensors[content[f"{kind}_name"]]())
            else:
                raise WeightsError(f"{self.name} takes an input of kind {kind!r}; a classifier takes images alone.")
        if images != 1:
            raise WeightsError(f"{self.name} takes {images} inputs; a classifier takes one, the images.")

    def _tensors(self, folder: str) -> dict[str, Callable[[], Tensor]]:
        """How each named array of a folder is read."""
        index = f"{self.root}/data/{folder}/{self.model}_{folder}_config.json"
        config = json.loads(self.archive.read(index))["config"] if index in self.archive.namelist() else {}
        return {name: partial(self._tensor, name, folder, facts) for name, facts in config.items()}

    def _tensor(self, name: str, folder: str, facts: Mapping[str, Any]) -> Tensor:
        if facts["use_pickle"]:
            raise WeightsError(
                f"{self.name} holds {name!r} as a pickle, and pickles can run code when they are read, so it was not "
                "read. Export plain dense tensors."
            )
        meta = facts["tensor_meta"]
        size = [_whole(s["as_int"]) for s in meta["sizes"]]
        stride = [_whole(s["as_int"]) for s in meta["strides"]]
        offset = _whole(meta["storage_offset"]["as_int"])
        raw = self.archive.read(f"{self.root}/data/{folder}/{Path(facts['path_name']).name}")
        if not math.prod(size):
            return torch.empty(size)
        flat = torch.frombuffer(bytearray(raw), dtype=DTYPES[meta["dtype"]])
        reach = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
        if math.prod(size) > flat.numel() or reach >= flat.numel():
            raise WeightsError(f"{self.name}: {name!r} says it has shape {size}, its file has {flat.numel()} numbers.")
        return as_float32(torch.as_strided(flat, size, stride, offset).clone())

    def _add(self, node: Mapping[str, Any]) -> None:
        target = node["target"]
        if target in CHECKS:
            return
        args, kwargs = [], {}
        for given in node["inputs"]:
            value = self._argument(given["arg"])
            if given["name"] in ("train", "training") and value:
                raise WeightsError(
                    f"{self.name} applies {target[:80]!r} in training mode; export the model in eval mode: "
                    "torch.export.export(model.eval(), …)."
                )
            if given.get("kind") != 2:
                args.append(value)
            elif given["name"] not in IGNORED:
                kwargs[given["name"]] = value
        result = self._call(target, args, kwargs)
        self._bind(node["outputs"], result)
        if _operation(target)[1]:
            # What was changed in place is from now on the result, under its old name too.
            self.values[node["inputs"][0]["arg"]["as_tensor"]["name"]] = result

    def _call(self, target: str, args: list[Any], kwargs: dict[str, Any]) -> fx.Node:
        """Apply one operation, if it is in the tables."""
        if target in SCALAR_FUNCTIONS and not kwargs:
            return self.builder.call(SCALAR_FUNCTIONS[target], *args)
        operation, _ = _operation(target)
        if operation in FUNCTIONS and not kwargs:
            return self.builder.call(FUNCTIONS[operation], *REORDERED.get(operation, _as_given)(*args))
        if operation in FUNCTIONS or operation in ATEN:
            name, _, overload = operation.partition(".")
            function = getattr(getattr(torch.ops.aten, name), overload)
            if name in CREATORS:
                kwargs["device"] = self.builder.call(getattr, self.builder.images, "device")
            # Names of arguments get into the generated forward function: none but those of the operation itself.
            if kwargs.keys() <= {argument.name for argument in function._schema.arguments}:
                return self.builder.call(function, *args, **kwargs)
        raise WeightsError(
            f"{self.name} uses the operation {target[:80]!r}, which is not among those that programs may use "
            "(docs/submitting.md lists them). Export without it, or submit weights for an architecture."
        )

    def _bind(self, outputs: list[dict[str, Any]], result: fx.Node) -> None:
        if len(outputs) == 1 and "as_tensors" not in outputs[0]:
            self.values[self._output_name(outputs[0])] = result
            return
        names = [t["name"] for t in outputs[0]["as_tensors"]] if len(outputs) == 1 else map(self._output_name, outputs)
        for i, name in enumerate(names):
            self.values[name] = self.builder.call(operator.getitem, result, i)

    def _output_name(self, output: Mapping[str, Any]) -> str:
        ((kind, content),) = output.items()
        return str(content["name"] if kind == "as_tensor" else content["as_name"])

    def _argument(self, given: Mapping[str, Any]) -> Any:  # noqa: PLR0911 - a table
        """An argument of an operation: a value computed before, or a plain number."""
        ((kind, content),) = given.items()
        match kind:
            case "as_none":
                return None
            case "as_tensor":
                return self.values[content["name"]]
            case "as_tensors":
                return [self.values[t["name"]] for t in content]
            case "as_optional_tensor":
                return self._argument(content)
            case "as_optional_tensors":
                return [self._argument(t) for t in content]
            case "as_int" | "as_float" | "as_bool":
                return _number(content)
            case "as_ints" | "as_floats" | "as_bools":
                return [_number(n) for n in content]
            case "as_sym_int" | "as_sym_float" | "as_sym_bool":
                return self._symbolic(content)
            case "as_sym_ints" | "as_sym_floats":
                return [self._symbolic(s) for s in content]
            case "as_scalar_type":
                # Everything is evaluated in float32.
                return torch.float32 if DTYPES[content].is_floating_point else DTYPES[content]
            case "as_string":
                return _known_word(content)
            case "as_memory_format" | "as_layout" | "as_device":
                return None
        raise WeightsError(f"{self.name} gives an operation an argument of kind {kind!r}, which is not supported.")

    def _symbolic(self, given: Mapping[str, Any]) -> Any:
        ((kind, content),) = given.items()
        return self.values[content] if kind == "as_name" else _number(content)


def _operation(target: str) -> tuple[str, bool]:
    """The name of an ATEN operation that changes nothing in place, and whether the one asked for does."""
    name, dot, overload = target.removeprefix("torch.ops.aten.").partition(".")
    return name.removesuffix("_") + dot + overload, name.endswith("_")


def _as_given(*args: Any) -> tuple[Any, ...]:
    return args


IGNORED: Final = frozenset({"memory_format", "layout", "device", "pin_memory"})
"""Keyword arguments that do not change the values."""


def _known_word(word: Any) -> str:
    if word not in ("none", "tanh", "mean", "sum", "zeros", "floor", "trunc", "constant", "reflect", "replicate",
                    "same", "valid", "circular"):  # fmt: skip
        raise WeightsError(f"An operation has the argument {str(word)[:40]!r}, which is not supported.")
    return str(word)


def _number(value: Any) -> int | float | bool:
    if isinstance(value, bool | int | float):
        return value
    if value in ("Infinity", "-Infinity", "NaN"):
        return float(value)
    raise WeightsError(f"An operation has {str(value)[:40]!r} where a number should be.")


def _whole(value: Any) -> int:
    if isinstance(value, int) and 0 <= value < 2**40:
        return value
    raise WeightsError(f"An array has {str(value)[:40]!r} where a size should be.")
