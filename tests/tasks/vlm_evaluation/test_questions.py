"""The vlm-evaluation suite's tasks on miniatures of their official files."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path

import pytest

from adem_bench.cards import expand_tasks
from adem_bench.errors import AdemBenchError, CardError, DataError, PredictionsError
from adem_bench.records import Record, Response
from adem_bench.tasks.base import build_task
from support.question_files import RIGHT, put, write_all

FIXTURES = Path(__file__).parents[2] / "fixtures" / "vlm_evaluation"
SUITE = json.loads((FIXTURES / "suite.json").read_text())
TASKS = (*expand_tasks(["vlm_evaluation"]), "refcoco_family")
LAYOUTS = {
    **{name: name for name in ("vqav2", "gqa", "vizwiz", "refcoco", "ocid_ref")},
    **{name: name for name in ("tallyqa", "pope", "vsr", "ai2d")},
    **{"textvqa_val": "textvqa", "textvqa_val_ocr": "textvqa"},
    **{"refcoco_plus": "refcoco", "refcocog": "refcoco", "refcoco_family": "family"},
}


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """A data root with all of them; not to be changed."""
    return write_all(tmp_path_factory.mktemp("suite"))


def records(task, texts) -> list[Record]:
    found = []
    for sample, text in zip(task.samples(), texts, strict=True):
        made = task.parse_response(sample, Response(text))
        answer = (sample.id, "", text, made.value, sample.reference, made.score)
        found.append(Record(*answer, sample.groups, sample.cluster))
    return found


def test_the_group_has_every_data_set():
    assert sorted(TASKS) == sorted(LAYOUTS)


@pytest.mark.parametrize("name", TASKS)
def test_right_answers_score_one_and_come_back_from_the_exported_file(name, data, tmp_path):
    task = build_task(name, data)
    texts = RIGHT[LAYOUTS[name]]
    answered = records(task, texts)
    result = task.aggregate(answered)
    assert task.skipped_rows() == ()
    assert result.metric(result.headline).value == pytest.approx(1)
    assert result.metric(result.headline).low < 1
    assert result.coverage() == f"SUBSET {len(texts)}/{task.card.expected[task.card.split]}"
    (path,) = task.export(answered, tmp_path)
    again = task.aggregate(task.import_predictions(path))
    assert [(m.name, m.value) for m in again.metrics] == [(m.name, m.value) for m in result.metrics]


@pytest.mark.parametrize("name", TASKS)
def test_useless_answers_score_nothing_and_statistics_agree(name, data):
    task = build_task(name, data)
    answered = records(task, ["no" if name == "pope" else "zebra"] * len(RIGHT[LAYOUTS[name]]))
    result = task.aggregate(answered)
    assert result.metric(result.headline).value == 0
    statistics = task.statistics(task.card, answered)
    known = {m.name: m.value for m in result.metrics if m.value is not None}
    assert result.headline in known
    assert result.headline in statistics.formulas
    for name in known.keys() & statistics.formulas.keys():
        found = statistics.value(name)
        # Undefined precision is 0 by convention.
        assert (0 if math.isnan(found) else found) == pytest.approx(known[name])


@pytest.mark.parametrize("name", TASKS)
def test_a_whole_split_is_complete(name, data):
    size = len(RIGHT[LAYOUTS[name]])
    split = build_task(name, data).card.split
    task = build_task(name, data, [f"expected={{{split}: {size}}}"])
    answered = records(task, RIGHT[LAYOUTS[name]])
    assert task.aggregate(answered).complete
    assert not task.aggregate(answered[1:]).complete


@pytest.mark.parametrize("name", TASKS)
def test_questions_of_one_image_share_a_cluster(name, data):
    samples = list(build_task(name, data).samples())
    assert all(sample.images[0].is_file() for sample in samples)
    assert len({s.cluster for s in samples}) == len({s.images for s in samples})
    assert len({sample.id for sample in samples}) == len(samples)


@pytest.mark.parametrize(
    ("name", "overrides", "prompt"),
    [
        (
            "vqav2",
            (),
            "Instruction: Is it {day}?\nAnswer with a single word or a short phrase.\nResponse:",
        ),
        ("vqav2", ("options.hint=''", "prompt_format=question"), "Is it {day}?"),
        ("textvqa_val", ("prompt_format=question", "options.hint=Short."), "what number?\nShort."),
        (
            "textvqa_val_ocr",
            ("prompt_format=question", "options.hint=''"),
            "Text in the picture: Nous, les, GOSSES\nwhat number?",
        ),
        (
            "vsr",
            ("prompt_format=question",),
            "Is this true of the picture? The cat is under the mat.\nAnswer with true or false.",
        ),
        (
            "ai2d",
            ("prompt_format=question",),
            "What is A?\nA. root\nB. stem\nC. flower\nD. seed\n"
            "Answer with the letter of the right option.",
        ),
        (
            "refcoco",
            ("prompt_format=question", "options.extent=1000"),
            "Where is this: top right?\nAnswer with its box, [left, top, right, bottom], in "
            "thousandths of the picture.",
        ),
    ],
)
def test_prompts(name, overrides, prompt, data):
    task = build_task(name, data, overrides)
    *_, sample = task.samples()
    assert task.request(sample).prompt == prompt
    assert task.prompt_settings()["hint"] in prompt


def test_vqa_answers_are_compared_by_the_chosen_rule(data):
    assert [r.score for r in records(build_task("vqav2", data), ["2", "Red", "Yes.", "no"])] == [
        *[pytest.approx(value) for value in (1, 1, 1, 0.3)]
    ]
    # The official code wants the very text where all agree: an official file is taken as it is.
    task = build_task("vqav2", data)
    path = data / "answers.json"
    path.write_text(json.dumps([{"question_id": 1002, "answer": "Yes"}]))
    assert [r.score for r in task.import_predictions(path)] == [0]
    task = build_task("vqav2", data, ["options.answer_rule=vlm_evaluation"])
    assert [r.score for r in task.import_predictions(path)] == [1]


def test_gqa_wants_the_very_answer(data):
    official, suite = (
        build_task("gqa", data, [f"options.answer_rule={rule}"])
        for rule in ("official", "vlm_evaluation")
    )
    texts = ["Yes!", "Cat."]
    assert [r.score for r in records(official, texts)] == [0, 1]
    assert [r.score for r in records(suite, texts)] == [1, 1]


def test_overlap_of_a_quarter_counts_for_ocid_ref_alone(data):
    task = build_task("ocid_ref", data)
    result = task.aggregate(records(task, ["[0.1, 0.1, 0.3, 0.26]", "at [0.5, 0.5, 0.75, 1.0]"]))
    assert result.metric("accuracy@0.25").value == 0.5
    assert result.metric("accuracy@0.5").value == 0
    assert result.metric("Minimum Clutter").value == 1
    assert result.metric("unread").value == 1
    task = build_task("ocid_ref", data, ["options.answer_rule=first"])
    answered = records(task, ["no", "at [0.5, 0.5, 0.75, 1.0]"])
    assert task.aggregate(answered).metric("accuracy@0.5").value == 0.5


def test_pope_reads_all_that_is_not_no_as_yes(data):
    task = build_task("pope", data, split="popular")
    assert [s.id for s in task.samples()] == ["popular/1", "popular/2"]
    assert [r.prediction for r in records(task, ["Certainly", "there is not one"])] == ["yes", "no"]
    task = build_task("pope", data, ["options.answer_rule=word"], split="popular")
    found = task.aggregate(records(task, ["Certainly", "no"]))
    assert found.metric("unread").value == 1
    assert found.metric("f1").value == 0


@pytest.mark.parametrize(
    ("name", "count", "right"), [("tallyqa", 16, 3), ("pope", 2, 0), ("vsr", 2, 0), ("ai2d", 4, 0)]
)
def test_answers_by_log_probabilities(name, count, right, data):
    task = build_task(name, data, ["options.answer_rule=logits"])
    sample = next(iter(task.samples()))
    assert len(task.request(sample).choices) == count
    logprobs = tuple(0.0 if place == right else -1.0 for place in range(count))
    assert task.parse_response(sample, Response("nonsense", choice_logprobs=logprobs)).score == 1
    assert task.parse_response(sample, Response("3")).value is None


def test_a_split_of_ai2d_is_that_of_its_images(data):
    for split, ids in (("test", ["10.png-0"]), ("val", ["2.png-0", "2.png-1"])):
        assert [s.id for s in build_task("ai2d", data, split=split).samples()] == ids


def test_unbalanced_questions_of_gqa_do_not_count(data):
    assert [s.id for s in build_task("gqa", data).samples()] == ["201", "202"]


BAD = {
    "vqav2": ("vqav2/v2_mscoco_val2014_annotations.json", "annotations"),
    "gqa": ("gqa/testdev_balanced_questions.json", None),
    "vizwiz": ("vizwiz/Annotations/val.json", None),
    "textvqa_val": ("textvqa/TextVQA_0.5.1_val.json", "data"),
    "ocid_ref": ("ocid_ref/val_expressions.json", None),
    "tallyqa": ("tallyqa/test.json", None),
    "pope": ("pope/coco_pope_random.json", None),
    "vsr": ("vsr/test.jsonl", None),
    "ai2d": ("ai2d/questions/2.png.json", None),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_rows_are_left_out_and_named(name, tmp_path):
    root = write_all(tmp_path)
    file, key = BAD[name]
    text = (root / file).read_text()
    is_lines = file.endswith("jsonl") or name == "pope"
    content = [json.loads(line) for line in text.splitlines()] if is_lines else json.loads(text)
    rows = content[key] if key else content
    if name == "ai2d":
        rows["questions"]["What falls?"]["correctAnswer"] = 7
    elif isinstance(rows, dict):
        first = next(iter(rows))
        rows |= {"bad": "text", "evil": {**rows[first], "imageId": "../../x", "scene_path": "../x"}}
    else:
        rows += ["text", {**rows[0], "image": "../../x", "image_id": "../../x"}, rows[0]]
    put(root, file, content)
    task = build_task(name, root)
    good = len(list(task.samples()))
    expected = {"ai2d": (2, 1), "gqa": (2, 2), "ocid_ref": (2, 2)}
    expected["vsr"] = (3, 2)  # statements have no id that could stand twice
    assert (good, len(task.skipped_rows())) == expected.get(name, (len(RIGHT[LAYOUTS[name]]), 3))


@pytest.mark.parametrize("name", TASKS)
def test_what_is_missing_is_named_with_its_source(name, tmp_path):
    task = build_task(name, tmp_path)
    with pytest.raises(DataError, match=r"is missing: expected .*`adem-bench data status"):
        list(task.samples())


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    root = write_all(tmp_path)
    path = root / "refcoco" / "refcoco" / "refs(unc).p"
    path.write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    with pytest.raises(DataError, match=r"it asks for os\.system; no code of a pickle is run"):
        list(build_task("refcoco", root).samples())
    path.write_bytes(pickle.dumps({"refs": []}))
    with pytest.raises(DataError, match="a dict; expected a pickled list"):
        list(build_task("refcoco", root).samples())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ann_id": 999}, "no box with the number 999"),
        ({"ann_id": [1]}, "no box with the number"),
        ({"image_id": "x"}, "`image_id` must be a whole number"),
        ({"sentences": "one"}, "`sentences` must be a list"),
    ],
)
def test_bad_references_of_refcoco_are_named(change, reason, tmp_path):
    root = write_all(tmp_path)
    path = root / "refcoco" / "refcoco" / "refs(unc).p"
    refs = pickle.loads(path.read_bytes())
    path.write_bytes(pickle.dumps([*refs[:1], {**refs[1], **change}, "text"]))
    task = build_task("refcoco", root)
    assert len(list(task.samples())) == 2
    assert reason in task.skipped_rows()[0].reason
    assert "RefCOCO reference 2" in task.skipped_rows()[0].reason


def test_a_box_outside_its_image_is_named(tmp_path):
    root = write_all(tmp_path)
    path = root / "refcoco" / "refcoco" / "instances.json"
    boxes = json.loads(path.read_text())
    boxes["annotations"][0]["bbox"] = [16, 12, 320, 24]
    path.write_text(json.dumps(boxes))
    task = build_task("refcoco", root)
    assert len(list(task.samples())) == 1
    assert "does not lie in its image of 64.0 x 48.0" in task.skipped_rows()[0].reason


def suite_root(root: Path, name: str) -> tuple[Path, Path]:
    """Write the suite's index and results of a task, with empty image folders."""
    case = SUITE[name]
    index, results = (
        SUITE[case[part]][part] if isinstance(case[part], str) else case[part]
        for part in ("index", "results")
    )
    for row in index.values():
        (root / row["img_path"]).parent.mkdir(parents=True, exist_ok=True)
    folder = root / "results"
    half = len(results) // 2
    put(folder, "results+rank-0.json", dict(list(results.items())[: half + 1]))
    put(folder, "results+rank-1.json", dict(list(results.items())[half:]))
    return put(root, "datasets/metadata-full.json", index), folder


