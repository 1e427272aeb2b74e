"""Models compared over all their tasks: what is paired, what is refused, what is judged."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import pytest

from adem_bench.errors import ResultsError
from adem_bench.metrics import intervals
from adem_bench.metrics.paired import adjusted
from adem_bench.records import Record
from adem_bench.results.comparison_gate import judge
from adem_bench.results.comparison_sides import find_sides
from adem_bench.results.comparison_sizes import Power, read_sizes
from adem_bench.results.comparison_suite import compare_suite
from adem_bench.results.comparison_text import Findings
from adem_bench.results.variants import letters
from support.run_writer import choice, write_run


def answers(wrong, count=300):
    """Answers to mini ScienceQA; as many as the split has."""
    return [choice(number, int(number in wrong)) for number in range(count)]


def failing(wrong, failed):
    """The same, of which some failed."""
    asked = {"request_digest": "a", "error": "no answer", "prediction": None, "score": None}
    return [
        replace(record, **asked) if int(record.sample_id) in failed else record
        for record in answers(wrong)
    ]


@pytest.fixture(autouse=True)
def _fewer_draws(monkeypatch):
    """A tenth of the redraws: what is checked here does not hang on the last digit."""
    draw = partial(intervals.resampled_sums, resamples=1000)
    monkeypatch.setattr("adem_bench.metrics.paired.resampled_sums", draw)


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


@pytest.fixture
def write(results):
    """Writes a run below the results folder, where the runner would."""

    def make(model, wrong, task="mini_sqa", name="run", fingerprint="", options=None, **changes):
        records = wrong if isinstance(wrong, list) else answers(wrong)
        folder = write_run(results / model / task / name, records, task, model, **changes)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["options"] |= options or {}
        manifest["model"]["fingerprint"] = fingerprint or model.ljust(16, "0")
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return folder

    return make


@pytest.fixture
def compared(results):
    def compare(*given, **options):
        return compare_suite(find_sides([str(name) for name in given], results)[0], **options)

    return compare


@pytest.fixture
def judged(compared):
    def verdicts(*given, margins=None, **options):
        suite = compared(*given, failed_are_wrong=True, **options)
        places = [task.place for task in suite.tasks]
        sizes = read_sizes("--margin", margins, places) if margins else None
        return judge(suite, tuple(letters(suite.sides)), sizes)

    return verdicts


def records_of_mme(*said, images=160):
    """Two questions an image, of which the first is answered as `said` has it."""
    return [
        Record(
            f"count/{image}/{index}", "", answer, answer, "Yes", float(answer == "yes"),
            ("count", "perception"), f"count/{image}",
        )
        for image in range(images)
        for index, answer in enumerate((said[image % len(said)], "yes"))
    ]  # fmt: skip


def verdict(gate):
    (found,) = gate.verdicts
    return found


def test_models_are_paired_by_task_and_tested_together(write, compared):
    for task in ("mini_sqa", "sqa"):
        write("base", range(20), task)
    write("new", range(4), "mini_sqa")
    write("new", range(14), "sqa")
    suite = compared("base", "new")
    assert [task.name for task in suite.tasks] == ["mini_sqa/test", "sqa/test"]
    headlines = [pair.headline for _, pair in suite.headlines()]
    alone = [compared("base", "new", tasks=[task]) for task in ("mini_sqa", "sqa")]
    singles = [pair.headline for one in alone for _, pair in one.headlines()]
    assert headlines == adjusted(singles)
    assert [h.adjusted_p_value for h in headlines] == [2 * 2**-15, 2**-5]
    assert suite.counts() == {(0, 1): (2, 0, 0)}
    assert suite.level == 0.025


def test_folders_and_names_below_the_results_folder_mean_the_same(write, compared, results):
    write("base", range(20))
    write("new", range(4))
    by_name, by_folder = compared("base", "new"), compared(results / "base", results / "new")
    assert by_name.tasks == by_folder.tasks
    assert [side.label for side in by_folder.sides] == ["base", "new"]
    run = compared(results / "base" / "mini_sqa" / "run", "new")
    assert run.tasks == by_name.tasks


def test_what_one_side_lacks_is_named(write, compared):
    write("base", range(20))
    write("base", range(20), "sqa")
    write("new", range(4))
    suite = compared("base", "new")
    assert [task.name for task in suite.tasks] == ["mini_sqa/test"]
    assert [(u.place, u.sides) for u in suite.unpaired] == [(("sqa", "test"), (0,))]


def test_several_runs_of_a_task_are_told_apart_by_their_settings(write, compared, results):
    for model, wrong in (("base", range(20)), ("new", range(4))):
        write(model, wrong)
        write(model, range(99), name="blind", blind=True)
    suite = compared(results / "base", results / "new")
    assert {task.name for task in suite.tasks} == {"mini_sqa/test (blind)", "mini_sqa/test"}
    assert [task.comparison.remarks for task in suite.tasks] == [(), ()]
    with pytest.raises(ResultsError, match="is given twice"):
        compared(results / "base", results / "base")
    with pytest.raises(ResultsError, match="is in both"):
        compared(results, results / "new")
    assert len(compared("base", "new").tasks) == 1  # a name is a row of the leaderboard
    by_label = compared("base", "base [blind]")
    assert by_label.tasks[0].comparison.remarks == ("images were shown to A and withheld from B",)


def test_runs_that_cannot_be_told_apart_are_refused_with_their_names(write, compared, results):
    write("base", range(20))
    for name in ("one", "two"):
        write("new", range(4), name=name, fingerprint=name.ljust(16, "0"))
    with pytest.raises(ResultsError) as refused:
        compared("base", "new")
    message = str(refused.value)
    assert message.startswith("new has 2 runs of mini_sqa/test to compare; name one of them")
    assert "new [one00000] (" in message
    assert "new [two00000] (" in message
    named, _ = find_sides(["base", "new [two00000]"], results)
    assert [c.run.folder.name for c in named[1].candidates] == ["two"]


@pytest.mark.slow
def test_of_three_models_each_pair_is_compared(write, compared):
    write("a", range(20))
    write("b", range(10))
    write("c", range(4))
    write("c", range(4), "sqa")
    write("b", range(4), "sqa")
    suite = compared("a", "b", "c")
    assert suite.counts() == {(0, 1): (1, 0, 0), (0, 2): (1, 0, 0), (1, 2): (0, 0, 2)}
    assert [(u.place[0], u.sides) for u in suite.unpaired] == [("sqa", (1, 2))]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("base",), "at least two"),
        (("base", "newer"), "neither a folder nor a model below .*did you mean: new"),
        (
            ("base", "other"),
            "nothing to compare: base has mini_sqa/test; other has mini_mme/test, sqa/test",
        ),
        (("base", "empty"), "no finished run in"),
    ],
)
def test_what_cannot_be_compared_says_why(write, compared, results, given, message):
    write("base", range(20))
    write("new", range(20))
    write("other", range(20), "sqa")
    write("other", records_of_mme("yes"), "mini_mme")
    (results / "empty").mkdir()
    with pytest.raises(ResultsError, match=message):
        compared(*given)


def test_other_data_is_refused_by_the_name_of_its_task(write, compared):
    write("base", range(20))
    write("base", range(20), "sqa")
    write("new", range(4), data="e" * 16)
    write("new", range(4), "sqa")
    with pytest.raises(ResultsError, match="mini_sqa/test: these runs are not comparable: data"):
        compared("base", "new")
    assert len(compared("base", "new", tasks=["sqa"]).tasks) == 1
    assert len(compared("base", "new", force=True).tasks) == 2


def test_the_gate_closes_on_what_is_significantly_worse(write, judged):
    write("base", range(20))
    write("worse", range(40))
    write("same", range(1, 21))
    assert verdict(judged("base", "worse")).outcome == "worse"
    assert not judged("base", "worse").passed
    assert judged("worse", "base").passed
    assert judged("base", "same").passed
    assert "does not show that it is as good" in judged("base", "same").sentence()


def test_the_gate_with_a_margin_opens_only_on_what_is_shown(write, judged):
    write("base", range(20))
    write("worse", range(60))
    write("near", {*range(1, 20), 30, 31, 32})
    assert verdict(judged("base", "near", margins=["5"])).outcome == "passed"
    open_ = verdict(judged("base", "near", margins=["mini_sqa=1"]))
    assert open_.outcome == "inconclusive"
    assert open_.reason.startswith("the difference of average may lie on either side")
    assert "questions would show it" in open_.reason
    assert judged("base", "near").passed  # not shown to be worse, nor to be as good
    assert verdict(judged("base", "worse", margins=["5"])).outcome == "worse"


def test_runs_that_agree_on_all_images_pass_only_where_chance_could_not_hide_the_margin(
    write, judged
):
    for model in ("base", "same"):
        write(model, records_of_mme("yes", "no"), "mini_mme")
    write("better", records_of_mme("yes", "no", "yes", "yes"), "mini_mme")
    for candidate in ("same", "better"):
        assert verdict(judged("base", candidate, margins=["2"])).outcome == "passed"
    # 3.75 of 160 images, each of which has one answer of two to lose.
    tight = verdict(judged("base", "same", margins=["1"]))
    assert tight.outcome == "inconclusive"
    assert "the two agree on all, and 190 images on which they do would be enough" in tight.reason
    assert "[-1.17, 1.17]" in tight.reason


def test_units_that_are_all_alike_are_no_evidence_of_others(write, judged):
    for model in ("base", "same"):
        write(model, records_of_mme("yes"), "mini_mme")
    found = verdict(judged("base", "same", margins=["50"]))
    assert found.outcome == "inconclusive"
    assert found.reason.endswith("has no interval: all images are alike, and show no spread")


@pytest.mark.slow
def test_a_task_without_a_margin_of_its_own_is_judged_by_significance(write, judged):
    write("base", range(20))
    write("base", records_of_mme("yes"), "mini_mme")
    write("new", range(20))
    write("new", records_of_mme("yes", "no"), "mini_mme")
    gate = judged("base", "new", margins=["mini_sqa=5"])
    assert {v.task: (v.outcome, v.margin) for v in gate.verdicts} == {
        "mini_sqa/test": ("passed", 0.05),
        "mini_mme/test": ("worse", None),
    }


def test_failed_samples_of_the_candidate_cost_what_wrong_ones_do(write, judged, compared):
    write("base", range(20))
    write("new", failing(range(20), range(100, 108)))
    refused = verdict(judged("base", "new"))
    assert refused.outcome == "not judged"
    assert refused.reason.startswith("8 samples of the candidate failed, of which 0 are allowed")
    write("tolerated", failing(range(20), range(100, 108)), options={"max_failed": 8})
    closed = verdict(judged("base", "tolerated"))
    assert closed.outcome == "worse"  # 8 lost and none won, where leaving them out shows nothing
    suite = compared("base", "tolerated")
    assert suite.counts() == {(0, 1): (0, 0, 1)}
    write("failed", failing(range(20), range(1)), options={"max_failed": 0})
    assert verdict(judged("failed", "base")).reason.startswith("1 samples of the baseline failed")


@pytest.mark.parametrize(
    ("options", "count", "reason"),
    [
        ({"limit": 100}, 100, "other samples (--limit: none and 100)"),
        ({}, 200, "the candidate has only 200 of 300 samples"),
        ({"blind": True}, 300, "without images"),
    ],
)
def test_runs_of_other_samples_pass_no_gate(write, judged, options, count, reason):
    write("base", range(20))
    write("new", answers(range(20), count), options=options)
    gate = judged("base", "new")
    assert not gate.passed
    assert reason in verdict(gate).reason


@pytest.mark.slow
def test_two_runs_of_the_same_first_samples_are_judged(write, judged):
    for model in ("base", "new"):
        write(model, answers(range(20), 100), options={"limit": 100})
    assert judged("base", "new", margins=["5"]).passed


def test_what_one_side_lacks_passes_no_gate(write, judged):
    write("base", range(20))
    write("base", range(20), "sqa")
    write("new", range(20))
    for given, lacking in ((("base", "new"), "B"), (("new", "base"), "A")):
        gate = judged(*given)
        assert not gate.passed
        missing = next(v for v in gate.verdicts if v.task == "sqa/test")
        assert (missing.outcome, missing.reason) == (
            "not judged",
            f"{lacking} has no run to compare",
        )
    assert judged("base", "new", tasks=["mini_sqa"]).passed


def test_what_two_sides_lack_is_said_of_two(write, compared):
    for model in ("first", "all", "last"):
        write(model, range(20))
    write("all", range(20), "sqa")
    suite = compared("first", "all", "last")
    gate = judge(suite, tuple(letters(suite.sides)))
    assert gate.verdicts[-1].reason == "A and C have no run to compare"
    assert list(Findings(suite, Power()).remarks()) == [
        "not compared: sqa/test, of which A and C have no run"
    ]


@pytest.mark.slow
def test_a_headline_of_which_less_is_better_is_read_so(write, judged, monkeypatch):
    from adem_bench.tasks.scienceqa.task import ScienceQA

    monkeypatch.setattr(ScienceQA, "lower_is_better", ("average",))
    write("base", range(20))
    write("new", range(40))
    assert judged("base", "new").passed
    assert verdict(judged("new", "base")).outcome == "worse"
    assert verdict(judged("base", "new", margins=["1"])).outcome == "passed"
    assert "below +1.00" in verdict(judged("base", "new", margins=["1"])).reason
    assert verdict(judged("new", "base", margins=["1"])).outcome == "worse"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["x"], "'x' is not a number"),
        (["-1"], "0 or more, not -1"),
        (["nan"], "0 or more, not nan"),
        (["mini_sqa=inf"], "0 or more, not inf"),
        (
            ["mini_sq=1"],
            "--margin mini_sq=1: no figures of a task 'mini_sq'; did you mean: mini_sqa",
        ),
        (["1", "2"], "two values for all tasks"),
        (["mini_sqa=1", "mini_sqa=2"], "two values for mini_sqa"),
        (["=1"], "no task is named"),
    ],
)
def test_a_margin_that_is_none_says_why(texts, message):
    with pytest.raises(ResultsError, match=message):
        read_sizes("--margin", texts, [("mini_sqa", "test")])


def test_a_tasks_own_size_goes_before_its_groups_and_that_of_all(write, compared):
    places = [("mini_sqa", "test"), ("mini_mme", "test"), ("sqa", "test")]
    sizes = read_sizes("--margin", ["mini_mme=3", "1", "mini=2"], places)
    assert (sizes.everywhere, sizes.by_place) == (
        1.0, {("mini_sqa", "test"): 2.0, ("mini_mme", "test"): 3.0},
    )  # fmt: skip


def test_samples_needed_are_for_the_size_in_question(write, compared):
    write("base", range(20))
    write("near", {*range(1, 20), 30, 31, 32})
    suite = compared("base", "near")
    ((task, pair),) = suite.headlines()
    found = Power().needed(task, pair.headline)
    assert found.size == 0.01
    # By hand: (1.960 + 0.842)^2 times the variance of 4 of 300 that differ, over 0.01^2.
    assert found.units == pytest.approx(2.802**2 * (4 / 300 - (2 / 300) ** 2) / 0.01**2, rel=0.15)
    larger = Power(read_sizes("--detect", ["2"], [task.place])).needed(task, pair.headline)
    assert larger.units == pytest.approx(found.units / 4, abs=1)
