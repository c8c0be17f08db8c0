"""The changelog and attack credit: what an evaluation changed on the boards, and who is to be thanked."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import boards
import numpy as np
import pytest
from sqlalchemy import select

from benchmark.board.credit import contributor, credit
from benchmark.board.history import record_change, record_rows
from benchmark.board.record import ChunkResult, add_chunk, finish
from benchmark.board.withdraw import withdraw_evaluations, withdraw_model
from benchmark.cli import run
from benchmark.results import Output, Summary
from db.queries import changes
from db.schema import Cell, Change, Dataset, Evaluation, Model, Protocol, State
from db.session import Database

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EPS = {"linf": [0.1, 0.2], "l2": [1.0], "l1": []}


CHANGES = {"challenge": "challenge-accepted", "transfer": "transfer-lowered"}


class Bench:
    """A board with invented distances, so that every number in the changelog is known beforehand."""

    def __init__(self, session):
        self.session = session
        self.dataset = Dataset(name="d", digest="0" * 64, title="d", size=4, card={"eps": EPS}, added_at=NOW)
        self.protocol = Protocol(name="p", version=1, title="p", spec={}, added_at=NOW)
        session.add_all([self.dataset, self.protocol])
        session.flush()
        self.count = 0

    def model(self, slug):
        self.count += 1
        row = Model(slug=slug, digest=f"{self.count:064d}", title=slug, card={}, added_at=NOW)
        self.session.add(row)
        self.session.flush()
        return row

    def queue(self, model, *, measure="curve", attack="fab", n=4, cell=True, norms=("linf", "l2"), **parameters):
        self.count += 1
        row = Evaluation(
            key=str(self.count),
            model_id=model.id,
            dataset_id=self.dataset.id,
            n=n,
            samples=n,
            measure=measure,
            version=1,
            parameters={"attack": attack, **parameters} if measure == "curve" else parameters,
            provenance={"method": {"change": CHANGES.get(measure, "")}},
            norm=None,
            seed=0,
            state=State.QUEUED,
            created_at=NOW,
            outputs=[upper(norm) for norm in norms] if measure == "curve" else [],
        )
        self.session.add(row)
        self.session.flush()
        if cell:
            ids = {"protocol_id": self.protocol.id, "model_id": model.id, "dataset_id": self.dataset.id}
            self.session.add(Cell(**ids, n=n, evaluation_id=row.id))
            self.session.flush()
        return row

    def done(self, row, linf=None, *, seconds=1.0, passes=10):
        """Finish an evaluation with these linf distances; l2 ones are ten times as large."""
        arrays = {}
        if linf is not None:
            distances = np.array(linf, dtype=np.float64)
            arrays = {"distance_linf": distances, "distance_l2": 10 * distances, "distance_l1": 50 * distances}
        add_chunk(
            self.session,
            row,
            ChunkResult(
                start=0,
                stop=len(linf or [0]),
                arrays=arrays,
                evidence=None,
                flags=(),
                seconds=seconds,
                forward_passes=passes,
                backward_passes=passes,
            ),
        )
        finish(row, Summary(), [])
        return record_change(self.session, row)


def upper(norm):
    return Output("distance", "upper", "Distance", "", threat=norm, array=f"distance_{norm}").to_json()


@pytest.fixture
def bench(database):
    with database.write() as session:
        yield Bench(session)


def entries(session, kind=None):
    query = select(Change).order_by(Change.id)
    return [change for change in session.scalars(query) if kind in {None, change.kind}]


# The changelog -----------------------------------------------------------------------------------------------------


def test_a_row_joins_the_changelog_when_it_is_complete(bench):
    model = bench.model("a")
    first, second = bench.queue(model), bench.queue(model, attack="pgd")
    assert bench.done(first, [0.05, 0.15, 0.25, np.inf]) is None
    assert entries(bench.session) == []
    assert bench.done(second, [0.05, 0.15, 0.25, 0.3]) is None  # part of the row's first evaluation
    (entry,) = entries(bench.session)
    assert (entry.kind, entry.model_id) == ("model-added", model.id)
    (board,) = entry.detail["boards"]
    assert (board["protocol"], board["version"], board["n"], board["rows"]) == ("p", 1, 4, 1)
    assert board["norms"]["linf"] == [
        {"eps": 0.1, "before": None, "after": {"robust_accuracy": 0.75, "rank": 1}},
        {"eps": 0.2, "before": None, "after": {"robust_accuracy": 0.5, "rank": 1}},
    ]
    assert set(board["norms"]) == {"linf", "l2"}


@pytest.mark.parametrize("norms", [("linf",), ("l2",), ()])
def test_a_row_has_accuracies_only_in_the_norms_in_which_it_was_attacked(bench, norms):
    bench.done(bench.queue(bench.model("one"), norms=norms), [0.05, 0.15, 0.3, np.inf])
    (entry,) = entries(bench.session)
    (board,) = entry.detail["boards"]
    assert set(board["norms"]) == set(norms)
    assert board["rows"] == 1


def test_a_norm_is_told_of_while_a_new_attack_in_it_is_still_to_come(bench):
    model = bench.model("one")
    first, second = bench.queue(model, norms=("linf",)), bench.queue(model, attack="pgd", norms=("l2",))
    for row in (first, second):
        bench.done(row, [0.05, 0.15, 0.3, 0.4])
    second.state = State.QUEUED  # a new version of it is wanted
    change = bench.done(bench.queue(model, attack="new", norms=("linf",)), [0.05, 0.05, 0.3, 0.4])
    (board,) = change.detail["boards"]
    assert [point["after"]["robust_accuracy"] for point in board["norms"]["l2"]] == [0.5]


def test_a_cell_that_does_not_apply_completes_a_row_too(bench):
    model = bench.model("a")
    first, second = bench.queue(model), bench.queue(model, measure="certificate")
    bench.done(first, [0.1, 0.2, 0.3, 0.4])
    second.state = State.UNSUPPORTED
    assert record_change(bench.session, second) is None
    assert [entry.kind for entry in entries(bench.session)] == ["model-added"]


def test_a_new_attack_is_told_with_samples_accuracies_and_ranks(bench):
    strong, weak = bench.model("strong"), bench.model("weak")
    bench.done(bench.queue(strong), [0.15, 0.25, 0.25, np.inf])
    bench.done(bench.queue(weak), [0.05, 0.15, 0.25, 0.25])
    change = bench.done(bench.queue(strong, attack="new"), [0.3, 0.05, 0.05, 0.05])
    assert change.kind == "distances-lowered"
    assert change.detail["by"] == "new"
    assert change.detail["norms"]["linf"] == {
        "lowered": 3,
        "found": 1,
        "new": 0,
        "largest": {"index": 1, "before": 0.25, "after": 0.05},
    }
    (board,) = change.detail["boards"]
    assert board["norms"]["linf"][0] == {
        "eps": 0.1,
        "before": {"robust_accuracy": 1.0, "rank": 1},
        "after": {"robust_accuracy": 0.25, "rank": 2},
    }
    assert board["norms"]["linf"][1] == {
        "eps": 0.2,
        "before": {"robust_accuracy": 0.75, "rank": 1},
        "after": {"robust_accuracy": 0.0, "rank": 2},
    }


def test_an_attack_that_lowers_nothing_is_no_entry(bench):
    model = bench.model("a")
    bench.done(bench.queue(model), [0.1, 0.2, 0.3, 0.4])
    assert bench.done(bench.queue(model, attack="worse"), [0.1, 0.2, 0.3, 0.5]) is None
    assert bench.done(bench.queue(model, measure="clever")) is None  # it brings no distances at all
    assert len(entries(bench.session)) == 1


def test_ranks_are_those_after_the_changes_before(bench):
    first, second = bench.model("first"), bench.model("second")
    bench.done(bench.queue(first), [0.3, 0.3, 0.3, 0.3])
    bench.done(bench.queue(second), [0.3, 0.3, 0.3, 0.15])
    assert bench.done(bench.queue(first, attack="x"), [0.15, 0.15, 0.15, 0.3]).detail["boards"][0]["norms"]["linf"][1][
        "after"
    ] == {"robust_accuracy": 0.25, "rank": 2}
    # Ties share a rank: one more than the rows that are strictly better.
    assert bench.done(bench.queue(second, attack="x"), [0.15, 0.15, 0.3, 0.15]).detail["boards"][0]["norms"]["linf"][1][
        "after"
    ] == {"robust_accuracy": 0.25, "rank": 1}


def test_new_weights_of_a_model_replace_its_old_row_in_the_ranks(bench):
    bench.done(bench.queue(bench.model("a")), [0.3, 0.3, 0.3, 0.3])
    bench.done(bench.queue(bench.model("a")), [0.1, 0.1, 0.1, 0.1])
    board = entries(bench.session)[-1].detail["boards"][0]
    assert (board["rows"], board["norms"]["linf"][1]["after"]["rank"]) == (1, 1)


def test_a_challenge_is_always_an_entry_with_its_author(bench):
    model = bench.model("a")
    change = bench.done(bench.queue(model, measure="challenge", cell=False, author="Eve"), [0.1, 0.1])
    assert (change.kind, change.detail["by"], change.detail["boards"]) == ("challenge-accepted", "challenge: Eve", [])
    assert change.detail["norms"]["linf"] == {"lowered": 0, "found": 0, "new": 2}


def test_rows_made_complete_by_a_new_protocol_alone_are_entered(bench):
    model = bench.model("a")
    row = bench.queue(model)
    bench.done(row, [0.1, 0.2, 0.3, 0.4])
    newer = Protocol(name="p", version=2, title="p", spec={}, added_at=NOW)
    bench.session.add(newer)
    bench.session.flush()
    ids = {"protocol_id": newer.id, "model_id": model.id, "dataset_id": bench.dataset.id}
    bench.session.add(Cell(**ids, n=4, evaluation_id=row.id))
    (entry,) = record_rows(bench.session)
    assert entry.detail["boards"][0]["version"] == 2
    assert record_rows(bench.session) == []


def test_a_lowered_distance_moves_every_board_that_has_the_sample(bench):
    model = bench.model("a")
    bench.done(bench.queue(model), [0.3, 0.3, 0.3, 0.3])
    bench.done(bench.queue(model, n=2), [0.3, 0.3])
    change = bench.done(bench.queue(model, measure="transfer", cell=False), [0.4, 0.4, 0.15, 0.4])
    assert [board["n"] for board in change.detail["boards"]] == [4]
    assert change.kind == "transfer-lowered"
    change = bench.done(bench.queue(model, measure="transfer", cell=False, norm="l2"), [0.15, 0.4, 0.4, 0.4])
    assert sorted(board["n"] for board in change.detail["boards"]) == [2, 4]


# Withdrawals ---------------------------------------------------------------------------------------------------------


def standings(entry, norm="linf"):
    """What an entry says of its one board: (accuracy, rank) before and after, at the first published budget."""
    (board,) = entry.detail["boards"]
    point = board["norms"][norm][0]
    return [point[when] and (point[when]["robust_accuracy"], point[when]["rank"]) for when in ("before", "after")]


def test_a_withdrawn_result_does_not_survive_in_what_the_changelog_remembers(bench):
    first, second = bench.model("first"), bench.model("second")
    bench.done(bench.queue(first), [0.3, 0.3, 0.3, 0.3])
    bench.done(bench.queue(second), [0.3, 0.3, 0.3, 0.05])
    challenge = bench.queue(first, measure="challenge", cell=False)
    assert standings(bench.done(challenge, [0.05, 0.05, 0.05, 0.3])) == [(1.0, 1), (0.25, 2)]
    (entry,) = withdraw_evaluations(bench.session, "made with other images", measure="challenge")
    assert standings(entry) == [(0.25, 2), (1.0, 1)]
    change = bench.done(bench.queue(second, attack="x"), [0.05, 0.3, 0.3, 0.3])
    assert standings(change) == [(0.75, 2), (0.5, 2)], "the first is ahead of it again"
    change = bench.done(bench.queue(first, attack="x"), [0.05, 0.05, 0.05, 0.05])
    assert standings(change) == [(1.0, 1), (0.0, 2)], "nothing of the challenge is left in it"


def test_a_row_that_lacks_what_was_withdrawn_has_no_rank_until_it_is_back(bench):
    first, second = bench.model("first"), bench.model("second")
    own = bench.queue(first)
    bench.done(own, [0.3, 0.3, 0.3, 0.3])
    bench.done(bench.queue(second), [0.3, 0.3, 0.3, 0.05])
    (entry,) = withdraw_evaluations(bench.session, "its seed was the clock", model="first", attack="fab")
    assert entry.detail["boards"] == [{"protocol": "p", "version": 1, "n": 4, "rows": 1, "norms": {}, "left": True}]
    change = bench.done(bench.queue(second, attack="x"), [0.3, 0.3, 0.05, 0.3])
    assert standings(change) == [(0.75, 1), (0.5, 1)]
    own.chunks = []  # as a run with --rerun failed does
    bench.session.flush()
    assert bench.done(own, [0.3, 0.3, 0.05, 0.3]) is None
    entry = entries(bench.session)[-1]
    assert entry.kind == "model-returned"
    assert standings(entry) == [None, (0.75, 1)]
    assert entry.detail["boards"][0]["rows"] == 2


def test_a_withdrawn_model_leaves_the_ranks_and_does_not_join_again(bench):
    first, second = bench.model("first"), bench.model("second")
    bench.done(bench.queue(first), [0.3, 0.3, 0.3, 0.3])
    bench.done(bench.queue(second), [0.3, 0.3, 0.3, 0.05])
    withdraw_model(bench.session, "first", "trained on the test images")
    change = bench.done(bench.queue(second, attack="x"), [0.3, 0.3, 0.05, 0.3])
    assert standings(change) == [(0.75, 1), (0.5, 1)]
    assert bench.done(bench.queue(first, attack="x"), [0.3, 0.3, 0.3, 0.2]) is None
    assert [entry.kind for entry in entries(bench.session) if entry.model_id == first.id] == [
        "model-added",
        "withdrawn",
    ]


def test_new_weights_are_told_with_what_the_old_ones_had(bench):
    bench.done(bench.queue(bench.model("a")), [0.3, 0.3, 0.3, 0.3])
    bench.done(bench.queue(bench.model("b")), [0.3, 0.3, 0.3, 0.05])
    bench.done(bench.queue(bench.model("a")), [0.05, 0.05, 0.05, 0.3])
    entry = entries(bench.session)[-1]
    assert entry.kind == "new-weights"
    assert standings(entry) == [(1.0, 1), (0.25, 2)]


def test_the_same_result_run_again_is_no_change(bench):
    model = bench.model("a")
    row = bench.queue(model)
    bench.done(row, [0.3, 0.3, 0.3, np.inf])
    bench.done(bench.queue(model, measure="challenge", cell=False), [0.25, 0.3, 0.3, 0.3])
    count = len(entries(bench.session))
    row.chunks = []  # as a run with --rerun all does
    bench.session.flush()
    bench.done(row, [0.3, 0.3, 0.3, np.inf])
    assert len(entries(bench.session)) == count


def test_dropping_an_attack_in_tells_the_story(workspace, capsys):
    boards.build(workspace)
    before = boards.board_ledger(workspace, norm="linf").distances
    boards.protocol(workspace, "far", "near")
    assert boards.evaluate(workspace) == 0
    with Database(workspace.database_url).read() as session:
        lowered = [change for change in changes(session) if change.kind == "distances-lowered"]
    assert {(change.model, change.detail["by"]) for change in lowered} == {(slug, "near") for slug in boards.MODELS}
    lower = int((boards.board_ledger(workspace, norm="linf").distances < before).sum())
    assert lower > 10
    capsys.readouterr()
    assert run(["history", "digits-standard", "-w", str(workspace.root)]) == 0
    said = capsys.readouterr().out
    assert f"digits-standard: near; linf: {lower} lowered" in said
    assert "digits-standard: joined the board of digits" in said
    assert "digits-16-16" not in said
    assert "lines@1[:20] l2 at 0.5: robust" in said


def test_history_names_the_nearest_model(workspace, capsys):
    boards.build(workspace)
    assert run(["history", "digits-standart", "-w", str(workspace.root)]) == 1
    assert "Did you mean 'digits-standard'" in capsys.readouterr().err


# Credit ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measure", "parameters", "name"),
    [
        ("curve", {"attack": "fab", "norm": "l2"}, "fab"),
        ("autoattack", {"norm": "l2", "eps": 0.1}, "autoattack"),
        ("challenge", {"author": "Eve"}, "challenge: Eve"),
        ("challenge", {"author": ""}, "challenge: anonymous"),
        ("transfer", {"norm": "l2"}, "transfer"),
    ],
)
def test_the_contributor_is_the_attack_or_the_author_or_the_measure(measure, parameters, name):
    assert contributor(measure, parameters) == name


def test_credit_counts_what_each_attack_alone_decided(bench):
    model = bench.model("a")
    bench.done(bench.queue(model), [0, 0.15, 0.25, np.inf], seconds=2, passes=100)
    bench.done(bench.queue(model, attack="pgd"), [0, 0.15, 0.05, 0.15], seconds=3, passes=7)
    fab, pgd = sorted(
        (c for c in credit(bench.session, dataset_id=bench.dataset.id, n=4) if c.norm == "linf"),
        key=lambda c: c.contributor,
    )
    assert (fab.contributor, fab.decided, fab.shared, fab.found) == ("fab", 0, 1, 0)
    assert (pgd.contributor, pgd.decided, pgd.shared, pgd.found) == ("pgd", 2, 1, 1)
    assert (fab.samples, fab.models, fab.seconds, fab.forward_passes, fab.backward_passes) == (4, 1, 2.0, 100, 100)
    assert (pgd.seconds, pgd.forward_passes) == (3.0, 7)
    # Without pgd: 0.15, 0.25, inf; capped at the largest published eps, 0.2: it took 0.15 + 0.05 off, over 4 samples.
    assert pgd.area == pytest.approx((0.15 + 0.05) / 4)
    assert fab.area == 0
    assert pgd.robust_accuracy == {0.1: 0.25, 0.2: 0.5}
    assert fab.robust_accuracy == {0.1: 0.0, 0.2: 0.0}


def test_a_misclassified_image_is_nobodys_credit(bench):
    model = bench.model("a")
    bench.done(bench.queue(model), [0, 0, 0, 0.15])
    (only,) = (c for c in credit(bench.session, dataset_id=bench.dataset.id, n=4) if c.norm == "linf")
    assert (only.decided, only.found, only.area) == (1, 1, pytest.approx(0.05 / 4))


def test_credit_of_many_models_and_of_an_earlier_day(bench):
    one, two = bench.model("one"), bench.model("two")
    rows = [bench.queue(one), bench.queue(two), bench.queue(two, attack="pgd")]
    bench.done(rows[0], [0.3, 0.3, 0.3, 0.3])
    bench.done(rows[1], [0.3, 0.3, 0.3, 0.3])
    bench.done(rows[2], [0.1, 0.3, 0.3, 0.3])
    bench.session.flush()
    found = {(c.contributor, c.norm): c for c in credit(bench.session, dataset_id=bench.dataset.id, n=4)}
    assert (found["fab", "l2"].models, found["fab", "l2"].decided) == (2, 4)  # on two it shares three with pgd
    assert (found["pgd", "l2"].models, found["pgd", "l2"].decided) == (1, 1)
    narrowed = credit(bench.session, dataset_id=bench.dataset.id, n=4, model_ids=[one.id])
    assert {c.contributor for c in narrowed} == {"fab"}
    before = credit(bench.session, dataset_id=bench.dataset.id, n=4, as_of=rows[1].finished_at)
    assert {c.contributor for c in before} == {"fab"}
    assert credit(bench.session, dataset_id=bench.dataset.id, n=4, protocol_id=bench.protocol.id) == list(
        found.values()
    )


def test_the_command_shows_credit_for_each_board(board, capsys):
    boards.protocol(board, "far", "near")
    assert boards.evaluate(board) == 0
    capsys.readouterr()
    assert run(["credit", "-w", str(board.root), "--json"]) == 0
    (given,) = json.loads(capsys.readouterr().out).values()
    l2 = {c["contributor"]: c for c in given if c["norm"] == "l2"}
    assert (l2["near"]["models"], l2["far"]["models"]) == (2, 2)
    assert l2["near"]["decided"] > 20 > l2["far"]["decided"]
    assert run(["credit", "-w", str(board.root), "-m", boards.MODELS[0]]) == 0
    said = capsys.readouterr().out
    assert "digits-20-lines:" in said
    assert f"of {boards.N}" in said
    assert run(["credit", "-w", str(board.root), "-m", "digits-standart"]) == 1
    assert run(["credit", "-w", str(board.root), "-d", "mnist"]) == 1
