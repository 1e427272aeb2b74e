"""Prompts are the published ones, byte for byte."""

import hashlib
import json
from pathlib import Path

import pytest

from adem_bench.tasks.scienceqa.prompt_formats import FORMATS, Texts, render

FIXTURES = Path(__file__).parents[1] / "fixtures"
FIXTURE = FIXTURES / "scienceqa" / "prompts.json"
GOLDEN = json.loads(FIXTURE.read_text())
"""Per format, a digest over prompt and answer of five problems without and with captions, made by
`build_prompt` of the published code (util/base_prompt.py, commit cec09b8)."""


def rendered(prompt_format, problem, captions):
    return render(
        prompt_format,
        Texts(
            question=problem["question"],
            hint=problem["hint"],
            caption=problem["caption"] if captions else "",
            choices=problem["choices"],
            answer="ABCDE"[problem["answer"]],
            lecture=problem["lecture"],
            solution=problem["solution"],
        ),
    )


def test_no_published_format_is_missing():
    assert set(FORMATS) == set(GOLDEN["digests"])


@pytest.mark.parametrize("prompt_format", FORMATS)
def test_every_format_is_the_published_one(prompt_format):
    pairs = [
        rendered(prompt_format, problem, captions)
        for problem in GOLDEN["problems"].values()
        for captions in (False, True)
    ]
    digest = hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:16]
    assert digest == GOLDEN["digests"][prompt_format]


@pytest.mark.parametrize("method", ["lavin", "memvp"])
def test_every_format_is_that_of_lavin_s_and_memvp_s_code(method):
    torch = pytest.importorskip("torch")
    goldens = torch.load(FIXTURES / f"parity_{method}" / "goldens.pt", weights_only=True)
    checked = 0
    for prompt_format, by_captions in goldens["prompt_formats"].items():
        for captions, by_id in by_captions.items():
            for qid, pair in by_id.items():
                problem = {"caption": "", **goldens["problems"][qid]}
                assert list(rendered(prompt_format, problem, captions)) == list(pair)
                checked += 1
    assert checked == len(goldens["prompt_formats"]) * 2 * 3
    assert len(goldens["prompt_formats"]) >= 23


def test_a_prompt_in_full():
    assert rendered("QCM-ALE", GOLDEN["problems"]["1"], True) == (
        "Question: Which is red?\nContext: Look  at the picture.\nIt is small. a ball on a table\n"
        "Options: (A) the ball (B) the cube (C) neither\nResponse:",
        "The answer is B. BECAUSE: Colours differ.\\n\\nSome are warm. The cube is red.\\n"
        "So it is B.",
    )
