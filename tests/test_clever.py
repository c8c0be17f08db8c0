"""CLEVER scores: exact where the truth is known, independent of batching, refused where they mean nothing."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from benchmark import clever_scores
from benchmark.clever import PRESETS, Preset, clever_estimates, scores_by_radius
from benchmark.clever.jacobian import cotangents, dual_norms, points_a_pass
from benchmark.clever.presets import resolve
from benchmark.clever.sampling import draw, draw_seeds, draws, unit_ball
from benchmark.clever.targets import choose_targets
from benchmark.counting import CountingModel
from benchmark.errors import BenchmarkError, InputError, UnknownNameError, UnsupportedModelError
from benchmark.jobs.protocol import parameters_of
from benchmark.measures import Inputs, Task, get_measure
from benchmark.threat import dual, norms_of
from models_zoo.preprocessing import build

NORMS = ("linf", "l2", "l1")

ORDER = {"linf": torch.inf, "l2": 2, "l1": 1}
SMALL = {"batches": 12, "samples": 8}


def images(n=4, size=8, seed=0):
    return torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(seed))


def linear(classes=5, size=8, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(size * size, classes)).eval()


def network(activation=None, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), activation or nn.ReLU(), nn.Linear(32, 5)).eval()


def exact_distances(model, x, norm):
    """Of a linear model, to each class: margin ÷ dual norm of the difference of the rows; inf to the class itself."""
    weight, logits = model[1].weight.detach().double(), model(x).detach().double()
    own = logits.argmax(dim=1)
    margins = logits.gather(1, own[:, None]) - logits
    slope = norms_of((weight[own][:, None] - weight).flatten(0, 1), dual(norm)).view_as(margins)
    return torch.where(slope > 0, margins / slope, torch.inf)


# --- known truth


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("norm", NORMS)
def test_a_linear_models_score_is_its_exact_distance(norm, preset):
    model, x = linear(), images()
    truth = exact_distances(model, x, norm).amin(dim=1).numpy()
    if PRESETS[preset].cap:
        truth = np.minimum(truth, PRESETS[preset].radius[norm])
    assert clever_scores(model, x, norm=norm, preset=preset, **SMALL) == pytest.approx(truth, rel=1e-4)


def test_each_targets_score_is_the_distance_to_that_class():
    model, x = linear(), images()
    truth = exact_distances(model, x, "l2").numpy()
    estimates = clever_estimates(model, x, norm="l2", **SMALL)
    chosen = np.take_along_axis(truth, estimates.targets, axis=1)
    assert estimates.scores[:, :, 0] == pytest.approx(chosen, rel=1e-4)
    assert estimates.constant.all()
    assert np.isnan(estimates.p_value).all()


def test_second_order_is_exact_for_a_linear_model():
    model, x = linear(), images()
    truth = exact_distances(model, x, "l2").amin(dim=1).numpy()
    assert clever_scores(model, x, norm="l2", order=2, **SMALL) == pytest.approx(truth, rel=1e-4)


class Bowl(nn.Module):
    """Two logits whose difference is g(x) = a − ‖x − centre‖²/2 · bend: the distance to its root is known."""

    def __init__(self, height, bend):
        super().__init__()
        self.height, self.bend = height, bend

    def forward(self, x):
        g = self.height - self.bend / 2 * (x - 0.5).flatten(1).square().sum(dim=1)
        return torch.stack([g, torch.zeros_like(g)], dim=1)


def test_second_order_is_exact_where_the_curvature_is_constant():
    """From the top of a paraboloid of height h and curvature b, where the gradient is 0, the root is √(2h/b) away."""
    x = torch.full((1, 1, 4, 4), 0.5)
    score = clever_scores(Bowl(0.3, 2.0), x, norm="l2", order=2, **SMALL)
    assert score == pytest.approx([np.sqrt(2 * 0.3 / 2.0)], rel=1e-4)


def test_first_order_of_a_paraboloid_is_governed_by_the_slope_at_the_rim_of_the_ball():
    """‖∇g‖ = b·r, so the endpoint is b·R (within 2 % for points of a ball in 16 dimensions) and the score h / (b·R)."""
    x = torch.full((1, 1, 4, 4), 0.5)
    flat = Preset("flat", 50, 200, {"l2": 0.4}, cap=False, clip=False)
    assert clever_scores(Bowl(0.3, 2.0), x, norm="l2", preset=flat) == pytest.approx([0.3 / (2.0 * 0.4)], rel=0.02)


def test_second_order_finds_the_most_negative_eigenvalue():
    from benchmark.clever.second_order import negative_curvature

    model, x = network(nn.Softplus(beta=5)), images(3)
    rows = cotangents(0, [1, 3], 5, x)
    found = negative_curvature(model, x, rows, steps=32)
    for t, row in enumerate(rows):
        for i in range(3):
            hessian = torch.autograd.functional.hessian(lambda z, row=row: (model(z[None]) @ row).sum(), x[i]).view(
                64, 64
            )
            assert found[t, i] == pytest.approx(-torch.linalg.eigvalsh(hessian.double())[0].item(), rel=1e-3)


# --- points


def test_a_pass_holds_fewer_points_of_a_model_with_more_activations():
    wide = nn.Sequential(nn.Conv2d(1, 64, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 64, 5)).eval()
    held = points_a_pass(wide, images(1))
    assert held == 3 * 2**20 // (64 + 64 + 64 * 64)  # the image, the convolution's input, the ReLU's output
    assert held < points_a_pass(network(), images(1))


@pytest.mark.parametrize("norm", NORMS)
def test_points_are_uniform_in_the_ball(norm):
    """In d dimensions P(‖u‖ <= r) = r^d; signs and coordinates are alike."""
    points = unit_ball(norm, 20000, 5, torch.Generator().manual_seed(0))
    radii = torch.linalg.vector_norm(points, ORDER[norm], dim=1)
    assert radii.max() <= 1 + 1e-5
    for r in (0.5, 0.8, 0.95):
        assert (radii <= r).float().mean() == pytest.approx(r**5, abs=0.012)
    assert points.mean(dim=0).abs().max() < 0.02
    assert points.abs().mean(dim=0).std() < 0.01


def test_a_seed_and_an_index_determine_the_points():
    x = images(1)[0]
    settings = resolve("board")
    assert len({*draw_seeds(3, 7, 50), *draw_seeds(3, 8, 50), *draw_seeds(4, 7, 50)}) == 150
    points = draw(x, settings, "l2", batches=2, seed=11)
    assert torch.equal(draw(x, settings, "l2", batches=2, seed=11), points)
    assert not torch.equal(draw(x, settings, "l2", batches=2, seed=12), points)


def test_large_images_are_drawn_in_parts():
    x, settings = torch.zeros(3, 64, 64), resolve("board", batches=7, samples=50)
    sizes = [len(points) for points in draws(x, settings, "linf", seed=0, index=0)]
    assert sum(sizes) == 7 * 50
    assert len(sizes) > 1
    assert all(size % 50 == 0 for size in sizes)


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("norm", NORMS)
def test_points_stay_in_the_presets_ball_and_in_the_box_only_where_it_says_so(norm, preset):
    x, settings = images(1)[0], resolve(preset)
    points = draw(x, settings, norm, batches=1, seed=0)
    sampled = "l2" if settings.shared else norm
    radii = torch.linalg.vector_norm((points - x).flatten(1), ORDER[sampled], dim=1)
    assert radii.max() <= settings.radius[sampled] * (1 + 1e-5)
    inside = ((points >= 0) & (points <= 1)).all()
    assert bool(inside) == settings.clip


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batch_size_and_neighbours_change_nothing(batch_size):
    model, x = network(), images(5)
    whole = clever_estimates(model, x, norm="l2", **SMALL).maxima
    part = clever_estimates(model, x[2:4], norm="l2", first=2, batch_size=batch_size, **SMALL).maxima
    assert part == pytest.approx(whole[2:4], rel=1e-5)


# --- one Jacobian


def test_dual_norms_are_those_of_the_jacobian():
    model, x = network(), images(3)
    rows = cotangents(2, [0, 4], 5, x)
    found = dual_norms(model, x, rows, NORMS)
    for i in range(3):
        jacobian = torch.autograd.functional.jacobian(lambda z: model(z[None])[0], x[i]).flatten(1)
        for t, target in enumerate((0, 4)):
            for q, norm in enumerate(NORMS):
                truth = norms_of((jacobian[2] - jacobian[target])[None], dual(norm))
                assert found[t, q, i] == pytest.approx(truth.item(), rel=1e-5)


def test_norms_that_share_points_share_the_jacobian():
    """One forward and k − 1 backward passes a point, whatever the number of norms."""
    model = CountingModel(network()).eval()
    clever_estimates(model, images(2), norm=NORMS, preset="clever2018", **SMALL)
    points = 2 * SMALL["batches"] * SMALL["samples"]
    assert model.forward_passes == points + 2 + 1  # one to see how many points a pass can hold
    assert model.backward_passes == 4 * points


def test_several_norms_give_what_each_gives():
    model, x = network(), images(2)
    together = clever_scores(model, x, norm=NORMS, **SMALL)
    assert together.shape == (2, 3)
    for q, norm in enumerate(NORMS):
        assert together[:, q] == pytest.approx(clever_scores(model, x, norm=norm, **SMALL), rel=1e-5)


# --- targets and labels


def test_targets_by_rank():
    logits = torch.tensor([[0.1, 0.9, 0.3, 0.2], [0.5, 0.1, 0.4, 0.6]])
    labels = torch.tensor([1, 0])
    assert choose_targets(logits, labels, "untargeted").tolist() == [[0, 2, 3], [1, 2, 3]]
    assert choose_targets(logits, labels, "top2").tolist() == [[2], [3]]
    assert choose_targets(logits, labels, "least").tolist() == [[0], [1]]
    assert choose_targets(logits, labels, 2).tolist() == [[2], [2]]
    assert choose_targets(logits, labels, "random").tolist() == [[3], [2]]  # neither the first nor the last


def test_random_targets_depend_on_the_seed_and_the_images_own_index():
    logits = torch.rand(50, 10, generator=torch.Generator().manual_seed(0))
    labels = logits.argmax(dim=1)
    chosen = choose_targets(logits, labels, "random", seed=1)
    assert torch.equal(choose_targets(logits[20:], labels[20:], "random", seed=1, first=20), chosen[20:])
    assert not torch.equal(choose_targets(logits, labels, "random", seed=2), chosen)
    assert (chosen[:, 0] != labels).all()


def test_the_untargeted_score_is_the_smallest_of_all_targets():
    model, x = network(), images()
    estimates = clever_estimates(model, x, norm="linf", **SMALL)
    assert np.array_equal(estimates.score, estimates.scores.min(axis=1))
    second = clever_scores(model, x, norm="linf", targets="top2", **SMALL)
    assert (second >= estimates.score[:, 0] * (1 - 1e-6)).all()


def test_a_misclassified_image_scores_0_and_costs_nothing():
    model = CountingModel(network()).eval()
    x = images()
    y = model(x).argmax(dim=1)
    y[1] = (y[1] + 1) % 5
    model.passes.forward = 0
    estimates = clever_estimates(model, x, y=y, norm="l2", **SMALL)
    assert estimates.score[1, 0] == 0
    assert estimates.correct.tolist() == [True, False, True, True]
    assert np.isnan(estimates.location[1]).all()
    assert model.forward_passes == 1 + 4 + 3 * SMALL["batches"] * SMALL["samples"]


def test_all_images_misclassified():
    model, x = network(), images()
    y = (model(x).argmax(dim=1) + 1) % 5
    assert clever_scores(model, x, y=y, norm="l2", **SMALL).tolist() == [0, 0, 0, 0]


# --- presets, cap, flags


def test_presets_are_the_papers_and_the_released_codes():
    paper, code = PRESETS["paper"], PRESETS["clever2018"]
    assert (paper.batches, paper.samples, dict(paper.radius), paper.cap) == (500, 1024, dict.fromkeys(NORMS, 5.0), True)
    assert (code.shared, code.radius["l2"], code.cap) == (True, 3.0, False)
    assert code.starts == (0.1, 1, 5, 10, 20, 50, 100)


def test_the_cap_is_the_radius_and_flagged():
    model, x = linear(), images()
    estimates = clever_estimates(model, x, norm="l2", preset="board", radius=0.01, **SMALL)
    assert estimates.score[:, 0] == pytest.approx([0.01] * 4)
    assert estimates.at_nearest(estimates.capped).all()


def test_a_masked_gradient_is_flagged():
    """A step function is flat everywhere it can be asked."""

    class Stairs(nn.Module):
        def forward(self, x):
            return torch.stack([x.mean(dim=(1, 2, 3)) * 0 + 1, x.mean(dim=(1, 2, 3)) * 0], dim=1)

    estimates = clever_estimates(Stairs(), images(), norm="l2", **SMALL)
    assert estimates.zero.all()
    assert np.isnan(estimates.score).all()  # nothing is known; the radius would read as a distance


def test_the_bootstrap_interval_holds_the_score():
    estimates = clever_estimates(network(), images(), norm="l2", resamples=50, **SMALL)
    assert (estimates.low <= estimates.score + 1e-9).mean() >= 0.75
    assert (estimates.low < estimates.high).all()


def test_bpda_gives_the_networks_gradient_at_the_transformed_image():
    net, x = network(), images(3)
    transform = build([{"kind": "bit_depth", "bits": 3}])
    defended = nn.Sequential(transform, net)
    rows = cotangents(0, [1], 5, x)
    assert torch.equal(dual_norms(defended, x, rows, NORMS), dual_norms(net, transform(x), rows, NORMS))
    assert (clever_scores(defended, x, norm="l2", **SMALL) > 0).all()


def test_scores_fall_with_the_radius_where_curvature_is_constant():
    x = torch.full((1, 1, 4, 4), 0.5)
    scores = scores_by_radius(Bowl(0.3, 2.0), x, [0.1, 0.2, 0.4], norm="l2", **SMALL)
    assert scores.shape == (1, 3)
    assert scores[0, 0] > scores[0, 1] > scores[0, 2]
    assert scores[0] * [0.1, 0.2, 0.4] == pytest.approx([0.15] * 3, rel=0.1)  # h / b, whatever the radius


# --- refusals


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"radius": 0.0}, InputError, "radius .* must be positive and finite, got 0.0"),
        ({"radius": -1.0}, InputError, "got -1.0"),
        ({"batches": 1}, InputError, "at least 2 batches, got batches=1"),
        ({"samples": 1}, InputError, "at least 2 samples, got samples=1"),
        ({"batch_size": 0}, InputError, "got batch_size=0"),
        ({"norm": "l3"}, UnknownNameError, "no norm called 'l3'"),
        ({"norm": ()}, InputError, "needs a norm, got none"),
        ({"preset": "papers"}, UnknownNameError, "Did you mean 'paper'"),
        ({"targets": "top1"}, UnknownNameError, "Did you mean 'top2'"),
        ({"targets": 9}, InputError, "target class 9 is none of the model's 5 classes"),
        ({"targets": -1}, InputError, "target class -1"),
        ({"order": 3}, InputError, "got order=3"),
        ({"order": 2, "norm": "linf"}, InputError, "defined for l2 only, got linf"),
        ({"resamples": 1}, InputError, "2 resamples or more"),
        ({"y": torch.tensor([0])}, InputError, "There are 4 images, but the labels have shape"),
        ({"y": torch.tensor([0, 1, 2, 5])}, InputError, "Labels go from 0 to 5, but the model has 5 classes"),
    ],
)
def test_bad_settings_are_refused_with_the_value_seen(settings, error, message):
    with pytest.raises(error, match=message):
        clever_estimates(linear(), images(), **{**SMALL, **settings})


def test_a_target_that_is_the_label_is_refused_with_the_image_named():
    model, x = linear(), images()
    own = int(model(x)[0].argmax())
    with pytest.raises(InputError, match=rf"target class {own} is the label of image 10:"):
        clever_scores(model, x, targets=own, first=10, **SMALL)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 1, 8, 8, dtype=torch.int64), "images as floats"),
        (torch.zeros(0, 1, 8, 8), "one or more images"),
        (torch.full((1, 1, 8, 8), 2.0), r"images in \[0, 1\]; these lie in \[2, 2\]"),
        (torch.full((1, 1, 8, 8), float("nan")), r"images in \[0, 1\]"),
    ],
)
def test_bad_images_are_refused(x, message):
    with pytest.raises(InputError, match=message):
        clever_scores(linear(), x, **SMALL)


class Wrapped(nn.Module):
    """A function of images as a model."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda x: linear()(x).argmax(dim=1, keepdim=True) == torch.arange(5), UnsupportedModelError, "carry none"),
        (lambda x: linear()(x.detach()).detach(), UnsupportedModelError, "carry none"),
        (lambda x: linear()(x.detach()), UnsupportedModelError, "no differentiable path|any differentiable path"),
        (lambda x: linear()(x)[:, :1], InputError, "at least 2 classes"),
        (lambda x: linear()(x) * torch.nan, InputError, "not finite on image 0"),
        (lambda x: (linear()(x) * 0).abs().sqrt() + linear()(x), InputError, "gradients are not finite"),
    ],
)
def test_models_without_usable_gradients_are_refused(function, error, message):
    with pytest.raises(error, match=message):
        clever_scores(Wrapped(lambda x: function(x).float()), images(), **SMALL)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (network(nn.ReLU()), "uses Relu"),
        (network(nn.LeakyReLU()), "uses LeakyRelu"),
        (Wrapped(lambda x: linear()(functional.relu(x - 0.5))), "uses Relu"),
        (nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 5), nn.Tanh()), "uses MaxPool2D"),
        (Wrapped(lambda x: linear()(torch.where(x > 0.5, x, 0.1 * x))), "piecewise linear"),
    ],
)
def test_second_order_refuses_models_without_curvature(model, message):
    with pytest.raises(UnsupportedModelError, match=message):
        clever_scores(model.eval(), images(), norm="l2", order=2, **SMALL)


