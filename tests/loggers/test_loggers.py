"""Each logger and all together; Weights & Biases and MLflow by their written contracts."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from adem_bench.errors import AdemBenchError
from adem_bench.loggers import multi as chosen
from adem_bench.loggers.base import LEDGER_NAME, LoggedRun, shareable
from adem_bench.loggers.multi import Known, Loggers, check_loggers


def refuse(message: str) -> None:
    raise AssertionError(message)


def log(names, run: LoggedRun, steps, warn=refuse) -> list[str]:
    loggers = Loggers(names, run, warn)
    for step in steps:
        loggers.log(step, {"loss": 1.0 / step})
    loggers.close()
    return loggers.working


def test_facts_that_leave_the_machine_name_no_place_on_it():
    facts = {
        "card": "/home/ann/cards/pets.yaml", "home": "~/weights", "disk": "C:\\models\\llama.pth",
        "hub": "meta/llama", "sizes": [64, "/data/x"], "rate": 0.1, "none": None,
    }  # fmt: skip
    assert shareable(facts) == {
        "card": "pets.yaml", "home": "weights", "disk": "llama.pth",
        "hub": "meta/llama", "sizes": [64, "x"], "rate": 0.1, "none": None,
    }  # fmt: skip


def test_tensorboard_shows_each_step_once_after_an_interruption(tmp_path):
    log(["tensorboard"], LoggedRun(tmp_path, "mine", {}), range(1, 8))
    log(["tensorboard"], LoggedRun(tmp_path, "mine", {}, steps_done=4), range(5, 10))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, 10))


def test_wandb_goes_on_with_its_run_and_logs_no_step_twice(tmp_path, services):
    facts = {"recipe": {"model": "/home/ann/model.yaml"}}
    log(["wandb"], LoggedRun(tmp_path, "mine", facts), range(1, 8))
    log(["wandb"], LoggedRun(tmp_path, "mine", facts, 4, {"loss": 7}), range(5, 10))
    (run,) = services.wandb.RUNS.values()
    assert [row["step"] for row in run.rows] == list(range(1, 10))
    assert (run.name, run.project, run.dir, run.finished) == (
        "mine", "adem-bench", str(tmp_path), True,
    )  # fmt: skip
    assert run.config == {"recipe": {"model": "model.yaml"}}
    assert run.axes["*"] == "step"


def test_what_one_logger_had_another_still_gets(tmp_path, services):
    log(["wandb"], LoggedRun(tmp_path, "mine", {}), range(1, 8))
    log(["mlflow"], LoggedRun(tmp_path, "mine", {}, 4, {"loss": 7}), range(5, 10))
    ((_, run),) = services.mlflow.STORES[""].items()
    assert [step for _, _, step in run.metrics] == list(range(5, 10))


def test_an_evaluation_that_an_interruption_cut_off_is_logged_at_a_step_that_is_known(
    tmp_path, services
):
    log(["wandb", "mlflow"], LoggedRun(tmp_path, "mine", {}), range(1, 5))
    loggers = Loggers(["wandb", "mlflow"], LoggedRun(tmp_path, "mine", {}, 4, {"loss": 4}), refuse)
    loggers.log(4, {"evaluation/mini_mme accuracy": 0.5})
    loggers.close()
    (run,) = services.wandb.RUNS.values()
    assert run.rows[-1] == {"step": 4, "evaluation/mini_mme accuracy": 0.5}
    (run,) = services.mlflow.STORES[""].values()
    assert run.metrics[-1] == ("evaluation/mini_mme accuracy", 0.5, 4)


def test_mlflow_gets_facts_as_parameters_and_goes_on_with_its_run(tmp_path, services):
    facts = {"recipe": {f"field {n}": n for n in range(150)}, "long": "x" * 9000, "f>1": "/a/b"}
    log(["mlflow"], LoggedRun(tmp_path, "mine", facts), range(1, 8))
    log(["mlflow"], LoggedRun(tmp_path, "mine", facts, 4, {"loss": 7}), range(5, 10))
    (run,) = services.mlflow.STORES[""].values()
    assert run.params["recipe.field 149"] == "149"
    assert run.params["f_1"] == "b"
    assert len(run.params["long"]) == 500
    assert [step for _, _, step in run.metrics] == list(range(1, 10))
    assert run.status == "FINISHED"


def test_mlflow_begins_anew_in_another_store(tmp_path, services, monkeypatch):
    log(["mlflow"], LoggedRun(tmp_path, "mine", {}), [1, 2])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    log(["mlflow"], LoggedRun(tmp_path, "mine", {}, 1, {"loss": 2}), [2, 3])
    (run,) = services.mlflow.STORES["sqlite:///other.db"].values()
    assert [step for _, _, step in run.metrics] == [2, 3]


def test_names_that_mlflow_takes_for_something_else_are_spelled_otherwise(tmp_path, services):
    loggers = Loggers(["mlflow"], LoggedRun(tmp_path, "mine", {}), refuse)
    loggers.log(0, {"existence.acc+": 0.5, "<b>\x1b[1m": math.nan})
    ((first, _, _), (second, _, _)) = next(iter(services.mlflow.STORES[""].values())).metrics
    assert (first, second) == ("existence.acc_", "_b___1m")


def test_a_ledger_that_cannot_be_read_costs_no_more_than_a_new_run(tmp_path, services):
    for content in ("{", "[]", '{"wandb": 3}', '{"wandb": {"id": 3}}'):
        (tmp_path / LEDGER_NAME).write_text(content)
        log(["wandb"], LoggedRun(tmp_path, "mine", {}), [1])
    assert len(services.wandb.RUNS) == 4


class Failing:
    """A logger that fails at one of its methods."""

    fails_at = ""

    def __init__(self, run) -> None:
        self._may("open")

    def log(self, step, scalars) -> None:
        self._may("log" if step == 2 else "")

    def close(self) -> None:
        self._may("close")

    def _may(self, what: str) -> None:
        if what == Failing.fails_at:
            raise OSError("no space\nleft")


@pytest.mark.parametrize("place", ["open", "log", "close"])
def test_a_logger_that_fails_is_left_out_with_one_warning(tmp_path, monkeypatch, place):
    monkeypatch.setitem(chosen.KNOWN, "failing", Known("failing_logger:Failing", "unused"))
    monkeypatch.setitem(sys.modules, "failing_logger", SimpleNamespace(Failing=Failing))
    monkeypatch.setattr(Failing, "fails_at", place)
    warnings = []
    run = LoggedRun(tmp_path, "mine", {})
    assert log(["failing", "tensorboard"], run, [1, 2, 3], warnings.append) == ["tensorboard"]
    (warning,) = warnings
    assert warning.startswith("--log-to failing failed, nothing more is logged there: no space")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert len(events.Scalars("loss")) == 3


def test_nothing_is_opened_before_there_is_something_to_log(tmp_path, services):
    assert log(["tensorboard", "wandb"], LoggedRun(tmp_path, "mine", {}), []) == [
        "tensorboard", "wandb",
    ]  # fmt: skip
    assert not list(tmp_path.iterdir())
    assert not services.wandb.RUNS


def test_loggers_are_checked_by_name(services):
    check_loggers(["tensorboard", "wandb", "mlflow"])
    with pytest.raises(AdemBenchError, match="no such logger; did you mean: wandb"):
        check_loggers(["wnadb"])


def test_a_package_that_is_missing_is_named_with_what_brings_it(tmp_path, monkeypatch):
    # Offline runs leave a folder of this name, which Python would import as a package.
    (tmp_path / "absent").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    for package in ("absent", "not_there_at_all"):
        monkeypatch.setitem(chosen.KNOWN, "wandb", Known("unused", package))
        with pytest.raises(AdemBenchError, match=r"pip install 'adem-bench\[wandb\]'"):
            check_loggers(["wandb"])
