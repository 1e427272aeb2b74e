"""`adem-bench run --config`: models x settings x tasks, parts, JSON, what is wrong in a file."""

from __future__ import annotations

import json

import pytest

SUITE = """\
data-root: {data}
tasks: [mini_sqa, mini_mme]
limit: 4
models:
  - constant:A
  - model: echo
    name: parrot
settings:
  - {{}}
  - blind: true
    set: {{mini_sqa.options.captions: true}}
"""


@pytest.fixture
def suite(tmp_path, mini):
    """Write a run file."""

    def write(text=SUITE, **changes):
        path = tmp_path / "suite.yaml"
        for old, new in changes.items():
            text = text.replace(old, new)
        path.write_text(text.format(data=mini), encoding="utf-8")
        return path

    return write


@pytest.fixture
def runs(adem_bench):
    """Run with `--format json` and return what it prints."""

    def call(*arguments):
        done = adem_bench("run", *arguments, "--format", "json")
        assert done.code == 0, done.err
        return json.loads(done.out)["runs"]

    return call


def test_a_model_is_run_in_a_setting_under_its_name(suite, runs, tmp_path):
    found = runs("--config", suite(), "--part", "4/4")
    assert [run["task"] for run in found] == ["mini_sqa", "mini_mme"]
    for run in found:
        assert run["model"].startswith("parrot ")
        assert "-blind-" in run["folder"]
        assert (run["scored"], run["resumed"]) == (4, 0)
        assert run["headline"] in {metric["name"] for metric in run["metrics"]}
        for path in run["files"].values():
            assert (tmp_path / path).is_file()
    manifest = json.loads((tmp_path / found[0]["files"]["manifest.json"]).read_text())
    assert manifest["identity"]["task_options"]["captions"] is True
    # The same command resumes: no question is asked again.
    assert all(run["resumed"] == 4 for run in runs("--config", suite(), "--part", "4/4"))


def test_the_command_line_goes_before_the_file(suite, runs):
    (run,) = runs(
        "--config", suite(), "--model", "constant:B", "--tasks", "mini_s*", "--limit", 2, "--part",
        "1/2",
    )  # fmt: skip
    assert run["model"] == "constant:B"
    assert (run["task"], run["scored"]) == ("mini_sqa", 2)


@pytest.mark.parametrize("empty", ["", "[]", "''", "','"])
def test_settings_that_say_nothing_are_one_setting(suite, runs, empty):
    text = SUITE[: SUITE.index("settings:")] + f"settings: {empty}\n"
    (run,) = runs("--config", suite(text), "--model", "constant:B", "--tasks", "mini_sqa")
    assert run["scored"] == 4


@pytest.mark.slow
def test_settings_of_a_task_that_is_left_out_do_no_harm(suite, runs):
    found = runs("--config", suite(), "--tasks", "mini_mme", "--model", "constant:A")
    assert [run["task"] for run in found] == ["mini_mme"] * 2


@pytest.mark.slow
def test_parts_share_out_all_runs_and_each_is_done_once(suite, runs):
    config = suite()
    parts = [runs("--config", config, "--limit", 1, "--part", f"{k}/3") for k in (1, 2, 3)]
    folders = [run["folder"] for part in parts for run in part]
    assert sorted(map(len, parts)) == [2, 3, 3]
    assert len(set(folders)) == 8


def test_a_part_without_work_says_so(adem_bench, suite):
    done = adem_bench("run", "--config", suite(), "--tasks", "mini_sqa", "--part", "1/9")
    assert (done.code, done.out) == (0, "")
    assert done.err == "warning: part 1 of 9 has nothing to do: there are 4 runs\n"


@pytest.mark.slow
def test_tasks_whose_data_are_missing_can_be_skipped(adem_bench, suite, runs):
    config = suite(**{"mini_mme": "mmbench", "- blind: true": "- blind: false"})
    refused = adem_bench("run", "--config", config)
    assert refused.code == 2
    assert "mmbench" in refused.err.lower()
    found = runs("--config", config, "--skip-missing")
    assert {run["task"] for run in found} == {"mini_sqa"}
    in_file = suite(SUITE + "skip_missing: true\n", mini_mme="mmbench")
    done = adem_bench("run", "--config", in_file)
    assert done.code == 0
    assert done.err.count("warning: skipped mmbench: ") == 1


