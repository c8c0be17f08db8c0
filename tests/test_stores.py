"""Evidence away from this machine: the same promises at any address that fsspec reaches, and its own about copies."""

from __future__ import annotations

import pickle
import re
from datetime import UTC, datetime, timedelta

import boards
import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from sqlalchemy import func, select

from benchmark.cli import run
from benchmark.errors import EvidenceError, WorkspaceError
from benchmark.evidence.files import TEMPORARY, files_at
from benchmark.evidence.gc import collect
from benchmark.evidence.store import EvidenceStore
from benchmark.workspace import CONFIG, Workspace
from db.schema import Chunk
from db.session import Database

RNG = np.random.default_rng(0)


class ByRename(MemoryFileSystem):
    """A store whose files are seen while they are written, as over sftp."""

    protocol = "byrename"
    seen: list[set[str]] = []  # noqa: RUF012 - what was there after each upload
    broken = False

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(path.replace("byrename://", "memory://"))

    def pipe_file(self, path, value, mode="overwrite", **options):
        super().pipe_file(path, value[: len(value) // 2] if self.broken else value, mode=mode, **options)
        self.seen.append({name.rpartition("/")[2] for name in self.find("/by")})
        if self.broken:
            raise OSError("connection lost")


class Refusing(MemoryFileSystem):
    """A store that may be read only."""

    protocol = "refusing"

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(path.replace("refusing://", "memory://"))

    def pipe_file(self, path, value, mode="overwrite", **options):
        raise PermissionError("Access Denied")


for kind in (ByRename, Refusing):
    fsspec.register_implementation(kind.protocol, kind, clobber=True)


@pytest.fixture(autouse=True)
def _empty(tmp_path, monkeypatch):
    monkeypatch.setenv("CURVEBOARD_CACHE", str(tmp_path / "cache"))
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    ByRename.broken = False
    ByRename.seen.clear()


@pytest.fixture(params=["memory://place/of/evidence", "byrename://by", "file://{folder}", "{folder}"])
def place(request, tmp_path):
    return request.param.format(folder=tmp_path / "artifacts")


def examples(m=5):
    return np.arange(m, dtype=np.int64), RNG.random((m, 1, 4, 4), dtype=np.float32)


def age(store: EvidenceStore, digest: str, seconds: float) -> None:
    """Make a file in memory that much older."""
    path = next(path for path in MemoryFileSystem.store if digest in path)
    MemoryFileSystem.store[path].modified = datetime.now(UTC) - timedelta(seconds=seconds)


def test_what_is_put_is_found_listed_and_removed(place):
    store = EvidenceStore(place)
    assert list(store.list()) == []
    indices, adversarials = examples()
    stored = store.put(indices, adversarials)
    assert store.put(indices, adversarials) == stored
    assert store.has(stored.digest)
    assert [(file.digest, file.bytes) for file in store.list()] == [(stored.digest, stored.bytes)]
    assert 0 <= next(store.list()).age < 30
    found = EvidenceStore(place).get(stored.digest)
    assert np.array_equal(found[0], indices)
    assert np.array_equal(found[1], adversarials)
    store.remove(stored.digest)
    store.remove(stored.digest)
    assert not store.has(stored.digest)
    with pytest.raises(EvidenceError, match="is missing"):
        store.get(stored.digest)


def test_a_store_that_can_be_used_is_left_as_it_was(place):
    store = EvidenceStore(place)
    store.require()
    assert list(store.list()) == []


def test_a_file_is_seen_whole_or_not_at_all_where_uploads_are_seen():
    store = EvidenceStore("byrename://by")
    stored = store.put(*examples())
    assert len(ByRename.seen) == 1
    assert all(name.startswith(TEMPORARY) for name in ByRename.seen[0])
    assert [file.digest for file in store.list()] == [stored.digest]
    ByRename.broken = True
    with pytest.raises(EvidenceError, match="connection lost"):
        store.put(*examples())
    assert [file.digest for file in store.list()] == [stored.digest]


def test_a_file_just_written_is_not_written_again_but_an_old_one_is():
    store = EvidenceStore("memory://e")
    indices, adversarials = examples()
    digest = store.put(indices, adversarials).digest
    age(store, digest, 30)
    before = next(store.list()).age
    store.put(indices, adversarials)
    assert next(store.list()).age >= before  # spared the upload
    age(store, digest, 1000)
    store.put(indices, adversarials)
    assert next(store.list()).age < 30  # counts as new: the collector spares it until it is referred to


def test_a_copy_saves_the_transfer_but_does_not_stand_for_the_file(tmp_path):
    store = EvidenceStore("memory://e")
    indices, adversarials = examples()
    digest = store.put(indices, adversarials).digest
    store.get(digest)
    path = next(path for path in MemoryFileSystem.store if digest in path)
    MemoryFileSystem.store[path].seek(0)
    MemoryFileSystem.store[path].write(b"damage")
    assert np.array_equal(EvidenceStore("memory://e").get(digest)[1], adversarials)  # from the copy
    with pytest.raises(EvidenceError, match="is damaged"):
        EvidenceStore("memory://e", cached=False).get(digest)
    MemoryFileSystem.store.clear()
    with pytest.raises(EvidenceError, match="is missing"):
        store.get(digest)
    assert list((tmp_path / "cache").rglob(f"{digest}*"))


def test_a_damaged_copy_is_fetched_again(tmp_path):
    store = EvidenceStore("memory://e")
    indices, adversarials = examples()
    digest = store.put(indices, adversarials).digest
    store.get(digest)
    [copy] = (tmp_path / "cache").rglob(f"{digest}*")
    copy.write_bytes(b"damage")
    assert np.array_equal(store.get(digest)[1], adversarials)
    assert copy.read_bytes() != b"damage"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nowhere://bucket", "nowhere://bucket is no address"),
        ("refusing://bucket", "Access Denied.*credentials and rights"),
    ],
)
def test_a_store_that_cannot_be_used_is_said(url, message):
    with pytest.raises(EvidenceError, match=f"(?s){message}"):
        EvidenceStore(url).require()