@pytest.mark.parametrize("activation", [nn.Softplus(), nn.Tanh(), nn.GELU(), nn.Sigmoid(), nn.SiLU()])
def test_second_order_takes_smooth_models(activation):
    scores = clever_scores(network(activation), images(2), norm="l2", order=2, batches=4, samples=4)
    assert ((scores > 0) & (scores <= 5)).all()


@pytest.mark.parametrize("order", [1, 2])
def test_a_caller_may_have_switched_gradients_off(order):
    model, x = network(nn.Tanh()), images()
    expected = clever_scores(model, x, norm="l2", order=order, **SMALL)
    with torch.no_grad():
        np.testing.assert_array_equal(clever_scores(model, x, norm="l2", order=order, **SMALL), expected)


def test_convolutions_give_the_scores_they_give_in_any_order():
    torch.manual_seed(0)
    convolutions = nn.Sequential(nn.Conv2d(1, 3, 2), nn.Tanh(), nn.Conv2d(3, 4, 2), nn.Tanh())

    class Viewing(nn.Module):  # asks for the usual order of features, and so is run in it
        def __init__(self):
            super().__init__()
            self.features, self.last = convolutions, nn.Linear(16, 3)

        def forward(self, x):
            return self.last(self.features(x).view(len(x), -1))

    viewing = Viewing().eval()
    plain = nn.Sequential(viewing.features, nn.Flatten(), viewing.last).eval()
    x = torch.rand(3, 1, 4, 4)
    for norms in NORMS:
        expected = clever_scores(viewing, x, norm=norms, **SMALL)
        np.testing.assert_allclose(clever_scores(plain, x, norm=norms, **SMALL), expected, rtol=1e-4)
    assert all(weight.is_contiguous() and weight.requires_grad for weight in plain.parameters())


