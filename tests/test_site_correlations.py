"""The page of correlations: the same figures as scipy's, published ones among them, whole without scripts."""

import csv
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import synthetic
from scipy import stats

from benchmark.cli import run
from db.session import Database
from sitegen.pages import correlations
from sitegen.records import Cell

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("correlations") / "board"
    assert run(["init", str(root)]) == 0
    database = Database(f"sqlite:///{root / 'curveboard.db'}")
    synthetic.populate(database, models=7, n=40, exact=4)
    assert run(["publish", "-w", str(root)]) == 0
    return root / "public"


def test_every_board_with_enough_models_has_a_page(published):
    (page,) = (published / "correlations").glob("*-*.html")
    text = page.read_text()
    assert "Every figure against every other" in text
    assert "<script" not in text.split("</head>")[1].replace('src="../static/site.js"', "") or "site.js" in text
    index = (published / "correlations" / "index.html").read_text()
    assert page.name in index
    assert "7 models" in index


def test_the_numbers_that_are_offered_give_the_taus_that_are_shown(published):
    (table,) = (published / "correlations").glob("*.csv")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert len(rows) == 7
    names = list(rows[0])[1:]
    values = {name: np.array([float(r[name]) if r[name] else math.nan for r in rows]) for name in names}
    text = table.with_suffix(".html").read_text()
    first, second = names[:2]
    both = np.isfinite(values[first]) & np.isfinite(values[second])
    tau = stats.kendalltau(values[first][both], values[second][both]).statistic
    assert f">{tau:.2f}<".replace("-", "−") in text


def test_a_few_models_are_said_to_be_too_few():
    from benchmark.correlation import kendall
    from sitegen.pages.correlations import _sentence

    figure = SimpleNamespace(title="Robust accuracy")
    few, more = ({"Margin": kendall(np.arange(n), np.arange(n))} for n in (4, 5))
    assert _sentence(figure, few) == "4 models are too few to say: with fewer than 5 any order may be chance."
    assert _sentence(figure, more).startswith("What tells the robust accuracy best: margin (τ = 1.00, 0.17 to 1.00)")


def view_of(figures: dict[str, np.ndarray], cards=None) -> SimpleNamespace:
    """A board with scalars alone; those whose name holds ``@`` speak of a threat."""
    models = len(next(iter(figures.values())))
    outputs = {}
    for name in figures:
        base, _, threat = name.partition("@")
        measure, _, output = base.partition(".")
        declared = {"name": output, "kind": "scalar", "title": base, "threat": threat or None}
        outputs.setdefault(measure, []).append(declared)
    cells = [SimpleNamespace(measure=m, outputs=declared) for m, declared in outputs.items()]
    rows = []
    for k in range(models):
        shown = {name: Cell("", "", float(values[k])) for name, values in figures.items()}
        card = cards[k] if cards else {}
        rows.append(
            SimpleNamespace(
                slug=f"m{k}",
                record=SimpleNamespace(threats={}, cells=shown),
                row=SimpleNamespace(cells=cells, model=SimpleNamespace(card=card)),
            )
        )
    return SimpleNamespace(rows=rows, axes={}, board=SimpleNamespace(slug="b"), title="b", folder="boards/b")


@pytest.mark.shared
def test_the_published_table_gives_the_published_correlations():
    files = [SHARED / f"stutz-{name}.csv" for name in ("flatness", "loss")]
    if not all(file.exists() for file in files):
        pytest.skip("the tables of Stutz et al. are not in ../shared")
    tables = [{r["model"]: r for r in csv.DictReader(f.read_text().splitlines())} for f in files]
    rows = [tables[0][m] | tables[1][m] for m in sorted(tables[0])]

    def column(name: str) -> np.ndarray:
        return np.array([float(r[name]) for r in rows])

    figures = {
        "flat.average": column("avg_flat_RCE"),
        "loss.robust@linf": column("RCE_PGD_test"),
        "loss.gap@linf": column("RCE_PGD_test") - column("RCE_PGD_train"),
    }
    view = view_of(figures)
    page = correlations._correlations(view, correlations.figures_of(view))
    told = {e.figure.name: {x.title: x for x in e.lines} for e in page.explained}
    assert told["loss.robust@linf"]["flat.average"].pearson == "0.85"
    assert told["loss.robust@linf"]["flat.average"].spearman == "0.86"
    assert told["loss.gap@linf"]["flat.average"].tau.text == "0.69"


def test_training_settings_that_vary_make_groups():
    cards = [
        {
            "training_run": {"recipe": recipe, "seed": 0, "settings": {"epochs": 3, "weight_decay": decay}},
            "architecture": "mlp",
            "arguments": {},
        }
        for recipe in ("standard", "pgd-at")
        for decay in (0.0, 1.0)
    ]
    settings = correlations.varying_settings(cards)
    assert settings is not None
    assert set(settings[0]) == {"recipe", "weight_decay"}
    figures = {"a.b": np.array([1.0, 2.0, 11.0, 12.0]), "c.gap@linf": np.array([2.0, 1.0, 12.0, 11.0])}
    view = view_of(figures, cards)
    (explained,) = correlations._correlations(view, correlations.figures_of(view)).explained
    (line,) = explained.lines
    assert dict(zip(explained.settings, line.psi, strict=True)) == {"recipe": "1.00", "weight decay": "−1.00"}
    assert line.mean == "0.00"


def test_a_setting_without_effect_tells_no_two_runs_apart():
    cosine = {"schedule": "cosine", "optimiser": "adamw", "gamma": 0.1}
    cards = [
        {"training_run": {"recipe": recipe, "settings": {**cosine, "milestones": at, "momentum": at[0]}}}
        for recipe, at in (("standard", [0.5]), ("cross-lipschitz", [0.72]))
    ]
    assert [set(one) for one in correlations.varying_settings(cards)] == [{"recipe"}, {"recipe"}]
    for card in cards:
        card["training_run"]["settings"] |= {"schedule": "steps", "optimiser": "sgd"}
    assert set(correlations.varying_settings(cards)[0]) == {"recipe", "milestones", "momentum"}


def test_models_that_the_training_zoo_did_not_make_have_no_groups():
    assert correlations.varying_settings([{"training_run": {"recipe": "standard"}}, {}]) is None


def test_a_figure_that_never_varies_is_left_out():
    view = view_of({"a.b": np.array([1.0, 1.0, 1.0]), "c.d": np.array([1.0, 2.0, 3.0])})
    assert [f.name for f in correlations.figures_of(view)] == ["c.d"]
