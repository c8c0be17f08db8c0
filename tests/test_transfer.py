"""Transfer attacks: a linear model's closed form, the published transformations, and source × target on a board."""

import numpy as np
import pytest
import torch
from scipy.stats import norm as normal
from sqlalchemy import select
from test_strength import distances, two_class_problem
from torch import nn

from benchmark.attacks import momentum
from benchmark.attacks.momentum import METHODS, diverse, kernel, momentum_attack, smoothed
from benchmark.cli import run
from benchmark.data import get_dataset
from benchmark.errors import InputError, UnknownNameError, UnsupportedModelError
from benchmark.jobs.protocol import source_models
from benchmark.measures import Inputs, Task
from benchmark.measures.transferability import MEASURE, TOGETHER, TransferabilityParameters
from benchmark.threat import distances as measured
from benchmark.threat.ascent import ascend
from benchmark.verification import verify
from benchmark.workspace import Workspace
from db.migrate import upgrade
from db.schema import Evaluation, State
from db.session import Database
from models_zoo import load_model

MI = METHODS["mi"]


def transferred(sources, net, x, y, parameters, *, itself=()):
    return MEASURE.run(Task(net, net, x, y, sources=sources, itself=frozenset(itself)), parameters)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_from_a_linear_model_to_itself_whatever_is_nearer_than_eps_breaks_and_nothing_else(norm):
    net, x, y = two_class_problem()
    exact = distances(net, x, y, norm)
    eps = float(np.sort(exact)[5:7].mean())
    parameters = TransferabilityParameters(norm, eps, ("twin",), ("mi",))
    result = transferred({"twin": net}, net, x, y, parameters, itself=["twin"])
    np.testing.assert_array_equal(result.arrays["right"][:, 0, 0], exact > eps)
    found = verify(net, x, y, result.adversarials).distances[norm].numpy()
    assert (found[exact < eps] <= eps).all()


def test_a_source_of_parallel_weights_transfers_wholly_and_of_opposite_ones_never():
    net, x, y = two_class_problem()
    parallel, opposite = (nn.Sequential(nn.Flatten(), nn.Linear(16, 2, bias=False)).eval() for _ in range(2))
    parallel[1].weight.data = 0.3 * net[1].weight.data
    opposite[1].weight.data = -net[1].weight.data
    eps = float(distances(net, x, y, "linf").max()) * 1.01
    parameters = TransferabilityParameters("linf", eps, ("parallel", "opposite"), ("mi",))
    result = transferred({"parallel": parallel, "opposite": opposite}, net, x, y, parameters)
    assert not result.arrays["right"][:, 0].any()
    assert result.arrays["right"][:, 1].all()
    # Together the logits are averaged: 0.3 and -1 of the same weights point the wrong way.
    assert result.arrays["right"][:, 2].all()


def test_on_itself_it_succeeds_at_least_as_often_as_the_white_box_attack_of_the_same_steps():
    model = load_model("digits-standard")
    x, y = get_dataset("digits").load(60)
    eps, steps = 0.1, 10
    with torch.enable_grad():
        iterated = ascend(
            lambda z: nn.functional.cross_entropy(model(z), y, reduction="sum"),
            x, torch.zeros_like(x), norm="linf", eps=eps, step=eps / steps, steps=steps,
        )  # fmt: skip
    white_box = (model(iterated).argmax(1) != y).sum()
    right = transferred({"own": model}, model, x, y, TransferabilityParameters("linf", eps, ("own",), ("mi",)))
    assert 0.3 * len(y) < white_box <= (~right.arrays["right"]).sum()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_stays_in_the_ball_and_the_box_and_is_reproducible(method, norm):
    model = load_model("digits-conv")
    x, y = get_dataset("digits").load(20)
    made = [momentum_attack([model], x, y, norm=norm, eps=0.1, steps=5, how=METHODS[method], seed=3) for _ in "ab"]
    assert torch.equal(*made)
    assert made[0].min() >= 0
    assert made[0].max() <= 1
    assert measured(x, made[0], norm).max() <= 0.1 * (1 + 1e-5)
    assert measured(x, made[0], norm).min() > 0.05


def test_the_kernel_of_translation_invariance_is_the_published_one():
    row = normal.pdf(np.linspace(-3, 3, 15))  # Dong et al.'s gkern(15, 3)
    published = np.outer(row, row) / np.outer(row, row).sum()
    np.testing.assert_allclose(kernel(299).numpy(), published, rtol=1e-12)
    assert [len(kernel(side)) for side in (8, 28, 32, 64, 224)] == [3, 7, 7, 15, 15]
    gradient = torch.zeros(1, 2, 32, 32)
    gradient[0, 0, 10, 20] = 1
    np.testing.assert_allclose(smoothed(gradient)[0, 0, 7:14, 17:24], kernel(32), rtol=1e-6)
    assert not smoothed(gradient)[0, 1].any(), "channels are not mixed"


