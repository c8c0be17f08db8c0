"""Hostile challenges: working exploits in every format that is taken. None executes, none changes the board."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import boards
import numpy as np
import peaks
import pytest
import safetensors.numpy
import torch

from benchmark.cli import run
from benchmark.workspace import Workspace

INDICES, EXAMPLES = np.arange(3), np.full((3, 1, 8, 8), 0.5, np.float32)


class Payload:
    """Unpickling this creates a file in the current folder."""

    def __reduce__(self):
        return (os.mkdir, ("exploited",))


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_the_payload_is_a_working_one(here):
    pickle.loads(pickle.dumps(Payload()))
    assert (here / "exploited").is_dir()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npy_header(shape: str, *, descr: str = "'<f4'", data: bytes = b"") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(10 + len(text) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def archive(path: Path, members: dict[str, bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", compression) as target:
        for name, data in members.items():
            target.writestr(name, data)


def with_examples(data: bytes) -> Callable[[Path], None]:
    """An npz whose indices are sound and whose examples are this."""
    return lambda path: archive(path, {"indices.npy": npy(INDICES), "examples.npy": data})


def header_of(size: int) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(struct.pack("<Q", size) + b"{}")


def safetensors_of(header: object, data: bytes = b"") -> Callable[[Path], object]:
    text = json.dumps(header).encode()
    return lambda path: path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def tensor(dtype: str, shape: list[int], offsets: list[int]) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def torch_of(value: object) -> Callable[[Path], None]:
    return lambda path: torch.save(value, path)


def bomb(path: Path) -> None:
    archive(path, {"indices.npy": npy(INDICES), "examples.npy": npy_header("(131072, 1, 8, 8)") + b"\0" * (32 << 20)})


def torch_bomb(path: Path) -> None:
    archive(path, {"archive/data.pkl": pickle.dumps({}), "archive/data/0": b"\0" * (32 << 20)})


EXPLOITS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "npz of objects": (".npz", with_examples(npy(np.array([Payload()], dtype=object)))),
    "npz with objects in a record": (".npz", with_examples(npy(np.array([(Payload(),)], dtype=[("a", object)])))),
    "npz whose header says objects": (
        ".npz",
        with_examples(npy_header("(3,)", descr="'|O'", data=pickle.dumps(Payload()))),
    ),
    "npz whose header is code": (".npz", with_examples(npy_header("__import__('os').mkdir('exploited')"))),
    "npz that is a pickle": (".npz", lambda path: path.write_bytes(pickle.dumps(Payload()))),
    "npz of a pickle instead of an array": (".npz", with_examples(pickle.dumps(Payload()))),
    "npz with indices of objects": (
        ".npz",
        lambda path: archive(
            path, {"indices.npy": npy(np.array([Payload()] * 3, object)), "examples.npy": npy(EXAMPLES)}
        ),
    ),
    "npz that states a terabyte": (".npz", with_examples(npy_header("(274877906944, 1, 1, 1)"))),
    "npz that states a negative shape": (".npz", with_examples(npy_header("(-3, 1, 8, 8)"))),
    "npz of a negative product": (".npz", with_examples(npy_header("(-3, -1, 8, 8)", data=b"\0" * 768))),
    "npz with an overflowing shape": (".npz", with_examples(npy_header("(4611686018427387904, 4, 1, 1)"))),
    "npz with a deep header": (".npz", with_examples(npy_header("(" * 3000 + ")" * 3000))),
    "npz that is a bomb": (".npz", bomb),
    "npz with an unknown version": (".npz", with_examples(b"\x93NUMPY\x09\x00" + b"\0" * 64)),
    "npz with paths": (".npz", lambda path: archive(path, {"../../exploited": b"x", "/tmp/exploited": b"x"})),
    "npz, empty": (".npz", lambda path: path.write_bytes(b"")),
    "npz in another compression": (
        ".npz",
        lambda path: archive(path, {"indices.npy": b"x", "examples.npy": b"x"}, compression=zipfile.ZIP_LZMA),
    ),
    "pt with a payload": (".pt", torch_of({"indices": Payload(), "examples": torch.from_numpy(EXAMPLES)})),
    "pt that is a plain pickle": (".pt", lambda path: path.write_bytes(pickle.dumps(Payload()))),
    "pt of a payload alone": (".pth", torch_of(Payload())),
    "pt of a module": (".pt", torch_of(torch.nn.Linear(2, 2))),
    "pt that is a bomb": (".pt", torch_bomb),
    "pt, sparse": (".pt", torch_of({"indices": torch.arange(3), "examples": torch.eye(3).to_sparse()})),
    "pt of complex numbers": (".pt", torch_of({"indices": torch.arange(3), "examples": torch.zeros(3, 1, 8, 8) * 1j})),
    "pt, a web page": (".pt", lambda path: path.write_bytes(b"<!DOCTYPE html><html>" * 100)),
    "safetensors with a header of 10 GB": (".safetensors", header_of(10 << 30)),
    "safetensors with a header of 2**63": (".safetensors", header_of(1 << 63)),
    "safetensors with a deep header": (".safetensors", lambda p: p.write_bytes(struct.pack("<Q", 9**5) + b"[" * 9**5)),
    "safetensors with an overflowing shape": (
        ".safetensors",
        safetensors_of({"examples": tensor("F32", [1 << 62, 4], [0, 0]), "indices": tensor("I64", [0], [0, 0])}),
    ),
    "safetensors with overlapping tensors": (
        ".safetensors",
        safetensors_of({"examples": tensor("F32", [2], [0, 8]), "indices": tensor("I64", [1], [0, 8])}, b"\0" * 8),
    ),
    "safetensors beyond its end": (".safetensors", safetensors_of({"examples": tensor("F32", [2], [0, 1 << 40])})),
    "safetensors of other names": (".safetensors", lambda path: safetensors.numpy.save_file({"x": EXAMPLES}, path)),
    "a link to a device": (".npz", lambda path: path.symlink_to("/dev/zero")),
    "a folder": (".npz", lambda path: path.mkdir()),
    "another suffix": (".pkl", lambda path: path.write_bytes(pickle.dumps(Payload()))),
}


def challenge(workspace: Workspace, path: Path) -> int:
    return run(["challenge", boards.MODELS[0], str(path), "-w", str(workspace.root)])


@pytest.mark.parametrize("name", EXPLOITS)
def test_an_exploit_is_refused_in_words_and_changes_nothing(made_board, here, capsys, name):
    suffix, make = EXPLOITS[name]
    path = here.parent / f"hostile{suffix}"
    make(path)
    board_files = {found: found.stat().st_size for found in made_board.artifacts.rglob("*")}
    held = peaks.forget()
    capsys.readouterr()
    assert challenge(made_board, path) == 1
    said = capsys.readouterr().err
    assert said.startswith("Error: ")
    assert len(said) < 1000
    assert list(here.iterdir()) == []
    assert {found: found.stat().st_size for found in made_board.artifacts.rglob("*")} == board_files
    assert peaks.peak() - held < 300 << 20


def test_a_file_larger_than_the_dataset_is_not_read(made_board, here, capsys):
    path = here / "huge.npz"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)  # a hole: a terabyte that takes no room
    assert challenge(made_board, path) == 1
    assert "more than the whole dataset needs" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".safetensors"])
@pytest.mark.parametrize("seed", range(int(os.environ.get("CURVEBOARD_FUZZ", "8"))))
def test_any_bytes_changed_are_read_or_refused(made_board, here, suffix, seed):
    rng = random.Random(f"{suffix}{seed}")
    path = here / f"odd{suffix}"
    if suffix == ".npz":
        np.savez_compressed(path, indices=INDICES, examples=EXAMPLES)
    elif suffix == ".pt":
        torch.save({"indices": torch.from_numpy(INDICES), "examples": torch.from_numpy(EXAMPLES)}, path)
    else:
        safetensors.numpy.save_file({"indices": INDICES, "examples": EXAMPLES}, path)
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 3, 20])):
        data[rng.randrange(len(data))] = rng.randrange(256)
    if rng.random() < 0.3:
        del data[rng.randrange(len(data)) :]
    path.write_bytes(data)
    command = ["challenge", boards.MODELS[0], str(path), "-w", str(made_board.root), "--dry-run"]
    assert run(command) in {0, 1, 4}
    assert list(here.iterdir()) == [path]


def test_the_board_goes_on_as_if_nothing_had_come(board, here):
    for name, (suffix, make) in list(EXPLOITS.items())[:12]:
        path = here.parent / f"{abs(hash(name))}{suffix}"
        make(path)
        challenge(board, path)
    assert run(["verify", "-w", str(board.root)]) == 0
