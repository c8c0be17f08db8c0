"""Careless plug-ins: whatever one does to what it is lent or to the whole process, the results are as if it had not."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import warnings

import boards
import numpy as np
import pytest
import torch
from sqlalchemy import select

from benchmark import global_state
from benchmark.cli import run
from benchmark.data import get_dataset
from benchmark.isolation import isolated
from db.schema import Chunk, Evaluation, Flag, State
from db.session import Database


def labels(task):
    task.y.add_(1)


def images(task):
    task.x.fill_(0.5)


def pool(task):
    task.pool.zero_()


def parameters(task):
    for parameter in task.module.parameters():
        parameter.data.neg_()


def dataset_images(task):
    task.dataset.stored(0, 20)[:] = 0


def dataset_labels(task):
    task.dataset.labels(0, 20)[:] = 0


def registered_dataset(task):
    images, targets = get_dataset("digits").load(20)
    images.zero_()
    targets.zero_()


def default_dtype(task):
    torch.set_default_dtype(torch.float64)


def default_device(task):
    torch.set_default_device("meta")


def gradients_off(task):
    torch.set_grad_enabled(False)


def inference(task):
    ENTERED.append(torch.inference_mode())
    ENTERED[-1].__enter__()


def deterministic(task):
    torch.use_deterministic_algorithms(True)


def threads(task):
    torch.set_num_threads(3)


def errors(task):
    np.seterr(all="raise")


def folder(task):
    os.chdir("/")


def environment(task):
    os.environ.clear()


def new_variable(task):
    os.environ["NOBODYS_VARIABLE"] = "1"


def seeds(task):
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)


def warned(task):
    warnings.simplefilter("ignore")


def training(task):
    task.module.train()


ENTERED: list[torch.inference_mode] = []
QUIET = {labels, images, pool, registered_dataset, new_variable, seeds, warned, training}
"""What is put back, or was a copy, and needs no telling."""
REFUSED = {dataset_images, dataset_labels}
ACTS = [
    labels, images, pool, parameters, dataset_images, dataset_labels, registered_dataset, default_dtype, default_device,
    gradients_off, inference, deterministic, threads, errors, folder, environment, new_variable, seeds,
    warned, training,
]  # fmt: skip


@pytest.fixture(scope="module")
def honest(made_board, tmp_path_factory):
    """The ledgers with the attack ``near`` as it should be."""
    workspace = boards.copied(made_board, tmp_path_factory.mktemp("honest") / "board")
    boards.protocol(workspace, "far", "near")
    assert boards.evaluate(workspace) == 0
    return boards.all_distances(workspace)


def state() -> dict[str, object]:
    """The global state, without the environment's variables that the programs here set themselves."""
    found = {name: read() for name, (read, _) in global_state._TOLD.items()}
    return {**found, "the environment": ("PATH" in os.environ, "NOBODYS_VARIABLE" in os.environ)}


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_results_are_as_if_it_had_behaved(board, honest, act, monkeypatch):
    real = boards.Line.run

    def careless(self, task, settings):
        result = real(self, task, settings)
        if settings.attack == "near":
            act(task)
        return result

    before = state()
    monkeypatch.setattr(boards.Line, "run", careless)
    boards.protocol(board, "far", "near")
    code = boards.evaluate(board)
    assert state() == before
    with Database(board.database_url).read() as session:
        rows = [row for row in session.scalars(select(Evaluation)) if row.parameters.get("attack") == "near"]
        if act in REFUSED:
            assert code == 3
            assert all("read-only" in (row.reason or "") for row in rows)
            return
        assert code == 0
        assert {row.state for row in rows} == {State.DONE}
        told = set(session.scalars(select(Flag.code)))
        assert ("model-changed" in told) == (act not in QUIET)
    assert boards.all_distances(board) == honest
    assert run(["verify", "-w", str(board.root)]) == 0


class Liar(torch.Tensor):
    """A tensor that says of every comparison that nothing differs, and of every distance that it is tiny."""

    @classmethod
    def __torch_function__(cls, function, types, arguments=(), named=None):
        found = super().__torch_function__(function, types, arguments, named or {})
        return found * 1e-6 if function in {torch.Tensor.sub, torch.Tensor.abs, torch.Tensor.amax} else found


@pytest.mark.parametrize(
    "odd",
    [
        lambda found: found.as_subclass(Liar),
        lambda found: found.double(),
        lambda found: found.requires_grad_(),
        lambda found: found.to(memory_format=torch.channels_last),
        lambda found: found.expand(len(found), *found.shape[1:]),
    ],
    ids=["subclass", "double", "gradient", "layout", "view"],
)
def test_examples_of_an_odd_kind_are_measured_as_what_they_are(board, honest, odd, monkeypatch):
    real = boards.on_the_way
    monkeypatch.setattr(boards, "on_the_way", lambda *args, **named: odd(real(*args, **named)))
    boards.protocol(board, "far", "near")
    assert boards.evaluate(board) == 0
    assert boards.all_distances(board) == honest
    assert run(["verify", "-w", str(board.root)]) == 0


@pytest.mark.parametrize(
    "bad",
    [
        lambda found: found[:, :, :4],
        lambda found: found[:3],
        lambda found: torch.full_like(found, torch.nan),
        lambda found: found * 1e30,
        lambda found: found.to(torch.complex64),
        lambda found: (255 * found).to(torch.uint8),
        lambda found: found.to_sparse(),
    ],
    ids=["shape", "rows", "nan", "huge", "complex", "bytes", "sparse"],
)
def test_examples_that_are_none_enter_nothing(board, bad, monkeypatch):
    before = boards.all_distances(board)
    real = boards.on_the_way
    monkeypatch.setattr(boards, "on_the_way", lambda *args, **named: bad(real(*args, **named)))
    boards.protocol(board, "far", "near")
    assert boards.evaluate(board) in {0, 3}
    with Database(board.database_url).read() as session:
        for row in session.scalars(select(Evaluation)):
            if row.parameters.get("attack") == "near":
                assert "Traceback" not in (row.reason or "")
                found = [a.data for chunk in row.chunks for a in chunk.arrays if a.name == "distance_linf"]
                assert all(((data == 0) | np.isinf(data)).all() for data in found), "nothing of it is believed"
        assert session.scalars(select(Chunk)).first() is not None
    assert boards.all_distances(board) == before
    assert run(["verify", "-w", str(board.root)]) == 0


def test_what_an_error_leaves_behind_is_put_back_too():
    model = torch.nn.Linear(2, 2)
    with pytest.raises(ZeroDivisionError), isolated(model, torch.zeros(1, 2), torch.zeros(1)) as own:
        torch.set_default_dtype(torch.float64)
        own.model.weight.data.zero_()
        raise ZeroDivisionError
    assert torch.get_default_dtype() == torch.float32
    assert model.weight.abs().sum() > 0
    assert own.changed == ["torch's default dtype", "weight"]


def test_what_libraries_do_when_first_imported_is_held_against_nobody():
    """In a fresh process: torch's compiler, which counts operations, sets variables of its own."""
    code = """
from benchmark.conformance import check_conformance
from benchmark.data import get_dataset
from benchmark.isolation import isolated
from models_zoo import load_model

x, y = get_dataset("digits").load(20)
with isolated(load_model("digits-standard"), x, y) as own:
    check_conformance(own.model, own.x, own.y, classes=10)
print(own.changed)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
