"""Cards of rows: what they may say, what rows may hold, and what is said of those that do not."""

from __future__ import annotations

import base64
import json
import math

import pytest

from adem_bench.data.base64_images import ImageCache
from adem_bench.errors import CardError, DataError
from adem_bench.images import open_rgb
from adem_bench.records import Response
from adem_bench.registry import TASK_KINDS
from adem_bench.schemas import TaskCard
from adem_bench.tasks.base import build_task, build_training_data

ROW = {"id": "r1", "image": "a.png", "question": "What animal?", "answer": "Cat"}
CHOICE = {**ROW, "choices": ["red", "green", "blue"], "answer": "B"}


@pytest.fixture
def task(write, root):
    """Builds the task of a card with options, on rows or on a file's text."""

    def build(*rows, headline="accuracy", **options):
        lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        write("pets.jsonl", "\n".join(lines))
        card = {"name": "pets", "kind": "jsonl", "split": "test", "headline": headline}
        return TASK_KINDS.load("jsonl")(TaskCard(**card, options=options), root)

    return build


@pytest.fixture
def png(tmp_path, pictures):
    """An image's bytes in base64, and the cache that it goes to."""
    return base64.b64encode(pictures[0].read_bytes()).decode()


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("ADEM_BENCH_CACHE", str(tmp_path / "cache"))


def only(task):
    """The one sample of a task."""
    (sample,) = task.samples()
    return sample


def refused(task):
    """Why the one row of a task is left out."""
    with pytest.raises(DataError, match="no row can be used, the first because"):
        list(task.samples())
    (row,) = task.skipped_rows()
    return row.reason


def test_a_card_of_few_words_suffices(task, root):
    found = only(task(ROW))
    assert (found.id, found.reference, found.cluster) == ("1", ["Cat"], "a.png")
    assert found.images == (root / "a.png",)
    request = task(ROW).request(found)
    assert request.prompt == (
        "Instruction: What animal?\nAnswer with a single word or a short phrase.\nResponse:"
    )
    assert request.max_new_tokens == 16


@pytest.mark.parametrize(
    ("rule", "right", "wrong"),
    [
        ("", [" cat.", "CAT"], ["cats", "a cat"]),
        ("text", ["Cat ."], ["the cat"]),
        ("exact", ["Cat"], ["cat", "Cat.", " Cat"]),
        ("vqa", ["the cat!", "A cat"], ["cats"]),
    ],
)
def test_exact_match_compares_by_its_rule(task, rule, right, wrong):
    made = task({**ROW, "answer": ["dog", "Cat"]}, answer_rule=rule)
    sample = only(made)
    scores = [made.parse_response(sample, Response(text)).score for text in [*right, *wrong]]
    assert scores == [1.0] * len(right) + [0.0] * len(wrong)


@pytest.mark.parametrize(
    ("answer", "texts"),
    [
        (3, ["3"]),
        (2.5, ["2.5"]),
        (["a", 2], ["a", "2"]),
        ([{"answer": "a", "answer_id": 1}], ["a"]),
    ],
)
def test_answers_may_be_numbers_lists_and_vqas_objects(task, answer, texts):
    assert only(task({**ROW, "answer": answer})).reference == texts


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "`answer` is empty: expected the right answer"),
        ("  ", "`answer` is empty"),
        ([], "`answer` is empty"),
        (math.nan, "`answer` is empty"),
        (True, "`answer` must be a text, or a list of texts, found True"),
        ({"text": "cat"}, "`answer` must be a text, or a list of texts, found None"),
        ([["cat"]], "`answer` must be a text, or a list of texts, found ['cat']"),
    ],
)
def test_rows_without_a_usable_answer_are_left_out(task, answer, reason):
    assert reason in refused(task({**ROW, "answer": answer}))


@pytest.mark.parametrize(
    ("answer", "form", "index"),
    [
        ("B", "auto", 1),
        ("b", "auto", 1),
        (1, "auto", 1),
        ("blue", "auto", 2),
        (" blue ", "auto", 2),
        ("2", "auto", 2),
        ("2", "index", 2),
        ("C", "letter", 2),
    ],
)
def test_a_right_option_is_a_letter_an_index_or_a_text(task, answer, form, index):
    made = task({**CHOICE, "answer": answer}, metric="multiple_choice", answer_form=form)
    assert only(made).reference == index


