from __future__ import annotations

import csv
import io
import json

import pytest

from adem_bench.cards import as_mapping, load_model_card
from adem_bench.errors import ResultsError
from adem_bench.records import Metric, Result
from adem_bench.results.finished import finished_runs
from adem_bench.results.formats import leaderboard_text
from adem_bench.results.leaderboard import build_leaderboard
from adem_bench.results.published import PublishedRow

TASK = "quiz"
"""No card has this name: the leaderboard then shows the headline alone."""


@pytest.fixture
def run(tmp_path):
    """Writes run folders as the runner leaves them."""
    numbers = iter(range(100))

    def write(model="m", value=0.5, task=TASK, scored=10, failed=0, **changes):
        folder = tmp_path / model.replace("/", "_") / task / f"test-{next(numbers):02}"
        folder.mkdir(parents=True)
        metrics = (Metric("acc", value, "fraction", scored),)
        result = Result(task, 1, "test", "acc", metrics, scored, failed, 10)
        manifest = {
            "schema": 1,
            "model": {
                "name": model,
                "fingerprint": changes.pop("fingerprint", "f" * 16),
                "language_model": "LLaMA-7B",
                "trainable_parameters": 4530432,
                "card": changes.pop("card", {}),
            },
            "task": {
                "name": task,
                "version": 1,
                "split": "test",
                "prompt_format": changes.pop("prompt_format", "QCM-A"),
                "data_fingerprint": "d" * 16,
            },
            "run": {"finished": changes.pop("finished", "2026-01-01T00:00:00+00:00")},
            "options": {
                "blind": False,
                "limit": None,
                "seed": 0,
                "dtype": "auto",
                "batch_size": "auto",
            }
            | changes,
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))
        (folder / "metrics.json").write_text(json.dumps(result.to_json()))
        return folder

    return write


def rows(root, published=()):
    runs, warnings = finished_runs(root)
    assert warnings == []
    text = leaderboard_text(build_leaderboard(runs, published), "csv")
    return list(csv.DictReader(io.StringIO(text)))


def test_one_row_a_model_one_column_a_headline_with_its_count(run, tmp_path):
    run("a", 0.9)
    run("a", 0.7, task="other")
    run("b", 0.8)
    assert rows(tmp_path) == [
        {
            "model": "a",
            "language model": "LLaMA-7B",
            "trainable": "4.5M",
            "origin": "measured",
            "other/test acc": "70.00",
            "quiz/test acc": "90.00",
            "other/test n": "10",
            "quiz/test n": "10",
            "sources": "",
        },
        {
            "model": "b",
            "language model": "LLaMA-7B",
            "trainable": "4.5M",
            "origin": "measured",
            "other/test acc": "",
            "quiz/test acc": "80.00",
            "other/test n": "",
            "quiz/test n": "10",
            "sources": "",
        },
    ]


def test_subsets_and_failed_runs_are_marked_and_never_lead(run, tmp_path):
    run("lucky", 1.0, scored=2, limit=2)
    run("holes", 0.99, scored=9, failed=1)
    run("whole", 0.4)
    found = [(row["model"], row["quiz/test n"]) for row in rows(tmp_path)]
    assert found == [
        ("whole", "10"),
        ("lucky", "SUBSET 2/10"),
        ("holes", "SUBSET 9/10, 1 failed"),
    ]
    board = build_leaderboard(finished_runs(tmp_path)[0])
    for form in ("table", "md"):
        text = leaderboard_text(board, form)
        assert "100.00*" in text
        assert "99.00*" in text
        assert "40.00*" not in text


def test_a_subset_of_the_first_task_does_not_lead_whole_runs_of_another(run, tmp_path):
    run("lucky", 1.0, task="a quiz", scored=2, limit=2)
    run("whole", 0.4)
    assert [row["model"] for row in rows(tmp_path)] == ["whole", "lucky"]


def test_the_newest_whole_run_of_the_same_thing_wins(run, tmp_path):
    run(value=0.1, finished="2026-01-01T00:00:00+00:00")
    run(value=0.2, finished="2026-01-03T00:00:00+00:00")
    run(value=0.3, finished="2026-01-02T00:00:00+00:00", batch_size=4)
    run(value=0.9, finished="2026-01-09T00:00:00+00:00", scored=3, limit=3)
    assert [row["quiz/test acc"] for row in rows(tmp_path)] == ["20.00"]


def test_blind_runs_are_another_row_even_when_alone(run, tmp_path):
    run(value=0.5, blind=True)
    assert [row["model"] for row in rows(tmp_path)] == ["m [blind]"]
    run(value=0.8)
    assert [row["model"] for row in rows(tmp_path)] == ["m", "m [blind]"]


