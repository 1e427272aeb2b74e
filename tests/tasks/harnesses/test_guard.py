"""What a harness's process may change, and where it is looked for."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from adem_bench.errors import CardError
from adem_bench.tasks.harnesses import process

PACKAGE = Path(process.__file__).parent
TRIED = """
import os, pathlib, shutil, sys
sys.path.insert(0, sys.argv[1])
from worker.wire import write_only_below
inside, outside, shared = map(pathlib.Path, sys.argv[2:])
(outside / "kept").write_text("mine")
(outside / "made").mkdir()
(inside / "own").write_text("theirs")
os.symlink(outside / "kept", inside / "way_out")
folder = os.open(outside, os.O_RDONLY)
write_only_below([str(inside)])
calls = {
    "write": lambda: (outside / "kept").write_text("x"),
    "write through a link": lambda: (inside / "way_out").write_text("x"),
    "mkdir": lambda: (outside / "new").mkdir(),
    "remove": lambda: os.remove(outside / "kept"),
    "remove in an open folder": lambda: os.remove("kept", dir_fd=folder),
    "rename out": lambda: os.rename(inside / "own", outside / "own"),
    "rename in": lambda: os.rename(outside / "kept", inside / "kept"),
    "hard link out": lambda: os.link(inside / "own", outside / "own"),
    "hard link in": lambda: os.link(outside / "kept", inside / "kept"),
    "symlink": lambda: os.symlink(inside / "own", outside / "own"),
    "chmod": lambda: os.chmod(outside / "kept", 0),
    "utime": lambda: os.utime(outside / "kept"),
    "truncate": lambda: os.truncate(outside / "kept", 0),
    "rmtree": lambda: shutil.rmtree(outside / "made"),
    "a file in /tmp that was there": lambda: shared.write_text("x"),
}
for name, call in calls.items():
    try:
        call()
    except PermissionError:
        print("refused", name)
    else:
        print("done", name)
os.symlink(outside / "kept", inside / "look")
os.remove(inside / "look")
os.remove(inside / "way_out")
os.chmod(inside / "own", 0o600)
os.rename(inside / "own", inside / "renamed")
shutil.rmtree(inside / "tree", ignore_errors=True)
print("inside as ever")
"""


def test_nothing_outside_a_folder_is_changed_by_any_call(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
    (inside / "tree").mkdir()
    with tempfile.NamedTemporaryFile(dir="/tmp", mode="w") as shared:
        shared.write("another's")
        shared.flush()
        arguments = map(str, (PACKAGE, inside, outside, shared.name))
        done = subprocess.run(
            [sys.executable, "-c", TRIED, *arguments], capture_output=True, text=True, check=True
        )
        assert Path(shared.name).read_text() == "another's"
    said = done.stdout.splitlines()
    assert said.pop() == "inside as ever"
    assert [line for line in said if not line.startswith("refused")] == []
    assert (outside / "kept").read_text() == "mine"
    assert sorted(path.name for path in outside.iterdir()) == ["kept", "made"]


def test_a_folder_of_the_name_in_the_current_one_is_not_the_harness(tmp_path, monkeypatch):
    (tmp_path / "vlmeval").mkdir()
    (tmp_path / "vlmeval" / "__init__.py").write_text("raise RuntimeError('of this folder')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
    monkeypatch.delenv(process.PYTHON_VARIABLE, raising=False)
    with pytest.raises(CardError, match="VLMEvalKit is not installed"):
        process.find(process.VLMEVALKIT)
