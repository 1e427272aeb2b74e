"""A judge of ours in place of the stand-ins' own, which they would ask over the network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adem_bench.cli import main
from adem_bench.errors import DataError
from adem_bench.results.validation.validate import validate_run
from adem_bench.tasks.base import build_task
from adem_bench.tasks.harnesses.task import LmmsEvalTask, VlmEvalKitTask
from support.chat_server import Step, said, serving


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving() as script:
        yield script


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def prompt(asked) -> str:
    content = asked["messages"][-1]["content"]
    return content if isinstance(content, str) else content[0]["text"]


def run_of(results: Path) -> Path:
    [manifest] = results.glob("*/*/*/manifest.json")
    return manifest.parent


def records(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]


def test_vlmevalkits_questions_go_to_our_judge(stand_ins, server, tmp_path, capsys):
    unclear = iter(["Hm.", "No"])

    def judge(asked):
        text = prompt(asked)
        if "{green}" in text:  # is asked again where it cannot be read
            return Step(said(next(unclear)))
        broken = "{black}" in text and not mended
        return Step(b"no", 422) if broken else Step(said("Yes"))

    mended = False
    server.last = judge
    given = ("run", "--model", "constant:Perhaps", "--tasks", "vlmevalkit:MME", "--results")
    given = (*given, tmp_path / "a", "--judge", f"openai:judge@{server.url}", "-q")
    assert command(*given) == 1
    run = run_of(tmp_path / "a")
    # Six rows: No, Yes, Yes, No, Yes, Yes; the judge fails on the fifth.
    assert [record["score"] for record in records(run)] == [0, 1, 0, 0, None, 1]
    assert records(run)[4]["error"].startswith("the judge failed: HTTP 422")
    metrics = json.loads((run / "metrics.json").read_text())
    overall = metrics["metrics"][0]
    assert (overall["value"], overall["count"]) == (pytest.approx(40), 5)
    assert (metrics["scored"], metrics["failed"]) == (5, 1)
    assert not any("by exact matching" in text for text in metrics["warnings"])
    assert overall["note"] == "ms-vlmeval 0.0.20"
    kept = [json.loads(line) for line in (run / "judge.jsonl").read_text().splitlines()]
    assert sorted(line["sample_id"] for line in kept) == ["0", "1", "2", "2", "3", "4", "5"]
    assert not any("hello" in line["prompt"] for line in kept)
    assert server.asked[0]["max_tokens"] == 7
    mended, asked = True, len(server.asked)
    assert command(*given) == 0
    assert len(server.asked) == asked + 1
    assert [record["score"] for record in records(run)] == [0, 1, 0, 0, 1, 1]
    assert not validate_run(run).issues
    assert "judged by openai:judge@" in capsys.readouterr().out


def test_lmms_evals_questions_go_to_our_judge_with_their_images(stand_ins, server, tmp_path):
    server.last = lambda asked: Step(said("1" if "white" in prompt(asked) else "0.5"))
    given = ("--tasks", "lmms_eval:mini_judged", "--results", tmp_path / "a", "-q")
    run = ("run", "--model", "constant:Perhaps", *given)
    assert command(*run) == 2
    assert not (tmp_path / "a").exists()
    assert command(*run, "--judge", f"openai:judge@{server.url}") == 0
    folder = run_of(tmp_path / "a")
    assert [record["score"] for record in records(folder)] == [0.5, 0.5, 0.5, 1, 0.5, 0.5]
    assert server.asked[0]["messages"][0] == {"role": "system", "content": "Be fair."}
    assert server.asked[0]["messages"][1]["content"][1]["type"] == "image_url"


def test_what_their_code_will_ask_is_measured_before_a_run(
    stand_ins, server, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    prices = "input_price: 1000, output_price: 5000"
    Path("priced.yaml").write_text(
        f"kind: openai\noptions: {{source: 'm@{server.url}', {prices}}}\n"
    )
    given = ("run", "--model", "constant:Perhaps", "--judge", "priced.yaml", "--dry-run")

    def task(name: str) -> dict:
        assert command(*given, "--tasks", name, "--format", "json") == 0
        [[found]] = [model["tasks"] for model in json.loads(capsys.readouterr().out)["models"]]
        return found

    found = task("vlmevalkit:MME")
    assert found["judge_cost"]["basis"].startswith(
        "about, by what its code asks of 6 made-up answers"
    )
    # Six questions that show an answer of 128 words, each answered in 7 tokens.
    least, most = (6 * (tokens * 1000 + 7 * 5000) / 1e6 for tokens in (128, 200))
    assert least < found["judge_cost"]["value"] < most
    assert found["judge_unknown"] == ""

    def fails(*given):
        raise DataError("no such column")

    monkeypatch.setattr(VlmEvalKitTask, "score_set", fails)
    found = task("vlmevalkit:MME")
    assert found["judge_cost"] is None
    assert found["judge_unknown"].endswith(
        "made-up answers to see what it is asked failed: no such column"
    )
    assert not server.asked
    assert not Path("results").exists()


@pytest.mark.slow
def test_answers_are_kept_for_a_judge_that_is_named_later(stand_ins, server, tmp_path):
    task = ("--tasks", "lmms_eval:mini_judged", "--results", tmp_path / "a", "-q")
    assert command("run", "--model", "constant:Perhaps", *task, "--predict-only") == 0
    kept = run_of(tmp_path / "a")
    assert command("score", kept) == 2
    server.last = lambda asked: Step(said("1"))
    assert command("score", kept, "--judge", f"openai:judge@{server.url}") == 0
    [judged] = [path.parent for path in kept.parent.glob("*/metrics.json")]
    assert judged != kept
    assert {record["score"] for record in records(judged)} == {1}


@pytest.mark.slow
def test_a_question_that_is_about_no_sample_ends_scoring(stand_ins, server, tmp_path, capsys):
    server.last = lambda asked: Step(b"no", 422)
    given = ("run", "--model", "constant:A", "--tasks", "vlmevalkit:COCO_VAL", "--results")
    given = (*given, tmp_path / "a", "-q", "--judge", f"openai:judge@{server.url}")
    assert command(*given) == 2
    assert "a question that is not about one sample: HTTP 422" in capsys.readouterr().err
    server.last = lambda asked: Step(said("0.5"))
    assert command(*given) == 0
    metrics = json.loads((run_of(tmp_path / "a") / "metrics.json").read_text())
    assert metrics["metrics"][0]["value"] == 0.5


@pytest.mark.slow
def test_code_that_asks_in_another_way_leaves_a_sample_without_a_score(stand_ins, server, tmp_path):
    server.last = lambda asked: Step(said("1"))
    given = ("run", "--model", "constant:A", "--tasks", "lmms_eval:mini_judged_otherwise")
    given = (*given, "--results", tmp_path / "a", "-q", "--judge", f"openai:judge@{server.url}")
    assert command(*given) == 1
    found = records(run_of(tmp_path / "a"))
    assert [record["score"] for record in found] == [1, 1, 1, None, 1, 1]
    assert "another way than by chat completions" in found[3]["error"]


def test_a_judge_that_nothing_tells_of_ends_the_scoring(stand_ins, tmp_path, monkeypatch):
    monkeypatch.setattr(LmmsEvalTask, "judging", "no")
    task = build_task("lmms_eval:mini_judged", None)
    file = tmp_path / "predictions.jsonl"
    rows = ({"id": sample.id, "response": "Yes"} for sample in task.samples())
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="its code asks a judge model"):
        task.score_set(task.import_predictions(file), tmp_path / "scoring")


@pytest.mark.slow
def test_a_judge_with_weights_reads_the_answers(stand_ins, tmp_path, capsys):
    from support.tiny_hf import llava

    llava(tmp_path / "tiny")
    given = ("run", "--model", "constant:A", "--tasks", "vlmevalkit:MME", "--results")
    given = (*given, tmp_path / "a", "-q", "--judge", f"hf:{tmp_path / 'tiny'}", "--device", "cpu")
    assert command(*given) == 0, capsys.readouterr().err
    run = run_of(tmp_path / "a")
    kept = (run / "judge.jsonl").read_text()
    said_of = {line["sample_id"]: line["answer"] for line in map(json.loads, kept.splitlines())}
    assert sorted(said_of) == list("012345")  # some twice: it says neither yes nor no
    assert all(said_of.values())
    about = json.loads((run / "manifest.json").read_text())["judge"]
    assert (about["card"]["kind"], about["questions"], about["failed"]) == ("hf", 12, 0)
    # What it says is a prediction, as any judge's words: 12 of them are neither Yes nor No.
    assert [record["score"] for record in records(run)] == [1, 0, 0, 1, 0, 0]
    assert not validate_run(run).issues
    assert command(*given) == 0
    assert (run / "judge.jsonl").read_text() == kept
