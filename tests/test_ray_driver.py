"""The driver of Ray and its workers, without Ray: actors in this process that lack, break or die as a test says."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable
from typing import Any

import lives
import pytest
from test_coordinator import expected  # noqa: F401 - a fixture
from test_evaluate import contents, evaluate, fake, rows  # noqa: F401 - a fixture

from benchmark.jobs import executors
from benchmark.jobs.executors.ray import START, _Drive
from benchmark.jobs.lease import MOST_ATTEMPTS
from benchmark.jobs.parcel import packed, unpacked
from benchmark.jobs.worker import PLUGINS, Home, Worker, versions
from db.schema import State


class DiedError(Exception):
    """Ray's error for an actor that is no more."""


@dataclasses.dataclass(eq=False)
class Actor:
    """A worker; what it is asked is done in order, once somebody waits for an answer."""

    number: int
    worker: Worker
    fate: Callable[[Actor, str, tuple], Any]
    queue: deque = dataclasses.field(default_factory=deque)
    dead: bool = False

    def __getattr__(self, method: str) -> Any:
        return type("Method", (), {"remote": lambda _, *arguments: self.ask(method, arguments)})()

    def ask(self, method: str, arguments: tuple) -> Reference:
        self.queue.append(reference := Reference(self, method, arguments))
        return reference


@dataclasses.dataclass(eq=False)
class Reference:
    actor: Actor
    method: str
    arguments: tuple
    answer: Any = None

    def settle(self) -> None:
        """Do what the actor was asked up to this."""
        while self in self.actor.queue:
            one = self.actor.queue.popleft()
            if not one.actor.dead:
                one.actor.dead = one.actor.fate(one.actor, one.method, one.arguments) == "die"
            one.answer = DiedError() if one.actor.dead else getattr(one.actor.worker, one.method)(*one.arguments)


class PretendedRay:
    """As much of Ray as the driver uses. ``fate`` is asked before each call whether the actor dies."""

    class exceptions:  # noqa: N801 - Ray's name
        RayError = DiedError

    def __init__(self, cpus: int = 2) -> None:
        self.cpus = cpus
        self.actors: list[Actor] = []
        self.fate: Callable[[Actor, str, tuple], Any] = lambda actor, method, arguments: None
        self.machine: Callable[[int, Any], Any] = lambda number, setting: setting
        self.put = lambda value: value
        self.alive = True

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": self.cpus}

    def remote(self, **_options: Any) -> Callable[[type[Worker]], Any]:
        def made(setting, home):
            number = len(self.actors)
            actor = Actor(number, Worker(self.machine(number, setting), home), self.fate)
            self.actors.append(actor)
            return actor

        return lambda kind: type("Class", (), {"remote": staticmethod(made)})

    def nodes(self) -> list[dict[str, bool]]:
        return [{"Alive": False}, {"Alive": self.alive}]

    def wait(self, references: list[Reference], **_options: Any) -> tuple[list[Reference], list[Reference]]:
        if not self.alive and not any(one.actor.dead for one in references):
            return [], references  # Ray waits for a node on which a new actor could run
        first, *rest = references
        first.settle()
        return [first], rest

    def get(self, reference: Reference) -> Any:
        if isinstance(reference.answer, DiedError):
            raise reference.answer
        return reference.answer

    def kill(self, actor: Actor) -> None:
        actor.dead = True


@pytest.fixture
def backend() -> str:
    return "sqlite"


@pytest.fixture
def ray(monkeypatch) -> PretendedRay:
    pretended = PretendedRay()

    class Executor:
        name = "pretended"
        title = "For tests"

        def run(self, jobs, setting, report):
            return _Drive(pretended, jobs, setting, report).run()

    monkeypatch.setattr(executors, "executors", lambda: {"pretended": Executor()})
    return pretended


ON = ("--on", "pretended")


@pytest.mark.parametrize("cpus", [1, 2, 5])
def test_any_number_of_workers_ends_in_the_bytes_of_one_process(expected, ray, workspace, cpus):  # noqa: F811
    ray.cpus = cpus
    assert evaluate(workspace, *ON) == 0
    assert contents(workspace) == expected
    assert len(ray.actors) == cpus


def test_when_a_node_dies_with_idle_workers_no_chunk_is_blamed(expected, ray, workspace):  # noqa: F811
    """Those that had nothing to do are asked whether they live before they are given what has come back."""
    ray.cpus = 12
    doomed = set(range(1, 10))

    def fate(actor, method, arguments):
        idle = [other for other in ray.actors if other.number in doomed]
        if method == "measure" and arguments[0].measure == "fake" and arguments[1] == 6 and not idle[0].dead:
            for other in idle:
                other.dead = True
            return "die"
        return None

    ray.fate = fate
    assert evaluate(workspace, *ON) == 0
    assert contents(workspace) == expected


def test_a_chunk_that_kills_every_worker_ends_as_a_failed_job(fake, ray, workspace):  # noqa: F811
    def fate(actor, method, arguments):
        deadly = method == "measure" and arguments[0].parameters.get("norm") == "l2" and arguments[1] == 3
        return "die" if deadly else None

    ray.fate = fate
    assert evaluate(workspace, *ON) == 3
    assert [row.state for row in rows(workspace)] == [State.DONE, State.DONE, State.FAILED]
    assert f"{MOST_ATTEMPTS} evaluators in a row died over it" in rows(workspace)[2].reason
    assert len(ray.actors) == 2 + MOST_ATTEMPTS


