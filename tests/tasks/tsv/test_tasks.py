"""What TSV tasks make of rows, answers and predictions files."""

from __future__ import annotations

import json
import zipfile

import pandas as pd
import pytest
from openpyxl import load_workbook

from adem_bench.errors import CardError, DataError, PredictionsError
from adem_bench.metrics.multiple_choice import read_strict
from adem_bench.records import Response
from adem_bench.runner.distributed import Processes
from adem_bench.runner.loop import run_task
from adem_bench.runner.manifest import RunOptions
from adem_bench.tasks.base import build_task
from support.answering import Answering
from support.tsv_files import BLUE, CHOICE, RED, choice_rows

LINES = ("kind: tsv_multiple_choice", "split: test", "headline: accuracy")


@pytest.fixture
def card(tmp_path):
    """Writes a card and builds its task on the data root."""

    def build(*lines: str, name="mine", settings=(), split=None, prompt_format=None):
        path = tmp_path / "cards" / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines or LINES) + "\n")
        return build_task(str(path), tmp_path / "root", settings, split, prompt_format)

    return build


def reasons(task) -> list[str]:
    list(task.samples())
    return [row.reason for row in task.skipped_rows()]


def test_a_card_of_three_lines_makes_a_tsv_a_task(card, write, answered):
    write("mine", choice_rows(hint="It purrs."))
    task = card()
    samples = list(task.samples())
    assert [sample.id for sample in samples] == ["1", "2"]
    assert task.num_expected == 2
    assert task.request(samples[0]).prompt == (
        "Hint: It purrs.\nQuestion: What is it?\nOptions:\nA. a cat\nB. a dog\n"
        "Please select the correct answer from the options above. \n"
    )
    assert samples[0].groups == ("category/animals",)
    assert samples[0].cluster == samples[1].cluster
    result = task.aggregate(answered(task, "It is a dog."))
    assert result.complete
    assert result.metric("accuracy").value == 0.5
    assert result.metric("category/animals").value == 1.0
    assert result.metric("accuracy").interval == "Wilson of images, all alike"
    assert result.warnings == (
        "scored as VLMEvalKit scores, by its rules and without a judge model",
    )


def test_prompts_of_other_formats_ask_the_same(card, write):
    write("mine", choice_rows(hint="It purrs."))
    qcm = card(prompt_format="QCM-A")
    assert qcm.request(next(qcm.samples())).prompt == (
        "Question: What is it?\nContext: It purrs.\nOptions: (A) a cat (B) a dog\nResponse:"
        "The answer is"
    )
    plain = card(*LINES, "options: {prompt_suffix: '{!}'}", prompt_format="instruction")
    prompt = plain.request(next(plain.samples())).prompt
    assert prompt.startswith("Instruction: Hint: It purrs.\nQuestion")
    assert prompt.endswith("above. \n{!}\nResponse:")
    with pytest.raises(CardError, match=r"unknown prompt format 'QCM'; did you mean: QCM-A"):
        card(prompt_format="QCM")


def test_seven_options_are_all_shown(card, write):
    seven = {letter: f"thing {letter}" for letter in "ABCDEFG"}
    write("mine", [{"index": 1, "image": RED, "question": "Which?", **seven, "answer": "G"}])
    task = card(prompt_format="QCM-A")
    assert "(G) thing G" in task.request(next(task.samples())).prompt


def test_rows_that_cannot_be_asked_are_named(card, write):
    good = {"index": 1, "image": RED, **CHOICE}
    write(
        "mine",
        [
            good,
            {**good, "index": 2, "B": " "},
            {**good, "index": 3, "answer": "C"},
            {**good, "index": 4, "answer": ""},
            {**good, "index": 5, "question": " "},
            {**good, "index": 1},
            {**good, "index": 7, "image": "x" * 70},
        ],
    )
    assert reasons(card()) == [
        "mine.tsv, row 2: (index 2) it has 1 options that are not empty; expected two",
        "mine.tsv, row 3: (index 3) its answer 'C' is none of its options A, B",
        "mine.tsv, row 4: (index 4) it has no answer",
        "mine.tsv, row 5: (index 5) it has no question",
        "mine.tsv, row 6: index 1 stands twice, first in row 1",
        "mine.tsv, row 7: (index 7) its image is not base64 (Incorrect padding)",
    ]


