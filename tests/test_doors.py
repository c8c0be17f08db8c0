"""Doors that stay shut: databases that are not there, folders that may only be read, addresses, passwords, names."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import http.client
import http.server
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import boards
import numpy as np
import pytest
from sqlalchemy import URL, select

from benchmark.cli import run
from benchmark.cli.serve import Quiet, known_names
from benchmark.errors import UnsupportedModelError, WorkspaceError
from benchmark.measures.clean import Clean
from benchmark.results import Flag
from benchmark.workspace import CONFIG, DATABASE_VARIABLE, Workspace
from db.errors import DatabaseError, UnavailableError
from db.schema import Evaluation
from db.session import Database
from db.texts import plain
from db.urls import has_password, shown, without_password
from models_zoo.cards import check_slug
from models_zoo.errors import CardError
from tests.test_bundle import SLUG, bundle, rewritten

CAPBSET_DROP, DAC_OVERRIDE, DAC_READ_SEARCH = 24, 1, 2
"""Of Linux's ``prctl`` and capabilities."""
PROGRAM = "from benchmark.cli import main; main()"


@pytest.fixture
def backend() -> str:
    return "sqlite"


# Databases that are not there ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "verb",
    ["status", "verify", "publish", "history", "credit", "doctor", "export", "show digits-standard", "recheck",
     "db check", "db current", "gc --dry-run", "evaluate --plan", "withdraw -m a --reason b", "backup b.backup"],
)  # fmt: skip
def test_no_verb_makes_a_database_that_is_missing(board, verb, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = board.root / "curveboard.db"
    for name in ("curveboard.db", "curveboard.db-wal", "curveboard.db-shm"):
        (board.root / name).unlink(missing_ok=True)
    code = run([*verb.split(), "-w", str(board.root)])
    said = capsys.readouterr()
    assert not path.exists()
    assert "Traceback" not in said.err
    if verb != "db current":
        assert code in {1, 4}
        assert "There is no database" in said.out + said.err
    assert run(["db", "upgrade", "-w", str(board.root)]) == 0
    assert path.exists()


def test_a_database_in_a_folder_that_is_missing_is_refused(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/none/board.db")
    with pytest.raises(UnavailableError, match="cannot be used"), database.read() as session:
        session.connection()
    assert not (tmp_path / "none").exists()


# Those who may only read ---------------------------------------------------------------------------------------------


@pytest.fixture
def readable(board) -> Iterator[Workspace]:
    """The board as somebody has it who may read it, and write nothing."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        home.chmod(0o755)
        shutil.copytree(board.root, home / "board")
        for path in [home / "board", *(home / "board").rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        yield Workspace.load(home / "board")
        for path in [home / "board", *(home / "board").rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


def as_reader(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    """The command line as a user to whom the permissions of files are no mere advice, as they are to root."""

    def obey() -> None:
        for capability in (DAC_OVERRIDE, DAC_READ_SEARCH):
            ctypes.CDLL(None).prctl(CAPBSET_DROP, capability, 0, 0, 0)

    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(home)}
    return subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, *arguments], preexec_fn=obey, env=environment, cwd=home,
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


def test_readers_can_look_verify_and_publish_elsewhere(readable):
    before = sorted((str(path), path.stat().st_mtime_ns) for path in readable.root.rglob("*"))
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for arguments, said in (
            (["status"], "complete"),
            (["verify", "--sample", "5"], "all as the ledger says"),
            (["publish", "-o", str(home / "site")], "1 boards, 2 rows"),
        ):
            found = as_reader(*arguments, "-w", str(readable.root), home=home)
            assert found.returncode == 0, found.stderr
            assert said in found.stdout
        assert (home / "site" / "index.html").is_file()
        refused = as_reader("withdraw", "-m", SLUG, "--reason", "x", "-w", str(readable.root), home=home)
        assert refused.returncode == 1
        assert "Traceback" not in refused.stderr
    assert sorted((str(path), path.stat().st_mtime_ns) for path in readable.root.rglob("*")) == before


# Addresses that a stranger names -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def packed(made_board, tmp_path_factory) -> Path:
    return bundle(made_board, tmp_path_factory.mktemp("bundle") / "row.bundle")


def elsewhere(manifest, members):
    """The bundle's weights are left out, and an address named."""
    for file in manifest["files"]:
        del members[file["member"]]
    manifest["files"] = []
    for file in manifest["model"]["card"]["weights"]:
        file["urls"] = ["https://weights.example.org/w.safetensors"]


@pytest.mark.usefixtures("nothing_apart")
@pytest.mark.parametrize("verb", [["verify", "--bundle"], ["ingest"]])
def test_an_address_in_a_bundle_is_not_asked_unbidden(packed, tmp_path, verb, monkeypatch, capsys):
    assert run(["init", str(tmp_path / "board")]) == 0
    asked: list[str] = []

    def note(url, *_arguments, **_named):
        asked.append(url)
        raise OSError("no network here")

    monkeypatch.setattr("models_zoo.fetch._download_from", note)
    monkeypatch.setenv("CURVEBOARD_CACHE", str(tmp_path / "cache"))
    path = rewritten(packed, tmp_path / "b.bundle", elsewhere)
    assert run([*verb, str(path), "-w", str(tmp_path / "board")]) == 1
    said = capsys.readouterr().err
    assert asked == []
    assert "https://weights.example.org/w.safetensors" in said
    assert "--fetch" in said
    assert run([*verb, str(path), "--fetch", "-w", str(tmp_path / "board")]) == 1
    assert asked == ["https://weights.example.org/w.safetensors"]


# Passwords -----------------------------------------------------------------------------------------------------------

SECRET = "hunter2"
URLS = (
    f"postgresql+psycopg://ann:{SECRET}@db.example.org/board",
    f"postgresql+psycopg://db.example.org/board?user=ann&password={SECRET}",
    f"postgresql+psycopg://ann:{SECRET}@",
)


@pytest.mark.parametrize("url", URLS)
def test_a_password_in_the_settings_is_refused_and_never_shown(url, tmp_path, capsys):
    assert run(["init", str(tmp_path / "a"), "--database", url]) == 1
    assert not (tmp_path / "a" / CONFIG).exists()
    assert run(["init", str(tmp_path / "b")]) == 0
    config = tmp_path / "b" / CONFIG
    config.write_text(config.read_text().replace("sqlite:///curveboard.db", url))
    assert run(["status", "-w", str(tmp_path / "b")]) == 1
    said = capsys.readouterr()
    assert DATABASE_VARIABLE in said.err
    assert SECRET not in said.out + said.err


def test_the_variable_names_the_database(board, tmp_path, monkeypatch, capsys):
    other = tmp_path / "moved.db"
    shutil.move(board.root / "curveboard.db", other)
    assert run(["status", "-w", str(board.root)]) == 1
    monkeypatch.setenv(DATABASE_VARIABLE, f"sqlite:///{other}")
    assert run(["status", "-w", str(board.root)]) == 0
    assert boards.MODELS[0] in capsys.readouterr().out


@pytest.mark.parametrize("url", URLS)
def test_no_message_holds_a_password(url, monkeypatch, board, capsys):
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "2")
    monkeypatch.setenv(DATABASE_VARIABLE, url.replace("db.example.org", "127.0.0.1:9"))
    for verb in (["status"], ["doctor"], ["db", "current"], ["evaluate", "--plan"]):
        assert run([*verb, "-w", str(board.root)]) in {1, 4}
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err


def test_passwords_are_found_wherever_they_stand():
    for url in URLS:
        assert has_password(url)
        assert SECRET not in without_password(f"it failed: {url} (gone)")
        with contextlib.suppress(DatabaseError):
            assert SECRET not in str(Database(url))
    assert not has_password("postgresql+psycopg://ann@db.example.org:5432/board")
    assert not has_password("sqlite:////data/a@b:c/board.db")
    assert SECRET not in shown(URL.create("postgresql", "ann", SECRET, "h", query={"password": SECRET}))
    with pytest.raises(DatabaseError) as caught:
        Database(f"no such://ann:{SECRET}@place")
    assert SECRET not in str(caught.value)


def test_settings_that_name_a_server_are_not_for_all_to_read(tmp_path, capsys):
    with pytest.raises(WorkspaceError):
        Workspace.create(tmp_path / "a", database_url=URLS[0])
    made = Workspace.create(tmp_path / "b", database_url="postgresql+psycopg://ann@127.0.0.1:9/board")
    assert not stat.S_IMODE((made.root / CONFIG).stat().st_mode) & stat.S_IROTH
    (made.root / CONFIG).chmod(0o644)
    assert run(["doctor", "-w", str(made.root)]) == 4
    assert "can be read by all" in capsys.readouterr().out


# Names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "slug",
    ["index.html", "con", "nul", "aux.v2", "com1", "lpt9.net", "compare", "models", "boards", "static", "changes",
     "a.html", "a.js", "a.lock", "a.", "all", "..", ".", "-a", "A", "a b", "a/b", "", "a\u202eb", "a\n", "x" * 81],
)  # fmt: skip
def test_reserved_and_impossible_slugs_are_refused(slug):
    with pytest.raises(CardError, match="cannot be used"):
        check_slug(slug)


