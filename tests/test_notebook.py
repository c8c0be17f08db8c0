"""The notebook in ``docs/``: every cell runs, in order, as in a fresh kernel."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

NOTEBOOK = Path(__file__).parent.parent / "docs" / "library.ipynb"


@pytest.fixture(scope="module")
def notebook() -> dict:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))


def test_it_is_a_notebook_without_stale_results(notebook: dict) -> None:
    assert (notebook["nbformat"], notebook["metadata"]["language_info"]["name"]) == (4, "python")
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(ids) == len(set(ids))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) >= 6
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_every_cell_runs_and_what_it_asserts_holds(
    notebook: dict, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    mpl.use("Agg")
    names: dict[str, object] = {"__name__": "__main__"}
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            source = compile(ast.parse("".join(cell["source"])), f"{NOTEBOOK.name}, cell {number}", "exec")
            exec(source, names)
    shown = capsys.readouterr().out
    assert "adversarial examples, all of them hold" in shown
    assert "stopped; there is" in shown
    figure = names["figure"]
    assert isinstance(figure, plt.Figure)
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == [
        "clean-trained",
        "adversarially trained",
    ]
    plt.close("all")
