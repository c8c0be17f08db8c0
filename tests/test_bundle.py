"""Bundles: what one machine packed, another verifies offline and takes into its own database."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import random
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boards
import numpy as np
import pytest
import torch
from sqlalchemy import func, select

from benchmark.apart import Limits, StoppedError
from benchmark.cli import run
from benchmark.data import get_dataset
from benchmark.errors import InputError
from benchmark.evidence import container as containers
from benchmark.evidence.bundle import npy
from benchmark.evidence.ingest import ingest as read
from benchmark.evidence.ingest import verify_apart, verify_bundle
from benchmark.evidence.store import EvidenceStore
from benchmark.workspace import Workspace
from db.migrate import upgrade
from db.schema import Cell, Change, Evaluation, Model, State
from db.session import Database
from models_zoo import load_model

SLUG = boards.MODELS[0]


def bundle(workspace: Workspace, path: Path, *options: str) -> Path:
    assert run(["bundle", SLUG, "-w", str(workspace.root), "-o", str(path), *options]) == 0
    return path


@pytest.fixture(scope="module")
def packed(made_board, tmp_path_factory) -> Path:
    return bundle(made_board, tmp_path_factory.mktemp("bundle") / "row.bundle")


@pytest.fixture
def other(tmp_path) -> Workspace:
    """An empty board on "another machine"."""
    workspace = Workspace.create(tmp_path / "other")
    upgrade(Database(workspace.database_url))
    return workspace


def ingest(workspace: Workspace, path: Path) -> int:
    return run(["ingest", str(path), "-w", str(workspace.root)])


def count(workspace: Workspace, table: type = Evaluation) -> int:
    with Database(workspace.database_url).read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def rewritten(path: Path, target: Path, change: Callable[[dict[str, Any], dict[str, bytes]], None]) -> Path:
    """A bundle whose contents somebody changed, its manifest's digests made to fit."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members.pop("bundle.json"))
    change(manifest, members)
    manifest.pop("members")
    containers.write_container(target, manifest, members.items())
    return target


# Another machine ---------------------------------------------------------------------------------------------------


def test_a_bundle_verifies_on_another_machine_offline(packed, tmp_path):
    # Processes of its own: no workspace, an empty cache, and no way to the network.
    (tmp_path / "sitecustomize.py").write_text(
        "import socket\n"
        "connect = socket.socket.connect\n"
        "def refuse(self, address):\n"
        "    if self.family != socket.AF_UNIX: raise OSError('no network here')\n"
        "    return connect(self, address)\n"
        "socket.socket.connect = refuse\n"
    )
    code = (
        "import socket, sys\n"
        "from benchmark.cli import run\n"
        "try: socket.create_connection(('127.0.0.1', 9))\n"
        "except OSError as error: assert 'no network here' in str(error)\n"
        f"sys.exit(run(['verify', '--bundle', {str(packed)!r}, '--json']))\n"
    )
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    environment = {
        **os.environ,
        "CURVEBOARD_CACHE": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": path,
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["problems"], said["models"], said["samples"]) == ([], 1, boards.N)
    assert ["not proven" in note for note in said["notes"]] == [True], "what cannot be proven is said"
    assert said["examples"] >= 18


def test_a_bundle_fills_an_empty_board_and_doing_it_again_changes_nothing(board, packed, other, capsys):
    assert ingest(other, packed) == 0
    for norm in boards.NORMS:
        assert (
            boards.board_ledger(other, norm=norm).distances.tobytes()
            == boards.board_ledger(board, norm=norm).distances.tobytes()
        )
    assert count(other, Cell) == count(board, Cell) / 2
    with Database(other.database_url).read() as session:
        assert list(session.scalars(select(Change))) == [], "reported by another board, it is on no board here yet"
        row = session.scalars(select(Evaluation).where(Evaluation.measure == "line")).first()
        assert row.provenance["ingested"]["bundle"] == hashlib.sha256(packed.read_bytes()).hexdigest()
        assert row.provenance["python"]  # where it was computed is kept
        assert [score.name for score in row.scores] == ["found"]
    assert run(["verify", "-w", str(other.root)]) == 0
    numbers = [count(other, table) for table in (Evaluation, Cell, Change, Model)]
    capsys.readouterr()
    assert ingest(other, packed) == 0
    assert "0 evaluations entered, 3 were here already" in capsys.readouterr().out
    assert [count(other, table) for table in (Evaluation, Cell, Change, Model)] == numbers