@pytest.mark.parametrize("slug", ["console", "nullspace", "common", "comparison", "resnet18", "a.b", "wong2018-l1"])
def test_names_that_only_look_like_those_are_fine(slug):
    assert check_slug(slug) == slug


# Paths of the machine ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("No such file: '/srv/secret place/board/a.db'", "No such file: '…/a.db'"),
        ("FileNotFoundError: /srv/secret/board/a.db (x.py, line 3)", "FileNotFoundError: …/a.db (x.py, line 3)"),
        ("The database sqlite:////srv/secret/a.db cannot", "The database sqlite:///…/a.db cannot"),
        ("see file:///srv/secret/a.db", "see file://…/a.db"),
        (r"C:\Users\secret\a.db is gone", "…/a.db is gone"),
        ("postgresql://ann:secret@host/db is away", "postgresql://ann:***@host/db is away"),
        ("https://example.org/a/b.html, 3/4 of l1/l2 at 8/255", "https://example.org/a/b.html, 3/4 of l1/l2 at 8/255"),
        ("models/net/model.toml, …/a/b", "models/net/model.toml, …/a/b"),
    ],
)
def test_folders_and_passwords_are_left_out_of_what_is_published(text, said):
    assert plain(text) == said
    assert plain(said) == said
    assert "secret" not in plain(text)


