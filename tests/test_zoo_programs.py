"""Programs without code: what the readers build computes what the program says, and has its gradients."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn
from torch.nn import functional

from models_zoo import load_model
from models_zoo.errors import WeightsError, ZooError
from models_zoo.formats import load_program


class Residual(nn.Module):
    """In-place activations, a reused layer, buffers, shapes taken from the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout()
        self.last = nn.Linear(16, 10)
        self.register_buffer("mean", torch.tensor([0.5]))

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / 0.25
        h = self.norm(self.first(x))
        self.relu(h)  # in place: from here on h is the result
        h = h + self.norm(self.first(x))
        h = functional.max_pool2d(self.relu(h), 2)
        h = functional.adaptive_avg_pool2d(self.drop(h), (2, 2))
        return self.last(functional.leaky_relu(h.view(h.size(0), -1) * torch.tensor(2.0)))


class Attention(nn.Module):
    """A transformer's operations."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.project = nn.Linear(8, 12), nn.Linear(12, 36)
        self.norm, self.head = nn.LayerNorm(12), nn.Linear(12, 10)
        self.token = nn.Parameter(torch.ones(1, 1, 12))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.cat([self.token.expand(x.shape[0], -1, -1), functional.gelu(self.embed(x.squeeze(1)))], dim=1)
        q, k, v = self.project(self.norm(h)).unflatten(-1, (3, 2, 6)).permute(2, 0, 3, 1, 4).unbind(0)
        h = h + functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head(h[:, 0]) * torch.arange(1, 11).to(x.dtype)


def build(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    model = kind()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.uniform_(0.5, 1.5)
    return model.eval().requires_grad_(False)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "residual": lambda: build(Residual),
    "attention": lambda: build(Attention),
    "convolutions": lambda: load_model("digits-conv"),
    "softplus": lambda: load_model("digits-softplus"),
}


def export(model: nn.Module, path: Path) -> Path:
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    torch.export.save(torch.export.export(model, (torch.rand(4, 1, 8, 8),), dynamic_shapes=shapes), path)
    return path


@pytest.mark.parametrize("name", MODELS)
def test_an_exported_program_computes_what_the_model_does_with_its_gradients(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    path = export(model, tmp_path / "m.pt2")
    program = load_program(path, path.name)
    x = torch.rand(7, 1, 8, 8, requires_grad=True)
    torch.testing.assert_close(program(x), model(x))
    weights = torch.randn(7, 10)
    (expected,) = torch.autograd.grad((model(x) * weights).sum(), x)
    (found,) = torch.autograd.grad((program(x) * weights).sum(), x)
    torch.testing.assert_close(found, expected)


class Halves(nn.Module):
    """A change in place of part of a copy."""

    def forward(self, x: Tensor) -> Tensor:
        h = x.clone()
        h[:, 0].sub_(0.5).div_(0.25)
        return h.flatten(1)


class Masked(nn.Module):
    """A class that is never predicted."""

    def forward(self, x: Tensor) -> Tensor:
        out = x.flatten(1).clone()
        out[:, 9] = -1e9
        return out


class Rectified(nn.Module):
    """The same tensor under two names."""

    def forward(self, x: Tensor) -> Tensor:
        h = x - 0.5
        r = functional.relu_(h)
        return (h + r).flatten(1)


class Seen(nn.Module):
    """Views of views, changed one after the other."""

    def forward(self, x: Tensor) -> Tensor:
        h = x * 2
        a, b = h.chunk(2, 2)
        a.mul_(3)
        rows = h.flatten(1)
        rows.clamp_(0, 1.5)
        h.transpose(2, 3)[:, :, 3].zero_()
        h.permute(0, 2, 3, 1)[..., 0].add_(1)
        parts = h.split([3, 5], 3)
        parts[1].copy_(parts[1] * b.sum((2, 3), keepdim=True))
        h.unbind(2)[4].neg_()
        return rows + h.permute(0, 1, 3, 2).flatten(1)


class Copied(nn.Module):
    """Part of a tensor copied to another part, by slices and by indices."""

    def forward(self, x: Tensor) -> Tensor:
        h = x + 0
        h[:, :, 1:3, ::2] = h[:, :, 5:7, ::2] * 2
        h[:, torch.tensor([0])] *= 0.5
        h[:, 0].masked_fill_(x[:, 0] > 0.5, 2.0)
        return h.flatten(1)


class Own(nn.Module):
    """The images themselves, changed in place."""

    def forward(self, x: Tensor) -> Tensor:
        x.sub_(0.5)
        return x.flatten(1)


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("kind", [Halves, Masked, Rectified, Seen, Copied, Own])
def test_a_change_in_place_is_seen_by_all_that_share_the_memory(
    kind: type[nn.Module], dynamic: bool, tmp_path: Path
) -> None:
    shapes = ({0: torch.export.Dim.DYNAMIC},) if dynamic else None
    torch.export.save(torch.export.export(kind(), (torch.rand(3, 1, 8, 8),), dynamic_shapes=shapes), tmp_path / "m.pt2")
    x = torch.rand(5, 1, 8, 8)
    expected, before = kind()(x.clone()), x.clone()
    torch.testing.assert_close(load_program(tmp_path / "m.pt2", "m.pt2")(x), expected)
    torch.testing.assert_close(x, before)


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", ["residual", "attention"])
def test_a_program_of_one_batch_size_takes_any(name: str, batch: int, suffix: str, tmp_path: Path) -> None:
    model, path, x = MODELS[name](), tmp_path / f"m{suffix}", torch.rand(batch, 1, 8, 8)
    if suffix == ".pt2":
        torch.export.save(torch.export.export(model, (x,)), path)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(model, (x,), str(path), opset_version=17, dynamo=False)
    program = load_program(path, path.name)
    for n in (1, 3, 9):
        x = torch.rand(n, 1, 8, 8)
        torch.testing.assert_close(program(x), model(x), rtol=1e-4, atol=1e-4)


def test_a_squeeze_leaves_a_batch_of_one_image(tmp_path: Path) -> None:
    class Squeezed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3), keepdim=True).squeeze() * torch.ones(3)

    shapes = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(Squeezed(), (torch.rand(4, 3, 8, 8),), dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "m.pt2")
    assert load_program(tmp_path / "m.pt2", "m.pt2")(torch.rand(1, 3, 8, 8)).shape == (1, 3)


def test_what_mixes_the_batch_is_run_as_it_was_exported(tmp_path: Path) -> None:
    class Centred(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) - x.flatten(1).mean(0, keepdim=True)

    torch.export.save(torch.export.export(Centred(), (torch.rand(4, 1, 8, 8),)), tmp_path / "m.pt2")
    x = torch.rand(8, 1, 8, 8)
    found = load_program(tmp_path / "m.pt2", "m.pt2")(x)
    torch.testing.assert_close(found, torch.cat([Centred()(x[:4]), Centred()(x[4:])]))


def test_a_flattening_by_the_batch_size_is_open_to_tracing(tmp_path: Path) -> None:
    """Shape, Gather, Concat and Reshape become a flattening, as in the program's .pt2 twin."""
    nodes, arrays = GRAPHS["shapes"]
    onnx.save(onnx_model(nodes, arrays), tmp_path / "m.onnx")
    program = load_program(tmp_path / "m.onnx", "m.onnx")
    assert [node.target for node in program.graph.nodes if node.op == "call_function"] == [torch.flatten]


