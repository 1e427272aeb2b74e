"""Names of the stand-ins' benchmarks, read without importing them."""

from __future__ import annotations

import json
import sys

import pytest

from adem_bench.cards import expand_tasks
from adem_bench.cli import main
from adem_bench.errors import CardError
from adem_bench.tasks.harnesses import PYTHON_VARIABLE, process
from adem_bench.tasks.harnesses.catalogue import Entry, catalogue, entry_of
from adem_bench.tasks.harnesses.lmms_eval_names import names_in
from adem_bench.tasks.harnesses.process import LMMS_EVAL, VLMEVALKIT
from adem_bench.tasks.harnesses.sizes import sizes


def test_kinds_judges_and_reasons_are_read_from_the_text(stand_ins, monkeypatch, tmp_path):
    # Names that code computes are not there yet, whatever other tests have asked for.
    monkeypatch.setenv("ADEM_BENCH_CACHE", str(tmp_path))
    found = catalogue(VLMEVALKIT)
    assert "vlmeval" not in sys.modules
    about = {name: (one.kind, one.modality, one.judge) for name, one in found.items()}
    assert about == {
        "MME": ("yes_no", "image", "optional"),
        "POPE": ("yes_no", "image", "optional"),
        "Both": ("yes_no", "image", "optional"),
        "COCO_VAL": ("caption", "image", "needed"),
        "Between": ("vqa", "image", "no"),
        "Turns": ("several_turns", "image", "no"),
        "Film": ("vqa", "video", "no"),
    }
    assert {name for name, one in found.items() if not one.refused} == {
        "MME",
        "POPE",
        "Both",
        "Between",
        "COCO_VAL",
    }
    tasks = catalogue(LMMS_EVAL)
    assert "lmms_eval" not in sys.modules
    assert tasks["mini_yes_no"].data == "example/mini"
    reasons = {name: one.refused.split()[-1] for name, one in tasks.items() if one.refused}
    assert reasons == {"mini_film": "videos", "mini_rounds": "rounds"}
    assert tasks["mini_judged"].judging == "needed"


def test_names_that_code_computes_are_asked_for_once(stand_ins, monkeypatch, tmp_path):
    monkeypatch.setenv("ADEM_BENCH_CACHE", str(tmp_path))
    assert "Computed_1" not in catalogue(VLMEVALKIT)
    assert entry_of(VLMEVALKIT, "Computed_1").kind == "vqa"
    monkeypatch.setattr("adem_bench.tasks.harnesses.catalogue.run_job", None)
    assert "Computed_0" in catalogue(VLMEVALKIT)
    with pytest.raises(CardError, match=r"no benchmark 'zzz'; `adem-bench tasks list --source"):
        entry_of(VLMEVALKIT, "zzz")
    assert entry_of(VLMEVALKIT, "own").kind == "own"


def test_patterns_and_groups_stand_for_what_can_be_run(stand_ins):
    assert expand_tasks(["lmms_eval:mini_all"]) == [
        "lmms_eval:mini_messages",
        "lmms_eval:mini_server",
    ]
    assert expand_tasks(["vlmevalkit:*O*E"]) == ["vlmevalkit:POPE"]
    assert "lmms_eval:mini_yes_no" in expand_tasks(["lmms_eval:mini_*"])
    with pytest.raises(CardError, match="1 names, none of which can be run: it shows videos"):
        expand_tasks(["lmms_eval:*_film"])
    with pytest.raises(CardError, match="no benchmark like 'nothing_"):
        expand_tasks(["lmms_eval:nothing_*"])


def listed(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["tasks", "list", *arguments])
    assert not stop.value.code
    return capsys.readouterr().out


def test_the_list_is_filtered(stand_ins, capsys):
    shown = listed(capsys, "--source", "vlmevalkit", "--kind", "yes_no", "--search", "m")
    assert [line.split()[0] for line in shown.splitlines()] == ["task", "vlmevalkit:MME", "1"]
    assert "yes_no        6  optional  yes" in shown
    found = json.loads(listed(capsys, "--source", "lmms_eval", "--format", "json"))["tasks"]
    assert {"name": "lmms_eval:mini_yes_no", "judge": "no", "refused": None}.items() <= next(
        one for one in found if one["name"].endswith("mini_yes_no")
    ).items()
    shown = listed(capsys, "--source", "vlmevalkit", "--kind", "caption", "--search", "mme")
    assert shown == "no task of kind caption with 'mme' in its name; kinds are yes_no (1)\n"
    ours = listed(capsys, "--kind", "mme", "--search", "MINI")
    assert [line.split()[0] for line in ours.splitlines()] == ["task", "mini_mme"]


@pytest.mark.parametrize("text", ['{"complete": true', "[]", '{"names": {"MME": {}}}', "[" * 9999])
def test_a_damaged_list_of_names_is_read_anew(stand_ins, monkeypatch, tmp_path, text):
    monkeypatch.setenv("ADEM_BENCH_CACHE", str(tmp_path))
    names = catalogue(VLMEVALKIT)
    [kept] = tmp_path.rglob("names-*.json")
    kept.write_text(text)
    assert catalogue(VLMEVALKIT) == names


