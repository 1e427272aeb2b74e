from __future__ import annotations

import csv
import io
import json
import re

import pytest

from adem_bench.cards import as_mapping, load_model_card
from adem_bench.errors import ResultsError
from adem_bench.records import Metric, Record
from adem_bench.results.leaderboard.build import View, build_leaderboard
from adem_bench.results.leaderboard.formats import leaderboard_text
from adem_bench.results.leaderboard.published_figures import PublishedRow
from adem_bench.results.runs import finished_runs
from support.run_writer import choice, write_run

TASK = "quiz"
"""Of the fixture `run`."""


def rows(root, published=()):
    runs, warnings = finished_runs(root)
    assert warnings == []
    text = leaderboard_text(build_leaderboard(runs, published), "csv")
    return list(csv.DictReader(io.StringIO(text)))


def test_one_row_a_model_one_column_a_headline_with_its_count(run, tmp_path):
    run("a", 0.9, low=0.8, high=0.96, rate=12.5)
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
            "rank": "1",
            "other/test acc low": "",
            "other/test acc high": "",
            "quiz/test acc low": "80.00",
            "quiz/test acc high": "96.00",
            "other/test samples/s": "",
            "quiz/test samples/s": "12.50",
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
            "rank": "",
            "other/test acc low": "",
            "other/test acc high": "",
            "quiz/test acc low": "",
            "quiz/test acc high": "",
            "other/test samples/s": "",
            "quiz/test samples/s": "",
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
    assert [row["rank"] for row in rows(tmp_path)] == ["1", "", ""]
    board = build_leaderboard(finished_runs(tmp_path)[0])
    bests = [row.label for row in board.rows for item in row.cells.items() if board.is_best(*item)]
    assert bests == ["whole"]


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
    changed = card | {"fusion": {"kind": "adem", "alpha": 0.5}}
    run("adem-7b", 0.8, card=changed, fingerprint="a" * 16)
    assert [row["model"] for row in rows(tmp_path)] == ["adem-7b [fusion.alpha=0.5]"]
    run("adem-7b", 0.7, card=card, finished="2026-01-02T00:00:00+00:00")
    assert [row["model"] for row in rows(tmp_path)] == ["adem-7b [fusion.alpha=0.5]", "adem-7b"]


def test_quantized_weights_are_always_named_also_where_the_card_says_them(run, tmp_path):
    run(value=0.8, fingerprint="a" * 16, card={"quantization": "bnb-4bit"})
    assert [row["model"] for row in rows(tmp_path)] == ["m [quantization=bnb-4bit]"]
    run(value=0.7, fingerprint="b" * 16, card={"kind": "fused"})
    assert [row["model"] for row in rows(tmp_path)] == ["m [quantization=bnb-4bit]", "m"]


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


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("manifest.json", "{"),
        ("manifest.json", "[]"),
        ("manifest.json", '{"model": 5}'),
        ("metrics.json", '{"task": "quiz"}'),
        ("metrics.json", "\xff"),
        ("manifest.json", "[" * 100_000),
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
    again = "the same `adem-bench run` command continues it; left out"
    assert warnings == [f"{folder}: not finished (0 samples): {again}"]


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ResultsError, match="is not a folder with results"):
        finished_runs(tmp_path / "none")


def test_what_training_left_is_no_unfinished_run(run, tmp_path):
    folder = tmp_path / "train" / "m"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    assert finished_runs(tmp_path) == ([], [])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"value": "=1+1"}, "metrics.0.value: input should be a valid number"),
        ({"unit": "euro"}, "metrics.0.unit: input should be 'fraction', 'points' or 'count'"),
        ({"name": 5}, "metrics.0.name: input should be a valid string"),
    ],
)
def test_a_metric_of_the_wrong_type_is_named(run, tmp_path, change, reason):
    path = run("m") / "metrics.json"
    result = json.loads(path.read_text())
    result["metrics"][0] |= change
    path.write_text(json.dumps(result))
    runs, (warning,) = finished_runs(tmp_path)
    assert runs == []
    assert reason in warning


def board(root, published=(), **view):
    return build_leaderboard(finished_runs(root)[0], published, View(**view))


def ranks(found):
    return [(row.label, row.rank) for row in found.rows]


def test_equal_figures_share_a_rank_whatever_was_rounded(run, tmp_path):
    run("a", 0.9)
    run("b", 0.80001)
    run("c", 0.79999)
    run("d", 0.7)
    assert ranks(board(tmp_path)) == [("a", 1), ("b", 2), ("c", 2), ("d", 4)]


