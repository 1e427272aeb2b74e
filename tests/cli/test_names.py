"""What models are called, from the command line to every table."""

from __future__ import annotations

import csv
import io
import json

import pytest
import yaml

from adem_bench.results.run_folder import read_run_file

QUICK = ("--tasks", "mini_sqa", "--limit", 2)


def model_column(adem_bench, *options):
    """Return the labels of a leaderboard's rows."""
    shown = adem_bench("leaderboard", "--format", "csv", *options)
    assert (shown.code, shown.err) == (0, "")
    return [row["model"] for row in csv.DictReader(io.StringIO(shown.out))]


def test_a_name_is_the_same_in_every_table(adem_bench, tmp_path):
    run = ("run", "--model", "constant:A", *QUICK)
    named = adem_bench(*run, "--name", "always A")
    assert named.code == 0
    assert named.out.startswith("always A: mini_sqa")
    assert adem_bench(*run, "--name", "always A", "--blind").code == 0
    assert set(model_column(adem_bench)) == {"always A", "always A [blind]"}
    long = adem_bench("leaderboard", "--format", "long", "--tasks", "mini_sqa").out
    assert {row["label"] for row in csv.DictReader(io.StringIO(long))} == {
        "always A", "always A [blind]",
    }  # fmt: skip
    folders = sorted((tmp_path / "results" / "always_A" / "mini_sqa").iterdir())
    compared = json.loads(adem_bench("compare", *folders, "--format", "json").out)
    assert [run["model"] for run in compared["runs"]] == ["always A [blind]", "always A"]
    refused = adem_bench("leaderboard", "--format", "long", "--tasks", "mini_mme")
    assert (refused.code, "no figures of a task 'mini_mme'" in refused.err) == (2, True)


def test_the_newest_name_wins_and_a_name_stands_for_one_model(adem_bench, tmp_path):
    run = ("run", *QUICK, "--model")
    assert adem_bench(*run, "constant:A").code == 0
    assert model_column(adem_bench) == ["constant:A"]
    assert adem_bench(*run, "constant:A", "--name", "A").code == 0
    (manifest,) = (tmp_path / "results" / "A").rglob("manifest.json")
    fields = read_run_file(manifest)
    assert fields["model"]["card_name"] == "constant:A"
    # Its row is one, whatever the same weights were called before.
    fields["run"]["finished"] = "2099-01-01T00:00:00+00:00"
    manifest.write_text(json.dumps(fields))
    assert model_column(adem_bench) == ["A"]
    taken = adem_bench(*run, "constant:B", "--name", "A")
    assert taken.code == 2
    assert "error: --name A: results/A/mini_sqa/test-limit2-" in taken.err
    assert "is of another model (fingerprint" in taken.err
    assert model_column(adem_bench) == ["A"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--name", "a", "--name", "b"), "--name is given 2 times and --model 1 times"),
        (("--model", "majority", "--name", "a", "--name", "a"), "a name stands for one model"),
        (("--name", " "), "expected visible characters"),
        (("--name", "a\nb"), "expected visible characters"),
        (("--name", "../x"), "no part of a name may be `.` or `..`"),
        (("--name", "a/../../b"), "no part of a name may be `.` or `..`"),
        (("--name", "a\x1b[31m"), "expected visible characters"),
        (("--name", "a" * 101), "has 101 characters"),
    ],
)
def test_names_that_cannot_be_are_refused(adem_bench, options, message):
    failed = adem_bench("run", "--model", "constant:A", *QUICK, *options)
    assert failed.code == 2
    assert message in failed.err


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_trainings_are_called_as_their_outputs(adem_bench, small_mini, parity_card, tmp_path):
    recipe = tmp_path / "mine.yaml"
    fields = {"data": [{"task": "mini_sqa"}], "epochs": 1, "effective_batch": 8, "workers": 0}
    recipe.write_text(yaml.safe_dump(fields))
    where = ("--data-root", small_mini)
    train = ("train", "--recipe", recipe, "--model", parity_card, *where)
    evaluated = ("--eval", "mini_mme")
    first = adem_bench(*train, "--output", "out/lr1", *evaluated)
    assert first.code == 0, first.err
    second = adem_bench(*train, "--output", "out/lr2", "--set", "base_learning_rate=0.1")
    assert second.code == 0, second.err
    for name, limit in (("lr1", ()), ("lr2", ("--limit", 4))):
        card = yaml.safe_load((tmp_path / "out" / name / "model.yaml").read_text())
        assert card["name"] == f"out/{name}"
        run = ("run", "--model", f"out/{name}", "--tasks", "mini_mme", *where, *limit)
        done = adem_bench(*run)
        assert done.code == 0, done.err
        # What training itself evaluated is the same run.
        assert ("320 records were already there" in done.out) == (name == "lr1")
    assert set(model_column(adem_bench)) == {"out/lr1", "out/lr2"}
    taken = adem_bench(*train, "--output", "out/lr3", "--name", "out/lr1")
    assert (taken.code, "is of another model" in taken.err) == (2, True)
    assert not (tmp_path / "out" / "lr3").exists()
    assert adem_bench(*train, "--output", "out/lr1", *evaluated, "--name", "new").code == 0
    assert yaml.safe_load((tmp_path / "out/lr1/model.yaml").read_text())["name"] == "new"
