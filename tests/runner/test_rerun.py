"""A run once more, from its manifest: the same, or where the two differ."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from adem_bench.cli import main
from adem_bench.data.paths import MINI_SIGNS
from adem_bench.errors import CheckpointError, DataError, ResultsError
from adem_bench.results.progress import no_progress
from adem_bench.runner import rerun as rerun_module
from adem_bench.runner.rerun import Rerun, rerun
from support.answering import CARD, Answering, by_length, finished_run


@pytest.fixture(scope="session")
def data(mini) -> Path:
    return mini


@pytest.fixture
def run(data, tmp_path) -> Path:
    return finished_run(tmp_path / "results", data)


@pytest.fixture
def again(run, data, tmp_path, monkeypatch):
    """Repeats the run with a model that answers by a function."""

    def call(answer=by_length, fingerprint="0123456789abcdef", **changes):
        loaded = []

        def load(card, options):
            loaded.append((card, options))
            return Answering(answer, fingerprint)

        monkeypatch.setattr(rerun_module, "build_model", load)
        job = replace(Rerun(run, tmp_path / "reruns", data), **changes)
        return rerun(job, no_progress), loaded

    return call


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_model_answers_the_same_and_the_original_is_only_read(run, again):
    before = contents(run)
    found, loaded = again()
    assert found.same
    assert (found.records.before, found.records.after, found.records.changed) == (24, 24, 0)
    assert found.metrics_compared > 10
    assert (found.metrics, found.identity, found.environment) == ((), (), ())
    assert found.repetition != run
    assert contents(run) == before
    ((card, options),) = loaded
    assert card == CARD.model_copy(update={"dtype": "float32"})
    assert options.device == "cpu"


def test_limit_blind_rows_and_seed_are_the_runs(data, tmp_path, again):
    options = {"limit": 10, "blind": True, "batch_size": 3, "seed": 5}
    blind = finished_run(tmp_path / "blind", data, "mini_sqa", **options)
    found, _ = again(run=blind)
    assert found.same
    kept = json.loads((found.repetition / "manifest.json").read_text())["options"]
    assert kept == options


def test_where_answers_part_is_told(again):
    def never(request):
        return "maybe"

    found, _ = again(never)
    assert not found.same
    assert found.records.changed == 24
    assert found.records.fields["response"] == 24
    assert len(found.records.first) == 10
    first = found.records.first[0]
    assert first.sample_id == "existence/0001/0"
    assert (first.fields[0].name, first.fields[0].after) == ("response", "maybe")
    assert "accuracy.value" in [change.name for change in found.metrics]
    assert found.identity == ()


def test_other_weights_and_another_environment_are_told(run, again):
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["versions"]["torch"] = "1.0"
    manifest["hardware"]["gpus"] = ["H100"]
    manifest["adem_bench_version"] = "0.0.1"
    (run / "manifest.json").write_text(json.dumps(manifest))
    found, _ = again(fingerprint="f" * 16)
    assert found.same
    assert [(c.name, c.after) for c in found.identity] == [("weights and settings", "f" * 16)]
    names = [change.name for change in found.environment]
    assert names == ["versions.adem-bench", "hardware.gpus", "versions.torch"]


def test_a_record_that_the_run_lacks_is_a_difference(run, again):
    lines = (run / "samples.jsonl").read_text().splitlines(keepends=True)
    (run / "samples.jsonl").write_text("".join(lines[1:]))
    found, _ = again()
    assert (found.records.before, found.records.after, found.records.changed) == (23, 24, 1)
    (change,) = found.records.first[0].fields
    assert (change.name, change.before) == ("response", None)


def test_an_earlier_repetition_and_the_original_are_not_written_over(run, again, tmp_path):
    again()
    with pytest.raises(ResultsError, match="holds a finished run"):
        again()
    assert again(fresh=True)[0].same
    before = contents(run)
    with pytest.raises(ResultsError, match="is where the run itself is"):
        again(results=tmp_path / "results", fresh=True)
    assert contents(run) == before


def test_a_manifest_that_is_not_as_documented_is_refused(run, again):
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["options"]["seed"]
    (run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ResultsError, match=r"'options.seed' is missing; `adem-bench validate"):
        again()
    (run / "manifest.json").unlink()
    with pytest.raises(ResultsError, match=r"not a finished run: manifest.json missing"):
        again()


@pytest.mark.parametrize("name", [True, -1, [], {"a": 1}, None])
def test_a_recorded_model_whose_name_is_none_is_refused(run, again, name):
    manifest = json.loads((run / "manifest.json").read_text())
    written = manifest | {"model": manifest["model"] | {"card": {"kind": "majority", "name": name}}}
    (run / "manifest.json").write_text(json.dumps(written))
    with pytest.raises(ResultsError, match="the model's card does not fit this version"):
        again()
    written = manifest | {"model": manifest["model"] | {"card_name": name}}
    (run / "manifest.json").write_text(json.dumps(written))
    with pytest.raises(ResultsError, match=r"field 'model\.card_name': expected"):
        again()


def test_missing_data_and_missing_weights_are_refused(run, data, again, tmp_path):
    job = Rerun(run, tmp_path / "reruns", data)
    with pytest.raises(CheckpointError, match=r"'none' .* not on disk.*--model CARD names"):
        rerun(job, no_progress)
    sign = tmp_path / "emptied" / MINI_SIGNS[0]
    sign.parent.mkdir(parents=True)
    sign.touch()
    with pytest.raises(DataError, match="is missing"):
        again(data_root=tmp_path / "emptied")
    assert not (tmp_path / "reruns").exists()


@pytest.fixture
def adem_bench(tmp_path, monkeypatch, capsys):
    """Runs a command line in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        return int(stop.value.code or 0), capsys.readouterr().out

    return call