@pytest.mark.parametrize("name", SUITE)
def test_results_of_the_suite_score_what_its_own_scorers_gave(name, tmp_path):
    index, folder = suite_root(tmp_path, name)
    settings = [*SUITE[name]["settings"], f"options.index={index}"]
    task = build_task(name, tmp_path, settings)
    result = task.aggregate(task.import_predictions(folder))
    rounding = 1e-4 if name in ("vqav2", "gqa", "vizwiz") else 1e-9
    for metric, figure in SUITE[name]["figures"].items():
        assert result.metric(metric).value == pytest.approx(figure, abs=rounding), metric
    assert task.skipped_rows() == ()
    assert any("metadata-full.json only" in warning for warning in result.warnings)


def test_suite_ids_need_the_index_where_only_it_has_them(tmp_path):
    _, folder = suite_root(tmp_path, "pope")
    root = write_all(tmp_path / "official")
    with pytest.raises(PredictionsError, match=r"--set options\.index=FILE"):
        build_task("pope", root).import_predictions(folder)
    _, folder = suite_root(tmp_path / "v", "vizwiz")
    with pytest.raises(PredictionsError, match="18 of 20 questions are not in split val"):
        build_task("vizwiz", root).import_predictions(folder)


def test_a_slim_index_has_the_ids_of_the_official_files(data, tmp_path):
    root = write_all(tmp_path)
    whole = list(build_task("refcoco", root).samples())
    row = {
        "example_id": -77,
        "ref_expression": whole[1].fields["question"],
        "img_path": f"images/train2014/{whole[1].images[0].name}",
        "bbox": [0.25, 0.25, 0.75, 0.75],
        "refer_dataset": "RefCOCO",
        "split": "val",
        "ref_id": 1,
        "sent_id": 101,
    }
    put(root, "slim.json", {"-77": row, "5": {**row, "refer_dataset": "RefCOCOg"}, "6": "text"})
    task = build_task("refcoco", root, ["options.index=slim.json"])
    (sample,) = task.samples()
    assert (sample.id, sample.images, sample.reference) == (
        whole[1].id,
        whole[1].images,
        whole[1].reference,
    )
    assert task.skipped_rows()[0].reason == "slim.json, 6: expected an object, found str"
    assert task.fingerprint() != build_task("refcoco", root).fingerprint()


