"""Builds the module of one open archive."""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, fx

from models_zoo.errors import WeightsError, shown
from models_zoo.formats.builder import Builder, as_float32
from models_zoo.formats.pt2.aliases import Step, Values
from models_zoo.formats.pt2.tables import (
    ATEN,
    CHECKS,
    CREATORS,
    FUNCTIONS,
    IGNORED,
    MOST_PIECES,
    PIECES,
    REORDERED,
    SCALAR_FUNCTIONS,
    SCALAR_MODULES,
    WORDS,
    operation_of,
)
from models_zoo.formats.sizes import MAX_SIZE, Size

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


class Unknown:
    """A number that was not computed: it may feed a check, and nothing else."""

    def __init__(self, why: str) -> None:
        self.why = why


class Reader:
    """One open archive.

    Attributes:
        shape: What it says of its images, the batch first: None for any number.
    """

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
        self.signature, self.graph = self.graph_module["signature"], self.graph_module["graph"]
        outputs = self.signature["output_specs"]
        if len(outputs) != 1 or "user_output" not in outputs[0]:
            kinds = ", ".join(next(iter(output)) for output in outputs)
            raise WeightsError(
                f"{name} gives {kinds[:200]!r}; a classifier gives its logits alone, and changes neither its "
                "images nor itself. Export the model in eval mode: torch.export.export(model.eval(), …)."
            )
        self.arrays: dict[str, Tensor] = {}
        self.input = self._read_inputs()
        self.shape = self._declared_shape()

    def module(self, builder: Builder) -> fx.GraphModule:
        """The module of the program, read into ``builder``."""
        self.builder, self.values = builder, Values(builder)
        self.values.own(self.input, builder.images)
        for name, array in self.arrays.items():
            self.values.own(name, array)
        for node in self.graph["nodes"]:
            self._add(node)
        logits = self.values.read(self.signature["output_specs"][0]["user_output"]["arg"]["as_tensor"]["name"])
        if not isinstance(logits, fx.Node | Tensor):
            raise WeightsError(f"{self.name} gives a {type(logits).__name__}; a classifier gives its logits.")
        return builder.finish(logits)

    def _read_inputs(self) -> str:
        """Read the arrays; the name of the images."""
        tensors = {**self._tensors("weights"), **self._tensors("constants")}
        read: dict[str, Tensor] = {}
        images = []
        for spec in self.signature["input_specs"]:
            ((kind, content),) = spec.items()
            if kind == "user_input":
                images.append(str(content["arg"]["as_tensor"]["name"]))
            elif kind in ("parameter", "buffer", "tensor_constant"):
                stored = content[f"{kind}_name"]
                if stored not in read:
                    read[stored] = tensors[stored]()
                self.arrays[content["arg"]["name"]] = read[stored]
            else:
                raise WeightsError(
                    f"{self.name} takes an input of kind {kind[:80]!r}; a classifier takes images alone."
                )
        if len(images) != 1:
            raise WeightsError(f"{self.name} takes {len(images)} inputs; a classifier takes one, the images.")
        return images[0]

    def _declared_shape(self) -> list[int | None]:
        facts = self.graph["tensor_values"][self.input]
        sizes = [_whole(s["as_int"]) if "as_int" in s else None for s in facts["sizes"]]
        if not DTYPES[facts["dtype"]].is_floating_point:
            raise WeightsError(f"{self.name} takes {DTYPES[facts['dtype']]}; images are float32 numbers in [0, 1].")
        if any(size is None for size in sizes[1:]):
            raise WeightsError(
                f"{self.name} takes images of any height and width; export it for one size, with the batch alone left "
                "open: dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)."
            )
        return sizes

    def _tensors(self, folder: str) -> dict[str, Callable[[], Tensor]]:
        """How each named array of a folder is read."""
        index = f"{self.root}/data/{folder}/{self.model}_{folder}_config.json"
        config = json.loads(self.archive.read(index))["config"] if index in self.archive.namelist() else {}
        return {name: partial(self._tensor, name, folder, facts) for name, facts in config.items()}

    def _tensor(self, name: str, folder: str, facts: Mapping[str, Any]) -> Tensor:
        if facts["use_pickle"]:
            raise WeightsError(
                f"{self.name} holds {name[:80]!r} as a pickle, and pickles can run code when they are read, so it was "
                "not read. Export plain dense tensors."
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
            raise WeightsError(
                f"{self.name}: {name[:80]!r} says it has shape {size}, its file has {flat.numel()} numbers."
            )
        return as_float32(torch.as_strided(flat, size, stride, offset).clone())

    def _add(self, node: Mapping[str, Any]) -> None:
        target = node["target"]
        if target in CHECKS:
            return
        if target.startswith(SCALAR_MODULES):
            self._count(node)
            return
        operation, in_place = operation_of(target)
        try:
            self._apply(node, operation, in_place=in_place)
        except WeightsError as error:
            raise WeightsError(f"{self.name}: the operation {target[:80]!r} is not supported here: {error}") from error
        except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError, ArithmeticError) as error:
            raise WeightsError(
                f"{self.name}: the operation {target[:80]!r} cannot be computed: {shown(error)}"
            ) from error

    def _count(self, node: Mapping[str, Any]) -> None:
        """Arithmetic of sizes."""
        target = node["target"]
        args = [self._argument(given["arg"], checked=False) for given in node["inputs"]]
        result: Any
        try:
            if any(isinstance(a, Unknown) for a in args) or target not in SCALAR_FUNCTIONS:
                raise WeightsError(f"{self.name} computes sizes with {target[:80]!r}, which is not supported.")
            result = SCALAR_FUNCTIONS[target](*args)
            if isinstance(result, int) and abs(result) > MAX_SIZE:
                raise WeightsError(f"{self.name} computes a size beyond {MAX_SIZE}.")
        except (WeightsError, ArithmeticError) as error:
            result = Unknown(str(error))
        self.values.table[self._output_name(node["outputs"][0])] = result

    def _apply(self, node: Mapping[str, Any], operation: str, *, in_place: bool) -> None:
        args, kwargs = self._arguments(node)
        if operation == "sym_size.int":
            self.values.table[self._output_name(node["outputs"][0])] = self.builder.shape(args[0])[args[1]]
            return
        self._check(node, operation, args, kwargs)
        result = self._call(node["target"], operation, args, kwargs)
        source = self._first(node)
        if in_place:
            if source is None:
                raise WeightsError("it changes what is no tensor of the program.")
            self.values.change(source, result)
            for output in node["outputs"]:
                self.values.table[self._output_name(output)] = self.values.table[source]
            return
        again = partial(self._again, node["target"], operation, args[1:], kwargs)
        outputs = node["outputs"]
        if len(outputs) == 1 and "as_tensors" not in outputs[0]:
            self.values.note(self._output_name(outputs[0]), result, source, Step(operation, args[1:], again))
            return
        names = [t["name"] for t in outputs[0]["as_tensors"]] if len(outputs) == 1 else map(self._output_name, outputs)
        for i, name in enumerate(names):
            part = self.builder.call(SCALAR_FUNCTIONS["_operator.getitem"], result, i)
            self.values.note(name, part, source, Step(operation, args[1:], again, i))

    def _again(self, target: str, operation: str, args: list[Any], kwargs: dict[str, Any], value: Any) -> Any:
        return self._call(target, operation, [value, *args], dict(kwargs))

    def _first(self, node: Mapping[str, Any]) -> str | None:
        """The name of the first tensor that an operation is given."""
        arg = node["inputs"][0]["arg"] if node["inputs"] else {}
        return str(arg["as_tensor"]["name"]) if "as_tensor" in arg else None

    def _arguments(self, node: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for given in node["inputs"]:
            value = self._argument(given["arg"])
            if given.get("kind") != 2:
                args.append(value)
            elif given["name"] not in IGNORED:
                kwargs[given["name"]] = value
        return args, kwargs

    def _check(self, node: Mapping[str, Any], operation: str, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Refuse randomness, statistics of the batch, and more results than there can be use for."""
        named = {given["name"]: self._argument(given["arg"]) for given in node["inputs"]}
        if named.get("train") or named.get("training"):
            tensors = [a for a in [*args, *kwargs.values()] if isinstance(a, fx.Node | Tensor)]
            # A normalisation of weights, not of images: standardised convolutions are written like that.
            own = operation == "batch_norm.default" and all(isinstance(t, Tensor) for t in tensors)
            if not own or named.get("running_mean") is not None or named.get("running_var") is not None:
                raise WeightsError(
                    "it is in training mode; export the model in eval mode: torch.export.export(model.eval(), …)."
                )
        if named.get("dropout_p"):
            raise WeightsError("it drops out at random; export the model in eval mode.")
        if operation in PIECES:
            axis = named.get("dim", 0)
            size = self.builder.shape(args[0])[axis]
            share = named.get("split_size", 1) if operation == "split.Tensor" else 1
            count = named.get("chunks", size) if operation == "chunk.default" else size
            if isinstance(size, Size) or isinstance(share, Size) or count > MOST_PIECES * max(share, 1):
                raise WeightsError(f"it makes {count} tensors of one, or one for each image.")

    def _call(  # noqa: PLR0911, PLR0912 - a table
        self, target: str, operation: str, args: list[Any], kwargs: dict[str, Any]
    ) -> Any:
        """Apply one operation, if it is in the tables."""
        if operation not in FUNCTIONS and operation not in ATEN:
            raise WeightsError(
                f"{self.name} uses the operation {target[:80]!r}, which is not among those that programs may use "
                "(docs/submitting.md lists them). Export without it, or submit weights for an architecture."
            )
        build = self.builder
        match operation, args:
            case _, _ if kwargs:
                pass
            case "view.default" | "reshape.default" | "_unsafe_view.default", [x, sizes]:
                return build.reshape(x, sizes)
            case "reshape_as.default" | "view_as.default", [x, other]:
                return build.reshape(x, build.shape(other))
            case "expand.default" | "broadcast_to.default", [x, sizes]:
                return build.expand(x, sizes)
            case "expand_as.default", [x, other]:
                return build.expand(x, build.shape(other))
            case (("cat.default" | "concat.default" | "concatenate.default"), [tensors, *dim]):
                return build.concatenate(tensors, dim[0] if dim else 0)
            case "to.device", [x, _, dtype, *_]:
                return build.call(Tensor.to, x, dtype)
            case "squeeze.default" | "squeeze.dim" | "squeeze.dims", [x, *dims]:
                return self._squeezed(x, dims)
            case "flatten.using_ints", [x, 1] | [x, 1, -1]:
                return build.call(torch.flatten, x, 1)
        if operation in FUNCTIONS and not kwargs:
            args = list(REORDERED[operation](*args)) if operation in REORDERED else args
            return build.call(FUNCTIONS[operation], *args)
        name, _, overload = operation.partition(".")
        function = getattr(getattr(torch.ops.aten, name), overload)
        if name in CREATORS and _holds_size(args):
            kwargs["device"] = build.call(getattr, build.images, "device")
        # Names of arguments get into the generated forward function: none but those of the operation itself.
        if not kwargs.keys() <= {argument.name for argument in function._schema.arguments}:
            raise WeightsError(f"it has an argument {next(iter(kwargs))[:40]!r} that it does not know.")
        return build.call(function, *args, **kwargs)

    def _squeezed(self, x: Any, dims: list[Any]) -> Any:
        """Without axes of size 1; a batch of one image stays a batch."""
        shape = self.builder.shape(x)
        given = dims[0] if dims else list(range(len(shape)))
        axes = [axis % max(len(shape), 1) for axis in (given if isinstance(given, list) else [given])]
        return self.builder.call(torch.squeeze, x, tuple(a for a in axes if shape and shape[a] == 1))

    def _output_name(self, output: Mapping[str, Any]) -> str:
        ((kind, content),) = output.items()
        return str(content["name"] if kind == "as_tensor" else content["as_name"])

    def _argument(self, given: Mapping[str, Any], *, checked: bool = True) -> Any:
        """An argument of an operation: a value computed before, or a plain number.

        Raises:
            WeightsError: If it is neither, or a number that was not computed.
        """
        value = self._read(given)
        if checked and isinstance(value, list | tuple):
            for v in value:
                if isinstance(v, Unknown):
                    raise WeightsError(v.why)
        if checked and isinstance(value, Unknown):
            raise WeightsError(value.why)
        return value

    def _read(self, given: Mapping[str, Any]) -> Any:  # noqa: PLR0911 - a table
        ((kind, content),) = given.items()
        match kind:
            case "as_none":
                return None
            case "as_tensor":
                return self.values.read(content["name"])
            case "as_tensors":
                return [self.values.read(t["name"]) for t in content]
            case "as_optional_tensor":
                return self._read(content)
            case "as_optional_tensors":
                return [self._read(t) for t in content]
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
        raise WeightsError(f"{self.name} gives an operation an argument of kind {kind[:80]!r}, which is not supported.")

    def _symbolic(self, given: Mapping[str, Any]) -> Any:
        ((kind, content),) = given.items()
        return self.values.read(content) if kind == "as_name" else _number(content)


def _holds_size(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_holds_size, value))
    return isinstance(value, Size)


def _known_word(word: Any) -> str:
    if word not in WORDS and not (
        isinstance(word, str) and re.fullmatch(r"[a-zA-Z,.\-> ]{1,80}", word) and "->" in word
    ):
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
