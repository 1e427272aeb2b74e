"""What happens to data files on their way, for every reader: marks, Windows' paths, odd bytes."""

from __future__ import annotations

import codecs
import gzip
import json

import pytest
from PIL import Image

from adem_bench.cards import load_task_card
from adem_bench.errors import DataError
from adem_bench.tasks.base import build_task, task_of
from support.question_files import write_all

MARKED = {
    "utf-8-sig": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}
TEXTS = {".json", ".jsonl", ".csv", ".tsv", ".txt"}
QUESTION_TASKS = (
    "gqa", "vizwiz", "textvqa_val", "textvqa_val_ocr", "vqav2", "refcoco", "ocid_ref", "tallyqa",
    "pope", "vsr", "ai2d",
)  # fmt: skip
ROWS = [
    {"id": "1", "image": "a.png", "question": "größer?", "answer": "yes", "A": "no", "B": "yes"},
    {"id": "2", "image": "in/b.png", "question": "Où?", "answer": "no", "A": "no", "B": "yes"},
]


def marked(text: str, encoding: str) -> bytes:
    """The text in an encoding, behind its byte order mark."""
    return MARKED[encoding] + text.encode(encoding.removesuffix("-sig"))


def mark_all(root, encoding):
    files = [path for path in root.rglob("*") if path.suffix in TEXTS and path.is_file()]
    assert files
    for path in files:
        path.write_bytes(marked(path.read_text(encoding="utf-8"), encoding))


def read(task):
    return list(task.samples()), list(task.skipped_rows())


def table(suffix, rows):
    """The rows in one of the formats of own data."""
    if suffix == ".json":
        return json.dumps(rows, ensure_ascii=False)
    if suffix == ".jsonl":
        return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    mark = "," if suffix == ".csv" else "\t"
    lines = [list(rows[0]), *(row.values() for row in rows)]
    return "".join(f"{mark.join(line)}\n" for line in lines)


@pytest.fixture
def own(tmp_path):
    """Builds a task on rows in a file of some format."""

    def build(suffix, content):
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / f"rows{suffix}").write_bytes(data)
        card = tmp_path / "own.yaml"
        card.write_text(
            f"kind: jsonl\nsplit: test\nheadline: accuracy\noptions: {{file: rows{suffix}, id: id, "
            "metric: yes_no, image: image}\n"
        )
        return task_of(load_task_card(str(card)), tmp_path)

    return build


@pytest.fixture
def tsv(tmp_path):
    """Builds a task on a TSV of VLMEvalKit's."""

    def build(content):
        (tmp_path / "mine.tsv").write_bytes(
            content if isinstance(content, bytes) else content.encode()
        )
        card = tmp_path / "mine.yaml"
        card.write_text("kind: tsv_multiple_choice\nsplit: test\nheadline: accuracy\n")
        return task_of(load_task_card(str(card)), tmp_path)

    return build


TSV = "index\timage_path\tquestion\tA\tB\tanswer\n1\t{}\tgrößer?\tja\tnein\tA\n"


@pytest.mark.parametrize("encoding", MARKED)
@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".tsv"])
def test_rows_of_ones_own_are_read_behind_any_mark(own, suffix, encoding):
    text = table(suffix, ROWS)
    plain = read(own(suffix, text))
    asked = [sample.fields["question"].partition("\n")[0] for sample in plain[0]]
    assert asked == ["größer?", "Où?"]
    assert read(own(suffix, marked(text, encoding))) == plain


def test_a_mark_in_the_middle_of_joined_files_is_passed_over(own):
    one = table(".jsonl", ROWS[:1]).encode("utf-8-sig")
    samples, skipped = read(own(".jsonl", one + table(".jsonl", ROWS[1:]).encode("utf-8-sig")))
    assert ([sample.id for sample in samples], skipped) == (["1", "2"], [])


@pytest.mark.parametrize("encoding", MARKED)
def test_a_tsv_is_read_behind_any_mark(tsv, encoding):
    plain = read(tsv(TSV.format("a.png")))
    assert len(plain[0]) == 1
    assert read(tsv(marked(TSV.format("a.png"), encoding))) == plain


