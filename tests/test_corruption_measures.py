"""The measures under corruptions, on models whose answers are known, and on a real one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from measured import DIGITS, run, task_of, value
from torch import nn

from benchmark.counting import CountingModel
from benchmark.data import get_dataset
from benchmark.data.corruptions import COMMON, corrupt, frost
from benchmark.data.corruptions.references import ALEXNET, DIGITS_STANDARD, LENET_CLEAN
from benchmark.data.suites import get_suite, suites
from benchmark.errors import InputError
from benchmark.jobs.protocol import get_protocol
from benchmark.measures import Inputs, get_measure
from benchmark.measures.corruptions import _Base
from db.queries.completeness import missing
from db.schema import State
from models_zoo import load_model
from models_zoo.errors import FetchError


class Mean(nn.Module):
    """Class 1 if the image is brighter than a threshold, else 0, of ten."""

    def __init__(self, threshold):
        super().__init__()
        self.threshold = threshold

    def forward(self, x):
        lead = x.flatten(1).mean(1) - self.threshold
        return torch.stack([-lead, lead, *[torch.full_like(lead, -9)] * 8], dim=1)


def test_the_grid_is_the_accuracy_on_the_suites_images():
    model = load_model("digits-standard")
    measure = get_measure("corruptions")
    parameters = measure.Parameters(suite="mnist-c")
    _, flags, summary = run(measure, parameters, model, 60, chunk=25)
    assert flags == []
    x, y = DIGITS.batch(0, 60)
    for i, name in enumerate(get_suite("mnist-c").axes[0].labels):
        images = torch.from_numpy(corrupt(x.numpy(), name, 1, family="mnist").astype(np.float32)) / 255
        with torch.no_grad():
            accuracy = float((model(images).argmax(1) == y).float().mean())
        assert summary.tables["grid"].values[i, 0] == pytest.approx(accuracy)
        assert summary.tables["grid"].low[i, 0] <= accuracy <= summary.tables["grid"].high[i, 0]
    grid = summary.tables["grid"].values
    assert value(summary, "mean_accuracy") == pytest.approx(grid.mean())
    assert value(summary, "mean_error") == pytest.approx(1 - grid.mean())
    assert value(summary, "worst_corruption") == pytest.approx(grid.min())
    assert value(summary, "worst_severity") == pytest.approx(grid.mean())
    assert value(summary, "mce") is None
    for score in summary.scores:
        assert score.low <= score.value <= score.high


def test_a_reference_is_1_by_itself_and_another_model_is_what_the_means_say():
    clean, other = load_model("digits-standard"), load_model("digits-adv-linf")
    measure = get_measure("corruptions")
    parameters = measure.Parameters(suite="mnist-c", reference="digits-standard")
    assert measure.needs(parameters).references == ("digits-standard",)
    _, _, own = run(measure, parameters, clean, 500, chunk=500, references=[("digits-standard", clean)])
    score = next(s for s in own.scores if s.name == "mce")
    assert (score.value, score.low, score.high) == (1, 1, 1)
    assert value(own, "relative_mce") == pytest.approx(1)
    _, _, summary = run(measure, parameters, other, 500, chunk=500, references=[("digits-standard", clean)])
    errors, base = 1 - summary.tables["grid"].values[:, 0], 1 - own.tables["grid"].values[:, 0]
    assert value(summary, "mce") == pytest.approx((errors / base).mean())
    assert np.allclose(summary.tables["ce"].values, errors / base)
    clean_error, clean_base = 1 - value(summary, "clean_accuracy"), 1 - value(own, "clean_accuracy")
    assert value(summary, "relative_mce") == pytest.approx(((errors - clean_error) / (base - clean_base)).mean())
    with pytest.raises(InputError, match="no result on these images"):
        run(measure, parameters, other, 10, chunk=10)


def test_the_stated_errors_of_the_digits_are_what_the_model_makes():
    """What mCE on the digits is normalised by, measured again on all 500."""
    measure, model = get_measure("corruptions"), load_model("digits-standard")
    parameters = measure.Parameters(suite="mnist-c", reference="stated:digits-standard")
    assert measure.needs(parameters).references == ()
    _, _, summary = run(measure, parameters, model, 500, chunk=500)
    stated = DIGITS_STANDARD.errors
    names = get_suite("mnist-c").axes[0].labels
    # A prediction may tip over on another machine's arithmetic: one of 500.
    errors = dict(zip(names, 1 - summary.tables["grid"].values[:, 0], strict=True))
    assert {n: e[0] for n, e in stated.items()} == pytest.approx(errors, abs=0.0021)
    assert value(summary, "mce") == pytest.approx(1, abs=0.005)
    assert value(summary, "relative_mce") == pytest.approx(1, abs=0.05)
    other = Inputs({}, DIGITS.labels(0, 0), {}, mnist_like())
    with pytest.raises(InputError, match="errors of stated:digits-standard are of digits, not of two"):
        _Base.of("stated:digits-standard", other, names)


@pytest.mark.shared
def test_the_clean_cnn_beats_the_pgd_trained_one_under_mnist_c(seeded_cache):
    """Mu & Gilmer's finding, on the first 200 images; and the stated errors of all 10,000 are not far from these."""
    measure, mnist = get_measure("corruptions"), get_dataset("mnist")
    parameters = measure.Parameters(suite="mnist-c", reference="stated:advertorch-mnist-lenet-clean")
    scores = {}
    for slug in ("advertorch-mnist-lenet-clean", "advertorch-mnist-lenet-adv"):
        _, _, summary = run(measure, parameters, load_model(slug), 200, chunk=200, dataset=mnist)
        scores[slug] = {score.name: score for score in summary.scores}
        if slug.endswith("clean"):
            table = summary.tables["grid"]
            stated = [1 - LENET_CLEAN.errors[name][0] for name in get_suite("mnist-c").axes[0].labels]
            assert np.abs(np.array(stated) - table.values[:, 0]).max() < 0.12  # 3.4 standard errors at most
    clean, trained = scores.values()
    assert clean["mean_error"].high < trained["mean_error"].low
    assert clean["mce"].low < 1.15
    assert trained["mce"].low > 1.2


