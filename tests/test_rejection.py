"""Models that may reject an image: what counts as an example, distances against programs, the card, the board."""

import shutil
import tomllib

import numpy as np
import pytest
import torch
from boards import board_ledger
from safetensors.torch import save_file
from sqlalchemy import select
from test_targeted import nearest
from torch import nn

from benchmark import flags, robustness_curve
from benchmark.attacks import get_attack, run_attack
from benchmark.certificates import certificate
from benchmark.certificates.exact import exact
from benchmark.clever import clever_scores
from benchmark.cli import run
from benchmark.conformance import check_conformance
from benchmark.data import get_dataset
from benchmark.errors import InputError, UnsupportedModelError
from benchmark.measures import Task
from benchmark.measures.verdict import MEASURE as VERDICT
from benchmark.measures.verdict import VerdictParameters
from benchmark.rejection import rejects
from benchmark.verification import REASONS, verify
from benchmark.workspace import Workspace
from db.migrate import upgrade
from db.schema import Evaluation, State
from db.session import Database
from models_zoo import load_model
from models_zoo.cards import card_table, parse_card

CLASSES, REJECT = 3, 3


class Shown(nn.Module):
    """Says what its images hold: the first four pixels are its logits."""

    rejects = True

    def forward(self, x):
        return 10 * x.flatten(1)[:, :4]


class Abstaining(nn.Module):
    rejects = True

    def __init__(self, generator):
        super().__init__()
        self.linear = nn.Linear(9, CLASSES + 1)
        with torch.no_grad():
            self.linear.weight.copy_(torch.randn(4, 9, generator=generator))
            self.linear.bias.copy_(-self.linear.weight.sum(1) / 2)

    def forward(self, x):
        return self.linear(x.flatten(1))


def problem(seed=0, n=14):
    generator = torch.Generator().manual_seed(seed)
    model = Abstaining(generator).eval()
    x = 0.3 + 0.4 * torch.rand(400, 1, 3, 3, generator=generator)
    given = model(x).argmax(1)
    kept = (given != REJECT).nonzero().squeeze(1)[:n]
    return model, x[kept], given[kept]


def exact_distance(model, x, label, norm):
    """To the nearest image where a wrong class leads the label and the rejection; others may lead it still."""
    rivals = [t for t in range(CLASSES) if t != label]
    return min(nearest(model, x, t, norm, [int(label), REJECT]) for t in rivals)


def shown(leader):
    image = torch.full((1, 1, 2, 2), 0.1)
    image.view(-1)[leader] = 0.9
    return image


@pytest.mark.parametrize(
    ("clean", "candidate", "correct", "holds", "reason"),
    [
        (0, 1, True, True, "holds"),
        (0, REJECT, True, False, "the model rejects it"),
        (0, 0, True, False, "the label does not change"),
        (REJECT, 1, False, False, None),
        (1, 2, False, False, None),
    ],
)
def test_an_example_is_a_wrong_class_that_is_not_rejected(clean, candidate, correct, holds, reason):
    found = verify(Shown(), shown(clean), torch.tensor([0]), shown(candidate))
    assert found.correct.tolist() == [correct]
    assert found.holds.tolist() == [holds]
    if correct:
        assert REASONS[found.reason[0]] == reason
    expected = 0.0 if not correct else 0.8 if holds else np.inf
    assert found.distances["linf"].item() == pytest.approx(expected)


def test_a_wrong_class_ahead_of_the_label_but_behind_the_rejection_is_no_example():
    image = shown(REJECT)
    image.view(-1)[1] = 0.5
    assert not verify(Shown(), shown(0), torch.tensor([0]), image).holds


