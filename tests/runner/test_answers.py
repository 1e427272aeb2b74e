"""Answers that were paid for once are not asked for again, and never given to another question."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from dataclasses import fields, replace

import pytest
from PIL import Image

from adem_bench.errors import AdemBenchError
from adem_bench.records import Decoding, Part, Request, Response
from adem_bench.runner.answers import STORE, Answers, AnswerStore, ImageDigests
from adem_bench.runner.evaluate import Evaluation, evaluate
from adem_bench.runner.manifest import RunOptions
from support.chat_server import Step, said, serving
from support.processes import several
from support.run_files import read_manifest

ROWS = 10


@pytest.fixture
def server():
    with serving() as script:
        yield script


@pytest.fixture
def task(tmp_path):
    """Writes a task of ten questions on one image each; returns its card.

    The images of all tasks have the same names, in folders of their own, unless told otherwise.
    """

    def write(name, colour="red", images="{}.png"):
        folder = tmp_path / name
        folder.mkdir()
        for index in range(ROWS):
            path = folder / images.format(index)
            Image.new("RGB", (8 + index, 8), colour).save(path)
        rows = [
            {"image": images.format(index), "question": f"Is it {index}?", "answer": "Yes"}
            for index in range(ROWS)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        card = folder / f"{name}.yaml"
        card.write_text("kind: jsonl\nsplit: test\nheadline: accuracy\noptions: {metric: yes_no}\n")
        return card

    return write


@pytest.fixture
def run(server, tmp_path):
    """Runs a task on the server; returns the outcome and how many questions it was asked."""

    def call(card, model=None, settings=(), results="results", **options):
        server.asked.clear()
        evaluation = Evaluation(
            model or f"openai:m@{server.url}",
            (str(card),),
            data_root=card.parent,
            results=tmp_path / results,
            overrides=("model.options.backoff=0.01", "model.options.retries=0", *settings)
            if model is None
            else (),
            options=RunOptions(**options),
        )
        (outcome,) = evaluate(evaluation)
        return outcome, len(server.asked)

    return call


def manifest(outcome):
    return json.loads((outcome.folder / "manifest.json").read_text())


def test_only_what_no_run_has_asked_is_asked(run, task):
    card = task("a")
    assert run(card, limit=6)[1] == 6
    outcome, asked = run(card, limit=10)
    assert (asked, outcome.reused, outcome.resumed) == (4, 6, 0)
    timing = manifest(outcome)["timing"]
    assert (timing["answered"], timing["reused"]) == (10, 6)
    outcome, asked = run(card, limit=8)
    assert (asked, outcome.reused, outcome.result.scored) == (0, 8, 8)
    assert manifest(outcome)["timing"]["samples_per_second"] is None


def test_another_task_with_the_same_questions_on_the_same_images_asks_nothing(run, task):
    run(task("a"))
    outcome, asked = run(task("b", images="other{}.png"))
    assert (asked, outcome.reused) == (0, ROWS)


def test_other_pixels_in_files_of_the_same_names_are_asked_about(run, task):
    first, second = task("a", "red"), task("b", "blue")
    records = [run(card)[0].folder / "samples.jsonl" for card in (first, second)]
    digests = [
        [json.loads(line)["request_digest"] for line in path.read_text().splitlines()]
        for path in records
    ]
    assert digests[0] == digests[1]  # a record knows an image by its name
    assert run(second, fresh=True)[1] == ROWS
    assert run(task("c", "blue"))[1] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"settings": ("model.options.system=Be brief.",)},
        {"settings": ("options.max_new_tokens=9",)},
        {"blind": True},
        {"decoding": Decoding(0.7)},
        {"seed": 1},
        {"fresh": True},
        {"reuse": False},
        {"results": "elsewhere"},
    ],
    ids=str,
)
def test_what_is_asked_otherwise_is_asked(run, task, change):
    card = task("a")
    run(card, limit=4)
    outcome, asked = run(card, limit=5, **change)
    assert (asked, outcome.reused) == (5, 0)


def test_what_was_asked_anew_takes_the_place_of_what_was_known(server, run, task):
    card = task("a")
    run(card, limit=4)
    server.last = lambda asked: Step(said("No"))
    run(card, limit=4, fresh=True)
    outcome, asked = run(card, limit=3)
    assert asked == 0
    assert outcome.result.metric("accuracy").value == 0


def test_what_was_answered_before_a_run_ends_early_is_kept(server, run, task):
    card = task("a")
    server.steps = [Step(said("Yes"))] * 3
    server.last = lambda asked: Step({"error": "pay"}, 402)
    with pytest.raises(AdemBenchError, match="pay"):
        run(card, limit=6, settings=("model.options.concurrency=1",))
    server.last = lambda asked: Step(said("Yes"))
    outcome, asked = run(card, limit=5)
    assert (asked, outcome.reused) == (2, 3)


def test_failures_are_not_kept(server, run, task):
    card = task("a")
    bad, good = Step({"error": "odd"}, 400), Step(said("Yes"))
    server.last = lambda asked: bad if "Is it 2" in str(asked) else good
    outcome, _ = run(card, limit=4)
    assert outcome.result.failed == 1
    outcome, asked = run(card, limit=5)
    assert (asked, outcome.reused, outcome.result.failed) == (2, 3, 1)


def test_without_reuse_nothing_is_kept_and_baselines_keep_nothing(run, task, tmp_path):
    card = task("a")
    run(card, limit=4, reuse=False)
    for model in ("constant:Yes", "majority", "echo"):
        run(card, model)
    assert not (tmp_path / "results" / STORE).exists()


OTHER = {
    "prompt": "Why?",
    "images": (),
    "max_new_tokens": 3,
    "image_normalization": "clip",
    "choices": ("A", "B"),
    "decoding": Decoding(0.5, seed=2),
    "stop_pattern": "x",
    "stop": ("x",),
    "text_stop": "x",
    "parts": (Part("What?"), Part(image=0)),
    "repeat": 1,
}


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"pixels")
    return path


@pytest.fixture
def answers(tmp_path):
    def make(fingerprint="f", seed=0, fresh=False):
        return Answers(tmp_path, fingerprint, seed, fresh)

    return make


def keep(known, asked, response=None):
    known.keep(asked, response or Response("this"))
    known.close()


@pytest.mark.parametrize("name", [field.name for field in fields(Request)])
def test_every_field_of_a_request_is_part_of_the_key(answers, picture, name):
    asked = Request("What?", (picture,))
    keep(answers(), asked)
    assert answers().find(replace(asked)) == Response("this")
    assert answers().find(replace(asked, **{name: OTHER[name]})) is None


def test_model_seed_repeat_and_bytes_are_part_of_the_key(answers, picture):
    asked = Request("What?", (picture,), decoding=Decoding(0.5, seed=1))
    known = answers()
    greedy = replace(asked, decoding=Decoding())
    known.keep(asked, Response("this"))
    known.keep(greedy, Response("this"))
    assert known.find(asked) == Response("this")
    known.close()
    known = answers()
    for other in (answers("g"), answers(seed=1), answers(fresh=True)):
        assert other.find(asked) is None
    assert known.find(replace(asked, repeat=1)) is None
    moved = picture.rename(picture.with_name("b.png"))
    assert known.find(replace(greedy, images=(moved,))) == Response("this")
    # Its random stream begins with the file's name: it would draw otherwise.
    assert known.find(replace(asked, images=(moved,))) is None
    assert known.find(asked) is None  # unreadable
    moved.write_bytes(b"others")
    assert known.find(replace(asked, images=(moved,))) is None


def test_a_response_comes_back_as_it_was(answers):
    whole = Response("\ud835 é\x00", None, ("Q9",), (-1.25, float("-inf")), (3, 4), "stop", "é")
    keep(answers(), Request("a"), whole)
    assert answers().find(Request("a")) == whole
    assert answers().find(Request("\ud835")) is None


def test_an_image_is_read_once_while_it_does_not_change(picture, monkeypatch):
    digests, reads = ImageDigests(), []
    monkeypatch.setattr("adem_bench.runner.answers.sha256", lambda path: reads.append(path) or "d")
    for _ in range(3):
        digests.of(picture)
    assert len(reads) == 1
    picture.write_bytes(b"longer than before")
    digests.of(picture)
    assert len(reads) == 2


def torn(path):
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])


def overwritten(path):
    raw = bytearray(path.read_bytes())
    raw[100:] = b"\xa5" * (len(raw) - 100)
    path.write_bytes(raw)


@pytest.mark.parametrize("damage", [torn, overwritten, lambda path: path.write_bytes(b"no" * 999)])
def test_a_damaged_store_is_set_aside_and_built_anew(run, task, tmp_path, damage):
    card = task("a")
    run(card, limit=4)
    damage(tmp_path / "results" / STORE)
    outcome, asked = run(card, limit=5)
    assert (asked, outcome.result.scored) == (5, 5)
    assert any(
        "was damaged and is now .answers.sqlite.damaged" in w for w in outcome.result.warnings
    )
    outcome, asked = run(card, limit=6)
    assert (asked, outcome.reused) == (1, 5)
    assert not any("damaged" in warning for warning in outcome.result.warnings)


def no_file(path):
    path.unlink()
    path.mkdir()


def later(path):
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


@pytest.mark.parametrize("odd", [no_file, later])
def test_a_store_that_cannot_be_used_is_left_alone(run, task, tmp_path, odd):
    card = task("a")
    run(card, limit=4)
    odd(tmp_path / "results" / STORE)
    outcome, asked = run(card, limit=5)
    assert (asked, outcome.result.scored) == (5, 5)
    assert any("cannot be used" in warning for warning in outcome.result.warnings)
    assert not list(tmp_path.rglob("*.damaged"))


def test_a_row_that_is_not_as_it_was_written_is_not_used(tmp_path):
    store = AnswerStore(tmp_path / STORE)
    store.put({b"key": "text"})
    connection = sqlite3.connect(tmp_path / STORE)
    connection.execute("UPDATE answers SET text = ?", (b"taxt",))
    connection.commit()
    connection.close()
    assert store.get(b"key") is None
    assert store.warnings == []


def test_a_store_that_is_deleted_while_in_use_is_made_again(tmp_path):
    store = AnswerStore(tmp_path / STORE)
    store.put({b"a": "1"})
    (tmp_path / STORE).unlink()
    store.put({b"b": "2"})
    store.put({b"c": "3"})
    assert store.get(b"c") == "3"
    assert AnswerStore(tmp_path / STORE).get(b"c") == "3"


WRITER = """
import sys
from pathlib import Path
from adem_bench.runner.answers import AnswerStore
store, own = AnswerStore(Path(sys.argv[1])), sys.argv[2]
for number in range(60):
    store.put({f"shared{number}".encode(): f"text{number}", f"{own}/{number}".encode(): own})
    assert store.get(f"shared{number}".encode()) == f"text{number}"
