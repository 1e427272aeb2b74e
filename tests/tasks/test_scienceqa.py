import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adem_bench.cards import load_task_card
from adem_bench.errors import CardError, DataError, PredictionsError
from adem_bench.records import Record, Response, Sample
from adem_bench.tasks.base import build_task
from adem_bench.tasks.scienceqa.task import ScienceQA

PROBLEM = {
    "question": "Which?",
    "choices": ["this", "that", "both"],
    "answer": 1,
    "hint": "",
    "image": None,
    "grade": "grade2",
    "subject": "natural science",
    "lecture": "L.",
    "solution": "S.",
}
SAMPLE = Sample("1", PROBLEM | {"caption": ""}, 1)


def build(root, *settings, split=None):
    return build_task("sqa", root, settings, split)


def rule(name):
    card = load_task_card("sqa", [f"options.answer_rule={name}"])
    return ScienceQA(card, card.path)


def test_a_question_is_asked_as_published(science):
    task = build(science({"1": PROBLEM | {"image": "image.png", "split": "test"}}))
    (sample,) = task.samples()
    request = task.request(sample)
    assert request.prompt == (
        "Question: Which?\nContext: a map\nOptions: (A) this (B) that (C) both\n"
        "Response:The answer is"
    )
    assert (request.max_new_tokens, request.image_normalization) == (1, "imagenet")
    assert request.choices == ()
    assert request.images[0].parts[-4:] == ("images", "test", "1", "image.png")
    assert task.prompt_settings() == {"prompt_format": "QCM-A", "captions": True}
    assert sample.groups == ("NAT", "IMG", "G1-6")


LAVIN = (
    "prompt_format=QCM-ALE",
    "options={captions: false, answer_start: false, answer_rule: lavin, max_new_tokens: 64}",
)


def test_a_question_is_asked_as_lavin_asks(science):
    task = build(science({"1": PROBLEM | {"question": "Which  one?"}}), *LAVIN)
    request = task.request(next(task.samples()))
    assert request.prompt == (
        "Question: Which one?\nContext: N/A\nOptions: (A) this (B) that (C) both\nResponse:"
    )
    assert (request.max_new_tokens, request.stop_pattern) == (64, "The answer is ([A-Z]).")
    assert task.prompt_settings()["answer_start"] is False
    assert task.training_settings() == {"prompt_format": "QCM-ALE", "captions": False}
    (pair,) = task.training_pairs()
    assert pair.prompt == request.prompt
    assert pair.answer == "The answer is B. BECAUSE: L. S."


def test_captions_can_be_left_out_and_need_no_file_then(science):
    root = science({"1": PROBLEM})
    (root / "scienceqa" / "captions.json").unlink()
    (sample,) = build(root, "options.captions=false").samples()
    assert "Context: N/A" in build(root, "options.captions=false").request(sample).prompt
    with pytest.raises(DataError, match=r"captions\.json is missing"):
        list(build(root).samples())


def test_training_pairs_are_those_of_the_published_trainer(science):
    task = build(science({"1": PROBLEM}), "prompt_format=CQM-A")
    (pair,) = task.training_pairs()
    assert (pair.prompt, pair.answer) == (
        "Context: a map\nQuestion: Which?\nOptions: (A) this (B) that (C) both\nResponse:",
        "The answer is B.",
    )
    assert pair.images == next(task.samples()).images


def test_a_pair_learns_what_evaluation_asks_for(science):
    task = build(science({"1": PROBLEM}))
    (pair,) = task.training_pairs()
    request = task.request(next(task.samples()))
    assert request.prompt == f"{pair.prompt}The answer is"
    assert pair.answer.startswith("The answer is")
    assert (pair.id, pair.images) == ("1", request.images)
    assert pair.image_normalization == request.image_normalization