def test_the_rejection_is_no_class_to_aim_at_nor_a_label():
    model, x, y = problem()
    with pytest.raises(InputError, match="classes 0 to 2"):
        verify(model, x, y, x, targets=torch.full_like(y, REJECT))
    with pytest.raises(InputError, match="classes 0 to 2"):
        run_attack(get_attack("targeted"), model, x, y, norm="l2", goal="targeted", targets=torch.full_like(y, REJECT))
    with pytest.raises(InputError, match="3 outputs"):
        robustness_curve(model, x, torch.full_like(y, REJECT), norm="linf")


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_engine_finds_the_exact_distances_of_linear_models(norm, seed):
    model, x, y = problem(seed)
    best = np.array([exact_distance(model, x[i], y[i], norm) for i in range(len(x))])
    strict = np.array([min(best[i], nearest(model, x[i], REJECT, norm, [int(y[i])])) for i in range(len(x))])
    assert (strict < 0.99 * best).mean() > 0.2, "a problem in which it makes no difference"
    found = robustness_curve(model, x, y, norm=norm, effort="quick").distances
    assert (found >= best * (1 - 1e-4)).all()
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(best))
    reached = np.isfinite(best)
    assert (found[reached] / best[reached]).mean() < 1.005


@pytest.mark.parametrize(("name", "norm"), [("hopskipjump", "l2"), ("square", "linf"), ("nes", "l2"), ("hein", "l2")])
def test_attacks_of_every_access_look_beyond_the_rejection(name, norm):
    model, x, y = problem()
    best = np.array([exact_distance(model, x[i], y[i], norm) for i in range(len(x))])
    claimed = run_attack(get_attack(name), model, x, y, norm=norm, effort="quick")
    found = verify(model, x, y, claimed.adversarials).distances[norm].numpy()
    reached = np.isfinite(found)
    assert (found[reached] >= best[reached] * (1 - 1e-4)).all()
    assert reached.mean() > 0.5
    assert np.median(found[reached] / best[reached]) < 1.3


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_verdict_is_that_of_the_exact_distances(norm):
    model, x, y = problem()
    best = np.array([exact_distance(model, x[i], y[i], norm) for i in range(len(x))])
    eps = float(np.quantile(best[np.isfinite(best)], 0.5)) * 1.001
    sure = np.abs(best - eps) > 0.02 * eps
    robust = VERDICT.run(Task(model, model, x, y), VerdictParameters(norm, eps)).arrays["robust"]
    np.testing.assert_array_equal(robust[sure], (best > eps)[sure])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_certificates_bound_the_way_to_any_other_answer(norm):
    model, x, y = problem()
    best = np.array([exact_distance(model, x[i], y[i], norm) for i in range(len(x))])
    radius = certificate(model, x, y, norm=norm).cpu().numpy()
    assert (radius > 0).all()
    assert (radius <= best * (1 + 1e-6)).all()


def test_what_has_no_stated_meaning_is_refused():
    model, x, y = problem()
    with pytest.raises(UnsupportedModelError, match="CLEVER"):
        clever_scores(model, x)
    with pytest.raises(UnsupportedModelError, match="exact distance"):
        exact(model, x, y, norm="linf")


def test_a_logit_more_is_accepted_exactly_where_the_model_says_that_it_rejects():
    model, x, y = problem()
    said = {check.name: check for check in check_conformance(model, x, y, classes=CLASSES).checks}
    assert said["rejection"].flag == flags.REJECTS
    assert said["rejection"].value == 0
    silent = nn.Linear(9, CLASSES + 1)
    silent.load_state_dict(model.linear.state_dict())
    assert check_conformance(nn.Sequential(nn.Flatten(), silent), x, y, classes=CLASSES).verdict == "refuse"
    plain = nn.Sequential(nn.Flatten(), nn.Linear(9, CLASSES))
    plain.rejects = True
    assert check_conformance(plain, x, y, classes=CLASSES).verdict == "refuse"


PROTOCOL = """
name = "abstain"
version = 1
title = "Abstaining"

[[measures]]
measure = "clean"

[[measures]]
measure = "clever"

[[measures]]
measure = "curve"
norm = "linf"
effort = "quick"
"""
CARD = """
slug = "cautious"
title = "A cautious model"
dataset = "digits"
[model]
form = "weights"
architecture = "mlp"
arguments = { inputs = 64, hidden = [128], outputs = 11 }
rejects = true
[[weights]]
file = "weights.safetensors"
"""


