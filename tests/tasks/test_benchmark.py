"""What a task has from the base class alone: a few lines are a whole task."""

from __future__ import annotations

import json

import pytest

from adem_bench import Benchmark, Prediction, Sample
from adem_bench.data.reading import RowError
from adem_bench.errors import CardError, DataError, PredictionsError
from adem_bench.schemas import TaskCard
from adem_bench.tasks.benchmark import TrainableBenchmark

ROWS = [
    {"id": "a", "question": "What {animal}?", "answer": "cat", "kind": "small"},
    {"id": "b", "question": "And this?", "answer": "dog", "kind": "small"},
    {"id": "c", "question": "And that?", "answer": "cat", "kind": "large"},
]


class Animals(TrainableBenchmark):
    """One word is right or wrong."""

    def annotation_files(self):
        return [self.data_root / "animals.jsonl"]

    def sample(self, row):
        if not row["answer"]:
            raise RowError("nobody knows")
        groups = (row["kind"],) if "kind" in row else ()
        return Sample(row["id"], {"question": row["question"]}, row["answer"], groups=groups)

    def parse_response(self, sample, response):
        return Prediction(response.text, float(response.text == sample.reference))

    def training_answers(self, sample):
        return [sample.reference]


@pytest.fixture
def animals(write, root):
    """The task on rows, which may be texts of lines."""

    def build(*rows, **fields) -> Animals:
        lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        write("animals.jsonl", "\n".join(lines))
        card = {"name": "animals", "kind": "animals", "split": "test", "headline": "accuracy"}
        return Animals(TaskCard(**{**card, **fields}), root)

    return build


def test_mean_score_groups_and_majority_are_figured_out(animals, answered):
    task = animals(*ROWS)
    result = task.aggregate(answered(task, "cat"))
    found = {metric.name: (metric.value, metric.count) for metric in result.metrics}
    assert found == {
        "accuracy": (pytest.approx(2 / 3), 3),
        "majority": (pytest.approx(2 / 3), 3),
        "small": (0.5, 2),
        "large": (1.0, 1),
    }
    assert all(m.low is not None for m in result.metrics if m.name != "majority")
    assert result.complete
    statistics = task.statistics(task.card, answered(task, "cat"))
    assert statistics.value("small") == 0.5
    assert statistics.units == ("a", "b", "c")


def test_prompts_are_the_templates_with_the_question(animals):
    (first, *_) = samples = list(animals(*ROWS).samples())
    assert len(samples) == 3
    asked = animals(*ROWS).request(first)
    assert asked.prompt == "Instruction: What {animal}?\nResponse:"
    assert asked.max_new_tokens == 16
    plain = animals(*ROWS, prompt_format="question", options={"max_new_tokens": 3}).request(first)
    assert (plain.prompt, plain.max_new_tokens) == ("What {animal}?", 3)


def test_rows_that_cannot_be_asked_are_listed_once_with_their_line(animals):
    task = animals(ROWS[0], "{", {**ROWS[1], "answer": ""}, ROWS[0], {"id": "d"})
    assert [sample.id for sample in task.samples()] == ["a"]
    assert [sample.id for sample in task.samples()] == ["a"]
    assert {row.id: row.reason for row in task.skipped_rows()} == {
        "animals.jsonl:2": "animals.jsonl, line 2: it is not JSON (Expecting property name "
        "enclosed in double quotes, character 2)",
        "animals.jsonl:3": "animals.jsonl, line 3: nobody knows",
        "animals.jsonl:4": "animals.jsonl, line 4: id 'a' appears twice",
        "animals.jsonl:5": "animals.jsonl, line 5: it has no column `answer`; it has id",
    }
    assert task.num_expected == 5


def test_what_a_fingerprint_reads_is_not_listed(animals):
    task = animals(ROWS[0], "{")
    assert len(task.fingerprint()) == 16
    assert task.skipped_rows() == ()


def test_the_fingerprint_changes_with_file_and_images(animals, root):
    before = animals(*ROWS).fingerprint()
    assert animals(*ROWS).fingerprint() == before
    assert animals(*ROWS[:2]).fingerprint() != before


def test_rows_none_of_which_fits_are_a_mistake(animals):
    with pytest.raises(DataError, match=r"no row can be used.*line 1: it has no column `answer`"):
        animals({"id": 1}, {"id": 2}).fingerprint()


def test_exported_responses_come_back_as_the_same_records(animals, answered, tmp_path):
    task = animals(*ROWS)
    records = answered(task, "cat")
    (path,) = task.export(records, tmp_path)
    assert json.loads(path.read_text().splitlines()[0]) == {"id": "a", "response": "cat"}
    assert task.aggregate(task.import_predictions(path)) == task.aggregate(records)
    for name, content in (
        ("given.csv", "id,response\na,cat\nb,\n"),
        ("given.json", '[{"id": "a", "response": "cat"}, {"id": "b", "response": ""}]'),
    ):
        (tmp_path / name).write_text(content)
        again = task.import_predictions(tmp_path / name)
        assert [(r.sample_id, r.score) for r in again] == [("a", 1.0), ("b", 0.0)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": "a"', "line 1: it is not JSON"),
        ('{"id": "a", "answer": "cat"}\n{"id": ["a"]}', "line 2: expected {id, response}"),
        ('{"id": "a", "response": 1}', "line 1: expected {id, response}"),
        ('{"id": "a", "response": "x"}\n' * 2, "line 2: id 'a' was answered further up"),
        ('{"id": "z", "response": "x"}', "1 of 1 ids are not in split test, the first is 'z'"),
        ("", "holds no predictions"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(animals, tmp_path, content, message):
    path = tmp_path / "given.jsonl"
    path.write_text(content)
    with pytest.raises(PredictionsError) as error:
        animals(*ROWS).import_predictions(path)
    assert message in str(error.value)
    with pytest.raises(PredictionsError, match="cannot be read as predictions"):
        animals(*ROWS).import_predictions(tmp_path / "missing.jsonl")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"headline": "acuracy"}, "unknown metric 'acuracy'; did you mean: accuracy"),
        ({"headline": ""}, "has no headline; name one of: accuracy, majority"),
        ({"prompt_format": "chat"}, "unknown prompt format 'chat'"),
        ({"options": {"max_new_token": 3}}, "unknown option 'max_new_token'"),
        ({"options": {"max_new_tokens": 0}}, "cannot be 0"),
    ],
)
def test_cards_are_checked(animals, fields, message):
    with pytest.raises(CardError) as error:
        animals(*ROWS, **fields)
    assert message in str(error.value)


def test_answers_are_training_pairs(animals):
    pair, *rest = animals(*ROWS).training_pairs()
    assert (pair.id, pair.answer, len(rest)) == ("a", "cat", 2)
    assert pair.prompt == "Instruction: What {animal}?\nResponse:"


def test_a_class_without_rows_is_told_what_it_lacks(write, root):
    class Nothing(Benchmark):
        sample = parse_response = lambda self, *given: None

    card = TaskCard(name="n", kind="n", split="test", headline="accuracy")
    with pytest.raises(NotImplementedError, match="Nothing must define annotation_files"):
        Nothing(card, root).fingerprint()
