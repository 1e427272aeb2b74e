"""The campaigns that try to break the package, at a small size; tools/ runs them at any."""

from __future__ import annotations

import pytest

from tools.fuzz import fuzz
from tools.kill import campaign


@pytest.mark.slow
def test_no_damaged_or_hostile_input_is_our_bug():
    outcomes, faults = fuzz(300, seed=0)
    assert faults == {}
    assert outcomes.total() == 300


@pytest.mark.slow
def test_what_kills_leave_behind_is_taken_up(tmp_path, capsys):
    assert campaign(["--run", "12", "--folder", str(tmp_path)]) == 0
    assert campaign(["--run", "14", "--folder", str(tmp_path)]) == 0  # goes on
    assert "14 run kills" in capsys.readouterr().out