assert not store.warnings, store.warnings
"""


def test_processes_share_a_store(tmp_path):
    script = tmp_path / "writer.py"
    script.write_text(WRITER)
    path = tmp_path / STORE
    # Interpreters of their own: a store imports nothing that is slow to.
    started = [
        subprocess.Popen(
            [sys.executable, script, path, str(own)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stderr=subprocess.PIPE,
        )
        for own in range(4)
    ]
    for process in started:
        _, told = process.communicate()
        assert process.returncode == 0, told
    store = AnswerStore(path)
    assert all(store.get(f"{own}/{n}".encode()) == str(own) for own in range(4) for n in range(60))
    assert all(store.get(f"shared{n}".encode()) == f"text{n}" for n in range(60))


@pytest.mark.slow
def test_processes_of_one_run_count_together_what_was_known(command, finish, environment, tmp_path):
    first = finish(command("--limit", 20, results="results"))
    assert first.returncode == 0, first.stderr
    started = several(2, command("--limit", 50), tmp_path / "two", environment)
    done = [process.wait() for process in started]
    assert [each.returncode for each in done] == [0, 0], done
    assert "20 answers were known from other runs" in done[0].stdout
    (fifty,) = (tmp_path / "results").rglob("*limit50*")
    assert read_manifest(fifty)["timing"]["reused"] == 20