@pytest.mark.parametrize(
    ("row", "options", "reason"),
    [
        ({"answer": "D"}, {}, "`answer` is 'D', which names none of the 3 options"),
        ({"answer": 3}, {}, "`answer` is 3, which names none of the 3 options"),
        ({"answer": "B"}, {"answer_form": "text"}, "names none of the 3 options, as a text"),
        ({"answer": None}, {}, "`answer` must name an option, found None"),
        ({"answer": True}, {}, "`answer` must name an option, found True"),
        (
            {"choices": ["1", "0"], "answer": "1"},
            {},
            "names several options (index and text); set options.answer_form",
        ),
        (
            {"choices": ["B", "A"], "answer": "A"},
            {},
            "names several options (letter and text); set options.answer_form",
        ),
        ({"choices": ["red"]}, {}, "it has 1 options, expected 2 to 26"),
        ({"choices": ["red", ""]}, {}, "an option is empty or not a text"),
        ({"choices": ["red", None, "blue"]}, {}, "an option is empty or not a text"),
        ({"choices": ["x"] * 27}, {}, "it has 27 options"),
    ],
)
def test_questions_whose_right_option_is_unclear_are_left_out(task, row, options, reason):
    made = task({**CHOICE, **row}, metric="multiple_choice", **options)
    assert reason in refused(made)


def test_options_are_shown_with_their_letters_where_the_card_wants_them(task):
    made = task(CHOICE, metric="multiple_choice", question="{choices}\nWhich {{one}}? {question}")
    prompt = made.request(only(made)).prompt
    assert prompt == (
        "Instruction: A. red\nB. green\nC. blue\nWhich {one}? What animal?\nResponse:"
    )


def test_options_may_stand_in_columns_of_their_own(task):
    row = {**ROW, "a": "red", "b": "green", "c": None, "d": "", "answer": "A"}
    made = task(row, metric="multiple_choice", choices=["a", "b", "c", "d"])
    assert only(made).fields["choices"] == ("red", "green")


@pytest.mark.parametrize(
    ("rule", "text", "index"),
    [
        ("strict", "B. green", 1),
        ("strict", "green", 1),
        ("strict", "I think it is green", -1),
        ("vlmevalkit", "I think it is green", 1),
    ],
)
def test_options_are_read_by_the_rule(task, rule, text, index):
    made = task(CHOICE, metric="multiple_choice", answer_rule=rule)
    assert made.parse_response(only(made), Response(text)).value == index


@pytest.mark.parametrize(
    ("metric", "row", "asked", "right"),
    [
        ("multiple_choice", CHOICE, (" A", " B", " C"), (-3.0, -1.0, -2.0)),
        ("yes_no", {**ROW, "answer": "yes"}, (" yes", " no"), (-1.0, -2.0)),
    ],
)
def test_probabilities_decide_by_the_rule_logits(task, metric, row, asked, right):
    made = task(row, metric=metric, answer_rule="logits")
    sample = only(made)
    assert made.request(sample).choices == asked
    assert made.parse_response(sample, Response("x", choice_logprobs=right)).score == 1.0
    assert made.parse_response(sample, Response("x")).value is None


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("Yes", "yes"), (" no ", "no"), (True, "yes"), (0, "no"), ("TRUE", "yes")],
)
def test_yes_and_no_have_several_spellings(task, answer, expected):
    assert only(task({**ROW, "answer": answer}, metric="yes_no")).reference == expected


def test_what_is_neither_yes_nor_no_is_left_out(task):
    made = task({**ROW, "answer": "maybe"}, metric="yes_no")
    assert "`answer` must be yes or no, found 'maybe'" in refused(made)


def test_vqa_accuracy_needs_several_annotators(task):
    made = task({**ROW, "answer": ["cat"] * 3 + ["dog"] * 7}, metric="vqa_accuracy")
    assert made.parse_response(only(made), Response("Cat")).score == pytest.approx(0.9)
    single = task(ROW, metric="vqa_accuracy")
    assert "needs those of several annotators (metric exact_match compares" in refused(single)


def test_captions_have_room_and_no_score_of_their_own(task):
    made = task({**ROW, "answer": ["a cat", "", "one cat"]}, metric="caption", headline="CIDEr")
    sample = only(made)
    assert sample.reference == ["a cat", "one cat"]
    assert made.request(sample).max_new_tokens == 40
    assert made.parse_response(sample, Response("a cat")).score is None
    short = task(ROW, metric="caption", headline="CIDEr", max_new_tokens=5)
    assert short.request(only(short)).max_new_tokens == 5


