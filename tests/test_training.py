"""The training zoo: each recipe's loss against its definition, and a loop that a kill cannot change."""

import dataclasses
import json
import math
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from grids import GRID
from safetensors.torch import save
from torch import nn
from torch.nn import functional

from benchmark.attacks import get_attack
from benchmark.cli import run as curveboard
from benchmark.data import Split, get_dataset, manifest_digest
from benchmark.errors import UnknownNameError
from benchmark.threat.ascent import ascend, steepest
from models_zoo import architectures, training
from models_zoo.cards import read_card
from models_zoo.catalogue import catalogue, collections
from models_zoo.errors import TrainingError
from models_zoo.fetch import sha256_of
from models_zoo.loading import load_entry
from models_zoo.training import loop
from models_zoo.training.awp import perturbed_weights
from models_zoo.training.finish import About, finished, run_table, write_submission
from models_zoo.training.grid import make_run, read_grid
from models_zoo.training.loop import CHECKPOINT, Run, train
from models_zoo.training.recipe import Step, get_recipe, recipes
from models_zoo.training.samples import augmented, held_out, training_samples
from models_zoo.training.settings import Settings, from_values

GRIDS = Path(training.__file__).parent / "grids"
QUICK = {"epochs": 2, "batch_size": 64, "optimiser": "adamw", "lr": 2e-3, "schedule": "cosine", "augmentation": "none"}
MLP = {"inputs": 64, "hidden": [32], "outputs": 10}


def quick(recipe="standard", *, parameters=None, seed=0, architecture="mlp", arguments=MLP, **settings) -> Run:
    return make_run(
        recipe=recipe,
        dataset="digits",
        architecture=architecture,
        arguments=arguments,
        parameters=parameters or {},
        settings=QUICK | {"validation": 0, "keep": "last"} | settings,
        seed=seed,
    )


def small_network(seed=0, classes=3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.Softplus(), nn.Linear(6, classes)).double()


def small_step(network, n=5, classes=3) -> Step:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(n, 1, 2, 2, dtype=torch.float64, generator=generator)
    return Step(network, x, torch.arange(n) % classes, generator)