def test_the_models_mode_is_restored():
    model = network().train()
    model[0].eval()
    modes = [module.training for module in model.modules()]
    clever_scores(model, images(), norm="l2", **SMALL)
    assert [module.training for module in model.modules()] == modes


# --- the measure


def test_the_measure_in_two_chunks_is_the_measure_in_one():
    measure = get_measure("clever")
    parameters = measure.Parameters(norm="l2")
    model, x = network(), images(6)
    y = model(x).argmax(dim=1)
    whole = measure.run(Task(model, model, x, y), parameters).arrays
    second = measure.run(Task(model, model, x[3:], y[3:], first=3), parameters).arrays
    for name in ("score", "target", "location", "p_value", "score_by_radius"):
        assert second[name] == pytest.approx(whole[name][3:], rel=1e-3, nan_ok=True)


def test_the_measures_scores():
    measure = get_measure("clever")
    parameters = measure.Parameters(norm="l2")
    model, x = linear(), images(20)
    y = model(x).argmax(dim=1)
    y[0] = (y[0] + 1) % 5
    arrays = measure.run(Task(model, model, x, y), parameters).arrays
    truth = exact_distances(model, x[1:], "l2").amin(dim=1).numpy()
    scores = {score.name: score for score in measure.summarise(Inputs(arrays, y.numpy()), parameters)}
    assert scores["mean_score"].value == pytest.approx(truth.mean(), rel=1e-4)
    assert scores["mean_score"].low < truth.mean() < scores["mean_score"].high
    assert scores["scored"].value == pytest.approx(19 / 20)
    assert scores["degenerate"].value == 1
    assert arrays["score_by_radius"].shape == (20, 4)
    declined = measure.run(Task(model, model, x, y), measure.Parameters(norm="l2", by_radius=False)).arrays
    assert declined.keys() == arrays.keys() - {"score_by_radius"}
    assert declined["score"].tolist() == arrays["score"].tolist()
    assert measure.samples(parameters, 10000) == parameters.limit


def test_the_measure_flags_a_masked_gradient():
    model = Wrapped(lambda x: torch.stack([x.sum(dim=(1, 2, 3)) * 0 + 1, x.sum(dim=(1, 2, 3)) * 0], dim=1))
    measure = get_measure("clever")
    result = measure.run(Task(model, model, images(), torch.zeros(4, dtype=torch.int64)), measure.Parameters())
    assert [flag.code for flag in result.flags] == ["zero-gradients"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"radius": 0}, "must be positive and finite, got 0"),
        ({"batches": 1}, "at least 2 batches, got batches=1"),
        ({"samples": 1}, "at least 2 samples, got samples=1"),
        ({"limit": 0}, "at least 1 sample to measure, got limit=0"),
        ({"preset": "papr"}, "Did you mean 'paper'"),
    ],
)
def test_a_protocol_with_impossible_settings_is_refused_before_anything_runs(settings, message):
    measure = get_measure("clever")
    with pytest.raises(BenchmarkError, match=message):
        parameters_of(measure, {"norm": "l2", **settings}, where="protocol")