# The right column is what the published get_pred_idx made of these texts (eval_sqa.py).
@pytest.mark.parametrize(
    ("text", "options", "index"),
    [
        ("A", 2, 0),
        ("B.", 2, 1),
        (" C", 2, -1),
        (" C", 3, 2),
        ("An", 2, 0),
        ("Both", 4, 1),
        ("yes", 4, -1),
        ("E", 4, -1),
        ("E", 5, 4),
        ("The answer", 5, -1),
        ("(D)", 4, 3),
        ("", 2, -1),
    ],
)
def test_answers_are_read_as_published(text, options, index):
    sample = Sample("1", {"choices": ("x",) * options}, 1)
    prediction = rule("published").parse_response(sample, Response(text))
    assert prediction.value == index
    assert prediction.score == (index == 1)


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("B", 1), (" (C)", 2), ("B. that", 1), ("An apple", -1), ("D", -1), ("it is B", 1),
        ("Answer: B", 1), ("The answer is B.", 1), ("A or B", -1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["chat", "strict"])
def test_the_rule_for_models_that_chat_wants_a_listed_letter_alone(text, index, name):
    assert rule(name).parse_response(SAMPLE, Response(text)).value == index


def test_the_logits_rule_takes_the_most_probable_option():
    task = rule("logits")
    assert task.request(SAMPLE).choices == (" A", " B", " C")
    chosen = task.parse_response(SAMPLE, Response("C", choice_logprobs=(-3.0, -1.0, -math.inf)))
    assert (chosen.value, chosen.score) == (1, 1.0)
    for logprobs in (None, (), (-1.0, -2.0), (-1.0, math.nan, -1.0)):
        nothing = task.parse_response(SAMPLE, Response("B", choice_logprobs=logprobs))
        assert (nothing.value, nothing.score) == (None, None)


# The right column is what the published eval.py of LaVIN makes of these texts; None: its draw.
@pytest.mark.parametrize(
    ("text", "options", "index"),
    [
        ("The answer is B. BECAUSE: the answer is A.", 3, 1),
        (" The answer is C.", 3, 2),
        ("The answer is A, or The answer is B.", 3, 0),
        ("The answer is A\nThe answer is B.", 3, 1),
        ("The answer is B", 3, None),
        ("The answer is B\n", 3, None),
        ("The answer is D.", 3, None),
        ("The answer is Both", 3, 1),
        ("the answer is B.", 3, None),
        ("B", 3, None),
        ("", 3, None),
    ],
)
def test_answers_are_read_as_lavin_reads_them(text, options, index):
    sample = Sample("1", {"choices": ("x",) * options}, 1)
    drawn = rule("lavin").parse_response(sample, Response(text))
    assert drawn.notes == (("L4",) if index is None else ())
    assert drawn.value in (range(options) if index is None else [index])
    card = load_task_card("sqa", ["options={answer_rule: lavin, unread: wrong}"])
    wrong = ScienceQA(card, card.path).parse_response(sample, Response(text))
    assert (wrong.value, wrong.notes) == (-1 if index is None else index, ())


def test_an_unread_answer_is_drawn_evenly_by_the_question_s_id_alone():
    task = rule("lavin")
    samples = [Sample(str(n), {"choices": ("x",) * 3}, 0) for n in range(600)]
    drawn = [task.parse_response(sample, Response("?")).value for sample in samples]
    assert drawn == [task.parse_response(sample, Response("!")).value for sample in samples]
    assert all(160 < drawn.count(index) < 240 for index in range(3))
    assert task.parse_response(Sample("\ud800", {"choices": ("x",)}, 0), Response("")).value == 0


@pytest.mark.parametrize("name", ["published", "strict"])
def test_other_rules_can_draw_too(name):
    card = load_task_card("sqa", [f"options={{answer_rule: {name}, unread: draw}}"])
    assert ScienceQA(card, card.path).parse_response(SAMPLE, Response("?")).notes == ("L4",)
    assert rule(name).parse_response(SAMPLE, Response("?")).value == -1


