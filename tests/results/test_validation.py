"""Hand-edited, torn and mixed-up run folders are found, and the place is named."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import fields
from pathlib import Path

import pytest

from adem_bench.cards import load_task_card
from adem_bench.data.paths import MINI_SIGNS
from adem_bench.errors import ResultsError
from adem_bench.records import Metric, Record, Result
from adem_bench.results.run_schema import MetricEntry, MetricsFile, RecordLine
from adem_bench.results.validation import safe_json as reading
from adem_bench.results.validation.issues import MAX_PER_FILE, Issues
from adem_bench.results.validation.recompute import check_figures
from adem_bench.results.validation.validate import validate_run
from support.answering import finished_run


@pytest.fixture(scope="module")
def data(mini) -> Path:
    return mini


@pytest.fixture(scope="module")
def made(tmp_path_factory, data):
    """Returns a run, made once for each set of arguments."""
    root = tmp_path_factory.mktemp("made")
    found: dict[str, Path] = {}

    def make(task: str = "mini_mme", **options) -> Path:
        key = f"{task} {options}"
        if key not in found:
            found[key] = finished_run(root / str(len(found)), data, task, **options)
        return found[key]

    return make


@pytest.fixture
def run(made, tmp_path) -> Path:
    """A run to be spoiled; its manifest is of before there were digests of files."""
    folder = copied(made(), tmp_path)
    edit(folder / "manifest.json", lambda manifest: manifest.pop("files"))
    return folder


def copied(run: Path, place: Path) -> Path:
    return Path(shutil.copytree(run, place / run.name))


def edit(path: Path, change) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def edit_line(run: Path, number: int, **values) -> None:
    samples = run / "samples.jsonl"
    lines = samples.read_text().splitlines()
    lines[number - 1] = json.dumps(json.loads(lines[number - 1]) | values)
    samples.write_text("".join(f"{line}\n" for line in lines))


def told(run: Path, data: Path | None) -> list[str]:
    """Return the issues, file names without their folder."""
    found = validate_run(run, data).issues
    return [str(finding).removeprefix(f"{run}/") for finding in found]


def other(value: str, *values: str) -> str:
    return next(candidate for candidate in values if candidate != value)


@pytest.mark.parametrize("task", ["mini_mme", "mini_sqa"])
@pytest.mark.parametrize("blind", [False, True])
def test_a_run_as_it_was_written_is_valid(made, data, task, blind):
    validation = validate_run(made(task, blind=blind), data)
    assert validation.issues == ()
    assert validation.unchecked == ()
    assert validation.records == 24


def test_the_schema_has_the_fields_that_are_written():
    assert set(RecordLine.model_fields) == {field.name for field in fields(Record)}
    assert set(MetricEntry.model_fields) == {field.name for field in fields(Metric)}
    aliases = {field.alias or name for name, field in MetricsFile.model_fields.items()}
    assert aliases == set(Result("t", 1, "s", "h", (), 0, 1, 0, unusable=1).to_json())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"response": "maybe"}, "prediction is"),
        ({"prediction": "other"}, "prediction is 'other', expected"),
        ({"score": 0.5}, "score is 0.5, expected"),
        ({"score": -1}, "score is -1, expected 0 to 1"),
        ({"score": "1"}, "field 'score': expected a valid number, found '1'"),
        ({"score": True}, "field 'score': expected a valid number, found True"),
        ({"score": float("nan")}, "field 'score': expected a finite number"),
        ({"reference": "Maybe"}, "reference is 'Maybe', expected"),
        ({"groups": ["count"]}, "groups is ('count',), expected"),
        ({"groups": "count"}, "field 'groups': expected a valid list"),
        ({"cluster": None}, "cluster is None, expected"),
        ({"request_digest": "0" * 16}, "request_digest is '0000000000000000', expected"),
        ({"error": "no image"}, "prediction must be null where there is an error"),
        ({"sample_id": "existence/9999/0"}, "sample 'existence/9999/0' is not one of the run's"),
        ({"repeat": 5000}, "field 'repeat': expected less than 1000, found 5000"),
        ({"tokens": [1 << 70, 1]}, "a field's value is not of its type"),
        ({"scroe": 1}, "unknown field 'scroe'; did you mean: score"),
    ],
    ids=str,
)
def test_an_edited_record_is_named_with_line_and_field(run, data, values, message):
    edit_line(run, 3, **values)
    found = told(run, data)
    assert any(line.startswith(f"samples.jsonl:3: {message}") for line in found), found


@pytest.mark.parametrize("name", ["sample_id", "prediction", "notes"])
def test_a_missing_field_is_named(run, data, name):
    lines = (run / "samples.jsonl").read_text().splitlines()
    record = json.loads(lines[4])
    del record[name]
    lines[4] = json.dumps(record)
    (run / "samples.jsonl").write_text("\n".join(lines) + "\n")
    assert told(run, data) == [f"samples.jsonl:5: field {name!r} is missing"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"", "empty, expected one record"),
        (b'{"sample_id": "a', "not JSON at character 15: unterminated string"),
        (b"\x00", "not JSON at character 1"),
        (b'"\xff"', "not UTF-8 at byte 2"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * 40 + b"]" * 40, "nested too deeply"),
        (b"9" * 10_000, "not JSON: a number is too long"),
        (b'{"score": 1, "score": 0}', "key 'score' appears twice"),
        (b"[1, 2]", "expected an object of fields, found [1, 2]"),
    ],
    ids=range(9),
)
def test_a_line_that_is_no_record_is_named(run, data, line, message):
    with (run / "samples.jsonl").open("ab") as samples:
        samples.write(line + b"\n")
    found = told(run, data)
    assert found[0].startswith(f"samples.jsonl:25: {message}")
    assert found[1:] == ["metrics.json: scored 24 and failed 0, but samples.jsonl has 25 lines"]


def test_a_torn_last_line_is_named(run, data):
    samples = run / "samples.jsonl"
    samples.write_bytes(samples.read_bytes()[:-1])
    assert told(run, data) == [
        "samples.jsonl:24: no line feed at its end: the file was cut or edited"
    ]
    samples.write_bytes(samples.read_bytes()[:-20])
    assert told(run, data)[0].startswith("samples.jsonl:24: torn: not JSON")


def test_an_endless_line_is_not_read_into_memory(run, data, monkeypatch):
    monkeypatch.setattr(reading, "MAX_LINE_BYTES", 1 << 12)
    first, *rest = (run / "samples.jsonl").read_bytes().splitlines(keepends=True)
    (run / "samples.jsonl").write_bytes(b"".join([first, b"x" * 50_000, b"\n", *rest]))
    assert told(run, data)[0].startswith("samples.jsonl:2: longer than")
    assert len(list(reading.numbered_lines(run / "samples.jsonl"))) == 25


def test_records_twice_missing_and_out_of_order_are_named(run, data):
    samples = run / "samples.jsonl"
    whole = samples.read_text().splitlines(keepends=True)
    samples.write_text("".join([*whole, whole[6]]))
    assert "samples.jsonl:25: sample 'existence/0004/0' is in line 7 too" in told(run, data)
    samples.write_text("".join(whole[:6] + whole[7:]))
    assert "samples.jsonl: no record of sample 'existence/0004/0'" in told(run, data)
    samples.write_text("".join([*whole[1:], whole[0]]))
    assert told(run, data)[0].startswith("samples.jsonl:1: sample 'existence/0001/1' must come")


def test_records_of_another_run_are_found_by_their_requests(run, made, data):
    shutil.copy(made(blind=True) / "samples.jsonl", run / "samples.jsonl")
    found = told(run, data)
    assert len(found) == 24
    assert all("request_digest is" in line for line in found)


def test_records_and_metrics_of_another_task_are_told_in_a_line_each(run, made, data):
    shutil.copy(made("mini_sqa") / "samples.jsonl", run / "samples.jsonl")
    assert told(run, data)[-1] == (
        "samples.jsonl: none of the 24 records belongs to a sample of this run"
    )
    shutil.copy(made("mini_sqa") / "metrics.json", run / "metrics.json")
    found = told(run, data)
    assert found[0].startswith("metrics.json: task is 'mini_sqa', expected 'mini_mme'")
    assert len(found) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scored": 23}, "scored 23 and failed 0, but samples.jsonl has 24 lines"),
        ({"complete": True}, "complete is True, expected False"),
        ({"expected": 24, "complete": True}, "expected is 24, expected 320 of these records"),
        ({"task_version": 9}, "task_version is 9, expected 1 (task.version in manifest.json)"),
        ({"schema": 7}, "schema 7 is unknown to this version, expected 1"),
        ({"metrics": None}, "field 'metrics': expected a valid list, found None"),
        ({"headline": "average"}, "headline is 'average', expected 'accuracy'"),
    ],
    ids=str,
)
def test_an_edited_field_of_metrics_is_named(run, data, change, message):
    edit(run / "metrics.json", lambda metrics: metrics.update(change))
    assert any(line.startswith(f"metrics.json: {message}") for line in told(run, data))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("value", 0.99, "metric accuracy is 0.99, expected 0."),
        ("value", "99", "field 'metrics.0.value': expected a valid number, found '99'"),
        ("value", None, "metric accuracy has neither a value nor a note"),
        ("count", 25, "metric accuracy counts 25 in fraction, expected 24 in fraction"),
        ("unit", "percent", "field 'metrics.0.unit': expected 'fraction', 'points' or 'count'"),
        ("low", 0.1, "interval of accuracy is 0.1 to"),
        ("high", None, "interval of accuracy is"),
        ("name", "acuracy", "metric accuracy is missing"),
        ("vlaue", 1.0, "unknown field 'metrics.0.vlaue'; did you mean: value"),
    ],
)
def test_an_edited_figure_is_named(run, data, field, value, message):
    def change(metrics):
        metrics["metrics"].sort(key=lambda metric: metric["name"] != "accuracy")
        metrics["metrics"][0][field] = value

    edit(run / "metrics.json", change)
    found = told(run, data)
    assert any(line.startswith(f"metrics.json: {message}") for line in found), found


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("options", "limit", 30, "options.limit is 30, identity.limit is 24; expected the same"),
        ("options", "limit", "24", "field 'options.limit': expected a valid integer"),
        ("identity", "model", "f" * 16, "identity belongs to a folder test-limit24-"),
        ("identity", "blind", True, "identity belongs to a folder test-blind-limit24-"),
        ("task", "split", "val", "task.split is 'val', identity.split is 'test'"),
        ("task", "card_digest", "f" * 16, "task.card does not have the digest"),
        ("model", "fingerprint", None, "field 'model.fingerprint': expected a valid string"),
        ("run", "processes", [], "field 'run.processes': expected a valid integer"),
    ],
)
def test_an_edited_manifest_is_named(run, data, part, name, value, message):
    edit(run / "manifest.json", lambda manifest: manifest[part].update({name: value}))
    found = told(run, data)
    assert any(line.startswith(f"manifest.json: {message}") for line in found), found


def test_another_runs_manifest_is_found(run, made, data):
    shutil.copy(made(blind=True) / "manifest.json", run / "manifest.json")
    found = told(run, data)
    assert any("identity belongs to a folder test-blind-limit24-" in line for line in found)
    assert any(line.startswith("samples.jsonl: changed since the run") for line in found)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("samples.jsonl", lambda text: text.replace('"notes": []', '"notes": ["Q9"]', 1)),
        ("metrics.json", lambda text: text.replace('"warnings": []', '"warnings": ["x"]', 1)),
        ("manifest.json", lambda text: text.replace('"cpu_count": ', '"cpu_count": 1', 1)),
    ],
)
def test_an_edit_that_contradicts_nothing_is_found_by_the_digests(
    made, data, tmp_path, name, change
):
    run = copied(made(), tmp_path)
    path = run / name
    edited = change(path.read_text())
    assert edited != path.read_text()
    path.write_text(edited)
    assert told(run, data) == [
        f"{name}: changed since the run wrote it: not the SHA-256 in the manifest"
    ]


def test_a_digest_taken_out_is_missed(made, data, tmp_path):
    run = copied(made(), tmp_path)
    edit(run / "manifest.json", lambda manifest: manifest["files"].pop("metrics.json"))
    assert told(run, data) == ["manifest.json: files lacks the SHA-256 of metrics.json"]


def test_missing_files_and_those_of_an_unfinished_run_are_named(run, data):
    (run / "manifest.json").unlink()
    (run / "metrics.json").unlink()
    (run / "samples.rank1.jsonl").touch()
    assert [line.partition(":")[0] for line in told(run, data)] == [
        "samples.rank1.jsonl",
        "metrics.json",
        "manifest.json",
    ]
    (run / "samples.jsonl").unlink()
    with pytest.raises(ResultsError, match="is not a run folder"):
        validate_run(run, data)


def test_exported_files_hold_the_predictions(run, made, data, tmp_path):
    path = run / "eval_tool" / "existence.txt"
    lines = path.read_text().splitlines()
    lines[1] = lines[1][:-1] + other(lines[1][-1], "x", "y")
    path.write_text("\n".join(lines) + "\n")
    (run / "eval_tool" / "OCR.txt").touch()
    assert told(run, data) == [
        "eval_tool/existence.txt:2: not what the records in samples.jsonl make",
        "eval_tool/OCR.txt: not one of the run's, which has 1 such files",
    ]
    asked = copied(made("mini_sqa"), tmp_path / "asked")
    (asked / "preds.json").unlink()
    assert told(asked, data) == ["preds.json: missing; the same `adem-bench run` writes it again"]


def test_without_its_data_a_run_is_checked_as_far_as_that_goes(run, data, tmp_path):
    sign = tmp_path / MINI_SIGNS[0]
    sign.parent.mkdir(parents=True)
    sign.touch()  # a mini world, from which the task's files are gone
    validation = validate_run(run, tmp_path)
    assert validation.issues == ()
    (reason,) = [text for text in validation.unchecked if text.startswith("requests")]
    assert "is missing" in reason
    edit_line(run, 3, prediction="other", score=None)
    assert any(line.startswith("metrics.json: metric accuracy is") for line in told(run, tmp_path))


def test_other_data_is_no_fault_of_the_run(run, data, tmp_path):
    other_data = Path(shutil.copytree(data, tmp_path / "data"))
    (file, *_) = sorted((other_data / "MME_Benchmark_release_version").rglob("*.txt"))
    file.write_text(file.read_text().replace("Is ", "Was "))
    validation = validate_run(run, other_data)
    assert validation.issues == ()
    assert any("the data here is" in reason for reason in validation.unchecked)


def test_another_version_of_the_task_is_no_fault_of_the_run(run, data, monkeypatch):
    from adem_bench.results.validation import validate

    newer = load_task_card("mini_mme").model_copy(update={"version": 2})
    monkeypatch.setattr(validate, "load_task_card", lambda name: newer)
    validation = validate_run(run, data)
    assert validation.issues == ()
    assert any("task version 1, this package has 2" in text for text in validation.unchecked)


def test_malformed_rows_have_their_record(data, tmp_path):
    spoiled = Path(shutil.copytree(data, tmp_path / "data"))
    (first, *_) = sorted((spoiled / "MME_Benchmark_release_version" / "existence").rglob("*.txt"))
    first.write_text(first.read_text().replace("\tYes", "\tPerhaps"))
    run = finished_run(tmp_path / "results", spoiled)
    assert told(run, spoiled) == []
    assert json.loads((run / "metrics.json").read_text())["failed"] == 1
    lines = (run / "samples.jsonl").read_text().splitlines(keepends=True)
    (run / "samples.jsonl").write_text("".join(lines[:-1]))
    assert "samples.jsonl: no record of the malformed row 'existence/0001/0'" in told(run, spoiled)


@pytest.mark.parametrize(
    ("here", "wrong", "unchecked"),
    [
        (Metric("METEOR", 0.5, "fraction", 3), 0, 0),
        (Metric("METEOR", 0.5 + 1e-13, "fraction", 3), 0, 0),
        (Metric("METEOR", 0.6, "fraction", 3), 1, 0),
        (Metric("METEOR", None, "fraction", 3, "there is no Java"), 0, 1),
        (Metric("METEOR", 0.6, "fraction", 3, "not the official tokenizer"), 0, 1),
        (Metric("METEOR", None, "fraction", 2, "there is no Java"), 1, 0),
    ],
)
def test_figures_that_another_machine_computes_otherwise_are_not_held_against_a_run(
    here, wrong, unchecked
):
    kept = Result("t", 1, "s", "METEOR", (Metric("METEOR", 0.5, "fraction", 3),), 3, 0, 3)
    issues = Issues(Path("run"))
    again = Result("t", 1, "s", "METEOR", (here,), 3, 0, 3)
    check_figures(json.loads(json.dumps(kept.to_json())), again, {}, issues)
    assert (len(issues.listed()), len(issues.unchecked)) == (wrong, unchecked)


@pytest.mark.parametrize("function", ["repeats.score", "check_samples"])
def test_a_lack_of_memory_is_no_fault_of_a_run(made, data, monkeypatch, function):
    def fails(*arguments):
        raise ImportError("libtorch.so: failed to map segment from shared object")

    monkeypatch.setattr(f"adem_bench.results.validation.validate.{function}", fails)
    with pytest.raises(ImportError, match="failed to map segment"):
        validate_run(made(), data)


def test_of_very_many_findings_the_first_are_told(run, data):
    (run / "samples.jsonl").write_text("x\n" * 1000)
    found = told(run, data)
    assert len(found) == MAX_PER_FILE + 2
    assert found[-1] == f"samples.jsonl: and {1000 - MAX_PER_FILE} more issues"


def content(text: bytes) -> object:
    """What a file says, whatever blanks there are between the parts of JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text.split()


def test_no_file_brings_the_check_down_and_no_byte_goes_unnoticed(made, data, tmp_path):
    run = copied(made(), tmp_path)
    chance = random.Random(0)
    for _ in range(60):
        path = run / chance.choice(["samples.jsonl", "metrics.json", "manifest.json"])
        whole = path.read_bytes()
        place = chance.randrange(len(whole))
        piece = chance.choice([b"", b"\x00", b"\x1b[2J", b"[" * 3000, b"\xff", b"1", b'"', b"{"])
        path.write_bytes(whole[:place] + piece + whole[place + chance.choice([0, 1, 300]) :])
        if content(path.read_bytes()) != content(whole):
            assert validate_run(run, data).issues, (path.name, place, piece)
        path.write_bytes(whole)
