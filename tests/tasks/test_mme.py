import gzip
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adem_bench.cards import load_task_card
from adem_bench.errors import CardError, DataError, PredictionsError
from adem_bench.records import Response, Sample
from adem_bench.tasks.base import build_task
from adem_bench.tasks.mme.scores import READERS, SUBTASKS
from adem_bench.tasks.mme.task import Mme

LAVIN = Path(__file__).parents[1] / "fixtures" / "mme" / "lavin_answers.tsv.gz"
TREE = "MME_Benchmark_release_version"
FEW = "options.subtasks=[existence, count]"


def build(root, *settings, split=None):
    return build_task("mme", root, settings, split)


@pytest.fixture
def lavin(tmp_path):
    """LaVIN's bundled answers as the eval_tool's files."""
    lines = defaultdict(list)
    for row in gzip.decompress(LAVIN.read_bytes()).decode().splitlines():
        subtask, image, gold, answer = row.split("\t")
        lines[subtask].append(f"{image}.jpg\tquestion {len(lines[subtask])}\t{gold}\t{answer}\n")
    for subtask, found in lines.items():
        (tmp_path / f"{subtask}.txt").write_text("".join(found))
    return tmp_path


def test_lavin_scores_what_the_eval_tool_says(lavin):
    # calculation.py of the eval_tool, on the same answers (docs/method.md, section 10.3).
    task = build(lavin / "no data here")
    result = task.aggregate(task.import_predictions(lavin))
    assert result.metric("perception").value == 963.6114445778312
    assert result.metric("cognition").value == 249.64285714285714
    expected = {
        "existence": 185, "count": 88.33, "position": 63.33, "color": 75, "posters": 79.59,
        "celebrity": 47.35, "scene": 136.75, "landmark": 93.5, "artwork": 87.25, "OCR": 107.5,
        "commonsense_reasoning": 87.14, "numerical_calculation": 65, "text_translation": 47.5,
        "code_reasoning": 50,
    }  # fmt: skip
    for subtask, score in expected.items():
        assert result.metric(subtask).value == pytest.approx(score, abs=0.005)
    assert result.metric("other").value == 12
    assert result.complete


def test_lavin_s_own_reading_of_its_answers_scores_the_same(lavin):
    task = build(lavin / "no data here", "options.answer_rule=lavin")
    result = task.aggregate(task.import_predictions(lavin))
    assert result.metric("perception").value == 963.6114445778312
    assert result.metric("cognition").value == 249.64285714285714


# What the published eval_mme.py of LaVIN makes of a prompt with these answers behind it.
@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" yes", "yes"),
        (" no,", "no"),
        (" No, there is not", "no"),
        ("  yes", "other"),
        ("  no", "no"),
        ("   no", "other"),
        ("eyes", "yes"),
        ("\nyes", "yes"),
        ("\n\nyes", "other"),
        (" It is", "other"),
        (" Response: yes", "other"),
        ("  \n ", "other"),
        ("", "other"),
    ],
)
def test_answers_are_read_as_lavin_reads_them(text, answer):
    assert published_reading(f"Image:  ?? Instruction: Is it?\nResponse:{text}") == answer
    card = load_task_card("mme", ["options.answer_rule=lavin"])
    sample = Sample("existence/1/0", {"question": "?"}, "Yes")
    assert Mme(card, Path()).parse_response(sample, Response(text)).value == answer


def published_reading(decoded):
    """The rule of eval_mme.py (LaVIN dd0a1bf) in one's own words."""
    piece = decoded.lower().strip().split("response:")[1]
    return next((word for word in ("yes", "no") if word in piece[:4]), "other")


def test_a_question_is_asked_as_lavin_asks(mme, write):
    root = mme("existence", "count")
    write(f"{TREE}/existence/0001.txt", "Is  it   red? \tYes\nIs it?\tNo\n")
    options = "options={subtasks: [existence, count], answer_rule: lavin, max_new_tokens: 20}"
    task = build(root, "prompt_format=lavin", options)
    request = task.request(next(task.samples()))
    assert request.prompt == "Instruction: Is it  red? \nResponse:"
    assert (request.max_new_tokens, request.stop_pattern) == (20, "")


def test_lavin_s_answers_go_out_and_come_back(mme, tmp_path, answered):
    task = build(mme("existence", "count"), FEW, "options.answer_rule=lavin")
    records = answered(task, " yes")
    paths = task.export(records, tmp_path)
    assert paths[0].read_text().splitlines()[0].endswith("\tYes\t yes")
    assert task.aggregate(task.import_predictions(paths[0].parent)) == task.aggregate(records)
    assert records[0].prediction == "yes"


def test_a_missing_file_makes_a_subset(lavin):
    (lavin / "count.txt").unlink()
    task = build(lavin / "no data here")
    result = task.aggregate(task.import_predictions(lavin))
    assert result.coverage() == "SUBSET 2314/2374"
    assert result.metric("count").value is None
    assert result.metric("perception").note == "9 of 10 subtasks"


def test_a_question_is_asked_as_published(mme):
    task = build(mme("existence", "count"), FEW)
    samples = list(task.samples())
    assert [sample.id for sample in samples] == [
        "existence/0001/0", "existence/0001/1", "count/0001/0", "count/0001/1",
    ]  # fmt: skip
    request = task.request(samples[1])
    assert request.prompt == "Instruction: Is it a {cat}?\nResponse:"
    assert (request.max_new_tokens, request.image_normalization) == (10, "imagenet")
    assert request.images[0].parts[-2:] == ("existence", "0001.png")
    assert samples[0].cluster == samples[1].cluster
    assert samples[0].groups == ("existence", "perception")