def test_a_run_counts_malformed_rows_as_failed_and_goes_on(card, write, tmp_path):
    rows = [*choice_rows(), {"index": 3, "image": "A" * 71, **CHOICE}]
    write("mine", rows)
    task = card()
    model = Answering(lambda request: "B")
    outcome = run_task(model, task, RunOptions(), tmp_path / "results", Processes())
    assert (outcome.result.scored, outcome.result.failed, outcome.result.expected) == (2, 1, 3)
    lines = (outcome.folder / "samples.jsonl").read_text().splitlines()
    assert json.loads(lines[2])["sample_id"] == "row 3"
    assert (outcome.folder / "vlmevalkit" / "mine.tsv").is_file()
    again = run_task(model, card(), RunOptions(), tmp_path / "results", Processes())
    assert again.resumed == 2


def test_missing_columns_are_named(card, write):
    write("mine", [{"index": 1, "image": RED, "question": "Q", "answer": "A"}])
    with pytest.raises(DataError, match=r"column A, B is missing; it has index, image, question"):
        card().fingerprint()


def test_a_split_is_a_file_or_a_value_of_the_column_split(card, write, tmp_path):
    rows = choice_rows()
    write("both", [{**rows[0], "split": "dev"}, {**rows[1], "image": BLUE, "split": "validation"}])
    write("other", rows)
    options = "options: {file: {val: both, test: other.tsv}, rows: {val: validation}}"
    assert [s.id for s in card(*LINES, options, split="val").samples()] == ["2"]
    assert card(*LINES, options, split="val").num_expected == 1
    assert card(*LINES, options, split="test").num_expected == 2
    with pytest.raises(CardError, match="unknown split 'dev'"):
        card(*LINES, options, split="dev")
    wrong = "options: {file: other, rows: {test: x}}"
    with pytest.raises(CardError, match="has no column `split`"):
        list(card(*LINES, wrong).samples())


def test_a_file_is_found_beside_its_card(card, write, tmp_path):
    path = write("mine", choice_rows())
    task = card()
    path.rename(tmp_path / "cards" / "mine.tsv")
    assert task.num_expected == 2


def test_rows_without_an_image_are_left_out_and_counted_unless_they_are_wanted(
    card, write, answered
):
    write("mine", [*choice_rows(), {"index": 3, **CHOICE}])
    task = card()
    result = task.aggregate(answered(task, "B"))
    assert (result.scored, result.expected) == (2, 2)
    assert "1 rows without an image are left out" in result.warnings[1]
    asked = list(card(settings=["options.text_only=true"]).samples())
    assert [len(sample.images) for sample in asked] == [1, 1, 0]


def test_an_option_that_pandas_takes_for_nothing_is_asked_but_not_read(card, write):
    write("mine", [{"index": 1, "image": RED, **CHOICE, "B": "None"}])
    task = card()
    sample = next(task.samples())
    assert "B. None" in task.request(sample).prompt
    assert task.parse_response(sample, Response("B")).value == ""
    strict = card(settings=["options.answer_rule=strict"])
    assert strict.parse_response(next(strict.samples()), Response("B")).score == 1.0


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"), (" (B) a dog", "B"), ("B.", "B"), ("B: it", "B"), ("Bob", ""), ("b", ""),
        ("The answer is B", ""), ("B's", ""), ("D", ""), ("", ""),
    ],
)  # fmt: skip
def test_the_strict_rule_takes_a_letter_at_the_start(answer, letter):
    assert read_strict(answer, ["A", "B", "C"]) == letter


def test_the_rule_that_was_used_is_said(card, write, answered):
    write("mine", choice_rows())
    strict = card(settings=["options.answer_rule=strict"])
    assert "options.answer_rule=vlmevalkit" in strict.aggregate(answered(strict, "B")).warnings[0]