def test_drawn_answers_are_counted_and_their_spread_is_told(science, answered):
    rows = {str(n): PROBLEM for n in range(100)}
    task = build(science(rows), *LAVIN)
    read, drawn = answered(task, "The answer is B."), answered(task, "?")
    result = task.aggregate([*read[:75], *drawn[75:]])
    unread = result.metric("unread")
    assert (unread.value, unread.note) == (25, "no option read; one was drawn (L4)")
    (warning,) = result.warnings
    # 25 answers of two options each: sqrt(25 / 4) of 100.
    assert "in 25 of 100 answers" in warning
    assert "by 2.50 points or less" in warning
    assert task.aggregate(read).warnings == ()
    right = sum(record.score for record in drawn[75:])
    assert result.metric("average").value == (75 + right) / 100


@given(st.text(), st.sampled_from(["published", "strict", "logits", "lavin"]))
def test_reading_never_fails(text, name):
    value = rule(name).parse_response(SAMPLE, Response(text)).value
    assert value is None if name == "logits" else value in (-1, 0, 1, 2)


def test_the_nine_columns_and_what_they_cover(science, answered):
    rows = {
        "1": PROBLEM | {"hint": "h"},
        "2": PROBLEM | {"image": "image.png", "subject": "social science", "grade": "grade11"},
        "3": PROBLEM | {"subject": "language science", "answer": 0},
    }
    task = build(science(rows))
    records = answered(task, "B")
    result = task.aggregate(records)
    shown = {metric.name: (metric.format(), metric.count) for metric in result.metrics}
    assert shown["average"] == ("66.67", 3)
    assert shown["TXT"] == shown["IMG"] == ("100.00", 1)
    assert shown["NO"] == ("0.00", 1)
    assert shown["G1-6"] == ("50.00", 2)
    assert result.coverage() == "SUBSET 3/4241"
    failed = Record("4", "", "", None, 1, None, error="broken image")
    assert task.aggregate([*records, failed]).failed == 1
    nothing = task.aggregate([failed])
    assert nothing.metric("average").value is None
    assert nothing.scored == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"choices": "no list"}, "`choices` must be a list"),
        ({"choices": list("abcdef")}, "`choices` must be a list of 1 to 5"),
        ({"choices": [1, 2]}, "must hold texts"),
        ({"answer": 3}, "`answer` must be the index of a choice, found 3"),
        ({"answer": None}, "`answer`"),
        ({"answer": True}, "`answer`"),
        ({"question": None}, "`question` must be a text"),
        ({"hint": 7}, "`hint` must be a text"),
        ({"image": "../../../etc/passwd"}, "leaves the image folder"),
        ({"image": "/etc/passwd"}, "leaves the image folder"),
        ({"image": {"bytes": ""}}, "leaves the image folder"),
        ({"image": "image.png", "split": "../.."}, "`split` must be one of"),
    ],
)
def test_a_malformed_question_is_skipped_with_its_id_and_the_run_goes_on(science, change, reason):
    task = build(science({"1": PROBLEM, "2": PROBLEM | change, "3": PROBLEM}))
    assert [sample.id for sample in task.samples()] == ["1", "3"]
    assert [sample.id for sample in task.samples()] == ["1", "3"]
    (skipped,) = task.skipped_rows()
    assert skipped.id == "2"
    assert reason in skipped.reason


def test_rows_past_a_limit_are_not_called_skipped(science):
    task = build(science({"1": PROBLEM, "2": {}}))
    next(task.samples())
    assert list(task.skipped_rows()) == []


def test_ids_that_are_odd_are_skipped(science):
    root = science({"1": PROBLEM, "../2": PROBLEM | {"image": "image.png"}}, val=["1", "1", "9"])
    assert [row.id for row in build(root).samples()] == ["1"]
    task = build(root, split="val")
    assert [row.id for row in task.samples()] == ["1"]
    assert [row.id for row in task.skipped_rows()] == ["1#1", "9"]


