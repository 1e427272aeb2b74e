import pytest

from adem_bench.tasks.mme.scores import READERS, SUBTASKS, MmeAnswer, metric_names, mme_scores


@pytest.mark.parametrize(
    ("text", "official", "lmms_eval", "vlmevalkit", "lavin", "chat"),
    [
        ("Yes", "yes", "yes", "yes", "yes", "yes"),
        ("no.", "no", "no", "no", "no", "no"),
        (" no, it is not", "no", "no", "no", "no", "no"),
        ("y", "other", "yes", "other", "other", "other"),
        ("N.", "other", "no", "other", "other", "other"),
        ("not sure", "no", "no", "other", "no", "other"),
        ("nobody", "no", "no", "other", "no", "other"),
        ("   yes", "other", "yes", "yes", "other", "yes"),
        ("The answer is yes", "other", "other", "yes", "other", "yes"),
        ("yes and no", "yes", "yes", "other", "yes", "other"),
        ("...yes", "other", "yes", "yes", "other", "yes"),
        ("is it?yes", "other", "other", "yes", "other", "yes"),
        ("1,000 times/yes", "other", "other", "other", "other", "other"),
        ("", "other", "other", "other", "other", "other"),
    ],
)
def test_each_rule_reads_as_its_source(text, official, lmms_eval, vlmevalkit, lavin, chat):
    # By hand from calculation.py, lmms_eval/tasks/mme/utils.py, vlmeval/dataset/utils/yorn.py and
    # eval_mme.py of LaVIN.
    read = {name: reader(text) for name, reader in READERS.items()}
    assert read == {
        "official": official, "lmms_eval": lmms_eval, "vlmevalkit": vlmevalkit, "lavin": lavin,
        "chat": chat,
    }  # fmt: skip


def scores(*answers):
    rows = [MmeAnswer("count", image, said, gold) for image, said, gold in answers]
    return {metric.name: metric for metric in mme_scores(rows, ("count",))}


def test_a_subtask_scores_questions_and_whole_images():
    found = scores(("1", "yes", "yes"), ("1", "no", "no"), ("2", "yes", "yes"), ("2", "yes", "no"))
    assert found["count"].value == 75.0 + 50.0
    assert found["count.precision"].value == 2 / 3
    assert found["count.recall"].value == 1.0
    assert found["perception"].value == 125.0
    assert found["perception"].note == "1 of 10 subtasks"
    assert found["cognition"].value is None


def test_all_other_does_not_crash():
    # calculation.py fails here: scikit-learn gets two empty lists.
    found = scores(("1", "other", "yes"), ("1", "other", "no"))
    assert found["count"].value == 0.0
    assert (found["count.precision"].value, found["count.recall"].value) == (0.0, 0.0)
    assert found["count.precision"].note == "undefined, 0 by convention"
    assert found["count.other"].value == 2


def test_an_answer_of_neither_kind_counts_in_accuracy_and_not_in_recall():
    found = scores(("1", "yes", "yes"), ("1", "no", "no"), ("2", "other", "yes"), ("2", "no", "no"))
    assert found["count.acc"].value == 0.75
    assert found["count.recall"].value == 1.0


def test_no_answers_give_no_figures():
    metrics = mme_scores([])
    assert {metric.value for metric in metrics if metric.unit != "count"} == {None}
    assert {metric.name for metric in metrics} == set(metric_names())
    assert len(metrics) == 5 + 6 * len(SUBTASKS)