def rotations(*questions: int) -> list[dict]:
    turned = {**CHOICE, "A": "a dog", "B": "a cat", "answer": "A"}
    first = [{"index": n, "image": RED, **CHOICE, "category": "x"} for n in questions]
    return [
        *first,
        *({"index": n + 1_000_000, "image": str(n), **turned, "category": "x"} for n in questions),
    ]


CIRCULAR = (*LINES, "options: {circular: true}")


def test_a_question_is_right_if_all_its_rotations_are(card, write, answered):
    write("mine", rotations(1, 2, 3))
    task = card(*CIRCULAR)
    records = answered(task, "a dog")
    records[4] = answered(task, "a cat")[4]  # the second question, its options turned
    result = task.aggregate(records)
    assert result.metric("accuracy").value == pytest.approx(2 / 3)
    assert (result.metric("accuracy").count, result.metric("accuracy").interval) == (3, "Wilson")
    assert result.metric("first_rotation").value == 1.0
    assert result.metric("every_rotation").value == pytest.approx(5 / 6)
    assert task.statistics(task.card, records).value("accuracy") == pytest.approx(2 / 3)
    assert result.scored == 6


def test_a_run_that_asked_no_rotation_says_so(card, write, answered):
    write("mine", rotations(1, 2))
    task = card(*CIRCULAR)
    result = task.aggregate(answered(task, "B")[:2])
    assert "no question has more than one rotation" in result.warnings[1]
    part = task.aggregate(answered(task, "B")[:3])
    assert "1 have one only" in part.warnings[1]


def test_questions_without_images_are_no_rotations(card, write, answered):
    ids = ("0007", "1000007", "2000007")
    write("mine", [{"index": index, "image": "", **CHOICE} for index in ids])
    task = card(settings=["options.text_only=true"])
    records = answered(task, "B")
    records[1] = answered(task, "A")[1]
    statistics = task.statistics(task.card, records)
    assert statistics.units == ids
    assert statistics.value("accuracy") == task.aggregate(records).metric("accuracy").value


def test_rotations_need_numbers(card, write):
    write("mine", [{"index": "one", "image": RED, **CHOICE}])
    assert "its index is none" in reasons(card(*CIRCULAR))[0]


def test_open_questions_are_scored_as_vlmevalkit_scores_them_or_left_out(card, write, answered):
    write("mine", [{"index": 1, "image": RED, "A": "", "B": "", "question": "2?", "answer": "24"}])
    assert "it has 0 options" in reasons(card())[0]
    task = card(*LINES, "options: {open_questions: vlmevalkit}")
    sample = next(task.samples())
    assert task.request(sample).prompt == "Question: 2?\n"
    assert task.parse_response(sample, Response("It is 24.")).score == 1.0
    assert task.parse_response(sample, Response("25")).score == 0.0


def test_a_file_without_answers_is_asked_and_exported_for_its_server(
    card, write, answered, tmp_path
):
    write("mine", [{k: v for k, v in row.items() if k != "answer"} for row in choice_rows()])
    task = card()
    records = answered(task, "B")
    result = task.aggregate(records)
    assert (result.scored, result.failed, result.metric("accuracy").value) == (2, 0, None)
    assert "own server scores the exported file" in result.metric("accuracy").note
    frame = pd.read_excel(task.export(records, tmp_path)[1])
    assert list(frame["prediction"]) == ["B", "B"]


HOSTILE = "=cmd|' /C calc'!A0\t\"\n\x1b[2J\x00\ud800\u202e\r\n,"


def test_hostile_answers_survive_the_export_and_are_no_formulas(card, write, answered, tmp_path):
    write("mine", choice_rows(hint="=1+1"))
    task = card(settings=["options.answer_rule=strict"])
    records = answered(task, f"B {HOSTILE}")
    sheet, text = (task.export(records, tmp_path)[place] for place in (1, 0))
    page = load_workbook(sheet).active
    assert not any(cell.data_type == "f" for row in page.iter_rows() for cell in row)
    for path in (sheet, text):
        again = task.aggregate(task.import_predictions(path))
        assert again.metrics == task.aggregate(records).metrics


