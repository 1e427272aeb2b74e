"""The model that travels with the package: small enough, and it sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from adem_bench.runner.evaluate import Evaluation, evaluate
from adem_bench.runner.manifest import RunOptions

FOLDER = Path(__file__).parents[1] / "models" / "adem-tiny"


def test_the_model_fits_in_the_package():
    assert sum(file.stat().st_size for file in FOLDER.rglob("*")) < 12 << 20


@pytest.mark.usefixtures("one_thread")
def test_it_answers_from_the_image(tmp_path):
    def accuracy(**more) -> float:
        options = RunOptions(blind=more.pop("blind", False))
        tasks = ("mini_mme",)
        evaluation = Evaluation("adem-tiny", tasks, results=tmp_path, options=options, **more)
        (outcome,) = evaluate(evaluation)
        assert outcome.result.complete
        return outcome.result.metric("accuracy").value

    assert accuracy() >= 0.8
    assert accuracy(blind=True) <= 0.6
    assert accuracy(adapter="none") <= 0.6
