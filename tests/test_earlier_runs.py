"""Runs and trainings that an earlier version left: read, found again, continued and repeated.

What is in `fixtures/earlier_runs`, and how it was made, its README says.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import adem_bench
from adem_bench.cli import main
from support.digests import benchmark_calls, card_digests, run_digests, weight_calls

EARLIER = Path(__file__).parent / "fixtures" / "earlier_runs"
EXPECTED = EARLIER / "expected"
DATA = EARLIER / "data"
PACKAGED_MODELS = Path(__file__).parents[1] / "models"
SQA = "results/adem-tiny/mini_sqa"
INTERRUPTED = f"{SQA}/minitest-9f3a9244"
MINITEST: dict[str, Any] = {"tasks": ["mini_sqa"], "split": "minitest"}
FINISHED: dict[str, dict[str, Any]] = {
    f"{SQA}/minitest-7ae3fc16": MINITEST,
    f"{SQA}/minitest-0545ae34": {**MINITEST, "settings": {"fusion.alpha": 0.2}},
    f"{SQA}/minitest-blind-6ea6a5c9": {**MINITEST, "blind": True},
    "results/adem-tiny/mini_mme/test-limit12-8f1ebb58": {"tasks": ["mini_mme"], "limit": 12},
    "results/adem-tiny/mini_caption/test-limit12-c44dc2f2": {
        "tasks": ["mini_caption"],
        "limit": 12,
    },
    "results/adem-tiny/mme_tsv/test-fa07b477": {
        "tasks": ["mme_tsv"],
        "data_root": DATA,
        "prompt_format": "instruction",
        "settings": {"options.check_md5": False, "task.expected.test": 16},
    },
    "results/adem-tiny/pope/all-414c9512": {"tasks": ["pope"], "data_root": DATA},
    "results/majority/mini_sqa/minitest-9211fe21": {**MINITEST, "model": "majority"},
}
"""Finished runs, and what `adem_bench.evaluate` is asked for them."""
TRAINING: dict[str, Any] = {
    "data.0.limit": 16, "data.1.limit": 16, "data.2.limit": 16,
    "method.scales": [16, 4], "method.hidden_proj": 8, "method.adapter_dim": 2,
    "effective_batch": 8, "batch_size": 4, "workers": 0,
    "checkpoint_steps": 4, "keep_checkpoints": 1,
}  # fmt: skip
STEPS, CHECKPOINT = 12, 8


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mini world, made once, and images out of TSVs."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def environment(cache: Path, one_thread: None) -> Iterator[pytest.MonkeyPatch]:
    """The environment in which the fixtures were made: no Java, no data root."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADEM_BENCH_CACHE", str(cache))
        patch.setenv("PATH", "")
        patch.setenv("LMUData", str(cache / "no-tsv-here"))
        for name in ("ADEM_BENCH_DATA", "ADEM_BENCH_INCLUDE"):
            patch.delenv(name, raising=False)
        yield patch


@pytest.fixture
def place(environment: pytest.MonkeyPatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: a copy of the fixtures that may be written to."""
    shutil.copytree(EARLIER / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(place: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line there: exit code, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return int(stop.value.code or 0), told.out, told.err

    return call


def evaluate(results: Path, **call: Any) -> Any:
    """Do what `adem-bench run` does for one task; return its outcome."""
    call = {"model": "adem-tiny", "device": "cpu"} | call
    names = [name for name in ("limit", "blind") if name in call]
    options = adem_bench.RunOptions(**{name: call.pop(name) for name in names})
    model, tasks = call.pop("model"), call.pop("tasks")
    (outcome,) = adem_bench.evaluate(model, tasks, results=results, options=options, **call)
    return outcome


def without_ends(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return records without what earlier ones do not say: how their answers ended."""
    return [
        {name: value for name, value in line.items() if name != "finish_reason"} for line in lines
    ]


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def contents(folder: Path, *but: str) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in but)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def figures(metrics: Any) -> dict[str, Any]:
    """The part of a metrics.json that must not change, rounded as another machine may round."""
    values = {
        metric["name"]: [metric[name] for name in ("value", "low", "high", "count")]
        for metric in metrics["metrics"]
    }
    rounded = {
        name: [None if number is None else round(number, 9) for number in numbers]
        for name, numbers in values.items()
    }
    return rounded | {name: metrics[name] for name in ("scored", "failed", "expected", "complete")}


@pytest.mark.parametrize("run", read_json(EXPECTED / "validate.json"))
def test_validation_finds_what_it_found(command, run):
    expected = read_json(EXPECTED / "validate.json")[run]
    data = ["--data-root", DATA] if "_tsv" in run or "pope" in run else []
    code, out, err = command("validate", run, *data)
    assert code == expected["exit code"]
    if code == 0:
        assert out.splitlines() == expected["says"]
        # Data and samples were compared; that figures cannot be, on this machine, may be told.
        assert all("not checked: metric" in line or "interval" in line for line in err.splitlines())
    else:
        found = [line.split(": ")[0] for line in out.splitlines()]
        assert found == [line.split(": ")[0] for line in expected["says"]]