def test_one_that_takes_too_long_is_stopped_and_nothing_is_entered(packed, other):
    store, limits = EvidenceStore(other.artifacts), Limits(seconds=0.01)
    with pytest.raises(StoppedError, match=r"more than 0\.01 s"):
        read(Database(other.database_url), store, other.models, packed, limits=limits)
    assert count(other) == count(other, Model) == 0
    assert not other.models.exists() or list(other.models.iterdir()) == []


def test_one_that_is_changed_while_it_is_read_is_refused(packed):
    with pytest.raises(InputError, match="changed while it was read"):
        verify_apart(packed, limits=Limits(), sha256="0" * 64)


def test_an_ingested_row_is_evaluated_no_more(packed, other, capsys):
    assert ingest(other, packed) == 0
    boards.protocol(other, "far")
    capsys.readouterr()
    assert boards.evaluate(other, [SLUG]) == 0
    assert "Nothing to do" in capsys.readouterr().out


def test_only_what_is_new_comes_in(board, packed, other):
    # The other machine knows the row; then somebody challenges it on the first one.
    assert ingest(other, packed) == 0
    indices, examples, _ = boards.near_examples()
    np.savez(board.root / "near.npz", indices=indices, examples=examples)
    assert run(["challenge", SLUG, str(board.root / "near.npz"), "-w", str(board.root), "--author", "Eve"]) == 0
    assert ingest(other, bundle(board, board.root / "second.bundle")) == 0
    assert count(other) == 4
    assert (
        boards.board_ledger(other, norm="l1").distances.tobytes()
        == boards.board_ledger(board, norm="l1").distances.tobytes()
    )
    with Database(other.database_url).read() as session:
        change = session.scalars(select(Change).order_by(Change.id.desc())).first()
        assert (change.kind, change.detail["by"]) == ("challenge-accepted", "challenge: Eve")


def test_a_queued_evaluation_is_filled_and_a_running_one_left_alone(packed, other, capsys):
    boards.protocol(other, "far")
    assert boards.evaluate(other, [SLUG]) == 0
    with Database(other.database_url).write() as session:
        for row, (state, until) in zip(
            session.scalars(select(Evaluation).order_by(Evaluation.id)).all(),
            [(State.FAILED, None), (State.QUEUED, None), (State.RUNNING, 4e9)],
            strict=True,
        ):
            row.chunks, row.scores, row.state, row.lease_until = [], [], state, until
    assert ingest(other, packed) == 0
    assert "left out, an evaluator is working on it" in capsys.readouterr().out
    with Database(other.database_url).read() as session:
        states = list(session.scalars(select(Evaluation.state).order_by(Evaluation.id)))
    assert states == [State.DONE, State.DONE, State.RUNNING]


def test_the_same_row_makes_the_same_bytes(made_board, packed, tmp_path):
    assert bundle(made_board, tmp_path / "again.bundle").read_bytes() == packed.read_bytes()


def test_a_bundle_without_weights_needs_them_here(made_board, tmp_path, capsys):
    light = bundle(made_board, tmp_path / "light.bundle", "--no-weights")
    assert run(["verify", "--bundle", str(light)]) == 1
    assert "there is no file" in capsys.readouterr().err


def test_on_postgresql_too(workspace, packed):
    assert ingest(workspace, packed) == 0
    assert ingest(workspace, packed) == 0
    assert run(["verify", "-w", str(workspace.root)]) == 0


