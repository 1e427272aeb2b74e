"""`adem-bench run` with several models and several tasks at once."""

import re

from adem_bench.results.run_folder import read_run_file

QUICK = ("--limit", 2, "--tasks", "mini_sqa,mini_mme")


def test_every_model_is_evaluated(adem_bench, tmp_path):
    models = ("--model", "majority", "--model", "constant:Yes", "--model", "majority")
    done = adem_bench("run", *models, *QUICK, "--set", "options.captions=true")
    assert (done.code, done.err) == (0, "")
    summary = re.findall(r"^(\S+)(?: \[captions=True\])? +(mini_\w+)/test ", done.out, re.MULTILINE)
    each = [(m, t) for m in ("majority", "constant:Yes") for t in ("mini_sqa", "mini_mme")]
    assert summary == each
    manifests = sorted((tmp_path / "results").rglob("manifest.json"))
    assert len(manifests) == 4
    for path in manifests:
        captions = read_run_file(path)["identity"]["task_options"].get("captions")
        assert captions is (True if "mini_sqa" in str(path) else None)


def test_nothing_is_asked_before_all_is_known_to_be_there(adem_bench, tmp_path):
    failed = adem_bench("run", "--model", "majority", "--model", "nope", *QUICK)
    assert failed.code == 2
    assert "unknown model 'nope'" in failed.err
    assert not (tmp_path / "results").exists()
