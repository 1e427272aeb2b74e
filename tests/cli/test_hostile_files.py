"""Cards, run folders and adapters that strangers wrote, or that were damaged."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from adem_bench.cards import packaged_folder
from adem_bench.records import Record
from adem_bench.runner.evaluate import Evaluation, evaluate
from adem_bench.runner.manifest import RunOptions
from support.run_writer import write_run


def answers(scores):
    return [
        Record(f"s{place}", "d", "A", 0, 0, float(score), groups=("NAT", "NO", "G1-6"))
        for place, score in enumerate(scores)
    ]


@pytest.fixture
def runs(tmp_path):
    """Two runs of a task, the first of which is edited in tests."""
    write_run(tmp_path / "good", answers([1, 0, 1]), model="good")
    return write_run(tmp_path / "bad", answers([1, 1, 1]), model="bad")


def edit(run, **changes):
    """Edit the first record of a run, whose digests are then taken out of the manifest."""
    samples, manifest = run / "samples.jsonl", run / "manifest.json"
    first, *rest = samples.read_text().splitlines()
    samples.write_text("\n".join([json.dumps(json.loads(first) | changes), *rest, ""]))
    fields = {name: value for name, value in json.loads(manifest.read_text()).items()}
    del fields["files"]
    manifest.write_text(json.dumps(fields))


@pytest.mark.parametrize(
    "change",
    [{"sample_id": [1]}, {"groups": [{}]}, {"choice_logprobs": ["a"]}, {"score": "x"},
     {"response": 5}, {"prediction": {}}, {"reference": {"a": []}}, {"cluster": []}],
)  # fmt: skip
def test_no_edited_record_is_our_bug(adem_bench, runs, change):
    edit(runs, **change)
    for verb in (["report", "."], ["compare", "bad", "good", "--force"], ["leaderboard", "."]):
        done = adem_bench(*verb)
        assert done.code in (0, 2), (verb, done.err)
    assert adem_bench("validate", "bad").code == 1


def test_a_record_that_was_edited_is_neither_scored_nor_gone_on_from(adem_bench, tmp_path):
    run = ("run", "--model", "constant:A", "--tasks", "mini_sqa", "--limit", "4", "--results", "r")
    assert adem_bench(*run).code == 0
    (samples,) = tmp_path.rglob("samples.jsonl")
    edit(samples.parent, reference={"a": []})
    for verb in (run, ("score", samples.parent)):
        done = adem_bench(*verb)
        assert (done.code, "`adem-bench validate" in done.err) == (2, True), done.err


@pytest.mark.parametrize("name", ["manifest.json", "metrics.json"])
@pytest.mark.parametrize("text", ["[" * 3000, "null", "{}", "\ud800"])
def test_no_edited_file_of_a_run_is_our_bug(adem_bench, runs, name, text):
    (runs / name).write_bytes(text.encode(errors="surrogatepass"))
    for verb in (["report", "."], ["compare", "bad", "good"], ["leaderboard", "."]):
        done = adem_bench(*verb)
        assert done.code in (0, 2), (verb, done.err)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("model", "card", "kind"), []),
        (("task", "card", "kind"), []),
        (("task", "card", "kind"), {}),
        (("task", "card", "options"), [1]),
        (("task", "card", "options"), "x"),
        (("identity", "blind"), None),
    ],
)
def test_no_edited_value_of_a_manifest_is_our_bug(adem_bench, runs, place, value):
    manifest = json.loads((runs / "manifest.json").read_text())
    part = manifest
    for name in place[:-1]:
        part = part[name]
    part[place[-1]] = value
    (runs / "manifest.json").write_text(json.dumps(manifest))
    for verb in (["report", "."], ["compare", "bad", "good"], ["leaderboard", "."]):
        done = adem_bench(*verb)
        assert done.code in (0, 2), (verb, done.err)


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """A run that is copied before it is edited."""
    root = tmp_path_factory.mktemp("answered")
    asked = Evaluation("constant:A", ("mini_sqa",), results=root, options=RunOptions(limit=4))
    (outcome,) = evaluate(asked)
    return outcome.folder


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("options", "decoding"), {"heat": 1}), (("options", "decoding"), "x"),
        (("options", "decoding"), {"temperature": "hot"}), (("options", "repeats"), "x"),
        (("decoding",), {"heat": 1}), (("decoding",), [1]), (("decoding",), None),
        (("judge",), []), (("judge",), None), (("judge",), {"card": 1}),
        (("not_scored",), {}), (("not_scored",), True), (("not_scored",), {"warnings": 1}),
        (("identity", "judge"), 1), (("model",), "x"), (("task", "prompt_settings"), [1]),
    ],
)  # fmt: skip
def test_a_manifest_with_a_wrong_part_is_told_by_its_field(
    adem_bench, tmp_path, answered, place, value
):
    run = shutil.copytree(answered, tmp_path / "run")
    manifest = json.loads((run / "manifest.json").read_text())
    part = manifest
    for name in place[:-1]:
        part = part[name]
    part[place[-1]] = value
    (run / "manifest.json").write_text(json.dumps(manifest))
    wrong = f"field '{'.'.join(place)}"
    for verb in (("rerun", run, "--results", "again"), ("score", run)):
        done = adem_bench(*verb)
        assert (done.code, wrong in done.err) == (2, True), done.err
    assert wrong in adem_bench("validate", run).out
    board = adem_bench("leaderboard", run)
    assert board.code in (0, 2)
    assert "Error" not in board.err


def test_figures_that_belong_to_other_records_are_not_shown(adem_bench, runs):
    samples = runs / "samples.jsonl"
    samples.write_text("".join(samples.read_text().splitlines(keepends=True)[:2]))
    board = adem_bench("leaderboard", ".")
    assert "bad" not in board.out
    assert "metrics.json was not made of the records in samples.jsonl" in board.err
    assert adem_bench("compare", "bad", "good").code == 2


def test_a_bad_card_is_named_and_the_others_are_listed(adem_bench, tmp_path):
    folder = tmp_path / "cards"
    folder.mkdir()
    for name, text in {"date": "title: 2001-99-99", "deep": "[" * 3000, "odd": "a\x01"}.items():
        (folder / f"{name}.yaml").write_text(text)
    for verb in ("tasks", "models", "recipes"):
        done = adem_bench(verb, "--include", folder)
        assert (done.code, done.err.count("warning:")) == (0, 3)
        assert "mini" in done.out or "adem" in done.out
    shown = adem_bench("tasks", "show", folder / "date.yaml")
    assert (shown.code, "date.yaml, line 1: not YAML" in shown.err) == (2, True)
    given = adem_bench("tasks", "show", "mini_mme", "--set", "title=2001-99-99")
    assert (given.code, "--set title=2001-99-99" in given.err) == (2, True)


def test_two_cards_of_one_name_are_named_and_the_others_are_listed(adem_bench, tmp_path):
    for place in ("one", "two"):
        for kind, card in (("tasks", "mini_mme"), ("models", "adem-tiny"), ("trainers", "mini")):
            (tmp_path / place / kind).mkdir(parents=True)
            source = packaged_folder(kind) / f"{card}.yaml"
            shutil.copy(source, tmp_path / place / kind / f"twice-{kind}.yaml")
    included = ["--include", tmp_path / "one", "--include", tmp_path / "two"]
    for verb, kind in (("tasks", "tasks"), ("models", "models"), ("recipes", "trainers")):
        done = adem_bench(verb, *included)
        assert (done.code, done.err.count("warning:")) == (0, 1)
        assert f"twice-{kind}' is claimed by both" in done.err
        assert "mini" in done.out or "adem" in done.out
        shown = adem_bench(verb, "show", f"twice-{kind}", *included)
        assert (shown.code, "rename one" in shown.err) == (2, True)
    matched = adem_bench("run", "--model", "majority", "--tasks", "twice*", *included)
    assert (matched.code, "rename one" in matched.err) == (2, True)
    other = adem_bench("tasks", "show", "mini_sqa", *included)
    assert (other.code, other.err) == (0, "")


@pytest.mark.parametrize(
    "text",
    ["[" * 3000, "null", "[]", '{"scales": [1e999]}', f'{{"alpha": {10**400}}}',
     f'{{"language_model_signature": [{10**400}]}}', '{"prompts": [1]}'],
)  # fmt: skip
def test_settings_of_an_adapter_that_cannot_be_are_a_mistake(adem_bench, tmp_path, text):
    adapter = packaged_folder("models") / "adem-tiny" / "adapter"
    shutil.copytree(adapter, tmp_path / "a")
    (tmp_path / "a" / "adapter.json").write_text(text)
    done = adem_bench("convert", "adapter", "a", "o.pth")
    assert (done.code, "adapter.json" in done.err) == (2, True)


@pytest.mark.parametrize(
    "text",
    ["[" * 3000, "limit: 2001-99-99", "limit: 0x_", "limit: !!binary eA==", "a: &a [*a]", "\x01",
     "limit: " + "9" * 400, "seed: " + "9" * 40, "tasks: [[]]", "models: {}", "settings: [1]"],
)  # fmt: skip
def test_no_run_file_is_our_bug(adem_bench, tmp_path, text):
    (tmp_path / "run.yaml").write_text(text)
    chosen = ("--model", "majority", "--tasks", "mini_mme", "--dry-run")
    done = adem_bench("run", "--config", "run.yaml", *chosen)
    assert (done.code, done.err.count("\n")) in ((2, 1), (0, 0)), done.err


@pytest.mark.parametrize("option", [["--seed", "9" * 40], ["--config", "/dev/zero"]])
def test_what_is_larger_than_any_is_refused(adem_bench, option):
    done = adem_bench("run", "--model", "majority", "--tasks", "mini_mme", "--dry-run", *option)
    assert (done.code, "too large" in done.err or "larger than" in done.err) == (2, True)


def test_more_epochs_than_any_training_has_are_refused(adem_bench):
    done = adem_bench("train", "--recipe", "mini", "--set", f"epochs={10**30}", "--output", "o")
    assert (done.code, "epochs" in done.err) == (2, True)


def test_a_limit_may_be_larger_than_any_number_of_samples(adem_bench):
    run = ("run", "--model", "majority", "--tasks", "mini_mme", "--limit", "9" * 40)
    assert adem_bench(*run).code == 0


def test_predictions_are_not_read_from_what_has_no_end(adem_bench):
    done = adem_bench("score", "--task", "mini_mme", "--predictions", "/dev/zero")
    assert (done.code, "is a device or a pipe" in done.err) == (2, True)


@pytest.mark.parametrize("name", ["manifest.json", "metrics.json", "samples.jsonl"])
def test_a_pipe_in_a_run_folder_is_not_waited_for(adem_bench, runs, name):
    (runs / name).unlink()
    os.mkfifo(runs / name)
    for verb in (["report", "."], ["compare", "bad", "good"], ["leaderboard", "."],
                 ["score", "bad"], ["rerun", "bad"]):  # fmt: skip
        done = adem_bench(*verb)
        assert done.code in (0, 2), (verb, done.err)
    assert adem_bench("validate", "bad").code == 1


def test_a_pipe_in_the_place_of_a_log_is_not_waited_for(adem_bench, tmp_path):
    run = ("run", "--model", "constant:A", "--tasks", "mini_sqa", "--limit", "4", "--results", "r")
    assert adem_bench(*run).code == 0
    (log,) = tmp_path.rglob("run.log")
    log.unlink()
    os.mkfifo(log)
    assert adem_bench(*run, "--fresh").code == 0


def test_a_pipe_among_cards_or_data_is_not_waited_for(adem_bench, tmp_path):
    os.mkfifo(tmp_path / "one.yaml")
    (tmp_path / "rows.yaml").write_text(
        "kind: jsonl\nsplit: test\nheadline: f1\noptions: {file: rows.csv, metric: yes_no}\n"
    )
    os.mkfifo(tmp_path / "rows.csv")
    listed = adem_bench("tasks", "--include", ".")
    assert (listed.code, "rows" in listed.out, "one.yaml" in listed.err) == (0, True, True)
    for command in (
        ("tasks", "show", "one.yaml"),
        ("run", "--model", "majority", "--tasks", "rows.yaml", "--data-root", "."),
    ):
        done = adem_bench(*command)
        assert (done.code, "a pipe or a device" in done.err) == (2, True), done.err