def test_diverse_inputs_are_the_image_smaller_and_black_around_it_seven_times_in_ten():
    generator = torch.Generator().manual_seed(0)
    sides, changed = set(), 0
    for _ in range(60):
        shown = diverse(torch.ones(50, 1, 30, 30), generator)
        small = shown[shown.flatten(1).sum(1) < 900]
        changed += len(small)
        assert all(torch.equal(image, small[0]) for image in small), "size and place are drawn once for all"
        rows, columns = small[0, 0].any(1).sum().item(), small[0, 0].any(0).sum().item()
        assert small[0].sum() == rows * columns, "a whole rectangle of the image"
        sides.add((rows, columns))
    assert sides == {(27, 27), (28, 28), (29, 29)}
    assert abs(changed / 3000 - 0.7) < 0.03


def test_scale_invariance_shows_five_images_each_half_as_bright_as_the_last():
    seen = []

    class Noting(nn.Module):
        def forward(self, x):
            seen.append(x.detach().mean().item())
            return torch.stack([x.sum((1, 2, 3)), -x.sum((1, 2, 3))], 1)

    x = torch.full((1, 1, 4, 4), 0.5)
    momentum_attack([Noting()], x, torch.tensor([0]), norm="linf", eps=1e-6, steps=1, how=METHODS["si"], seed=0)
    assert np.allclose(seen[-5:], [0.5, 0.25, 0.125, 0.0625, 0.03125], rtol=1e-3)


def test_momentum_adds_gradients_of_equal_size_without_forgetting():
    """On -x_1² + x_2 the first gradients differ in size and direction; the steps follow the sum of unit gradients."""

    class Curved(nn.Module):
        def forward(self, x):
            a, b = x.flatten(1).unbind(1)
            return torch.stack([torch.zeros_like(a), 40 * ((a - 0.5) ** 2 + 0.1 * b)], 1)

    x = torch.tensor([[[[0.45, 0.5]]]])
    made = momentum_attack([Curved()], x, torch.tensor([0]), norm="l2", eps=0.3, steps=3, how=MI, seed=0)
    point, total = x.flatten().double(), torch.zeros(2, dtype=torch.float64)
    for _ in range(3):
        gradient = torch.stack([2 * (point[0] - 0.5), torch.tensor(0.1, dtype=torch.float64)])
        total += gradient / gradient.abs().mean()
        point = point + 0.1 * total / total.norm()
    np.testing.assert_allclose(made.flatten().numpy(), point.numpy(), atol=1e-5)


def test_the_scores_leave_the_model_itself_out():
    right = np.array([[[False], [True], [True]], [[True], [False], [True]], [[True], [True], [True]]])
    arrays = {"right": right, "correct": np.array([True, True, False]), "own": np.tile([True, False, False], (3, 1))}
    arrays["right"][2] = False  # misclassified to begin with
    parameters = TransferabilityParameters("linf", 0.1, ("a", "b"), ("mi",))
    summary = MEASURE.summarise(Inputs(arrays, np.zeros(3, dtype=np.int64)), parameters)
    scores = {score.name: score.value for score in summary.scores}
    assert scores["robust_accuracy"] == pytest.approx(1 / 3)
    assert scores["strongest"] == 0.5
    np.testing.assert_allclose(summary.tables["success"].values[:, 0], [0.5, 0.5, 0])
    np.testing.assert_allclose(summary.tables["accuracy"].values[:, 0], [1 / 3, 1 / 3, 2 / 3])
    assert parameters.rows == ("a", "b", TOGETHER)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"sources": "digits-conv"}, r'sources = \[\["digits-conv"\]\]'),
        ({"sources": ["a", "a"]}, "says a name twice"),
        ({"norm": "l1"}, "linf or l2, got 'l1'"),
        ({"steps": 0}, "1 step"),
        ({"eps": 0.0}, "eps > 0"),
    ],
)
def test_wrong_parameters_are_refused(values, text):
    with pytest.raises(InputError, match=text):
        TransferabilityParameters(**values)


def test_an_unknown_method_and_no_source_are_refused():
    with pytest.raises(UnknownNameError, match=r"no transfer method called 'm1'.*'mi'"):
        TransferabilityParameters(methods=("m1",))
    net, x, y = two_class_problem()
    with pytest.raises(InputError, match="needs sources"):
        transferred({}, net, x, y, TransferabilityParameters())


PROTOCOL = """
name = "carried"
version = 1
title = "Carried over"
columns = ["transferability.strongest@linf"]

[[measures]]
measure = "clean"

[[measures]]
measure = "transferability"
norm = "linf"
eps = "reference"
sources = {sources}
methods = [["mi", "combined"]]
steps = 4
"""
TARGETS = ("digits-standard", "digits-adv-linf")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    workspace = Workspace.create(tmp_path_factory.mktemp("carried"))
    upgrade(Database(workspace.database_url))
    return workspace


