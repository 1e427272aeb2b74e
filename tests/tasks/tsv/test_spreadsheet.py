import time

import pytest

from adem_bench.tasks.tsv.predictions import write_tables


def test_equal_answers_make_equal_files_whenever_they_are_written(tmp_path, monkeypatch):
    pytest.importorskip("openpyxl")
    columns, rows = ["index", "prediction"], [{"index": "0", "prediction": "A"}]

    def written(name: str) -> list[bytes]:
        (tmp_path / name).mkdir()
        return [path.read_bytes() for path in write_tables(tmp_path / name, "x", columns, rows)]

    first = written("first")
    assert len(first) == 2
    later = time.time() + 86_400
    monkeypatch.setattr(time, "time", lambda: later)
    assert written("second") == first


def test_headers_are_cleaned_as_cells_are(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    columns = ["index", "a\x01b", "=1+1", "long" * 10_000]
    write_tables(tmp_path, "x", columns, [{"index": "0", "=1+1": "=2+2"}])
    header, row = openpyxl.load_workbook(tmp_path / "x.xlsx").active.iter_rows()
    assert [cell.value for cell in header[:3]] == ["index", "ab", "=1+1"]
    assert {cell.data_type for cell in (*header, row[2])} == {"s"}
