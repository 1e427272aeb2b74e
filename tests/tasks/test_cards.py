"""The packaged cards: each builds its task, and the embedded ones run on data made on the spot."""

import pytest

from adem_bench.cards import expand_tasks, list_cards, load_task_card
from adem_bench.tasks.base import build_task, build_training_data

TASKS = ("sqa", "coco_caption", "mme", "mini_sqa", "mini_mme", "mini_caption")


def test_the_cards_and_groups_are_there():
    assert set(TASKS) <= set(list_cards("tasks"))
    assert expand_tasks(["mini"]) == ["mini_sqa", "mini_mme", "mini_caption"]
    assert expand_tasks(["adem"]) == ["sqa", "mme", "coco_caption"]


@pytest.mark.parametrize("name", ["lavin_instruction", "mini_instruction"])
def test_a_card_for_training_only_has_no_score(name, small_mini):
    card = load_task_card(name)
    assert (card.headline, card.columns, card.split) == ("", (), "all")
    assert card.data.licence
    assert build_training_data(name, small_mini).prompt_format == "instruction"


@pytest.mark.parametrize("name", TASKS)
def test_every_card_builds_and_knows_its_size(name, tmp_path):
    card = load_task_card(name)
    task = build_task(name, tmp_path)
    assert task.num_expected == card.expected[card.split]
    assert card.data.licence
    assert card.headline in card.columns


@pytest.mark.parametrize(("name", "size"), [("mini_sqa", 300), ("mini_mme", 320)])
def test_the_embedded_tasks_make_their_data(answered, name, size):
    task = build_task(name, None)
    records = answered(task, "A no")
    assert len(records) == size
    assert task.skipped_rows() == ()
    result = task.aggregate(records)
    assert result.complete
    assert 0.2 < result.metric(result.headline).value < 0.6


def test_embedded_captions_have_five_references():
    samples = list(build_task("mini_caption", None).samples())
    assert len(samples) == 150
    assert all(len(sample.reference) == 5 for sample in samples)


def test_other_splits_of_the_embedded_data_are_made_too():
    task = build_task("mini_sqa", None, split="minival")
    assert len(list(task.samples())) == task.num_expected == 30