def test_everything_that_is_wrong_is_listed_before_anything_runs(adem_bench, suite, tmp_path):
    config = suite(**{"constant:A": "constnt:A", "mini_mme": "mmbench, mmstar"})
    done = adem_bench("run", "--config", config)
    assert (done.code, done.out) == (2, "")
    lines = done.err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("error: ") for line in lines)
    for words in ("constnt", "MMBench", "MMStar"):
        assert words in done.err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"limit:": "limitt:"}, ": unknown key 'limitt'; did you mean: limit"),
        ({"limit: 4": "limit: 0"}, ": limit: 0 is not in the range x>=1"),
        ({"limit: 4": "temperature: .nan"}, ": temperature: 'nan' is not a finite number"),
        ({"limit: 4": "limit: [4]"}, ": limit is [4], expected one value"),
        ({"limit: 4": "limit: true"}, ": limit is True, expected one value"),
        ({"limit: 4": "dtype: int3"}, ": dtype: 'int3' is not one of 'auto'"),
        ({"name: parrot": "nmae: parrot"}, ", models[1]: unknown key 'nmae'; did you mean: name"),
        ({"model: echo": "name: echo2"}, "suite.yaml"),
        ({"model: echo": "batch-size: 2"}, ", models[1]: model is None, expected a text"),
        ({"blind: true": "blind: yes please"}, ", settings[1]: blind is 'yes please', expected"),
        ({"blind: true": "tasks: sqa"}, ", settings[1]: unknown key 'tasks'; it is the same"),
        ({"set: {{": "set: [{{", "true}}": "true}}]"}, ", settings[1]: set is [{'mini_sqa"),
        ({"limit: 4": "config: other.yaml"}, ": unknown key 'config'"),
        ({"limit: 4": "harness-python: python3"}, ": unknown key 'harness_python'"),
        ({"models:": "modells:"}, ": unknown key 'modells'; did you mean: models"),
        ({"settings:": "settings: ["}, "suite.yaml, line"),
        ({"limit: 4": "name: x"}, ": unknown key 'name'; it belongs to an entry of models"),
        ({"limit: 4": "limit: 0.5"}, ": limit: '0.5' is not a whole number of samples"),
        ({SUITE: ""}, "suite.yaml is empty"),
        ({SUITE: "- a\n"}, ": expected a mapping of keys, found list"),
        ({SUITE: "1: a\n"}, ": key 1 is not a text"),
        ({"limit: 4": "batch-size: 1\nbatch_size: 2"}, ": key 'batch_size' appears twice"),
        ({"limit: 4": "limit: 4\nlimit: 8"}, ": not YAML: key 'limit' appears twice, first in"),
        ({SUITE: "tasks: mini\n"}, ": models is missing"),
        ({SUITE: "models: echo\n"}, "name something to run: --tasks in the run file"),
        ({"captions: true": "captoins: true"}, "captoins"),
        ({"captions: true": "captions: 2026-01-01"}, "is a date; put a text in quotes"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_named_with_its_place(adem_bench, suite, change, says):
    done = adem_bench("run", "--config", suite(**change))
    assert (done.code, done.out) == (2, "")
    assert says in done.err, done.err


@pytest.mark.parametrize("part", ["0/2", "3/2", "2", "a/b", "1/0"])
def test_a_part_is_one_of_several(adem_bench, part):
    done = adem_bench("run", "--model", "echo", "--tasks", "mini", "--part", part)
    assert done.code == 2
    assert part in done.err


def test_models_are_named_by_patterns_and_must_be_there(adem_bench):
    done = adem_bench("run", "--model", "adem-tin?", "--tasks", "mini", "--dry-run")
    assert done.code == 0, done.err
    assert "adem-tiny (kind fused)" in done.out
    done = adem_bench("run", "--model", "adem-tinx*", "--tasks", "mini")
    assert done.code == 2
    assert "no model has a name like 'adem-tinx*'; did you mean: adem-tiny" in done.err
    done = adem_bench("run", "--tasks", "mini")
    assert done.code == 2
    assert "name something to run: --model, or --config a run file" in done.err


@pytest.mark.parametrize("edit", [{"model": -1}, {"judge": []}, [], None])
def test_a_finished_run_whose_manifest_was_damaged_gets_a_new_one(adem_bench, tmp_path, edit):
    asked = ("run", "--model", "echo", "--tasks", "mini_sqa", "--limit", 2, "--results", "edited")
    adem_bench(*asked)
    (manifest,) = (tmp_path / "edited").rglob("manifest.json")
    found = manifest.read_text()
    whole = json.loads(found)
    edited = json.dumps(whole | edit if isinstance(edit, dict) else edit)
    manifest.write_text(edited if edit is not None else found[:99])
    assert adem_bench(*asked).code == 0
    assert adem_bench("validate", manifest.parent).code == 0
