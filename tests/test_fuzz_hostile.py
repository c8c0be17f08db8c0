"""A thousand mutated bundles, cards, challenges and programs: refused in words or read, and nothing else happens.

Seeded; more of them with ``make fuzz``, which sets CURVEBOARD_FUZZ to a number of times as many.
"""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.data import get_dataset
from benchmark.errors import BenchmarkError
from benchmark.evidence.challenge_file import read_file
from benchmark.evidence.ingest import verify_bundle
from db.errors import DatabaseError
from models_zoo import ZooError, get_entry
from models_zoo.cards import card_table, parse_card
from models_zoo.formats import load_program
from tests.test_bundle import SLUG, bundle, nodes, rewritten

TIMES = int(os.environ.get("CURVEBOARD_FUZZ", "1"))
EXPECTED = (BenchmarkError, ZooError, DatabaseError)
JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 10**30, 1e308, float("nan"), float("inf"), "", "\x00", "\x1b[2J", "../../x", "x" * 5000,
    "\ud800", [], {}, [[]], [None], {"a": 1}, "con", "index.html", "a\u202eb", 0.5, [1] * 50,
)  # fmt: skip


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> Iterator[None]:
    """An empty folder to work in; afterwards nothing has been written beside it or into it."""
    home = tmp_path / "home" / "here"
    home.mkdir(parents=True)
    monkeypatch.chdir(home)
    yield
    assert [path for path in (tmp_path / "home").rglob("*") if path != home] == [], "something was written"


def mutated(rng: random.Random, values: Any) -> Any:
    """One to three values anywhere inside replaced by junk, left out, or doubled."""
    values = copy.deepcopy(values)
    for _ in range(rng.randint(1, 3)):
        *path, last = rng.choice([path for path in nodes(values) if path])
        inside = values
        for key in path:
            inside = inside[key]
        kind = rng.random()
        if kind < 0.7:
            inside[last] = rng.choice(JUNK)
        elif kind < 0.9 or isinstance(inside, dict):
            del inside[last]
        else:
            inside.append(inside[last])
    return values


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Bytes flipped, cut off, doubled or put in."""
    found = bytearray(data)
    kind = rng.randrange(4)
    at = rng.randrange(len(found))
    if kind == 0:
        for _ in range(rng.randint(1, 8)):
            found[rng.randrange(len(found))] = rng.randrange(256)
    elif kind == 1:
        del found[at:]
    elif kind == 2:
        found[at:at] = found[at : at + rng.randint(1, 400)]
    else:
        found[at : at + 8] = rng.randbytes(8)
    return bytes(found)


def read(act: Any, *arguments: Any, **named: Any) -> Any:
    """What it gives, or None where it was refused in words."""
    try:
        return act(*arguments, **named)
    except EXPECTED:
        return None


def test_cards(tmp_path):
    rng, card = random.Random(1), card_table(get_entry(SLUG))
    taken = [read(parse_card, mutated(rng, card), folder=tmp_path) for _ in range(500 * TIMES)]
    for entry in filter(None, taken):
        assert entry.slug.replace("-", "").replace(".", "").replace("_", "").isalnum()
        assert all(Path(weights.name).name == weights.name for weights in entry.weights)


def test_challenges(tmp_path):
    rng, path = random.Random(2), tmp_path / "c.npz"
    np.savez(path, indices=np.arange(5), examples=np.full((5, 1, 8, 8), 0.5, dtype=np.float32))
    whole = path.read_bytes()
    for _ in range(300 * TIMES):
        path.write_bytes(damaged(rng, whole))
        found = read(read_file, path, get_dataset("digits"))
        if found is not None:
            assert found.examples.ndim == 4
            assert len(found.indices) == len(found.examples)


@pytest.fixture(scope="module")
def packed(made_board, tmp_path_factory) -> Path:
    return bundle(made_board, tmp_path_factory.mktemp("bundle") / "row.bundle")


def test_bundles(packed, tmp_path):
    rng, path, whole = random.Random(3), tmp_path / "b.bundle", packed.read_bytes()
    for _ in range(150 * TIMES):
        path.write_bytes(damaged(rng, whole))
        read(verify_bundle, path)

    def junk(manifest, members):
        members_table = manifest.pop("members")
        changed = mutated(rng, {key: value for key, value in manifest.items() if key != "format"})
        manifest.clear()
        manifest.update(changed, format="curveboard-bundle/2", members=members_table)

    for _ in range(30 * TIMES):
        try:
            path = rewritten(packed, tmp_path / "b.bundle", junk)
        except (ValueError, UnicodeEncodeError):
            continue  # it cannot be written down as JSON
        read(verify_bundle, path, samples=2)


@pytest.mark.filterwarnings("ignore")
def test_programs(tmp_path):
    rng, path = random.Random(4), tmp_path / "m.onnx"
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    x, axes = torch.rand(2, 1, 8, 8), {"x": {0: "n"}}
    torch.onnx.export(net, (x,), str(path), dynamo=False, dynamic_axes=axes, input_names=["x"])
    whole = path.read_bytes()
    for _ in range(120 * TIMES):
        path.write_bytes(damaged(rng, whole))
        read(load_program, path, path.name)