@pytest.mark.parametrize("encoding", MARKED)
def test_official_files_are_read_behind_any_mark(science, mme, captions, root, encoding):
    problem = {"question": "größer?", "choices": ["a", "b"], "answer": 0, "hint": "", "image": None}
    science({"1": problem, "2": problem})
    subtasks = ("existence", "count")
    mme(*subtasks)
    captions([{"image": "val2014/COCO_val2014_000000000042.jpg", "caption": ["ein Hündchen"]}])
    names = {"sqa": [], "mme": [f"options.subtasks={list(subtasks)}"], "coco_caption": []}

    def found():
        return {name: read(build_task(name, root, settings)) for name, settings in names.items()}

    plain = found()
    assert [len(samples) for samples, _ in plain.values()] == [2, 4, 1]
    mark_all(root, encoding)
    assert found() == plain


@pytest.mark.parametrize("encoding", MARKED)
def test_question_files_are_read_behind_any_mark(tmp_path, encoding):
    root = write_all(tmp_path)
    plain = {name: read(build_task(name, root)) for name in QUESTION_TASKS}
    assert all(samples for samples, _ in plain.values())
    mark_all(root, encoding)
    assert {name: read(build_task(name, root)) for name in QUESTION_TASKS} == plain


@pytest.mark.parametrize("encoding", MARKED)
def test_predictions_are_read_behind_any_mark(own, tsv, captions, mme, tmp_path, encoding):
    def imported(task, name, text):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        plain = task.import_predictions(path)
        path.write_bytes(marked(text, encoding))
        assert task.import_predictions(path) == plain
        return [record.response for record in plain]

    answers = "".join(json.dumps({"id": row["id"], "response": "Yes"}) + "\n" for row in ROWS)
    assert imported(own(".json", table(".json", ROWS)), "a.jsonl", answers) == ["Yes", "Yes"]
    rows = [{"index": "1", "question": "größer?", "A": "ja", "answer": "A", "prediction": "A é"}]
    task = tsv(TSV.format("a.png"))
    assert imported(task, "a.tsv", table(".tsv", rows)) == ["A é"]
    assert imported(task, "a.json", table(".json", rows)) == ["A é"]
    coco = captions([{"image": "val2014/COCO_val2014_000000000042.jpg", "caption": ["ein Hund"]}])
    said = [{"image_id": 42, "caption": "ein Hündchen"}]
    assert imported(build_task("coco_caption", coco), "c.json", json.dumps(said)) == [
        "ein Hündchen"
    ]
    (tmp_path / "tool").mkdir()
    lines = "0001.png\tIs it größer?\tYes\tYes\n"
    task = build_task("mme", tmp_path / "nowhere", ["options.subtasks=[existence]"])
    (tmp_path / "tool" / "existence.txt").write_bytes(marked(lines, encoding))
    assert [record.response for record in task.import_predictions(tmp_path / "tool")] == ["Yes"]


@pytest.mark.parametrize("encoding", MARKED)
def test_a_card_is_read_behind_any_mark(tmp_path, encoding):
    text = "title: Größe\nkind: scienceqa\nsplit: test\nheadline: average\n"
    (tmp_path / "a.yaml").write_bytes(marked(text, encoding))
    assert load_task_card(str(tmp_path / "a.yaml")).title == "Größe"


# What lies in the place of a file

STAND_INS = {
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "web page": b"<!DOCTYPE html><html><body>Sign in</body></html>",
    "compressed": gzip.compress(b"{}"),
}


@pytest.mark.parametrize("what", STAND_INS)
@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".tsv"])
def test_what_lies_in_the_place_of_rows_is_told(own, tsv, suffix, what):
    with pytest.raises(DataError, match=what):
        read(own(suffix, STAND_INS[what]))
    with pytest.raises(DataError, match=what):
        read(tsv(STAND_INS[what]))


@pytest.mark.parametrize("what", STAND_INS)
def test_what_lies_in_the_place_of_official_files_is_told(science, mme, captions, root, what):
    problem = {"question": "größer?", "choices": ["a", "b"], "answer": 0, "hint": "", "image": None}
    science({"1": problem})
    mme("existence")
    captions([{"image": "val2014/COCO_val2014_000000000042.jpg", "caption": ["ein Hündchen"]}])
    for path in [path for path in root.rglob("*") if path.suffix in TEXTS and path.is_file()]:
        path.write_bytes(STAND_INS[what])
    for name in ("sqa", "coco_caption"):
        with pytest.raises(DataError, match=what):
            read(build_task(name, root))
    (_, [skipped]) = read(build_task("mme", root, ["options.subtasks=[existence]"]))
    assert what in skipped.reason