def test_a_failed_sample_is_not_in_the_exported_file(card, write, answered, tmp_path):
    write("mine", choice_rows())
    task = card()
    records = answered(task, "B")[:1]
    assert len(pd.read_csv(task.export(records, tmp_path)[0], sep="\t")) == 1
    assert len(task.import_predictions(tmp_path / "vlmevalkit" / "mine.tsv")) == 1


@pytest.fixture
def scored(card, write, tmp_path):
    """Scores a predictions file of these rows against two questions."""
    write("mine", choice_rows())

    def score(rows, name="theirs.json", settings=()):
        path = tmp_path / name
        path.write_text(rows if isinstance(rows, str) else json.dumps(rows))
        task = card(settings=settings)
        return task.aggregate(task.import_predictions(path))

    return score


@pytest.mark.parametrize("rule", ["strict", "chat"])
def test_a_lone_quote_in_predictions_swallows_no_row(scored, rule):
    rows = 'index\tprediction\n1\t"B\n2\tB\n'
    result = scored(rows, "theirs.tsv", [f"options.answer_rule={rule}"])
    assert (result.scored, result.failed) == (2, 0)


def test_predictions_in_json_are_read(scored):
    rows = [{"index": 1, "prediction": "B"}, {"index": "2", "prediction": "dog"}]
    result = scored(rows)
    assert (result.scored, result.metric("accuracy").value) == (2, 0.5)
    assert scored(rows[:1]).coverage() == "SUBSET 1/2"


@pytest.mark.parametrize(
    ("rows", "name", "message"),
    [
        ([{"index": 9, "prediction": "B"}], "a.json", r"1 of 1 rows are not in mine\.tsv .*'9'"),
        ([{"index": 1, "answer": "B"}], "a.json", "has no column prediction; it has index, answer"),
        ([{"index": 1, "prediction": "B"}] * 2, "a.json", "row 2: index 1 stands twice, first in"),
        ("[1", "a.json", "cannot be read"),
        ("not a workbook", "a.xlsx", "cannot be read"),
        ("1,2", "a.csv", r"is of no known format; expected VLMEvalKit's predictions \(\.tsv"),
        ("", "a.tsv", "cannot be read"),
    ],
)
def test_predictions_that_do_not_fit_are_refused_in_a_line(scored, rows, name, message):
    with pytest.raises(PredictionsError, match=message) as error:
        scored(rows, name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "headline", "answer", "message"),
    [
        ("tsv_pope", "f1", "B", "its answer 'B' is neither Yes nor No"),
        ("tsv_mme", "perception", "Yes", "its category 'x' is none of MME's"),
        ("tsv_multiple_choice", "accuracy", "Yes", "its answer 'Yes' is no option's letter"),
    ],
)
def test_predictions_of_another_benchmark_are_refused_without_data_too(
    card, tmp_path, kind, headline, answer, message
):
    path = tmp_path / "other.json"
    path.write_text(
        json.dumps([{"index": 1, "answer": answer, "category": "x", "prediction": "B"}])
    )
    task = card(f"kind: {kind}", "split: test", f"headline: {headline}")
    with pytest.raises(PredictionsError, match=rf"row 1 \(index 1\): {message}"):
        task.import_predictions(path)


def test_a_bomb_of_a_spreadsheet_is_refused(scored, tmp_path, monkeypatch, card):
    monkeypatch.setattr("adem_bench.tasks.tsv.predictions.MAX_SHEET_BYTES", 1000)
    path = tmp_path / "big.xlsx"
    pd.DataFrame({"index": [1], "prediction": ["B"]}).to_excel(path)
    with pytest.raises(PredictionsError, match=r"cannot be read .*more than"):
        card().import_predictions(path)