def test_a_row_is_ranked_by_the_column_that_is_asked_for(run, tmp_path):
    further = (Metric("speed", 3.0, "points", 10),)
    run("a", 0.9)
    run("a", 0.1, task="other")
    run("b", 0.8)
    run("b", 0.2, task="other", further=further)
    run("c", 0.99)
    by_first = [("b", 1), ("a", 2), ("c", None)]
    assert ranks(board(tmp_path)) == by_first
    assert ranks(board(tmp_path, sort="other")) == by_first
    assert ranks(board(tmp_path, sort="quiz/test acc")) == [("c", 1), ("a", 2), ("b", 3)]
    assert ranks(board(tmp_path, sort="quiz/test")) == [("c", 1), ("a", 2), ("b", 3)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_has_no_rank_and_is_no_best(run, tmp_path, value):
    run("odd", value)
    run("some", 0.1)
    found = board(tmp_path)
    assert ranks(found) == [("some", 1), ("odd", None)]
    assert "Infinity" not in leaderboard_text(found, "json")
    assert (
        json.loads(leaderboard_text(found, "json"))["rows"][1]["cells"]["quiz/test acc"]["value"]
        is None
    )


def test_tasks_and_models_are_chosen_and_empty_groups_left_out(run, tmp_path):
    run("a", 0.9)
    run("a", 0.3, task="mini_sqa")
    run("b", 0.8, blind=True)
    found = board(tmp_path, tasks=("quiz", "mini"))
    assert [group.name for group in found.groups] == ["quiz/test", "mini_sqa/test"]
    assert ranks(board(tmp_path, tasks=("mini_sqa/test",))) == [("a", 1)]
    found = board(tmp_path, models=("B [Blind]",))
    assert ranks(found) == [("b [blind]", 1)]
    assert [group.name for group in found.groups] == ["quiz/test"]
    assert ranks(board(tmp_path, models=("?", "*blind*"), sort="quiz")) == [
        ("a", 1),
        ("b [blind]", 2),
    ]


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ({"tasks": ("quizz",)}, "no figures of a task 'quizz'; did you mean: quiz?"),
        ({"tasks": ("sqa",)}, "no figures of a task 'sqa'; known: quiz"),
        ({"models": ("n",)}, "no row is called 'n'; known: m"),
        ({"sort": "quiz/test ac"}, "--sort quiz/test ac: no such column is shown; did you mean: "),
    ],
)
def test_what_is_not_there_is_answered_with_the_nearest(run, tmp_path, view, message):
    run("m")
    with pytest.raises(ResultsError, match=re.escape(message)):
        board(tmp_path, **view)


def test_a_task_of_two_splits_needs_its_split_to_sort_by(run, tmp_path):
    run("m", task="sqa")
    figures = [PublishedRow("P", "", "", "sqa", "val", "average", 90.0, "source", "")]
    with pytest.raises(ResultsError, match="there are sqa/test, sqa/val; name one of them"):
        build_leaderboard(finished_runs(tmp_path)[0], figures, View(sort="sqa"))


def test_measured_tasks_rank_before_those_that_papers_alone_have(run, tmp_path):
    run("m", task="mini_sqa", further=(Metric("average", 0.5, "fraction", 10),))
    figures = [
        PublishedRow("P", "", "", "coco_caption", "test", "CIDEr", 130.0, "source", ""),
        PublishedRow("Q", "", "", "mini_sqa", "test", "acc", 60.0, "source", ""),
    ]
    found = build_leaderboard(finished_runs(tmp_path)[0], figures)
    assert found.sort.title == "mini_sqa/test acc"
    assert ranks(found) == [("Q", 1), ("m", 2), ("P", None)]


def test_the_cards_columns_come_in_the_cards_order(run, tmp_path):
    run("m", task="sqa")
    found = board(tmp_path, all_metrics=True)
    names = [column.metric for column in found.columns]
    nine = ["NAT", "SOC", "LAN", "TXT", "IMG", "NO", "G1-6", "G7-12", "average"]
    assert names == ["acc", *nine]


