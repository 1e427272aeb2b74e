"""The notebook of the documents runs, and what it shows is what it showed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.notebook import executed

NOTEBOOK = Path(__file__).parents[2] / "docs" / "python.ipynb"


def shown(notebook):
    """The text of every code cell's outputs."""
    return [
        ["".join(output.get("text") or output["data"]["text/plain"]) for output in cell["outputs"]]
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_notebook_runs_and_shows_what_is_stored_in_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ADEM_BENCH_DATA", raising=False)
    stored = json.loads(NOTEBOOK.read_text("utf-8"))
    then, now = shown(stored), shown(executed(stored))
    assert all(then)
    assert list(map(len, now)) == list(map(len, then))
    # Figures may differ in a sample or two on another machine; messages may not.
    assert now[-1] == then[-1]
    assert now[0] == then[0]
    assert "is better" in now[5][0]


def test_cells_share_names_and_their_last_expression_is_shown():
    def cell(source):
        return {"cell_type": "code", "source": [source], "outputs": []}

    notebook = {"cells": [cell("a = 2\nprint(a)"), {"cell_type": "markdown"}, cell("a + 1")]}
    assert shown({"cells": executed(notebook)["cells"]}) == [["2\n"], ["3"]]
    with pytest.raises(ZeroDivisionError):
        executed({"cells": [cell("1 / 0")]})
