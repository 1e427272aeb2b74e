"""What a run does once and not again: it reads its data, and walks over what there is."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from functools import cache

import pytest

from adem_bench.models.baselines import Constant
from adem_bench.registry import INCLUDE_VARIABLE
from adem_bench.results.validation.validate import Tasks, validate_run
from adem_bench.runner.evaluate import Evaluation, evaluate
from adem_bench.runner.manifest import RunOptions
from support.own_data import write_own_data
from support.question_files import write_all

KIND = """
from adem_bench.registry import TASK_KINDS
from adem_bench.tasks.mme.task import Mme

@TASK_KINDS.register("counted")
class Counted(Mme):
    @property
    def num_expected(self):
        return sum(1 for _ in self.rows())
"""
CARD = "kind: counted\nsplit: test\nheadline: accuracy\noptions: {subtasks: [existence]}\n"


@cache
def opened():
    """Return a count of the files that this process opens from now on."""
    counts = Counter()

    def note(event, arguments):
        # `open` says a mode; `os.open`, with which it may open a file, says none.
        if event == "open" and isinstance(arguments[0], str) and arguments[1]:
            counts[arguments[0]] += 1

    sys.addaudithook(note)
    return counts


@pytest.fixture
def reads(tmp_path):
    """Runs a baseline on six samples that no card counts; returns how often each file was read."""

    def run(task, root, batch_size):
        counts = opened()
        counts.clear()
        evaluation = Evaluation(
            "constant:Yes",
            (str(task),),
            data_root=root,
            results=tmp_path / f"results-{batch_size}",
            overrides=("expected={}",),
            options=RunOptions(limit=6, batch_size=batch_size, predict_only=True),
        )
        (outcome,) = evaluate(evaluation)
        return outcome, {name: n for name, n in counts.items() if name.startswith(f"{root}/")}

    return run


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    """Small data sets of the vlm-evaluation kinds."""
    return write_all(tmp_path_factory.mktemp("questions"))


def check(reads, task, root, samples):
    """Checks that a run of one sample a batch reads as much as a run of one batch."""
    (outcome, whole), (other, single) = (reads(task, root, size) for size in (None, 1))
    assert outcome.result.scored == other.result.scored == samples
    assert outcome.result.expected == other.result.expected
    assert whole
    assert single == whole


@pytest.mark.parametrize("task", ["mini_mme", "mini_caption", "mini_sqa"])
def test_published_data_is_read_as_often_for_many_batches(reads, mini, task):
    check(reads, task, mini, samples=6)


@pytest.mark.parametrize(
    ("task", "samples"),
    [("vqav2", 4), ("refcoco", 3), ("tallyqa", 2), ("pope", 6), ("vsr", 2), ("ai2d", 3)],
)
def test_a_question_file_is_read_as_often_for_many_batches(reads, questions, task, samples):
    check(reads, task, questions, samples)


def test_a_run_and_its_validation_read_the_questions_no_more_often_than_they_use_them(
    reads, questions
):
    outcome, run = reads("vsr", questions, 1)
    counts = opened()
    counts.clear()
    assert not validate_run(outcome.folder, questions).issues
    file = str(questions / "vsr" / "test.jsonl")
    # Each reading looks at the encoding first; the digest of the data has the file's bytes too.
    assert run[file] == 2 * len(("digest", "images", "questions")) + 1
    assert counts[file] == 2 * len(("digest", "questions")) + 1


def test_the_data_of_runs_of_one_task_is_digested_once(reads, questions):
    (first, _), (second, _) = (reads("vsr", questions, size) for size in (1, 2))
    tasks, counts = Tasks(questions), opened()
    alone, together = [], []
    for folder in (first.folder, second.folder):
        for found, known in ((alone, None), (together, tasks)):
            counts.clear()
            assert not validate_run(folder, questions, known).issues
            found.append(counts[str(questions / "vsr" / "test.jsonl")])
    assert alone[0] == alone[1] == together[0]
    assert together[1] == 2 < together[0]


def test_a_users_rows_are_read_as_often_for_many_batches(reads, tmp_path):
    check(reads, tmp_path / "binary.yaml", write_own_data(tmp_path), samples=6)


def test_a_task_that_counts_by_reading_is_asked_as_often_for_many_batches(
    reads, mini, tmp_path, monkeypatch
):
    """A plug-in's task may keep no count of its own."""
    (tmp_path / "counted.py").write_text(KIND)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "counted.yaml").write_text(CARD)
    monkeypatch.setenv(INCLUDE_VARIABLE, str(tmp_path))
    check(reads, "counted", mini, samples=6)


@pytest.fixture
def frozen(monkeypatch):
    """How many objects the garbage collector passes over, at each question of a run."""
    counts, generate = [], Constant.generate

    def noted(model, requests):
        counts.append(gc.get_freeze_count())
        return generate(model, requests)

    monkeypatch.setattr(Constant, "generate", noted)
    gc.unfreeze()
    yield counts
    gc.freeze()  # as all tests find it


def test_the_garbage_collector_passes_over_libraries_while_a_run_lasts(reads, mini, frozen):
    reads("mini_mme", mini, None)
    assert min(frozen) > 100_000
    assert gc.get_freeze_count() == 0


def test_what_a_caller_has_frozen_stays_so(reads, mini, frozen):
    gc.freeze()
    before = gc.get_freeze_count()
    reads("mini_mme", mini, None)
    # Some of them are let go meanwhile.
    assert max(frozen) <= before
    assert gc.get_freeze_count() > 100_000