def test_no_path_of_the_machine_is_published(board, tmp_path, monkeypatch, capsys):
    place = str(board.root / "deep" / "file.bin")

    def run_badly(self, task, parameters):
        if parameters.attack == "near" and parameters.norm == "l2":
            raise OSError(2, "No such file", place)
        if parameters.attack == "near":
            raise UnsupportedModelError(f"there is no {place}")
        return real(self, task, parameters)

    def flagged(self, task, parameters):
        result = real_clean(self, task, parameters)
        return dataclasses.replace(result, flags=[Flag("odd", f"seen in {place}")])

    real, real_clean = boards.Line.run, Clean.run
    monkeypatch.setattr(boards.Line, "run", run_badly)
    monkeypatch.setattr(Clean, "run", flagged)
    boards.protocol(board, "far", "near")
    assert boards.evaluate(board, n=boards.N + 5) == 3
    indices, examples, _ = boards.near_examples()
    np.savez(tmp_path / "near.npz", indices=indices, examples=examples)
    assert run(["challenge", boards.MODELS[0], str(tmp_path / "near.npz"), "-w", str(board.root)]) == 0
    withdrawn = ["withdraw", "--attack", "far", "-m", boards.MODELS[1], "--reason", f"wrong, see {place}"]
    assert run([*withdrawn, "-w", str(board.root)]) == 0
    assert run(["publish", "--bundles", "-w", str(board.root)]) == 0
    (tmp_path / "exports").mkdir()
    for what in ("scores", "board", "distances", "tables", "samples"):
        capsys.readouterr()
        assert run(["export", "--what", what, "--format", "json", "-w", str(board.root)]) == 0
        (tmp_path / "exports" / f"{what}.json").write_text(capsys.readouterr().out)
    published = [path for path in board.public.rglob("*") if path.is_file()] + list(tmp_path.glob("exports/*"))
    told = 0
    for path in published:
        content = path.read_bytes()
        told += b"file.bin" in content
        for needle in (str(board.root), str(tmp_path), str(Path.home()) + "/", str(Path(sys.prefix))):
            assert needle.encode() not in content, f"{path} holds {needle}"
    assert told >= 3, "the failure, the flag and the reason are shown, by the file's name"
    with Database(board.database_url).read() as session:
        reasons = [e.reason for e in session.scalars(select(Evaluation)) if e.reason]
        assert reasons
        assert not any(str(tmp_path) in reason for reason in reasons)


# A page elsewhere whose name is pointed at this machine --------------------------------------------------------------


@pytest.fixture
def served(tmp_path) -> Iterator[int]:
    """The port of a server as `curveboard serve` starts it on this machine."""
    (tmp_path / "index.html").write_text("the board")
    handler = functools.partial(Quiet, directory=str(tmp_path), names=known_names("127.0.0.1"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:{port}", 200),
        ("localhost:{port}", 200),
        ("LOCALHOST", 200),
        ("[::1]:{port}", 200),
        ("evil.example.org:{port}", 403),
        ("evil.example.org", 403),
        ("127.0.0.1.evil.example.org:{port}", 403),
        ("127.0.0.1@evil.example.org", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
def test_it_answers_to_this_machines_own_names_only(served, host, status, method):
    connection = http.client.HTTPConnection("127.0.0.1", served, timeout=10)
    connection.putrequest(method, "/index.html", skip_host=True)
    connection.putheader("Host", host.format(port=served))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == status
    assert (b"the board" in answer.read()) == (status == 200 and method == "GET")


def test_a_site_that_is_offered_to_others_has_any_name():
    assert known_names("0.0.0.0") is None
    assert known_names("::1") == known_names("localhost")