class TestLosses:
    def test_the_cross_lipschitz_regulariser_is_the_mean_over_pairs(self):
        network = small_network()
        step = small_step(network)
        jacobian = torch.stack(
            [torch.autograd.functional.jacobian(lambda z: network(z[None])[0], image) for image in step.x]
        )
        g = jacobian.flatten(2)  # (n, K, d)
        pairs = sum((g[:, i] - g[:, j]).square().sum() for i in range(3) for j in range(3)) / (5 * 9)
        recipe = get_recipe("cross-lipschitz")
        loss = recipe.objective(step, step.x, recipe.Parameters(weight=0.7))
        torch.testing.assert_close(loss - functional.cross_entropy(network(step.x), step.y), 0.7 * pairs)

    def test_cross_lipschitz_with_adversarial_training_mixes_both_halves(self):
        network = small_network().float()
        step = small_step(network)
        step = dataclasses.replace(step, x=step.x.float())
        recipe = get_recipe("cross-lipschitz")
        parameters = recipe.Parameters(weight=0.0, adversarial=True)
        perturbed = recipe.perturb(step, parameters)
        found = get_attack("hein").run(network, step.x, step.y, norm="l2", effort="quick", seed=0, pool=None)
        torch.testing.assert_close(perturbed, found.adversarials)
        halves = [functional.cross_entropy(network(x), step.y) for x in (step.x, perturbed)]
        torch.testing.assert_close(recipe.objective(step, perturbed, parameters), sum(halves) / 2)

    def test_trades_is_cross_entropy_and_divergence(self):
        step = small_step(small_network())
        perturbed = (step.x + 0.1).clamp(0, 1)
        p, q = step.network(step.x).softmax(1), step.network(perturbed).softmax(1)
        by_hand = functional.cross_entropy(step.network(step.x), step.y) + 6 * (p * (p / q).log()).sum(1).mean()
        recipe = get_recipe("trades")
        torch.testing.assert_close(recipe.objective(step, perturbed, recipe.Parameters()), by_hand)

    def test_mart_is_its_equation(self):
        step = small_step(small_network())
        perturbed = (step.x + 0.1).clamp(0, 1)
        p, q = step.network(step.x).softmax(1), step.network(perturbed).softmax(1)
        rows = torch.arange(5)
        others = q.clone()
        others[rows, step.y] = 0
        boosted = -(q[rows, step.y].log()).mean() - (1.0001 - others.amax(1)).log().mean()
        aware = ((p * (p / q).log()).sum(1) * (1.0000001 - p[rows, step.y])).mean()
        recipe = get_recipe("mart")
        torch.testing.assert_close(recipe.objective(step, perturbed, recipe.Parameters()), boosted + 5 * aware)

    @pytest.mark.parametrize("name", ["pgd-at", "trades", "mart", "fast-at"])
    @pytest.mark.parametrize("norm", ["linf", "l2"])
    def test_an_inner_maximisation_stays_in_the_ball_and_makes_the_loss_larger(self, name, norm):
        recipe = get_recipe(name)
        parameters = recipe.Parameters(norm=norm, eps=0.1, step=0.03)
        step = small_step(small_network())
        perturbed = recipe.perturb(step, parameters)
        delta = (perturbed - step.x).flatten(1)
        size = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
        assert float(size.max()) <= 0.1 + 1e-12
        assert float(perturbed.min()) >= 0
        assert float(perturbed.max()) <= 1
        clean = functional.cross_entropy(step.network(step.x), step.y)
        assert functional.cross_entropy(step.network(perturbed), step.y) > clean
        assert step.network.training

    @pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
    def test_ascent_on_a_linear_loss_ends_at_the_balls_best_point(self, norm, dual):
        weight = torch.tensor([[3.0, -1.0], [0.5, 2.0]])
        x = torch.full((1, 1, 2, 2), 0.5)
        found = ascend(
            lambda z: (z[0, 0] * weight).sum(), x, torch.zeros_like(x), norm=norm, eps=0.1, step=0.05, steps=20
        )
        gain = float(((found - x)[0, 0] * weight).sum())
        assert gain == pytest.approx(0.1 * float(weight.norm(p=dual)), rel=1e-4)

    def test_a_steepest_step_has_norm_one(self):
        gradient = torch.randn(4, 1, 3, 3)
        assert steepest(gradient, "linf").abs().eq(1).all()
        torch.testing.assert_close(steepest(gradient, "l2").flatten(1).norm(dim=1), torch.ones(4))


class TestWeightPerturbation:
    def test_each_layer_moves_by_gamma_of_its_norm_uphill_and_comes_back(self):
        network = small_network()
        step = small_step(network)

        def loss():
            return functional.cross_entropy(network(step.x), step.y)

        before = {name: value.clone() for name, value in network.state_dict().items()}
        clean = float(loss().detach())
        with perturbed_weights(network, loss, 0.05):
            for name, value in network.named_parameters():
                moved = float((value.detach() - before[name]).norm() / before[name].norm())
                assert moved == pytest.approx(0.05 if value.ndim > 1 else 0, abs=1e-9)
            assert float(loss().detach()) > clean
        for name, value in network.state_dict().items():
            torch.testing.assert_close(value, before[name], rtol=0, atol=1e-12)

    def test_running_statistics_are_not_touched(self):
        network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.LazyLinear(3))
        x = torch.rand(8, 1, 6, 6)
        network(x)
        before = network[1].running_mean.clone()
        with perturbed_weights(network, lambda: network(x).square().mean(), 0.1):
            assert torch.equal(network[1].running_mean, before)


