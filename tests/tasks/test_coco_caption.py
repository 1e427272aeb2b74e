import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import adem_bench.tasks.coco_caption.task as module
from adem_bench.cards import load_task_card
from adem_bench.errors import CardError, DataError, PredictionsError
from adem_bench.records import Metric, Record, Response, Sample
from adem_bench.tasks.base import build_task, build_training_data
from adem_bench.tasks.coco_caption.scores import NAMES
from adem_bench.tasks.coco_caption.task import CocoCaption


def caption_row(number, *texts):
    return {"image": f"val2014/COCO_val2014_{number:012d}.jpg", "caption": list(texts)}


def build(root, *settings, split=None):
    return build_task("coco_caption", root, settings, split)


ROWS = [caption_row(42, "a red ball", "a ball"), caption_row(7, "two cats")]


@pytest.fixture(autouse=True)
def counted(monkeypatch):
    """Caption metrics start Java; here it matters only what they are given."""
    given = {}

    def count(captions, references, kept):
        given["captions"], given["references"] = captions, references
        return tuple(Metric(name, 0.5, "fraction", len(captions)) for name in NAMES)

    monkeypatch.setattr(module, "caption_scores", count)
    return given


def test_an_image_is_asked_about_as_published(captions):
    task = build(captions(ROWS))
    first, second = task.samples()
    assert (first.id, first.reference) == ("42", ["a red ball", "a ball"])
    assert second.images[0].parts[-2:] == ("val2014", "COCO_val2014_000000000007.jpg")
    request = task.request(first)
    assert (request.prompt, request.max_new_tokens) == ("a picture of", 20)
    assert request.image_normalization == "clip"
    assert task.num_expected == 5000


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("picture of a dog", "a dog"),
        ("a picture of a picture of a dog", "a picture of a dog"),
        ("a dog", "a dog"),
        ("picture of ", "picture of "),
        ("picture of a dog\nand more", "a dog"),
        ("", ""),
    ],
)
def test_captions_are_read_as_published(captions, text, caption):
    task = build(captions(ROWS))
    prediction = task.parse_response(next(task.samples()), Response(text))
    assert (prediction.value, prediction.score) == (caption, None)


def test_the_whole_answer_can_be_the_caption(captions):
    task = build(captions(ROWS), "options.caption_rule=whole")
    whole = task.parse_response(next(task.samples()), Response("a picture of a dog"))
    assert whole.value == "a picture of a dog"


@given(st.text(), st.sampled_from(["published", "whole"]))
def test_reading_never_fails(text, rule):
    card = load_task_card("coco_caption", [f"options.caption_rule={rule}"])
    found = CocoCaption(card, Path()).parse_response(Sample("1", {}, ["a"]), Response(text))
    assert isinstance(found.value, str)


def test_the_published_references_come_first(captions, write):
    root = captions(ROWS)
    rows = [{"image_id": 42, "caption": "a sphere", "id": 0}]
    write("coco_caption/coco_karpathy_val_gt.json", {"annotations": rows, "images": [{"id": 42}]})
    task = build(root)
    assert [sample.reference for sample in task.samples()] == [["a sphere"]]
    assert "image 7 has no reference" in task.skipped_rows()[0].reason


def test_a_reference_that_is_no_text_is_not_scored_against(captions, write):
    root = captions(ROWS)
    rows = [{"image_id": 42, "caption": None}, {"image_id": 7, "caption": "two cats"}]
    write("coco_caption/coco_karpathy_val_gt.json", {"annotations": rows})
    task = build(root)
    assert [sample.id for sample in task.samples()] == ["7"]
    assert "no text" in task.skipped_rows()[0].reason
    write("coco_caption/coco_karpathy_val_gt.json", '{"annotations": [{"image_id": 1e999}]}')
    with pytest.raises(DataError, match=r"val_gt\.json is not as expected"):
        list(build(root).samples())