def test_a_submitted_model_travels_with_its_files(made_board, other, packed, tmp_path):
    # Under another name it is no model of the zoo, so its card and weights must come along.
    def rename(manifest, members):
        manifest["model"]["slug"] = manifest["model"]["card"]["slug"] = "stranger"

    assert ingest(other, rewritten(packed, tmp_path / "stranger.bundle", rename)) == 0
    assert sorted(path.name for path in (other.models / "stranger").iterdir())[0].endswith(".safetensors")
    assert run(["verify", "stranger", "-w", str(other.root)]) == 0
    assert run(["bundle", "stranger", "-w", str(other.root), "-o", str(tmp_path / "again.bundle")]) == 0
    assert run(["verify", "--bundle", str(tmp_path / "again.bundle")]) == 0


CODE = """
import torch


def make(folder):
    torch.manual_seed(0)  # the same model in every process
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
"""


def submitted(board: Workspace, form: str, home: Path) -> str:
    """A model of another form, submitted and evaluated; returns its slug."""
    assert run(["submit", "--init", "--form", form, str(home), "-w", str(board.root)]) == 0
    if form == "pt2":
        shapes = ({0: torch.export.Dim.DYNAMIC},)
        program = torch.export.export(load_model(SLUG), (torch.rand(4, 1, 8, 8),), dynamic_shapes=shapes)
        torch.export.save(program, home / "model.pt2")
    if form == "code":
        (home / "model.py").write_text(CODE)
    trust = ["--trust-code"] if form == "code" else []
    assert run(["submit", *trust, str(home), "-w", str(board.root)]) == 0
    (slug,) = (path.name for path in board.models.iterdir())
    assert boards.evaluate(board, [slug], n=6) == 0
    return slug


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("form", ["pt2", "code"])
def test_a_model_of_another_form_travels_too(board, other, tmp_path, capsys, form):
    slug = submitted(board, form, tmp_path / "net")
    path = tmp_path / "row.bundle"
    assert run(["bundle", slug, "-w", str(board.root), "-o", str(path)]) == 0
    trust = ["--trust-code"] if form == "code" else []
    if trust:
        assert run(["verify", "--bundle", str(path)]) == 1
        assert "nobody here has said to trust" in capsys.readouterr().err
        assert ingest(other, path) == 1
        assert not list(other.models.iterdir())
    assert run(["verify", "--bundle", str(path), *trust]) == 0
    assert run(["ingest", str(path), "-w", str(other.root), *trust]) == 0
    assert run(["verify", slug, "-w", str(other.root)]) == 0


# Lies --------------------------------------------------------------------------------------------------------------


def lower_a_distance(manifest, members):
    name = manifest["evaluations"][1]["chunks"][0]["arrays"]["distance_l2"]
    distances = np.load(io.BytesIO(members[name]))
    distances[3] /= 2
    members[name] = npy(distances)


def drop_the_evidence(manifest, members):
    for evaluation in manifest["evaluations"]:
        for chunk in evaluation["chunks"]:
            chunk["evidence"] = None
    for name in [name for name in members if name.startswith("evidence/")]:
        del members[name]


def raise_all_distances(manifest, members):
    for evaluation in manifest["evaluations"]:
        for chunk in evaluation["chunks"]:
            for array, name in chunk["arrays"].items():
                if array.startswith("distance_"):
                    members[name] = npy(np.full_like(np.load(io.BytesIO(members[name])), np.inf))


@pytest.mark.parametrize("lie", [lower_a_distance, drop_the_evidence, raise_all_distances])
def test_a_lie_about_distances_is_found_and_nothing_enters(packed, other, tmp_path, capsys, lie):
    lying = rewritten(packed, tmp_path / "lie.bundle", lie)
    assert run(["verify", "--bundle", str(lying)]) == 4
    assert "OFF" in capsys.readouterr().out
    assert ingest(other, lying) == 4
    assert "Nothing was changed" in capsys.readouterr().out
    assert (count(other), count(other, Model)) == (0, 0)
    assert not list(EvidenceStore(other.artifacts).digests())
    assert not list(other.models.iterdir())


