from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.cells import cell_len

from adem_bench.records import Metric, Result
from adem_bench.results.console import BOLD, PLAIN, console, grid
from adem_bench.results.result_tables import show_result, show_results


class Terminal(io.StringIO):
    def isatty(self):
        return True


def a_result(**changes):
    fields = {
        "task": "sqa",
        "task_version": 1,
        "split": "test",
        "headline": "average",
        "metrics": (
            Metric("NAT", 0.9552, "fraction", 2252),
            Metric("average", 0.9385, "fraction", 4241, "", 0.9309, 0.9454, "Wilson"),
            Metric("SPICE", None, "fraction", 0, "needs Java; see docs"),
        ),
        "scored": 4241,
        "failed": 0,
        "expected": 4241,
    }
    return Result(**fields | changes)


def shown(result, heading="adem-7b"):
    stream = io.StringIO()
    show_result(result, console(stream), heading)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_a_result_shows_figures_units_counts_and_the_headline_first():
    lines = shown(a_result())
    assert lines[0] == "adem-7b: sqa, split test, all 4,241 samples (version 1 of the task)"
    assert lines[1].split() == ["metric", "value", "95%", "interval", "unit", "n", "note"]
    assert lines[2].split() == ["average", "*", "93.85", "[93.09,", "94.54]", "%", "4241"]
    assert lines[3].split() == ["NAT", "95.52", "%", "2252"]


def test_an_unavailable_metric_is_never_a_number_and_says_why():
    spice = Metric("SPICE", None, "fraction", 4241, "needs Java; see docs")
    lines = shown(a_result(metrics=(spice,)))
    assert lines[2].split() == ["SPICE", "n/a", "4241", "needs", "Java;", "see", "docs"]


def test_metrics_without_any_sample_are_named_in_one_line():
    metrics = [Metric(f"task{i}.acc", None, "fraction", 0) for i in range(8)]
    lines = shown(a_result(metrics=(Metric("average", 1.0, "fraction", 4241), *metrics)))
    assert len(lines) == 4
    assert lines[3].startswith("no samples for 8 metrics: task0.acc, task1.acc")


def test_a_subset_failures_and_warnings_are_said_loudly():
    lines = shown(a_result(scored=98, failed=2, warnings=("trained in another format (Q1)",)))
    assert "sqa, split test, 98 of 4,241 samples (version 1 of the task)" in lines[0]
    assert any(line.startswith("SUBSET: 98 of 4241 expected samples") for line in lines)
    assert any(line.startswith("failed: 2 samples have no answer") for line in lines)
    assert "warning: trained in another format (Q1)" in lines


@pytest.mark.parametrize(
    ("failed", "unusable", "expected"),
    [
        (1, 0, ["failed: 1 sample has no answer; samples.jsonl says why"]),
        (1, 1, ["not asked: 1 row of the data is not usable; samples.jsonl says why"]),
        (
            3,
            2,
            [
                "not asked: 2 rows are not usable; samples.jsonl says why",
                "failed: 1 sample has no answer; samples.jsonl says why",
            ],
        ),
    ],
)
def test_rows_that_were_never_asked_are_not_called_failed(failed, unusable, expected):
    result = a_result(failed=failed, unusable=unusable)
    said = [line for line in shown(result) if line.startswith(("failed", "not asked"))]
    assert said == expected


def test_a_whole_run_has_no_remarks():
    metrics = (Metric("average", 1.0, "fraction", 4241),)
    assert len(shown(a_result(metrics=metrics))) == 3


def test_several_results_take_a_line_each():
    stream = io.StringIO()
    mme = a_result(
        task="mme",
        headline="perception",
        metrics=(Metric("perception", 963.6114, "points", 2114),),
        scored=10,
        expected=2374,
    )
    show_results([("adem-7b", a_result()), ("adem-7b", mme)], console(stream))
    lines = [line.split() for line in stream.getvalue().splitlines()]
    assert lines[1] == [
        "adem-7b",
        "sqa/test",
        "average",
        "93.85%",
        "[93.09,",
        "94.54]",
        "4241",
        "0",
    ]
    assert lines[2] == ["adem-7b", "mme/test", "perception", "963.61", "SUBSET", "10/2374", "0"]


def test_a_pipe_gets_plain_lines_that_are_never_folded():
    lines = shown(a_result(), heading="m" * 300)
    assert lines[0].startswith("m" * 300 + ": sqa")
    assert all(ord(character) < 128 for line in lines for character in line)
    assert console(io.StringIO()).width is None


def test_escape_sequences_and_markup_in_data_are_shown_not_obeyed():
    metric = Metric("x\x1b[2J", None, "count", 1, "[red]\u202enote[/red]")
    stream = Terminal()
    show_result(a_result(metrics=(metric,), warnings=("\x1b]0;t\x07",)), console(stream), "\x9b1m")
    text = stream.getvalue()
    assert "\x1b[2J" not in text
    assert "\x1b]0" not in text
    assert "\x9b" not in text
    assert "\u202e" not in text
    assert "[red]" in text


def test_a_metric_of_too_few_units_has_no_interval_and_is_named():
    few = Metric("perception", 900.0, "points", 20, "", 800.0, 990.0, "bootstrap of images")
    lines = shown(a_result(metrics=(replace(few, units=10),)))
    assert (
        "no 95% interval for perception: it needs at least 20 independent units, here 10" in lines
    )


def table(rows, width=None, header=("task", "a\nlong name", "n"), right=("n",)):
    out = console(io.StringIO() if width is None else Terminal())
    if width is not None:
        out.width = width
    grid(out, header, rows, right=right)
    return out.stream.getvalue().splitlines()


def test_a_pipe_gets_aligned_columns_however_wide_they_are():
    wide = "x" * 20_000
    assert table([("日本", "b c", "12"), (wide, "", "3")], header=("task", "a", "n")) == [
        f"task{' ' * (len(wide) - 4)}  a     n",
        f"日本{' ' * (len(wide) - 4)}  b c  12",
        f"{wide}        3",
    ]
    assert table([]) == ["      a", "task  long name  n"]


def test_a_terminal_gets_a_frame():
    lines = table([("b", "c", "12"), ("日本", "", "3")], 80)
    assert lines[:1] + lines[-1:] == ["", ""]
    plain = [line.removeprefix(BOLD).removesuffix(PLAIN) for line in lines]
    assert plain[1:-1] == [
        "        a",
        " task   long name    n",
        " ─────────────────────",
        " b      c           12",
        " 日本                3",
    ]


@pytest.mark.parametrize("width", [18, 24, 40])
def test_a_narrow_terminal_folds_the_widest_columns_between_words(width):
    text = "many words of 日本語 that fill several lines, and a" + "very" * 12 + "longword"
    lines = table([("name", text, "1")], width, header=("task", "text", "n"))
    shown = [line for line in lines if "\x1b" not in line]
    assert max(map(cell_len, shown)) <= width
    assert shown[2].startswith(" name   many")
    assert shown[2].endswith("1")
    cells = [line[8:-4] if index == 0 else line[8:] for index, line in enumerate(shown[2:-1])]
    assert "".join(cells).replace(" ", "") == text.replace(" ", "")
    whole = {word for cell in cells for word in cell.split()}
    assert {"words", "fill", "several"} <= whole or width < 24


def test_a_terminal_that_is_too_narrow_for_any_column_still_gets_all_text():
    lines = table([("日本", "bc", "12")], 3, header=("t", "a", "n"))
    assert lines[3].split() == ["日", "b", "1"]
    assert lines[4].split() == ["本", "c", "2"]
