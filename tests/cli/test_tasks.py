from __future__ import annotations

import pytest

CARD = """\
title: Mine
kind: scienceqa
split: test
expected: {test: 4241}
headline: average
data: {layout: scienceqa/problems.json, licence: CC, url: "https://example.org"}
"""


@pytest.fixture
def my_cards(tmp_path, monkeypatch, adem_bench):
    folder = tmp_path / "cards" / "tasks"
    folder.mkdir(parents=True)
    monkeypatch.setenv("ADEM_BENCH_INCLUDE", str(tmp_path / "cards"))
    (folder / "mine.yaml").write_text(CARD)
    (folder / "pair.yaml").write_text("tasks: [mine, sqa]\n")
    return folder


def test_tasks_and_groups_are_listed(adem_bench, my_cards):
    listed = adem_bench("tasks")
    assert (listed.code, listed.err) == (0, "")
    rows = {line.split()[0]: line.split() for line in listed.out.splitlines() if line}
    assert rows["mine"] == ["mine", "Mine", "scienceqa", "test", "4241", "average"]
    assert rows["pair"] == ["pair", "mine,", "sqa"]
    assert {"sqa", "coco_caption", "mme"} <= set(rows)


def test_an_unreadable_card_is_named_and_the_others_are_listed(adem_bench, my_cards):
    (my_cards / "torn.yaml").write_text(CARD + "splitt: x\n")
    listed = adem_bench("tasks")
    assert listed.code == 0
    assert "mine" in listed.out
    assert "torn.yaml, line 7: unknown field 'splitt'; did you mean: split?" in listed.err


def test_show_says_where_the_data_is_to_be_had_and_what_is_missing(adem_bench, my_cards):
    shown = adem_bench("tasks", "show", "mine", "--data-root", "d")
    assert shown.code == 0
    fields = {line.split("  ")[0]: line for line in shown.out.splitlines()}
    assert "https://example.org" in fields["data source"]
    assert "test 4241" in fields["expected samples"]
    assert "no: " in fields["data on disk"]
    assert "problems.json" in fields["data on disk"]


def test_show_of_a_group_names_its_members(adem_bench, my_cards):
    assert adem_bench("tasks", "show", "pair").out == "pair is a group: mine, sqa\n"


@pytest.mark.parametrize("task", ["sqa", "coco_caption", "mme"])
def test_every_benchmark_says_what_it_needs(adem_bench, task):
    shown = adem_bench("tasks", "show", task)
    assert shown.code == 0
    for field in ("data layout", "data source", "expected samples", "headline"):
        assert f"\n{field} " in shown.out
    assert "no: " in shown.out


def test_data_for_training_is_listed_and_shown_as_such(adem_bench, tmp_path):
    rows = {line.split()[0]: line for line in adem_bench("tasks").out.splitlines() if line}
    assert rows["lavin_instruction"].endswith("none: data for training")
    shown = adem_bench("tasks", "show", "lavin_instruction", "--data-root", str(tmp_path))
    assert shown.code == 0
    fields = {line.split("  ")[0]: line for line in shown.out.splitlines()}
    assert "none: data for training" in fields["headline"]
    assert "luogen1996" in fields["data source"]
    assert "no: " in fields["data on disk"]
    assert "all_data.json is missing" in shown.out
    (tmp_path / "all_data.json").write_text('{"all": []}')
    shown = adem_bench("tasks", "show", "lavin_instruction", "--data-root", str(tmp_path))
    assert f"yes, below {tmp_path}" in shown.out
    shown = adem_bench("tasks", "show", "mini_instruction")
    assert "comes from the source mini when needed" in shown.out


def test_an_unknown_task_proposes_the_nearest(adem_bench, my_cards):
    shown = adem_bench("tasks", "show", "coco_captoin")
    assert shown.code == 2
    assert shown.err.startswith("error: unknown task 'coco_captoin'; did you mean: coco_caption")


@pytest.mark.parametrize(
    ("name", "wrong", "nearest"),
    [
        ("mini_sqa", "prompt_format=foo", "Q-AE"),
        ("mini_mme", "headline=zzzz", "code_reasoning"),
        ("mmbench", "options.zzz=1", "circular"),
    ],
)
def test_an_unknown_name_points_to_the_command_that_lists_them_all(
    adem_bench, name, wrong, nearest
):
    shown = adem_bench("tasks", "show", name, "--set", wrong)
    assert shown.code == 2
    assert "; the nearest: " in shown.err
    assert len(shown.err) < 250
    command = shown.err.partition("`adem-bench ")[2].partition("`")[0].split()
    listed = " ".join(adem_bench(*command).out.split())
    assert nearest in listed