def test_a_plain_coco_file_is_read_by_split_or_by_name(write, root):
    data = {
        "images": [
            {"id": 5, "file_name": "COCO_val2014_000000000005.jpg"},
            {"id": 6, "file_name": "COCO_val2014_000000000006.jpg"},
        ],
        "annotations": [{"image_id": 5, "caption": "a dog", "id": 1}],
    }
    write("annotations/captions_val2014.json", data)
    (root / "images").mkdir()
    task = build(root, split="val2014")
    (sample,) = task.samples()
    assert sample.id == "5"
    assert sample.images[0].parts[-2:] == ("val2014", "COCO_val2014_000000000005.jpg")
    assert task.num_expected == 2
    named = build(root, "options.annotations=annotations/captions_val2014.json")
    assert len(list(named.samples())) == 1


def test_rows_of_one_image_in_the_train_file_are_one_sample(captions):
    name = "train2014/COCO_train2014_000000000009.jpg"
    rows = [{"caption": text, "image": name, "image_id": "coco_9"} for text in ("a", "b")]
    task = build(captions(rows, "train"), split="train")
    assert [(sample.id, sample.reference) for sample in task.samples()] == [("9", ["a", "b"])]


def test_captions_of_one_image_are_learned_of_it_whatever_stands_between_them(captions):
    rows = [
        {"image": f"train2014/{name}", "caption": text}
        for name, text in (("a_1.jpg", "one"), ("a_1.jpg", "two"), ("dog.jpg", "no"),
                           ("b_2.x_3.jpg", "three"), ("a_1.jpg", "four"), ("sub//c_5", "five"))
    ]  # fmt: skip
    data = build_training_data("coco_caption", captions(rows, "train"), split="train")
    found = [(pair.id, pair.images[0].name) for pair in data.training_pairs()]
    assert found == [
        ("1/0", "a_1.jpg"),
        ("1/1", "a_1.jpg"),
        ("3/0", "b_2.x_3.jpg"),
        ("1/2", "a_1.jpg"),
        ("5/0", "c_5"),
    ]
    assert [row.id for row in data.skipped_rows()] == ["row 2"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (caption_row(42, "again"), "image id 42 stands twice"),
        (caption_row(1), "no reference caption"),
        (caption_row(1, " "), "an empty caption"),
        ({"image": "val2014/x_1.jpg", "caption": [3]}, "no text"),
        ({"image": "val2014/x_1.jpg"}, "no reference caption"),
        ({"image": "../../secret_1.jpg", "caption": ["a"]}, "no name below the image folder"),
        ({"image": "/etc/passwd_1", "caption": ["a"]}, "no name below the image folder"),
        ({"image": ".", "caption": ["a"]}, "no name below the image folder"),
        ({"caption": ["a"]}, "image name None"),
        ({"image": "val2014/dog.jpg", "caption": ["a"]}, "no image id"),
        ("text", "expected an object"),
    ],
)
def test_a_malformed_row_is_skipped_with_its_place(captions, row, reason):
    task = build(captions([ROWS[0], row, ROWS[1]]))
    assert [sample.id for sample in task.samples()] == ["42", "7"]
    (skipped,) = task.skipped_rows()
    assert skipped.id == "row 1"
    assert reason in skipped.reason


@pytest.mark.parametrize("content", ["[", [], {}, {"images": 1}, 7, "[" * 100_000])
def test_a_broken_annotation_file_is_one_error(captions, content):
    with pytest.raises(DataError, match=r"coco_karpathy_val\.json is not as expected"):
        list(build(captions(content)).samples())


def test_annotations_without_captions_are_one_error(captions):
    broken = {"images": [{"id": 1, "file_name": "a_1.jpg"}], "annotations": [{"image_id": 1}]}
    with pytest.raises(DataError, match="an annotation without image_id or caption"):
        list(build(captions(broken)).samples())


def test_missing_files_are_one_error_with_the_source(root, captions):
    task = build(root)
    with pytest.raises(DataError, match=r"karpathy_val\.json is missing.*`adem-bench data fetch"):
        task.fingerprint()