class TestSamples:
    def test_the_training_split_is_not_the_test_split(self):
        samples = training_samples(get_dataset("digits"))
        assert len(samples) == 1297
        x, _ = samples.take(torch.arange(3), dtype=torch.float64, device=torch.device("cpu"))
        assert x.shape == (3, 1, 8, 8)
        assert set((x * 16).flatten().tolist()) <= set(range(17))

    def test_validation_samples_are_left_out_of_training(self):
        samples = training_samples(get_dataset("digits"))
        kept, out = held_out(samples, 200)
        assert (len(kept), len(out)) == (1097, 200)
        rows = {image.numpy().tobytes() for image in out.images}
        assert sum(image.numpy().tobytes() in rows for image in kept.images) <= 3  # the digits hold a few twins
        with pytest.raises(TrainingError, match="validation is 1297 of 1297"):
            held_out(samples, 1297)

    def test_augmentation_shifts_by_up_to_an_eighth_and_mirrors(self):
        x = torch.zeros(400, 1, 16, 16)
        x[:, 0, 8, 4] = 1
        found = augmented(x, torch.Generator().manual_seed(0), flip=True)
        assert found.sum(dim=(1, 2, 3)).eq(1).all()
        rows, columns = found[:, 0].flatten(1).argmax(1) // 16, found[:, 0].flatten(1).argmax(1) % 16
        assert set(rows.tolist()) == {6, 7, 8, 9, 10}
        assert set(columns.tolist()) == {2, 3, 4, 5, 6} | {9, 10, 11, 12, 13}
        still = augmented(x, torch.Generator().manual_seed(0), flip=False)
        assert set((still[:, 0].flatten(1).argmax(1) % 16).tolist()) == {2, 3, 4, 5, 6}


class TestLoop:
    @pytest.mark.parametrize("name", list(recipes()))
    def test_every_recipe_learns(self, name):
        recipe = get_recipe(name)
        fields = {field.name for field in dataclasses.fields(recipe.Parameters)}
        ball = {"eps": 0.05, "step": 0.02, "steps": 3} if "eps" in fields else {}
        weight = {"weight": 0.001} if "weight" in fields else {}
        trained = train(quick(name, parameters=ball | weight, epochs=8, lr=1e-2, augmentation="none", dropout=None))
        assert trained.epochs[-1].loss < trained.epochs[0].loss
        assert trained.epochs[-1].accuracy > 0.5
        assert trained.notes == ()

    def test_killed_and_resumed_it_ends_in_the_same_bytes(self, tmp_path):
        run = quick(
            "pgd-at", parameters={"eps": 0.1}, epochs=4, dropout=0.3, augmentation="crop", validation=100, awp=0.01
        )
        whole = train(run)

        class KillError(Exception):
            pass

        def dies(epoch):
            if epoch.number == 2:
                raise KillError

        with pytest.raises(KillError):
            train(run, folder=tmp_path, report=dies)
        assert (tmp_path / CHECKPOINT).exists()
        seen = []
        again = train(run, folder=tmp_path, report=seen.append)
        assert [epoch.number for epoch in seen] == [3, 4]
        assert all(torch.equal(again.state[name], value) for name, value in whole.state.items())
        assert [e.loss for e in again.epochs] == [e.loss for e in whole.epochs]

    def test_another_seed_gives_other_weights(self):
        first, second = train(quick(epochs=1)), train(quick(epochs=1, seed=1))
        assert not torch.equal(first.state["1.weight"], second.state["1.weight"])

    def test_a_checkpoint_of_another_run_is_refused(self, tmp_path):
        with pytest.raises(RuntimeError):
            train(quick(), folder=tmp_path, report=lambda _: (_ for _ in ()).throw(RuntimeError))
        with pytest.raises(TrainingError, match="checkpoint of another run"):
            train(quick(lr=1e-3), folder=tmp_path)
        (tmp_path / CHECKPOINT).write_bytes(b"no checkpoint")
        with pytest.raises(TrainingError, match="cannot be read"):
            train(quick(), folder=tmp_path)

    def test_a_loss_that_is_no_number_ends_the_run_and_says_where(self):
        with pytest.raises(TrainingError, match=r"became (nan|inf) in epoch 1, step \d+\. Lower lr"):
            train(quick(optimiser="sgd", lr=1e30, epochs=1))

    def test_a_diverged_run_says_so(self):
        trained = train(quick(optimiser="sgd", lr=300.0, momentum=0.0, schedule="constant", epochs=2))
        assert "diverged" in trained.notes[0]

    def test_early_stopping_keeps_the_best_epoch(self):
        # The learning rate is far too large from the third epoch on: what follows is worse.
        run = quick(
            optimiser="sgd",
            lr=0.05,
            schedule="steps",
            milestones=(0.5,),
            gamma=1e4,
            epochs=4,
            validation=200,
            keep="best",
        )
        trained = train(run)
        accuracies = [epoch.validation for epoch in trained.epochs]
        assert trained.kept == 1 + accuracies.index(max(accuracies)) <= 2
        last = train(dataclasses.replace(run, settings=dataclasses.replace(run.settings, keep="last")))
        assert last.kept == 4

    def test_catastrophic_overfitting_is_noticed(self):
        epochs = [0.6, 0.7, 0.1]
        from models_zoo.training.loop import Epoch, _notes

        log = [Epoch(i, 3, 1.0, 0.9, 0.9, robust, 0.0) for i, robust in enumerate(epochs, 1)]
        assert "catastrophic overfitting" in _notes(log, 10)[0]
        assert _notes(log[:2], 10) == []

    def test_a_dataset_without_a_training_split_is_named(self, monkeypatch):
        def none(self, name):
            raise UnknownNameError("split", name, ["test"])

        monkeypatch.setattr(type(get_dataset("digits")), "split", none)
        with pytest.raises(TrainingError, match="'digits' has no training split"):
            training_samples(get_dataset("digits"))