def test_leaderboard_shows_the_same_rows_and_marks(command):
    code, out, err = command("leaderboard", "--format", "csv")
    assert (code, out) == (0, (EXPECTED / "leaderboard.csv").read_text())
    assert INTERRUPTED in err
    rows = {row["model"]: row for row in csv.DictReader(io.StringIO(out))}
    assert "adem-tiny [blind]" in rows
    assert "adem-tiny [fusion.alpha=0.2]" in rows
    assert rows["adem-tiny"]["mini_mme/test n"] == "SUBSET 12/320"
    assert rows["adem-tiny [instruction]"]["mme_tsv/test n"] == "16"


def test_comparison_finds_the_same_differences(command):
    expected = read_json(EXPECTED / "compare.json")
    code, out, _ = command("compare", *expected["runs"], "--format", "json")
    assert code == 0
    now, then = json.loads(out), expected["comparison"]
    # What earlier versions wrote as `blind: False and True` is a sentence.
    assert then.pop("remarks") == ["blind: False and True"]
    assert now["remarks"] == ["images were shown to A and B and withheld from C"]
    for pair in then["pairs"]:
        for difference in (pair["headline"], *pair["groups"]):
            # Intervals of so few units are made otherwise now (docs/statistics.md).
            del difference["low"], difference["high"]
    assert close(now, then), now


def close(now: Any, then: Any) -> bool:
    """Whether two values of JSON are the same, rounding and new fields aside."""
    if isinstance(then, dict):
        return set(then) <= set(now) and all(close(now[name], then[name]) for name in then)
    if isinstance(then, list):
        return len(now) == len(then) and all(map(close, now, then))
    return now == (pytest.approx(then, rel=1e-9) if isinstance(then, float) else then)


def test_report_shows_every_finished_run(command, place):
    code, out, err = command("report", "results", "--output", "page.html", "--data-root", DATA)
    assert code == 0, err
    assert f"{len(FINISHED)} runs" in out
    page = (place / "page.html").read_text(encoding="utf-8")
    for label in ("adem-tiny [blind]", "adem-tiny [fusion.alpha=0.2]", "majority", "SUBSET 12/320"):
        assert label in page


@pytest.mark.parametrize("run", FINISHED)
def test_a_finished_run_is_found_again_and_nothing_is_asked(place, run):
    folder = place / run
    before = contents(folder)
    records = read_lines(folder / "samples.jsonl")
    outcome = evaluate(place / "results", **FINISHED[run])
    assert outcome.folder == folder
    assert outcome.resumed == len(records)
    after = contents(folder, ".lock")
    assert set(after) == set(before)
    # The manifest is kept, which says that nothing was answered; metrics, with notes on what this
    # machine lacks, are computed again.
    kept, metrics = (
        [json.loads(files.pop(name)) for files in (before, after)]
        for name in ("manifest.json", "metrics.json")
    )
    for manifest in kept:
        del manifest["files"]
    assert kept[0] == kept[1]
    assert figures(metrics[0]) == figures(metrics[1])
    different = {name for name in before if before[name] != after[name]}
    assert different <= {"vlmevalkit/MME.xlsx"}


def test_an_interrupted_run_goes_on_and_ends_as_an_undisturbed_one(place):
    folder = place / INTERRUPTED
    kept = read_lines(folder / "samples.jsonl")
    outcome = evaluate(place / "results", **MINITEST, prompt_format="CQM-A")
    undisturbed = read_lines(EXPECTED / "undisturbed" / "samples.jsonl")
    assert 0 < len(kept) < len(undisturbed)
    assert outcome.folder == folder
    assert outcome.resumed == len(kept)
    timing = read_json(folder / "manifest.json")["timing"]
    assert (timing["answered"], timing["resumed"]) == (len(undisturbed) - len(kept), len(kept))
    assert without_ends(read_lines(folder / "samples.jsonl")) == without_ends(undisturbed)
    expected = read_json(EXPECTED / "undisturbed" / "metrics.json")
    assert figures(read_json(folder / "metrics.json")) == figures(expected)


@pytest.mark.parametrize("run", [run for run in FINISHED if "caption" not in run])
def test_a_finished_run_is_repeated_with_the_same_answers(command, place, run):
    before = contents(place / run)
    data = ["--data-root", DATA] if "data_root" in FINISHED[run] else []
    code, out, err = command("rerun", run, "--format", "json", *data)
    found = json.loads(out)
    assert (code, found["same"], found["identity"]) == (0, True, []), err
    assert contents(place / run) == before


def test_exported_predictions_are_scored_as_before(command, place):
    run = place / SQA / "minitest-7ae3fc16"
    predictions = ["--predictions", run / "preds.json", "--output", "scored"]
    code, _, err = command("score", "--task", "mini_sqa", "--split", "minitest", *predictions)
    assert code == 0, err
    scored = figures(read_json(place / "scored" / "metrics.json"))
    assert scored == figures(read_json(run / "metrics.json"))


@pytest.fixture(scope="module")
def training_data(environment: pytest.MonkeyPatch, cache: Path) -> Path:
    """The data root that the trainings had."""
    folder = cache / "train-data"
    command = ["data", "mini", "--output", str(folder), "--splits", "train", "--train-size", "32"]
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert not stop.value.code
    return folder


