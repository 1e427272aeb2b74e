from __future__ import annotations

import importlib
import importlib.util
import json
import math
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from PIL import Image

from adem_bench.cards import load_task_card
from adem_bench.errors import DataError
from adem_bench.integrations.lmms_eval import documents, folder, manifest
from adem_bench.records import Response
from adem_bench.runner.loop import record_of
from adem_bench.tasks.base import build_task

MODULE = "adem_bench.integrations.lmms_eval"


@pytest.fixture(autouse=True)
def _nothing_loaded():
    documents.loaded.cache_clear()


def test_the_entry_point_names_a_model(lmms_eval):
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    module, _, attribute = project["project"]["entry-points"]["lmms_eval.models"]["adem"].partition(
        ":"
    )
    assert getattr(importlib.import_module(module), attribute) is manifest
    found = manifest()
    assert found.model_id == "adem"
    module, _, attribute = found.simple_class_path.rpartition(".")
    from lmms_eval.api.model import lmms

    model = getattr(importlib.import_module(module), attribute)
    assert issubclass(model, lmms)
    assert model.is_simple


class FunctionLoader(yaml.SafeLoader):
    """Reads `!function module.name` as lmms-eval does: the function itself."""


def _function(loader, node):
    module, _, attribute = loader.construct_scalar(node).rpartition(".")
    return getattr(importlib.import_module(module), attribute)


FunctionLoader.add_constructor("!function", _function)


def test_every_task_card_is_a_yaml_file():
    path = folder.tasks_folder()
    assert folder.tasks_folder() == path
    names = {file.stem for file in path.glob("*.yaml")}
    assert {"adem_mme", "adem_sqa", "adem_coco_caption", "adem_mini_mme"} <= names
    assert "adem_mini" not in names  # a group
    assert "adem_lavin_instruction" not in names  # for training
    for name in names:
        task = yaml.load((path / f"{name}.yaml").read_text(), FunctionLoader)
        assert task["task"] == name
        card = load_task_card(name.removeprefix("adem_"))
        assert task["metric_list"][0]["metric"] == card.headline
        seed = path / task["dataset_kwargs"]["data_files"][task["test_split"]]
        assert json.loads(seed.read_text()) == {"card": card.name, "data_root": ""}
        functions = (task["process_docs"], task["doc_to_visual"], task["process_results"])
        assert functions == (documents.documents_of, documents.images_of, documents.results_of)


def test_a_data_root_is_kept_in_the_folder(tmp_path):
    path = folder.tasks_folder(tmp_path)
    assert path != folder.tasks_folder()
    assert json.loads((path / "mme.jsonl").read_text())["data_root"] == str(tmp_path)


@pytest.fixture
def asked():
    """Documents of mini MME, as lmms-eval has them."""
    pytest.importorskip("datasets")
    return documents.documents_of([{"card": "mini_mme", "data_root": ""}])


def test_documents_are_the_samples(asked):
    task = build_task("mini_mme", None)
    samples = list(task.samples())
    assert [row["id"] for row in asked] == [sample.id for sample in samples]
    assert asked[0]["prompt"] == task.request(samples[0]).prompt
    assert documents.request_of(asked[3]) == task.request(samples[3])
    assert json.loads(asked[0]["reference"]) == samples[0].reference
    [image] = documents.images_of(asked[0])
    with Image.open(samples[0].images[0]) as opened:
        assert image.size == opened.size


def test_missing_data_is_told_although_the_harness_retries(tmp_path, caplog):
    pytest.importorskip("datasets")
    with pytest.raises(DataError):
        documents.documents_of([{"card": "mme", "data_root": str(tmp_path)}])
    assert f"task mme: {tmp_path}" in caplog.text


@pytest.mark.parametrize("metric", ["accuracy", "perception", "existence"])
def test_the_same_answers_have_the_same_scores(asked, metric):
    task = build_task("mini_mme", None)
    texts = [("Yes", "no.", "perhaps")[place % 3] for place in range(len(asked))]
    ours = [
        record_of(task, sample, task.request(sample), Response(text))
        for sample, text in zip(task.samples(), texts, strict=True)
    ]
    results = [
        documents.results_of(document, [text])[metric]
        for document, text in zip(asked, texts, strict=True)
    ]
    json.dumps(results)  # lmms-eval keeps them with the samples
    assert documents.aggregated(results) == task.aggregate(ours).metric(metric).value