class TestSettings:
    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"epochs": 0}, "epochs is 0; it is at least 1"),
            ({"lr": -1}, "lr is -1"),
            ({"lr": "fast"}, "settings: lr is 'fast'; it is a float"),
            ({"optimiser": "adam"}, "optimiser is 'adam'; it is one of sgd, adamw"),
            ({"keep": "best"}, "early stopping needs some"),
            ({"milestones": [0.9, 0.5]}, "rising shares"),
            ({"dropout": 1.0}, "dropout is 1.0"),
            ({"epoch": 3}, "has no setting 'epoch'; it has epochs"),
        ],
    )
    def test_what_cannot_be_is_refused(self, values, message):
        with pytest.raises(TrainingError, match=message.replace("(", r"\(")):
            from_values(Settings, values, where="settings")

    def test_the_learning_rate_follows_its_schedule(self):
        from models_zoo.training.loop import _rates

        steps = _rates(Settings(schedule="steps", milestones=(0.5, 0.75), gamma=0.1), 100)
        assert [round(steps(i), 6) for i in (0, 49, 50, 74, 75, 99)] == [1, 1, 0.1, 0.1, 0.01, 0.01]
        cosine = _rates(Settings(schedule="cosine"), 100)
        assert [cosine(i) for i in (0, 50, 100)] == pytest.approx([1, 0.5, 0])

    def test_published_defaults(self):
        trades, mart, madry = (get_recipe(name) for name in ("trades", "mart", "pgd-at"))
        assert (trades.Parameters().beta, trades.Parameters().eps, trades.settings.lr) == (6.0, 0.031, 0.1)
        assert (mart.Parameters().beta, mart.settings.lr, mart.settings.weight_decay) == (5.0, 0.01, 3.5e-3)
        assert (madry.Parameters().eps, madry.Parameters().step) == (8 / 255, 2 / 255)


