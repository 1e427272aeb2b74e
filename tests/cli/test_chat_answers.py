"""Runs of a served model that answers in sentences, from the command line to the records."""

from __future__ import annotations

import json

import pytest

from support.chat_server import Step, said, serving
from support.run_files import read_manifest, read_records


@pytest.fixture
def asked(adem_bench, monkeypatch, tmp_path):
    """Runs a card on a server that says one thing; returns output and results folder."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def call(text, card, *more):
        path = tmp_path / "own.yaml"
        path.write_text(json.dumps({"split": "test", **card}))
        with serving() as server:
            server.last = lambda asked: Step(said(text))
            told = adem_bench(
                "run", "--model", f"openai:m@{server.url}", "--tasks", path,
                "--data-root", tmp_path, "--results", tmp_path / "results", *more,
            )  # fmt: skip
        (folder,) = {file.parent for file in (tmp_path / "results").rglob("samples.jsonl")}
        return told, folder

    return call


def test_a_run_says_by_which_rule_it_was_read(asked, tmp_path):
    rows = [{"question": "What?", "choices": ["a cat", "a rock"], "answer": 1} for _ in range(3)]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    choice = {"metric": "multiple_choice", "image": None}
    card = {"kind": "jsonl", "headline": "accuracy", "options": choice}
    told, folder = asked("A cat has fur. The answer is **B**.", card)
    assert told.code == 0
    assert "options are read by the rule `chat` (docs/answers.md)" in told.out
    assert [record["prediction"] for record in read_records(folder)] == [1, 1, 1]
    manifest = read_manifest(folder)
    assert manifest["identity"]["task_options"]["answer_rule"] == "chat"
    assert manifest["task"]["card"]["options"]["answer_rule"] == "chat"


TSV = """index\timage_path\tquestion\tA\tB\tC\tanswer
0\t\tq\tNone\tleft\t\tA
1\t\tq\tleft\tN/A\tright\tB
2\t\tq\ta\tb\t\tA
"""


def test_options_that_were_shown_count_whatever_their_text(asked, tmp_path):
    (tmp_path / "own.tsv").write_text(TSV)
    card = {"kind": "tsv_multiple_choice", "headline": "accuracy", "options": {"text_only": True}}
    told, folder = asked("A", card)
    assert [record["prediction"] for record in read_records(folder)] == ["A", "A", "A"]
    assert "66.67" in told.out


def test_vlmevalkit_s_older_rule_drops_them_and_counts_the_rows(asked, tmp_path):
    (tmp_path / "own.tsv").write_text(TSV)
    card = {"kind": "tsv_multiple_choice", "headline": "accuracy",
            "options": {"text_only": True, "answer_rule": "vlmevalkit"}}  # fmt: skip
    told, folder = asked("A", card)
    assert [record["prediction"] for record in read_records(folder)] == ["", "A", "A"]
    assert "2 samples met quirk V1 (docs/quirks.md)" in told.out


def test_yes_and_no_in_another_language_are_counted_as_unread(asked, tmp_path):
    rows = [f"{number}\t\tIs it?\tYes" for number in range(4)]
    (tmp_path / "own.tsv").write_text("\n".join(["index\timage_path\tquestion\tanswer", *rows]))
    card = {"kind": "tsv_yes_no", "headline": "accuracy", "options": {"text_only": True}}
    told, folder = asked("Oui", card)
    assert [record["prediction"] for record in read_records(folder)] == ["other"] * 4
    assert "4 of 4 answers say neither yes nor no, and count as wrong" in told.out


YES_NO = {"kind": "jsonl", "headline": "f1", "options": {"metric": "yes_no", "image": None}}
OPEN = {
    "kind": "jsonl",
    "headline": "accuracy",
    "options": {"metric": "exact_match", "image": None},
}


@pytest.fixture
def questions(tmp_path):
    rows = [{"question": "Is it?", "answer": "yes"} for _ in range(3)]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))


@pytest.mark.parametrize("card", [YES_NO, OPEN])
@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("<think>No dog at first sight. A is out.</think>\n\nyes", []),
        ("No dog at first sight.\n</think>\n\nyes", []),
        ("<ponder>No.</ponder>yes", ["--set", "model.options.reasoning_tags=[ponder]"]),
    ],
)
def test_every_task_reads_what_follows_the_reasoning(asked, questions, card, text, more):
    told, folder = asked(text, card, *more)
    assert told.code == 0
    for record in read_records(folder):
        assert (record["prediction"], record["score"]) == ("yes", 1)
        assert (record["response"], record["answer"]) == (text, "yes")
    exported = (folder / "predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["response"] for line in exported] == ["yes"] * 3


def test_reasoning_that_uses_up_the_tokens_fails_and_is_no_wrong_answer(asked, questions):
    told, folder = asked("<think>No dog at first sight, but", YES_NO)
    assert told.code == 1
    assert "failed: 3 samples have no answer" in told.out
    for record in read_records(folder):
        assert record["score"] is None
        assert "raise options.max_new_tokens" in record["error"]


def test_a_tag_that_is_none_is_refused(adem_bench, tmp_path):
    told = adem_bench(
        "run", "--model", "openai:m@http://127.0.0.1:9/v1", "--tasks", "mini_mme",
        "--set", "model.options.reasoning_tags=[a b c]",
    )  # fmt: skip
    assert told.code == 2
    assert "'a b c' is not a tag: expected a name" in told.err