def test_both_layouts_of_a_subtask_are_read(write, root):
    write(f"{TREE}/scene/questions_answers_YN/a_1.txt", "Q?\tYes\r\nR\u2028?\tNo\n\n")
    write(f"{TREE}/scene/images/a_1.jpg", "")
    write(f"{TREE}/scene/questions_answers_YN/._a_1.txt", "\x00")
    task = build(root, "options.subtasks=[scene]")
    first, second = task.samples()
    assert first.images[0] == root / TREE / "scene" / "images" / "a_1.jpg"
    assert second.fields["question"] == "R\u2028?"
    assert build(root / TREE, "options.subtasks=[scene]").fingerprint() == task.fingerprint()


def test_malformed_lines_are_skipped_with_their_place(mme, write):
    root = mme("existence", "count")
    write(f"{TREE}/count/0002.txt", "no answer here\nA question?\tPerhaps\nAnother?\tno\n")
    write(f"{TREE}/count/0003.txt", "")
    (root / TREE / "count" / "0004.txt").write_bytes(b"\xe9\xff\tYes")
    task = build(root, FEW)
    assert len(list(task.samples())) == 5
    reasons = {row.id: row.reason for row in task.skipped_rows()}
    assert set(reasons) == {"count/0002/0", "count/0002/1", "count/0003", "count/0004"}
    assert reasons["count/0002/1"] == "count/0002.txt, line 2: expected `question<TAB>Yes` or `No`"


def test_a_missing_subtask_is_one_error_with_the_source(mme):
    task = build(mme("existence"), FEW)
    for use in (lambda: list(task.samples()), task.fingerprint):
        with pytest.raises(DataError, match=r"count is missing.*BradyFU"):
            use()


def test_predictions_go_out_as_the_eval_tool_wants_them_and_come_back(mme, tmp_path, answered):
    task = build(mme("existence", "count"), FEW)
    records = answered(task, "yes,\tit\nis\r so")
    first, second = task.export(records, tmp_path / "run")
    assert (first.name, first.parent.name) == ("existence.txt", "eval_tool")
    assert first.read_text().split("\n") == [
        "0001.png\tIs it existence?\tYes\tyes, itis so",
        "0001.png\tIs it a {cat}?\tNo\tyes, itis so",
        "",
    ]
    back = task.aggregate(task.import_predictions(second.parent))
    assert back == task.aggregate(records)
    assert back.metric("existence").value == 50.0
    assert back.metric("existence.acc+").value == 0.0
    assert back.metric("existence.recall").value == 1.0
    assert back.metric("accuracy").value == 0.5


def test_hostile_answers_do_not_break_the_files(mme, tmp_path, answered):
    task = build(mme("existence", "count"), FEW)
    paths = task.export(answered(task, "\ud800\u2028\x85|||\x00"), tmp_path)
    assert all(len(line.split("\t")) == 4 for line in paths[0].read_text().split("\n")[:-1])
    assert len(task.import_predictions(paths[0].parent)) == 4


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0001.png\tIs it existence?\tYes", "line 1: expected image<TAB>question"),
        ("0001.png\tIs it existence?\tMaybe\tyes", "line 1: expected image<TAB>question"),
        ("0001.png\tIs it another?\tYes\tyes", "the data has no such question about 0001.png"),
        ("0002.png\tIs it existence?\tYes\tyes", "the data has no such question about 0002.png"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(mme, tmp_path, line, message):
    task = build(mme("existence", "count"), FEW)
    (tmp_path / "existence.txt").write_text(line + "\n")
    with pytest.raises(PredictionsError) as error:
        task.import_predictions(tmp_path)
    assert message in str(error.value)


def test_a_line_given_twice_is_refused(mme, tmp_path):
    line = "0001.png\tIs it existence?\tYes\tyes\n"
    (tmp_path / "existence.txt").write_text(line + line)
    with pytest.raises(PredictionsError, match=r"line 2: .* answered further up"):
        build(mme("existence", "count"), FEW).import_predictions(tmp_path)


def test_a_folder_without_result_files_is_refused(mme, tmp_path):
    with pytest.raises(PredictionsError, match=r"expected existence\.txt"):
        build(mme("existence", "count"), FEW).import_predictions(tmp_path)


def test_half_an_image_is_left_out_of_acc_plus_and_said(mme, answered):
    task = build(mme("existence", "count"), FEW)
    result = task.aggregate(answered(task, "yes")[:3])
    assert result.metric("existence.acc+").count == 1
    assert result.metric("count.acc").value == 1.0
    assert result.metric("count").value is None
    assert "1 image has one answer only, and so no part in acc+" in result.warnings


@given(st.text(), st.sampled_from(sorted(READERS)))
def test_reading_never_fails(text, rule):
    card = load_task_card("mme", [f"options.answer_rule={rule}"])
    sample = Sample("existence/1/0", {"question": "?"}, "Yes")
    assert Mme(card, Path()).parse_response(sample, Response(text)).value in ("yes", "no", "other")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["options.subtasks=[exitence]"], "unknown subtask 'exitence'; did you mean: existence?"),
        (["options.subtasks=[]"], "option 'subtasks' cannot be []"),
        (["options.answer_rule=oficial"], "option 'answer_rule' cannot be 'oficial'"),
        (["prompt_format=instructions"], "did you mean: instruction"),
        (["headline=preception"], "did you mean: perception"),
        (["split=val"], "unknown split 'val'"),
    ],
)
def test_a_wrong_setting_proposes_the_right_one(tmp_path, settings, message):
    with pytest.raises(CardError) as error:
        build(tmp_path, *settings)
    assert message in str(error.value)


def test_all_subtasks_are_known():
    assert len(SUBTASKS) == len(set(SUBTASKS)) == 14
