"""JAX functions and ``.keras`` files on a board: the distances of the torch model, and nothing of an enemy's runs."""

from __future__ import annotations

import io
import json
import marshal
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import boards
import numpy as np
import pytest
import tomli_w
import torch
from safetensors.torch import save_file
from torch import nn
from twins import cnn, keras_cnn, mlp

import benchmark
from benchmark.certificates import certificate
from benchmark.cli import run
from benchmark.data import get_dataset
from benchmark.errors import UnsupportedModelError
from benchmark.workspace import Workspace
from models_zoo.cards import Entry
from models_zoo.errors import WeightsError, ZooError
from models_zoo.loading import load_entry
from models_zoo.serving.builders import refuse_unsound_weights
from models_zoo.submission import stage

os.environ.setdefault("KERAS_BACKEND", "torch")

# Keras converts tensors in a way that NumPy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

APPLY = """
import jax


def apply(parameters, x):
    hidden = jax.nn.relu(x.reshape(x.shape[0], -1) @ parameters["1.weight"].T + parameters["1.bias"])
    return hidden @ parameters["3.weight"].T + parameters["3.bias"]
"""


def card(folder: Path, slug: str, files: list[str], **model: Any) -> Path:
    folder.mkdir(exist_ok=True)
    table = {"slug": slug, "title": slug, "dataset": "digits", "model": model, "weights": [{"file": f} for f in files]}
    (folder / "model.toml").write_text(tomli_w.dumps(table), encoding="utf-8")
    return folder


def torch_folder(folder: Path, model: nn.Module) -> Path:
    """The same model as a program, for comparison."""
    card(folder, "in-torch", ["model.pt2"], form="pt2")
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(model, (torch.rand(4, 1, 8, 8),), dynamic_shapes=shapes)
    torch.export.save(program, folder / "model.pt2")
    return folder


def jax_folder(folder: Path, model: nn.Module, code: str = APPLY) -> Path:
    card(folder, "in-jax", ["parameters.safetensors"], form="jax", code="model.py", factory="apply")
    save_file(dict(model.state_dict()), folder / "parameters.safetensors")
    (folder / "model.py").write_text(code)
    return folder


def keras_folder(folder: Path, model: Any) -> Path:
    card(folder, "in-keras", ["model.keras"], form="keras")
    model.save(folder / "model.keras")
    return folder


def evaluated(board: Workspace, folder: Path, slug: str, *options: str) -> dict[str, np.ndarray]:
    """Submit, evaluate and verify from the command line; the distances that the board has then."""
    at = ("-w", str(board.root))
    assert run(["submit", str(folder), *at, *options]) == 0
    assert boards.evaluate(board, [slug], n=12) == 0
    assert run(["verify", slug, *at]) == 0
    return {norm: boards.board_ledger(board, slug, norm, n=12).distances for norm in ("linf", "l2")}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("form", ["jax", "keras"])