def other_weights(manifest, members):
    members["weights/0"] = members["weights/0"][:-1] + bytes([members["weights/0"][-1] ^ 1])


def other_images(manifest, members):
    images = np.load(io.BytesIO(members["dataset/images.npy"]))
    images[0, 0, 0, 0] ^= 1
    members["dataset/images.npy"] = npy(images)


def other_key(manifest, members):
    manifest["evaluations"][1]["key"] = "0" * 64


def other_seed(manifest, members):
    manifest["evaluations"][1]["seed"] = 7


def other_architecture(manifest, members):
    manifest["model"]["card"]["model"]["arguments"]["hidden"] = []


def other_format(manifest, members):
    manifest["format"] = "curveboard-bundle/99"


def path_as_a_name(manifest, members):
    manifest["model"]["card"]["weights"][0]["file"] = "../../escaped.safetensors"


def card_as_weights(manifest, members):
    manifest["files"][0]["name"] = "model.toml"


def slug_with_a_path(manifest, members):
    manifest["model"]["slug"] = manifest["model"]["card"]["slug"] = "../escaped"


def negative_distance(manifest, members):
    name = manifest["evaluations"][1]["chunks"][0]["arrays"]["distance_l2"]
    members[name] = npy(-np.load(io.BytesIO(members[name])))


def nan_distance(manifest, members):
    name = manifest["evaluations"][1]["chunks"][0]["arrays"]["distance_l2"]
    members[name] = npy(np.load(io.BytesIO(members[name])) * np.nan)


def chunk_beyond_the_slice(manifest, members):
    manifest["evaluations"][1]["chunks"][0]["start"] += 1000
    manifest["evaluations"][1]["chunks"][0]["stop"] += 1000


def objects_as_an_array(manifest, members):
    buffer = io.BytesIO()
    np.save(buffer, np.array([Exploit()], dtype=object), allow_pickle=True)
    members[manifest["evaluations"][1]["chunks"][0]["arrays"]["distance_l2"]] = buffer.getvalue()


def no_evaluations(manifest, members):
    manifest["evaluations"] = "none"


def no_model(manifest, members):
    del manifest["model"]


def evidence_of_another_name(manifest, members):
    name = next(name for name in members if name.startswith("evidence/"))
    members["evidence/" + "0" * 64] = members[name]
    for evaluation in manifest["evaluations"]:
        for chunk in evaluation["chunks"]:
            if chunk["evidence"] is not None:
                chunk["evidence"] = "0" * 64


class Exploit:
    """Unpickling this makes a file; none of the readers may."""

    target = "exploited"

    def __reduce__(self):
        return (Path.touch, (Path(self.target),))


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        (other_weights, "SHA-256"),
        (other_images, "was read with the digest"),
        (other_key, "was altered"),
        (other_seed, "was altered"),
        (other_architecture, "was altered"),
        (other_format, "this program reads"),
        (path_as_a_name, "plain name of a file"),
        (card_as_weights, "card does not name"),
        (slug_with_a_path, "cannot be used"),
        (negative_distance, "is no distance"),
        (nan_distance, "is no distance"),
        (chunk_beyond_the_slice, "A chunk of line goes from"),
        (objects_as_an_array, "never objects"),
        (no_evaluations, "no sound bundle"),
        (no_model, "no sound bundle"),
        (evidence_of_another_name, "has the digest"),
    ],
)
def test_a_bundle_that_contradicts_itself_is_refused(packed, other, capsys, lie, message):
    folder = other.root.parent
    lying = rewritten(packed, folder / "lie.bundle", lie)
    before = sorted(folder.rglob("*"))
    assert run(["verify", "--bundle", str(lying)]) == 1
    assert message in capsys.readouterr().err
    assert ingest(other, lying) == 1
    assert (count(other), count(other, Model)) == (0, 0)
    assert [path for path in sorted(folder.rglob("*")) if path not in before and ".db-" not in path.name] == []
    assert not Path(Exploit.target).exists()


