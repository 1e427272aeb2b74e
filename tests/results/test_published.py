from __future__ import annotations

import pytest

from adem_bench.cards import load_task_card
from adem_bench.errors import ResultsError
from adem_bench.results.leaderboard.published_figures import COLUMNS, published_rows

HEADER = ",".join(COLUMNS) + "\n"


def value(model, language_model, task, metric):
    found = [
        row.value
        for row in published_rows()
        if (row.model, row.language_model, row.task, row.metric)
        == (model, language_model, task, metric)
    ]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("model", "language_model", "task", "metric", "expected"),
    [
        ("ADEM-VL", "LLaMA-7B", "sqa", "average", 93.85),
        ("ADEM-VL (released weights)", "LLaMA-7B", "sqa", "average", 94.01),
        ("ADEM-VL (released weights)", "LLaMA-7B", "coco_caption", "CIDEr", 130.1),
        ("ADEM-VL", "LLaMA-13B", "mme", "cognition", 270.7),
        ("LaVIN", "13B", "mme", "perception", 963.61),
        ("MemVP", "LLaMA-13B", "sqa", "average", 93.78),
        ("LLaMA-Adapter", "LLaMA-7B", "sqa", "IMG", 80.32),
    ],
)
def test_the_figures_that_people_compare_with_are_there(
    model, language_model, task, metric, expected
):
    assert value(model, language_model, task, metric) == expected


def test_every_figure_has_a_source_and_is_stated_once():
    rows = published_rows()
    keys = [
        (r.model, r.language_model, r.trainable_parameters, r.task, r.split, r.metric) for r in rows
    ]
    assert len(set(keys)) == len(keys)
    assert all(row.source for row in rows)
    assert {row.task for row in rows} == {"sqa", "coco_caption", "mme"}


def test_the_split_of_each_caption_row_is_kept():
    splits = {r.model: r.split for r in published_rows() if r.task == "coco_caption"}
    assert splits["ADEM-VL (released weights)"] == "val"
    assert splits["ADEM-VL"] == "test"


# Sizes of the ScienceQA groups, from its problems.json (test split).
GROUPS = {
    "NAT": 2252, "SOC": 889, "LAN": 1100, "TXT": 2046, "IMG": 2017, "NO": 1435,
    "G1-6": 2724, "G7-12": 1517, "average": 4241,
}  # fmt: skip


def test_scienceqa_figures_are_shares_of_their_groups_or_say_that_they_are_not():
    """A two-decimal percentage must be some whole number of questions; typos are not."""
    for row in published_rows():
        # People answered a part each, so their figure is no share of the whole.
        if row.task == "sqa" and row.model != "Human" and "no whole number" not in row.note:
            size = GROUPS[row.metric]
            near = round(row.value * size / 100)
            possible = {round(100 * n / size, 2) for n in range(near - 2, near + 3)}
            assert row.value in possible, row


def test_every_metric_is_one_that_the_task_of_that_name_reports():
    known = {name: load_task_card(name) for name in ("sqa", "coco_caption", "mme")}
    for row in published_rows():
        card = known[row.task]
        if row.task == "sqa" and row.metric in GROUPS:
            continue
        assert row.metric in (card.headline, *card.columns), row


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,value\n", "line 1: expected the columns model,language_model"),
        (HEADER + "M,,,sqa,test,average,high,paper,\n", "line 2: value 'high': not a number"),
        (HEADER + "M,,,sqa,test,average,90.1,,\n", "line 2: a published figure needs its source"),
        (HEADER + "M,,,sqa\n", "line 2: expected 9 cells"),
        (HEADER + "M,,,sqa,test,average,90.1,paper,,more\n", "line 2: expected 9 cells"),
    ],
)
def test_a_malformed_file_is_refused_with_the_line(tmp_path, text, message):
    path = tmp_path / "published.csv"
    path.write_text(text)
    with pytest.raises(ResultsError) as caught:
        published_rows(path)
    assert str(caught.value).startswith(f"{path}, {message}")


def test_a_missing_file_is_a_clear_error(tmp_path):
    with pytest.raises(ResultsError, match="cannot be read"):
        published_rows(tmp_path / "none.csv")
