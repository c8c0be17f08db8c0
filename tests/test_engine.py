"""The curve engine: against exact solvers, and on models that hide their gradients, lie about them, or fail."""

import math
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from benchmark import robustness_curve, verify
from benchmark.attacks import get_attack
from benchmark.attacks.engine import search as engine_module
from benchmark.attacks.engine.budget import BUDGETS
from benchmark.attacks.engine.linearised import descend
from benchmark.attacks.engine.oracle import Oracle, find_batch_size, frozen
from benchmark.attacks.engine.reliability import seeds_disagree
from benchmark.attacks.engine.rows import Rows
from benchmark.attacks.engine.shrinking import sparse_ascent
from benchmark.attacks.engine.state import FAMILIES, Search
from benchmark.certificates.exact import exact
from benchmark.errors import BenchmarkError, InputError
from benchmark.threat import dual, norms_of

NORMS = ("linf", "l2", "l1")

N, SHAPE, CLASSES = 8, (1, 4, 4), 3


def tiny_net(seed=0, width=10, shape=SHAPE, classes=CLASSES):
    generator = torch.Generator().manual_seed(seed)
    sizes = (math.prod(shape), width, width, classes)
    layers = [nn.Linear(n, m) for n, m in pairwise(sizes)]
    net = nn.Sequential(nn.Flatten(), layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    for parameter in net.parameters():
        scale = 1.2 / math.sqrt(parameter.shape[-1]) if parameter.ndim > 1 else 0.1
        parameter.data = torch.randn(parameter.shape, generator=generator) * scale
    return net.eval()


def images(net, n=N, shape=SHAPE, seed=0):
    """Random images of several classes of the net, labelled by it."""
    x = torch.rand(40 * n, *shape, generator=torch.Generator().manual_seed(seed))
    y = net(x).argmax(1)
    order = torch.cat([(y == c).nonzero().squeeze(1)[:n] for c in y.unique()])
    chosen = order[torch.randperm(len(order), generator=torch.Generator().manual_seed(seed))[:n]]
    return x[chosen], y[chosen]


class Wrapped(nn.Module):
    """A net whose input or output is changed."""

    def __init__(self, net, *, before=lambda x: x, after=lambda z: z):
        super().__init__()
        self.net, self.before, self.after = net, before, after

    def forward(self, x):
        return self.after(self.net(self.before(x)))


def codes(curve):
    return {flag.code for flag in curve.flags}


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_distances_reach_the_mixed_integer_optimum_of_small_networks(norm):
    excess = []
    for seed in range(3):
        net = tiny_net(seed)
        x, y = images(net, seed=seed)
        curve = robustness_curve(net, x, y, norm=norm)
        optimum = exact(net, x, y, norm=norm, within=torch.tensor(curve.distances))
        assert optimum.solved.all()
        lower = optimum.lower.numpy()
        assert (curve.distances >= lower * (1 - 1e-6)).all()
        excess.extend(curve.distances / np.maximum(lower, 1e-9) - 1)
    assert np.mean(excess) < 0.02


@pytest.mark.parametrize("norm", NORMS)
def test_every_distance_is_proven_and_reproducible(norm):
    net = tiny_net(3)
    x, y = images(net)
    y[0] = (y[0] + 1) % CLASSES
    curve = robustness_curve(net, x, y, norm=norm, seed=5, effort="quick")
    checked = verify(net, x, y, torch.tensor(curve.adversarials))
    np.testing.assert_array_equal(checked.distances[norm].numpy(), curve.distances)
    assert curve.distances[0] == 0
    assert curve.origin[0] == ""
    assert set(curve.origin[1:]) <= set(FAMILIES)
    torch.manual_seed(99)
    again = robustness_curve(net, x, y, norm=norm, seed=5, effort="quick")
    np.testing.assert_array_equal(again.distances, curve.distances)
    assert codes(curve) == set()


@pytest.mark.parametrize("attack", ["engine", "fab-t", "hein"])
def test_images_may_be_a_transposed_view(attack):
    net = tiny_net(3)
    x, y = images(net)
    strided = x.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)
    assert not strided.is_contiguous()
    plain = robustness_curve(net, x, y, norm="l2", attack=attack, effort="quick")
    other = robustness_curve(net, strided, y, norm="l2", attack=attack, effort="quick")
    np.testing.assert_array_equal(other.distances, plain.distances)