def test_an_index_that_leaves_the_images_is_refused(tmp_path):
    root = write_all(tmp_path)
    row = {"question_id": 1, "question": "q", "answer": "a", "img_path": "download/gqa/images/../x"}
    put(root, "slim.json", {"1": row, "2": {**row, "img_path": "/etc/passwd"}})
    task = build_task("gqa", root, ["options.index=slim.json"])
    assert list(task.samples()) == []
    assert len(task.skipped_rows()) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "holds no predictions"),
        ([{"questionId": "201"}], "row 1: expected {questionId, prediction}"),
        ([{"questionId": "201", "prediction": 3}], "row 1: expected"),
        ([{"questionId": "201", "prediction": "yes"}] * 2, "row 2: '201' was answered further up"),
        ([{"questionId": "7", "prediction": "yes"}], "1 of 1 questions are not in split"),
        ({"201": {"other": 1}}, "the row of '201' is none of this task's results"),
        ({}, "holds no predictions"),
        ("[", "is not JSON"),
    ],
)
def test_predictions_of_another_kind_are_refused(content, message, data, tmp_path):
    path = put(tmp_path, "answers.json", content)
    with pytest.raises(PredictionsError, match=message):
        build_task("gqa", data).import_predictions(path)
    with pytest.raises(PredictionsError, match=r"holds no results\+rank"):
        build_task("gqa", data).import_predictions(tmp_path)