@pytest.mark.parametrize("what", STAND_INS)
def test_what_lies_in_the_place_of_question_files_is_told(tmp_path, what):
    root = write_all(tmp_path)
    for path in [path for path in root.rglob("*") if path.suffix in TEXTS | {".p"}]:
        path.write_bytes(STAND_INS[what])
    for name in QUESTION_TASKS:
        with pytest.raises(DataError, match=what):
            read(build_task(name, root))


# Paths as Windows writes them


def test_an_own_file_may_name_images_as_windows_does(own, tmp_path):
    (tmp_path / "in").mkdir()
    rows = [{**ROWS[0], "image": "in\\b.png"}, {**ROWS[1], "image": ".\\in\\b.png"}]
    samples, skipped = read(own(".jsonl", table(".jsonl", rows)))
    assert [sample.images[0] for sample in samples] == [tmp_path / "in" / "b.png"] * 2
    assert skipped == []


@pytest.mark.parametrize("name", ["in ü\\b.png", "in ü\\\\b.png", ".\\in ü\\b.png", "in ü/b.png"])
def test_a_tsv_may_name_images_as_windows_does(tsv, tmp_path, name):
    (tmp_path / "in ü").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "in ü" / "b.png")
    ((sample,), skipped) = read(tsv(TSV.format(name)))
    assert skipped == []
    with Image.open(sample.images[0]) as image:
        assert image.size == (8, 8)


def test_questions_on_one_image_are_one_cluster_however_it_is_written(tsv):
    text = TSV.format("in\\b.png") + "2\tin/b.png\tgrößer?\tja\tnein\tB\n"
    samples, _ = read(tsv(text))
    assert [sample.cluster for sample in samples] == ["in/b.png"] * 2


OUTSIDE = ["..\\b.png", "in\\..\\..\\b.png", "C:\\b.png", "\\b.png", "\\\\host\\b.png", "C:b.png"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_windows_path_that_leads_out_is_refused(own, tsv, captions, name):
    good = {**ROWS[0], "image": "a.png"}
    bad = {**ROWS[1], "image": name}
    tasks = [
        own(".jsonl", table(".jsonl", [good, bad])),
        tsv(TSV.format("a.png") + TSV.format(name).splitlines()[1].replace("1", "2", 1) + "\n"),
    ]
    for task in tasks:
        samples, skipped = read(task)
        assert len(samples) == 1
        assert "leads out of" in skipped[0].reason
    rows = [{"image": f"a{n}_{n}.jpg", "caption": ["a dog"]} for n in (1, 2)]
    rows[1]["image"] = name.replace("b.png", "b_2.jpg")
    _, skipped = read(build_task("coco_caption", captions(rows)))
    assert "is no name below the image folder" in skipped[0].reason


def test_coco_files_may_name_images_as_windows_does(captions, write, root):
    task = build_task(
        "coco_caption",
        captions([{"image": "val2014\\COCO_val2014_000000000042.jpg", "caption": ["a dog"]}]),
    )
    (sample,) = task.samples()
    assert (sample.id, sample.images[0].parts[-2:]) == (
        "42", ("val2014", "COCO_val2014_000000000042.jpg"),
    )  # fmt: skip
    image = {"id": 5, "file_name": "val2014\\a_5.jpg"}
    data = {"images": [image], "annotations": [{"image_id": 5, "caption": "a dog"}]}
    write("annotations/captions_own.json", data)
    (sample,) = build_task("coco_caption", root, split="own").samples()
    assert sample.images[0] == root / "images" / "val2014" / "a_5.jpg"


def test_question_files_may_name_images_as_windows_does(tmp_path):
    root = write_all(tmp_path)
    path = next((root / "ocid_ref").glob("val_expressions.json"))
    plain = [sample.images for sample in build_task("ocid_ref", root).samples()]
    rows = json.loads(path.read_text())
    for row in rows.values():
        row["scene_path"] = row["scene_path"].replace("/", "\\")
    path.write_text(json.dumps(rows))
    assert [sample.images for sample in build_task("ocid_ref", root).samples()] == plain
