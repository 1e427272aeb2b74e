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
    def result(limit=None, blind=False, **more):
        options = RunOptions(limit=limit, blind=blind)
        tasks = ("mini_mme",)
        evaluation = Evaluation("adem-tiny", tasks, results=tmp_path, options=options, **more)
        (outcome,) = evaluate(evaluation)
        return outcome.result

    whole = result()
    assert whole.complete
    assert whole.metric("accuracy").value >= 0.8
    # Of each of these 40 images it is asked what is right and what is not.
    for guessing in (result(80, blind=True), result(80, adapter="none")):
        assert guessing.metric("accuracy").value <= 0.6
