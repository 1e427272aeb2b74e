"""Runs whose tokens are drawn: their identity, their labels, and what models do not offer."""

from __future__ import annotations

import json

import pytest

from adem_bench.cards import load_model_card
from adem_bench.errors import CardError
from adem_bench.models.base import resolve_decoding
from adem_bench.models.fused.model import FusedModel
from adem_bench.records import Decoding
from adem_bench.results.progress import no_progress
from adem_bench.results.runs import finished_runs
from adem_bench.results.variants import variants_of
from adem_bench.runner.evaluate import Evaluation, evaluate
from adem_bench.runner.manifest import RunOptions
from adem_bench.runner.rerun import Rerun, rerun
from support.fused import FIXTURES
from support.run_files import read_manifest

SAMPLED = "model.decoding={temperature: 1.5, top_p: 0.9}"


@pytest.fixture
def run(parity_card, mini, tmp_path):
    def call(*overrides, results="results", limit=8, **options):
        found = {name: options.pop(name) for name in ("temperature", "top_p") if name in options}
        evaluation = Evaluation(
            str(parity_card),
            ("mini_sqa",),
            data_root=mini,
            results=tmp_path / results,
            overrides=("options.max_new_tokens=6", *overrides),
            options=RunOptions(limit=limit, decoding=Decoding(**found), **options),
        )
        (outcome,) = evaluate(evaluation)
        return outcome

    return call


def answers(outcome):
    lines = (outcome.folder / "samples.jsonl").read_text().splitlines()
    return {line["sample_id"]: line["response"] for line in map(json.loads, lines)}


def labels(folder):
    runs, warnings = finished_runs(folder)
    assert warnings == []
    return sorted(variant.tags for variant in variants_of(runs))


def test_a_seed_makes_another_run_only_where_tokens_are_drawn(run, tmp_path):
    greedy = run()
    assert run(seed=3).folder == greedy.folder
    assert "decoding" not in read_manifest(tmp_path / "results")["identity"]
    drawn, again, seeded = run(temperature=1.5), run(temperature=1.5), run(temperature=1.5, seed=3)
    assert drawn.folder == again.folder
    assert again.resumed == 8
    assert len({greedy.folder, drawn.folder, seeded.folder}) == 3
    assert len({tuple(answers(one).values()) for one in (greedy, drawn, seeded)}) == 3


def test_drawn_answers_depend_neither_on_the_batch_nor_on_other_samples(run):
    whole = answers(run(temperature=1.5, batch_size=1))
    assert answers(run(temperature=1.5, batch_size=5, results="fives")) == whole
    fewer = answers(run(temperature=1.5, limit=3, results="fewer"))
    assert fewer == {name: whole[name] for name in fewer}


def test_the_size_of_batches_makes_another_run_only_where_answers_depend_on_it(run, tmp_path):
    lavin = FIXTURES / "parity_lavin"
    card = (
        "model.fusion={kind: lavin, batch_routing: first}",
        f"model.vision.path={lavin / 'weights' / 'clip_tiny.pt'}",
        f"model.adapters={{default: {{path: {lavin / 'checkpoint-19.pth'}}}}}",
    )
    assert run(batch_size=3).folder == run(batch_size=4).folder
    assert "batch_size" not in read_manifest(tmp_path / "results")["identity"]
    threes = run(*card, batch_size=3, results="lavin")
    assert read_manifest(tmp_path / "lavin")["identity"]["batch_size"] == 3
    assert run(*card, batch_size=4, results="lavin").folder != threes.folder
    assert any("share a batch" in warning for warning in threes.result.warnings)


def test_a_cards_decoding_is_the_default_and_greedy_a_named_variant(run, tmp_path):
    own = run(SAMPLED)
    assert run(SAMPLED, temperature=1.5, top_p=0.9).folder == own.folder
    other, greedy = run(SAMPLED, temperature=0.7), run(SAMPLED, temperature=0)
    assert len({own.folder, other.folder, greedy.folder}) == 3
    assert answers(greedy) == answers(run(results="plain"))
    manifest = json.loads((own.folder / "manifest.json").read_text())
    assert manifest["decoding"] == {"temperature": 1.5, "top_p": 0.9, "seed": 0}
    assert manifest["identity"]["decoding"] == manifest["decoding"]
    card = ("decoding.temperature=1.5", "decoding.top_p=0.9", "max_new_tokens=6")
    found = [tuple(tag for tag in tags if tag not in card) for tags in labels(tmp_path / "results")]
    assert sorted(found) == [(), ("greedy",), ("temperature=0.7",)]


def test_a_sampled_run_is_repeated_from_its_manifest(run, parity_card, mini, tmp_path):
    original = run(temperature=1.2, top_p=0.8, seed=5)
    job = Rerun(original.folder, tmp_path / "again", mini, model=str(parity_card))
    found = rerun(job, no_progress)
    assert found.same


@pytest.fixture
def resolve(parity_card):
    card = load_model_card(str(parity_card))
    return lambda asked: resolve_decoding(card, FusedModel.decoding_fields, asked)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"top_p": 0.5}, "top_p and top_k have no effect on model parity without a temperature"),
        ({"num_beams": 3}, "num_beams: model parity is of kind fused, which honours seed, temp"),
    ],
)
def test_what_a_model_does_not_offer_is_refused(resolve, given, reason):
    with pytest.raises(CardError, match=reason):
        resolve(Decoding(**given))


def test_a_model_that_draws_nothing_takes_no_temperature(run, parity_card, mini, tmp_path):
    job = Evaluation(
        "echo", ("mini_sqa",), mini, tmp_path, options=RunOptions(decoding=Decoding(0.5))
    )
    with pytest.raises(CardError, match="kind echo, which decodes in its own way; leave the"):
        list(evaluate(job))
    assert not list(tmp_path.iterdir())


def test_what_is_left_open_is_the_cards(resolve):
    assert resolve(Decoding(seed=4)) == Decoding()
    assert resolve(Decoding(0.0)) == Decoding()
    assert resolve(Decoding(0.5, top_p=1.0)) == Decoding(0.5, seed=0)
