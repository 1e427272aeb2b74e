import time

import pytest

from adem_bench.tasks.tsv.predictions import _sheet


def test_equal_answers_make_equal_files_whenever_they_are_written(monkeypatch):
    pytest.importorskip("openpyxl")
    first = _sheet(["index", "prediction"], [["0", "A"]])
    later = time.time() + 86_400
    monkeypatch.setattr(time, "time", lambda: later)
    assert _sheet(["index", "prediction"], [["0", "A"]]) == first
