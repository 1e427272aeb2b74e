"""What others add: the documentation's package, folders that are included, names that are taken."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import adem_bench.cards as cards_module
from adem_bench.cards import find_card, list_cards, load_task_card
from adem_bench.cli import main
from adem_bench.errors import CardError
from adem_bench.records import Record
from adem_bench.registry import INCLUDE_VARIABLE, METRICS, MODEL_KINDS
from adem_bench.tasks.base import build_task
from adem_bench.tasks.benchmark import added_metrics

ROOT = Path(__file__).resolve().parent.parent
PLUGINS = (ROOT / "docs" / "plugins.md").read_text("utf-8")
SHOUT = re.search(r'```python\n("""shout.*?)```', PLUGINS, re.S).group(1)
CARD = "kind: mme\nsplit: test\nheadline: accuracy\n"
ANSWER = Record("1", "", "YES", "yes", "Yes", 1.0)


@pytest.fixture
def include(monkeypatch):
    """Includes folders for the rest of the test."""

    def name(*folders):
        monkeypatch.setenv(INCLUDE_VARIABLE, os.pathsep.join(map(str, folders)))

    return name


@pytest.fixture
def folder(tmp_path):
    """Makes a folder with files."""

    def make(name, files):
        for place, text in files.items():
            path = tmp_path / name / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path / name

    return make


def test_the_worked_example_runs_from_a_clean_install(folder, tmp_path):
    files = dict(re.findall(r"^`(\S+)`:\n\n```\w+\n(.*?)^```$", PLUGINS, re.M | re.S))
    assert set(files) == {
        "pyproject.toml",
        "pets_bench/__init__.py",
        "pets_bench/cards/tasks/pets.yaml",
    }
    source = folder("source", files)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("pets_bench-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    (command,) = re.findall(r"^adem-bench (.*?) *#.*installed$", PLUGINS, re.M)
    work = folder("work", {"empty": ""})
    done = subprocess.run(
        [sys.executable, "-m", "adem_bench", *command.replace("PETS", "pets").split()],
        cwd=work,
        env={
            "PATH": "",
            "PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{ROOT}",
            "ADEM_BENCH_CACHE": str(tmp_path / "cache"),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (metrics,) = work.glob("results/*/pets/*/metrics.json")
    values = {row["name"]: row["value"] for row in json.loads(metrics.read_text())["metrics"]}
    assert values["accuracy"] == 0.5
    assert values["said_yes"] == 1.0


def test_a_module_of_an_included_folder_adds_a_metric(folder, include):
    include(folder("mine", {"shout.py": SHOUT}))
    card = load_task_card("mini_mme", ["metrics=[shouted]"])
    (metric,) = added_metrics(card, [ANSWER])
    assert (metric.name, metric.value, metric.count) == ("shouted", 1.0, 1)
    assert metric.low is not None


def test_a_folder_counts_only_while_it_is_included(folder, include, monkeypatch):
    include(folder("mine", {"shout.py": SHOUT}))
    assert "shouted" in METRICS.table()
    monkeypatch.delenv(INCLUDE_VARIABLE)
    assert "shouted" not in METRICS.table()
    with pytest.raises(CardError, match="unknown metric 'shouted'"):
        METRICS.load("shouted")


def test_a_package_of_several_files_imports_relatively(folder, include):
    inner = SHOUT.replace('"shouted"', '"loud"')
    include(folder("mine", {"own/__init__.py": "from . import inner\n", "own/inner.py": inner}))
    assert METRICS.load("loud").__name__ == "shouted"


def test_code_of_a_folder_is_not_run_unless_it_is_included(folder, include, monkeypatch):
    place = folder("mine", {"boom.py": "raise SystemError('run')\n", "own.yaml": CARD})
    monkeypatch.chdir(place)
    assert "mme" not in METRICS.table()
    include(place)
    assert "own" in list_cards("tasks")  # listing runs nothing
    with pytest.raises(CardError) as caught:
        METRICS.table()
    assert str(caught.value).startswith(
        f"{place / 'boom.py'}, of an included folder, cannot be run"
    )
    assert "SystemError: run" in str(caught.value)


def test_a_metric_that_fails_loses_nothing(folder, include):
    code = SHOUT.replace('"shouted"', '"broken"').replace(
        "    count =", "    return 1 / 0\n    x ="
    )
    other = SHOUT.replace('"shouted"', '"text"').replace("    count =", "    return 'x'\n    x =")
    include(folder("mine", {"a.py": code, "b.py": other}))
    broken, text = added_metrics(load_task_card("mini_mme", ["metrics=[broken, text]"]), [ANSWER])
    assert (broken.value, broken.note) == (
        None,
        "the plug-in failed (ZeroDivisionError: division by zero)",
    )
    assert text.note == "the plug-in returned str; expected a Metric"


def test_a_lack_of_memory_is_no_fault_of_a_plug_in(folder, include):
    short = SHOUT.replace("    count =", "    raise MemoryError\n    x =")
    include(folder("mine", {"a.py": short}))
    with pytest.raises(MemoryError):
        added_metrics(load_task_card("mini_mme", ["metrics=[shouted]"]), [ANSWER])
    include(folder("other", {"b.py": "raise ImportError('libb.so: failed to map segment')\n"}))
    with pytest.raises(ImportError, match="failed to map segment"):
        METRICS.table()


def test_a_metric_that_is_not_there_shows_before_anything_is_answered(tmp_path):
    with pytest.raises(CardError, match="unknown metric 'nope'; --include DIR and plug-ins add"):
        build_task("mini_mme", tmp_path, ["metrics=[nope]"])


def test_a_kind_claimed_twice_names_both_origins(folder, include):
    first = folder("one", {"a.py": SHOUT})
    second = folder("two", {"b.py": SHOUT})
    include(first, second)
    with pytest.raises(CardError) as caught:
        METRICS.table()
    message = str(caught.value)
    assert message.startswith("metric 'shouted' is claimed by both ")
    assert str(first / "a.py") in message
    assert str(second / "b.py") in message


def test_a_packaged_kind_cannot_be_taken(folder, include):
    head = "from adem_bench.registry import MODEL_KINDS\n\n"
    code = f"{head}@MODEL_KINDS.register('fused')\nclass Mine: pass\n"
    include(folder("mine", {"mine.py": code}))
    with pytest.raises(
        CardError, match=r"model kind 'fused' is claimed by both adem_bench\.models"
    ):
        MODEL_KINDS.load("fused")


def test_cards_lie_in_folders_of_their_kind_or_directly(folder, include):
    files = {
        "tasks/inner.yaml": CARD,
        "outer.yaml": CARD,
        "both.yaml": "tasks: [inner, outer]\n",
        "own-model.yaml": "language_model: {path: lm}\n",
        "own-recipe.yaml": "epochs: 1\ndata: [{task: inner}]\n",
        "unrelated.yaml": "services: {}\n",
    }
    include(folder("mine", files))
    assert {"inner", "outer", "both", "sqa"} <= set(list_cards("tasks"))
    assert "own-model" in list_cards("models")
    assert "own-recipe" in list_cards("trainers")
    known = {name for kind in ("tasks", "models", "trainers") for name in list_cards(kind)}
    assert "unrelated" not in known


def test_two_included_cards_of_one_name_are_an_error_that_names_both(folder, include):
    first = folder("one", {"tasks/own.yaml": CARD})
    second = folder("two", {"own.yaml": CARD})
    include(first, second)
    with pytest.raises(CardError) as caught:
        find_card("tasks", "own")
    assert str(caught.value) == (
        f"task 'own' is claimed by both {first / 'tasks' / 'own.yaml'} and {second / 'own.yaml'}; "
        "rename one"
    )


def test_an_included_card_hides_a_packaged_one(folder, include):
    place = folder("one", {"mme.yaml": CARD})
    include(place, place)  # naming it twice is no clash
    assert find_card("tasks", "mme") == place / "mme.yaml"


def test_a_packages_cards_may_not_take_a_packaged_name(folder, monkeypatch):
    place = folder("site", {"other_bench/__init__.py": "", "other_bench/own/tasks/mme.yaml": CARD})
    points = [EntryPoint("other", "other_bench:own", "adem_bench.cards")]
    monkeypatch.setattr(cards_module, "entry_points", lambda group: points)
    monkeypatch.syspath_prepend(place)
    with pytest.raises(
        CardError, match=r"task 'mme' is claimed by both .*tasks/mme\.yaml and .*own"
    ):
        find_card("tasks", "mme")
    assert "mme" not in list_cards("tasks")
    assert find_card("tasks", "pope")  # the others are as they were
    points[:] = [EntryPoint("other", "no_such_package:own", "adem_bench.cards")]
    with pytest.raises(
        CardError, match="names no_such_package:own, which is not a folder of an inst"
    ):
        list_cards("tasks")


def test_a_folder_that_is_not_there_is_named(include, tmp_path):
    include(tmp_path / "nowhere")
    with pytest.raises(CardError, match=r"included folder .*nowhere does not exist"):
        list_cards("tasks")


@pytest.mark.parametrize(
    ("before", "after"), [(["tasks"], []), (["tasks", "list"], []), ([], ["tasks"])]
)
def test_include_may_stand_anywhere(folder, capsys, monkeypatch, before, after):
    monkeypatch.delenv(INCLUDE_VARIABLE, raising=False)
    place = folder("mine", {"own.yaml": CARD})
    with pytest.raises(SystemExit) as stop:
        main([*before, "--include", str(place), *after])
    assert not stop.value.code
    assert "own" in capsys.readouterr().out.split()
    assert INCLUDE_VARIABLE not in os.environ


def test_an_include_that_is_no_folder_is_a_mistake_of_the_call(capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main(["tasks", "--include", str(tmp_path / "nowhere")])
    assert stop.value.code == 2
    assert "does not exist" in capsys.readouterr().err


def test_an_error_in_a_plug_in_is_not_called_ours(folder, include, capsys, monkeypatch):
    code = "def samples(self):\n        raise KeyError('boom')"
    kind = (
        "from adem_bench.registry import TASK_KINDS\n"
        "from adem_bench.tasks.mme.task import Mme\n\n\n"
        f"@TASK_KINDS.register('broken')\nclass Broken(Mme):\n    {code}\n"
    )
    card = (
        CARD.replace("kind: mme", "kind: broken")
        + "data: {source: mini}\noptions: {subtasks: [count]}\n"
    )
    place = folder("given", {"broken_kind.py": kind, "broken.yaml": card})
    include(place)
    with pytest.raises(SystemExit) as stop:
        main(["run", "--model", "constant:yes", "--tasks", "broken", "--results", str(place / "r")])
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert f"error: plug-in {place / 'broken_kind.py'} failed: KeyError: 'boom'; the same" in told
    assert "our bug" not in told