N = 10


@pytest.fixture(scope="module")
def submitted(tmp_path_factory):
    """`digits-standard` that rejects where no logit exceeds a constant, 3 of the first ten images; and its folder."""
    folder = tmp_path_factory.mktemp("submission") / "cautious"
    folder.mkdir()
    x, _ = get_dataset("digits").load(N)
    source = load_model("digits-standard")
    state = {name: value.clone() for name, value in source.state_dict().items()}
    last = [name.removesuffix(".weight") for name in state if name.endswith(".weight")][-1]
    with torch.no_grad():
        threshold = source(x).amax(1).sort().values[2:4].mean()
    state[f"{last}.weight"] = torch.cat([state[f"{last}.weight"], torch.zeros(1, 128)])
    state[f"{last}.bias"] = torch.cat([state[f"{last}.bias"], threshold[None]])
    save_file(state, folder / "weights.safetensors")
    (folder / "model.toml").write_text(CARD)
    return folder


def test_the_card_says_so_and_is_another_model_for_it(submitted, tmp_path):
    table = tomllib.loads(CARD)
    said = parse_card(table, folder=submitted, digests=False)
    assert card_table(said)["model"]["rejects"] is True
    del table["model"]["rejects"]
    silent = parse_card(table, folder=submitted, digests=False)
    assert "rejects" not in card_table(silent)["model"]
    assert said.digest != silent.digest
    shutil.copytree(submitted, tmp_path / "silent")
    (tmp_path / "silent" / "model.toml").write_text(CARD.replace("rejects = true\n", ""))
    assert run(["submit", "--dry-run", str(submitted)]) == 0
    assert run(["submit", "--dry-run", str(tmp_path / "silent")]) == 4


def test_from_the_card_to_the_page(submitted, tmp_path, capsys):
    workspace = Workspace.create(tmp_path / "board")
    upgrade(Database(workspace.database_url))
    (workspace.protocols / "abstain.toml").write_text(PROTOCOL)
    assert run(["submit", "-w", str(workspace.root), str(submitted)]) == 0
    command = ["evaluate", "-w", str(workspace.root), "--protocol", "abstain", "--limit", str(N), "-m", "cautious"]
    assert run(command) == 0
    with Database(workspace.database_url).read() as session:
        rows = {row.measure: row for row in session.scalars(select(Evaluation))}
        assert rows["clever"].state == State.UNSUPPORTED
        scores = {score.name: score.value for score in rows["clean"].scores}
        assert {flag.code for flag in rows["curve"].flags} >= {flags.REJECTS}
    assert scores["rejected"] == pytest.approx(0.3)
    assert scores["accuracy"] <= 0.7
    distances = board_ledger(workspace, "cautious", "linf", N).distances
    assert (distances == 0).mean() == pytest.approx(1 - scores["accuracy"])
    plain = robustness_curve(load_model("digits-standard"), *get_dataset("digits").load(N), norm="linf").distances
    assert (distances[distances > 0] >= plain[distances > 0] * 0.999).all(), "whoever may reject is harder to fool"
    assert (distances > plain * 1.01).any()
    assert run(["publish", "-w", str(workspace.root)]) == 0
    (page,) = workspace.root.rglob("models/cautious/index.html")
    text = page.read_text()
    assert "may reject images" in text
    assert "Rejected" in text
    assert run(["verify", "-w", str(workspace.root)]) == 0


@pytest.mark.parametrize(("said", "expected"), [(1, True), (np.True_, True), (torch.tensor(True), True), (0, False)])
def test_whatever_is_true_says_that_a_model_rejects(said, expected):
    model = nn.Linear(4, 3)
    model.rejects = said
    assert rejects(model) is expected


def test_a_single_class_beside_the_rejection_is_refused():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    model.rejects = True
    x = torch.rand(3, 1, 2, 2)
    with pytest.raises(UnsupportedModelError, match="two classes besides"):
        verify(model, x, torch.zeros(3, dtype=torch.int64), x)