def test_answers_one_a_line_and_metrics_files_are_read(data, tmp_path):
    task = build_task("gqa", data)
    path = put(tmp_path, "answers.jsonl", [{"questionId": "202", "prediction": "cat"}])
    assert [r.sample_id for r in task.import_predictions(path)] == ["202"]
    examples = {"202": {"question_id": 202, "model_output": "Cat."}}
    put(tmp_path, "metrics.json", {"dataset": "gqa-full", "examples": examples})
    assert [r.score for r in task.import_predictions(tmp_path)] == [1]
    path.write_text("{}\n[")
    with pytest.raises(PredictionsError, match="line 2 is not JSON"):
        task.import_predictions(path)


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("gqa", "split=val", "unknown split 'val'"),
        ("gqa", "options.layout=vqa", "'layout' cannot be 'vqa'"),
        ("pope", "options.answer_rule=oficial", "'answer_rule' cannot be 'oficial'"),
        ("refcoco", "options.sets=[RefCOCO2]", "cannot be 'RefCOCO2'"),
        (
            "vqav2",
            "prompt_format=instr",
            "unknown prompt format 'instr'; did you mean: instruction",
        ),
        ("ocid_ref", "headline=accuracy", "unknown metric 'accuracy'"),
        ("ai2d", "options.inde=x", "unknown option 'inde'; did you mean: index"),
    ],
)
def test_wrong_settings_are_named(name, setting, message, data):
    with pytest.raises(CardError, match=message):
        build_task(name, data, [setting])


def test_a_missing_index_is_named(data):
    task = build_task("gqa", data, ["options.index=none.json"])
    with pytest.raises(AdemBenchError, match=r"none\.json is missing: expected an object of"):
        list(task.samples())


def test_a_split_without_questions_is_named(data):
    with pytest.raises(DataError, match=r"refs\(unc\)\.p is not as expected: no question of split"):
        list(build_task("refcoco", data, split="testA").samples())
