from __future__ import annotations

import json
from dataclasses import replace

import pytest

from adem_bench.errors import ResultsError
from adem_bench.metrics.paired import MCNEMAR, mcnemar
from adem_bench.records import Record
from adem_bench.results.comparison import compare_runs, is_significant
from adem_bench.results.runs import open_run
from adem_bench.results.unlike import asked_differently
from adem_bench.results.variants import labels, letters
from support.run_writer import choice, write_run


@pytest.fixture
def opened(tmp_path):
    """Writes a run and opens it."""

    def write(name, records, **changes):
        return open_run(write_run(tmp_path / name, records, **changes))

    return write


def answers(wrong, count=60):
    return [choice(number, int(number in wrong)) for number in range(count)]


def test_two_runs_are_compared_by_question_and_by_group(opened):
    first, second = opened("a", answers(range(20))), opened("b", answers(range(4)))
    comparison = compare_runs([first, second])
    (pair,) = comparison.pairs
    headline = pair.headline
    assert (comparison.headline, comparison.samples, comparison.noun) == (
        "average", 60, "questions",
    )  # fmt: skip
    assert (headline.test, headline.won, headline.lost) == (MCNEMAR, 16, 0)
    assert headline.value == pytest.approx(16 / 60)
    assert headline.p_value == headline.adjusted_p_value == mcnemar(16, 0)
    assert is_significant(headline)
    assert {difference.metric: difference.won for difference in pair.groups} == {
        "NAT": 8, "SOC": 8, "IMG": 8, "NO": 8,
    }  # fmt: skip
    assert pair.groups[0].adjusted_p_value == 4 * pair.groups[0].p_value
    assert [d.unit for d in pair.disagreements] == [str(n) for n in range(4, 20)]
    assert comparison.remarks == ()


def test_of_three_runs_each_pair_is_tested_and_adjusted(opened):
    runs = [
        opened("a", answers(range(20))),
        opened("b", answers(range(13, 20))),
        opened("c", answers([0])),
    ]
    comparison = compare_runs(runs)
    assert [(pair.first, pair.second) for pair in comparison.pairs] == [(0, 1), (0, 2), (1, 2)]
    raw = [pair.headline.p_value for pair in comparison.pairs]
    assert comparison.pairs[1].headline.adjusted_p_value == 3 * min(raw)
    assert comparison.pairs[2].headline.adjusted_p_value == max(raw)


def test_runs_of_other_data_or_versions_are_refused_and_forced(opened):
    first = opened("a", answers(range(20)))
    second = opened("b", answers(range(4)), data="e" * 16, task_version=2)
    with pytest.raises(ResultsError) as refused:
        compare_runs([first, second])
    assert str(refused.value) == (
        "these runs are not comparable: task version: 1 and 2; "
        f"data fingerprint: {'d' * 16} and {'e' * 16}; --force compares the samples that they share"
    )
    forced = compare_runs([first, second], force=True)
    assert forced.samples == 60
    assert forced.remarks[0] == "compared all the same: task version: 1 and 2"


def test_only_what_all_answered_is_compared_and_other_settings_are_told(opened):
    first = opened("a", answers(range(20)))
    records = [*answers(range(4))[:50], choice(50, 0, reference=1)]
    records += [choice(51, 0, error="unreadable image")]
    second = opened("b", records, blind=True)
    comparison = compare_runs([first, second])
    assert comparison.samples == 50
    assert comparison.remarks == (
        "images were shown to A and withheld from B",
        "51 of 60 samples were answered by all of them; only these are compared",
        "1 of them have other right answers in different runs and are left out; "
        "`adem-bench validate` says whether a file was changed",
    )


def test_how_runs_were_asked_differently_is_told_in_sentences(opened):
    runs = [
        opened("a", answers([1]), prompt_settings={"captions": True, "prompt_format": "QCM-A"}),
        opened("b", answers([2]), prompt_settings={"captions": False}, blind=True, limit=60),
        opened("c", answers([3]), prompt_settings={"captions": True}, limit=60),
    ]
    assert asked_differently(runs, "ABC") == [
        "captions is on in A and C and off in B",
        "prompt_format is QCM-A in A and not set in B and C",
        "images were shown to A and C and withheld from B",
        "A was asked all samples, B and C the first 60 samples",
    ]


def test_what_cannot_be_compared_says_why(opened, tmp_path):
    first = opened("a", answers(range(20)))
    with pytest.raises(ResultsError, match="at least two"):
        compare_runs([first])
    with pytest.raises(ResultsError, match="given twice"):
        compare_runs([first, first])
    mme = opened("m", questions("no"), task="mini_mme")
    with pytest.raises(ResultsError, match="kinds scienceqa and mme"):
        compare_runs([first, mme])
    other = opened("o", [choice(99, 0)])
    with pytest.raises(ResultsError, match="no answered sample in common"):
        compare_runs([first, other])
    with pytest.raises(ResultsError, match="holds 3 finished runs; name one of"):
        open_run(tmp_path)
    spaced = write_run(tmp_path / "my runs", answers([1]))
    (spaced / "samples.jsonl").unlink()
    with pytest.raises(ResultsError, match=r"`adem-bench validate '\S*/my runs'` says more"):
        open_run(spaced)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResultsError, match=r"no finished run in .*empty; `adem-bench run`"):
        open_run(tmp_path / "empty")


