"""Measures of trained models and analyses, against closed forms: linear models, constructed scores, worked examples."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn import metrics
from torch import nn
from torch.nn import functional

from benchmark.cli import run as curveboard
from benchmark.data import all_datasets, get_dataset
from benchmark.errors import InputError, UnsupportedModelError
from benchmark.jobs.job import make_job
from benchmark.jobs.protocol import get_protocol
from benchmark.measures import Inputs, Task, get_measure
from benchmark.measures.calibration import confidences, diagram, ece, reliability, temperature
from benchmark.measures.flatness import movable
from benchmark.measures.initialisation import distances
from benchmark.measures.means import bootstrap_score, scalar
from benchmark.measures.membership import advantage
from benchmark.measures.ood import auroc, fpr95
from benchmark.measures.sharpness import GRID
from benchmark.measures.weight_norms import norms_of_weights
from models_zoo import get_entry, load_model
from models_zoo.cards import read_card
from models_zoo.errors import CardError
from models_zoo.loading import load_entry
from models_zoo.training.finish import initial_model, write_submission
from models_zoo.training.grid import make_run
from models_zoo.training.loop import train

N, SHAPE, CLASSES = 12, (1, 4, 4), 3


class Linear(nn.Module):
    """Logits W x + b."""

    def __init__(self, seed=0, scale=1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(scale * torch.randn(CLASSES, 16, generator=generator))
        self.bias = nn.Parameter(torch.zeros(CLASSES))

    def forward(self, x):
        return x.flatten(1) @ self.weight.T + self.bias


def task_of(model, *, n=N, y=None, splits=None, first=0) -> Task:
    generator = torch.Generator().manual_seed(3)
    x = 0.3 + 0.4 * torch.rand(n, *SHAPE, generator=generator)  # away from the box's walls
    labels = model(x).argmax(1).detach() if y is None else y
    return Task(model, model, x, labels, first=first, seed=7, splits=splits or {})


def measured(name, task, **parameters):
    measure = get_measure(name)
    chosen = measure.Parameters(**parameters)
    result = measure.run(task, chosen)
    arrays = dict(result.arrays)
    for value in arrays.values():
        assert len(value) == len(task.x)
    summary = measure.summarise(Inputs(arrays, task.y.numpy(), dataset=None), chosen)
    scores = summary if isinstance(summary, list) else summary.scores
    declared = {o.name for o in measure.outputs(chosen, get_dataset("digits")) if o.kind == "scalar"}
    assert {score.name for score in scores} == declared
    return {score.name: score for score in scores}, result, summary


class TestIntervals:
    def test_the_ends_are_the_percentiles_of_the_resamples(self):
        output = scalar("ece", "ECE", "…", "share", "lower")
        score = bootstrap_score(output, 0.4, np.arange(101) / 100, n=1000)
        assert (score.low, score.high) == pytest.approx((0.025, 0.975))
        assert (score.name, score.unit, score.direction) == ("ece", "share", "lower")

    def test_a_statistic_that_every_resample_exceeds_is_still_in_its_interval(self):
        score = bootstrap_score(scalar("ece", "ECE", "…"), 1.0, np.linspace(2, 3, 101), n=1)
        assert score.low == 1.0


class TestMargins:
    def test_of_a_linear_model(self):
        model = Linear()
        task = task_of(model)
        logits = model(task.x).detach().double()
        top = logits.sort(dim=1, descending=True).values
        margin = (top[:, 0] - top[:, 1]).numpy()
        scores, _, _ = measured("margins", task)
        assert scores["mean"].value == pytest.approx(margin.mean(), rel=1e-6)
        assert scores["tenth"].value == pytest.approx(np.quantile(margin, 0.1), rel=1e-6)
        assert scores["inverse"].value == pytest.approx(1 / np.quantile(margin, 0.1) ** 2, rel=1e-6)
        assert scores["mean"].low < margin.mean() < scores["mean"].high

    def test_the_inverse_is_undefined_where_a_tenth_is_misclassified(self):
        model = Linear()
        task = task_of(model)
        wrong = dataclasses.replace(task, y=(task.y + 1) % CLASSES)
        scores, _, _ = measured("margins", wrong)
        assert scores["mean"].value < 0
        assert math.isnan(scores["inverse"].value)


class TestLosses:
    def test_pgd_reaches_the_worst_point_of_a_binary_linear_model(self):
        # Two classes that differ by w: the worst point of a linf ball is x − ε sign(w) for class 0.
        model = Linear()
        with torch.no_grad():
            model.weight[2] = model.weight[:2].mean(0)
            model.bias[2] = -100.0
        task = task_of(model)
        gap = model.weight[0] - model.weight[1]
        sign = torch.where(task.y == 0, -1.0, 1.0)[:, None] * gap.sign()
        worst = functional.cross_entropy(model(task.x + 0.1 * sign.view(-1, *SHAPE)), task.y).item()
        scores, result, _ = measured("losses", task, eps=0.1)
        assert scores["adversarial"].value == pytest.approx(worst, rel=1e-4)
        assert scores["clean"].value == pytest.approx(functional.cross_entropy(model(task.x), task.y).item(), rel=1e-6)
        assert scores["divergence"].value > 0
        assert float((result.adversarials - task.x).abs().max()) <= 0.1 + 1e-6

    def test_a_ball_that_is_none_is_refused(self):
        measure = get_measure("losses")
        for values in ({"eps": 0.0}, {"norm": "l1"}, {"steps": 0}):
            with pytest.raises(InputError):
                measure.Parameters(**values)


class TestSmoothness:
    def test_the_lipschitz_constant_of_a_linear_model(self):
        # max over sign vectors of ‖W s‖₁ is the norm of W from ℓ∞ to ℓ₁; the ascent finds a local maximum of it.
        model = Linear()
        task = task_of(model)
        scores, result, _ = measured("smoothness", task, eps=0.05, steps=20)
        signs = torch.tensor(list(np.ndindex(*[2] * 16)), dtype=torch.float32) * 2 - 1
        exact = float((signs @ model.weight.T).abs().sum(1).max().detach())
        assert result.arrays["lipschitz"].max() == pytest.approx(exact, rel=0.02)
        assert (result.arrays["lipschitz"] <= exact * (1 + 1e-4)).all()
        assert scores["gradient"].value > 0

    def test_the_gradient_norm_of_a_linear_model(self):
        model = Linear()
        task = task_of(model)
        p = model(task.x).softmax(1).detach()
        p[torch.arange(N), task.y] -= 1
        expected = (p @ model.weight.detach()).abs().sum(1).mean()
        scores, _, _ = measured("smoothness", task, eps=0.05)
        assert scores["gradient"].value == pytest.approx(float(expected), rel=1e-5)


class TestThickness:
    def test_of_a_steep_linear_model(self):
        # Along the segment p_y − p_t falls from 1 to −1 as tanh; the zone (0, .75) has a width known in closed form.
        model = Linear(scale=30.0)
        with torch.no_grad():
            model.weight[2], model.bias[2] = 0.0, -1e4
        task = task_of(model)
        scores, result, _ = measured("boundary-thickness", task, eps=2.0)
        gap = (model.weight[0] - model.weight[1]).detach()
        width = 2 * math.atanh(0.75) / float(gap.norm())  # tanh(g/2) from 0 to .75, measured along the gradient
        reached = result.arrays["thickness"]
        crossed = reached > 0
        assert crossed.any()
        assert reached[crossed].min() > 0.3 * width
        assert scores["thickness"].value >= 0

    def test_a_zone_upside_down_is_refused(self):
        with pytest.raises(InputError, match="alpha < beta"):
            get_measure("boundary-thickness").Parameters(alpha=0.5, beta=0.2)


class TestCalibration:
    def test_errors_of_constructed_scores(self):
        confidence = np.repeat([0.9, 0.6], 100)
        right = np.concatenate([np.arange(100) < 80, np.arange(100) < 60])
        assert ece(confidence, right) == pytest.approx(0.05)  # half the samples are off by .1
        assert ece(confidence, right, adaptive=True) >= 0.05 - 1e-9

    def test_bins_are_open_below_and_closed_above(self):
        confidence = np.array([1 / 15, 1 / 15 + 1e-9, 1.0])
        _, _, share = reliability(confidence, np.array([True, True, True]))
        assert np.flatnonzero(share).tolist() == [0, 1, 14]

    def test_a_calibrated_model_shows_its_bias_alone(self):
        rng = np.random.default_rng(0)
        p = rng.uniform(0.4, 1, 4000)
        right = rng.random(4000) < p
        assert ece(p, right) < 0.03

    def test_the_temperature_undoes_a_scaling(self):
        rng = np.random.default_rng(0)
        logits = rng.normal(size=(4000, 4)) * 2
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        labels = (rng.random((4000, 1)) > p.cumsum(1)).sum(1)
        assert temperature(3 * logits, labels) == pytest.approx(3, rel=0.05)

    def test_the_diagram_is_each_bins_accuracy_with_its_exact_interval(self):
        confidence = np.repeat([0.95, 0.5], [10, 4])
        right = np.concatenate([np.arange(10) < 7, np.arange(4) < 4])
        table = diagram(confidence, right)
        assert np.flatnonzero(np.isfinite(table.values)).tolist() == [7, 14]
        assert table.values[[7, 14]].tolist() == [1, 0.7]
        exact = binomtest(7, 10).proportion_ci(method="exact")
        assert (table.low[14], table.high[14]) == pytest.approx((exact.low, exact.high))

    def test_the_measure_says_it_all(self):
        scores, _, summary = measured("calibration", task_of(Linear(), n=60))
        assert summary.tables["reliability"].values.shape == (3, 15)
        assert scores["ece"].low <= scores["ece"].value <= scores["ece"].high
        confidence, right = confidences(np.array([[0.0, 2.0], [1.0, 0.0]]), np.array([1, 1]))
        assert right.tolist() == [True, False]
        assert confidence[0] == pytest.approx(1 / (1 + math.exp(-2)))


class TestDetection:
    def test_auroc_against_scikit_learn(self):
        rng = np.random.default_rng(0)
        inside, outside = rng.normal(1, 1, 80).round(1), rng.normal(0, 1, 60).round(1)
        truth = np.concatenate([np.ones(80), np.zeros(60)])
        assert auroc(inside, outside) == pytest.approx(metrics.roc_auc_score(truth, np.concatenate([inside, outside])))

    def test_fpr_at_95_by_hand(self):
        inside = np.arange(100) / 100  # 95 of 100 are at least .05
        assert fpr95(inside, np.array([0.04, 0.05, 0.5, 0.01])) == 0.5

    def test_the_measure_on_noise_and_on_another_dataset(self):
        model = load_model("digits-standard")
        x, y = get_dataset("digits").batch(0, 60)
        for against in ("noise", "digits"):
            measure = get_measure("ood")
            parameters = measure.Parameters(against=against)
            others = {name: get_dataset(name) for name in measure.needs(parameters).datasets}
            result = measure.run(Task(model, model, x, y, seed=1, datasets=others), parameters)
            scores = {s.name: s.value for s in measure.summarise(Inputs(result.arrays, y.numpy()), parameters)}
            assert set(scores) == {output.name for output in measure.outputs(parameters, get_dataset("digits"))}
            if against == "digits":
                assert scores["auroc-digits"] == pytest.approx(0.5)
            else:
                assert scores["auroc"] > 0.6

    def test_the_stated_sets_of_a_dataset_are_asked_for_by_name(self):
        wanted = [p.against for m, p in get_protocol("ood").wanted(get_dataset("mnist")) if m.name == "ood"]
        assert wanted == ["noise", "fashion_mnist"]
        for dataset in all_datasets().values():
            assert set(dataset.outside) <= set(all_datasets()) - {dataset.name}

    def test_the_other_sets_digest_is_part_of_the_key(self):
        measure = get_measure("ood")
        job = make_job(
            measure, measure.Parameters("fashion_mnist"), get_entry("digits-16-16"), get_dataset("digits"), n=9
        )
        assert job.needs == {"dataset:fashion_mnist": get_dataset("fashion_mnist").digest}


class TestFairness:
    def test_the_worst_class_is_found_and_a_missing_one_is_no_number(self):
        model = Linear()
        task = task_of(model)
        y = task.y.clone()
        y[y == 2] = 1  # every image of class 2 is labelled 1: class 1 is worse, class 2 missing
        task = dataclasses.replace(task, y=y)
        measure = get_measure("fairness")
        parameters = measure.Parameters(eps=0.01)
        result = measure.run(task, parameters)
        dataset = dataclasses.replace(get_dataset("digits"), classes=("a", "b", "c"))
        summary = measure.summarise(Inputs(result.arrays, y.numpy(), dataset=dataset), parameters)
        table = summary.tables["classes"]
        assert table.values.shape == (2, 3)
        assert np.isnan(table.values[:, 2]).all()
        worst = next(score for score in summary.scores if score.name == "worst")
        assert worst.value == pytest.approx(np.nanmin(table.values[0]))
        assert worst.low <= worst.value <= worst.high


class TestMembership:
    def test_the_advantage_by_hand(self):
        assert advantage(np.array([0.9, 0.8]), np.array([0.1, 0.2])) == 1
        assert advantage(np.array([0.1, 0.9]), np.array([0.1, 0.9])) == 0.5
        assert advantage(np.array([0.3, 0.9]), np.array([0.3, 0.5])) == 0.75

    def test_an_overfitted_model_gives_its_training_images_away(self):
        dataset = get_dataset("digits")
        train = dataset.split("train")
        x, y = train.batch(0, 100)
        lookup = x.flatten(1)

        class Remembers(nn.Module):
            def forward(self, z):
                seen = torch.cdist(z.flatten(1), lookup).min(1)
                return 20.0 * functional.one_hot(y[seen.indices], 10) * torch.exp(-5 * seen.values)[:, None]

        model = Remembers()
        test_x, test_y = dataset.batch(0, 100)
        measure = get_measure("membership")
        result = measure.run(Task(model, model, test_x, test_y, splits={"train": train}), measure.Parameters(eps=0.01))
        scores = {s.name: s for s in measure.summarise(Inputs(result.arrays, test_y.numpy()), measure.Parameters())}
        assert scores["clean"].value > 0.95


class TestWeights:
    def test_norms_of_a_two_layer_network(self):
        network = nn.Sequential(nn.Flatten(), nn.Linear(16, 5, bias=False), nn.ReLU(), nn.Linear(5, 3, bias=False))
        first, second = (p.detach().double() for p in network.parameters())
        norms = norms_of_weights(network, torch.zeros(1, *SHAPE))
        assert norms["l2"] == pytest.approx(float((first.square().sum() + second.square().sum()).sqrt()))
        spectral = sum(2 * math.log(float(torch.linalg.svdvals(w).max())) for w in (first, second))
        assert norms["log_spectral"] == pytest.approx(spectral)
        assert norms["log_frobenius"] == pytest.approx(sum(2 * math.log(float(w.norm())) for w in (first, second)))
        assert norms["log_path"] == pytest.approx(math.log(float((second.square() @ first.square()).sum())))

    def test_rescaling_layers_of_a_relu_network_leaves_the_path_norm(self):
        network = nn.Sequential(nn.Flatten(), nn.Linear(16, 5, bias=False), nn.ReLU(), nn.Linear(5, 3, bias=False))
        before = norms_of_weights(network, torch.zeros(1, *SHAPE))
        with torch.no_grad():
            network[1].weight.mul_(4)
            network[3].weight.div_(4)
        after = norms_of_weights(network, torch.zeros(1, *SHAPE))
        assert after["log_path"] == pytest.approx(before["log_path"])
        assert after["l2"] != pytest.approx(before["l2"])

    def test_a_model_without_weights_is_told(self):
        class Nothing(nn.Module):
            def forward(self, x):
                return x.flatten(1)[:, :3]

        with pytest.raises(UnsupportedModelError, match="no weights that could be moved"):
            movable(Nothing())


class TestInitialisation:
    def test_one_step_of_gradient_descent_moves_a_linear_model_by_lr_times_its_gradient(self, tmp_path):
        run = make_run(
            recipe="standard",
            dataset="digits",
            architecture="mlp",
            arguments={"inputs": 64, "hidden": [], "outputs": 10},
            parameters={},
            settings={"epochs": 1, "batch_size": 1297, "lr": 0.3, "momentum": 0.0, "dtype": "float64"},
            seed=5,
        )
        write_submission(run, train(run), tmp_path, slug="step")
        entry = read_card(tmp_path / "model.toml")
        torch.manual_seed(5)
        layer = nn.Linear(64, 10).double()
        x, y = get_dataset("digits").split("train").load()
        flat = x.double().flatten(1)
        p = layer(flat).softmax(1).detach() - functional.one_hot(y, 10)
        gradient = p.T @ flat / len(x)
        task = dataclasses.replace(task_of(load_entry(entry), y=torch.zeros(N)), initial=initial_model(entry))
        scores, _, _ = measured("initialisation", task)
        assert scores["l2"].value == pytest.approx(0.3 * float(gradient.norm()), rel=1e-5)
        assert scores["spectral"].value == pytest.approx(
            0.09 * float(torch.linalg.svdvals(gradient).max()) ** 2, rel=1e-5
        )
        relative = scores["l2"].value / float(layer.weight.detach().norm())
        assert scores["relative"].value == pytest.approx(relative, rel=1e-5)

    def test_kernels_that_begin_at_training_images_and_preprocessing_are_rebuilt(self, tmp_path):
        run = make_run(
            recipe="standard",
            dataset="digits",
            architecture="gaussian_kernel",
            arguments={"inputs": 64, "centres": 16, "outputs": 10, "gamma": 0.5},
            parameters={},
            settings={"epochs": 1, "lr": 1e-30, "validation": 600},
            preprocessing=({"kind": "bit_depth", "bits": 3},),
            seed=2,
        )
        write_submission(run, train(run), tmp_path, slug="kernels")
        entry = read_card(tmp_path / "model.toml")
        found = distances(load_entry(entry), initial_model(entry))
        assert found["l2"] < 1e-25
        settings = {**entry.training_run["settings"], "validation": 0}  # then it begins at other images
        other = dataclasses.replace(entry, training_run={**entry.training_run, "settings": settings})
        assert distances(load_entry(entry), initial_model(other))["l2"] > 0.1

    def test_a_model_whose_card_states_no_run_is_told(self):
        with pytest.raises(UnsupportedModelError, match="states no run of `curveboard train`"):
            measured("initialisation", task_of(Linear()))

    def test_a_run_of_another_network_is_refused(self):
        with pytest.raises(InputError, match="builds another network"):
            distances(Linear(), nn.Linear(16, 4))

    @pytest.mark.parametrize("run", [{"seed": 0}, {"recipe": "standard"}, {"recipe": "standard", "seed": -1}])
    def test_a_strangers_card_that_states_half_a_run_is_refused(self, run):
        entry = dataclasses.replace(get_entry("digits-16-16"), training_run=run)
        with pytest.raises(CardError, match=r"training\.run has the recipe"):
            initial_model(entry)


class TestFlatness:
    def test_the_models_weights_are_as_they_were(self):
        model = Linear()
        before = model.weight.detach().clone()
        measured("flatness", task_of(model, n=6), eps=0.01, steps=2)
        measured("sharpness", task_of(model, n=6))
        assert torch.equal(model.weight, before)

    def test_rescaling_a_relu_networks_layers_changes_nothing(self):
        # Moves are relative to each layer's norm, so w1·c, w2/c is the same landscape.
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False))
        task = task_of(network, n=8)
        first, _, _ = measured("flatness", task, eps=0.01, steps=2)
        with torch.no_grad():
            network[1].weight.mul_(8)
            network[3].weight.div_(8)
        second, _, _ = measured("flatness", task_of(network, n=8), eps=0.01, steps=2)
        assert second["average"].value == pytest.approx(first["average"].value, rel=1e-3)

    def test_larger_moves_are_less_flat(self):
        task = task_of(Linear(), n=8)
        small, _, _ = measured("flatness", task, eps=0.01, steps=2, average=0.05)
        large, _, _ = measured("flatness", task, eps=0.01, steps=2, average=1.0)
        assert large["average"].value > small["average"].value

    def test_the_worst_case_is_worse_than_the_average_of_its_radius(self):
        task = task_of(Linear(), n=8)
        scores, _, _ = measured("flatness", task, eps=0.01, steps=2, average=0.05, worst=0.05)
        assert scores["worst"].value > scores["average"].value


class TestSharpness:
    def test_a_wide_margin_bears_more_noise(self):
        torch.manual_seed(0)
        model = Linear()
        confident = task_of(model, n=40)
        margin = model(confident.x).topk(2, dim=1).values
        gap = (margin[:, 0] - margin[:, 1]).detach()
        order = gap.argsort()
        sigmas = []
        for chosen in (order[:10], order[-10:]):
            part = dataclasses.replace(confident, x=confident.x[chosen], y=confident.y[chosen])
            scores, _, _ = measured("sharpness", part)
            sigmas.append(scores["sigma"].value)
            assert scores["sigma"].value in (0.0, *GRID)
        assert sigmas[0] < sigmas[1]

    def test_one_over_sigma_squared(self):
        scores, _, _ = measured("sharpness", task_of(Linear(), n=20))
        assert scores["flatness"].value == pytest.approx(1 / scores["sigma"].value ** 2)


class TestGap:
    def test_a_model_that_remembers_has_a_gap(self):
        dataset = get_dataset("digits")
        model = load_model("digits-standard")
        measure = get_measure("generalisation")
        parameters = measure.Parameters(norm="l2")
        x, y = dataset.batch(0, 60)
        task = Task(model, model, x, y, seed=1, splits={"train": dataset.split("train")}, pool=dataset.pool(60))
        result = measure.run(task, parameters)
        from benchmark.verification import verify

        distances = verify(model, x, y, result.adversarials).distances["l2"].numpy()
        arrays = {**result.arrays, "distance_l2": distances}
        summary = measure.summarise(Inputs(arrays, y.numpy(), dataset=dataset), parameters)
        table = summary.tables["gap"]
        train = result.arrays["train_distance"]
        assert table.values[0] == pytest.approx((train > 0).mean() - (distances > 0).mean())
        assert np.isfinite(table.values).all()
        assert (table.low <= table.values + 1e-12).all()
        assert (table.values <= table.high + 1e-12).all()

    def test_a_slice_longer_than_the_training_split_is_told(self):
        dataset = get_dataset("digits")
        measure = get_measure("generalisation")
        model = load_model("digits-standard")
        x, y = dataset.batch(0, 10)
        task = Task(model, model, x, y, first=1290, splits={"train": dataset.split("train")})
        with pytest.raises(UnsupportedModelError, match="training split has 1297"):
            measure.run(task, measure.Parameters())


def test_the_protocol_of_analyses_is_evaluated_and_published_whole(tmp_path, capsys):
    workspace = ["-w", str(tmp_path / "board")]
    assert curveboard(["init", str(tmp_path / "board")]) == 0
    asked = ["--protocol", "analyses", "--limit", "15", "-m", "digits-16-16"]
    assert curveboard(["evaluate", *asked, *workspace]) == 0
    capsys.readouterr()
    assert curveboard(["show", "digits-16-16", "--json", *workspace]) == 0
    shown = json.loads(capsys.readouterr().out)
    states = {evaluation["measure"]: evaluation["state"] for evaluation in shown["evaluations"]}
    assert states.pop("initialisation") == "unsupported"  # the embedded cards state no run
    assert set(states.values()) == {"done"}
    assert curveboard(["publish", *workspace]) == 0
    page = (tmp_path / "board/public/boards/digits-15-analyses/models/digits-16-16/index.html").read_text()
    for title in ("Boundary thickness", "Average flatness", "Robust gap", "Reliability", "Worst class under PGD"):
        assert title in page, title
