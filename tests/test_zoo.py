"""The zoo: cards, architectures, weights of every kind it takes, and the models it comes with."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmark.data import get_dataset
from models_zoo import Entry, catalogue, get_entry, load_model
from models_zoo.architectures import _installed, architectures, build, version_of
from models_zoo.cards import MAX_CARD_BYTES, card_table, check_slug, parse_card
from models_zoo.errors import CardError, DigestError, UnknownEntryError, WeightsError, ZooError
from models_zoo.fetch import sha256_of
from models_zoo.formats.weights import apply_layout, read_arrays
from models_zoo.training import digits as digits_training

DIGITS = tuple(digits_training.MODELS)


def clean_error(slug: str) -> float:
    model = load_model(slug)
    x, y = get_dataset(get_entry(slug).dataset).load()
    with torch.no_grad():
        wrong = torch.cat([model(part) for part in x.split(1000)]).argmax(dim=1) != y
    return float(wrong.double().mean())


@pytest.fixture
def card() -> dict[str, Any]:
    """The table of a sound card of a linear digits classifier."""
    return {
        "slug": "mine",
        "title": "My model",
        "dataset": "digits",
        "model": {
            "form": "weights",
            "architecture": "mlp",
            "arguments": {"inputs": 64, "hidden": [], "outputs": 10},
        },
        "weights": [{"file": "mine.safetensors"}],
    }


@pytest.fixture
def state() -> dict[str, Tensor]:
    return {"1.weight": torch.eye(10, 64), "1.bias": torch.arange(10.0)}


@pytest.fixture
def add_model(tmp_path: Path, card: dict[str, Any], state: dict[str, Tensor]) -> Callable[..., Path]:
    """Writes a model into a folder of models; returns the folder."""

    def add(change: Callable[[dict[str, Any]], None] = lambda _: None) -> Path:
        home = tmp_path / "models" / card["slug"]
        home.mkdir(parents=True)
        file = home / "mine.safetensors"
        save_file(state, file)
        card["weights"][0] |= {"size": file.stat().st_size, "sha256": sha256_of(file)}
        change(card)
        (home / "model.toml").write_text(tomli_w.dumps(card), encoding="utf-8")
        return home.parent

    return add


class TestPackagedModels:
    def test_the_embedded_zoo_covers_the_training_methods(self) -> None:
        methods = {entry.training_method for entry in catalogue().values() if entry.dataset == "digits"}
        assert {"Standard training", "Weight decay 1", "Dropout 0.5", "Cross-Lipschitz regularisation"} <= methods
        assert {e.training_norm for e in catalogue().values() if e.dataset == "digits"} == {None, "linf", "l2"}

    @pytest.mark.parametrize("slug", DIGITS)
    def test_embedded_models_are_small_and_classify_digits(self, slug: str) -> None:
        assert get_entry(slug).weights[0].size <= 200_000
        assert clean_error(slug) < 0.13
        model = load_model(slug)
        assert not model.training
        assert not any(p.requires_grad for p in model.parameters())

    @pytest.mark.parametrize("slug", ["digits-16-16"])
    def test_training_again_gives_the_shipped_weights(self, slug: str) -> None:
        again = digits_training.train_embedded(slug)
        shipped = read_arrays(get_entry(slug).folder / f"{slug}.safetensors", f"{slug}.safetensors")
        for name, value in shipped.items():
            torch.testing.assert_close(again[name], value, rtol=1e-3, atol=1e-4)

    def test_training_leaves_the_callers_random_numbers_and_threads_alone(self) -> None:
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        threads = torch.get_num_threads()
        digits_training.train_embedded("digits-16-16")
        load_model("digits-standard")
        assert torch.equal(torch.rand(3), expected)
        assert torch.get_num_threads() == threads

    def test_the_written_card_is_the_shipped_card(self, tmp_path: Path) -> None:
        slug = "digits-adv-linf"
        state = read_arrays(get_entry(slug).folder / f"{slug}.safetensors", "w.safetensors")
        entry = digits_training.write(slug, state, weights=tmp_path, cards=tmp_path)
        assert entry.digest == get_entry(slug).digest
        assert dataclasses.replace(get_entry(slug), folder=tmp_path) == entry

    @pytest.mark.shared
    @pytest.mark.parametrize(
        ("slug", "error"),
        [
            ("wong2018-mnist-linf0.1", 0.0189),
            ("advertorch-mnist-lenet-clean", 0.0111),
            ("advertorch-mnist-lenet-adv", 0.0136),
            ("croce2020-mmr-universal-mnist", 0.0304),
            ("trades2019-mnist-linf0.3", 0.0052),
        ],
    )
    @pytest.mark.usefixtures("seeded_cache")
    def test_published_models_have_their_published_clean_error(self, slug: str, error: float) -> None:
        assert clean_error(slug) == pytest.approx(error, abs=1e-9)

    def test_importing_and_listing_needs_no_torch(self) -> None:
        program = (
            "import sys, models_zoo; [e.digest for e in models_zoo.catalogue().values()];"
            "sys.exit('torch' in sys.modules or any(m.split('.')[0] in ('benchmark', 'db') for m in sys.modules))"
        )
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


class TestCatalogue:
    def test_a_model_of_a_workspace_is_found_and_loaded(self, add_model: Callable[..., Path]) -> None:
        folder = add_model()
        assert "mine" in catalogue([folder])
        assert "mine" not in catalogue()
        model = load_model("mine", folders=[folder])
        x = torch.rand(3, 1, 8, 8)
        torch.testing.assert_close(model(x), x.flatten(1)[:, :10] + torch.arange(10.0))

    def test_an_unknown_model_suggests_the_nearest(self) -> None:
        with pytest.raises(UnknownEntryError, match=r"Did you mean 'wong2018-mnist-linf0\.1'"):
            load_model("wong2018-mnist")

    def test_a_model_may_not_take_the_name_of_another(self, add_model: Callable[..., Path], card: Any) -> None:
        card["slug"] = "digits-standard"
        with pytest.raises(CardError, match="slug of another model"):
            catalogue([add_model()])

    def test_a_folder_is_named_after_its_model(self, add_model: Callable[..., Path]) -> None:
        folder = add_model()
        (folder / "mine").rename(folder / "other")
        with pytest.raises(CardError, match="its folder is named after it"):
            catalogue([folder])

    def test_the_digest_changes_with_whatever_changes_the_function(self, add_model: Callable[..., Path]) -> None:
        entry = get_entry("mine", [add_model()])
        weights = entry.weights[0]
        variants: list[Entry] = [
            dataclasses.replace(entry, weights=(dataclasses.replace(weights, sha256="0" * 64),)),
            dataclasses.replace(entry, weights=(dataclasses.replace(weights, layout={"a": {"array": "b"}}),)),
            dataclasses.replace(entry, arguments={**entry.arguments, "activation": "tanh"}),
            dataclasses.replace(entry, architecture="small_conv"),
            dataclasses.replace(entry, preprocessing=({"kind": "bit_depth", "bits": 3},)),
        ]
        assert len({entry.digest, *(variant.digest for variant in variants)}) == len(variants) + 1

    def test_the_digest_is_what_results_are_stored_under(self) -> None:
        """Whoever changes how it is computed takes every model's results from it: raise a version instead."""
        assert get_entry("wong2018-mnist-linf0.1").digest.startswith("46a03f9311baff6dc25c8647ffa9e083")

    def test_the_digest_stays_with_what_does_not(self, add_model: Callable[..., Path]) -> None:
        entry = get_entry("mine", [add_model()])
        moved = dataclasses.replace(entry, slug="other", title="Other", folder=Path("/elsewhere"), paper="x")
        assert moved.digest == entry.digest

    def test_preprocessing_is_inside_the_model(self, add_model: Callable[..., Path], card: Any) -> None:
        card["model"]["preprocessing"] = [{"kind": "normalise", "mean": [0.5], "std": [0.25]}]
        model = load_model("mine", folders=[add_model()])
        x = torch.rand(3, 1, 8, 8)
        expected = (x.flatten(1)[:, :10] - 0.5) / 0.25 + torch.arange(10.0)
        torch.testing.assert_close(model(x), expected)