class TestArchitectures:
    def test_resnet_32_has_its_published_size(self):
        network = architectures.build("resnet_cifar", {"depth": 32})
        weights = sum(p.numel() for p in network.parameters())
        assert 460_000 < weights < 470_000  # the paper: 0.46 million
        assert network.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 10)
        assert architectures.build("resnet_cifar", {"depth": 8, "channels": 1}).eval()(
            torch.rand(1, 1, 8, 8)
        ).shape == (1, 10)

    def test_a_resnet_is_trained_with_cross_lipschitz(self):
        run = quick(
            "cross-lipschitz",
            parameters={"weight": 1e-4},
            architecture="resnet_cifar",
            arguments={"depth": 8, "width": 4, "channels": 1},
            epochs=2,
        )
        trained = train(run)
        assert trained.epochs[-1].loss < trained.epochs[0].loss

    def test_resnet_32_learns_43_traffic_signs_with_cross_lipschitz(self, monkeypatch):
        # Synthetic signs of GTSRB's shape and classes, each class a colour: the paper's largest case, on little data.
        rng = np.random.default_rng(0)
        labels = np.arange(0, 43, 3)
        images = np.broadcast_to(rng.integers(0, 256, (15, 3, 1, 1)), (15, 3, 32, 32)).astype(np.uint8)
        split = Split(15, manifest_digest(images, labels, levels=255), lambda: (images, labels))
        signs = dataclasses.replace(get_dataset("gtsrb"), splits={"train": split})
        monkeypatch.setattr(loop, "get_dataset", lambda name: signs)
        run = make_run(
            recipe="cross-lipschitz",
            dataset="gtsrb",
            architecture="resnet_cifar",
            arguments={"depth": 32, "width": 4, "classes": 43},
            parameters={"weight": 1e-4, "adversarial": True},
            settings={"epochs": 2, "batch_size": 15, "lr": 0.05},
        )
        trained = train(run)
        assert trained.epochs[-1].loss < trained.epochs[0].loss


class TestSubmission:
    def test_the_card_says_how_it_was_trained(self, tmp_path):
        run = quick("pgd-at", parameters={"eps": 0.1, "norm": "l2"}, epochs=8, lr=1e-2, seed=3)
        trained = train(run)
        write_submission(run, trained, tmp_path, slug="at-s3")
        entry = read_card(tmp_path / "model.toml")
        assert (entry.training_norm, entry.training_eps) == ("l2", 0.1)
        assert entry.training_method == "PGD adversarial training"
        assert entry.training_run["seed"] == 3
        assert entry.training_run["settings"]["epochs"] == 8
        x, y = get_dataset("digits").load(200)
        assert (load_entry(entry)(x).argmax(1) == y).double().mean() > 0.5
        assert finished(run, tmp_path)
        assert not finished(dataclasses.replace(run, seed=4), tmp_path)
        log = json.loads((tmp_path / "training.json").read_text())
        assert math.isfinite(log["epochs"][0]["loss"])