def test_the_shipped_model_answers_the_same_again(adem_bench):
    given = ["--model", "adem-tiny", "--tasks", "mini_mme", "--limit", 8]
    assert adem_bench("run", *given)[0] == 0
    (run,) = (path.parent for path in Path("results").rglob("manifest.json"))
    code, out = adem_bench("rerun", run)
    assert code == 0
    assert "records: all 8 the same" in out
    assert "identity: the same\nenvironment: the same\nthe same\n" in out


def test_differences_are_shown_for_readers_and_for_programs(adem_bench, run, data, monkeypatch):
    samples = run / "samples.jsonl"
    edited = samples.read_text().replace('"response": "Yes"', '"response": "\\u001b[2J"', 1)
    samples.write_text(edited)
    monkeypatch.setattr(rerun_module, "build_model", lambda card, options: Answering())
    code, out = adem_bench("rerun", run, "--data-root", data)
    assert code == 1
    assert "records: 1 of 24 differ (response 1)\n" in out
    assert out.endswith("different\n")
    assert "\x1b" not in out
    code, out = adem_bench("rerun", run, "--data-root", data, "--fresh", "--format", "json")
    assert code == 1
    (record,) = json.loads(out)["records"]["first"]
    assert record["fields"] == [{"name": "response", "before": "\x1b[2J", "after": "Yes"}]
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("before", "now", "shown"),
    [
        ("Yes", "No", ('"Yes"', '"No"')),
        (
            "a" * 500 + "left",
            "a" * 500 + "right",
            ('…aaaaaaaaaaaaaaaaaaaaleft"', '…aaaaaaaaaaaaaaaaaaaaright"'),
        ),
        ("a" * 500, "b", (f'"{"a" * 59}…', '"b"')),
    ],
)
def test_long_texts_are_cut_to_where_they_part(
    adem_bench, data, tmp_path, monkeypatch, before, now, shown
):
    monkeypatch.setenv("COLUMNS", "200")
    run = finished_run(tmp_path / "results", data, answer=lambda request: before, limit=1)
    again = Answering(lambda request: now)
    monkeypatch.setattr(rerun_module, "build_model", lambda card, options: again)
    _, out = adem_bench("rerun", run, "--data-root", data)
    (row,) = (line.split() for line in out.splitlines() if " response " in f"{line} ")
    assert row[-3:] == ["response", *shown]