@pytest.fixture
def output(place: Path) -> Callable[[str], Path]:
    """Copies a training output, its frozen weights named as they lie here."""

    def copy(name: str) -> Path:
        folder = place / name
        shutil.copytree(EARLIER / "training" / name, folder)
        card = folder / "model.yaml"
        if card.is_file():
            text = card.read_text(encoding="utf-8")
            card.write_text(text.replace("PACKAGED-MODELS", str(PACKAGED_MODELS)))
        return folder

    return copy


def train(output: Path, data: Path) -> Any:
    return adem_bench.train(
        "mini", settings=TRAINING, data_root=data, output=output, device="cpu", loggers=()
    )


def test_a_trained_model_answers_as_before(place, output):
    outcome = evaluate(place / "results", model=output("finished"), **MINITEST)
    expected = read_lines(EXPECTED / "trained" / "samples.jsonl")
    assert without_ends(read_lines(outcome.folder / "samples.jsonl")) == expected
    metrics = read_json(outcome.folder / "metrics.json")
    assert figures(metrics) == figures(read_json(EXPECTED / "trained" / "metrics.json"))


def test_a_finished_training_is_found_again(output, training_data):
    folder = output("finished")
    before = contents(folder)
    outcome = train(folder, training_data)
    assert (outcome.steps, outcome.resumed_from, outcome.loss) == (STEPS, STEPS, None)
    assert contents(folder, ".lock") == before


def test_an_interrupted_training_goes_on_and_ends_as_an_undisturbed_one(output, training_data):
    from safetensors.torch import load_file

    folder, finished = output("interrupted"), EARLIER / "training" / "finished"
    identity = read_json(folder / "training.json")
    (checkpoint,) = (folder / "checkpoints").iterdir()
    kept = load_file(checkpoint / "adapter.safetensors")
    logged = read_lines(folder / "log.jsonl")
    outcome = train(folder, training_data)
    assert (outcome.steps, outcome.resumed_from) == (STEPS, CHECKPOINT)
    assert read_json(folder / "training.json") == identity
    expected = load_file(finished / "adapter" / "adapter.safetensors")
    found = load_file(folder / "adapter" / "adapter.safetensors")
    assert list(found) == list(expected)
    # Other kernels round otherwise; the four steps move weights by a hundred times as much.
    assert max(float((found[name] - expected[name]).abs().max()) for name in found) < 1e-5
    assert max(float((kept[name] - expected[name]).abs().max()) for name in found) > 1e-4
    settings = "adapter/adapter.json"
    stated = read_json(folder / settings)
    # What adapters have said of their base since.
    assert stated.pop("language_model_architecture") == "llama, 6 layers of width 192"
    assert stated.pop("vision_architecture") == "5 blocks of width 128, 64 patches"
    assert len(stated.pop("vision_signature")) == 16
    assert stated == read_json(finished / settings)
    log, undisturbed = read_lines(folder / "log.jsonl"), read_lines(finished / "log.jsonl")
    assert log[:CHECKPOINT] == logged[:CHECKPOINT]
    assert len(log) == len(undisturbed) == STEPS
    for line, other in zip(log, undisturbed, strict=True):
        assert {name: line[name] for name in ("step", "position", "epoch", "skipped")} == {
            name: other[name] for name in ("step", "position", "epoch", "skipped")
        }
        for name in ("loss", "learning_rate", "grad_norm"):
            assert line[name] == pytest.approx(other[name], rel=1e-3)


def test_a_checkpoint_is_an_adapter(place, output):
    (checkpoint,) = (output("interrupted") / "checkpoints").iterdir()
    outcome = evaluate(place / "results", tasks=["mini_mme"], limit=1, adapter=checkpoint)
    assert outcome.result.scored == 1


@pytest.fixture(scope="module")
def expected_digests() -> Any:
    return read_json(EXPECTED / "digests.json")


def check(found: dict[str, Any], expected: dict[str, Any]) -> None:
    names = {name.partition(":")[0] for name in found}
    wanted = {name: run for name, run in expected.items() if name.partition(":")[0] in names}
    assert found == wanted


def test_runs_of_every_task_have_the_same_folders_and_requests(place, expected_digests):
    found = run_digests(benchmark_calls(DATA), place / "digests")
    assert len(found) > len(benchmark_calls(DATA))
    check(found, expected_digests["runs"])


def test_weights_and_their_settings_have_the_same_fingerprints(
    place, expected_digests, parity_card, output
):
    calls = weight_calls(DATA, parity_card, output("finished"))
    found = run_digests(calls, place / "digests")
    assert len(found) == len(calls)
    check(found, expected_digests["runs"])


# Those of model cards, which no identity rests on, changed when each kind got a card of its own.
@pytest.mark.parametrize("kind", ["tasks", "trainers"])
def test_cards_have_the_same_digests(environment, expected_digests, kind):
    found = card_digests()[kind]
    expected = expected_digests["cards"][kind]
    assert {name: found.get(name) for name in expected} == expected