def test_a_store_whose_package_is_missing_is_said(monkeypatch):
    def fail(_url):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "url_to_fs", fail)
    with pytest.raises(EvidenceError, match="pip install s3fs"):
        EvidenceStore("s3://bucket/folder").require()


def test_a_folder_without_rights_is_said(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EvidenceError, match=r"no folder.*Nothing was computed"):
        EvidenceStore(tmp_path / "file" / "artifacts").require()


def at(workspace: Workspace, url: str) -> Workspace:
    """The workspace with its evidence at a URL."""
    config = workspace.root / CONFIG
    text = re.sub('artifacts = ".*"', f'artifacts = "{url}"', config.read_text(encoding="utf-8"))
    config.write_text(text, encoding="utf-8")
    return Workspace.load(workspace.root)


def test_a_workspace_with_its_evidence_elsewhere_is_evaluated_verified_and_collected(workspace, capsys):
    moved = at(workspace, "memory://bucket/evidence")
    assert pickle.loads(pickle.dumps(moved)).artifacts == "memory://bucket/evidence"
    boards.build(moved)
    store, database = EvidenceStore(moved.artifacts), Database(moved.database_url)
    with database.read() as session:
        used = set(session.scalars(select(Chunk.evidence_digest).where(Chunk.evidence_digest.is_not(None))))
    assert used
    assert set(store.digests()) == used
    assert not any((moved.root / "artifacts").iterdir())
    assert run(["verify", "--workspace", str(moved.root)]) == 0
    stray = store.put(*examples()).digest
    collect(database, store)
    assert store.has(stray)  # young: an evaluator may be about to commit it
    age(store, stray, 1000)
    collect(database, store)
    assert not store.has(stray)
    with database.read() as session:
        used = set(session.scalars(select(Chunk.evidence_digest).where(Chunk.evidence_digest.is_not(None))))
    assert set(store.digests()) == used


def test_nothing_is_computed_without_rights_to_the_store(workspace, capsys, monkeypatch):
    moved = at(workspace, "refusing://bucket")
    boards.protocol(moved, "far")
    assert boards.evaluate(moved) == 1
    said = capsys.readouterr().err
    assert "Access Denied" in said
    assert "Nothing was computed" in said
    assert "Traceback" not in said
    with Database(moved.database_url).read() as session:
        assert session.scalar(select(func.count()).select_from(Chunk)) == 0


def test_names_out_of_the_store_are_not_touched(tmp_path):
    files = files_at("memory://e")
    files.write("00/notes.txt", b"mine")
    assert list(EvidenceStore("memory://e").list()) == []
    assert files.read("00/notes.txt") == b"mine"


@pytest.mark.parametrize("address", ["sftp://me:secret@host/evidence", "s3://key:secret@bucket/evidence"])
def test_an_address_with_a_password_is_refused_and_does_not_print_it(tmp_path, address):
    Workspace.create(tmp_path / "board")
    settings = tmp_path / "board" / "curveboard.toml"
    settings.write_text(f'artifacts = "{address}"\n')
    with pytest.raises(WorkspaceError, match="holds a password") as seen:
        Workspace.load(tmp_path / "board")
    assert "secret" not in str(seen.value)
    settings.write_text(f'artifacts = "{address.replace(":secret", "")}"\n')
    assert Workspace.load(tmp_path / "board").artifacts == address.replace(":secret", "")