def test_the_files_may_lie_in_the_data_root_itself(science):
    assert len(list(build(science({"1": PROBLEM}, folder="")).samples())) == 1


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("problems.json", None, "problems.json is missing"),
        ("problems.json", "{", "not JSON"),
        ("problems.json", "[" * 100_000, "not JSON"),
        ("problems.json", [], "a list"),
        ("problems.json", {}, "no problems"),
        ("problems.json", {"7": PROBLEM}, "no problem of split test"),
        ("pid_splits.json", None, "pid_splits.json is missing"),
        ("pid_splits.json", {"test": "1"}, "something else"),
        ("captions.json", {"1": "a"}, "no `captions`"),
    ],
)
def test_a_missing_or_broken_file_is_one_error_with_the_source(
    science, write, file, content, message
):
    root = science({"1": PROBLEM})
    (root / "scienceqa" / file).unlink()
    if content is not None:
        write(f"scienceqa/{file}", content)
    with pytest.raises(DataError) as error:
        list(build(root).samples())
    assert message in str(error.value)
    remedy = "`adem-bench data fetch sqa" if content is None else "github.com/lupantech/ScienceQA"
    assert remedy in str(error.value)


def test_the_fingerprint_follows_the_data_and_not_its_place(science, tmp_path):
    root = science({"1": PROBLEM | {"image": "image.png"}})
    before = build(root).fingerprint()
    moved = root.rename(tmp_path / "moved")
    assert build(moved).fingerprint() == before
    image = moved / "scienceqa" / "images" / "test" / "1" / "image.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"x")
    assert build(moved).fingerprint() != before


def test_predictions_go_out_and_come_back(science, tmp_path, answered):
    task = build(science({"1": PROBLEM, "2": PROBLEM | {"answer": 0}}))
    records = answered(task, "B")
    (path,) = task.export(records, tmp_path)
    assert json.loads(path.read_text()) == {"1": 1, "2": 1}
    assert task.aggregate(task.import_predictions(path)) == task.aggregate(records)
    path.write_text(json.dumps({"results": {"1": "1"}}))
    assert task.aggregate(task.import_predictions(path)).metric("average").value == 1.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "holds no predictions"),
        ("{}", "holds no predictions"),
        ('{"9": 0}', "the first is '9'; it is in val"),
        ('{"8": 0}', "the first is '8'"),
        ('{"1": "x"}', "'x' is not an option index"),
        ('{"1": null}', "None is not an option index"),
        ('{"1": 0.5}', "0.5 is not an option index"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(science, tmp_path, content, message):
    task = build(science({"1": PROBLEM}, val=["9"]))
    path = tmp_path / "preds.json"
    path.write_text(content)
    with pytest.raises(PredictionsError) as error:
        task.import_predictions(path)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("options.captoins=true", "unknown option 'captoins'; did you mean: captions?"),
        ("options.captions=perhaps", "option 'captions' cannot be 'perhaps'"),
        ("options.answer_rule=first", "'published', 'chat', 'strict', 'logits' or 'lavin'"),
        ("options.unread=guess", "'wrong' or 'draw'"),
        ("options.max_new_tokens=0", "option 'max_new_tokens' cannot be 0"),
        ("prompt_format=QCMA", "unknown prompt format 'QCMA'; did you mean: "),
        ("headline=avrage", "unknown metric 'avrage'; did you mean: average?"),
    ],
)
def test_a_wrong_setting_proposes_the_right_one(science, setting, message):
    with pytest.raises(CardError) as error:
        build(science({"1": PROBLEM}), setting)
    assert message in str(error.value)


def test_an_unknown_split_proposes_the_nearest(science):
    with pytest.raises(CardError, match=r"unknown split 'tset'.*did you mean: test"):
        list(build(science({"1": PROBLEM}), split="tset").samples())