def test_a_question_is_made_of_columns(task):
    row = {**ROW, "hint": "look at {legs}", "legs": 4, "names": ["Tom", "Tim"], "none": None}
    made = task(row, question="{hint} {legs} {names}{none}?")
    assert only(made).fields["question"] == "look at {legs} 4 Tom, Tim?"


@pytest.mark.parametrize(
    ("row", "question", "reason"),
    [
        ({"question": math.nan}, None, "its question is empty: `question`"),
        ({"question": " "}, "{question} now", "its question is empty: `question`"),
        ({}, "{ask}?", "it has no column `ask`; it has id, image, question, answer"),
        ({"question": {"text": "x"}}, None, "`question` must be a text, found {'text': 'x'}"),
    ],
)
def test_rows_without_a_question_are_left_out(task, row, question, reason):
    made = task({**ROW, **row}, **({"question": question} if question else {}))
    assert reason in refused(made)


def test_ids_are_those_of_a_column_and_stand_once(task):
    made = task(ROW, {**ROW, "id": 7}, ROW, {**ROW, "id": 1.5}, {**ROW, "id": None}, id="id")
    assert [sample.id for sample in made.samples()] == ["r1", "7"]
    assert [row.reason for row in made.skipped_rows()] == [
        "pets.jsonl, line 3: id 'r1' appears twice",
        "pets.jsonl, line 4: `id` must be a text or a whole number, found 1.5",
        "pets.jsonl, line 5: `id` must be a text or a whole number, found None",
    ]


@pytest.mark.parametrize("value", [None, "", "  ", [], math.nan])
def test_a_row_may_have_no_image(task, value):
    found = only(task({**ROW, "image": value}))
    assert (found.images, found.cluster) == ((), None)


def test_a_row_may_lack_the_column_of_images_if_others_have_it(task):
    bare = {name: value for name, value in ROW.items() if name != "image"}
    made = task(ROW, bare)
    assert [len(sample.images) for sample in made.samples()] == [1, 0]
    assert made.fingerprint()
    with pytest.raises(DataError, match=r"no row has a column `image`.*`image: null` asks without"):
        task(bare).fingerprint()
    assert task(bare, image=None).fingerprint()


def test_a_row_may_have_several_images(task, root):
    row = {**ROW, "image": ["a.png", "b.png"], "map": "c.png"}
    made = task(row, image=["image", "map"])
    assert only(made).images == (root / "a.png", root / "b.png", root / "c.png")
    assert only(made).cluster == "a.png+b.png+c.png"


def test_image_paths_start_from_the_file_or_from_a_folder_of_the_data_root(task, root, write):
    write("sub/pets.jsonl", json.dumps(ROW))
    assert only(task(ROW, file="sub/pets.jsonl")).images == (root / "sub" / "a.png",)
    folder = task(ROW, file="sub/pets.jsonl", image_folder="pictures")
    assert only(folder).images == (root / "pictures" / "a.png",)
    absolute = task({**ROW, "image": str(root.resolve() / "a.png")})
    assert only(absolute).images == (root / "a.png",)


@pytest.mark.parametrize(
    "name", ["../a.png", "/etc/passwd", "x/../../a.png", "C:\\a.png", "..\\a.png", "a\0.png"]
)
def test_an_image_outside_the_data_root_is_refused(task, name):
    assert "leads out of" in refused(task({**ROW, "image": name}))


def test_an_absolute_path_that_climbs_is_refused(task, root):
    assert "leads out of" in refused(task({**ROW, "image": f"{root.resolve()}/../a.png"}))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("https://example.org/a.png", "is a URL; download it and name the file"),
        (7, "an image must be a path or base64, found 7"),
        ({"bytes": "x"}, "an image must be a path or base64"),
        ("data:image/png;base64,AAAA", "its image is of no known format"),
        ("data:image/png;base64,***", "its image is not base64"),
    ],
)
def test_what_is_no_image_is_refused(task, value, reason):
    assert reason in refused(task({**ROW, "image": value}))


@pytest.mark.parametrize("start", ["", "data:image/png;base64,"])
def test_images_in_base64_are_taken_out_into_the_cache_once(task, png, start, pictures):
    made = task({**ROW, "image": start + png}, {**ROW, "image": png})
    first, second = made.samples()
    assert first.images == second.images
    assert first.cluster == second.cluster == first.images[0].stem
    assert first.images[0].is_relative_to(ImageCache().folder)
    assert first.images[0].read_bytes() == pictures[0].read_bytes()
    assert open_rgb(first.images[0]).size == (64, 48)
    before = made.fingerprint()
    first.images[0].unlink()
    assert task({**ROW, "image": start + png}, {**ROW, "image": png}).fingerprint() == before


