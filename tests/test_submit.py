"""`curveboard submit`: from a stranger's files to a model of the workspace, in every form they come in."""

from __future__ import annotations

import json
import sys
import tomllib
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import tomli_w
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from benchmark.cli import run
from benchmark.workspace import Workspace
from models_zoo import get_entry, load_model
from models_zoo.cards import Form, read_card
from models_zoo.claims import robustbench_claims
from models_zoo.errors import CardError
from models_zoo.fetch import sha256_of
from models_zoo.submission import scaffold

MLP = {"inputs": 64, "hidden": [128], "outputs": 10}


@pytest.fixture
def backend() -> str:
    """The database is written to in one place, which is tested on both; all else needs but one."""
    return "sqlite"


@pytest.fixture
def submit(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs the command; gives its exit code and all that it said."""

    def command(*arguments: str | Path) -> tuple[int, str]:
        code = run(["submit", "--workspace", str(workspace.root), *map(str, arguments)])
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return code, said.out + said.err

    return command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound submission of the first form."""
    made = tmp_path / "my-net"
    made.mkdir()
    save_file(load_model("digits-adv-l2").state_dict(), made / "w.safetensors")
    write(made)
    return made


def write(folder: Path, **change: Any) -> None:
    table: dict[str, Any] = {
        "slug": "my-net",
        "title": "My net",
        "dataset": "digits",
        "model": {"form": "weights", "architecture": "mlp", "arguments": MLP},
        "weights": [{"file": "w.safetensors"}],
    }
    (folder / "model.toml").write_text(tomli_w.dumps(table | change), encoding="utf-8")


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


class TestWeights:
    def test_a_sound_model_is_accepted_stored_and_found(
        self, submit: Callable[..., tuple[int, str]], folder: Path, workspace: Workspace
    ) -> None:
        code, said = submit(folder)
        assert code == 0, said
        assert "Accepted. Next: curveboard evaluate -m my-net" in said
        entry = get_entry("my-net", [workspace.models])
        assert entry.weights[0].sha256 == sha256_of(folder / "w.safetensors")
        x = torch.rand(3, 1, 8, 8)
        module = load_model("my-net", folders=[workspace.models])
        torch.testing.assert_close(module(x), load_model("digits-adv-l2")(x))

    @pytest.mark.parametrize("backend", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
    def test_the_report_is_stored_as_an_evaluation(
        self, submit: Callable[..., tuple[int, str]], folder: Path, workspace: Workspace
    ) -> None:
        from sqlalchemy import select

        from benchmark.workspace import open_database
        from db.schema import Evaluation, State

        submit(folder)
        with open_database(workspace.database_url).read() as session:
            (evaluation,) = session.scalars(select(Evaluation))
            assert (evaluation.measure, evaluation.state) == ("conformance", State.DONE)
            assert evaluation.model.slug == "my-net"
            assert {score.name: score.value for score in evaluation.scores}["parameters"] == 9610

    def test_a_dry_run_changes_nothing_and_needs_no_workspace(
        self, folder: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = files(workspace.root), files(folder)
        assert run(["submit", "--dry-run", "--workspace", str(workspace.root), str(folder)]) == 0
        assert (files(workspace.root), files(folder)) == before
        monkeypatch.chdir(folder)
        monkeypatch.delenv("CURVEBOARD_WORKSPACE", raising=False)
        assert run(["submit", "--dry-run", "."]) == 0
        assert "It would be accepted. Nothing was changed." in capsys.readouterr().out

    def test_a_refused_model_changes_nothing(
        self, submit: Callable[..., tuple[int, str]], folder: Path, workspace: Workspace
    ) -> None:
        state = load_model("digits-adv-l2").state_dict()
        state["3.bias"] = state["3.bias"] * torch.nan
        save_file(state, folder / "w.safetensors")
        before = files(workspace.root)
        code, said = submit(folder)
        assert code == 4
        assert "500 of 500 images have outputs that are not finite" in said
        assert files(workspace.root) == before

    def test_a_taken_slug_is_refused_unless_the_model_is_to_be_replaced(
        self, submit: Callable[..., tuple[int, str]], folder: Path, workspace: Workspace
    ) -> None:
        submit(folder)
        first = get_entry("my-net", [workspace.models]).digest
        code, said = submit(folder)
        assert code == 1
        assert "give --replace" in said
        save_file(load_model("digits-standard").state_dict(), folder / "w.safetensors")
        assert submit(folder, "--replace")[0] == 0
        assert get_entry("my-net", [workspace.models]).digest != first

    def test_a_slug_of_the_zoo_is_refused(self, submit: Callable[..., tuple[int, str]], folder: Path) -> None:
        write(folder, slug="digits-standard")
        code, said = submit(folder, "--replace")
        assert code == 1
        assert "choose another slug" in said

    def test_a_file_that_is_not_the_stated_one_is_refused(
        self, submit: Callable[..., tuple[int, str]], folder: Path
    ) -> None:
        write(folder, weights=[{"file": "w.safetensors", "sha256": "0" * 64, "size": 38728}])
        code, said = submit(folder)
        assert code == 1
        assert sha256_of(folder / "w.safetensors") in said
        assert "0" * 64 in said

    def test_an_unknown_dataset_or_architecture_suggests_the_nearest(
        self, submit: Callable[..., tuple[int, str]], folder: Path
    ) -> None:
        write(folder, dataset="digit")
        assert "Did you mean 'digits'" in submit(folder)[1]
        write(folder, model={"form": "weights", "architecture": "mpl", "arguments": MLP})
        assert "Did you mean 'mlp'" in submit(folder)[1]

    def test_claims_are_checked_and_kept(
        self, submit: Callable[..., tuple[int, str]], folder: Path, workspace: Workspace
    ) -> None:
        write(folder, claims=[{"name": "clean_accuracy", "value": 0.999, "source": "us"}])
        code, said = submit(folder)
        assert code == 0
        assert "Claimed 99.90%, but 92.40%" in said
        (claim,) = get_entry("my-net", [workspace.models]).claims
        assert (claim.name, claim.value, claim.source) == ("clean_accuracy", 0.999, "us")

    def test_json_has_every_check(self, submit: Callable[..., tuple[int, str]], folder: Path) -> None:
        code, said = submit(folder, "--json")
        report = json.loads(said)
        assert code == 0
        assert (report["slug"], report["verdict"], report["accepted"]) == ("my-net", "pass", True)
        assert {check["name"] for check in report["checks"]} >= {"classes", "batch_independent", "input_gradients"}

    def test_without_a_card_the_way_is_named(self, submit: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
        assert "submit --init" in submit(tmp_path)[1]

    def test_a_path_or_a_source_is_needed(self, submit: Callable[..., tuple[int, str]]) -> None:
        assert submit()[0] == 2
        assert submit("--architecture", "mlp")[0] == 2


class TestScaffold:
    @pytest.mark.parametrize("form", get_args(Form))
    def test_the_card_of_every_form_can_be_read_as_it_is(self, tmp_path: Path, form: Any) -> None:
        card = scaffold(tmp_path / "My_Net", form=form, dataset="digits", architectures="mlp", datasets="digits")
        entry = read_card(card, digests=False)
        assert (entry.slug, entry.form, entry.dataset) == ("my-net", form, "digits")

    def test_every_field_of_a_card_is_explained(self, tmp_path: Path) -> None:
        texts = "".join(
            scaffold(tmp_path / form, form=form, dataset="digits", architectures="mlp", datasets="digits").read_text()  # type: ignore[arg-type]
            for form in get_args(Form)
        )
        fields = (
            "slug title authors paper year venue licence notes dataset form architecture arguments preprocessing code "
            "factory method norm eps extra_data file urls size sha256 name value source"
        )
        for name in fields.split():
            assert f"{name} =" in texts, name

    def test_what_is_there_is_not_overwritten(self, submit: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
        assert submit("--init", tmp_path / "net")[0] == 0
        code, said = submit("--init", tmp_path / "net")
        assert code == 1
        assert "exists" in said

    def test_from_nothing_to_the_board_in_three_commands(
        self, submit: Callable[..., tuple[int, str]], tmp_path: Path
    ) -> None:
        home = tmp_path / "net"
        assert submit("--init", home)[0] == 0
        save_file(load_model("digits-standard").state_dict(), home / "weights.safetensors")
        assert submit("--dry-run", home)[0] == 0
        assert submit(home)[0] == 0

    def test_the_example_of_code_works(self, submit: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
        home = tmp_path / "net"
        assert submit("--init", "--form", "code", home)[0] == 0
        code, said = submit("--dry-run", home)
        assert code == 1
        assert "--trust-code" in said
        code, said = submit("--dry-run", "--trust-code", home)
        assert code == 0, said


class TestOtherForms:
    def test_a_program_is_accepted(
        self, submit: Callable[..., tuple[int, str]], tmp_path: Path, workspace: Workspace
    ) -> None:
        home = tmp_path / "net"
        submit("--init", "--form", "pt2", home)
        model = load_model("digits-conv")
        shapes = ({0: torch.export.Dim.DYNAMIC},)
        torch.export.save(
            torch.export.export(model, (torch.rand(4, 1, 8, 8),), dynamic_shapes=shapes), home / "model.pt2"
        )
        code, said = submit(home)
        assert code == 0, said
        x = torch.rand(3, 1, 8, 8)
        torch.testing.assert_close(load_model("net", folders=[workspace.models])(x), model(x))

    def test_a_program_of_one_batch_size_is_taken_for_any(
        self, submit: Callable[..., tuple[int, str]], tmp_path: Path, workspace: Workspace
    ) -> None:
        class Fixed(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x.reshape(4, 64)[:, :10]

        home = tmp_path / "net"
        submit("--init", "--form", "pt2", home)
        torch.export.save(torch.export.export(Fixed(), (torch.rand(4, 1, 8, 8),)), home / "model.pt2")
        code, said = submit(home)
        assert code == 0, said
        assert load_model("net", folders=[workspace.models])(torch.rand(3, 1, 8, 8)).shape == (3, 10)

    def test_a_bare_state_dict_needs_only_its_architecture(
        self, submit: Callable[..., tuple[int, str]], tmp_path: Path, workspace: Workspace
    ) -> None:
        torch.save(load_model("digits-adv-l2").state_dict(), tmp_path / "state.pt")
        common = ("--architecture", "mlp", "--arguments", json.dumps(MLP), "--dataset", "digits")
        assert submit(tmp_path / "state.pt", *common)[0] == 2
        code, said = submit(tmp_path / "state.pt", *common, "--slug", "bare")
        assert code == 0, said
        assert get_entry("bare", [workspace.models]).weights[0].name == "state.pt"
        code, said = submit(tmp_path / "state.pt", *common[:2], "--arguments", "[", *common[4:], "--slug", "other")
        assert code == 2


def _forget(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Let a package be looked for anew, whatever of it has been imported."""
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures("nothing_apart")
class TestAdapters:
    """The packages are optional; small stand-ins with their faces take their place, also where they are installed."""

    @pytest.mark.parametrize("source", ["timm:resnet50", "robustbench:cifar10/Linf/Carmon2019Unlabeled"])
    def test_without_the_package_the_extra_is_named(
        self, submit: Callable[..., tuple[int, str]], source: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        package = source.partition(":")[0]
        _forget(monkeypatch, package)
        monkeypatch.setitem(sys.modules, package, None)
        code, said = submit("--from", source, "--dataset", "digits")
        assert code == 1
        assert f"pip install 'curveboard[{package}]'" in said

    @pytest.mark.parametrize("source", ["timm:", "robustbench:cifar10", "huggingface:x", "x"])
    def test_an_unknown_source_is_explained(self, submit: Callable[..., tuple[int, str]], source: str) -> None:
        code, said = submit("--from", source)
        assert code == 1
        assert "robustbench:cifar10/Linf/Carmon2019Unlabeled" in said

    def test_an_unknown_dataset_is_named_before_anything_is_downloaded(
        self, submit: Callable[..., tuple[int, str]]
    ) -> None:
        assert "There is no dataset called 'imagenot'" in submit("--from", "robustbench:imagenot/Linf/X")[1]

    def test_a_timm_model_becomes_weights_and_a_card(
        self, submit: Callable[..., tuple[int, str]], workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "timm", _module("timm", create_model=_timm_model))
        code, said = submit("--from", "timm:tiny_net", "--dataset", "digits")
        assert code == 0, said
        entry = get_entry("timm-tiny-net", [workspace.models])
        assert entry.arguments == {"name": "tiny_net", "classes": 10}
        x = torch.rand(2, 1, 8, 8)
        expected = _timm_model("tiny_net", pretrained=True)((x - 0.5) / 0.25)
        torch.testing.assert_close(load_model(entry.slug, folders=[workspace.models])(x), expected)

    def test_a_timm_model_of_other_classes_is_refused_before_it_is_downloaded(
        self, submit: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "timm", _module("timm", create_model=_timm_model))
        code, said = submit("--from", "timm:tiny_net", "--dataset", "cifar100")
        assert code == 1
        assert "timm:tiny_net was trained for 10 classes, and cifar100 has 100" in said
        assert "--architecture timm" in said

    def test_a_timm_network_that_cannot_be_built_without_memory_is_built_with_it(
        self, submit: Callable[..., tuple[int, str]], workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def create_model(name: str, *, pretrained: bool, num_classes: int = 10) -> nn.Module:
            torch.linspace(0, 0.1, 3)[1].item()  # what timm's ViT, Swin and ConvNeXt do
            return _timm_model(name, pretrained=pretrained, num_classes=num_classes)

        with pytest.raises(RuntimeError), torch.device("meta"):
            create_model("vit", pretrained=False)
        monkeypatch.setitem(sys.modules, "timm", _module("timm", create_model=create_model))
        code, said = submit("--from", "timm:vit", "--dataset", "digits")
        assert code == 0, said
        x = torch.rand(2, 1, 8, 8)
        expected = _timm_model("vit", pretrained=True)((x - 0.5) / 0.25)
        torch.testing.assert_close(load_model("timm-vit", folders=[workspace.models])(x), expected)

    def test_what_an_installed_package_lacks_is_named(
        self, submit: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        _forget(monkeypatch, "robustbench")
        (tmp_path / "robustbench").mkdir()
        (tmp_path / "robustbench/__init__.py").write_text("import autoattack.state, package_of_nobody")
        monkeypatch.syspath_prepend(str(tmp_path))
        code, said = submit("--from", "robustbench:cifar10/Linf/X")
        assert code == 1
        assert "it needs a module 'package_of_nobody', which is not installed" in " ".join(said.split())
        (tmp_path / "robustbench/__init__.py").write_text("from autoattack import NobodysAttack")
        said = " ".join(submit("--from", "robustbench:cifar10/Linf/X")[1].split())
        assert "that is installed but cannot be imported" in said
        assert "NobodysAttack" in said

    def test_a_timm_model_needs_its_dataset(
        self, submit: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "timm", _module("timm"))
        assert "--dataset" in submit("--from", "timm:resnet50")[1]

    @pytest.mark.parametrize("prefix", ["", "module.", "module.model."])
    def test_a_robustbench_model_is_read_as_arrays(
        self,
        submit: Callable[..., tuple[int, str]],
        workspace: Workspace,
        monkeypatch: pytest.MonkeyPatch,
        prefix: str,
    ) -> None:
        trained = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

        def download(*, id: str, output: str, quiet: bool) -> None:
            torch.save({"state_dict": {prefix + k: v for k, v in trained.state_dict().items()}}, output)

        _robustbench(monkeypatch, download)
        code, said = submit("--from", "robustbench:digits/Linf/Tiny2026Net")
        assert code == 0, said
        x = torch.rand(2, 1, 8, 8)
        module = load_model("robustbench-digits-linf-tiny2026net", folders=[workspace.models])
        torch.testing.assert_close(module(x), trained(x))

    def test_a_page_instead_of_robustbench_weights_is_recognised(
        self, submit: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def download(*, id: str, output: str, quiet: bool) -> None:
            Path(output).write_text("<!DOCTYPE html><title>Quota exceeded</title>")

        _robustbench(monkeypatch, download)
        code, said = submit("--from", "robustbench:digits/Linf/Tiny2026Net")
        assert code == 1
        assert "HTML page titled 'Quota exceeded'" in said


def _module(name: str, **members: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__dict__.update(members)
    return module


def _robustbench(monkeypatch: pytest.MonkeyPatch, download: Callable[..., None]) -> None:
    """A stand-in with a loader as RobustBench's own: it fetches, unpickles and takes prefixes off."""
    facts = {"model": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), "gdrive_id": "x"}
    zoo = _module("robustbench.model_zoo", model_dicts={"digits": {"Linf": {"Tiny2026Net": facts}}})
    utils = _module("robustbench.utils", DATASET_CLASSES={"digits": 10}, download_gdrive_new=None)

    def load(name: str, *, model_dir: str, dataset: str, threat_model: str) -> nn.Module:
        path = Path(model_dir) / dataset / threat_model / f"{name}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            utils.download_gdrive_new(facts["gdrive_id"], path)
        state = torch.load(path)["state_dict"]
        network = facts["model"]()
        network.load_state_dict({k.removeprefix("module.").removeprefix("model."): v for k, v in state.items()})
        return network

    utils.load_model = load
    timm = _module("timm", is_model=lambda name: False, create_model=_timm_model)
    enums = _module("robustbench.model_zoo.enums", BenchmarkDataset=str, ThreatModel=str)
    gdown = _module("gdown", download=download)
    for module in (_module("robustbench"), zoo, enums, utils, timm, gdown):
        monkeypatch.setitem(sys.modules, module.__name__, module)


class TestClaims:
    INFO = {  # noqa: RUF012 - a card as published
        "link": "https://arxiv.org/abs/1905.13736",
        "name": "Unlabeled Data Improves Adversarial Robustness",
        "authors": "Yair Carmon, Aditi Raghunathan, Ludwig Schmidt, Percy Liang, John C. Duchi",
        "additional_data": True,
        "dataset": "cifar10",
        "venue": "NeurIPS 2019",
        "architecture": "WideResNet-28-10",
        "eps": "8/255",
        "clean_acc": "89.69",
        "reported": "62.5",
        "autoattack_acc": "59.53",
    }

    def test_published_figures_become_claims(self, tmp_path: Path) -> None:
        path = tmp_path / "Linf" / "Carmon2019Unlabeled.json"
        path.parent.mkdir()
        path.write_text(json.dumps(self.INFO | {"external": "---"}))
        claims = robustbench_claims(path)
        assert [(c.name, c.norm, c.eps) for c in claims] == [
            ("clean_accuracy", None, None),
            ("robust_accuracy", "linf", 8 / 255),
            ("robust_accuracy", "linf", 8 / 255),
        ]
        assert [c.value for c in claims] == pytest.approx([0.8969, 0.625, 0.5953])

    def test_they_are_added_to_the_card(
        self, submit: Callable[..., tuple[int, str]], folder: Path, tmp_path: Path, workspace: Workspace
    ) -> None:
        path = tmp_path / "info.json"
        path.write_text(json.dumps(self.INFO))
        assert submit(folder, "--claims", path)[0] == 0
        table = tomllib.loads((workspace.models / "my-net" / "model.toml").read_text())
        assert [claim["name"] for claim in table["claims"]] == ["clean_accuracy", "robust_accuracy", "robust_accuracy"]

    @pytest.mark.parametrize(
        "text", ["", "[]", "{}", '{"clean_acc": "ninety"}', '{"eps": "8/0", "clean_acc": 1}', "[" * 9000]
    )
    def test_a_card_without_figures_is_an_error(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "info.json"
        path.write_text(text)
        with pytest.raises(CardError, match="RobustBench card"):
            robustbench_claims(path)


def test_weights_are_stored_as_given(
    submit: Callable[..., tuple[int, str]], folder: Path, workspace: Workspace
) -> None:
    submit(folder)
    stored = load_file(workspace.models / "my-net" / "w.safetensors")
    assert stored.keys() == load_file(folder / "w.safetensors").keys()
    assert (workspace.models / "my-net" / "w.safetensors").read_bytes() == (folder / "w.safetensors").read_bytes()


class TestDocumentation:
    TEXT = (Path(__file__).parent.parent / "docs" / "submitting.md").read_text(encoding="utf-8")

    def test_every_check_is_explained(self, submit: Callable[..., tuple[int, str]], folder: Path) -> None:
        write(folder, claims=[{"name": "clean_accuracy", "value": 0.92}])
        for check in json.loads(submit(folder, "--json")[1])["checks"]:
            assert f"| {check['name'].replace('_', ' ')} |" in self.TEXT

    def test_every_operation_of_a_program_is_listed(self) -> None:
        from models_zoo.formats.onnx.operators import OPERATORS
        from models_zoo.formats.pt2.tables import ATEN, FUNCTIONS

        listed = self.TEXT.partition("## Operations that a program may use")[2]
        names = {word.strip("`") for word in listed.split() if word.startswith("`") and word.endswith("`")}
        assert names - {"torch.export"} == {*ATEN, *FUNCTIONS, *OPERATORS}

    def test_the_command_knows_the_forms_of_cards(self) -> None:
        from benchmark.cli.submit import FORMS
        from models_zoo.cards import Form

        assert get_args(Form) == FORMS

    def test_every_option_is_mentioned(self) -> None:
        from benchmark.cli.submit import command

        options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
        shared = {"--workspace", "--database", "--json", "--device"}
        assert [option for option in sorted(options - shared) if option not in self.TEXT] == []


def _timm_model(name: str, *, pretrained: bool, num_classes: int = 10) -> nn.Module:
    """A stand-in for ``timm.create_model``."""
    torch.manual_seed(3 if pretrained else 4)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))
    network.pretrained_cfg = {"mean": (0.5,), "std": (0.25,), "license": "apache-2.0", "num_classes": 10}  # type: ignore[assignment]
    return network