def test_a_program_exported_in_training_mode_is_refused(tmp_path: Path) -> None:
    path = export(build(Residual).train(), tmp_path / "m.pt2")
    with pytest.raises(WeightsError, match="eval mode"):
        load_program(path, path.name)


def test_an_operation_outside_the_table_is_refused_by_name(tmp_path: Path) -> None:
    class Random(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.rand_like(x).flatten(1)[:, :10]

    path = export(Random(), tmp_path / "m.pt2")
    with pytest.raises(WeightsError, match=r"torch\.ops\.aten\.rand_like\.default"):
        load_program(path, path.name)


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), b"\x08\x07garbage" * 50])
def test_a_file_that_is_none_is_a_clear_error(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"m{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"m{suffix}"):
        load_program(path, path.name)


def test_a_truncated_program_is_a_clear_error(tmp_path: Path) -> None:
    path = export(load_model("digits-16-16"), tmp_path / "m.pt2")
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(WeightsError, match="truncated"):
        load_program(path, path.name)


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"\.pt2 .* or \.onnx"):
        load_program(tmp_path / "m.pt", "m.pt")


# ONNX: graphs written operator by operator, held against the reference implementation of the standard.

R = np.random.default_rng(0)


def arr(*shape: int) -> np.ndarray:
    return R.normal(size=shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


GRAPHS: dict[str, tuple[list[tuple], dict[str, np.ndarray]]] = {
    "conv asymmetric": (
        [("Conv", "x k b", "y", {"pads": [0, 1, 2, 1], "strides": [2, 1], "dilations": [1, 2], "group": 1})],
        {"k": arr(3, 2, 3, 3), "b": arr(3)},
    ),
    "conv grouped": ([("Conv", "x k", "y", {"group": 2})], {"k": arr(4, 1, 2, 2)}),
    "max pool": ([("MaxPool", "x", "y", {"kernel_shape": [3, 2], "pads": [1, 0, 0, 1], "strides": [2, 1]})], {}),
    "average pool": ([("AveragePool", "x", "y", {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1]})], {}),
    "average pool counting": (
        [("AveragePool", "x", "y", {"kernel_shape": [2, 2], "pads": [1, 0, 0, 1], "count_include_pad": 1})], {},
    ),
    "batch normalisation": (
        [("BatchNormalization", "x s b m v", "y", {"epsilon": 1e-3})],
        {"s": arr(2), "b": arr(2), "m": arr(2), "v": abs(arr(2))},
    ),
    "global pools": ([("GlobalAveragePool", "x", "a"), ("GlobalMaxPool", "x", "b"), ("Sub", "a b", "y")], {}),
    "gemm": (
        [("Flatten", "x", "f"), ("Gemm", "f w b", "y", {"transB": 1})], {"w": arr(5, 48), "b": arr(5)},
    ),
    "gemm untransposed": ([("Flatten", "x", "f"), ("Gemm", "f w", "y")], {"w": arr(48, 5)}),
    "matmul": ([("MatMul", "x w", "y")], {"w": arr(6, 3)}),
    "shapes": (
        [
            ("Shape", "x", "s"), ("Gather", "s zero", "n"), ("Unsqueeze", "n axis", "u"), ("Concat", "u rest", "t",
             {"axis": 0}), ("Reshape", "x t", "y"),
        ],
        {"zero": np.array(0), "axis": ints(0), "rest": ints(-1)},
    ),
    "reshape keeping": ([("Reshape", "x t", "y")], {"t": ints(0, -1, 3)}),
    "elementwise": (
        [("Relu", "x", "a"), ("Sigmoid", "x", "b"), ("Mul", "a b", "c"), ("Tanh", "c", "d"), ("Exp", "d", "e"),
         ("Softplus", "e", "f"), ("LeakyRelu", "x", "g", {"alpha": 0.2}), ("Add", "f g", "h"), ("Elu", "h", "i"),
         ("Clip", "i lo hi", "j"), ("Abs", "j", "k"), ("Sqrt", "k", "l"), ("Div", "l two", "m"), ("Pow", "m two", "n"),
         ("Max", "n x", "o"), ("Min", "o two", "p"), ("Erf", "p", "q"), ("PRelu", "q slope", "r"), ("Neg", "r", "y")],
        {"lo": np.float32(-1), "hi": np.float32(1), "two": np.float32(2), "slope": arr(2, 1, 1)},
    ),
    "where": ([("Greater", "x c", "g"), ("Where", "g x c", "y")], {"c": np.float32(0.2)}),
    "normalised": ([("LayerNormalization", "x s b", "y", {"axis": -1})], {"s": arr(6), "b": arr(6)}),
    "reductions": (
        [("ReduceMean", "x ax", "a"), ("ReduceSum", "x ax", "b", {"keepdims": 1}), ("Add", "a b", "y")],
        {"ax": ints(2, 3)},
    ),
    "slices": (
        [("Slice", "x st en ax", "a"), ("Transpose", "a", "b", {"perm": [0, 2, 3, 1]}), ("Pad", "x pads", "p"),
         ("Squeeze", "b last", "y")],
        {"st": ints(1, 0), "en": ints(2, 3), "ax": ints(1, 2), "pads": ints(0, 0, 1, 2, 0, 0, 0, 1), "last": ints(3)},
    ),
    "padding": ([("Pad", "x pads v", "y")], {"pads": ints(0, 0, 1, 2, 0, 0, 0, 1), "v": np.float32(3)}),
    "softmax": ([("Softmax", "x", "a", {"axis": 1}), ("LogSoftmax", "a", "y")], {}),
    "constant": ([("Constant", "", "c", {"value": numpy_helper.from_array(arr(2, 1, 1))}), ("Add", "x c", "d"),
                  ("Cast", "d", "e", {"to": 1}), ("Identity", "e", "f"), ("Dropout", "f", "y")], {}),
}  # fmt: skip


