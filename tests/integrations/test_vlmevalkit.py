from __future__ import annotations

import csv
import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from adem_bench.cards import list_cards
from adem_bench.errors import AdemBenchError, CardError, DataError
from adem_bench.integrations import vlmevalkit
from adem_bench.integrations.vlmevalkit import __main__ as launcher
from adem_bench.integrations.vlmevalkit.tsv import write_tsv
from adem_bench.tasks.base import build_task

CONTRACT = Path(__file__).parent / "contract"
MODULE = "adem_bench.integrations.vlmevalkit"
QUESTION = "Is there {a} dog? Please answer yes or no."


@pytest.fixture
def adapter(vlmeval, recorder):
    """The adapter's class, on whichever VLMEvalKit there is."""
    from adem_bench.integrations.vlmevalkit.model import AdemVL

    return AdemVL


def ask(model, line: dict, dataset: str, paths=()) -> str:
    """Ask as its loop does (`infer_data`)."""
    model.set_dump_image(lambda line: [str(path) for path in paths])
    assert model.use_custom_prompt(dataset)
    return model.generate(message=model.build_prompt(line, dataset=dataset), dataset=dataset)


@pytest.mark.parametrize("dataset", ["MME", "POPE"])
def test_yes_no_questions_are_instructions(adapter, recorder, pictures, dataset):
    line = {"index": 0, "image": "…", "question": QUESTION, "answer": "Yes"}
    assert ask(adapter("adem-7b"), line, dataset, pictures[:1]) == "7"
    [(weights, request)] = recorder.asked
    assert weights == ("mme", "mme")
    assert request.prompt == f"Instruction: {QUESTION}\nResponse:"
    assert request.images == (pictures[0],)
    assert (request.max_new_tokens, request.image_normalization) == (10, "imagenet")


def test_scienceqa_is_asked_in_its_published_format(adapter, recorder, pictures):
    line = {"image": "…", "question": "Which?", "hint": "A hint.", "A": "ant", "B": math.nan}
    line |= {"C": "cat", "D": math.nan, "answer": "C"}
    ask(adapter("adem-7b"), line, "ScienceQA_TEST", pictures[:1])
    [(weights, request)] = recorder.asked
    assert weights == ("sqa", "scienceqa")
    assert request.prompt == (
        "Question: Which?\nContext: A hint.\nOptions: (A) ant (B) (C) cat\nResponse:The answer is"
    )
    assert request.max_new_tokens == 1


def test_captions_are_asked_and_read_as_published(adapter, recorder, pictures):
    recorder.said = "a picture of a dog"
    line = {"image": "…", "question": "Describe.", "answer": "['a dog']"}
    assert ask(adapter("adem-7b"), line, "COCO_VAL", pictures[:1]) == "a dog"
    [(weights, request)] = recorder.asked
    assert weights == ("coco_caption", "coco_caption")
    assert (request.prompt, request.image_normalization) == ("a picture of", "clip")


def test_a_question_of_text_alone_has_no_image(adapter, recorder):
    ask(adapter("adem-7b"), {"question": "Which?", "A": "a", "B": "b"}, "ScienceQA_TEST")
    assert recorder.asked[0][1].images == ()


def test_data_sets_of_ones_own_can_be_given_a_task(adapter, recorder, pictures):
    model = adapter("adem-7b", tasks={"pets": "mme"})
    ask(model, {"image": "…", "question": "A cat?"}, "pets", pictures[:1])
    assert recorder.asked[0][0] == ("mme", "mme")


def test_other_data_sets_are_instructions_in_the_harness_own_words(adapter, recorder, pictures):
    model = adapter("adem-7b", max_new_tokens=9)
    assert not model.use_custom_prompt("MMBench_DEV_EN")
    first, second = (str(path) for path in pictures[:2])
    message = [
        {"type": "image", "value": first},
        {"type": "text", "value": "Here is one."},
        {"type": "image", "value": second},
        {"type": "text", "value": "And another. \n"},
    ]
    model.generate(message, dataset="MMBench_DEV_EN")
    model.generate("Only text")
    (weights, request), (_, text_only) = recorder.asked
    assert weights == ("instruction", "instruction")
    assert request.prompt == "Instruction: Here is one.\nAnd another.\nResponse:"
    assert request.images == (pictures[0],)
    assert request.max_new_tokens == 9
    assert (text_only.prompt, text_only.images) == ("Instruction: Only text\nResponse:", ())


