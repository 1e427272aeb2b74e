from __future__ import annotations

import csv
import io
import json

import pytest

from adem_bench.records import Metric, Result
from adem_bench.results.dataframe import COLUMNS


@pytest.fixture
def one_run(tmp_path, adem_bench):
    folder = tmp_path / "results" / "m" / "quiz" / "test-1"
    folder.mkdir(parents=True)
    result = Result("quiz", 1, "test", "acc", (Metric("acc", 0.5, "fraction", 10),), 10, 0, 10)
    (folder / "metrics.json").write_text(json.dumps(result.to_json()))
    manifest = {"model": {"name": "m", "fingerprint": "f" * 16}, "task": {"name": "quiz"}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_runs_below_results_are_shown(adem_bench, one_run):
    shown = adem_bench("leaderboard")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.splitlines()[1].split() == ["1", "m", "measured", "50.00", "10"]


@pytest.mark.parametrize(
    ("form", "first"),
    [
        ("csv", "model,language model,trainable,origin,quiz/test acc"),
        ("md", "| rank | model |"),
        ("markdown", "| rank |"),
    ],
)
def test_files_are_written_for_spreadsheets_and_pages(adem_bench, one_run, tmp_path, form, first):
    printed = adem_bench("leaderboard", "results", "--format", form)
    assert printed.out.startswith(first)
    written = adem_bench("leaderboard", "--format", form, "--output", f"out/board.{form}")
    assert written.out == f"wrote out/board.{form}: 1 row\n"
    assert (tmp_path / "out" / f"board.{form}").read_text() == printed.out


def test_every_metric_of_every_run_as_one_table(adem_bench, one_run, tmp_path):
    printed = adem_bench("leaderboard", "results", "--format", "long")
    assert printed.code == 0
    (row,) = csv.DictReader(io.StringIO(printed.out))
    assert tuple(row) == COLUMNS
    assert (row["metric"], row["value"], row["complete"]) == ("acc", "0.5", "True")
    written = adem_bench("leaderboard", "--format", "long", "--output", "long.csv")
    assert written.out == "wrote long.csv: 1 run\n"
    assert (tmp_path / "long.csv").read_text() == printed.out


def test_a_broken_run_is_named_and_the_rest_is_shown(adem_bench, one_run, tmp_path):
    broken = tmp_path / "results" / "broken"
    broken.mkdir()
    (broken / "manifest.json").write_text("{")
    (broken / "metrics.json").write_text("{")
    shown = adem_bench("leaderboard")
    assert shown.code == 0
    assert shown.err.startswith("warning: results/broken: cannot be read, so left out")
    assert shown.out.splitlines()[1].split()[:2] == ["1", "m"]


def test_published_figures_need_no_run(adem_bench):
    shown = adem_bench("leaderboard", "--published", "--format", "csv")
    assert shown.code == 0
    header, *lines = shown.out.splitlines()
    assert "sqa/test average" in header
    assert any(line.startswith("ADEM-VL,LLaMA-7B,4.5M,published") for line in lines)
    assert shown.err == "warning: no finished run below results\n"


def test_a_folder_without_a_finished_run_is_no_empty_table(adem_bench, tmp_path):
    (tmp_path / "results").mkdir()
    for form in ("table", "csv", "json", "long"):
        shown = adem_bench("leaderboard", "--format", form)
        assert (shown.code, shown.out) == (2, "")
        assert shown.err == ("error: no finished run in results; `adem-bench run` makes runs\n")


def test_headlines_are_shown_unless_all_metrics_are_asked_for(adem_bench):
    arguments = ("leaderboard", "--published", "--format", "csv")
    header = adem_bench(*arguments).out.splitlines()[0]
    assert "sqa/test NAT" not in header
    assert "mme/test cognition" not in header
    header = adem_bench(*arguments, "--all-metrics").out.splitlines()[0]
    assert "sqa/test NAT" in header
    assert "mme/test cognition" in header


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("board.csv", "model,"),
        ("board.md", "| rank |"),
        ("board.tex", "% The preamble needs"),
        ("board.json", '{\n  "schema": 1,'),
        ("board.HTML", "<!doctype html>"),
        ("board.txt", "rank  model"),
    ],
)
def test_a_files_name_says_its_format(adem_bench, one_run, tmp_path, name, first):
    assert adem_bench("leaderboard", "--output", name).out == f"wrote {name}: 1 row\n"
    assert (tmp_path / name).read_text().startswith(first)


def test_a_file_without_a_known_name_needs_a_format(adem_bench, one_run, tmp_path):
    refused = adem_bench("leaderboard", "--output", "board.xls")
    assert refused.code == 2
    assert "board.xls: no format is known by this name; give --format, or .txt, .csv" in refused.err
    assert not (tmp_path / "board.xls").exists()
    assert adem_bench("leaderboard", "--output", "board.xls", "--format", "csv").code == 0


def test_every_metric_of_every_run_takes_no_selection(adem_bench, one_run):
    refused = adem_bench("leaderboard", "--format", "long", "--sort", "quiz", "--published")
    assert refused.code == 2
    assert "so it takes no --published, --sort" in refused.err


@pytest.mark.parametrize("form", ["json", "html"])
def test_formats_with_room_show_every_column_unless_headlines_are_asked_for(adem_bench, form):
    arguments = ("leaderboard", "--published", "--format", form, "--tasks", "sqa")
    assert "G7-12" in adem_bench(*arguments).out
    assert "G7-12" not in adem_bench(*arguments, "--headlines").out


def test_latex_shows_headlines_unless_all_columns_are_asked_for(adem_bench, one_run):
    headlines = adem_bench("leaderboard", "--format", "latex").out
    assert r"\begin{tabular}{rlllr}" in headlines
    assert "samples/s" not in headlines
    everything = adem_bench("leaderboard", "--format", "latex", "--all-metrics").out
    assert "samples/s" in everything


def test_measured_tasks_stand_first_for_readers_unless_an_order_is_given(adem_bench, one_run):
    arguments = ("leaderboard", "--published", "--format", "md")
    assert adem_bench(*arguments).out.split(" | ")[5].startswith("quiz/test")
    chosen = adem_bench(*arguments, "--tasks", "mme,quiz").out
    assert chosen.split(" | ")[5].startswith("mme/test")


def test_rows_and_columns_are_chosen_by_name(adem_bench):
    arguments = ("leaderboard", "--published", "--format", "csv", "--tasks", "mme,sqa")
    shown = adem_bench(*arguments, "--models", "adem-vl*", "--models", "LaVIN", "--sort", "sqa")
    header, *lines = csv.reader(io.StringIO(shown.out))
    assert header[4:6] == ["mme/test perception", "sqa/test average"]
    assert {line[0] for line in lines} == {"ADEM-VL", "ADEM-VL (released weights)", "LaVIN"}
    assert [line[5] for line in lines[:2]] == ["94.55", "94.06"]
    wrong = adem_bench(*arguments, "--sort", "mme/test perceptio")
    assert wrong.code == 2
    assert "did you mean: mme/test perception" in wrong.err
    assert "--all-metrics shows more" in wrong.err
