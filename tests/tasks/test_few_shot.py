"""Prompts that begin with examples of the train split."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adem_bench.errors import CardError, DataError
from adem_bench.records import Part
from adem_bench.results.validation.validate import validate_run
from adem_bench.runner.distributed import Processes
from adem_bench.runner.loop import run_task
from adem_bench.runner.manifest import RunOptions
from adem_bench.tasks.base import build_task, build_training_data
from support.answering import Answering

ROWS = {
    "train": [(f"t{n}", f"What is {n} + 1?", str(n + 1)) for n in range(40)],
    "test": [("a", "What is 3 + 1?", "4"), ("b", "What is 100 + 1?", "101")],
}


class Conversing(Answering):
    request_fields = frozenset({"choices", "parts"})


@pytest.fixture
def sums(tmp_path):
    """A task card of rows without images, next to its files."""
    for split, rows in ROWS.items():
        lines = [json.dumps({"id": i, "question": q, "answer": a}) for i, q, a in rows]
        (tmp_path / f"sums_{split}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    card = tmp_path / "sums.yaml"
    card.write_text(
        "name: sums\nkind: jsonl\nsplit: test\nheadline: accuracy\n"
        "options: {file: 'sums_{split}.jsonl', image: null, answer: answer}\n"
    )
    return card


def few(card, root, number=3, *more, **fields):
    return build_task(str(card), root, [f"options.num_fewshot={number}", *more], **fields)


def test_examples_without_images_are_one_text_before_the_question(sums, tmp_path):
    task, plain = few(sums, tmp_path), build_task(str(sums), tmp_path)
    asked, bare = (next(iter(one.samples())) for one in (task, plain))
    request = task.request(asked)
    *examples, own = request.prompt.split("\n\n")
    assert own == plain.request(bare).prompt
    known = {
        pair.prompt + pair.answer
        for pair in build_training_data(str(sums), tmp_path, split="train").training_pairs()
    }
    assert len(set(examples)) == 3
    assert set(examples) < known
    assert request.parts == ()
    assert task.prompt_settings() == {**plain.prompt_settings(), "num_fewshot": 3}


def test_the_seed_alone_chooses_the_examples(sums, tmp_path):
    def prompts(*more):
        task = few(sums, tmp_path, 3, *more)
        return [task.request(sample).prompt for sample in task.samples()]

    assert prompts() == prompts()
    assert prompts() != prompts("options.fewshot_seed=1")
    shown = [prompt.rpartition("\n\n")[0] for prompt in prompts()]
    assert shown[0] == shown[1]  # the same for every sample


def test_a_sample_is_never_among_its_own_examples(sums, tmp_path):
    task = few(sums, tmp_path, 39, split="train")
    plain = build_task(str(sums), tmp_path, split="train")
    for sample, bare in zip(task.samples(), plain.samples(), strict=True):
        assert task.request(sample).prompt.count(plain.request(bare).prompt) == 1
    too_many = few(sums, tmp_path, 40, split="train")
    first = next(iter(too_many.samples()))
    with pytest.raises(DataError, match="40 examples are wanted, and the train split of sums gave"):
        too_many.request(first)


def test_examples_with_images_are_a_conversation(small_mini):
    task, plain = few("mini_caption", small_mini), build_task("mini_caption", small_mini)
    sample = next(iter(task.samples()))
    request, bare = task.request(sample), plain.request(sample)
    assert len(request.images) == 4
    assert request.images[3:] == bare.images
    assert [part.image for part in request.parts] == [
        0, None, None, 1, None, None, 2, None, None, 3, None,
    ]  # fmt: skip
    assert [part.role for part in request.parts[:3]] == ["user", "user", "assistant"]
    assert request.parts[-2:] == (Part(image=3), Part(bare.prompt))
    train = build_training_data("mini_caption", small_mini, split="train").training_pairs()
    answers = {pair.images[0]: set() for pair in train}
    for pair in build_training_data("mini_caption", small_mini, split="train").training_pairs():
        answers[pair.images[0]].add(pair.answer.strip())
    for place in range(3):
        assert request.parts[3 * place + 2].text in answers[request.images[place]]


def test_an_image_of_the_sample_is_never_among_its_examples(small_mini):
    task = few("mini_caption", small_mini, 8, split="train")
    for sample in task.samples():
        assert sample.images[0] not in task.request(sample).images[:-1]


def test_what_has_no_train_split_says_so(small_mini, sums, tmp_path):
    with pytest.raises(CardError, match="mini_mme has no train split to take examples from"):
        few("mini_mme", small_mini)
    (tmp_path / "sums_train.jsonl").unlink()
    with pytest.raises(DataError, match="num_fewshot: the train split of sums is needed"):
        few(sums, tmp_path).fingerprint()
    with pytest.raises(DataError, match="num_fewshot: task sums has no train split: its data"):
        few(sums, tmp_path, 1, "options.file=sums_test.jsonl").fingerprint()
    with pytest.raises(CardError, match="not before those to learn"):
        build_training_data(str(sums), tmp_path, ["options.num_fewshot=1"])


def run(model, task, results: Path, **options):
    return run_task(model, task, RunOptions(limit=4, **options), results, Processes())


def test_a_model_that_takes_no_conversation_is_refused_before_it_is_asked(small_mini, tmp_path):
    with pytest.raises(CardError, match="num_fewshot, with images"):
        run(Answering(), few("mini_caption", small_mini), tmp_path)
    assert not list(tmp_path.rglob("samples.jsonl"))


@pytest.mark.parametrize("blind", [False, True])
def test_a_run_with_examples_is_another_one_and_valid(small_mini, tmp_path, blind):
    def answer(request):
        shown = [part.image for part in request.parts if part.image is not None]
        assert not request.parts or shown == list(range(len(request.images)))
        return f"a picture of {len(shown)}"

    model = Conversing(answer)
    plain = run(model, build_task("mini_sqa", small_mini), tmp_path, blind=blind)
    shown = run(model, few("mini_sqa", small_mini, 12), tmp_path, blind=blind)
    assert shown.folder != plain.folder
    assert validate_run(shown.folder, small_mini).issues == ()
    lines = [json.loads(line) for line in (shown.folder / "samples.jsonl").open()]
    assert any(line["response"] != "a picture of 0" for line in lines) is not blind
