"""`adem-bench run --dry-run`: what a run would do; nothing is loaded, asked or written."""

from __future__ import annotations

import json
import shutil

import pytest

from adem_bench.runner import evaluate

SERVED = """\
kind: openai
options:
  source: gpt@http://127.0.0.1:9/v1
  input_price: 2.0
  output_price: 10.0
"""


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch):
    """Fail where a model is built for anything but a run."""
    build = evaluate.build_model

    def built(card, options):
        assert card.kind == "constant", "a model was built"
        return build(card, options)

    monkeypatch.setattr(evaluate, "build_model", built)


def files_below(folder):
    return sorted(str(path) for path in folder.rglob("*"))


def test_a_prompt_sizes_and_files_of_each_task_are_shown(adem_bench, mini, tmp_path):
    before = files_below(tmp_path)
    done = adem_bench(
        "run", "--model", "adem-tiny", "--tasks", "mini_sqa,mini_mme", "--data-root", mini,
        "--limit", "20", "--repeats", "2", "--temperature", "0.5", "--dry-run",
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    assert "adem-tiny (kind fused), limit=20, repeats=2, temperature=0.5" in done.out
    assert "  CLIP tower: " in done.out
    assert "  mini_sqa, split test: 40 samples (300 in the split)" in done.out
    assert "at most 1 new tokens, temperature=0.5, seed=0" in done.out
    assert "  | Question: What color is the circle in the picture?\n  | Context" in done.out
    assert done.out.count("  image: ") == 2
    assert "time: not known, no earlier run in the results folder" in done.out
    assert done.out.endswith("2 runs, 80 samples\n")
    assert files_below(tmp_path) == before


def test_blind_runs_show_no_image(adem_bench, mini):
    done = adem_bench(
        "run", "--model", "echo", "--tasks", "mini_mme", "--data-root", mini, "--blind",
        "--dry-run", "--format", "json",
    )  # fmt: skip
    ((task,),) = [model["tasks"] for model in json.loads(done.out)["models"]]
    assert (task["samples"], task["images"], task["cost"]) == (320, [], None)
    assert "Please answer yes or no." in task["prompt"]


def test_cost_is_estimated_from_prices_before_the_first_run(adem_bench, mini, tmp_path):
    (tmp_path / "served.yaml").write_text(SERVED)
    done = adem_bench(
        "run", "--model", "served.yaml", "--tasks", "mini_mme", "--data-root", mini, "--dry-run",
        "--limit", "100", "--format", "json",
    )  # fmt: skip
    (model,) = json.loads(done.out)["models"]
    (task,) = model["tasks"]
    assert model["chats"]
    # 100 answers of at most 64 tokens at 10 a million, and prompts of some 20 tokens each.
    assert 0.064 < task["cost"]["value"] < 0.064 + 100 * 60 * 2e-6
    assert "tokens of images are not counted" in task["cost"]["basis"]


def test_time_and_cost_are_estimated_from_an_earlier_run(adem_bench, mini, tmp_path):
    asked = ("run", "--model", "constant:A", "--tasks", "mini_sqa", "--data-root", mini)
    assert adem_bench(*asked, "--limit", "10").code == 0
    (manifest,) = tmp_path.rglob("manifest.json")
    fields = json.loads(manifest.read_text())
    fields["timing"]["samples_per_second"] = 2.0
    fields["run"] |= {"prompt_tokens": 1000, "answer_tokens": 100, "cost": 0.003}
    fields["model"]["name"] = "served"
    manifest.write_text(json.dumps(fields))
    (tmp_path / "served.yaml").write_text(SERVED)
    done = adem_bench("run", "--model", "served.yaml", *asked[3:], "--dry-run")
    assert done.code == 0, done.err
    folder = manifest.parent.relative_to(tmp_path)
    assert f"time: about 2 min (as fast as {folder})" in done.out
    # 300 samples as 10: 30,000 prompt tokens at 2 and 3,000 answer tokens at 10 a million.
    assert f"cost: 0.09 (tokens as in {folder})" in done.out
    assert done.out.endswith("1 runs, 300 samples; about 2 min; cost 0.09\n")


def test_what_is_missing_is_said_after_the_rest_is_shown(adem_bench, mini, tmp_path):
    asked = ("run", "--model", "adem-7b", "--tasks", "mini_sqa,mmbench", "--data-root", mini)
    done = adem_bench(*asked, "--dry-run")
    assert done.code == 2
    assert "no: " in done.out  # its files
    assert "  | Question:" in done.out
    lines = done.err.splitlines()
    assert all(line.startswith("error: ") for line in lines)
    assert any("MMBench" in line for line in lines)
    assert any("checkpoint_7B" in line for line in lines)
    skipping = adem_bench("run", "--model", "echo", *asked[3:], "--dry-run", "--skip-missing")
    assert skipping.code == 0
    assert skipping.err.startswith("warning: skipped mmbench: ")


def test_the_mini_world_is_made_for_the_moment_alone(adem_bench, mini, tmp_path, monkeypatch):
    monkeypatch.setenv("ADEM_BENCH_CACHE", str(tmp_path / "cache"))
    # What is in the cache is used; what is not is made elsewhere.
    done = adem_bench("run", "--model", "echo", "--tasks", "mini_mme", "--dry-run")
    assert done.code == 0, done.err
    assert "Please answer yes or no." in done.out
    assert not (tmp_path / "cache").exists()
    shutil.copytree(mini, tmp_path / "cache" / "mini-1-test")
    done = adem_bench("run", "--model", "echo", "--tasks", "mini_mme", "--dry-run")
    assert f"image: {tmp_path / 'cache'}" in done.out