class TestGrid:
    @pytest.mark.parametrize(
        ("name", "given", "expected"),
        [
            ("mlp", {"hidden": [3]}, {"hidden": [3], "inputs": 3072, "outputs": 100}),
            ("mlp", {"hidden": [3], "outputs": 7}, {"hidden": [3], "inputs": 3072, "outputs": 7}),
            ("small_conv", {"channels": [4]}, {"channels": [4], "shape": [3, 32, 32], "classes": 100}),
            ("resnet_cifar", {}, {"classes": 100}),  # three channels are what it has anyway
        ],
    )
    def test_sizes_follow_from_the_dataset(self, name, given, expected):
        assert architectures.sized(name, given, shape=(3, 32, 32), classes=100) == expected

    def test_channels_that_are_one_number_follow_too(self):
        assert architectures.sized("resnet_cifar", {}, shape=(1, 32, 32), classes=10) == {"channels": 1}

    def test_a_run_without_sizes_is_the_run_with_them(self):
        assert quick(arguments={"hidden": [32]}).digest == quick().digest

    def test_a_grid_is_every_combination(self, tmp_path):
        path = tmp_path / "grid.toml"
        path.write_text(GRID)
        grid = read_grid(path)
        assert list(grid.runs) == ["grid-w8-std-s0", "grid-w8-std-s1", "grid-w8-at-s0", "grid-w8-at-s1"]
        assert grid.runs["grid-w8-at-s1"].settings.lr == 4e-3
        assert grid.runs["grid-w8-std-s0"].settings.lr == 2e-3
        assert grid.labels["grid-w8-at-s1"] == {"architecture": "w8", "method": "at", "seed": "1"}

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ('dataset = "digits"', "", "needs a dataset"),
            ("seeds = [0, 1]", "seeds = []", "seeds is"),
            ("epochs = 1", "epoch = 1", "no setting 'epoch'"),
            ('recipe = "standard"', 'recipee = "standard"', "no field 'recipee'"),
            ('label = "at"', 'label = "std"', "two runs"),
            ("[settings]", "[settings", "cannot be read"),
        ],
    )
    def test_a_faulty_grid_is_refused_with_the_place(self, tmp_path, old, new, message):
        path = tmp_path / "grid.toml"
        path.write_text(GRID.replace(old, new, 1))
        with pytest.raises(TrainingError, match=message):
            read_grid(path)

    def test_the_command_trains_what_is_missing(self, tmp_path, capsys):
        path = tmp_path / "grid.toml"
        path.write_text(GRID.replace("seeds = [0, 1]", "seeds = [0]"))
        out = tmp_path / "out"
        assert curveboard(["train", "--grid", str(path), "-o", str(out)]) == 0
        assert "2 runs, 2 to train" in capsys.readouterr().out
        stamps = {f: f.stat().st_mtime_ns for f in out.rglob("*.safetensors")}
        assert len(stamps) == 2
        assert curveboard(["train", "--grid", str(path), "-o", str(out)]) == 0
        assert "0 to train" in capsys.readouterr().out
        assert {f: f.stat().st_mtime_ns for f in out.rglob("*.safetensors")} == stamps

    def test_killed_and_interrupted_at_random_it_ends_in_the_same_bytes(self, tmp_path):
        path, out = tmp_path / "grid.toml", tmp_path / "out"
        path.write_text(GRID.replace("epochs = 1", "epochs = 40"))
        command = [sys.executable, "-m", "curveboard", "train", "--grid", str(path), "-o", str(out), "-j", "2"]
        draw = random.Random(0)
        for signal_sent in (signal.SIGKILL, signal.SIGINT):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
            checkpoints_before = {p: p.stat().st_mtime_ns for p in out.rglob("*.ckpt")}
            while {p: p.stat().st_mtime_ns for p in out.rglob("*.ckpt")} == checkpoints_before:
                assert process.poll() is None
                time.sleep(0.01)
            time.sleep(draw.random() / 10)
            process.send_signal(signal_sent)
            assert process.wait(60) in (-signal.SIGKILL, 130)
        assert list(out.rglob("*.ckpt"))  # something was in progress
        assert curveboard(["train", "--grid", str(path), "-o", str(out)]) == 0
        for slug, run in read_grid(path).runs.items():
            assert (out / slug / f"{slug}.safetensors").read_bytes() == save(dict(train(run).state))
            assert not (out / slug / CHECKPOINT).exists()

    def test_a_run_that_fails_keeps_no_other_from_being_trained(self, tmp_path, capsys):
        path, out = tmp_path / "grid.toml", tmp_path / "out"
        path.write_text(
            GRID.replace("lr = 4e-3", 'lr = 1e30, optimiser = "sgd"').replace("seeds = [0, 1]", "seeds = [0]")
        )
        assert curveboard(["train", "--grid", str(path), "-o", str(out)]) == 1
        printed = capsys.readouterr()
        assert "grid-w8-at-s0: failed: The loss became" in printed.out
        assert "1 of 2 runs failed" in printed.err
        assert [p.stem for p in out.rglob("*.safetensors")] == ["grid-w8-std-s0"]

    def test_a_choice_may_have_seeds_of_its_own(self, tmp_path):
        path = tmp_path / "grid.toml"
        path.write_text(GRID.replace('label = "at"', 'label = "at"\nseeds = [2]'))
        assert list(read_grid(path).runs) == ["grid-w8-std-s0", "grid-w8-std-s1", "grid-w8-at-s2"]

    def test_the_cards_of_a_grid_say_its_choices_authors_and_licence(self, tmp_path):
        path = tmp_path / "grid.toml"
        path.write_text('authors = ["A. Person"]\nlicence = "MIT"\n' + GRID)
        grid = read_grid(path)
        assert grid.about("grid-w8-at-s1") == About("w8 · at · seed 1", ("A. Person",), "MIT")


