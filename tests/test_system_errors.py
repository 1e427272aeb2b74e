"""What a machine refuses is no bug of ours."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from adem_bench.errors import ResultsError, explain_system, system_errors


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "not enough memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "not enough memory"),
        (ImportError("x.so: failed to map segment from shared object"), "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: …"), "not enough memory"),
        (RuntimeError("can't start new thread"), "not enough memory"),
        (SystemError("error return without exception set"), "not enough memory"),
        (OSError(errno.ENOSPC, "No space left", "/r/x"), "no space left on the disk at /r/x"),
        (OSError(errno.EDQUOT, "Quota", "/r/x"), "no space left on the disk at /r/x"),
        (OSError(errno.EMFILE, "Too many", "/r/x"), "too many files are open at /r/x"),
        (FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"), "set TMPDIR"),
        (ValueError("bad marshal data (unknown type code)"), "delete the folders __pycache__"),
        (OSError(errno.EIO, "Input/output error", "/r/x"), "input/output error at /r/x"),
    ],
)
def test_the_machine_is_named_and_the_error_becomes_ours(error, said):
    assert said in explain_system(error)
    with pytest.raises(ResultsError, match=said), system_errors():
        raise error


@pytest.mark.parametrize("error", [KeyError("x"), ImportError("no module x"), RuntimeError("x")])
def test_bugs_stay_what_they_are(error):
    assert explain_system(error) == ""
    with pytest.raises(type(error)), system_errors():
        raise error


@pytest.mark.parametrize(
    ("name", "said"), [("a\ud800", "half of a character"), ("a\0", "holds a NUL")]
)
def test_a_name_that_no_file_can_have_is_a_mistake(name, said):
    with pytest.raises(ResultsError, match=said), system_errors():
        Path(name).write_text("x")


def test_a_link_that_leads_back_to_itself_is_named():
    error = RuntimeError("Symlink loop from '/r/a'")  # of Path.resolve, before Python 3.13
    assert explain_system(error).startswith("'/r/a' is a link that leads back to itself; ")
