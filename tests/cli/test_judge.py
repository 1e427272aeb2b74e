"""A judge on MathVista: what it is asked, what is kept, and what a run with another one is."""

from __future__ import annotations

import csv
import json
from contextlib import closing
from pathlib import Path

import pytest

from adem_bench.results.judgements import JudgeLog
from support.chat_server import Step, said, serving

ROW = {
    "image": "", "question_type": "free_form", "choices": "", "answer_option": "",
    "precision": "", "task": "plane", "skills": "['logic']",
}  # fmt: skip
ROWS = [
    {**ROW, "question": "Hint. How many?", "answer_type": "integer", "answer": "3"},
    {**ROW, "question": "Hint. How far?", "answer_type": "float", "answer": "2.5", "precision": 1},
    {**ROW, "question": "Hint. Which years?", "answer_type": "list", "answer": "[1, 2]"},
    {
        **ROW, "question": "Hint. What is it?", "question_type": "multi_choice", "answer": "a cat",
        "answer_type": "text", "choices": "['a dog', 'a cat']", "answer_option": "B",
    },
]  # fmt: skip
WORDS = {"How many": "3", "How far": "2.50", "Which years": "[1, 2]", "What is it": "(b)"}
ANSWER = "Let me think of it."


@pytest.fixture
def server(monkeypatch):
    """A judge that finds the right answers, in its own way of writing them."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving() as script:
        script.last = lambda asked: Step(said(_found(asked)))
        yield script


def _found(asked) -> str:
    prompt = asked["messages"][-1]["content"]
    assert ANSWER in prompt
    return next(words for question, words in WORDS.items() if f"Hint. {question}" in prompt)


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    from support.tsv_files import RED

    monkeypatch.setenv("LMUData", str(tmp_path / "none"))
    file = tmp_path / "data" / "MathVista_MINI.tsv"
    file.parent.mkdir()
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["index", *ROWS[0]], delimiter="\t")
        writer.writeheader()
        for number, row in enumerate(ROWS):
            writer.writerow({"index": number, **row, "image": RED})
    return file.parent


@pytest.fixture
def run(adem_bench, data, server):
    def call(*more, model=f"constant:{ANSWER}", judge=True):
        judged = ("--judge", f"openai:judge@{server.url}") if judge else ()
        given = ("--data-root", data, "--set", "mathvista.options.check_md5=false")
        return adem_bench(
            "run", "--model", model, "--tasks", "mathvista", *given, *judged, "-q", *more
        )

    return call


def folders() -> list[Path]:
    return sorted(path.parent for path in Path("results").glob("*/*/*/manifest.json"))


def read(folder: Path, name: str):
    return json.loads((folder / name).read_text())


def lines(folder: Path, name: str = "samples.jsonl") -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def test_a_judge_finds_the_answers_and_what_it_said_is_kept(run, server, adem_bench, data):
    told = run()
    assert told.code == 0, told.err
    (folder,) = folders()
    assert [record["score"] for record in lines(folder)] == [1, 1, 1, 1]
    assert [record["prediction"] for record in lines(folder)] == list(WORDS.values())
    kept = lines(folder, "judge.jsonl")
    assert {line["sample_id"]: line["answer"] for line in kept} == {
        str(number): words for number, words in enumerate(WORDS.values())
    }
    assert all(ANSWER in line["prompt"] for line in kept)
    asked = server.asked[0]
    assert (asked["max_tokens"], asked["temperature"]) == (128, 0)
    manifest, metrics = read(folder, "manifest.json"), read(folder, "metrics.json")
    about = manifest["judge"]
    assert (about["questions"], about["failed"]) == (4, 0)
    assert (about["prompt_tokens"], about["answer_tokens"]) == (40, 8)
    judge = f"{about['name']} {about['fingerprint']}"
    assert manifest["identity"]["judge"] == judge
    assert f"judged by {judge}" in metrics["warnings"]
    assert not any("found by rule" in text for text in metrics["warnings"])
    # Scored again, and checked, by what is kept.
    valid = adem_bench("validate", folder, "--data-root", data)
    assert valid.out == f"{folder}: valid, 4 records\n"
    assert adem_bench("score", folder, "--data-root", data).code == 0
    assert run().code == 0
    assert len(server.asked) == 4
    assert read(folder, "metrics.json") == metrics
    edited = (folder / "judge.jsonl").read_text().replace('"answer": "3"', '"answer": "4"')
    (folder / "judge.jsonl").write_text(edited)
    invalid = adem_bench("validate", folder, "--data-root", data)
    assert "score is 1.0, expected 0.0" in invalid.out


def test_without_a_judge_or_with_another_it_is_another_run(run, server, adem_bench, data):
    assert run().code == 0
    assert run(judge=False).code == 0
    first, second = sorted(folders(), key=lambda folder: not (folder / "judge.jsonl").exists())
    assert "found by rule" in " ".join(read(second, "metrics.json")["warnings"])
    refused = adem_bench("compare", first, second)
    assert refused.code == 2
    assert "judge: openai:judge@" in refused.err
    shown = adem_bench("leaderboard", "results").out
    assert "judge=openai:judge@" in shown
    before = {path.name: path.read_bytes() for path in second.iterdir() if path.is_file()}
    other = adem_bench(
        "score", second, "--judge", f"openai:other@{server.url}", "--data-root", data
    )
    assert other.code == 0, other.err
    (third,) = set(folders()) - {first, second}
    assert f"wrote {third}/metrics.json" in other.out
    assert [record["score"] for record in lines(third)] == [1, 1, 1, 1]
    assert not any("found by rule" in text for text in read(third, "metrics.json")["warnings"])
    assert before == {path.name: path.read_bytes() for path in second.iterdir() if path.is_file()}
    assert adem_bench("validate", third, "--data-root", data).code == 0
    # The same command judges that run again, and asks nothing that was answered.
    asked = len(server.asked)
    again = adem_bench("score", third, "--judge", f"openai:other@{server.url}", "--data-root", data)
    assert (again.code, len(server.asked)) == (0, asked)
    repeated = adem_bench("rerun", third, "--data-root", data)
    assert repeated.out.endswith("the same\n"), repeated.out + repeated.err


def test_a_judge_that_fails_leaves_samples_without_a_score(run, server, data, adem_bench):
    def fails(asked):
        broken = "Hint. How far" in asked["messages"][-1]["content"]
        return Step(b"no", 422) if broken else Step(said(_found(asked)))

    server.last = fails
    told = run()
    assert told.code == 1
    assert "the judge failed on 1 of 4 answers" in told.out + told.err
    (folder,) = folders()
    failed = lines(folder)[1]
    assert failed["error"].startswith("the judge failed: HTTP 422")
    assert (failed["response"], failed["score"], failed["prediction"]) == (ANSWER, None, None)
    metrics = read(folder, "metrics.json")
    assert (metrics["scored"], metrics["failed"]) == (3, 1)
    assert metrics["metrics"][0]["if_wrong"] == pytest.approx(3 / 4)
    assert adem_bench("validate", folder, "--data-root", data).code == 0
    # The same command asks the judge again for that one alone, and no model.
    samples = (folder / "samples.jsonl").read_text()
    server.last, asked = (lambda asked: Step(said("2.5"))), len(server.asked)
    assert run().code == 0
    assert len(server.asked) == asked + 1
    assert [record["score"] for record in lines(folder)] == [1, 1, 1, 1]
    assert [line["request_digest"] for line in lines(folder)] == [
        json.loads(line)["request_digest"] for line in samples.splitlines()
    ]


@pytest.mark.parametrize(
    "words", ["</judge>\x00\x1b[31m", "[" * 5000, "9" * 10_000, '{"score": 1}', "ß" * 5000]
)
def test_what_a_judge_says_is_data(run, server, words):
    server.last = lambda asked: Step(said(words))
    assert run().code == 0
    (folder,) = folders()
    assert sum(record["score"] for record in lines(folder)) <= 1
    assert {line["answer"] for line in lines(folder, "judge.jsonl")} == {words}


def test_answers_that_are_plain_ask_no_judge(run, server):
    server.last = lambda asked: Step(said("B"))
    assert run(model="constant:B").code == 0
    (folder,) = folders()
    assert [record["score"] for record in lines(folder)] == [0, 0, 0, 1]
    assert {line["sample_id"] for line in lines(folder, "judge.jsonl")} == {"0", "1", "2"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--tasks", "mini_mme", "--judge", "openai:j@http://127.0.0.1:9/v1"), "asks no judge"),
        (("--tasks", "mini_mme", "--judge", "majority"), "reads no question"),
        (("--tasks", "mini_mme", "--judge", "nobody"), "--judge nobody: "),
    ],
)
def test_a_judge_of_nothing_is_refused_before_anything_is_asked(adem_bench, arguments, words):
    told = adem_bench("run", "--model", "constant:Yes", *arguments)
    assert told.code == 2
    assert words in told.err
    assert told.err.startswith("error: ")
    assert not Path("results").exists()


def test_the_cost_of_judging_is_estimated_before_a_run_and_by_an_earlier_one(run, server, tmp_path):
    card = tmp_path / "priced.yaml"
    prices = "input_price: 1000, output_price: 5000"
    card.write_text(f"kind: openai\noptions: {{source: 'm@{server.url}', {prices}}}\n")
    dry = ("--judge", card, "--dry-run", "--format", "json")

    def estimate(limit=4):
        told = run(*dry, "--limit", limit, judge=False)
        assert told.code == 0, told.err
        [[task]] = [model["tasks"] for model in json.loads(told.out)["models"]]
        assert task["judge"] == "priced"
        return task["judge_cost"]

    first = estimate()
    assert first["basis"] == "at most, by the length of its prompts"
    # Four answers of 128 tokens, each read in another of as many, with a prompt of examples.
    least, most = (4 * (prompt * 1000 + 128 * 5000) / 1e6 for prompt in (300, 2000))
    assert least < first["value"] < most
    assert not server.asked
    assert run("--judge", card, judge=False).code == 0
    [folder] = folders()
    as_before = {"value": (40 * 1000 + 8 * 5000) / 1e6, "basis": f"tokens as in {folder}"}
    assert estimate() == as_before
    assert estimate(2)["value"] == as_before["value"] / 2
    shown = run("--judge", card, "--dry-run", "--limit", 4, judge=False).out
    assert f"  judge: priced, cost 0.08 (tokens as in {folder})" in shown
    assert shown.endswith("1 runs, 4 samples; about 1 s; cost of the judge 0.08\n")


def test_what_was_answered_before_the_judge_refuses_is_kept(run, server, tmp_path):
    card = tmp_path / "one.yaml"
    card.write_text(f"kind: openai\noptions: {{source: 'm@{server.url}', concurrency: 1}}\n")
    server.last = lambda asked: (
        Step(said(_found(asked))) if len(server.asked) <= 2 else Step(b"no", 401)
    )
    assert run("--judge", card, judge=False).code == 2
    [kept] = Path("results").rglob("judge.jsonl")
    assert kept.read_bytes().count(b"\n") == 2
    server.last = lambda asked: Step(said(_found(asked)))
    before = len(server.asked)
    assert run("--judge", card, judge=False).code == 0
    assert len(server.asked) == before + 2


def test_a_torn_log_is_read_to_its_last_whole_line(tmp_path):
    from adem_bench.records import Request, Response
    from adem_bench.tasks.base import Question

    first, second = (Question(name, Request(f"question {name}")) for name in "ab")
    with closing(JudgeLog(tmp_path, "judge 1")) as log:
        log.append(first, Response("yes", tokens=(5, 1)), reused=False)
        log.append(second, Response("no", tokens=(5, 1)), reused=False)
    file = tmp_path / "judge.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    with closing(JudgeLog(tmp_path, "judge 1")) as log:
        assert log.find(first).text == "yes"
        assert log.find(second) is None
        log.append(second, Response("", error="HTTP 500"), reused=False)
    log = JudgeLog(tmp_path, "judge 1")
    assert log.find(second).error == "HTTP 500"
    assert log.counts() == {
        "questions": 2, "failed": 1, "prompt_tokens": 5, "answer_tokens": 1
    }  # fmt: skip
    assert JudgeLog(tmp_path, "judge 2").find(first) is None