def test_workers_that_die_before_they_are_ready_are_not_asked_for_without_end(fake, ray, workspace, capsys):  # noqa: F811
    ray.fate = lambda actor, method, arguments: "die"
    assert evaluate(workspace, *ON) == 1
    assert "No machine can work" in (said := capsys.readouterr().err)
    assert "died before it was ready" in said
    assert len(ray.actors) <= 2 + START
    assert {row.state for row in rows(workspace)} == {State.QUEUED}


def test_when_no_node_is_left_the_run_ends_and_its_jobs_are_free(fake, ray, workspace, capsys):  # noqa: F811
    def fate(actor, method, arguments):
        if method == "measure" and arguments[0].measure == "fake":
            ray.alive = False
            for other in ray.actors:
                other.dead = True
            return "die"
        return None

    ray.fate = fate
    assert evaluate(workspace, *ON) == 1
    assert "No machine of the Ray cluster is left" in capsys.readouterr().err
    assert [row.state for row in rows(workspace)] == [State.DONE, State.QUEUED, State.QUEUED]


def test_a_machine_with_another_version_is_named_and_the_others_do_its_work(expected, ray, workspace, caplog):  # noqa: F811
    real = versions()

    def fate(actor, method, arguments):
        if method == "prepare" and actor.number == 0:
            arguments[0]["torch"] = "1.0"

    ray.fate = fate
    assert evaluate(workspace, *ON) == 0
    assert contents(workspace) == expected
    assert f"cannot work: it has other versions than the driver (torch {real['torch']} here, 1.0 there)" in caplog.text


def test_a_machine_whose_store_is_another_place_is_found_out_before_anything_is_committed(
    expected,  # noqa: F811
    ray,
    workspace,
    tmp_path,
    caplog,
):
    """A folder of the same name on another machine would take the evidence, and nobody would find it again."""
    ray.machine = lambda number, setting: (
        dataclasses.replace(setting, artifacts=tmp_path / "elsewhere") if number == 0 else setting
    )
    assert evaluate(workspace, *ON) == 0
    assert contents(workspace) == expected
    assert "the store must be one place for all machines" in caplog.text


def test_a_machine_that_cannot_write_into_the_store_is_named(fake, ray, workspace, tmp_path, capsys):  # noqa: F811
    (tmp_path / "file").write_text("no folder")
    ray.machine = lambda number, setting: dataclasses.replace(setting, artifacts=tmp_path / "file" / "store")
    assert evaluate(workspace, *ON) == 1
    assert "No machine can work" in (said := capsys.readouterr().err)
    assert str(tmp_path / "file") in said
    assert {row.state for row in rows(workspace)} == {State.QUEUED}


def test_a_submitted_model_that_a_machine_lacks_is_sent_to_it_once(fake, ray, workspace, tmp_path):  # noqa: F811
    lives.make(workspace.models, "mine", seed=1)
    assert evaluate(workspace, *ON, "-m", "mine") == 0
    there = contents(workspace)
    sent = []

    def put(value):
        sent.append(value)
        return value

    ray.put = put
    ray.machine = lambda number, setting: dataclasses.replace(setting, models=tmp_path / f"nothing{number}")
    assert evaluate(workspace, *ON, "-m", "mine", "--rerun", "all") == 0
    assert contents(workspace) == there
    assert len(sent) == 1  # and no machine asked for a model of the zoo
    assert unpacked(sent[0], tmp_path / "look").joinpath("model.toml").exists()


def test_a_machine_with_another_model_of_that_name_is_sent_the_one_of_the_plan(fake, ray, workspace, tmp_path):  # noqa: F811
    lives.make(workspace.models, "mine", seed=1)
    assert evaluate(workspace, *ON, "-m", "mine") == 0
    there = contents(workspace)
    lives.make(tmp_path / "models", "mine", seed=2)
    ray.machine = lambda number, setting: dataclasses.replace(setting, models=tmp_path / "models")
    assert evaluate(workspace, *ON, "-m", "mine", "--rerun", "all") == 0
    assert contents(workspace) == there


def test_plug_ins_that_a_machine_lacks_or_has_otherwise_are_those_of_the_driver(workspace, tmp_path, monkeypatch):
    monkeypatch.setenv("CURVEBOARD_PLUGINS", "")  # put back afterwards
    driver = tmp_path / "driver"
    (driver / "measures").mkdir(parents=True)
    (driver / "measures" / "own.py").write_text("MEASURE = 1\n")
    setting = executors.Setting(workspace.database_url, workspace.artifacts, workspace.models, workspace.locks)
    home = Home(driver, packed(driver, PLUGINS))
    assert Worker(setting, home)._plugins() == driver
    (driver / "measures" / "own.py").write_text("MEASURE = 2\n")
    worker = Worker(setting, home)
    assert (worker._plugins() / "measures" / "own.py").read_text() == "MEASURE = 1\n"
    assert Worker(setting, Home(None, b""))._plugins() is None


def test_a_parcel_holds_the_regular_files_and_is_the_same_for_the_same_files(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (two, one):
        (folder / "deep").mkdir(parents=True)
        (folder / "b").write_bytes(b"\0\1")
        (folder / "deep" / "a").write_bytes(b"x" * 1000)
    (one / "link").symlink_to("/etc/passwd")
    assert packed(one) == packed(two)
    found = unpacked(packed(one), tmp_path / "three")
    assert {path.relative_to(found).as_posix(): path.read_bytes() for path in found.rglob("*") if path.is_file()} == {
        "b": b"\0\1",
        "deep/a": b"x" * 1000,
    }