def test_a_failure_is_not_scored(asked):
    texts = ["Failed to obtain answer: image a.png is broken", asked[1]["reference"].strip('"')]
    results = [
        documents.results_of(document, [text])["accuracy"]
        for document, text in zip(asked, texts, strict=False)
    ]
    assert results[0]["record"]["error"] == texts[0]
    assert documents.aggregated(results) == 1.0
    assert math.isnan(documents.aggregated(results[:1]))


@pytest.fixture
def model(lmms_eval, recorder):
    """The adapter on whichever lmms-eval there is."""
    from adem_bench.integrations.lmms_eval.model import AdemLmms

    return AdemLmms("adem-7b", device="cpu", batch_size="1", max_batch_size=None)


def instance(task: str, document: dict, context: str, visual, **settings: object):
    arguments = (context, settings, visual, 0, task, "test")
    return SimpleNamespace(args=arguments), {task: {"test": [document]}}


def test_our_tasks_are_asked_as_at_home(model, recorder, asked):
    request, model.task_dict = instance(
        "adem_mini_mme", asked[0], asked[0]["prompt"], documents.images_of, max_new_tokens=32
    )
    assert model.generate_until([request]) == ["7"]
    assert recorder.asked == [(("mini_mme", "mme"), documents.request_of(asked[0]))]


def test_other_tasks_are_instructions_about_their_images(model, recorder, pictures):
    seen = []
    recorder.said = "a cat\n\nQuestion: next"
    with Image.open(pictures[0]) as picture:
        picture.load()

    def look(request):
        with Image.open(request.images[0]) as image:
            seen.append((request, image.tobytes()))

    recorder.look = look
    first, model.task_dict = instance(
        "mme", {"question": "?"}, "Which?\n", lambda doc: [picture], max_new_tokens=5, until="\n\n"
    )
    assert model.generate_until([first, first]) == ["a cat", "a cat"]
    (request, pixels), (again, _) = seen
    assert request.prompt == "Instruction: Which?\nResponse:"
    assert request.max_new_tokens == 5
    assert pixels == picture.tobytes()
    assert again.images == request.images  # one file, so one visual memory
    assert not request.images[0].exists()
    assert recorder.weights == ("instruction", "instruction")


def test_what_cannot_be_asked_is_told_and_the_rest_is_answered(model, recorder):
    def broken(document):
        raise OSError("truncated")

    first, there = instance("a", {}, "What?", broken)
    second, more = instance("b", {}, "Why?", lambda document: None)
    video, most = instance("c", {}, "When?", lambda document: [object()])
    model.task_dict = there | more | most
    assert model.generate_until([first, second, video]) == [
        "Failed to obtain answer: OSError: truncated",
        "7",
        "Failed to obtain answer: TypeError: ADEM-VL sees images only, not object",
    ]
    for refused in (model.loglikelihood, model.generate_until_multi_round):
        with pytest.raises(NotImplementedError, match="only, no"):
            refused([])


def test_the_real_harness_scores_as_we_do(environment, tmp_path):
    if importlib.util.find_spec("lmms_eval") is None:
        pytest.skip("lmms-eval is not installed")
    offline = environment | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    offline["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")

    def command(*arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *map(str, arguments)],
            env=offline,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    tasks, theirs, ours = command(MODULE).strip(), tmp_path / "theirs", tmp_path / "ours"
    command(
        *("lmms_eval", "--model", "adem", "--model_args", "model=adem-tiny,device=cpu"),
        *("--tasks", "adem_mini_mme", "--include_path", tasks, "--output_path", theirs),
    )
    command("adem_bench", "run", "--model", "adem-tiny", "--tasks", "mini_mme", "--results", ours)
    [path] = theirs.rglob("*_results.json")
    found = json.loads(path.read_text())["results"]["adem_mini_mme"]
    [path] = ours.rglob("metrics.json")
    metrics = {m["name"]: m["value"] for m in json.loads(path.read_text())["metrics"]}
    names = folder.metric_names(load_task_card("mini_mme"))
    assert {name: found[f"{name},none"] for name in names} == {
        name: metrics[name] for name in names
    }
