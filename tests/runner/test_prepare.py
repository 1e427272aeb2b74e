"""What is wrong with an evaluation is found before anything is loaded, and all of it at once."""

from __future__ import annotations

import weakref

import pytest

from adem_bench.errors import CardError, DataError, SeveralErrors
from adem_bench.models.base import Model, build_model
from adem_bench.runner import evaluate as module
from adem_bench.runner.evaluate import (
    Evaluation,
    evaluate_each,
    evaluate_prepared,
    prepare_all,
)
from adem_bench.runner.manifest import RunOptions


def test_all_that_is_wrong_is_raised_together(tmp_path):
    evaluations = [
        Evaluation("adem-7b", ("sqa", "mme"), data_root=tmp_path),
        Evaluation("echo", ("mini_sqa",), overrides=("options.captoins=false",)),
        Evaluation("adem-tinny", ("sqa",)),
    ]
    with pytest.raises(SeveralErrors) as caught:
        prepare_all(evaluations)
    said = [str(error) for error in caught.value.errors]
    assert len(said) == len(set(said))
    for words in ("scienceqa", "mme", "checkpoint_7B_sqa", "captoins", "adem-tinny"):
        assert [text for text in said if words.lower() in text.lower()], (words, said)


def test_unknown_names_and_a_bad_adapter_are_raised_with_all_else(tmp_path):
    bad = tmp_path / "README.md"
    bad.write_text("no adapter")
    evaluations = [
        Evaluation("adem-tny", ("mini_mem", "mmbench", "mmstra"), data_root=tmp_path),
        Evaluation("adem-7b", ("mini_mem", "mmbench"), data_root=tmp_path, adapter=str(bad)),
    ]
    with pytest.raises(SeveralErrors) as caught:
        prepare_all(evaluations)
    said = [str(error) for error in caught.value.errors]
    assert len(said) == len(set(said))
    wanted = ("'adem-tny'", "'mini_mem'", "'mmstra'", "MMBench", "language model '7B'", str(bad))
    for words in wanted:
        assert [text for text in said if words in text], (words, said)


def test_a_setting_of_the_model_is_named_as_it_was_typed():
    wanted = (
        r"^--set model\.foo=1: unknown field 'foo'.*`adem-bench models show adem-tiny` lists all"
    )
    with pytest.raises(CardError, match=wanted):
        prepare_all([Evaluation("adem-tiny", ("mini_mme",), overrides=("model.foo=1",))])


def test_one_thing_that_is_wrong_is_raised_as_it_is(tmp_path):
    with pytest.raises(DataError):
        prepare_all([Evaluation("echo", ("sqa",), data_root=tmp_path)] * 2)


def test_tasks_without_data_are_left_out_where_that_is_asked_for(mini, tmp_path):
    wanted = Evaluation("echo", ("mini_sqa", "mmbench"), data_root=mini, results=tmp_path)
    (prepared,), skipped = prepare_all([wanted], skip_missing=True)
    assert list(prepared.tasks) == ["mini_sqa"]
    assert len(skipped) == 1
    assert skipped[0].startswith("mmbench: ")
    with pytest.raises(DataError, match="nothing is left to run: mmbench: "):
        prepare_all([Evaluation("echo", ("mmbench",), data_root=mini)], skip_missing=True)
    with pytest.raises(CardError, match="mmbenhc"):
        prepare_all([Evaluation("echo", ("mmbenhc",), data_root=mini)], skip_missing=True)


def test_a_model_that_is_asked_twice_in_a_row_is_loaded_once(mini, tmp_path, monkeypatch):
    loaded = []
    build = module.build_model

    def counted(card, options):
        loaded.append(card.name)
        return build(card, options)

    monkeypatch.setattr(module, "build_model", counted)
    plain, blind = RunOptions(limit=2), RunOptions(limit=2, blind=True)
    evaluations = [
        Evaluation(model, ("mini_mme",), mini, tmp_path, options=options)
        for model, options in [("echo", plain), ("echo", blind), ("majority", plain)]
    ]
    assert len({outcome.folder for _, outcome in evaluate_each(evaluations)}) == 3
    assert loaded == ["echo", "majority"]
    prepared, _ = prepare_all([evaluations[0], evaluations[2], evaluations[0]])
    assert len(list(evaluate_prepared(prepared))) == 3
    assert loaded[2:] == ["echo", "majority", "echo"]


def test_a_model_is_gone_before_the_next_is_loaded(mini, tmp_path, monkeypatch):
    seen: list[weakref.ref[Model]] = []

    def build(card, options):
        assert [model for ref in seen if (model := ref())] == []
        model = build_model(card, options)
        vars(model)["held"] = model  # as models of other packages hold themselves
        seen.append(weakref.ref(model))
        return model

    monkeypatch.setattr(module, "build_model", build)
    options = RunOptions(limit=1)
    given = {"data_root": mini, "results": tmp_path, "options": options}
    models = ("echo", "majority", "adem-tiny", "constant:a")
    formats = (None, None, "matched", None)
    evaluations = [
        Evaluation(model, ("mini_mme", "mini_sqa"), prompt_format=asked, **given)
        for model, asked in zip(models, formats, strict=True)
    ]
    assert len(list(evaluate_each(evaluations))) == 2 * len(models)
    assert len(seen) == len(models)