def test_declared_outputs_are_what_is_given():
    measure = get_measure("corruptions")
    for reference in ("", "digits-standard"):
        parameters = measure.Parameters(suite="mnist-c", reference=reference)
        model = load_model("digits-standard")
        _, _, summary = run(measure, parameters, model, 20, chunk=20, references=[("digits-standard", model)])
        outputs = {o.name: o for o in measure.outputs(parameters, DIGITS)}
        assert {s.name for s in summary.scores} <= {n for n, o in outputs.items() if o.kind == "scalar"}
        assert set(summary.tables) == {n for n, o in outputs.items() if o.kind == "grid"}
        for name, table in summary.tables.items():
            assert table.values.shape == tuple(len(a.labels) for a in outputs[name].axes)
    assert "normalised" not in outputs["mce"].help or "digits-standard" in outputs["mce"].title


class Sample:
    """A stand-in for CIFAR-10: 12 images of noise."""

    @staticmethod
    def make():
        import dataclasses

        from benchmark.data import manifest_digest

        rng = np.random.default_rng(5)
        images = rng.integers(0, 256, (12, 3, 32, 32)).astype(np.uint8)
        labels = np.arange(12) % 2
        return dataclasses.replace(
            get_dataset("cifar10"), name="sample", size=12, files=(), splits={}, read=lambda: (images, labels),
            digest=manifest_digest(images, labels, levels=255),
        )  # fmt: skip


def test_without_frost_no_mean_over_it_is_given_and_the_flag_names_it(monkeypatch):
    def gone(shrink):
        raise FetchError("no such host")

    monkeypatch.setattr(frost, "photographs", gone)
    measure, dataset = get_measure("corruptions"), Sample.make()
    parameters = measure.Parameters(suite="cifar-c")
    arrays, flags, summary = run(measure, parameters, Mean(0.5), 12, chunk=12, dataset=dataset)
    at = get_suite("cifar-c").axes[0].labels.index("frost")
    assert (arrays["prediction"][:, at] == -1).all()
    assert (np.delete(arrays["prediction"], at, axis=1) >= 0).all()
    assert [f.code for f in flags] == ["missing-cells"]
    assert "frost" in flags[0].message
    assert "no such host" in flags[0].message
    assert np.isnan(summary.tables["grid"].values[at]).all()
    assert np.isfinite(np.delete(summary.tables["grid"].values, at, axis=0)).all()
    assert np.isnan(summary.tables["by_severity"].values).all()
    for name in ("mean_accuracy", "mean_error", "worst_corruption", "worst_severity"):
        assert value(summary, name) is None
    assert value(summary, "clean_accuracy") is not None