def test_several_images_can_be_joined(adapter, recorder, pictures):
    model = adapter("adem-7b", several_images="joined")
    message = [{"type": "image", "value": str(path)} for path in pictures]
    model.generate([*message, {"type": "text", "value": "How many?"}])
    [image] = recorder.asked[0][1].images
    with Image.open(image) as joined:
        assert joined.size == (3 * 64, 48)
    image.unlink()
    with pytest.raises(CardError, match="first or joined"):
        adapter("adem-7b", several_images="all")


def test_a_sample_without_answer_says_so_in_the_harness_words(adapter, tmp_path):
    path = tmp_path / "broken.png"
    path.touch()
    answer = ask(adapter("adem-7b"), {"image": "…", "question": "?"}, "MME", [path])
    assert answer == "Failed to obtain answer: unreadable"


def test_the_names_of_our_cards_are_registered(vlmeval):
    names = vlmevalkit.register()
    from vlmeval import vlm
    from vlmeval.config import supported_VLM

    assert {"adem-7b", "adem-13b", "adem-tiny"} <= set(names)
    assert supported_VLM["adem-7b"].func is vlm.AdemVL
    assert supported_VLM["adem-7b"].keywords == {"model": "adem-7b"}
    assert vlmevalkit.register() == names


def test_a_name_that_the_harness_has_is_refused(contract, monkeypatch, tmp_path):
    card = Path(list_cards("models")["adem-tiny"]).read_text()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "parrot.yaml").write_text(card)
    monkeypatch.setenv("ADEM_BENCH_INCLUDE", str(tmp_path))
    with pytest.raises(CardError, match="has a model 'parrot' of its own"):
        vlmevalkit.register()