@pytest.mark.parametrize("norm", NORMS)
def test_the_scale_of_the_logits_does_not_matter(norm):
    net = tiny_net(1)
    x, y = images(net)
    plain = robustness_curve(net, x, y, norm=norm).distances
    for scale in (1e-3, 1e3):
        scaled = robustness_curve(Wrapped(net, after=lambda z, s=scale: z * s), x, y, norm=norm).distances
        assert abs(scaled.mean() / plain.mean() - 1) < 0.05


@pytest.mark.parametrize("norm", ["linf", "l1"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_logits_may_be_of_any_floating_type(dtype, norm):
    net = tiny_net(3)
    x, _ = images(net)
    cast = Wrapped(net, after=lambda z: z.to(dtype))
    y = cast(x).argmax(1)
    curve = robustness_curve(cast, x, y, norm=norm, effort="quick")
    checked = verify(cast, x, y, torch.tensor(curve.adversarials))
    np.testing.assert_array_equal(checked.distances[norm].numpy(), curve.distances)
    usual = robustness_curve(net, x, y, norm=norm, effort="quick")
    assert curve.distances.mean() == pytest.approx(usual.distances.mean(), rel=0.3 if dtype == torch.bfloat16 else 0.02)


@pytest.mark.parametrize("attack", ["fab-t", "hein"])
def test_the_other_attacks_take_any_floating_type_too(attack):
    net = tiny_net(3)
    x, y = images(net)
    double = Wrapped(net, after=lambda z: z.double())
    expected = robustness_curve(net, x, y, norm="l2", effort="quick", attack=attack)
    curve = robustness_curve(double, x, y, norm="l2", effort="quick", attack=attack)
    np.testing.assert_allclose(curve.distances, expected.distances, rtol=1e-4)
    assert double(x).dtype == torch.float64  # afterwards it is as it was


def test_saturated_probabilities_hide_nothing_and_are_flagged():
    net = tiny_net(1)
    x, y = images(net)
    plain = robustness_curve(net, x, y, norm="l2").distances
    soft = robustness_curve(Wrapped(net, after=lambda z: (8 * z).softmax(1)), x, y, norm="l2")
    assert "softmax-outputs" in codes(soft)
    assert abs(soft.distances.mean() / plain.mean() - 1) < 0.02


@pytest.mark.parametrize("norm", NORMS)
def test_quantised_inputs_have_no_gradient_but_are_attacked_without_one(norm):
    net = tiny_net(2, shape=(1, 6, 6))
    x, y = images(net, shape=(1, 6, 6))
    plain = robustness_curve(net, x, y, norm=norm).distances
    scale_of = {"linf": 1, "l2": 6, "l1": 36}  # the norm of half a step in every pixel
    quantised = Wrapped(net, before=lambda x: (x * 63).round() / 63)
    keep = quantised(x).argmax(1) == y
    curve = robustness_curve(quantised, x[keep], y[keep], norm=norm)
    assert "zero-gradients" in codes(curve)
    assert {"gradient-free-stronger", "gradients-mislead"} & codes(curve)  # whichever search found it out
    assert np.isfinite(curve.distances).all()
    assert curve.distances.mean() < 2.5 * (plain.mean() + 0.5 / 63 * scale_of[norm])


def test_a_randomised_model_is_flagged_and_judged_by_its_mean():
    net = tiny_net(1)
    x, y = images(net)

    def noisy(z):
        return z + 0.05 * z.abs().amax(dim=1, keepdim=True) * torch.randn_like(z)

    state = torch.random.get_rng_state()
    curve = robustness_curve(Wrapped(net, after=noisy), x, y, norm="l2", effort="quick")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert "randomised" in codes(curve)
    again = robustness_curve(Wrapped(net, after=noisy), x, y, norm="l2", effort="quick")
    np.testing.assert_array_equal(again.distances, curve.distances)
    # The mean classifier is the net itself: an example that holds for the noisy one holds for it.
    found = np.isfinite(curve.distances) & (curve.distances > 0)
    assert found.mean() > 0.8
    # On other draws (the images stand elsewhere in the batch) most hold again: none was kept for one lucky draw.
    elsewhere = verify(Wrapped(net, after=noisy), x.flip(0), y.flip(0), torch.tensor(curve.adversarials).flip(0))
    assert elsewhere.holds.flip(0).numpy()[found].mean() > 0.8
    assert verify(net, x, y, torch.tensor(curve.adversarials)).holds.numpy()[found].all()


def test_a_constant_model_is_never_broken_and_says_so():
    class Constant(nn.Module):
        def forward(self, x):
            return torch.tensor([[1.0, 0.0]]).expand(len(x), -1) + 0 * x.flatten(1).sum(1, keepdim=True)

    x = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    curve = robustness_curve(Constant(), x, torch.zeros(3, dtype=torch.int64), norm="linf", effort="quick")
    assert np.isinf(curve.distances).all()
    assert "not-broken-at-largest-distance" in codes(curve)


def test_gradients_that_are_not_finite_are_flagged_and_replaced():
    class Hostile(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * torch.nan

    net = tiny_net(1)
    x, y = images(net)
    curve = robustness_curve(Wrapped(net, before=Hostile.apply), x, y, norm="linf", effort="quick")
    assert {"non-finite-gradients", "zero-gradients"} <= codes(curve)
    assert np.isfinite(curve.distances).all()


def test_logits_that_are_not_finite_are_an_error_not_robustness():
    net = tiny_net(1)
    x, y = images(net)
    with pytest.raises(InputError, match="not finite"):
        robustness_curve(Wrapped(net, after=lambda z: z * torch.nan), x, y, norm="l2")


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory. Tried to allocate"), MemoryError()])
def test_the_batch_is_halved_until_it_fits(error):
    sizes = []

    class Tight(nn.Module):
        def forward(self, x):
            sizes.append(len(x))
            if len(x) > 3:
                raise error
            return x.flatten(1)[:, :2]

    oracle = Oracle(Tight(), batch_size=64)
    x = torch.rand(10, 1, 2, 2)
    margin, gradient = oracle.gradients(x, torch.zeros(10, dtype=torch.int64))
    assert oracle.batch_size <= 3
    assert margin.shape == (10,)
    assert gradient.shape == (10, 4)
    torch.testing.assert_close(gradient, torch.tensor([[-1.0, 1.0, 0.0, 0.0]]).expand(10, -1))


@pytest.mark.parametrize("norm", NORMS)
def test_searches_do_not_write_to_gradients_that_are_the_models_own(norm):
    plain = torch.tensor([[1.0, -2.0, 0.5, 0.25]])
    own = plain.expand(64, -1).clone()

    class Linear(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x @ plain[0]

        @staticmethod
        def backward(ctx, slope):
            assert bool((slope == 1).all())
            return own[: len(slope)]

    class Model(nn.Module):
        def forward(self, x):
            return torch.stack([torch.full((len(x),), 0.5), Linear.apply(x.flatten(1))], dim=1)

    x = torch.full((5, 1, 2, 2), 0.5)
    curve = robustness_curve(Model(), x, torch.zeros(5, dtype=torch.int64), norm=norm, effort="quick")
    lead = 0.5 - 0.5 * float(plain.sum())
    np.testing.assert_allclose(curve.distances, lead / float(norms_of(plain, dual(norm))), rtol=1e-4)
    assert bool((own == plain).all())


def test_a_sparse_step_takes_the_largest_gradients_that_the_box_lets_move():
    x = torch.tensor([[1.0, 0.0, 0.5, 0.5, 0.0, 1.0]])
    rows = Rows(torch.tensor([0]), x.view(1, 1, 2, 3), torch.tensor([0]))
    gradient = torch.tensor([[9.0, -8.0, 3.0, -4.0, 2.0, -1.0]])  # the first two point out of the box
    assert sparse_ascent(rows, gradient, 2).tolist() == [[0, 0, 0.5, -0.5, 0, 0]]
    assert sparse_ascent(rows, gradient, 4).tolist() == [[0, 0, 0.25, -0.25, 0.25, -0.25]]
    assert sparse_ascent(rows, gradient.sign(), 2).tolist() == [[0, 0, 0.25, -0.25, 0.25, -0.25]]
    assert sparse_ascent(rows, gradient * torch.tensor([1, 1, 1, 0, 0, 0]), 2).tolist() == [[0, 0, 0.5, 0, 0, 0]]
    rows.delta[0, 2] = 0.5
    assert sparse_ascent(rows, gradient, 2).tolist() == [[0, 0, 0, -0.5, 0.5, 0]]


def test_memory_that_runs_out_after_the_gradient_costs_no_row_and_gives_none_twice():
    class Tight(nn.Module):
        """Adversarial everywhere, so that every margin is confirmed by new calls; those have room for three images."""

        def forward(self, x):
            if len(x) > 3 and not torch.is_grad_enabled():
                raise MemoryError
            return x.flatten(1)[:, :2]

    oracle = Oracle(Tight(), batch_size=64, repeats=2)
    x = torch.rand(10, 1, 2, 2)
    x[:, 0, 0, 0], x[:, 0, 0, 1] = 0.1, 0.9
    margin, gradient = oracle.gradients(x, torch.zeros(10, dtype=torch.int64))
    assert margin.shape == (10,)
    torch.testing.assert_close(gradient, torch.tensor([[-1.0, 1.0, 0.0, 0.0]]).expand(10, -1))


def test_the_batch_follows_what_the_model_keeps_for_its_backward_pass():
    class Keeps(nn.Module):
        """Saves about ``megabytes`` for each image: the input of one sine."""

        def __init__(self, megabytes):
            super().__init__()
            self.times = megabytes * 2**20 // (4 * 16)
            self.unsaved = nn.Parameter(torch.zeros(2**20))

        def forward(self, x):
            return x.flatten(1).repeat(1, self.times).sin()[:, :2]

    x = torch.rand(3, 1, 4, 4)
    sizes = [find_batch_size(Keeps(megabytes).requires_grad_(False), x) for megabytes in (0, 1, 2, 1000 // 20)]
    assert sizes[0] == 256
    assert sizes[1] == pytest.approx(2 * sizes[2], rel=0.1)
    assert sizes[3] == 16
    assert find_batch_size(Keeps(1).requires_grad_(False), x[:1]) == sizes[1]


def test_a_batch_is_parted_evenly():
    sizes = []

    class Sees(nn.Module):
        def forward(self, x):
            sizes.append(len(x))
            return x.flatten(1)

    Oracle(Sees(), batch_size=4).margins(torch.rand(9, 1, 2, 2), torch.zeros(9, dtype=torch.int64))
    assert sizes == [3, 3, 3]


def test_too_little_memory_for_one_image_is_an_error_that_says_so():
    class Full(nn.Module):
        def forward(self, x):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(BenchmarkError, match="too little memory"):
        Oracle(Full(), batch_size=4).margins(torch.rand(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64))


def test_a_models_own_error_is_not_taken_for_memory():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        Oracle(Broken(), batch_size=4).margins(torch.rand(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64))


def test_each_modules_mode_is_put_back():
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    net.train()
    net[1].eval()
    with pytest.raises(KeyError), frozen(net):
        assert not net.training
        assert not net[0].weight.requires_grad
        raise KeyError
    assert net.training
    assert not net[1].training
    assert net[0].weight.requires_grad


@pytest.mark.parametrize(("shape", "classes"), [((3, 5, 4), 2), ((2, 1, 6), 4)])
def test_any_image_shape_and_two_classes(shape, classes):
    net = tiny_net(4, shape=shape, classes=classes)
    x, y = images(net, shape=shape)
    for norm in NORMS:
        curve = robustness_curve(net, x, y, norm=norm, effort="quick")
        assert np.isfinite(curve.distances).all()
        assert curve.adversarials is not None
        assert curve.adversarials.shape == x.shape


def test_more_effort_finds_no_greater_mean_distance():
    net = tiny_net(6, width=30)
    x, y = images(net)
    engine = get_attack("engine")
    means = []
    for effort in ("quick", "standard", "thorough"):
        found = engine.run(net, x, y, norm="l2", effort=effort, seed=0, pool=None).adversarials
        means.append(float(verify(net, x, y, found).distances["l2"].mean()))
    assert means[0] >= means[1] * 0.999 >= means[2] * 0.998


@pytest.fixture
def asked(monkeypatch):
    """How many samples each round is made for."""
    counts = []
    original = engine_module.donated
    monkeypatch.setattr(
        engine_module, "donated", lambda search, some, *rest: counts.append(len(some)) or original(search, some, *rest)
    )
    return counts


@pytest.mark.parametrize("norm", NORMS)
def test_only_samples_that_a_round_helps_go_on(norm, asked):
    x = torch.rand(N, *SHAPE, generator=torch.Generator().manual_seed(2))
    linear = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))  # convex: every search ends at the one best
    for parameter in linear.parameters():
        parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4))
    robustness_curve(linear, x, linear(x).argmax(1), norm=norm)
    assert asked == [N]
    asked.clear()
    rugged = tiny_net(3, width=150)
    x, y = images(rugged, n=30)
    robustness_curve(rugged, x, y, norm=norm)
    assert asked[0] == 30
    assert len(asked) > 1
    assert sorted(asked, reverse=True) == asked
    assert asked[1] < 30


def test_the_last_few_samples_get_no_round_of_their_own_but_in_a_thorough_run(monkeypatch, asked):
    net = tiny_net(3, width=150)
    x, y = images(net, n=30)
    standard = BUDGETS["standard"]
    counts = []
    for left in (standard.left, 0):
        monkeypatch.setitem(BUDGETS, "standard", replace(standard, left=left))
        asked.clear()
        robustness_curve(net, x, y, norm="l2")
        counts.append(list(asked))
    assert standard.left == 16
    assert min(counts[0]) > 3 >= min(counts[1])
    assert counts[1][: len(counts[0])] == counts[0]
    assert BUDGETS["thorough"].left == 0


def test_kicks_leave_a_basin_that_descent_cannot_leave():
    class TwoWalls(nn.Module):
        """Class 1 where the first pixel is below 0.1 or the second above 0.75: from the middle 0.4 and 0.25 away."""

        def forward(self, x):
            first, second = x.flatten(1).unbind(dim=1)
            lead = torch.maximum(0.1 - first, second - 0.75)
            return torch.stack([torch.zeros_like(lead), lead], dim=1)

    x, y = torch.full((1, 1, 1, 2), 0.5), torch.zeros(1, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    search = Search(Oracle(TwoWalls(), batch_size=8), x, y, norm="l2", scale=torch.ones(1), generator=generator)
    search.best.delta[0] = torch.tensor([-0.401, 0.0])
    search.best.distance[0] = 0.401
    rows = search.resume(search.found())
    descend(search.oracle, rows, "l2", steps=30)
    assert rows.distance.item() == pytest.approx(0.4, abs=1e-3)
    for _ in range(60):
        kicked = engine_module.kicked(search, search.found())
        search.run("kick", kicked, partial(descend, steps=20))
    assert search.best.distance.item() == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("side", [8, 64])
def test_a_kick_is_as_long_as_it_is_whatever_the_images_size(side):
    x = torch.full((2, 3, side, side), 0.5)
    search = Search(
        Oracle(nn.Flatten(), batch_size=2),
        x,
        torch.zeros(2, dtype=torch.int64),
        norm="l1",
        scale=torch.ones(2),
        generator=torch.Generator().manual_seed(0),
    )
    search.best.delta[:, :3] = torch.tensor([[0.5, -0.2, 0.1], [0.05, -0.02, 0.01]])
    noise = engine_module.kicked(search, torch.arange(2)).delta - search.best.delta
    ratio = noise.norm(dim=1) / search.best.delta.norm(dim=1)
    torch.testing.assert_close(ratio, torch.full((2,), engine_module.KICK["l1"][0]), rtol=0.15, atol=0)
    assert noise[:, 3:].abs().min() > 0


def test_everything_misclassified_needs_no_attack():
    net = tiny_net(1)
    x, y = images(net)
    curve = robustness_curve(net, x, (y + 1) % CLASSES, norm="l1")
    assert (curve.distances == 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.rand(4, *SHAPE) + 1}, "outside"),
        ({"x": torch.zeros(4, *SHAPE, dtype=torch.uint8)}, "float32"),
        ({"y": torch.zeros(3, dtype=torch.int64)}, "Labels"),
        ({"norm": "l3"}, "l3"),
        ({"pool": torch.rand(2, 1, 2, 2)}, "pool"),
    ],
)
def test_input_that_cannot_be_taken_is_named(change, message):
    arguments = {"x": torch.rand(4, *SHAPE), "y": torch.zeros(4, dtype=torch.int64), "norm": "l2", **change}
    x, y = arguments.pop("x"), arguments.pop("y")
    with pytest.raises(InputError, match=message):
        robustness_curve(tiny_net(), x, y, **arguments)


def test_two_seeds_disagree_only_beyond_chance():
    generator = torch.Generator().manual_seed(0)
    first = 1 + torch.rand(100, generator=generator)
    assert seeds_disagree(first, first) is None
    assert seeds_disagree(first, first + 0.1 * torch.randn(100, generator=generator)) is None
    flag = seeds_disagree(first, first * 1.1)
    assert flag is not None
    assert flag.code == "seeds-disagree"
    assert flag.value == pytest.approx(0.1, rel=1e-3)
    lost = first.clone()
    lost[:5] = torch.inf
    assert seeds_disagree(first, lost) is not None