def test_what_contradicts_this_board_is_refused(packed, other, tmp_path, capsys, monkeypatch):
    def change_protocol(manifest, members):
        manifest["protocols"][0]["spec"]["measures"] = []

    assert ingest(other, packed) == 0
    assert ingest(other, rewritten(packed, tmp_path / "p.bundle", change_protocol)) == 1
    assert "says something else here" in capsys.readouterr().err
    changed = {"digits": dataclasses.replace(get_dataset("digits"), digest="0" * 64)}
    monkeypatch.setattr("benchmark.data.all_datasets", lambda: changed)
    monkeypatch.setattr("benchmark.evidence.ingest.all_datasets", lambda: changed)
    assert any("has another digest here" in note for note in verify_bundle(packed).notes)
    assert ingest(other, packed) == 1
    assert "is not registered here" in capsys.readouterr().err


def nodes(value, path=()):
    """The paths of all values inside JSON values."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from nodes(child, (*path, key))


@pytest.mark.parametrize("seed", range(int(os.environ.get("CURVEBOARD_FUZZ", "25"))))
def test_nonsense_anywhere_in_a_manifest_never_crashes(packed, tmp_path, capsys, seed):
    rng = random.Random(seed)

    def damage(manifest, members):
        path = rng.choice([path for path in nodes(manifest) if path and path[0] != "members"])
        value = manifest
        for key in path[:-1]:
            value = value[key]
        value[path[-1]] = rng.choice([None, -1, 1e308, "", "x" * 1000, [], {}, [[]], {"a": 1}, True, 10**30, "\x00", 0])

    assert run(["verify", "--bundle", str(rewritten(packed, tmp_path / "odd.bundle", damage))]) in {0, 1, 4}


# Hostile archives --------------------------------------------------------------------------------------------------


def archive_of(target: Path, members: dict[str, bytes], *, mode: int = stat.S_IFREG, deflated: bool = False) -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (mode if name != "bundle.json" else stat.S_IFREG) << 16
            packed = deflated or name.startswith(("arrays/", "dataset/", "bundle.json"))
            archive.writestr(info, data, compress_type=zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED)
    return target


def manifest_of(members: dict[str, bytes]) -> bytes:
    table = {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in members.items()}
    return json.dumps({"format": "curveboard-bundle/1", "members": table}).encode()


@pytest.mark.parametrize(
    "name",
    [
        "../escaped",
        "/etc/escaped",
        "evidence/../../escaped",
        "evidence/.hidden",
        "C:\\escaped",
        "evidence\\..\\escaped",
        "evidence/",
        "other/file",
        "evidence/a/b",
        "evidence/a\x1b[2J",
    ],
)
def test_members_with_odd_names_are_refused(tmp_path, capsys, name):
    members = {name: b"x"}
    path = archive_of(tmp_path / "odd.bundle", {**members, "bundle.json": manifest_of(members)})
    assert run(["verify", "--bundle", str(path)]) == 1
    assert "refused" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == [path]


def test_a_link_is_refused(tmp_path, capsys):
    members = {"evidence/link": b"/etc/passwd"}
    whole = {**members, "bundle.json": manifest_of(members)}
    path = archive_of(tmp_path / "link.bundle", whole, mode=stat.S_IFLNK | 0o777)
    assert run(["verify", "--bundle", str(path)]) == 1
    assert "is a link or a folder" in capsys.readouterr().err


def test_a_zip_bomb_is_refused_unread(tmp_path, capsys, monkeypatch):
    bomb = b"\0" * (containers.MAX_PACKED + 1)
    path = archive_of(tmp_path / "bomb.bundle", {"arrays/0.npy": bomb, "bundle.json": manifest_of({})})
    assert path.stat().st_size < 1 << 20
    assert run(["verify", "--bundle", str(path)]) == 1
    assert "would unpack to" in capsys.readouterr().err
    path = archive_of(tmp_path / "hidden.bundle", {"evidence/0": bomb, "bundle.json": b"{}"}, deflated=True)
    assert run(["verify", "--bundle", str(path)]) == 1
    assert "not packed as in a bundle" in capsys.readouterr().err


def test_a_manifest_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(containers, "MAX_MANIFEST", 1000)
    path = archive_of(tmp_path / "long.bundle", {"bundle.json": b"[" * 5000})
    with pytest.raises(InputError, match="more than the 1000 bytes"):
        containers.Container(path)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "holds no table"),
        (b"{}", "does not list the members"),
        (b'{"members": {"a": {"size": -1, "sha256": ""}}}', "negative size"),
        (b'{"members": {"a": 3}}', "does not list the members"),
        (b'{"members": {"evidence/0": {"size": 3, "sha256": ""}}}', "differ"),
        (b'{"members": {}, "format": "\xff"}', "is not JSON"),
    ],
)
def test_odd_manifests_are_refused(tmp_path, capsys, manifest, message):
    path = archive_of(tmp_path / "odd.bundle", {"bundle.json": manifest})
    assert run(["verify", "--bundle", str(path)]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x80\x04\x95", b"<!DOCTYPE html>" * 100])
def test_what_is_no_archive_is_refused(tmp_path, capsys, data):
    path = tmp_path / "odd.bundle"
    path.write_bytes(data)
    assert run(["verify", "--bundle", str(path)]) == 1
    assert "is no bundle" in capsys.readouterr().err


def test_a_name_twice_is_refused(tmp_path, capsys):
    path = tmp_path / "twice.bundle"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bundle.json", "{}")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("bundle.json", "{}")
    assert run(["verify", "--bundle", str(path)]) == 1
    assert "each name once" in capsys.readouterr().err


def _inside_a_member(path, position: int) -> int:
    """The first byte of the contents of the member at that position; a member's date may be any."""
    with zipfile.ZipFile(path) as archive:
        before = [m for m in archive.infolist() if m.header_offset <= position and m.compress_size]
    last = max(before, key=lambda m: m.header_offset)
    return last.header_offset + 30 + len(last.filename)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_cut_or_damaged_bundle_is_refused(packed, tmp_path, capsys, share):
    data = packed.read_bytes()
    path = tmp_path / "damaged.bundle"
    path.write_bytes(data[: int(len(data) * share)])
    assert run(["verify", "--bundle", str(path)]) == 1
    flipped = bytearray(data)
    flipped[_inside_a_member(packed, int(len(data) * share * 0.9))] ^= 0x55
    path.write_bytes(flipped)
    assert run(["verify", "--bundle", str(path)]) == 1


