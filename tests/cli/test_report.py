from __future__ import annotations

import pytest

from support.run_writer import choice, write_run


@pytest.fixture
def run(tmp_path):
    return write_run(
        tmp_path / "results" / "a", [choice(n, 0, response="A" * (n + 1)) for n in range(20)]
    )


def test_a_page_is_written_and_what_is_missing_is_said(adem_bench, run, tmp_path):
    shown = adem_bench("report", run)
    assert (shown.code, shown.out) == (0, "wrote report.html: 1 run\n")
    assert shown.err.startswith("warning: mini_sqa, split test: Prompts and images are not shown")
    assert "<h1>adem-bench report</h1>" in (tmp_path / "report.html").read_text()


def test_plots_are_written_beside_the_page(adem_bench, run, tmp_path):
    shown = adem_bench("report", "results", "--format", "png,svg", "--output", "out/quiz.html")
    assert shown.out == "wrote 6 plots to out/quiz-plots\n"
    assert not (tmp_path / "out" / "quiz.html").exists()
    assert (tmp_path / "out" / "quiz-plots" / "mini_sqa-groups.png").exists()


def test_an_unknown_format_and_an_empty_folder_are_mistakes(adem_bench, run, tmp_path):
    shown = adem_bench("report", run, "--format", "html,pdf")
    assert shown.code == 2
    assert "'pdf' is not one of html, png, svg" in shown.err
    (tmp_path / "empty").mkdir()
    shown = adem_bench("report", "empty")
    assert shown.err == "error: no finished run in empty; `adem-bench run` makes runs\n"
