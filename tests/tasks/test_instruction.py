"""LaVIN's instructions as training data."""

import pytest

from adem_bench.errors import CardError, DataError
from adem_bench.prompts import TEMPLATE
from adem_bench.tasks.base import build_task, build_training_data
from adem_bench.tasks.mme.scores import SUBTASKS


def row(**more):
    fields = {"instruction": "Instruction: Name it.\nResponse:", "answer": "A cat.", "image": None}
    return fields | {"image_source": None, "options": None, "qid": "alpaca_1"} | more


@pytest.fixture
def data(write, root):
    def make(*rows):
        write("all_data.json", {"all": list(rows)})
        return build_training_data("lavin_instruction", root)

    return make


def test_pairs_are_the_files_own_texts(data, root):
    coco = row(qid="gpt4_1", image="000000000009.jpg", image_source="mscoco")
    science = row(qid="17", image="image.png", image_source="sqa")
    plain, seen, asked = data(row(), coco, science).training_pairs()
    assert (plain.prompt, plain.answer) == ("Instruction: Name it.\nResponse:", "A cat.")
    assert plain.images == ()
    assert seen.images == (root / "images/train2014/COCO_train2014_000000000009.jpg",)
    assert asked.images == (root / "images/train/17/image.png",)
    assert seen.image_normalization == "imagenet"


def test_the_published_image_folders_go_first(data, root):
    for folder in ("cocoimages/train", "scienceqa/images/train"):
        (root / folder).mkdir(parents=True)
    made = data(
        row(image="9.jpg", image_source="mscoco"), row(qid="17", image="i.png", image_source="sqa")
    )
    first, second = made.training_pairs()
    assert first.images == (root / "cocoimages/train/COCO_train2014_9.jpg",)
    assert second.images == (root / "scienceqa/images/train/17/image.png",)


def test_malformed_rows_are_named_and_left_out(data):
    made = data(
        row(),
        "text",
        row(answer=None),
        row(image="../../secret.png", image_source="mscoco"),
        row(image="a.png", image_source="flickr"),
        row(image="a.png", image_source="sqa", qid="../1"),
    )
    assert [pair.id for pair in made.training_pairs()] == ["alpaca_1"]
    reasons = [skipped.reason for skipped in made.skipped_rows()]
    assert [reason.split(":")[0] for reason in reasons] == [
        f"all_data.json, row {number}" for number in range(1, 6)
    ]
    assert "expected an object, found str" in reasons[0]
    assert "`instruction` and `answer` must be texts" in reasons[1]
    assert "leaves the image folder" in reasons[2]
    assert "must be mscoco or sqa, found 'flickr'" in reasons[3]
    assert "of '../1' leaves the image folder" in reasons[4]


@pytest.mark.parametrize("content", ["[]", '{"all": 3}', "{"])
def test_another_layout_is_refused(write, root, content):
    write("all_data.json", content)
    with pytest.raises(DataError, match="all_data"):
        list(build_training_data("lavin_instruction", root).training_pairs())


def test_missing_data_says_where_it_is_to_be_had(root):
    for act in ("fingerprint", "training_pairs"):
        with pytest.raises(DataError, match="LaVIN's README"):
            list(getattr(build_training_data("lavin_instruction", root), act)())


def test_the_fingerprint_follows_the_file(data):
    assert data(row()).fingerprint() != data(row(answer="A dog.")).fingerprint()


def test_an_image_without_a_source_is_cocos_as_published(data, root):
    (pair,) = data(row(image="9.jpg")).training_pairs()
    assert pair.images == (root / "images/train2014/COCO_train2014_9.jpg",)


def test_instructions_are_worded_as_mme_asks(data, mme):
    task = build_task("mme", mme(*SUBTASKS))
    sample = next(task.samples())
    assert task.prompt_format == data().prompt_format
    assert task.request(sample).prompt == TEMPLATE.format(question=sample.fields["question"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("split=train", "unknown split 'train'; known: all"),
        ("prompt_format=question", "unknown prompt format 'question'"),
        ("options.captions=false", "unknown option 'captions'"),
    ],
)
def test_settings_that_it_does_not_have_are_refused(root, setting, message):
    with pytest.raises(CardError, match=message):
        build_training_data("lavin_instruction", root, [setting])