def questions(*said, images=30):
    """Two questions an image; the first is answered as `said` has it, the second by yes."""
    return [
        Record(
            f"count/{image}/{index}", "", answer, answer, gold, float(answer == gold.lower()),
            ("count", "perception"), f"count/{image}",
        )
        for image in range(images)
        for index, (gold, answer) in enumerate(
            zip(("Yes", "Yes"), (said[image % len(said)], "yes"), strict=True)
        )
    ]  # fmt: skip


def test_mme_is_compared_by_image(opened):
    runs = [opened("a", questions("no", "yes"), task="mini_mme")]
    runs += [opened("b", questions("yes"), task="mini_mme")]
    comparison = compare_runs(runs)
    (pair,) = comparison.pairs
    assert (comparison.headline, comparison.noun, pair.headline.units) == ("accuracy", "images", 30)
    by_name = {difference.metric: difference for difference in pair.groups}
    assert by_name["count"].value == pytest.approx(200 - (75 + 50))
    assert by_name["perception"].value == by_name["count"].value
    assert by_name["perception"].units == 30
    assert len(pair.disagreements) == 15
    assert [len(d.records) for d in pair.disagreements] == [2] * 15


def test_captions_part_most_where_their_headline_does(opened, monkeypatch):
    monkeypatch.setattr("adem_bench.tasks.coco_caption.java.shutil.which", lambda name: None)

    def captions(*texts):
        return [
            Record(str(n), "", text, text, [f"a {n} red ball on grass", "a ball"], None)
            for n, text in enumerate(texts)
        ]

    first = opened("a", captions("a 0 red ball", "a 1 ball", "a hat"), task="mini_caption")
    second = opened(
        "b", captions("a 0 red ball", "two men", "a 2 red ball on grass"), task="mini_caption"
    )
    (pair,) = compare_runs([first, second]).pairs
    assert pair.headline.metric == "CIDEr"
    assert [d.unit for d in pair.disagreements] == ["2", "1"]
    assert pair.disagreements[0].gap > 0 > pair.disagreements[1].gap


def test_groups_are_adjusted_over_all_pairs(opened):
    runs = [opened(name, answers(wrong)) for name, wrong in (("a", range(20)), ("b", range(4)))]
    (alone,) = compare_runs(runs).pairs
    three = compare_runs([*runs, opened("c", answers(range(8, 12)))]).pairs[0]
    assert three.groups[0].p_value == alone.groups[0].p_value
    assert three.groups[0].adjusted_p_value > alone.groups[0].adjusted_p_value


def test_a_disagreement_is_on_what_was_compared(opened):
    runs = [opened(said, questions(said), task="mini_mme") for said in ("no", "yes")]
    third = [r for r in questions("yes") if not r.sample_id.endswith("/0")]
    comparison = compare_runs([*runs, opened("c", third, task="mini_mme")])
    assert comparison.samples == 30
    assert comparison.pairs[0].disagreements == ()  # the two differ on the other question alone


def test_a_subset_and_other_options_have_their_own_labels(opened):
    plain = opened("a", answers([0]))
    logits = opened("b", answers([1]), task_options={"answer_rule": "logits"})
    assert labels([plain.run]) == ["m"]
    first, second = labels([plain.run, logits.run])
    assert second == "m [answer_rule=logits]"
    assert first != second
    again = opened("c", answers([2]))
    assert labels([plain.run, again.run]) == ["m [a]", "m [c]"]


def test_files_that_no_task_wrote_are_named(opened, tmp_path):
    run = write_run(tmp_path / "x", answers([0]))
    (run / "samples.jsonl").write_text("")
    with pytest.raises(ResultsError, match=r"x: .* \(metrics.json was not made of the"):
        open_run(run)
    run = write_run(tmp_path / "y", answers([0]))
    metrics = (run / "metrics.json").read_text()
    (run / "metrics.json").write_text(metrics.replace('"headline": "average"', '"headline": "x"'))
    with pytest.raises(ResultsError, match=r"y: .* \(metrics.json was not made of the"):
        open_run(run)
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "files": {}}))  # as of old
    with pytest.raises(ResultsError, match="lacks its headline 'x'"):
        open_run(run)
    texts = [opened(name, [replace(choice(1, 0), prediction="A")]) for name in "zw"]
    with pytest.raises(ResultsError, match="nothing that its task scores"):
        compare_runs(texts)


def test_letters_go_on_after_z(opened):
    run = opened("a", answers([0]))
    assert letters([run] * 28)[24:] == ["Y", "Z", "A1", "B1"]