def test_other_options_of_a_task_open_a_row_and_take_nothing_from_the_plain_one(tmp_path):
    answers = [choice(n, n % 3 // 2) for n in range(300)]
    write_run(tmp_path / "plain", answers)
    question = Record("count/1/0", "", "yes", "yes", "Yes", 1.0, ("count",), "count/1")
    write_run(tmp_path / "mme", [question], task="mini_mme")
    logits = write_run(tmp_path / "logits", answers, task_options={"answer_rule": "logits"})
    manifest = json.loads((logits / "manifest.json").read_text())
    manifest["task"]["card"]["options"]["answer_rule"] = "logits"
    manifest["run"]["finished"] = "2026-02-01T00:00:00+00:00"  # the newest
    (logits / "manifest.json").write_text(json.dumps(manifest))
    first, second = build_leaderboard(finished_runs(tmp_path)[0]).rows
    assert first.label == "m"
    assert {column.task for column in first.cells} == {"mini_sqa", "mini_mme"}
    assert second.label.startswith("m [answer_rule=logits")
    assert {column.task for column in second.cells} == {"mini_sqa"}


def test_a_subset_of_the_first_task_takes_the_rank_from_no_row(run, tmp_path):
    run("a", 0.5, task="mini_sqa")
    run("b", 0.6, task="mini_sqa")
    run("b", 1.0, task="mini_caption", scored=4, limit=4)
    found = board(tmp_path)
    assert ranks(found) == [("b", 1), ("a", 2)]
    assert [group.task for group in found.groups] == ["mini_sqa", "mini_caption"]
    asked_for = board(tmp_path, tasks=("mini_caption", "mini_sqa"))
    assert [group.task for group in asked_for.groups] == ["mini_caption", "mini_sqa"]
    assert ranks(asked_for) == [("b", 1), ("a", 2)]


def test_weights_of_several_names_are_one_row_under_the_newest(run, tmp_path):
    weights = {"fingerprint": "a" * 16, "task": "mini_sqa"}
    trained = {"adapter": "/home/me/out/lr1/adapter"}
    run("m", 0.5, card=trained, finished="2026-01-01T00:00:00+00:00", **weights)
    assert ranks(board(tmp_path)) == [("m [adapter=lr1/adapter]", 1)]
    run("m", 0.5, finished="2026-01-02T00:00:00+00:00", **weights)
    assert ranks(board(tmp_path)) == [("m", 1)]
    run("paper", 0.5, blind=True, finished="2026-01-03T00:00:00+00:00", **weights)
    assert {label for label, _ in ranks(board(tmp_path))} == {"paper", "paper [blind]"}


def test_adapters_of_one_name_are_told_apart_by_their_folders(run, tmp_path):
    run(value=0.8, fingerprint="a" * 16, card={"adapter": "/x/one/a.pth"})
    run(value=0.7, fingerprint="b" * 16, card={"adapter": "/x/two/a.pth"})
    labels = [label for label, _ in ranks(board(tmp_path))]
    assert labels == ["m [adapter=one/a.pth]", "m [adapter=two/a.pth]"]


def test_one_adapter_is_no_other_one_on_another_task(run, tmp_path):
    card = {"adapters": {"default": {"path": "adapter"}}}
    run(value=0.8, fingerprint="a" * 16, card=card)
    run(value=0.7, fingerprint="b" * 16, card=card, task="other")
    assert {label for label, _ in ranks(board(tmp_path))} == {"m [aaaaaaaa]", "m [bbbbbbbb]"}


def test_an_interval_of_few_redrawn_units_is_not_shown(run, tmp_path):
    shown = {"scored": 10, "low": 0.4, "high": 0.6}
    run("redrawn", 0.5, interval="bootstrap of images", **shown)
    run("wilson", 0.5, interval="Wilson", **shown)
    run("units", 0.5, interval="bootstrap of images", low=0.4, high=0.6, scored=60, units=19)
    run("enough", 0.5, interval="bootstrap of images", low=0.4, high=0.6, scored=60, units=20)
    found = board(tmp_path)
    (column,) = found.columns
    cells = {row.label: row.cells[column] for row in found.rows}
    assert {name for name, cell in cells.items() if cell.shown_interval} == {"wilson", "enough"}
    assert {name for name, cell in cells.items() if cell.low is not None} == {"wilson", "enough"}
    text = leaderboard_text(found, "md")
    assert "no interval where a figure has fewer than 20 independent units." in text


def test_a_board_of_subsets_says_that_none_has_a_rank(run, tmp_path):
    run("a", 0.9, scored=4)
    found = board(tmp_path)
    for form in ("table", "md", "html", "latex"):
        text = leaderboard_text(found, form)
        assert "o row has a rank: no run covers a whole split" in text
        assert "anked by" not in text
        assert "at worst" not in text
        assert "best" not in text


def test_a_run_that_ranks_by_its_worst_shows_it(run, tmp_path):
    metrics = run("a", 0.9, scored=9, failed=1, max_failed=1) / "metrics.json"
    stored = json.loads(metrics.read_text())
    stored["metrics"][0]["if_wrong"] = 0.8125
    metrics.write_text(json.dumps(stored))
    run("b", 0.85)
    found = board(tmp_path)
    assert ranks(found) == [("b", 1), ("a", 2)]
    for form in ("table", "md", "html", "latex"):
        assert "at worst 81.25" in leaderboard_text(found, form)
    page = leaderboard_text(found, "html")
    sorted_by = re.findall(r'<td class="first figure [^>]* data-value="([\d.]+)"', page)
    assert sorted_by == ["85.0", "81.25"]


def test_a_row_without_a_rank_names_the_column_that_others_would_have_it_by(run, tmp_path):
    run("a", 0.9, scored=4)
    run("a", 0.5, task="other")
    text = leaderboard_text(board(tmp_path, sort="quiz"), "md")
    assert "no row has a rank: no row has a whole figure of quiz/test acc." in text


def test_where_less_is_better_the_lowest_is_first_and_best(tmp_path, monkeypatch):
    from adem_bench.tasks.scienceqa.task import ScienceQA

    monkeypatch.setattr(ScienceQA, "lower_is_better", ("average",))
    for model, wrong in (("high", 1), ("low", 9)):
        records = [choice(n, int(n < wrong)) for n in range(300)]
        write_run(tmp_path / model, records, model=model)
    found = board(tmp_path)
    assert ranks(found) == [("low", 1), ("high", 2)]
    bests = [row.label for row in found.rows if found.is_best(found.sort, row.cells[found.sort])]
    assert bests == ["low"]
    assert 'aria-sort="ascending"' in leaderboard_text(found, "html")