def test_means_leave_the_four_extra_ones_out(monkeypatch):
    monkeypatch.setattr(frost, "photographs", lambda shrink: tuple(np.full((3, 40, 40), 0.5) for _ in range(5)))
    measure, dataset = get_measure("corruptions"), Sample.make()
    _, _, summary = run(measure, measure.Parameters(suite="cifar-c"), Mean(0.5), 12, chunk=5, dataset=dataset)
    grid = summary.tables["grid"].values
    assert grid.shape == (19, 5)
    assert value(summary, "mean_accuracy") == pytest.approx(grid[:15].mean())
    assert np.allclose(summary.tables["by_severity"].values, grid[:15].mean(axis=0))


def test_published_errors_are_of_imagenet_c_alone():
    measure = get_measure("corruptions")
    assert measure.needs(measure.Parameters(suite="imagenet-c", reference="alexnet")).references == ()
    with pytest.raises(InputError, match="alexnet are of imagenet-c, not of cifar-c"):
        measure.Parameters(suite="cifar-c", reference="alexnet")


def test_mce_by_alexnet_of_alexnets_own_predictions_is_1():
    """Predictions with AlexNet's error rates on 50,000 images."""
    measure = get_measure("corruptions")
    n = 2000
    labels = np.zeros(n, np.int64)
    names = get_suite("imagenet-c").axes[0].labels
    prediction = np.zeros((n, 19, 5), np.int16)
    for i, name in enumerate(names[:15]):
        for j, error in enumerate(ALEXNET.errors[name]):
            prediction[: round(error * n), i, j] = 1
    import dataclasses

    big = dataclasses.replace(Sample.make(), shape=(3, 224, 224))
    inputs = Inputs({"clean": (np.arange(n) < 0.435 * n).astype(np.int16), "prediction": prediction}, labels, {}, big)
    summary = measure.summarise(inputs, measure.Parameters(suite="imagenet-c", reference="alexnet"))
    assert value(summary, "mce") == pytest.approx(1, abs=2e-4)
    assert value(summary, "relative_mce") == pytest.approx(1, abs=2e-3)
    assert names[:15] == COMMON


# ---------------------------------------------------------------------------------------------------- strength


def test_strength_of_brightness_is_found_to_the_step():
    """An image of mean m is called bright once m + 0.5 s exceeds the threshold, as long as nothing is cut off."""
    import dataclasses

    from benchmark.data import manifest_digest

    values = np.array([20, 60, 100, 200], np.uint8)
    images = np.broadcast_to(values[:, None, None, None], (4, 1, 28, 28)).copy()
    labels = np.zeros(4, np.int64)
    flat = dataclasses.replace(
        get_dataset("mnist"), name="flat", size=4, files=(), splits={}, read=lambda: (images, labels),
        digest=manifest_digest(images, labels, levels=255),
    )  # fmt: skip
    measure = get_measure("corruption_strength")
    parameters = measure.Parameters(suite="mnist-c", steps=8, refine=4)
    arrays, _, summary = run(measure, parameters, Mean(0.6), 4, chunk=3, dataset=flat)
    exact = (0.6 - values / 255) / 0.5
    found = arrays["strength_brightness"]
    assert found[3] == 0  # misclassified as it is
    assert np.isinf(found[0])  # (0.6 − 20/255) / 0.5 > 1: not at the highest severity
    for at in (1, 2):
        assert exact[at] - 0.01 <= found[at] <= exact[at] + 1 / 128 + 0.01
    assert np.isinf(arrays["strength_translate"][:3]).all()  # darkens
    names = get_suite("mnist-c").axes[0].labels
    area = summary.tables["area_by_corruption"].values
    assert area[names.index("brightness")] == pytest.approx(np.minimum(found, 1).mean())
    assert value(summary, "area") == pytest.approx(area.mean())
    curve = summary.tables["curve"].values
    assert len(curve) == 9
    assert curve[0] == pytest.approx(0.75)
    assert (np.diff(curve) <= 0).all()
    assert {o.name for o in measure.outputs(parameters, flat) if o.kind == "estimate"} == set(arrays)


def test_strengths_do_not_depend_on_the_chunks():
    model, measure = load_model("digits-conv"), get_measure("corruption_strength")
    parameters = measure.Parameters(suite="mnist-c", steps=4, refine=1)
    whole, _, _ = run(measure, parameters, model, 20, chunk=20)
    parts, _, _ = run(measure, parameters, model, 20, chunk=7)
    for name, values in whole.items():
        assert np.array_equal(values, parts[name]), name