def onnx_model(nodes: list[tuple], arrays: dict[str, np.ndarray], *, output: str = "y") -> onnx.ModelProto:
    made = [
        helper.make_node(node[0], node[1].split(), [node[2]], **(node[3] if len(node) > 3 else {})) for node in nodes
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 4, 6])
    y = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    initial = [numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()]
    graph = helper.make_graph(made, "g", [x], [y], initial)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


@pytest.mark.parametrize("name", GRAPHS)
def test_onnx_operators_compute_what_the_standard_says(name: str, tmp_path: Path) -> None:
    model = onnx_model(*GRAPHS[name])
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    program = load_program(path, path.name)
    for n in (1, 3):
        x = arr(n, 2, 4, 6)
        (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
        leaf = torch.from_numpy(x).requires_grad_()
        found = program(leaf)
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=2e-5, atol=2e-5)
        (gradient,) = torch.autograd.grad(found.sum(), leaf)
        assert gradient.isfinite().all()


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([("Conv", "x k", "y", {"auto_pad": "SOMETIMES"})], "auto_pad"),
        ([("Conv", "x k", "y", {"kernel_shape": [3, 3]})], "kernel_shape"),
        ([("Relu", "x", "y", {"alpha": 2.0})], "Relu.* alpha is 2.0"),
        ([("Relu", "x k", "y")], "Relu.* input 1"),
        ([("If", "x", "y")], "operator 'If'"),
        ([("RandomNormalLike", "x", "y")], "operator 'RandomNormalLike'"),
        ([("BatchNormalization", "x k k k k", "y", {"training_mode": 1})], "training mode"),
        ([("Resize", "x", "y", {"antialias": 1})], "antialias is 1"),
        ([("Cast", "x", "y", {"to": 16})], "BFLOAT16"),
        ([("Unsqueeze", "x x", "y")], "must be known when the file is read"),
    ],
)
def test_onnx_settings_that_are_not_supported_are_named(tmp_path: Path, nodes: list[tuple], message: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx_model(nodes, {"k": arr(2, 2, 1, 1)}).SerializeToString())
    with pytest.raises(WeightsError, match=message):
        load_program(path, path.name)


def test_without_the_optional_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ZooError, match=r"pip install 'curveboard\[onnx\]'"):
        load_program(tmp_path / "m.onnx", "m.onnx")