def test_a_run_is_scored_on_what_it_answered(captions, counted, answered):
    task = build(captions(ROWS))
    records = answered(task, "picture of a dog")
    failed = Record("7", "", "", None, ["two cats"], None, error="broken image")
    result = task.aggregate([records[0], failed])
    assert counted["captions"] == {"42": "a dog"}
    assert counted["references"] == {"42": ["a red ball", "a ball"]}
    assert (result.scored, result.failed, result.coverage()) == (1, 1, "SUBSET 1/5000")
    assert any("not comparable" in warning for warning in result.warnings)


def test_captions_go_out_and_come_back(captions, tmp_path, answered):
    task = build(captions(ROWS))
    records = answered(task, "a \ud800 dog")
    (path,) = task.export(records, tmp_path)
    assert json.loads(path.read_text())[0] == {"image_id": 42, "caption": "a \ud800 dog"}
    assert task.aggregate(task.import_predictions(path)) == task.aggregate(records)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "not JSON"),
        ("[]", "holds no captions"),
        ('{"42": "a"}', "holds no captions"),
        ("[3]", "row 0: found 3; expected a list of"),
        ('[{"image_id": 42}]', "row 0: its caption is a NoneType, not one text"),
        ('[{"image_id": 42, "caption": ["a"]}]', "row 0: its caption is a list, not one text"),
        ('[{"image_id": "a42", "caption": "a"}]', "its image_id is 'a42', which is not a whole"),
        ('[{"image_id": 4.5, "caption": "a"}]', "its image_id is 4.5, which is not a whole"),
        ('[{"image_id": true, "caption": "a"}]', "its image_id is True, which is not a whole"),
        ('[{"caption": "a"}]', "its image_id is None, which is not a whole number"),
        ('[{"image_id": "7", "caption": "a"}, {"image_id": 7, "caption": "b"}]', "7 stands twice"),
        ('[{"image_id": 1, "caption": "a"}]', "1 of 1 images are not in split val"),
        ('[{"image_id": 7, "caption": "a"}, {"image_id": 7, "caption": "b"}]', "7 stands twice"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(captions, tmp_path, content, message):
    task = build(captions(ROWS))
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(PredictionsError) as error:
        task.import_predictions(path)
    assert message in str(error.value)


@pytest.mark.parametrize("image_id", ["42", " 42", "000042", 42.0, 42])
def test_an_id_may_be_a_text_or_a_float(captions, tmp_path, image_id):
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{"image_id": image_id, "caption": "a ball"}]))
    (record,) = build(captions(ROWS)).import_predictions(path)
    assert (record.sample_id, record.prediction) == ("42", "a ball")


@pytest.mark.parametrize("kind", [str, float, "{:012d}".format])
def test_ids_of_coco_files_may_be_texts_or_floats(write, root, kind):
    images = [{"id": kind(n), "file_name": f"COCO_val2014_{n:012d}.jpg"} for n in (5, 6)]
    rows = [{"image_id": kind(5), "caption": "a dog"}, {"image_id": 6, "caption": "a cat"}]
    write("annotations/captions_val2014.json", {"images": images, "annotations": rows})
    (root / "images").mkdir()
    task = build(root, split="val2014")
    assert [(s.id, s.reference) for s in task.samples()] == [("5", ["a dog"]), ("6", ["a cat"])]


def test_a_wrong_setting_proposes_the_right_one(root):
    for setting, hint in {
        "options.annotation=x": "did you mean: annotations",
        "prompt_format=pictures": "did you mean: picture",
        "headline=CIDER": "did you mean: CIDEr",
    }.items():
        with pytest.raises(CardError, match=hint):
            build(root, setting)


def pairs(write, root, *rows, settings=()):
    write("coco_caption/coco_karpathy_train.json", list(rows))
    data = build_training_data("coco_caption", root, settings, "train")
    return data, list(data.training_pairs())


def train_row(number, text):
    return {"image": f"train2014/COCO_train2014_{number:012d}.jpg", "caption": text}


def test_captions_to_learn_are_prompted_twice_as_published(write, root):
    rows = (train_row(9, "A man, (at left) rides: a wave!"), train_row(9, "Two   dogs."))
    data, found = pairs(write, root, *rows)
    assert [(p.id, p.prompt, p.answer) for p in found] == [
        ("9/0", "a picture of ", "a picture of a man, at left rides a wave"),
        ("9/1", "a picture of ", "a picture of two dogs"),
    ]
    assert {p.image_normalization for p in found} == {"clip"}
    assert found[0].images == (root / "images" / rows[0]["image"],)
    assert data.skipped_rows() == ()