@pytest.fixture
def sheet(tmp_path):
    """Writes a spreadsheet of one answer, the rows of XML given added to its sheet."""

    def write(*rows):
        whole, path = tmp_path / "whole.xlsx", tmp_path / "answers.xlsx"
        pd.DataFrame({"index": [1], "prediction": ["B"]}).to_excel(whole, index=False)
        with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                end = "".join(rows) + "</sheetData>"
                new.writestr(name, old.read(name).replace(b"</sheetData>", end.encode()))
        return path

    return write


def test_a_spreadsheet_with_more_rows_is_read(card, sheet):
    more = '<row r="3"><c r="A3"><v>2</v></c><c r="B3" t="inlineStr"><is><t>A</t></is></c></row>'
    assert len(card().import_predictions(sheet(more))) == 2


@pytest.mark.parametrize(
    "row",
    [
        '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>',
        '<row r="1000000000000"><c r="A1000000000000"><v>1</v></c></row>',
        '<row r="1e18"/>',
        '<row r="300"><c r="XFD300"/></row>',
        '<row r="1048576">' + "<c/>" * 16_000 + "</row>",
    ],
)
def test_a_cell_far_out_is_no_reason_to_make_all_up_to_it(card, sheet, row):
    with pytest.raises(PredictionsError, match="more than 4,194,304 cells"):
        card().import_predictions(sheet(row))


def test_a_spreadsheet_has_no_thousands_of_columns(card, sheet):
    with pytest.raises(PredictionsError, match="more than 1,024 columns"):
        card().import_predictions(sheet('<row r="3"><c r="XFD3"/></row>'))


@pytest.mark.parametrize(
    ("tables", "found"), [(0, "none of its sheets is a table"), (1, "save the table alone")]
)
def test_a_chart_sheet_is_no_table(card, tmp_path, tables, found):
    book = pytest.importorskip("openpyxl").Workbook()
    book.create_chartsheet(index=0)
    if not tables:
        book.remove(book.worksheets[0])
        book.active = 0
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(PredictionsError, match=rf"cannot be read \(.*{found}"):
        card().import_predictions(tmp_path / "a.xlsx")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"\xd0\xcf\x11\xe0" + b"\0" * 600, "an old or encrypted Office file"),
        (b"<html><body>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"PK\x03\x04", "cut off"),
        (b"index\tprediction\n", "not a spreadsheet, whatever its name says"),
    ],
)
def test_what_is_no_spreadsheet_is_told_by_what_it_is(card, tmp_path, content, found):
    path = tmp_path / "a.xlsx"
    path.write_bytes(content)
    with pytest.raises(PredictionsError, match=rf"cannot be read \(it is {found}"):
        card().import_predictions(path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["index", "prediction", "prediction"], "column prediction stands twice"),
        (["index", "Prediction", "prediction"], "column prediction stands twice"),
        (["index", "index", "prediction"], "column index stands twice"),
    ],
)
@pytest.mark.parametrize("suffix", ["xlsx", "tsv"])
def test_two_columns_of_answers_are_no_answer(card, tmp_path, suffix, columns, message):
    frame, path = pd.DataFrame([[1, "A", "B"]], columns=columns), tmp_path / f"a.{suffix}"
    if suffix == "tsv":
        frame.to_csv(path, sep="\t", index=False)
    else:
        frame.to_excel(path, index=False)
    with pytest.raises(PredictionsError, match=message):
        card().import_predictions(path)


def test_a_header_alone_holds_no_predictions(card, tmp_path):
    (tmp_path / "a.tsv").write_text("index\tprediction\n")
    with pytest.raises(PredictionsError, match="holds no predictions"):
        card().import_predictions(tmp_path / "a.tsv")


