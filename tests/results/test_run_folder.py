from __future__ import annotations

import errno
from pathlib import Path

import pytest

from adem_bench.errors import ResultsError
from adem_bench.records import Record
from adem_bench.results.run_folder import RunFolder


def record(name: str, response: str = "yes") -> Record:
    return Record(name, "digest", response, "Yes", "Yes", 1.0, groups=("count",), cluster="c")


def test_records_survive_a_reopening(tmp_path):
    hostile = record("a", 'line\nbreak\u2028 "quote" \ud800 \x00 tab\t')
    with RunFolder(tmp_path / "run") as folder:
        folder.gather(fresh=False)
        folder.append([hostile, record("b")])
    with RunFolder(tmp_path / "run") as folder:
        folder.gather(fresh=False)
        assert folder.records() == {"a": hostile, "b": record("b")}


@pytest.mark.parametrize("torn", ['{"sample_id": "c", "requ', "not json", '{"other": 1}', "[1]"])
def test_a_torn_or_foreign_line_is_dropped_and_its_sample_answered_again(tmp_path, torn):
    with RunFolder(tmp_path) as folder:
        folder.gather(fresh=False)
        folder.append([record("a")])
    with (tmp_path / "samples.jsonl").open("a") as lines:
        lines.write(torn)
    with RunFolder(tmp_path) as folder:
        folder.gather(fresh=False)
        folder.append([record("b")])
        assert list(folder.records()) == ["a", "b"]
    assert len((tmp_path / "samples.jsonl").read_text().splitlines()) == 2


def test_shards_of_other_processes_are_merged_and_the_later_record_counts(tmp_path):
    with RunFolder(tmp_path) as first, RunFolder(tmp_path, rank=1) as second:
        first.gather(fresh=False)
        first.append([record("a", "old")])
        second.append([record("b"), record("a", "new")])
    with RunFolder(tmp_path) as folder:
        folder.gather(fresh=False)
        assert {name: r.response for name, r in folder.records().items()} == {
            "a": "new",
            "b": "yes",
        }
    assert not list(tmp_path.glob("samples.rank*"))


def test_fresh_forgets_every_record(tmp_path):
    with RunFolder(tmp_path) as folder, RunFolder(tmp_path, rank=1) as second:
        folder.gather(fresh=False)
        folder.append([record("a")])
        second.append([record("b")])
    with RunFolder(tmp_path) as folder:
        folder.gather(fresh=True)
        assert folder.records() == {}


def test_two_runs_cannot_write_to_one_folder(tmp_path):
    with RunFolder(tmp_path) as first:
        first.gather(fresh=False)
        with (
            RunFolder(tmp_path) as second,
            pytest.raises(ResultsError, match="another run is writing"),
        ):
            second.gather(fresh=False)


class AlmostFull:
    """A file on a disk with room for one more line."""

    def __init__(self, stream):
        self.stream, self.lines = stream, 0

    def write(self, data):
        self.lines += 1
        if self.lines > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.stream.write(data)

    def flush(self):
        self.stream.flush()

    def close(self):
        self.stream.close()


def test_a_full_disk_is_told_with_its_remedy(tmp_path, monkeypatch):
    opened = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda path, mode="r", **more: (
            AlmostFull(opened(path, mode, **more)) if mode == "ab" else opened(path, mode, **more)
        ),
    )
    with RunFolder(tmp_path) as folder:
        folder.gather(fresh=False)
        folder.append([record("a")])
        with pytest.raises(ResultsError, match=r"no space left .* the same command again"):
            folder.append([record("b")])
    with RunFolder(tmp_path) as folder:
        folder.gather(fresh=False)
        assert list(folder.records()) == ["a"]
