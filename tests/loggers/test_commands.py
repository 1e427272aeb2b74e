"""`--log-to` of both commands, on the tiny published model; the services by their contracts."""

from __future__ import annotations

import json
import warnings

import pytest
import yaml

import adem_bench
from adem_bench.cli import main
from adem_bench.loggers.base import LEDGER_NAME
from adem_bench.records import Metric, Result
from adem_bench.results.log_run import log_run
from adem_bench.trainers.train import NullCallback

pytestmark = [
    pytest.mark.filterwarnings("ignore:Detected pickle protocol"),
    pytest.mark.usefixtures("one_thread"),
]
BOTH = ("wandb", "mlflow")


@pytest.fixture
def data(small_mini):
    return small_mini


@pytest.fixture
def train(data, parity_card, tmp_path):
    """Trains for four steps of two epochs into `tmp_path/out`."""
    recipe = {
        "data": [{"task": "mini_sqa", "prompt_format": "CQM-A"}],
        "epochs": 2, "effective_batch": 8, "batch_size": 4, "workers": 0, "checkpoint_steps": 1,
    }  # fmt: skip
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))

    def call(**more):
        return adem_bench.train(
            tmp_path / "mine.yaml", model=parity_card, data_root=data, output=tmp_path / "out",
            results=tmp_path / "results", **more,
        )  # fmt: skip

    return call


class StopError(Exception):
    pass


class StopsAt(NullCallback):
    def __init__(self, step: int) -> None:
        self.step_to_stop = step

    def step(self, report) -> None:
        if report.step == self.step_to_stop:
            raise StopError


def logged_steps(services, name: str) -> tuple[list[int], list[int]]:
    (there,) = services.wandb.RUNS.values()
    (stored,) = services.mlflow.STORES[""].values()
    ours = [row["step"] for row in there.rows if name in row]
    return ours, [step for key, _, step in stored.metrics if key == name]


def test_an_interrupted_training_is_one_run_with_each_step_once(train, services, tmp_path):
    # Stopped after step 3 is logged and before its checkpoint: step 3 is made again.
    with pytest.raises(StopError):
        train(loggers=BOTH, callback=StopsAt(3))
    outcome = train(loggers=BOTH)
    assert outcome.resumed_from == 2
    assert logged_steps(services, "loss") == ([1, 2, 3, 4],) * 2
    (run,) = services.wandb.RUNS.values()
    assert run.config["recipe"]["epochs"] == 2
    assert run.config["model"]["name"] == "parity"
    told = json.dumps([run.config, run.name])
    assert str(tmp_path) not in told
    assert str(tmp_path.home()) not in told
    assert not (tmp_path / "out" / "tensorboard").exists()


def test_a_finished_training_is_not_logged_again(train, services, tmp_path):
    train(loggers=("wandb",), settings={"epochs": 1})
    (run,) = services.wandb.RUNS.values()
    rows = list(run.rows)
    train(loggers=("wandb",), settings={"epochs": 1})
    assert services.wandb.RUNS[run.id].rows == rows
    assert run.finished
    train(loggers=("wandb",), settings={"epochs": 1}, overwrite=True)
    assert len(services.wandb.RUNS) == 2
    assert (tmp_path / "out" / LEDGER_NAME).is_file()


def test_a_training_outlives_its_loggers(train, services, monkeypatch):
    def unreachable(**given):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(services.wandb, "init", unreachable)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outcome = train(loggers=BOTH, settings={"epochs": 1})
    assert outcome.steps == 2
    about = [str(w.message) for w in caught if "--log-to" in str(w.message)]
    assert about == ["--log-to wandb failed, nothing more is logged there: no route to host"]
    ((_, stored),) = services.mlflow.STORES[""].items()
    assert [step for key, _, step in stored.metrics if key == "loss"] == [1, 2]


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def test_a_run_logs_its_figures_once(services, data, parity_card, tmp_path, capsys):
    options = ("run", "--model", parity_card, "--tasks", "mini_sqa", "--data-root", data)
    options += ("--limit", 4, "--results", tmp_path / "results")
    assert command(*options) == 0
    assert not services.wandb.RUNS
    for _ in range(2):
        assert command(*options, "--log-to", "wandb,mlflow,tensorboard") == 0
    assert capsys.readouterr().err == ""
    (run,) = services.wandb.RUNS.values()
    (row,) = run.rows
    (folder,) = (path.parent for path in tmp_path.rglob("metrics.json"))
    average = Result.from_json(json.loads((folder / "metrics.json").read_text())).metric("average")
    assert (row["step"], row["headline"], row["average"]) == (0, average.value, average.value)
    assert (row["average low"], row["average high"]) == (average.low, average.high)
    assert (row["scored"], row["failed"]) == (4, 0)
    assert run.config["task"]["split"] == "test"
    told = json.dumps([run.config, run.name])
    assert str(tmp_path) not in told
    assert str(parity_card.parent) not in told
    facts = {"model", "task", "options", "identity", "hardware", "versions", "adem_bench_version"}
    assert set(run.config) == facts
    assert all(isinstance(value, int | float) for value in row.values())
    assert len(list((folder / "tensorboard").iterdir())) == 1
    (stored,) = services.mlflow.STORES[""].values()
    assert stored.params["identity.limit"] == "4"
    assert ("average", average.value, 0) in stored.metrics


def test_a_figure_that_changed_is_logged_and_a_logger_that_failed_is_not_asked_again(
    services, tmp_path, monkeypatch
):
    manifest = {
        "model": {"name": "m", "card": {"adapter": "/home/ann/a.pth"}}, "task": {"name": "t"},
        "options": {}, "identity": {}, "hardware": {}, "versions": {}, "adem_bench_version": "1",
    }  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))

    def result(value):
        metrics = (Metric("accuracy", value, "fraction", 3), Metric("SPICE", None, "fraction", 3))
        return Result("t", 1, "test", "accuracy", metrics, 3, 0, 3)

    told = []
    assert log_run(tmp_path, result(0.5), ["wandb"], told.append) == ["wandb"]
    assert log_run(tmp_path, result(0.5), ["wandb"], told.append) == ["wandb"]
    assert log_run(tmp_path, result(0.75), ["wandb"], told.append) == ["wandb"]
    (run,) = services.wandb.RUNS.values()
    assert [row["accuracy"] for row in run.rows] == [0.5, 0.75]
    assert "SPICE" not in run.rows[0]
    assert "ann" not in json.dumps(run.config)
    monkeypatch.setattr(services.wandb, "init", lambda **given: 1 / 0)
    assert log_run(tmp_path, result(0.8), ["wandb", "mlflow"], told.append) == ["mlflow"]
    assert len(told) == 1


@pytest.mark.parametrize("verb", [("train", "--recipe"), ("run", "--tasks", "mini", "--model")])
def test_a_missing_package_is_told_before_anything_is_read(verb, monkeypatch, capsys):
    from adem_bench.loggers import multi as chosen

    monkeypatch.setitem(chosen.KNOWN, "wandb", chosen.Known("unused", "not_there_at_all"))
    assert command(*verb, "not-a-name", "--log-to", "tensorboard,wandb") == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "`pip install 'adem-bench[wandb]'` brings it" in told