def test_yes_no_rules_differ_and_are_said(card, write, answered):
    yes = {"image": RED, "question": "?", "answer": "No", "category": "random"}
    write("mine", [{"index": 1, **yes}, {"index": 2, **yes, "answer": "Maybe"}])
    lines = ("kind: tsv_pope", "split: test", "headline: f1")
    task = card(*lines)
    assert "its answer 'Maybe' is neither Yes nor No" in reasons(task)[0]
    sample = next(task.samples())
    read = {
        rule: card(*lines, f"options: {{answer_rule: {rule}}}")
        .parse_response(sample, Response(text))
        .value
        for rule, text in (("official", "It is not"), ("vlmevalkit", "It is not"))
    }
    assert read == {"official": "no", "vlmevalkit": "other"}
    official = card(*lines, "options: {answer_rule: official}")
    warning = official.aggregate(answered(official, "no")).warnings[0]
    assert "official rule" in warning
    assert "options.answer_rule=vlmevalkit" in warning
    with pytest.raises(CardError, match="kind tsv_yes_no has no official answer_rule"):
        card(
            *("kind: tsv_yes_no", "split: test", "headline: accuracy"),
            "options: {answer_rule: official}",
        )


def test_hallusionbench_needs_its_indices(card, write):
    write("mine", [{"index": 1, "image": RED, "question": "?", "answer": "Yes"}])
    task = card("kind: tsv_hallusionbench", "split: test", "headline: aAcc")
    assert "its index does not end in set, figure and question" in reasons(task)[0]


def test_vqa_rules_differ(card, write):
    row = {"index": 1, "image": RED, "question": "?", "answer": str(["Two"] * 10)}
    write("mine", [row])
    lines = ("kind: tsv_short_answer", "split: test", "headline: score")
    scores = {}
    for rule in ("vlmevalkit", "official", "evalai"):
        task = card(*lines, f"options: {{metric: vqa, answer_rule: {rule}}}")
        scores[rule] = task.parse_response(next(task.samples()), Response("2")).score
    assert scores == {"vlmevalkit": 1.0, "official": 0.0, "evalai": 1.0}
    with pytest.raises(CardError, match="'answer_rule' 'official' is for metric vqa"):
        card(*lines, "options: {metric: anls, answer_rule: official}")


@pytest.mark.parametrize(
    ("kind", "answer", "response", "score"),
    [
        ("integer", "14", "So there are 3 and 11, 14 in all.", 1.0),
        ("integer", "14", "fourteen", 0.0),
        ("integer", "1200", "It is 1,200.", 1.0),
        ("float", "0.6", "about 0.62", 1.0),
        ("float", "-0.6", "\u22120.6", 1.0),
        ("list", "[1, 2]", "The list is [1, 2].", 1.0),
        ("list", "[1, 2]", "[2, 1]", 0.0),
        ("text", "A cat.", "Let me see.\na cat", 1.0),
        ("integer", "1", "9" * 5000, 0.0),
    ],
)
def test_mathvista_answers_are_found_by_rule(card, write, kind, answer, response, score):
    row = {"index": 1, "image": RED, "question": "?", "question_type": "free_form"}
    row |= {"answer_type": kind, "choices": "", "answer": answer, "answer_option": ""}
    write("mine", [row | {"precision": "1.0"}])
    task = card("kind: tsv_mathvista", "split: test", "headline: accuracy")
    assert task.parse_response(next(task.samples()), Response(response)).score == score


def test_references_that_are_code_are_a_text(card, write, tmp_path):
    trap = tmp_path / "trap"
    write("mine", [{"index": 1, "image": RED, "answer": f"[open({str(trap)!r}, 'w')]"}])
    task = card("kind: tsv_caption", "split: test", "headline: CIDEr")
    (sample,) = task.samples()
    assert sample.reference == [f"[open({str(trap)!r}, 'w')]"]
    assert not trap.exists()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("options: {fiel: x}",), "unknown option 'fiel'; did you mean: file?"),
        (("options: {answer_rule: judge}",), "option 'answer_rule' cannot be 'judge'"),
        (("columns: [acuracy]",), "unknown metric 'acuracy'; did you mean: accuracy"),
        (("columns: [category/animals]",), None),
    ],
)
def test_a_wrong_setting_proposes_the_right_one(card, lines, message):
    if message is None:
        assert card(*LINES, *lines).card.columns == ("category/animals",)
        return
    with pytest.raises(CardError) as error:
        card(*LINES, *lines)
    assert message in str(error.value)
