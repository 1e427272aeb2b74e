"""Samples that are asked several times, from the command line to the leaderboard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adem_bench.errors import CardError
from adem_bench.records import Decoding
from adem_bench.results.comparison import compare_runs
from adem_bench.results.progress import no_progress
from adem_bench.results.report.samples import sample_table
from adem_bench.results.runs import finished_runs, open_run
from adem_bench.results.validation.validate import validate_run
from adem_bench.results.variants import variants_of
from adem_bench.runner.evaluate import Evaluation, evaluate
from adem_bench.runner.manifest import RunOptions
from adem_bench.runner.rerun import Rerun, rerun
from support.answering import finished_run
from support.processes import several
from support.run_files import read_manifest, read_records


@pytest.fixture
def run(parity_card, mini, tmp_path):
    def call(model=parity_card, results="results", temperature=1.5, limit=6, repeats=3, **more):
        options = RunOptions(
            limit=limit, repeats=repeats, decoding=Decoding(temperature=temperature), **more
        )
        evaluation = Evaluation(
            str(model), ("mini_sqa",), mini, tmp_path / results,
            overrides=() if model != parity_card else ("options.max_new_tokens=6",),
            options=options,
        )  # fmt: skip
        (outcome,) = evaluate(evaluation)
        return outcome

    return call


def test_each_repeat_is_drawn_anew_and_the_first_is_the_run_of_one(run, tmp_path):
    thrice = read_records(run().folder)
    once = read_records(run(repeats=1, results="once", reuse=False).folder)
    assert [(line["sample_id"], line.get("repeat", 0)) for line in thrice] == [
        (line["sample_id"], repeat) for line in once for repeat in range(3)
    ]
    assert thrice[::3] == once
    assert len({line["request_digest"] for line in thrice}) == 18
    assert len({line["response"] for line in thrice}) > 6


def test_a_run_that_was_cut_in_the_middle_of_a_sample_goes_on(run, tmp_path):
    whole = run()
    lines = (whole.folder / "samples.jsonl").read_text().splitlines(keepends=True)
    (whole.folder / "samples.jsonl").write_text("".join(lines[:7]) + lines[7][:20])
    again = run(reuse=False)
    assert again.folder == whole.folder
    assert again.resumed == 7
    assert (again.folder / "samples.jsonl").read_text() == "".join(lines)
    assert run().resumed == 18


def test_answers_of_other_runs_are_those_of_the_same_repeat(run):
    first = run(repeats=2)
    second = run(repeats=3)
    assert second.reused == 12
    assert read_records(second.folder)[1::3] == read_records(first.folder)[1::2]


def test_a_run_of_repeats_is_valid_repeatable_and_named(run, mini, tmp_path):
    outcome = run()
    assert outcome.result.expected == run(repeats=1).result.expected
    found = validate_run(outcome.folder, mini)
    assert (found.issues, found.records) == ((), 18)
    assert read_manifest(outcome.folder)["identity"]["repeats"] == 3
    repeated = rerun(Rerun(outcome.folder, tmp_path / "again", mini), no_progress)
    assert repeated.same
    runs, _ = finished_runs(tmp_path / "results")
    assert sorted(variant.tags for variant in variants_of(runs)) == [
        ("temperature=1.5", "max_new_tokens=6"),
        ("temperature=1.5", "repeats=3", "max_new_tokens=6"),
    ]


@pytest.mark.parametrize("model", ["parity", "constant:A"])
def test_what_answers_alike_each_time_is_refused_before_it_is_asked(
    run, parity_card, tmp_path, model
):
    remedy = "give --temperature" if model == "parity" else "leave the option out"
    with pytest.raises(CardError, match=rf"--repeats 3: model .* same answer .*{remedy}"):
        run(model=parity_card if model == "parity" else model, temperature=None)
    assert not list(tmp_path.rglob("samples.jsonl"))


def by_repeat(request):
    return "AB"[(len(request.prompt) + request.repeat) % 2]


def other(request):
    return "AB"[(len(request.prompt) * request.repeat + 1) % 2]


def test_runs_of_repeats_are_compared_by_sample(mini, tmp_path):
    made = [
        finished_run(tmp_path / str(n), mini, "mini_sqa", answer, repeats=repeats)
        for n, (answer, repeats) in enumerate([(by_repeat, 2), (other, 2), (other, 3)])
    ]
    first, second, third = map(open_run, made)
    same = compare_runs([first, second])
    assert (same.samples, same.noun) == (24, "questions")
    (pair,) = same.pairs
    assert pair.headline.units == 24
    values = [run.result.metric("average").value for run in (first, second)]
    assert (pair.headline.first, pair.headline.second) == pytest.approx(tuple(values))
    assert "majority vote" in {group.metric for group in pair.groups}
    assert all(len(found.records) == 2 for found in pair.disagreements)
    mixed = compare_runs([first, third])
    assert "A was asked each sample 2 times, B 3 times" in mixed.remarks
    assert mixed.pairs[0].headline.second == pytest.approx(third.result.metric("average").value)
    assert "majority vote" not in {group.metric for group in mixed.pairs[0].groups}
    assert sample_table([first, third], [None, None], {}, "average", 0).count == 24 * 3


def test_what_was_edited_in_one_repeat_is_found(mini, tmp_path):
    def answer(request):
        return f"Yes {request.repeat}"

    folder = finished_run(tmp_path / "results", mini, "mini_mme", answer, limit=4, repeats=2)
    assert validate_run(folder, mini).issues == ()
    samples = folder / "samples.jsonl"
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    lines[3]["prediction"] = "no"
    dropped = [lines[0], *lines[2:]]
    samples.write_text("".join(json.dumps(line) + "\n" for line in dropped))
    texts = " ".join(issue.text for issue in validate_run(folder, mini).issues)
    assert "no record of sample" in texts
    assert "prediction is 'no'" in texts


@pytest.mark.slow
def test_two_processes_share_the_repeats(command, environment, finish, tmp_path):
    more = ("--limit", 20, "--repeats", 3, "--temperature", 1.5, "--batch-size", 2)
    done = finish(command(*more, results="alone"))
    assert done.returncode == 0, done.stderr
    arguments = command(*more, results="two")
    shared = [process.wait() for process in several(2, arguments, tmp_path / "of", environment)]
    assert [done.returncode for done in shared] == [0, 0], shared[0].stderr
    assert read_records(tmp_path / "two") == read_records(tmp_path / "alone")
    assert len(read_records(Path(tmp_path / "two"))) == 60
