"""`adem_bench` as a notebook uses it; a baseline answers, so nothing is loaded."""

from __future__ import annotations

import math
import resource

import pytest

import adem_bench
from adem_bench.errors import ResultsError
from adem_bench.results.dataframe import COLUMNS, RECORD_COLUMNS
from support.run_writer import choice, write_run


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Runs below a folder with a space in its name, and the outcomes of one."""
    folder = tmp_path_factory.mktemp("my results")
    given = {"results": folder, "reuse": False}
    one = adem_bench.evaluate("constant:Yes", "mini_mme", limit=4, **given)
    two = adem_bench.evaluate(
        "majority", ["mini_mme", "mini_sqa"], limit=6, blind=True, name="most common", **given
    )
    return folder, one, two


def test_a_text_is_one_task_and_the_result_is_asked_like_one(results):
    _, one, _ = results
    (outcome,) = one
    assert repr(one) == f"[{outcome!r}]"
    assert repr(outcome).startswith("Outcome(mini_mme/test: accuracy 50.00% [")
    assert repr(outcome).endswith("], 4 of 320 samples, 0 failed)")
    assert one.metric("accuracy").value == outcome.metric("accuracy").value == 0.5
    assert one.folder == outcome.folder
    assert [record.response for record in one.records] == ["Yes"] * 4
    frame = one.to_frame()
    assert tuple(frame.columns) == RECORD_COLUMNS
    assert frame["score"].mean() == 0.5
    assert frame["sample_id"].tolist() == [record.sample_id for record in outcome.records]


def test_of_several_tasks_records_and_frames_are_of_all(results):
    _, _, two = results
    assert [outcome.result.task for outcome in two] == ["mini_mme", "mini_sqa"]
    assert len(two.records) == 12
    assert two.to_frame().groupby("task")["score"].size().to_dict() == {
        "mini_mme": 6, "mini_sqa": 6,
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"of mini_mme, mini_sqa; choose one, as in outcomes\[0\]"):
        two.metric("accuracy")
    assert two[1].result.metric("average").count == 6


def test_a_metric_that_there_is_not_names_the_nearest(results):
    _, one, _ = results
    with pytest.raises(KeyError) as wrong:
        one.metric("acuracy")
    assert str(wrong.value).startswith("mini_mme has no metric 'acuracy'; did you mean: accuracy")
    assert isinstance(wrong.value, adem_bench.AdemBenchError)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"limt": 4}, TypeError, r"unexpected keyword argument 'limt'; did you mean: limit"),
        ({"limit": "4"}, ValueError, r"limit='4': expected a whole number of at least 1"),
        ({"limit": 0}, ValueError, r"limit=0: expected a whole number of at least 1"),
        ({"temperature": math.nan}, ValueError, "temperature=nan: expected a number of at least"),
        ({"temperature": math.inf}, ValueError, "temperature=inf: expected a number of at least"),
        ({"top_p": math.nan}, ValueError, "top_p=nan: expected a share above 0, at most 1"),
        ({"temperature": -1}, ValueError, r"temperature=-1: expected a number of at least 0"),
        ({"top_p": 2}, ValueError, r"top_p=2: expected a share above 0, at most 1"),
        ({"blind": "no"}, ValueError, r"blind='no': expected True or False"),
        ({"tasks": []}, ValueError, r"tasks is empty; name one"),
        ({"tasks": None}, TypeError, r"tasks must be a name or several, not None"),
        ({"tasks": ["mini_mme", 3]}, TypeError, r"tasks must be a name or several, not \['mini"),
        (
            {"limit": 4, "options": adem_bench.RunOptions(limit=3)},
            TypeError,
            r"got limit as a keyword and options too",
        ),
    ],
)
def test_a_wrong_keyword_or_value_is_named(tmp_path, given, error, message):
    with pytest.raises(error, match=message):
        adem_bench.evaluate("constant:Yes", **{"tasks": "mini_mme", "results": tmp_path} | given)


def test_a_wrong_keyword_of_training_is_named():
    with pytest.raises(TypeError, match=r"train\(\) got .* 'outputs'; did you mean: output"):
        adem_bench.train("mini", outputs="there")


def test_options_are_what_they_were(tmp_path, results):
    _, one, _ = results
    options = adem_bench.RunOptions(limit=4, reuse=False)
    again = adem_bench.evaluate("constant:Yes", ["mini_mme"], results=tmp_path, options=options)
    assert again.folder.relative_to(tmp_path).parts == one.folder.parts[-3:]


def test_a_run_file_is_run_as_the_command_runs_it(tmp_path):
    suite = tmp_path / "suite.yaml"
    text = (
        f"results: {tmp_path / 'runs'}\ntasks: [mini_mme, mmbench]\nlimit: 4\nskip-missing: true\n"
        f"data-root: {tmp_path}\nmodels: [{{model: 'constant:Yes', name: nodder}}]\n"
        "settings: [{}, {blind: true}]\n"
    )
    suite.write_text(text)
    with pytest.warns(UserWarning, match=r"skipped mmbench: ") as warned:
        shown, blind = adem_bench.run_file(suite)
    assert warned[0].filename == __file__
    assert [one.metric("accuracy").value for one in (shown, blind)] == [0.5, 0.5]
    frame = adem_bench.runs(tmp_path / "runs")
    assert frame.groupby("blind")["folder"].first().to_dict() == {
        False: str(shown.folder), True: str(blind.folder),
    }  # fmt: skip
    suite.write_text(text.replace("limit", "limt"))
    with pytest.raises(adem_bench.AdemBenchError, match=r"unknown key 'limt'; did you mean: limit"):
        adem_bench.run_file(suite)
    with pytest.raises(adem_bench.AdemBenchError, match=r"none.yaml: cannot be read: no such file"):
        adem_bench.run_file(tmp_path / "none.yaml")
    suite.write_text("models: echo\n")
    with pytest.raises(adem_bench.AdemBenchError, match=r"suite.yaml: name something .*--tasks in"):
        adem_bench.run_file(suite)


def test_runs_are_a_frame_with_a_row_for_each_metric(results):
    folder, one, _ = results
    frame = adem_bench.runs(folder)
    assert tuple(frame.columns) == COLUMNS
    assert frame["folder"].nunique() == 3
    row = frame[(frame["folder"] == str(one.folder)) & (frame["metric"] == "accuracy")].iloc[0]
    assert (row["value"], row["scored"], row["blind"]) == (0.5, 4, False)


def test_what_cannot_be_read_is_left_out_with_a_warning(tmp_path):
    write_run(tmp_path / "a", [choice(n, 0) for n in range(3)])
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "metrics.json").write_text("{}")
    with pytest.warns(UserWarning, match=r"b: not finished") as warned:
        assert set(adem_bench.runs(tmp_path)["task"]) == {"mini_sqa"}
    assert warned[0].filename == __file__


def test_the_leaderboard_is_a_frame_of_numbers(results):
    folder, _, _ = results
    frame = adem_bench.leaderboard(folder)
    found = frame.set_index("model").loc["constant:Yes"]
    assert found["mini_mme/test accuracy"] == 50
    assert found["mini_mme/test accuracy low"] < 50 < found["mini_mme/test accuracy high"]
    assert (found["mini_mme/test n"], found["mini_mme/test expected"]) == (4, 320)
    assert frame["rank"].isna().all()
    assert frame["mini_sqa/test n"].dropna().tolist() == [6]
    only = adem_bench.leaderboard(folder, tasks="mini_sqa", models="most*")
    assert not [name for name in only.columns if "mini_mme" in name]
    assert adem_bench.leaderboard(folder, published=True)["origin"].eq("published").any()


def test_a_comparison_is_a_frame_with_a_row_for_each_metric(tmp_path):
    for name, wrong in (("base", range(40)), ("tuned", range(30, 35))):
        records = [choice(n, int(n in wrong)) for n in range(200)]
        write_run(tmp_path / name / "a", records, model=name)
        write_run(tmp_path / name / "b", records[:50], "sqa", model=name, blind=name == "tuned")
    frame = adem_bench.compare(tmp_path / "base", tmp_path / "tuned", tasks=["mini_sqa", "sqa"])
    headlines = frame[frame["is_headline"]].set_index("task")
    assert headlines.loc["mini_sqa", "difference"] == pytest.approx(35 / 200)
    assert headlines.loc["mini_sqa", "reading"].endswith("tuned is better")
    assert (headlines["holm_p"] >= headlines["p"]).all()
    assert set(frame[~frame["is_headline"]]["metric"]) == {"NAT", "SOC", "IMG", "NO"}
    assert "sqa/test: images were shown to A and withheld from B" in frame.attrs["remarks"]
    named = adem_bench.compare("base", "tuned", results=tmp_path, tasks="mini_sqa")
    assert (
        named["second_value"].tolist()
        == frame[frame["task"] == "mini_sqa"]["second_value"].tolist()
    )


def test_outcomes_are_compared_without_their_folders_names(results, tmp_path):
    _, one, _ = results
    other = adem_bench.evaluate("constant:No", "mini_mme", limit=4, results=tmp_path)
    frame = adem_bench.compare(one, other[0])
    assert frame["first_value"].iloc[0] == frame["second_value"].iloc[0] == 0.5
    assert frame["reading"].iloc[0] == "no difference shown"


def test_all_that_there_is_is_listed():
    assert {"compare", "evaluate", "leaderboard", "run_file", "runs", "train"} <= set(
        dir(adem_bench)
    )
    assert all(hasattr(adem_bench, name) for name in dir(adem_bench))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a\0", "holds a NUL"),
        ("a\ud800", "half of a character"),
        ("loop", "loop is a link that leads back to itself"),
    ],
)
def test_a_place_that_cannot_be_is_our_error(tmp_path, mini, name, said):
    (tmp_path / "loop").symlink_to("loop")
    asked = {"tasks": "mini_mme", "results": tmp_path / name, "limit": 2, "data_root": mini}
    with pytest.raises(ResultsError, match=said):
        adem_bench.evaluate("constant:Yes", **asked)


@pytest.mark.parametrize("room", [100, 1_000, 8_000])
def test_a_disk_that_takes_no_more_is_our_error_with_the_path(tmp_path, mini, room):
    asked = {"tasks": "mini_mme", "results": tmp_path, "limit": 40, "data_root": mini}
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, unlimited[1]))
    try:
        with pytest.raises(ResultsError, match=f"cannot write {tmp_path}/.*File too large"):
            adem_bench.evaluate("constant:Yes", **asked)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    (outcome,) = adem_bench.evaluate("constant:Yes", **asked)
    assert outcome.result.scored == 40