class TestCards:
    def test_a_card_says_again_what_was_read_from_it(self) -> None:
        for entry in catalogue().values():
            assert parse_card(card_table(entry), folder=entry.folder) == entry

    @pytest.mark.parametrize(
        "slug", ["", "A", "a b", "../x", "a/b", "a..b", ".a", "-a", "a\n", "a\x07", "a" * 81, "ä", "a\\b", "<b>", "a_b"]
    )
    def test_a_slug_has_a_small_alphabet(self, slug: str) -> None:
        with pytest.raises(CardError, match="slug"):
            check_slug(slug)

    @pytest.mark.parametrize("slug", ["a", "0", "wong2018-mnist-linf0.1", "a" * 80])
    def test_a_usual_slug_passes(self, slug: str) -> None:
        assert check_slug(slug) == slug

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda c: c.pop("title"), "field title is missing"),
            (lambda c: c.update(titel="x"), "no field titel"),
            (lambda c: c["model"].update(form="pickle"), "one of weights, pt2, onnx, keras, jax, code"),
            (lambda c: c["model"].update(arguments=[1]), "model.arguments is \\[1\\]; it is a table"),
            (lambda c: c.update(year="2020"), "year is '2020'; it is a whole number"),
            (lambda c: c.update(year=True), "year is True"),
            (lambda c: c.update(title="a\x1b[31mb"), "no control characters"),
            (lambda c: c.update(title="a" * 600), "at most 500"),
            (lambda c: c.update(authors=[1]), "list of texts"),
            (lambda c: c.update(training={"norm": "l7"}), "one of linf, l2, l1"),
            (lambda c: c.update(training={"eps": float("nan")}), "finite number"),
            (lambda c: c.update(weights=[]), "at least one file"),
            (lambda c: c["weights"][0].update(file="../../etc/passwd"), "without a folder"),
            (lambda c: c["weights"][0].update(file="/etc/passwd"), "without a folder"),
            (lambda c: c["weights"][0].update(file="C:\\x"), "without a folder"),
            (lambda c: c["weights"][0].update(file=".."), "without a folder"),
            (lambda c: c["weights"][0].update(sha256="abc"), "64 hexadecimal"),
            (lambda c: c["weights"][0].update(urls=["https://x.org/w"]), "field weights.size is missing"),
            (lambda c: c.update(claims=[{"name": "clean_accuracy"}]), "field claims.value is missing"),
            (lambda c: c.update(repository="javascript:alert(1)"), "begins with https://"),
            (lambda c: c.update(repository='https://x.org/" onclick="'), "begins with https://"),
            (lambda c: c.update(slug="no/good"), "cannot be used"),
            (lambda c: c["model"].update(preprocessing=["jpeg"]), "a table with a kind"),
        ],
    )
    def test_a_wrong_field_is_named_with_what_it_should_be(
        self, card: dict[str, Any], change: Callable[[Any], None], message: str, tmp_path: Path
    ) -> None:
        parse_card(card, folder=tmp_path, digests=False)
        change(card)
        with pytest.raises(CardError, match=message):
            parse_card(card, folder=tmp_path, digests=False)

    @pytest.mark.parametrize("content", [b"\xff\xfe", b"slug = ", b"a = " + b"[" * 5000, b"#" * (MAX_CARD_BYTES + 1)])
    def test_a_file_that_is_no_card_is_an_error_with_its_path(self, tmp_path: Path, content: bytes) -> None:
        home = tmp_path / "mine"
        home.mkdir()
        (home / "model.toml").write_bytes(content)
        with pytest.raises(CardError, match=r"model\.toml"):
            catalogue([tmp_path])