def evaluate(workspace, sources, *slugs):
    (workspace.protocols / "carried.toml").write_text(PROTOCOL.format(sources=sources))
    models = [part for slug in slugs for part in ("-m", slug)]
    return run(["evaluate", "-w", str(workspace.root), "--protocol", "carried", "--limit", "20", *models])


def test_source_by_target_is_a_page_of_the_board(workspace):
    assert evaluate(workspace, '[["digits-conv", "digits-standard"]]', *TARGETS) == 0
    with Database(workspace.database_url).read() as session:
        rows = session.scalars(select(Evaluation).where(Evaluation.measure == "transferability")).all()
        assert {row.state for row in rows} == {State.DONE}
        own = {row.model.slug: row.chunks[0] for row in rows}
        work = [row.chunks[0].backward_passes for row in rows]
        tables = {row.model.slug: {t.name: t.data for t in row.tables} for row in rows}
    # Two sources of 2 methods: 4 steps with 1 and 5 images; together: both, or the other one alone.
    assert sorted(work) == [20 * 4 * 6 * 3, 20 * 4 * 6 * 4]
    assert tables["digits-standard"]["success"][0, 1, 0] > tables["digits-adv-linf"]["success"][0, 1, 0]
    assert len(own) == 2
    assert run(["publish", "-w", str(workspace.root)]) == 0
    (page,) = workspace.root.rglob("boards/*carried*/grid-transferability-accuracy-linf.html")
    text = page.read_text()
    for name in (*TARGETS, "digits-conv", TOGETHER):
        assert name in text
    (model,) = workspace.root.rglob("models/digits-standard/index.html")
    assert "Transfer success" in model.read_text()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("digits-stanard", "no model called 'digits-stanard' in the zoo. Did you mean 'digits-standard'"),
        ("advertorch-mnist-lenet-adv", "is for mnist in images of shape (1, 28, 28), digits has digits in (1, 8, 8)"),
    ],
)
def test_an_unknown_source_and_one_of_other_images_fail_with_their_reason(workspace, source, reason):
    name = f"carried-{source}"
    text = PROTOCOL.format(sources=f'[["{source}"]]').replace('name = "carried"', f'name = "{name}"')
    (workspace.protocols / f"{name}.toml").write_text(text)
    code = run(["evaluate", "-w", str(workspace.root), "--protocol", name, "--limit", "20", "-m", TARGETS[0]])
    assert code == 3
    with Database(workspace.database_url).read() as session:
        failed = session.scalars(select(Evaluation).where(Evaluation.state == State.FAILED)).all()
        assert any(reason in row.reason for row in failed), [row.reason for row in failed]


def test_a_star_stands_for_the_packages_own_models_of_the_same_images():
    names = source_models(get_dataset("digits"))
    assert len(names) > 5
    assert all(name.startswith("digits") for name in names)
    assert not source_models(get_dataset("cifar10"))


def test_a_source_that_is_sure_of_itself_is_followed_as_well():
    """Of logits × 100 the cross-entropy has no slope in float32; the direction that it has is the same."""
    net, x, y = two_class_problem()
    sure = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, bias=False)).eval()
    sure[1].weight.data = 1000 * net[1].weight.data
    eps = float(np.median(distances(net, x, y, "linf")))
    broken = distances(net, x, y, "linf") < eps
    for name in ("mi", "ti", "si"):
        result = transferred({"sure": sure}, net, x, y, TransferabilityParameters("linf", eps, ("sure",), (name,)))
        if name == "mi":
            np.testing.assert_array_equal(~result.arrays["right"][:, 0, 0], broken)
        assert not result.arrays["right"].all(), name


@pytest.mark.parametrize("name", ["mi", "si"])
def test_directions_are_those_of_the_cross_entropy(name):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3)).eval()
    x, y = torch.rand(5, 1, 4, 4), torch.tensor([0, 1, 2, 0, 1])
    given = momentum._Mean([net], x, METHODS[name], torch.Generator()).gradient(x, y).flatten(1)
    leaf = x.clone().requires_grad_(True)
    powers = range(momentum.COPIES if METHODS[name].scaled else 1)
    loss = sum(nn.functional.cross_entropy(net(leaf * 2.0**-power), y, reduction="sum") for power in powers)
    (expected,) = torch.autograd.grad(loss, leaf)
    cosine = nn.functional.cosine_similarity(given, expected.flatten(1))
    torch.testing.assert_close(cosine, torch.ones(5), rtol=0, atol=1e-5)


def test_a_source_without_gradients_is_refused_by_its_reason():
    net, x, y = two_class_problem()

    class Detached(nn.Module):
        def forward(self, images):
            return net(images).detach()

    with pytest.raises(UnsupportedModelError, match="no gradient in the images"):
        momentum_attack([Detached().eval()], x, y, norm="linf", eps=0.1, steps=2, how=MI, seed=0)
