from __future__ import annotations

import pytest

from adem_bench.cards import load_model_card
from adem_bench.errors import CardError
from adem_bench.models.base import Baseline, ModelOptions, build_model, check_model
from adem_bench.records import Request, Sample
from adem_bench.runner.evaluate import Evaluation, evaluate
from adem_bench.runner.manifest import RunOptions
from adem_bench.tasks.base import build_task


def model(name):
    return build_model(load_model_card(name), ModelOptions())


def answer(loaded, prompt="Is it red?"):
    (response,) = loaded.generate([Request(prompt)])
    return response.text


def samples(*references):
    return [Sample(str(index), {}, reference) for index, reference in enumerate(references)]


def test_echo_answers_with_the_prompt():
    assert answer(model("echo"), "Is it\nred?") == "Is it\nred?"


def test_constant_answers_with_what_stands_behind_the_colon():
    assert answer(model("constant:It is B: yes")) == "It is B: yes"
    assert model("constant:A").fingerprint() != model("constant:B").fingerprint()


@pytest.mark.parametrize(
    ("references", "text"),
    [
        (["Yes", "No", "No"], "No"),
        ([2, 0, 2], "C"),
        ([True, True, False], "Yes"),
        ([["a dog", "dog"], ["dog", "cat"]], "dog"),
        ([["1", "2"], [2, 3]], "2"),
        (["first", "second"], "first"),
        ([], ""),
    ],
)
def test_majority_writes_the_most_frequent_reference_as_a_task_would_read_it(references, text):
    loaded = model("majority")
    loaded.fit(samples(*references))
    assert answer(loaded) == text
    assert loaded.describe()["answer"] == text


def test_majority_is_fitted_to_each_task_again():
    loaded = model("majority")
    loaded.fit(samples("a", "a", "b"))
    loaded.fit(samples("b"))
    assert answer(loaded) == "b"


def test_majority_without_a_task_says_so():
    with pytest.raises(CardError, match="there is no task here; use it with `adem-bench run`"):
        answer(model("majority"))


def test_only_majority_is_shown_references():
    assert isinstance(model("majority"), Baseline)
    assert not isinstance(model("echo"), Baseline)


@pytest.mark.parametrize("name", ["echo:x", "majority:x"])
def test_what_a_baseline_does_not_read_is_refused(name):
    with pytest.raises(CardError, match="unknown option 'source'"):
        model(name)


@pytest.mark.parametrize("name", ["echo", "majority", "constant:a", "vlmevalkit:Any"])
def test_an_unknown_option_is_refused_before_a_model_is_made(name):
    with pytest.raises(CardError, match="unknown option 'colour'"):
        check_model(load_model_card(name, ["options.colour=red"]), [], None)


@pytest.mark.parametrize("task", ["mini_mme", "mini_sqa"])
def test_majority_scores_what_the_tasks_own_figure_says(task, tmp_path):
    (outcome,) = evaluate(Evaluation("majority", (task,), results=tmp_path))
    result = outcome.result
    accuracy = result.metric("average" if task == "mini_sqa" else "accuracy")
    assert accuracy.value == pytest.approx(result.metric("majority").value)
    assert "looked at the right answers" in " ".join(result.warnings)


def test_the_majority_is_the_whole_splits_whatever_the_limit(tmp_path):
    task = build_task("mini_mme", None)
    loaded = model("majority")
    loaded.fit(task.samples())
    options = RunOptions(limit=1)
    (outcome,) = evaluate(Evaluation("majority", ("mini_mme",), results=tmp_path, options=options))
    line = (outcome.folder / "samples.jsonl").read_text()
    assert f'"response": "{answer(loaded)}"' in line