def test_a_single_prompt_ends_where_the_caption_starts(write, root):
    settings = ["options.training_prompt=single"]
    _, (pair,) = pairs(write, root, train_row(9, "Two dogs."), settings=settings)
    assert (pair.prompt, pair.answer) == ("a picture of", " two dogs")


# By hand from the published pre_caption: lower case, punctuation to blanks, 30 words.
@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("  Hello\tWorld  ", "hello\tworld"),
        ('"Hi"; #1 ~ (x)*!', "hi 1 x"),
        ("it's 5-ton, ok?", "it's 5-ton, ok?"),
        ("a\n\nb", "a b"),
        ("end\n", "end"),
        (" ".join(["w"] * 40), " ".join(["w"] * 30)),
        ("A red-and-white sign:  STOP!", "a red-and-white sign stop"),
        ("a\nb", "a\nb"),
        ("...", ""),
    ],
)
def test_captions_are_cleaned_as_published(raw, clean):
    assert module.clean_caption(raw) == clean


@pytest.mark.parametrize("empty", ["...", "", " \t", "\n"])
def test_a_caption_without_a_word_is_skipped_alone_and_named(write, root, empty):
    data, found = pairs(write, root, train_row(9, "a cat"), train_row(9, empty), train_row(9, "b"))
    assert [(p.id, p.answer) for p in found] == [
        ("9/0", "a picture of a cat"),
        ("9/2", "a picture of b"),
    ]
    (skipped,) = data.skipped_rows()
    assert (skipped.id, skipped.reason) == ("9/1", f"caption {empty!r} holds no word")


def test_captions_are_learned_in_the_files_order(write, root):
    rows = (train_row(9, "a"), train_row(8, "b"), train_row(9, "c"))
    _, found = pairs(write, root, *rows)
    assert [(p.id, p.answer[-1]) for p in found] == [("9/0", "a"), ("8/0", "b"), ("9/1", "c")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("text", "expected an object"),
        ({"image": "train2014/x_1.jpg"}, "image 1 has no reference caption"),
        ({"image": "train2014/x_1.jpg", "caption": [3]}, "image 1 has a caption that is no text"),
        ({"image": "../../secret_1.jpg", "caption": "a"}, "no name below the image folder"),
        ({"image": "train2014/dog.jpg", "caption": "a"}, "no image id"),
    ],
)
def test_a_malformed_row_to_learn_from_is_skipped_with_its_place(write, root, row, reason):
    data, found = pairs(write, root, train_row(9, "a"), train_row(9, "b"), row, train_row(8, "c"))
    assert [p.id for p in found] == ["9/0", "9/1", "8/0"]
    (skipped,) = data.skipped_rows()
    assert skipped.reason.startswith("coco_karpathy_train.json, row 2: ")
    assert reason in skipped.reason


def test_all_captions_of_an_evaluation_split_can_be_learned(captions, write):
    root = captions(ROWS)
    reference = {"image_id": 42, "caption": "for scoring", "id": 0}
    write("coco_caption/coco_karpathy_val_gt.json", {"annotations": [reference]})
    data = build_training_data("coco_caption", root, split="val")
    answers = [pair.answer.removeprefix("a picture of ") for pair in data.training_pairs()]
    assert answers == ["a red ball", "a ball", "two cats"]


def test_every_pair_learns_what_evaluation_asks_for(write, root):
    settings = ["options.training_prompt=single"]
    data, (pair,) = pairs(write, root, train_row(9, "Two dogs."), settings=settings)
    (root / "images").mkdir()
    (sample,) = build(root, split="train").samples()
    request = build(root, split="train").request(sample)
    assert (pair.prompt, pair.images) == (request.prompt, request.images)
    assert pair.image_normalization == request.image_normalization
    assert data.prompt_format == "picture"