def test_at_the_found_strength_the_label_has_changed():
    model, measure = load_model("digits-standard"), get_measure("corruption_strength")
    parameters = measure.Parameters(suite="mnist-c", steps=5, refine=2)
    arrays, _, _ = run(measure, parameters, model, 15, chunk=15)
    x, y = DIGITS.batch(0, 15)
    checked = 0
    for name in ("impulse_noise", "fog", "rotate"):
        for i, strength in enumerate(arrays[f"strength_{name}"]):
            if 0 < strength < np.inf:
                made = corrupt(x[i : i + 1].numpy(), name, strength, family="mnist", images_at=i, stream="strength")
                with torch.no_grad():
                    assert model(torch.from_numpy(made.astype(np.float32)) / 255).argmax(1) != y[i]
                checked += 1
    assert checked > 5


# ---------------------------------------------------------------------------------------------------- protocol


def test_the_protocol_asks_for_the_suites_that_fit():
    protocol = get_protocol("corruptions")
    wanted = {
        name: [(m.name, p) for m, p in protocol.wanted(get_dataset(name))] for name in ("digits", "mnist", "cifar10")
    }
    suites_of = {n: [p.suite for m, p in found if m == "corruptions"] for n, found in wanted.items()}
    assert suites_of == {"digits": ["mnist-c"], "mnist": ["mnist-c"], "cifar10": ["cifar-c"]}
    assert [p.reference for m, p in wanted["digits"] if m == "corruptions"] == ["stated:digits-standard"]
    assert [p.reference for m, p in wanted["mnist"] if m == "corruptions"] == ["stated:advertorch-mnist-lenet-clean"]
    assert [p.reference for m, p in wanted["cifar10"] if m == "corruptions"] == [""]
    assert [p.sequences for m, p in wanted["cifar10"] if m == "sequences"] == ["cifar-p"]
    assert [m for m, _ in wanted["digits"]] == ["clean", "corruptions", "corruption_strength"]


def test_a_row_is_complete_with_the_suites_that_fit_its_dataset():
    """Sequences fit no image of 8 pixels: a row of the digits lacks nothing for it; a failed grid it lacks."""
    spec = get_protocol("corruptions").spec

    def planned(name, state=State.DONE):
        return [
            SimpleNamespace(measure=m.name, parameters=vars(p), state=state if m.name == "corruptions" else State.DONE,
                            outputs=(), samples=10)
            for m, p in get_protocol("corruptions").wanted(get_dataset(name))
        ]  # fmt: skip

    for name in ("digits", "mnist", "cifar10"):
        assert missing(spec, {}, planned(name)) == ()
    assert missing(spec, {}, planned("digits", State.FAILED)) == ("corruptions (failed)",)
    without = [e for e in planned("digits") if e.measure != "clean"]
    assert missing(spec, {}, without) == ("clean (never planned)",)


def test_suites_have_digests_of_their_own_and_say_why_they_do_not_fit():
    mnist = get_dataset("mnist")
    digests = [suite.on(mnist).digest for suite in suites().values()]
    assert len(set(digests)) == len(digests)
    assert "1" in get_suite("cifar-c").on(DIGITS).unavailable()
    assert "have 3" in get_suite("mnist-c").on(Sample.make()).unavailable()
    measure = get_measure("corruptions")
    with pytest.raises(InputError, match="cannot be had"):
        measure.run(task_of(Mean(0.5), 2), measure.Parameters(suite="cifar-c"))
    with pytest.raises(InputError, match="no grid"):
        measure.run(task_of(Mean(0.5), 2, dataset=mnist_like()), measure.Parameters(suite="cifar-p"))


def mnist_like():
    import dataclasses

    from benchmark.data import manifest_digest

    images, labels = np.zeros((2, 1, 28, 28), np.uint8), np.zeros(2, np.int64)
    return dataclasses.replace(
        get_dataset("mnist"), name="two", size=2, files=(), splits={}, read=lambda: (images, labels),
        digest=manifest_digest(images, labels, levels=255),
    )  # fmt: skip


def test_a_plan_states_the_frames_of_all_sequences_a_few_too_many():
    measure, dataset = get_measure("sequences"), mnist_like()
    model = CountingModel(Mean(0.5)).eval()
    measure.run(task_of(model, 2, dataset=dataset), measure.Parameters())
    stated = measure.work(measure.Parameters(), dataset).forward  # two perturbations have shorter sequences
    assert 0.8 * stated <= model.forward_passes / 2 <= stated