def test_a_member_that_is_not_what_the_manifest_says_is_refused(packed, tmp_path, capsys):
    # A sound archive, whose checksums fit: only the manifest's digest tells that a byte is another.
    path = tmp_path / "exchanged.bundle"
    with zipfile.ZipFile(packed) as archive, zipfile.ZipFile(path, "w") as target:
        chosen = next(m.filename for m in archive.infolist() if m.filename.startswith("evidence/"))
        for member in archive.infolist():
            data = bytearray(archive.read(member))
            if member.filename == chosen:
                data[-1] ^= 0x55
            target.writestr(member, bytes(data))
    assert run(["verify", "--bundle", str(path)]) == 1
    assert f"'{chosen}' is not what its manifest says" in capsys.readouterr().err


def test_missing_files_and_wrong_use_are_said(made_board, tmp_path, capsys):
    assert run(["verify", "--bundle", str(tmp_path / "none")]) == 1
    assert run(["verify", "digits-standard", "--bundle", "x"]) == 2
    assert run(["bundle", "digits-conv", "-w", str(made_board.root)]) == 1
    assert "no model on this board" in capsys.readouterr().err
    assert run(["bundle", SLUG, "-w", str(made_board.root), "-o", str(tmp_path / "no" / "folder")]) == 1
    assert "cannot be written" in capsys.readouterr().err