class TestCollections:
    def test_the_shipped_networks_are_small_whole_and_say_their_recipe(self):
        folder = collections()["digits"]
        cards = [read_card(path) for path in sorted(folder.glob("*/model.toml"))]
        grid = read_grid(GRIDS / "digits.toml")
        assert {entry.slug for entry in cards} == set(grid.runs)
        assert len(cards) >= 60
        for entry in cards:
            run = grid.runs[entry.slug]
            assert entry.training_run == run_table(run)
            assert (entry.architecture, entry.arguments) == (run.architecture, run.built_with)
            assert entry.licence == "MIT"
            (weights,) = entry.weights
            assert weights.size <= 30_000
            assert sha256_of(entry.folder / weights.name) == weights.sha256

    @pytest.mark.parametrize(
        "slug", ["grid-w16-at-wd0-last-s0", "grid-w48-std-wd1-best-s0", "grid-w24x2-awp-wd0-last-s0"]
    )
    def test_they_classify_digits(self, slug):
        model = load_entry(read_card(collections()["digits"] / slug / "model.toml"))
        x, y = get_dataset("digits").load(200)
        assert (model(x).argmax(1) == y).double().mean() > 0.8

    def test_a_collection_is_added_once_and_is_in_the_catalogue_of_that_workspace_alone(self, tmp_path, capsys):
        place = ["-w", str(tmp_path / "board")]
        assert curveboard(["init", str(tmp_path / "board")]) == 0
        capsys.readouterr()
        assert curveboard(["zoo", "add"]) == 0
        assert "digits: 96 models" in capsys.readouterr().out
        assert curveboard(["zoo", "add", "digits", *place]) == 0
        assert "96 models added" in capsys.readouterr().out
        assert curveboard(["zoo", "add", "digits", *place]) == 0
        assert "0 models added" in capsys.readouterr().out
        assert "grid-w16-std-wd0-last-s0" in catalogue([tmp_path / "board/models"])
        assert not any(slug.startswith("grid-") for slug in catalogue())

    def test_a_model_of_the_same_name_is_not_overwritten(self, tmp_path, capsys):
        place = ["-w", str(tmp_path / "board")]
        assert curveboard(["init", str(tmp_path / "board")]) == 0
        own = tmp_path / "board/models/grid-w16-std-wd0-last-s0"
        shutil.copytree(collections()["digits"] / own.name, own)
        card = own / "model.toml"
        card.write_text(card.read_text().replace("inputs = 64", "inputs = 65"))
        assert curveboard(["zoo", "add", "digits", *place]) == 1
        assert "another model 'grid-w16-std-wd0-last-s0'" in capsys.readouterr().err
        assert [path.name for path in (tmp_path / "board/models").iterdir()] == [own.name]

    def test_an_unknown_collection_is_named_with_the_nearest(self, tmp_path, capsys):
        assert curveboard(["init", str(tmp_path / "board")]) == 0
        assert curveboard(["zoo", "add", "digit", "-w", str(tmp_path / "board")]) == 1
        assert "'digits'" in capsys.readouterr().err


class TestCommand:
    def arguments(self, out: Path, *more: str) -> list[str]:
        return [
            *("train", "standard", "--dataset", "digits", "--architecture", "mlp"),
            *("--arguments", json.dumps(MLP), "-o", str(out), *more),
        ]

    def test_a_run_ends_in_a_folder_that_can_be_submitted(self, tmp_path, capsys):
        assert curveboard(self.arguments(tmp_path, "--set", "epochs=2", "--set", "lr=0.05")) == 0
        printed = capsys.readouterr().out
        assert "epoch 2/2" in printed
        folder = tmp_path / "digits-mlp-standard-s0"
        assert f"curveboard submit {folder}" in printed
        assert curveboard(["submit", "--dry-run", str(folder)]) == 0

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (["--set", "epochs=none"], "epochs is 'none'; it is a int"),
            (["--set", "lr"], "has no value"),
            (["--arguments", "{"], "no JSON"),
            (["--arguments", '{"widht": 3}'], "cannot be built with"),
        ],
    )
    def test_bad_options_are_one_line(self, tmp_path, capsys, more, message):
        assert curveboard(self.arguments(tmp_path, *more)) != 0
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error