class TestArchitectures:
    def test_every_file_is_one_with_a_version(self) -> None:
        assert {"mlp", "wong_small", "advertorch_lenet", "small_conv"} <= set(architectures())
        assert all(version_of(name) >= 1 for name in architectures())

    def test_an_unknown_one_suggests_the_nearest(self) -> None:
        with pytest.raises(UnknownEntryError, match="'wong_small'"):
            build("wong_smal", {})

    def test_an_installed_package_adds_its_own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "theirs.py").write_text(
            "from torch import nn\nVERSION = 7\ndef build(*, classes): return nn.Linear(4, classes)\n"
        )
        facts = tmp_path / "theirs-1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text("[curveboard.architectures]\ntheir_net = theirs\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        _installed.cache_clear()
        try:
            assert version_of("their_net") == 7
            assert "theirs" not in sys.modules  # the version is read, not run
            assert build("their_net", {"classes": 3}).out_features == 3
        finally:
            _installed.cache_clear()
            sys.modules.pop("theirs", None)

    @pytest.mark.parametrize("arguments", [{"inputs": 64}, {"inputs": "x", "hidden": [], "outputs": 1}, {"beta": 2}])
    def test_arguments_that_do_not_fit_are_named(self, arguments: dict[str, Any]) -> None:
        with pytest.raises(CardError, match=r"cannot be built with .* It takes: inputs, hidden, outputs"):
            build("mlp", arguments)

    def test_arguments_are_checked_before_memory_is_taken(self, add_model: Callable[..., Path], card: Any) -> None:
        card["model"]["arguments"] = {"inputs": 64, "hidden": [10**9], "outputs": 10**6}
        with pytest.raises(WeightsError, match="do not fit the architecture 'mlp'"):
            load_model("mine", folders=[add_model()])