def launched(environment, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", MODULE, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_the_launcher_registers_before_the_script_looks(environment, mini):
    sample = next(iter(build_task("mini_mme", mini).samples()))
    asked = ("adem-tiny", "MME", sample.images[0], sample.fields["question"])
    done = launched(environment, CONTRACT / "run.py", *asked)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().lower() == f"answer: {sample.reference}".lower()


def test_the_launcher_runs_a_module_with_our_models_among_its_own(environment):
    given = environment | {"PYTHONPATH": str(CONTRACT), "STAND_IN_WITHOUT_TORCH": "1"}
    done = launched(given, "-m", "vlmeval", "--data", "MME")
    listed = done.stdout.splitlines()
    assert listed[0].endswith("vlmeval/__main__.py --data MME")
    assert {"parrot", "adem-7b"} <= set(listed)


def test_the_launcher_runs_the_tool_and_names_mistakes(contract, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    launcher.main(["vlmutil", "mlist", "all"])
    listed = capsys.readouterr().out.splitlines()
    assert listed[0] == "vlmutil mlist all"
    assert {"parrot", "adem-7b"} <= set(listed)
    with pytest.raises(AdemBenchError, match=r"there is no module vlmeval\.nothing"):
        launcher.main(["-m", "vlmeval.nothing"])
    with pytest.raises(AdemBenchError, match=r"there is no script nowhere\.py"):
        launcher.main(["nowhere.py"])


def test_a_mistake_is_one_line_on_standard_error(environment):
    nothing = launched(environment)
    assert (nothing.returncode, nothing.stderr.count("\n")) == (1, 1)
    assert "error: name a script or module of VLMEvalKit" in nothing.stderr


def test_without_the_harness_the_launcher_says_where_it_is(environment, tmp_path):
    if importlib.util.find_spec("vlmeval"):
        pytest.skip("VLMEvalKit is installed")
    (tmp_path / "run.py").touch()
    done = launched(environment, tmp_path / "run.py")
    assert done.stderr.startswith("error: VLMEvalKit is not installed: `pip install")
    assert vlmevalkit.TESTED_COMMIT in done.stderr
    assert vlmevalkit.TESTED_RELEASE in done.stderr


def test_a_script_in_a_package_puts_none_of_its_modules_before_others(tmp_path, monkeypatch):
    package = tmp_path / "package"
    package.mkdir()
    for name in ("__init__.py", "api.py", "run.py"):
        (package / name).touch()
    (tmp_path / "vlmeval.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    before = list(sys.path)
    launcher.main([str(package / "run.py"), "--data", "MME"])
    assert sys.path == before
    (tmp_path / "loose").mkdir()
    script = tmp_path / "loose" / "run.py"
    script.touch()
    launcher.main([str(script)])
    assert sys.path == [str(script.parent), *before]


@pytest.fixture(scope="module")
def sets(mini, tmp_path_factory) -> Path:
    """TSVs of the mini benchmark."""
    folder = tmp_path_factory.mktemp("LMUData")
    science, yes_no = build_task("mini_sqa", mini), build_task("mini_mme", mini)
    assert write_tsv(science, folder / "ScienceQA_MINI.tsv", 20) == 20
    assert write_tsv(yes_no, folder / "yes_no.tsv", 20) == 20
    assert write_tsv(science, folder / "text.tsv", 5, with_images=False) == 5
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_a_tsv_holds_what_the_harness_reads(sets):
    science, yes_no, text = (
        rows(sets / f"{name}.tsv") for name in ("ScienceQA_MINI", "yes_no", "text")
    )
    assert [row["index"] for row in science] == [str(place) for place in range(20)]
    assert all(row[row["answer"]] for row in science)
    assert {row["answer"] for row in yes_no} == {"Yes", "No"}
    assert len({row["image_path"] for row in yes_no}) == 10  # two questions an image
    assert yes_no[0]["id"].startswith("existence/")
    assert len(yes_no[0]["image"]) > 64  # what is shorter would be another row's index
    assert "image" not in text[0]


def test_no_part_of_a_tsv_is_left_where_data_is_missing(tmp_path):
    with pytest.raises(DataError):
        write_tsv(build_task("mme", tmp_path), tmp_path / "MME.tsv")
    assert list(tmp_path.iterdir()) == []


def test_the_real_harness_scores_as_we_do(environment, sets, tmp_path):
    spec = importlib.util.find_spec("vlmeval")
    if spec is None:
        pytest.skip("VLMEvalKit is not installed")
    config = {
        "model": {"ours": {"class": "AdemVL", "model": "adem-tiny", "tasks": {"yes_no": "mme"}}},
        "data": {
            "yes_no": {"class": "ImageYORNDataset", "dataset": "yes_no"},
            "ScienceQA_MINI": {"class": "ImageMCQDataset", "dataset": "ScienceQA_MINI"},
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    script = Path(spec.origin).parent.parent / "run.py"
    fixed = ("--judge", "exact_matching", "--work-dir", tmp_path / "theirs")
    done = launched(
        environment | {"LMUData": str(sets), "PRED_FORMAT": "tsv"},
        *(script, "--config", tmp_path / "config.json", *fixed),
    )
    assert done.returncode == 0, done.stderr
    subprocess.run(
        [
            *(sys.executable, "-m", "adem_bench", "run", "--model", "adem-tiny"),
            *("--tasks", "mini_mme,mini_sqa", "--results", tmp_path / "ours"),
        ],
        env=environment | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        check=True,
        timeout=300,
    )
    for name, task in (("yes_no", "mini_mme"), ("ScienceQA_MINI", "mini_sqa")):
        [records] = (tmp_path / "ours").glob(f"adem-tiny/{task}/*/samples.jsonl")
        ours = {r["sample_id"]: r for r in map(json.loads, records.read_text().splitlines())}
        [answered] = (tmp_path / "theirs" / "ours").glob(f"ours_{name}.tsv")
        predictions = {row["id"]: row["prediction"].strip() for row in rows(answered)}
        assert predictions == {name: ours[name]["response"].strip() for name in predictions}
        [scores] = (tmp_path / "theirs" / "ours").glob(f"ours_{name}_*.csv")
        overall = float(next(csv.DictReader(scores.open()))["Overall"])
        share = sum(ours[name]["score"] for name in predictions) / len(predictions)
        assert overall in (pytest.approx(share), pytest.approx(100 * share))
