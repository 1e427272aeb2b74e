from __future__ import annotations

import errno
import io
import json
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


@pytest.mark.parametrize(
    "change",
    [
        {"sample_id": [1]},
        {"response": ["Yes"]},
        {"groups": [{}]},
        {"groups": "NAT"},
        {"cluster": 3},
        {"score": "1"},
        {"score": True},
        {"choice_logprobs": ["a"]},
        {"tokens": [1]},
        {"repeat": 10**9},
        {"reference": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]},
    ],
)
def test_a_record_that_no_run_wrote_is_left_out(tmp_path, change):
    lines = [json.dumps(record(name).to_json()) for name in "ab"]
    edited = json.dumps(record("c").to_json() | change)
    infinite = lines[0].replace('"score": 1.0', '"score": 1e999').replace('"a"', '"d"')
    text = "\n".join([edited, "[" * 3000, *lines, infinite, ""])
    (tmp_path / "samples.jsonl").write_bytes(text.encode() + b'\xff"}\n')
    assert list(RunFolder(tmp_path).records()) == ["a", "b"]


def test_samples_that_are_no_file_hold_no_record(tmp_path):
    (tmp_path / "samples.jsonl").mkdir()
    assert RunFolder(tmp_path).records() == {}


def test_what_killed_processes_were_writing_goes_when_the_run_goes_on(tmp_path):
    left = [tmp_path / ".metrics.json.a1b2c3d4", tmp_path / "eval_tool" / ".color.txt.ky9d8g0g"]
    kept = [tmp_path / "eval_tool" / "color.txt", tmp_path / "eval_tool" / ".hidden"]
    (tmp_path / "eval_tool").mkdir()
    for file in (*left, *kept):
        file.write_text("x")
    with RunFolder(tmp_path) as folder:
        folder.gather(fresh=False)
    assert [file.exists() for file in (*left, *kept)] == [False, False, True, True]


def test_beginning_anew_first_removes_what_says_that_the_run_is_finished(tmp_path, monkeypatch):
    for name in ("samples.jsonl", "metrics.json", "manifest.json"):
        (tmp_path / name).write_text("{}")
    removed = []
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: removed.append(path.name))
    with RunFolder(tmp_path) as folder:
        folder.gather(fresh=True)
    assert removed[:3] == ["manifest.json", "metrics.json", "samples.jsonl"]


def test_a_disk_that_fills_up_is_our_own_error_with_the_path(tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        close = flush

    def write():
        with RunFolder(tmp_path) as folder:
            folder.gather(fresh=False)
            monkeypatch.setattr(Path, "open", lambda *_: Full())
            folder.append([record("a")])

    with pytest.raises(ResultsError, match=f"no space left to write {tmp_path}/samples"):
        write()