class TestWeights:
    @pytest.mark.parametrize("suffix", [".pt", ".pth"])
    @pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3, "optimizer": {"lr": [0.1]}}])
    def test_a_state_dict_is_read(
        self, tmp_path: Path, state: dict[str, Tensor], suffix: str, wrap: Callable[[Any], Any]
    ) -> None:
        path = tmp_path / f"w{suffix}"
        torch.save(wrap({f"module.{k}": v for k, v in state.items()}), path)
        read = read_arrays(path, path.name)
        assert read.keys() == state.keys()
        assert all(torch.equal(read[name], value) for name, value in state.items())

    def test_arrays_are_brought_into_an_architectures_layout(self) -> None:
        kernel = torch.arange(3 * 3 * 2 * 4, dtype=torch.float32).reshape(3, 3, 2, 4)  # height, width, in, out
        found = apply_layout(
            {"kernel": kernel, "bias": torch.tensor([[1.0, 2.0]])},
            {
                "0.weight": {"array": "kernel", "steps": [["transpose", 3, 2, 0, 1]]},
                "0.bias": {"array": "bias", "steps": [["reshape", -1]]},
            },
        )
        assert found["0.weight"][1, 0, 2, 1] == kernel[2, 1, 0, 1]
        assert found["0.bias"].tolist() == [1, 2]

    @pytest.mark.parametrize(
        "steps", [[["reshape", 7]], [["exec", "x"]], ["reshape"], [["transpose", 0, 0, 0, 0]], [[]], [5]]
    )
    def test_a_layout_that_does_not_fit_is_a_card_error(self, steps: Any) -> None:
        with pytest.raises(CardError, match="layout of w"):
            apply_layout({"a": torch.zeros(2, 3)}, {"w": {"array": "a", "steps": steps}})
        with pytest.raises(CardError, match="names the array 'b'"):
            apply_layout({"a": torch.zeros(2, 3)}, {"w": {"array": "b"}})

    @pytest.mark.parametrize("suffix", [".pkl", ".npz", ".npy", ".mat", ".h5", ""])
    def test_other_kinds_are_refused_and_a_way_is_named(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"w{suffix}"
        path.write_bytes(pickle.dumps({}))
        with pytest.raises(WeightsError, match="safetensors"):
            read_arrays(path, path.name)

    @pytest.mark.parametrize("keep", [0, 1, 7, 100, 0.5, 0.99])
    @pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
    def test_a_truncated_file_is_a_clear_error(
        self, tmp_path: Path, state: dict[str, Tensor], suffix: str, keep: float
    ) -> None:
        path = tmp_path / f"w{suffix}"
        if suffix == ".safetensors":
            save_file(state, path)
        else:
            torch.save(state, path)
        whole = path.read_bytes()
        path.write_bytes(whole[: keep if isinstance(keep, int) else int(keep * len(whole))])
        with pytest.raises(WeightsError):
            read_arrays(path, path.name)

    def test_a_truncated_file_beside_a_card_is_refused_before_it_is_parsed(
        self, add_model: Callable[..., Path]
    ) -> None:
        folder = add_model()
        file = folder / "mine" / "mine.safetensors"
        size = file.stat().st_size
        file.write_bytes(file.read_bytes()[:-100])
        with pytest.raises(DigestError, match=f"has {size - 100} bytes, expected {size}. It is truncated"):
            load_model("mine", folders=[folder])

    def test_other_weights_beside_a_card_are_refused_with_both_digests(self, add_model: Callable[..., Path]) -> None:
        folder = add_model()
        expected = get_entry("mine", [folder]).weights[0].sha256
        file = folder / "mine" / "mine.safetensors"
        file.write_bytes(file.read_bytes()[:-1] + b"\x01")
        with pytest.raises(DigestError, match=f"SHA-256 {sha256_of(file)}, expected {expected}"):
            load_model("mine", folders=[folder])

    def test_missing_weights_are_named(self, add_model: Callable[..., Path]) -> None:
        folder = add_model()
        (folder / "mine" / "mine.safetensors").unlink()
        with pytest.raises(WeightsError, match="there is no file"):
            load_model("mine", folders=[folder])

    def test_weights_that_do_not_fit_are_named_parameter_by_parameter(
        self, add_model: Callable[..., Path], state: dict[str, Tensor]
    ) -> None:
        state["1.weight"] = torch.zeros(10, 63)
        state["2.weight"] = state.pop("1.bias")
        with pytest.raises(WeightsError) as caught:
            load_model("mine", folders=[add_model()])
        assert "1.bias is missing" in str(caught.value)
        assert "2.weight is not a parameter of it" in str(caught.value)
        assert "1.weight has shape (10, 63), expected (10, 64)" in str(caught.value)

    def test_every_error_is_one_of_the_zoo(self) -> None:
        for kind in (CardError, DigestError, UnknownEntryError, WeightsError):
            assert issubclass(kind, ZooError)
