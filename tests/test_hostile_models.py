"""Model files of an enemy: none executes, none writes outside, none stops the board.

Every exploit is a folder as it would be submitted. A payload, if it ran, would leave a file called `pwned`.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tomli_w
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from torch import nn

from benchmark.cli import run
from benchmark.workspace import Workspace
from models_zoo.architectures import build as build_architecture
from models_zoo.cards import card_table, parse_card
from models_zoo.errors import ZooError
from models_zoo.formats import load_program
from models_zoo.formats.weights import read_arrays
from models_zoo.loading import load_entry, preprocessing_of
from models_zoo.submission import stage

LINEAR = {"inputs": 64, "hidden": [], "outputs": 10}


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def card(folder: Path, file: str, *, form: str = "weights", **others: Any) -> dict[str, Any]:
    model: dict[str, Any] = {"form": form}
    if form == "weights":
        model |= {"architecture": "mlp", "arguments": LINEAR}
    table: dict[str, Any] = {
        "slug": "enemy",
        "title": "An enemy",
        "dataset": "digits",
        "model": model,
        "weights": [{"file": file}],
    }
    table |= others
    (folder / "model.toml").write_text(tomli_w.dumps(table), encoding="utf-8")
    return table


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {"1.weight": torch.randn(10, 64), "1.bias": torch.randn(10)}


def zip_of(path: Path, members: dict[str, bytes], *, compressed: bool = False) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


# Exploits: each fills a folder; `outside` is a folder that must stay as it is, with a secret in it.


def pickled_tensors(folder: Path, outside: Path) -> None:
    torch.save({"1.weight": Payload(outside / "pwned"), "1.bias": torch.zeros(10)}, folder / "w.pt")
    card(folder, "w.pt")


def plain_pickle(folder: Path, outside: Path) -> None:
    (folder / "w.pth").write_bytes(pickle.dumps(Payload(outside / "pwned")))
    card(folder, "w.pth")


def legacy_pickle(folder: Path, outside: Path) -> None:
    torch.save({"1.weight": Payload(outside / "pwned")}, folder / "w.pt", _use_new_zipfile_serialization=False)
    card(folder, "w.pt")


def legacy_tar(folder: Path, outside: Path) -> None:
    with tarfile.open(folder / "w.pt", "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors", "../../pwned"):
            content = pickle.dumps(Payload(outside / "pwned"))
            facts = tarfile.TarInfo(name)
            facts.size = len(content)
            archive.addfile(facts, io.BytesIO(content))
    card(folder, "w.pt")


def whole_module(folder: Path, outside: Path) -> None:
    torch.save(nn.Linear(64, 10), folder / "w.pt")
    card(folder, "w.pt")


def pickle_called_safetensors(folder: Path, outside: Path) -> None:
    (folder / "w.safetensors").write_bytes(pickle.dumps(Payload(outside / "pwned")))
    card(folder, "w.safetensors")


def objects_in_npz(folder: Path, outside: Path) -> None:
    np.savez(folder / "w.npz", w=np.array([Payload(outside / "pwned")], dtype=object))
    card(folder, "w.npz")


def joblib_like(folder: Path, outside: Path) -> None:
    (folder / "w.bin").write_bytes(pickle.dumps(Payload(outside / "pwned")))
    card(folder, "w.bin")


def zip_bomb(folder: Path, outside: Path) -> None:
    buffer = io.BytesIO()
    torch.save(state(), buffer)
    with zipfile.ZipFile(buffer) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    root = next(iter(members)).partition("/")[0]
    members[f"{root}/data/0"] = bytes(50_000_000)
    zip_of(folder / "w.pt", members, compressed=True)
    card(folder, "w.pt")


def header_of_ten_gigabytes(folder: Path, outside: Path) -> None:
    (folder / "w.safetensors").write_bytes(struct.pack("<Q", 10 << 30) + b"{}")
    card(folder, "w.safetensors")


def header_that_points_outside_the_file(folder: Path, outside: Path) -> None:
    header = json.dumps({"1.weight": {"dtype": "F32", "shape": [10, 64], "data_offsets": [0, 2560]}}).encode()
    (folder / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    card(folder, "w.safetensors")


def parent_path(folder: Path, outside: Path) -> None:
    save_file(state(), outside / "w.safetensors")
    card(folder, "../outside/w.safetensors")


def absolute_path(folder: Path, outside: Path) -> None:
    save_file(state(), outside / "w.safetensors")
    card(folder, str(outside / "w.safetensors"))


def symbolic_link(folder: Path, outside: Path) -> None:
    save_file(state(), outside / "w.safetensors")
    (folder / "w.safetensors").symlink_to(outside / "w.safetensors")
    card(folder, "w.safetensors")


def linked_card(folder: Path, outside: Path) -> None:
    save_file(state(), folder / "w.safetensors")
    card(outside, "w.safetensors")
    (folder / "model.toml").symlink_to(outside / "model.toml")


def pipe_for_a_file(folder: Path, outside: Path) -> None:
    os.mkfifo(folder / "w.safetensors")
    card(folder, "w.safetensors")


def folder_for_a_file(folder: Path, outside: Path) -> None:
    (folder / "w.safetensors").mkdir()
    card(folder, "w.safetensors")


def local_address(folder: Path, outside: Path) -> None:
    file = {"file": "w.safetensors", "urls": [f"file://{outside}/secret"], "size": 6, "sha256": "0" * 64}
    card(folder, "w.safetensors", weights=[file])


def address_of_a_service_of_this_machine(folder: Path, outside: Path) -> None:
    file = {"file": "w.safetensors", "urls": ["http://127.0.0.1:9/shutdown"], "size": 6, "sha256": "0" * 64}
    card(folder, "w.safetensors", weights=[file])


def slug_with_control_characters(folder: Path, outside: Path) -> None:
    save_file(state(), folder / "w.safetensors")
    card(folder, "w.safetensors", slug="enemy\x1b[2J\x07")


def slug_that_climbs(folder: Path, outside: Path) -> None:
    save_file(state(), folder / "w.safetensors")
    card(folder, "w.safetensors", slug="../outside/enemy")


def title_with_escapes(folder: Path, outside: Path) -> None:
    save_file(state(), folder / "w.safetensors")
    card(folder, "w.safetensors", title="\x1b]0;owned\x07")


def endless_nesting(folder: Path, outside: Path) -> None:
    (folder / "model.toml").write_text("a = " + "[" * 60_000, encoding="utf-8")


def terabytes_of_parameters(folder: Path, outside: Path) -> None:
    save_file(state(), folder / "w.safetensors")
    arguments = {"inputs": 64, "hidden": [2**40, 2**20], "outputs": 10}
    card(folder, "w.safetensors", model={"form": "weights", "architecture": "mlp", "arguments": arguments})


def architecture_that_is_a_path(folder: Path, outside: Path) -> None:
    save_file(state(), folder / "w.safetensors")
    model = {"form": "weights", "architecture": "../../outside/evil", "arguments": {}}
    card(folder, "w.safetensors", model=model)


def preprocessing_with_code(folder: Path, outside: Path) -> None:
    save_file(state(), folder / "w.safetensors")
    steps = [{"kind": "__import__('os').system('touch pwned')"}]
    card(folder, "w.safetensors", model={"form": "weights", "architecture": "mlp", "arguments": LINEAR,
                                         "preprocessing": steps})  # fmt: skip


def code_without_trust(folder: Path, outside: Path) -> None:
    (folder / "model.py").write_text(f"open({str(outside / 'pwned')!r}, 'w')\ndef make(folder): pass\n")
    card(folder, "model.py", model={"form": "code", "code": "model.py", "factory": "make"})


def code_that_trusts_itself(folder: Path, outside: Path) -> None:
    import hashlib

    code_without_trust(folder, outside)
    digest = hashlib.sha256((folder / "model.py").read_bytes()).hexdigest()
    model = {"form": "code", "code": "model.py", "factory": "make"}
    card(folder, "model.py", model=model, trusted=digest)


def factory_that_is_an_expression(folder: Path, outside: Path) -> None:
    (folder / "model.py").write_text("")
    card(folder, "model.py", model={"form": "code", "code": "model.py", "factory": "__import__('os').system('id')"})


def program(change: Callable[[dict[str, bytes], Path], None]) -> Callable[[Path, Path], None]:
    """A sound exported program, changed by an enemy."""

    def exploit(folder: Path, outside: Path) -> None:
        members = dict(PROGRAM)
        change(members, outside / "pwned")
        zip_of(folder / "m.pt2", members)
        card(folder, "m.pt2", form="pt2")

    return exploit


def _exported() -> dict[str, bytes]:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).requires_grad_(False)
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(model, (torch.rand(4, 1, 8, 8),), dynamic_shapes=shapes), buffer)
    with zipfile.ZipFile(buffer) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


PROGRAM = _exported()
GRAPH = next(name for name in PROGRAM if name.endswith("models/model.json"))
INDEX = next(name for name in PROGRAM if name.endswith("weights_config.json"))


def edit_json(members: dict[str, bytes], name: str, change: Callable[[Any], None]) -> None:
    content = json.loads(members[name])
    change(content)
    members[name] = json.dumps(content).encode()


def pickled_program_weights(members: dict[str, bytes], marker: Path) -> None:
    def change(index: Any) -> None:
        for facts in index["config"].values():
            facts["use_pickle"] = True

    edit_json(members, INDEX, change)
    for name in members:
        if "/weights/weight_" in name:
            members[name] = pickle.dumps(Payload(marker))


def program_that_calls(target: str) -> Callable[[dict[str, bytes], Path], None]:
    def change(members: dict[str, bytes], marker: Path) -> None:
        def rename(content: Any) -> None:
            content["graph_module"]["graph"]["nodes"][0]["target"] = target

        edit_json(members, GRAPH, rename)

    return change


def program_with_named_code(members: dict[str, bytes], marker: Path) -> None:
    """A keyword becomes part of generated code, if nobody looks."""

    def change(content: Any) -> None:
        node = content["graph_module"]["graph"]["nodes"][0]
        code = f"x=__import__('os').system('touch {marker}'), y"
        node["inputs"].append({"name": code, "arg": {"as_int": 1}, "kind": 2})

    edit_json(members, GRAPH, change)


def program_with_text_for_a_number(members: dict[str, bytes], marker: Path) -> None:
    def change(content: Any) -> None:
        code = f"__import__('os').system('touch {marker}')"
        content["graph_module"]["graph"]["nodes"][0]["inputs"].append(
            {"name": "end_dim", "arg": {"as_int": code}, "kind": 1}
        )

    edit_json(members, GRAPH, change)


def program_reading_elsewhere(members: dict[str, bytes], marker: Path) -> None:
    def change(index: Any) -> None:
        for facts in index["config"].values():
            facts["path_name"] = "../../../../etc/passwd"

    edit_json(members, INDEX, change)


def program_reading_past_its_weights(members: dict[str, bytes], marker: Path) -> None:
    def change(index: Any) -> None:
        for facts in index["config"].values():
            facts["tensor_meta"]["storage_offset"] = {"as_int": 2**39}

    edit_json(members, INDEX, change)


def program_with_negative_strides(members: dict[str, bytes], marker: Path) -> None:
    def change(index: Any) -> None:
        for facts in index["config"].values():
            facts["tensor_meta"]["strides"] = [{"as_int": -64}, {"as_int": 1}]

    edit_json(members, INDEX, change)


def program_nested_without_end(members: dict[str, bytes], marker: Path) -> None:
    members[GRAPH] = b"[" * 200_000


def two_programs_in_one(members: dict[str, bytes], marker: Path) -> None:
    members[GRAPH.replace("model.json", "other.json")] = members[GRAPH]


def program_bomb(folder: Path, outside: Path) -> None:
    members = dict(PROGRAM)
    members[GRAPH] = members[GRAPH] + b" " * 50_000_000
    zip_of(folder / "m.pt2", members, compressed=True)
    card(folder, "m.pt2", form="pt2")


def onnx_file(tensor: Callable[[Path], TensorProto]) -> Callable[[Path, Path], None]:
    def exploit(folder: Path, outside: Path) -> None:
        nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "w"], ["y"])]
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 8, 8])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])
        graph = helper.make_graph(nodes, "g", [x], [y], [tensor(outside)])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        (folder / "m.onnx").write_bytes(model.SerializeToString())
        card(folder, "m.onnx", form="onnx")

    return exploit


def external(location: Callable[[Path], str]) -> Callable[[Path], TensorProto]:
    def make(outside: Path) -> TensorProto:
        tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[64, 10])
        tensor.data_location = TensorProto.EXTERNAL
        np.zeros((64, 10), dtype=np.float32).tofile(outside / "w.bin")
        tensor.external_data.append(onnx.StringStringEntryProto(key="location", value=location(outside)))
        return tensor

    return make


def lying_tensor(outside: Path) -> TensorProto:
    return TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2**40, 2**20], raw_data=b"\0" * 16)


def text_tensor(outside: Path) -> TensorProto:
    return numpy_helper.from_array(np.array([b"x"] * 640, dtype=object).reshape(64, 10), "w")


EXPLOITS: list[Callable[[Path, Path], None]] = [
    pickled_tensors, plain_pickle, legacy_pickle, legacy_tar, whole_module, pickle_called_safetensors,
    objects_in_npz, joblib_like, zip_bomb, header_of_ten_gigabytes,
    header_that_points_outside_the_file, parent_path, absolute_path, symbolic_link, linked_card, pipe_for_a_file,
    folder_for_a_file, local_address, address_of_a_service_of_this_machine,
    slug_with_control_characters, slug_that_climbs, title_with_escapes,
    endless_nesting, terabytes_of_parameters, architecture_that_is_a_path, preprocessing_with_code, code_without_trust,
    code_that_trusts_itself, factory_that_is_an_expression, program_bomb,
]  # fmt: skip
CHANGES: dict[str, Callable[[Path, Path], None]] = {
    "pickled weights": program(pickled_program_weights),
    "os.system": program(program_that_calls("os.system")),
    "builtins": program(program_that_calls("builtins.eval")),
    "from_file": program(program_that_calls("torch.ops.aten.from_file.default")),
    "private operator": program(program_that_calls("_operator.attrgetter")),
    "dunder": program(program_that_calls("torch.ops.aten.__class__.__init__")),
    "keyword": program(program_with_named_code),
    "text for a number": program(program_with_text_for_a_number),
    "reading elsewhere": program(program_reading_elsewhere),
    "reading past the weights": program(program_reading_past_its_weights),
    "negative strides": program(program_with_negative_strides),
    "nested": program(program_nested_without_end),
    "two graphs": program(two_programs_in_one),
    "onnx external, absolute": onnx_file(external(lambda outside: str(outside / "w.bin"))),
    "onnx external, parent": onnx_file(external(lambda outside: "../outside/w.bin")),
    "onnx external, beside": onnx_file(external(lambda outside: "w.bin")),
    "onnx lying tensor": onnx_file(lying_tensor),
    "onnx text tensor": onnx_file(text_tensor),
}
ALL = [pytest.param(e, id=e.__name__) for e in EXPLOITS] + [pytest.param(e, id=n) for n, e in CHANGES.items()]


@pytest.fixture
def backend() -> str:
    """No exploit comes as far as the database, so one kind is enough."""
    return "sqlite"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "submitted"
    made.mkdir()
    return made


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    made = tmp_path / "outside"
    made.mkdir()
    (made / "secret").write_text("secret")
    return made


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("exploit", ALL)
def test_an_exploit_is_refused_with_a_sentence_and_leaves_no_trace(
    exploit: Callable[[Path, Path], None], folder: Path, outside: Path, tmp_path: Path
) -> None:
    exploit(folder, outside)
    before = snapshot(outside)
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(ZooError) as caught:
        load_entry(stage(folder, target))
    assert snapshot(outside) == before
    assert not list(tmp_path.rglob("*pwned*"))
    text = str(caught.value)
    assert text
    assert all(c.isprintable() or c == "\n" for c in text)
    assert len(text) < 2000


@pytest.mark.parametrize(
    "exploit", [pickled_tensors, slug_that_climbs, symbolic_link, zip_bomb, code_that_trusts_itself]
)
def test_the_board_goes_on_as_if_nothing_had_come(
    exploit: Callable[[Path, Path], None],
    folder: Path,
    outside: Path,
    workspace: Workspace,
    capsys: pytest.CaptureFixture[str],
) -> None:
    exploit(folder, outside)
    before = snapshot(workspace.models)
    assert run(["submit", "--workspace", str(workspace.root), str(folder)]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("Error: ")
    assert "Traceback" not in said.err + said.out
    assert snapshot(workspace.models) == before
    assert not list(workspace.root.rglob(".submitting*"))
    assert run(["list", "models", "--workspace", str(workspace.root)]) == 0


def test_the_sample_inputs_of_a_program_are_never_opened(folder: Path, outside: Path, tmp_path: Path) -> None:
    """torch.export.load unpickles them; here they are dead weight, and the program itself is sound."""

    def change(members: dict[str, bytes], marker: Path) -> None:
        name = next(name for name in members if "sample_inputs" in name)
        members[name] = pickle.dumps(Payload(marker))

        def symbols(content: Any) -> None:  # torch.export.load evaluates these as Python
            code = f"__import__('os').system('touch {marker}')"
            for value in content["graph_module"]["graph"]["sym_int_values"].values():
                value["as_expr"]["expr_str"] = code
            content["range_constraints"] = {code: {"min_val": 0, "max_val": 1}}
            content["guards_code"] = [code]

        edit_json(members, GRAPH, symbols)

    program(change)(folder, outside)
    target = tmp_path / "target"
    target.mkdir()
    module = load_entry(stage(folder, target))
    assert module(torch.rand(3, 1, 8, 8)).shape == (3, 10)
    assert not list(tmp_path.rglob("*pwned*"))


def test_a_program_that_asks_for_all_memory_is_refused(
    folder: Path, outside: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    class Greedy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)[:, :10] + torch.ones(2**33).sum()

    torch.export.save(torch.export.export(Greedy(), (torch.rand(4, 1, 8, 8),)), folder / "m.pt2")
    card(folder, "m.pt2", form="pt2")
    assert run(["submit", "--workspace", str(workspace.root), str(folder)]) == 1
    assert "would allocate 32768 MiB" in capsys.readouterr().err
    torch.ones(10)  # and the limit is lifted again


def test_a_title_may_hold_markup_which_stays_text(
    folder: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file(state(), folder / "w.safetensors")
    card(folder, "w.safetensors", title="<script>alert(1)</script>")
    assert run(["submit", "--workspace", str(workspace.root), str(folder)]) == 0
    assert "<script>alert(1)</script>" in (workspace.models / "enemy" / "model.toml").read_text()
    capsys.readouterr()
    assert run(["list", "models", "--workspace", str(workspace.root), "--json"]) == 0
    titles = [row["title"] for row in json.loads(capsys.readouterr().out)]
    assert "<script>alert(1)</script>" in titles


def test_only_what_the_card_names_is_copied(folder: Path, tmp_path: Path) -> None:
    save_file(state(), folder / "w.safetensors")
    (folder / "surplus.py").write_text("evil")
    (folder / ".hidden").write_text("evil")
    card(folder, "w.safetensors")
    target = tmp_path / "target"
    target.mkdir()
    stage(folder, target)
    assert sorted(p.name for p in target.iterdir()) == ["model.toml", "w.safetensors"]


def test_the_payload_is_a_working_one(folder: Path, outside: Path) -> None:
    """Otherwise the tests above would prove nothing."""
    pickled_tensors(folder, outside)
    torch.load(folder / "w.pt", weights_only=False)
    assert (outside / "pwned").exists()


# Beyond the known exploits: whatever is changed in a sound submission, the answer is a sentence or a model.

NUMBERS = st.integers() | st.floats() | st.booleans()
VALUES = st.recursive(
    st.none() | NUMBERS | st.text(max_size=20) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, *, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values inside a nested value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in inner for found in places(item, path=(*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy of a nested value with what is at ``path`` replaced."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(copy[path[0]], path[1:], new)
    return copy


SOUND = {
    "slug": "mine",
    "title": "Mine",
    "authors": ["Me"],
    "year": 2026,
    "dataset": "digits",
    "model": {
        "form": "weights",
        "architecture": "mlp",
        "arguments": {"inputs": 64, "hidden": [4], "outputs": 10, "dropout": 0.5},
        "preprocessing": [{"kind": "normalise", "mean": [0.5], "std": [0.5]}, {"kind": "bit_depth", "bits": 3}],
    },
    "training": {"norm": "linf", "eps": 0.1, "extra_data": False},
    "claims": [{"name": "clean_accuracy", "value": 0.9, "norm": "l2", "eps": 1.0}],
    "weights": [{"file": "w.pt", "size": 5, "sha256": "0" * 64, "layout": {"1.weight": {"array": "w", "steps": []}}}],
}


@settings(max_examples=300, derandomize=True, deadline=None)
@given(path=st.sampled_from(places(SOUND)), value=VALUES)
def test_any_value_in_any_field_of_a_card_is_taken_or_refused(path: tuple[Any, ...], value: Any) -> None:
    with suppress(ZooError):
        entry = parse_card(replaced(SOUND, path, value), folder=Path("/nowhere"))
        assert len(entry.digest) == 64
        tomli_w.dumps(card_table(entry))
        with torch.device("meta"):
            build_architecture(entry.architecture, entry.arguments)
        preprocessing_of(entry)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(data=st.data())
def test_any_value_in_any_place_of_a_program_is_taken_or_refused(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([GRAPH, INDEX]))
    content = json.loads(PROGRAM[name])
    path = data.draw(st.sampled_from(places(content)))
    changed = json.dumps(replaced(content, path, data.draw(VALUES)), default=str).encode()
    with tempfile.TemporaryDirectory() as home:
        zip_of(Path(home) / "m.pt2", PROGRAM | {name: changed})
        try:
            module = load_program(Path(home) / "m.pt2", "m.pt2")
        except ZooError:
            return
        assert isinstance(module, nn.Module)


def _sound_files() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        save_file(state(), folder / "w.safetensors")
        torch.save(state(), folder / "w.pt")
        torch.save(state(), folder / "old.pt", _use_new_zipfile_serialization=False)
        zip_of(folder / "m.pt2", PROGRAM)
        onnx_file(lambda _: numpy_helper.from_array(np.ones((64, 10), dtype=np.float32), "w"))(folder, folder)
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".toml"}


FILES = _sound_files()


@settings(max_examples=200, derandomize=True, deadline=None)
@given(data=st.data())
def test_any_bytes_changed_in_any_file_are_read_or_refused(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(FILES)))
    content = bytearray(FILES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        # Headers are where the lies are: half of the changes go there.
        at = data.draw(st.integers(0, min(200, len(content) - 1)) | st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / name
        path.write_bytes(content)
        with suppress(ZooError):
            if path.suffix in (".pt2", ".onnx"):
                load_program(path, name)
            else:
                read_arrays(path, name)
