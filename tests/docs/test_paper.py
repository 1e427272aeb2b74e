"""docs/paper.md: its recipe and commands as they stand there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from adem_bench.cli import main

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "paper.md").read_text("utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_an_adapter_goes_from_its_recipe_to_a_table(small_mini, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADEM_BENCH_DATA", str(small_mini))
    (recipe,) = blocks("yaml")
    (tmp_path / "short.yaml").write_text(recipe)
    shown = []
    for line in "".join(blocks("sh")).splitlines():
        program, *arguments = shlex.split(line)
        assert program == "adem-bench"
        found = [str(p) for each in arguments for p in (sorted(Path().glob(each)) or [each])]
        with pytest.raises(SystemExit) as stop:
            main(found)
        said = capsys.readouterr()
        assert not stop.value.code, (line, said.err)
        shown.append(said.out)
    board = next(out for out in shown if out.lstrip().startswith("rank"))
    models = ("ours-seed1", "ours-seed1 [blind]", "ours-seed2", "low-rate", "majority")
    assert all(model in board for model in models)
    table = Path("table.tex").read_text("utf-8")
    assert all(model in table for model in models)
    assert "\\toprule" in table
    assert "difference" in shown[-3]
    assert "Holm p" in shown[-3]
    assert Path("report.html").stat().st_size > 10_000
    assert len(Path("figures.csv").read_text("utf-8").splitlines()) > 2 * len(models)