def test_groups_are_columns(task, answered):
    rows = [{**ROW, "topic": topic, "year": year} for topic, year in
            (("art", 1900), (["art", "music"], None), (None, 2000))]  # fmt: skip
    made = task(*rows, groups=["topic", "year"])
    assert [sample.groups for sample in made.samples()] == [
        ("topic/art", "year/1900"), ("topic/art", "topic/music"), ("year/2000",),
    ]  # fmt: skip
    names = {metric.name for metric in made.aggregate(answered(made, "cat")).metrics}
    assert names == {"accuracy", "majority", "topic/art", "topic/music", "year/1900", "year/2000"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pets.csv", 'image,question,answer\na.png,"What, now?",Cat\n'),
        ("pets.tsv", 'image\tquestion\tanswer\na.png\t"What, now?"\t["Cat"]\n'),
        ("pets.json", '[{"image": "a.png", "question": "What, now?", "answer": "Cat"}]'),
    ],
)
def test_csv_and_json_are_read_too(task, write, name, content):
    write(name, content)
    found = only(task(ROW, file=name, question="{question}"))
    assert (found.fields["question"], found.reference) == ("What, now?", ["Cat"])


def test_options_of_a_csv_are_a_list_in_a_cell_or_columns(task, write):
    write("pets.csv", 'image,question,choices,answer\na.png,What?,"[""red"", ""blue""]",1\n')
    made = task(CHOICE, file="pets.csv", metric="multiple_choice")
    assert only(made).fields["choices"] == ("red", "blue")
    assert only(made).reference == 1


def test_the_file_is_named_by_the_split_or_the_card_and_may_lie_next_to_it(write, tmp_path):
    card = tmp_path / "cards" / "pets.yaml"
    card.parent.mkdir()
    card.write_text("kind: jsonl\nsplit: val\nheadline: accuracy\n")
    with pytest.raises(DataError, match=r"pets\.jsonl is missing.*also looked for in .*cards"):
        build_task(str(card), tmp_path).fingerprint()
    (card.parent / "pets.jsonl").write_text(json.dumps(ROW))
    assert len(list(build_task(str(card), tmp_path).samples())) == 1
    # As `rerun` finds it, which has no card's folder.
    near, named = (build_task(str(card), root) for root in (tmp_path, card.parent))
    assert near.fingerprint() == named.fingerprint()
    (tmp_path / "val-2.jsonl").write_text(f"{json.dumps(ROW)}\n" * 3)
    settings = ['options.file="{split}-2.jsonl"']
    assert len(list(build_task(str(card), tmp_path, settings).samples())) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": "exact_match"}, "unknown option 'metrics'; did you mean: metric"),
        ({"metric": "bleu"}, "option 'metric' cannot be 'bleu'"),
        (
            {"metric": "yes_no", "answer_rule": "strict"},
            "unknown answer_rule of yes_no 'strict'; known: ",
        ),
        ({"image_folder": "../pictures"}, "'../pictures' is not a folder below the data root"),
        ({"headline": "CIDEr"}, "unknown metric 'CIDEr'"),
    ],
)
def test_cards_are_checked(task, options, message):
    with pytest.raises(CardError) as error:
        task(ROW, **options)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("metric", "row", "answers"),
    [
        ("exact_match", {"answer": ["cat", "tom"]}, ["cat"]),
        ("vqa_accuracy", {"answer": ["tom", "cat", "cat"]}, ["cat"]),
        ("multiple_choice", CHOICE, ["B"]),
        ("yes_no", {"answer": True}, ["yes"]),
        ("caption", {"answer": ["a cat", "one cat"]}, ["a cat", "one cat"]),
    ],
)
def test_rows_can_be_learnt(write, tmp_path, metric, row, answers):
    write("pets.jsonl", json.dumps({**ROW, **row}))
    card = tmp_path / "pets.yaml"
    headline = "CIDEr" if metric == "caption" else "accuracy"
    card.write_text(
        f"kind: jsonl\nsplit: train\nheadline: {headline}\noptions: {{metric: {metric}}}\n"
    )
    data = build_training_data(str(card), tmp_path / "root")
    pairs = list(data.training_pairs())
    assert [pair.answer for pair in pairs] == answers
    assert all(pair.prompt.endswith("Response:") for pair in pairs)
    assert len({pair.id for pair in pairs}) == len(pairs)
    assert data.training_settings()["prompt_format"] == "instruction"