def test_sizes_are_those_of_the_data_on_disk_and_else_of_our_cards(
    stand_ins, monkeypatch, tmp_path
):
    monkeypatch.setenv("ADEM_BENCH_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "LMUData"
    data.mkdir()
    monkeypatch.setenv("LMUData", str(data))
    names = {"one": Entry("one", "vqa", "image", "no", samples="7"),
             "both": Entry("both", "vqa", "image", "no", parts="one two"),
             "none": Entry("none", "vqa", "image", "no")}  # fmt: skip
    assert sizes(VLMEVALKIT, list(names.values())) == {"one": 7}
    (data / "one.tsv").write_text('index\tquestion\n1\t"two\nlines"\n2\tone "word\n\n')
    (data / "two.tsv").write_text("index\tquestion\n1\tWhy?")
    assert sizes(VLMEVALKIT, list(names.values())) == {"one": 2, "both": 3}
    monkeypatch.setattr("adem_bench.tasks.harnesses.sizes.MOST_BYTES", 0)
    assert sizes(VLMEVALKIT, list(names.values())) == {"one": 2, "both": 3}
    (data / "two.tsv").write_text("index\tquestion\n1\tWhy?\n2\tWho?\n")
    assert sizes(VLMEVALKIT, list(names.values())) == {"one": 2}
    [kept] = (tmp_path / "cache").rglob("rows.json")
    kept.write_text("{")
    monkeypatch.undo()
    monkeypatch.setenv("ADEM_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LMUData", str(data))
    assert sizes(VLMEVALKIT, list(names.values())) == {"one": 2, "both": 4}


def test_sizes_of_the_hub_are_those_that_a_snapshot_states(monkeypatch, tmp_path):
    monkeypatch.setenv("ADEM_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    card = tmp_path / "datasets--own--rows" / "snapshots" / "0" / "README.md"
    card.parent.mkdir(parents=True)
    splits = [{"name": "test", "num_examples": 12}, {"name": "val", "num_examples": 3}]
    about = [{"config_name": "a", "splits": splits}, {"config_name": "b", "splits": []}]
    card.write_text(f"---\ndataset_info: {json.dumps(about)}\n---\n# Own rows\n")
    asked = {"name": "x", "kind": "generate", "modality": "image", "judge": "no"}
    where = {"data": "own/rows", "config": "a", "split": "test"}
    entries = [Entry(**asked, **where), Entry(**{**asked, "name": "y"}, data="own/rows")]
    assert sizes(LMMS_EVAL, entries) == {"x": 12}


def test_what_is_not_installed_or_too_old_names_the_remedy(stand_ins, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "")
    with pytest.raises(CardError, match=r"lmms-eval is not installed; `pip install 'adem-bench\[l"):
        process.find(LMMS_EVAL)
    monkeypatch.undo()


def test_each_harness_may_have_an_interpreter_of_its_own(stand_ins, monkeypatch, tmp_path):
    monkeypatch.setenv(PYTHON_VARIABLE, f"lmms_eval={tmp_path}/python:{sys.executable}")
    assert process.python_of(VLMEVALKIT) == sys.executable
    with pytest.raises(CardError, match="expected the interpreter of an environment with lmms-ev"):
        process.find(LMMS_EVAL)
    newer = process.Harness(**{**_fields(VLMEVALKIT), "oldest": (0, 0, 21)})
    with pytest.raises(CardError, match=r"ms-vlmeval 0\.0\.20 is too old, 0\.0\.21 or later"):
        process.find(newer)


@pytest.mark.parametrize("named", ["{new}", "vlmevalkit={new}"])
def test_an_interpreter_on_the_command_line_goes_before_the_variables(
    stand_ins, monkeypatch, tmp_path, capsys, named
):
    monkeypatch.setenv(PYTHON_VARIABLE, f"vlmevalkit={sys.executable}:{sys.executable}")
    given = named.format(new=tmp_path / "python")
    with pytest.raises(SystemExit) as stop:
        main(["tasks", "list", "--source", "vlmevalkit", "--harness-python", given])
    assert stop.value.code == 2
    assert f"--harness-python {tmp_path}/python: there is no such file" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["tasks", "list", "--source", "vlmevalkit", "--harness-python", "vlmeval=python"])
    assert stop.value.code == 2
    assert "'vlmeval' is not another harness; did you mean: vlmevalkit" in capsys.readouterr().err


def _fields(harness: process.Harness) -> dict:
    return {name: getattr(harness, name) for name in harness.__slots__}


def test_a_judge_that_a_module_makes_is_found(tmp_path):
    sources = {
        "server": "server = get_server('a')\n\ndef score(a, b):\n    return server.ask(b)",
        "beside": "from x.own import Maker\nit = Maker()\n\ndef score(a, b):\n    return it.ask(b)",
        "helped": "made = AnEvaluator(API_KEY=KEY)\n\ndef score(a, b):\n    return made.read(b)",
        "alone": "server = get_server('openai')\n\ndef score(doc, said):\n    return said == doc",
    }
    (tmp_path / "own.py").write_text("class Maker:\n    server = get_server()\n")
    for name, source in sources.items():
        (tmp_path / f"{name}.py").write_text(source + "\n")
        task = f"task: {name}\nprocess_results: !function {name}.score\n"
        (tmp_path / f"{name}.yaml").write_text(task)
    found = {name: one["judge"] for name, one in names_in(tmp_path).items()}
    assert found == {
        "server": "needed", "beside": "needed", "helped": "optional", "alone": "no"
    }  # fmt: skip


def test_functions_that_a_module_only_hands_on_are_read_where_they_are(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "utils.py").write_text("def shown(doc):\n    return cut(doc['video_id'])\n")
    (tmp_path / "part" / "utils.py").write_text("from utils import *  # noqa\n")
    task = "task: film\ndoc_to_visual: !function utils.shown\n"
    (tmp_path / "part" / "film.yaml").write_text(task)
    assert names_in(tmp_path)["film"]["modality"] == "video"


def test_a_function_that_returns_no_image_shows_none(tmp_path):
    (tmp_path / "utils.py").write_text("def shown(doc, settings=None):\n    return []\n")
    (tmp_path / "drawn.yaml").write_text("task: drawn\ndoc_to_visual: !function utils.shown\n")
    assert names_in(tmp_path)["drawn"]["modality"] == "text"
