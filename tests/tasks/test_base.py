"""Cards to tasks and to training data, and the mini world as training data."""

import pytest

from adem_bench.errors import CardError
from adem_bench.mini import source
from adem_bench.registry import TASK_KINDS
from adem_bench.tasks.base import build_task, build_training_data

SIZE = 32
MINI = (("mini_sqa", "train"), ("mini_caption", "train"), ("mini_instruction", None))


@pytest.fixture(scope="module")
def made_small(tmp_path_factory):
    """Lets the package make train splits of SIZE items."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADEM_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(source, "TRAIN_SIZE", SIZE)
        yield


def test_data_for_training_is_no_task_to_evaluate(root):
    with pytest.raises(CardError) as error:
        build_task("lavin_instruction", root)
    assert str(error.value) == (
        "task lavin_instruction is data for training and has no score; name it as a `task` of a "
        "recipe's data (`adem-bench train --recipe FILE`)"
    )


def test_a_class_of_a_plug_in_that_is_not_a_task_says_what_it_lacks(write, monkeypatch):
    class Old:
        """A task as version 0.1.0 had them."""

        samples = request = read = aggregate = export = prompt_settings = fingerprint = None

    monkeypatch.setattr(TASK_KINDS, "load", lambda name: Old)
    card = write("old.yaml", "kind: old\nsplit: test\nheadline: accuracy")
    with pytest.raises(CardError) as error:
        build_task(str(card), card.parent)
    assert str(error.value).startswith(
        "task kind old lacks skipped_rows, parse_response, import_predictions; derive its class "
    )


def test_a_kind_without_training_data_says_which_have(root):
    with pytest.raises(CardError) as error:
        build_training_data("mme", root)
    message, _, kinds = str(error.value).partition("; these kinds have: ")
    assert message == "task mme is of kind mme, which has no training data"
    trained = [
        kind for kind in TASK_KINDS.table() if hasattr(TASK_KINDS.load(kind), "training_pairs")
    ]
    assert sorted(kinds.split(", ")) == sorted(trained)
    assert {"scienceqa", "coco_caption", "instruction"} <= set(trained)


def test_a_benchmark_without_a_headline_is_refused(root):
    for build in (build_task, build_training_data):
        with pytest.raises(CardError, match=r"task sqa has no headline; name one of: .*average"):
            build("sqa", root, ["headline=''"])


def test_overrides_split_and_format_reach_the_data(root, science):
    problem = {
        "question": "Which?", "choices": ["this", "that"], "answer": 0, "hint": "", "image": None,
        "grade": "grade2", "subject": "natural science", "lecture": "", "solution": "",
    }  # fmt: skip
    science({"1": problem}, train=["1"])
    data = build_training_data("sqa", root, ["options.captions=false"], "train", "QCM-LEA")
    assert (data.card.split, data.prompt_format) == ("train", "QCM-LEA")
    assert data.prompt_settings() == {"prompt_format": "QCM-LEA", "captions": False}
    assert [pair.answer for pair in data.training_pairs()] == ["The answer is A."]


@pytest.mark.parametrize(
    ("name", "split", "count", "with_image"),
    [
        ("mini_sqa", "train", SIZE, SIZE // 2),
        ("mini_caption", "train", 5 * SIZE, 5 * SIZE),
        ("mini_instruction", None, SIZE, SIZE),
    ],
)
def test_the_mini_worlds_train_splits_are_made_when_asked_for(
    made_small, name, split, count, with_image
):
    data = build_training_data(name, None, split=split)
    pairs = list(data.training_pairs())
    assert len(pairs) == len({pair.id for pair in pairs}) == count
    assert data.skipped_rows() == ()
    images = [image for pair in pairs for image in pair.images]
    assert len(images) == pytest.approx(with_image, abs=3)
    assert all(image.is_file() for image in images)


def test_a_pair_of_each_mini_task_in_full(made_small):
    science, caption, instruction = (
        next(build_training_data(name, None, split=split).training_pairs()) for name, split in MINI
    )
    assert science.prompt.startswith("Question: ")
    assert science.prompt.endswith("\nResponse:")
    assert science.answer in ("The answer is A.", "The answer is B.")
    assert caption.prompt == "a picture of "
    assert caption.answer.startswith("a picture of ")
    assert instruction.prompt.startswith("Instruction: Is there a ")
    assert instruction.prompt.endswith(" Please answer yes or no.\nResponse:")
    assert instruction.answer in ("Yes", "No")


@pytest.mark.parametrize(("name", "split"), MINI)
def test_fingerprints_tell_one_size_of_training_data_from_another(
    made_small, monkeypatch, name, split
):
    first = build_training_data(name, None, split=split).fingerprint()
    assert build_training_data(name, None, split=split).fingerprint() == first
    monkeypatch.setattr(source, "TRAIN_SIZE", SIZE + 32)
    assert build_training_data(name, None, split=split).fingerprint() != first