def test_adapters_of_the_command_line_are_told_apart(run, tmp_path):
    run(value=0.8, fingerprint="a" * 16, card={"adapter": "one.pth"})
    run(value=0.7, fingerprint="b" * 16)
    assert [row["model"] for row in rows(tmp_path)] == ["m [adapter=one.pth]", "m"]


def test_an_overridden_card_never_passes_for_the_model_itself(run, tmp_path):
    card = as_mapping(load_model_card("adem-7b"))
    run("adem-7b", 0.8, card=card | {"fusion": {"kind": "adem", "alpha": 0.5}})
    assert [row["model"] for row in rows(tmp_path)] == ["adem-7b [fusion.alpha=0.5]"]
    run("adem-7b", 0.7, card=card, finished="2026-01-02T00:00:00+00:00")
    assert [row["model"] for row in rows(tmp_path)] == ["adem-7b [fusion.alpha=0.5]", "adem-7b"]


def test_changed_weights_of_the_same_name_are_told_apart(run, tmp_path):
    run(value=0.8, fingerprint="a" * 16, finished="2026-01-01T00:00:00+00:00")
    run(value=0.7, fingerprint="b" * 16, finished="2026-01-02T00:00:00+00:00")
    assert [row["model"] for row in rows(tmp_path)] == [
        "m [aaaaaaaa]",
        "m [bbbbbbbb]",
    ]


def test_one_adapter_a_task_is_still_one_model(run, tmp_path):
    run(value=0.8, fingerprint="a" * 16)
    run(value=0.7, fingerprint="b" * 16, task="other")
    assert [row["model"] for row in rows(tmp_path)] == ["m"]


def test_prompt_formats_are_not_mixed(run, tmp_path):
    run(value=0.8, prompt_format="CQM-A")
    run(value=0.7)
    names = [row["model"] for row in rows(tmp_path)]
    assert names == ["m [CQM-A]", "m [QCM-A]"]


def published(value=94.0, task=TASK, split="test"):
    return PublishedRow("Paper", "LLaMA-7B", "4.5M", task, split, "acc", value, "arXiv", "")


def test_published_figures_stand_beside_measured_ones_and_are_marked(run, tmp_path):
    run(value=0.95)
    run("weak", value=0.2)
    found = rows(tmp_path, [published()])
    assert [(row["model"], row["origin"], row["sources"]) for row in found] == [
        ("m", "measured", ""),
        ("Paper", "published", "arXiv"),
        ("weak", "measured", ""),
    ]
    assert found[1]["quiz/test n"] == ""


def test_a_published_figure_of_another_split_fills_no_cell(run, tmp_path):
    run(value=0.95)
    assert [row["model"] for row in rows(tmp_path, [published(split="val")])] == ["m"]


def test_a_metric_that_could_not_be_computed_ranks_after_every_figure(run, tmp_path):
    run("none", None)
    run("some", 0.0)
    found = [(row["model"], row["quiz/test acc"]) for row in rows(tmp_path)]
    assert found == [("some", "0.00"), ("none", "n/a")]


@pytest.mark.parametrize("name", ["=1+1", "+x", "-x", "@SUM(A1)", "\t=1+1"])
def test_texts_that_a_spreadsheet_would_run_are_made_inert(run, tmp_path, name):
    run(name)
    assert rows(tmp_path)[0]["model"] == f"'{name.strip()}"


def test_names_cannot_break_a_markdown_table_or_a_terminal(run, tmp_path):
    run("a|b\n\x1b[2J")
    runs, _ = finished_runs(tmp_path)
    for form in ("md", "csv", "table"):
        assert "\x1b" not in leaderboard_text(build_leaderboard(runs), form)
    lines = leaderboard_text(build_leaderboard(runs), "md").splitlines()
    assert len(lines) == 3
    assert lines[2].startswith(r"| a\|b \x1b[2J |")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("manifest.json", "{"),
        ("manifest.json", "[]"),
        ("manifest.json", '{"model": 5}'),
        ("metrics.json", '{"task": "quiz"}'),
        ("metrics.json", "\xff"),
    ],
)
def test_an_unreadable_run_is_named_and_the_others_are_shown(run, tmp_path, file, text):
    broken = run("broken")
    (broken / file).write_bytes(text.encode("latin-1"))
    run("fine")
    runs, warnings = finished_runs(tmp_path)
    assert [r.model for r in runs] == ["fine"]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{broken}: cannot be read")


def test_a_run_without_metrics_is_not_finished(run, tmp_path):
    folder = run("m")
    for name in ("metrics.json", "manifest.json"):
        (folder / name).unlink()
    (folder / "samples.jsonl").touch()
    runs, warnings = finished_runs(tmp_path)
    assert runs == []
    assert warnings == [f"{folder}: not finished, so left out; run it again to continue"]


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ResultsError, match="is no folder with results"):
        finished_runs(tmp_path / "none")
