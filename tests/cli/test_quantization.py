"""`--quantization` from the command line to every table."""

from __future__ import annotations

import json
import typing
from pathlib import Path

import pytest

from adem_bench.cli.options import QUANTIZATIONS
from adem_bench.schemas import Quantization

QUICK = ("--tasks", "mini_mme", "--limit", 4, "--log-to", "none")
LABEL = "adem-tiny [quantization=int8-cpu]"


def test_the_options_values_are_those_of_cards():
    assert typing.get_args(Quantization) == QUANTIZATIONS


@pytest.mark.usefixtures("one_thread")
def test_a_quantized_run_is_another_run_that_every_table_names(adem_bench, mini):
    run = ("run", "--model", "adem-tiny", "--data-root", mini, *QUICK)
    done = adem_bench(*run, "--quantization", "int8-cpu")
    assert done.code == 0, done.err
    assert LABEL in adem_bench("leaderboard", "results", "--format", "csv").out
    assert adem_bench(*run).code == 0
    manifests = sorted(Path("results").rglob("manifest.json"))
    models = [json.loads(path.read_text())["model"] for path in manifests]
    assert {model.get("quantization") for model in models} == {None, "int8-cpu"}
    assert len({model["fingerprint"] for model in models}) == 2
    for table in (
        ("leaderboard", "results"),
        ("compare", *(path.parent for path in manifests)),
        ("report", "results", "--output", "report.html"),
    ):
        shown = adem_bench(*table)
        assert shown.code == 0, shown.err
    board = adem_bench("leaderboard", "results", "--format", "csv").out
    assert LABEL in board
    assert "\nadem-tiny," in board
    (quantized,) = (p.parent for p in manifests if "int8-cpu" in p.read_text())
    again = adem_bench("rerun", quantized, "--data-root", mini)
    assert (again.code, again.err) == (0, "")
    assert "environment: the same" in again.out
    other = adem_bench("rerun", quantized, "--data-root", mini, "--quantization", "none")
    assert "model.quantization" in other.out


def test_models_without_frozen_weights_have_none(adem_bench, mini):
    for verb in (("run", "--data-root", mini, *QUICK), ("ask", "Why?")):
        told = adem_bench(*verb, "--model", "echo", "--quantization", "int8-cpu")
        assert told.code == 2
        expected = "--quantization: model echo is of kind echo, which has no quantization"
        assert expected in told.err
    assert adem_bench("run", "--model", "echo", "--data-root", mini, *QUICK).code == 0
    (run,) = (path.parent for path in Path("results").rglob("manifest.json"))
    told = adem_bench("rerun", run, "--data-root", mini, "--quantization", "int8-cpu")
    assert told.code == 2
    assert "which has no quantization; leave the option out" in told.err


def test_another_value_is_refused_with_those_that_there_are(adem_bench):
    told = adem_bench("ask", "--model", "adem-tiny", "--quantization", "int4", "Why?")
    assert told.code == 2
    assert "'none', 'bnb-4bit', 'bnb-8bit', 'int8-cpu'" in told.err


def test_a_card_shows_it(adem_bench):
    shown = adem_bench("models", "show", "adem-tiny", "--set", "quantization=int8-cpu")
    assert "quantization: int8-cpu" in shown.out


@pytest.mark.usefixtures("one_thread")
def test_ask_quantizes(adem_bench, pictures):
    asked = adem_bench(
        "ask", "--model", "adem-tiny", "--image", pictures[0], "--quantization", "int8-cpu",
        "--max-new-tokens", 4, "Is it red?",
    )  # fmt: skip
    assert asked.code == 0, asked.err
    assert asked.out.strip()