def test_from_the_command_line_its_distances_are_those_of_the_torch_model(
    form: str, board: Workspace, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    framework, model = request.getfixturevalue(form), mlp() if form == "jax" else cnn()
    there = (
        jax_folder(tmp_path / "there", model)
        if form == "jax"
        else keras_folder(tmp_path / "there", keras_cnn(framework, model))
    )
    trust = ["--trust-code"] if form == "jax" else []
    found = evaluated(board, there, f"in-{form}", *trust)
    expected = evaluated(board, torch_folder(tmp_path / "here", model), "in-torch")
    for norm, distances in expected.items():
        assert ((distances > 0) & np.isfinite(distances)).sum() >= 6
        np.testing.assert_allclose(found[norm], distances, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("form", ["jax", "keras"])
def test_attacks_find_the_same_and_certificates_do_not_apply(
    form: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    framework, model = request.getfixturevalue(form), mlp() if form == "jax" else cnn()
    source, target = tmp_path / "source", tmp_path / "target"
    target.mkdir()
    if form == "jax":
        jax_folder(source, model)
    else:
        keras_folder(source, keras_cnn(framework, model))
    served = load_entry(stage(source, target, trust_code=True))
    x, y = get_dataset("digits").batch(0, 4)
    here, there = (benchmark.robustness_curve(m, x, y, norm="linf", effort="quick") for m in (model, served))
    assert (here.distances > 0).sum() >= 3
    np.testing.assert_allclose(there.distances, here.distances, atol=1e-4, rtol=1e-4)
    with pytest.raises(UnsupportedModelError, match="PyTorch operations"):
        certificate(served, x, y, norm="l2")
    assert served.n_parameters == sum(p.numel() for p in model.parameters())


def test_code_of_a_jax_function_waits_for_trust(
    jax: ModuleType, board: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "pwned"
    folder = jax_folder(tmp_path / "net", mlp(), f"open({str(marker)!r}, 'w')\n{APPLY}")
    assert run(["submit", str(folder), "-w", str(board.root)]) == 1
    assert "nobody here has said to trust" in capsys.readouterr().err
    assert not marker.exists()


def test_scaffolds_work_as_they_are(jax: ModuleType, keras: ModuleType, board: Workspace, tmp_path: Path) -> None:
    at = ("-w", str(board.root))
    for form, trust in (("jax", ["--trust-code"]), ("keras", [])):
        home = tmp_path / form
        assert run(["submit", "--init", "--form", form, str(home), *at]) == 0
        if form == "jax":
            save_file({"kernel": torch.randn(64, 10), "bias": torch.zeros(10)}, home / "parameters.safetensors")
        else:
            keras_cnn(keras, cnn()).save(home / "model.keras")
        assert run(["submit", "--dry-run", str(home), *trust, *at]) == 0


SERVE = """
import sys
from pathlib import Path
from models_zoo.loading import load_entry
from models_zoo.submission import stage
model = load_entry(stage(Path(sys.argv[1]), Path(sys.argv[2])))
import torch
assert model(torch.rand(2, 1, 8, 8)).shape == (2, 10)
assert not {"keras", "tensorflow", "jax"} & set(sys.modules)
"""


def test_no_framework_is_loaded_where_it_is_not_served(keras: ModuleType, tmp_path: Path) -> None:
    """Keras would start TensorFlow, which need not be there, wherever nobody has named a backend."""
    (tmp_path / "target").mkdir()
    source = keras_folder(tmp_path / "source", keras_cnn(keras, cnn()))
    place = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    place["PYTHONPATH"] = str(Path(__file__).parent.parent)
    command = [sys.executable, "-c", SERVE, str(source), str(tmp_path / "target")]
    done = subprocess.run(command, env=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_card_names_the_backend(keras: ModuleType, tmp_path: Path) -> None:
    source = keras_folder(tmp_path / "source", keras_cnn(keras, cnn()))
    for at, (arguments, match) in enumerate(
        [
            ({"backend": "numpy"}, "backend is 'numpy'; Keras runs on one of torch, jax, tensorflow"),
            ({"backend": 3}, "backend is 3"),
            ({"channels_last": "yes"}, "it has channels_last .* and backend, and nothing else"),
        ]
    ):
        card(source, "in-keras", ["model.keras"], form="keras", arguments=arguments)
        (tmp_path / str(at)).mkdir()
        with pytest.raises(ZooError, match=match):
            load_entry(stage(source, tmp_path / str(at)))


# Hostile files -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def members(keras: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("keras") / "sound.keras"
    keras_cnn(keras, cnn()).save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def layer(module: str | None, kind: str, config: Any, registered: str | None = None) -> Callable[[Any], None]:
    """Puts a layer of an enemy's at the end of the model."""

    def change(configuration: Any) -> None:
        configuration["config"]["layers"].append(
            {"module": module, "class_name": kind, "config": config, "registered_name": registered}
        )

    return change


def marshalled(marker: Path) -> str:
    import base64

    code = compile(f"lambda x: open({str(marker)!r}, 'w')", "enemy", "eval").co_consts[0]
    return base64.b64encode(marshal.dumps(code)).decode()


def activation(value: Any) -> Callable[[Any], None]:
    def change(configuration: Any) -> None:
        configuration["config"]["layers"][1]["config"]["activation"] = value

    return change


def _lambda(marker: Path) -> Callable[[Any], None]:
    body = {"class_name": "__lambda__", "config": {"value": marshalled(marker), "defaults": None, "closure": None}}
    return layer("keras.layers", "Lambda", {"name": "l", "function": body})


CONFIGURATIONS: dict[str, Callable[[Path], Callable[[Any], None]]] = {
    "a lambda layer": _lambda,
    "a lambda as activation": lambda marker: activation(
        {"class_name": "__lambda__", "config": {"value": marshalled(marker)}}
    ),
    "os.system": lambda marker: layer("os", "system", f"touch {marker}"),
    "a function of builtins": lambda marker: activation(
        {"module": "builtins", "class_name": "function", "config": "eval", "registered_name": "function"}
    ),
    "a function of Keras that writes": lambda marker: activation(
        {"module": "keras.utils", "class_name": "function", "config": "get_file", "registered_name": "get_file"}
    ),
    "switching the safe mode off": lambda marker: layer("keras.config", "enable_unsafe_deserialization", {}),
    "a pickled torch module": lambda marker: layer("keras.layers", "TorchModuleWrapper", {"module": "gASV"}),
    "a SavedModel": lambda marker: layer("keras.layers", "TFSMLayer", {"filepath": "/"}),
    "a vocabulary in a file": lambda marker: layer("keras.layers", "StringLookup", {"vocabulary": "/etc/passwd"}),
    "a custom class": lambda marker: layer("__main__", "Mine", {}, "my_package>Mine"),
    "a custom class called Dense": lambda marker: layer("keras.layers", "Dense", {"units": 10}, "my_package>Dense"),
    "a class without a module": lambda marker: layer(None, "Lambda", {}),
    "a name that is none": lambda marker: layer("keras.layers", ["Lambda"], {}),  # type: ignore[arg-type]
}


def refused(tmp_path: Path, content: dict[str, bytes], match: str, *, compressed: bool = False) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    target.mkdir()
    card(source, "enemy", ["model.keras"], form="keras")
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(source / "model.keras", "w", kind) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    with pytest.raises(ZooError, match=match) as error:
        load_entry(stage(source, target, trust_code=True))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_configuration_with_code_is_refused_before_keras_sees_it(
    name: str, members: dict[str, bytes], tmp_path: Path
) -> None:
    marker = tmp_path / "pwned"
    configuration = json.loads(members["config.json"])
    CONFIGURATIONS[name](marker)(configuration)
    changed = members | {"config.json": json.dumps(configuration).encode()}
    refused(tmp_path, changed, r"model\.keras holds .* Its layers must be Keras' own")
    assert not marker.exists()


def test_bombs_and_strange_members_are_refused(members: dict[str, bytes], tmp_path: Path) -> None:
    cases: list[tuple[dict[str, bytes], str, bool]] = [
        (members | {"model.weights.h5": bytes(50_000_000)}, "compressed archive .* Keras writes none such", True),
        (members | {"assets/vocabulary.txt": b"x"}, "has the members", False),
        (members | {"../outside": b"x"}, "has the members", False),
        ({"config.json": members["config.json"]}, "has the members", False),
        (members | {"config.json": b"[" * 200_000}, "damaged", False),
        (members | {"config.json": b"[]"}, "describes no model", False),
        (members | {"config.json": b" " * (17 << 20)}, "more than 16 MiB", False),
    ]
    for at, (content, match, compressed) in enumerate(cases):
        (tmp_path / str(at)).mkdir()
        refused(tmp_path / str(at), content, match, compressed=compressed)


def hdf5(fill: Callable[[Any], None], members: dict[str, bytes]) -> dict[str, bytes]:
    import h5py

    buffer = io.BytesIO(members["model.weights.h5"])
    with h5py.File(buffer, "a") as handle:
        fill(handle)
    return members | {"model.weights.h5": buffer.getvalue()}


def _links(handle: Any) -> None:
    import h5py

    handle["layers/elsewhere"] = h5py.ExternalLink("/etc/passwd", "/")


def _external(handle: Any) -> None:
    handle.create_dataset("layers/x", (16,), "u1", external=[("/etc/passwd", 0, 16)])


def _bomb(handle: Any) -> None:
    handle.create_dataset("layers/x", (1 << 34,), "f4", chunks=(1 << 20,), compression="gzip")


def _unwritten(handle: Any) -> None:
    handle.create_dataset("layers/x", (1 << 40,), "f4", chunks=(1 << 20,))


@pytest.mark.parametrize("fill", [_links, _external, _bomb, _unwritten])
def test_weights_that_lead_elsewhere_or_unpack_are_refused(
    fill: Callable[[Any], None], members: dict[str, bytes], tmp_path: Path
) -> None:
    changed = hdf5(fill, members)
    with pytest.raises(WeightsError, match=r"The weights hold '/layers/"):
        refuse_unsound_weights(io.BytesIO(changed["model.weights.h5"]))
    if fill is _links:  # the process that loads the file asks
        refused(tmp_path, changed, r"file model\.keras failed at start: WeightsError: The weights hold '/layers/")


def test_sound_weights_pass(members: dict[str, bytes]) -> None:
    refuse_unsound_weights(io.BytesIO(members["model.weights.h5"]))


def test_a_softmax_is_refused_and_a_wrong_file_told_apart(keras: ModuleType, tmp_path: Path) -> None:
    made = keras_cnn(keras, cnn())
    made.layers[-1].activation = keras.activations.softmax
    source = keras_folder(tmp_path / "source", made)
    (tmp_path / "target").mkdir()
    with pytest.raises(ZooError, match="ends in a softmax"):
        load_entry(stage(source, tmp_path / "target"))
    refused_file = card(tmp_path / "h5", "enemy", ["model.h5"], form="keras")
    (refused_file / "model.h5").write_bytes(b"\x89HDF")
    (tmp_path / "other").mkdir()
    with pytest.raises(ZooError, match=r"is no \.keras file"):
        load_entry(stage(refused_file, tmp_path / "other"))


def test_parameters_of_a_jax_function_are_safetensors(jax: ModuleType, tmp_path: Path) -> None:
    bomb = (10 << 30).to_bytes(8, "little") + b"{" + b" " * 64
    long = b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
    header = len(long).to_bytes(8, "little") + long + bytes(16)
    msgpack = b"\x81\xa6params\xc7\xff\x01" + bytes(300)
    for at, (name, content, match) in enumerate(
        [
            ("parameters.msgpack", msgpack, "msgpack and pickles are not read"),
            ("parameters.pkl", b"\x80\x04.", "msgpack and pickles are not read"),
            ("parameters.safetensors", bomb, "no sound safetensors file"),
            ("parameters.safetensors", header, "no sound safetensors file"),
        ]
    ):
        source, target = tmp_path / f"source{at}", tmp_path / f"target{at}"
        target.mkdir()
        jax_folder(source, mlp())
        card(source, "in-jax", [name], form="jax", code="model.py", factory="apply")
        (source / name).write_bytes(content)
        with pytest.raises(ZooError, match=match):
            load_entry(stage(source, target, trust_code=True))


def test_the_card_says_how_images_lie_and_nothing_else(jax: ModuleType, tmp_path: Path) -> None:
    source, target = jax_folder(tmp_path / "source", mlp()), tmp_path / "target"
    target.mkdir()
    model = {"form": "jax", "code": "model.py", "factory": "apply", "arguments": {"channels_last": "yes"}}
    card(source, "in-jax", ["parameters.safetensors"], **model)
    with pytest.raises(ZooError, match="channels_last"):
        load_entry(stage(source, target, trust_code=True))


def test_the_form_is_part_of_the_digest(board: Workspace) -> None:
    entries = [Entry("a", "a", "digits", form, board.root) for form in ("keras", "jax", "code", "onnx")]  # type: ignore[arg-type]
    assert len({entry.digest for entry in entries}) == 4
