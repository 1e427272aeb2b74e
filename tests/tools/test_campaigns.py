"""The campaigns that try to break the package, at a small size; tools/ runs them at any."""

from __future__ import annotations

import pytest
from fuzz import Campaign

from adem_bench.tasks.coco_caption import java
from tools.kill import campaign as kill


@pytest.mark.slow
def test_no_damaged_or_hostile_input_is_our_bug(tmp_path, monkeypatch):
    monkeypatch.setattr(java.shutil, "which", lambda name: None)  # scores of captions cost seconds
    campaign = Campaign(0, tmp_path)
    campaign.run(300)
    assert campaign.faults == {}
    assert campaign.outcomes.total() == Campaign(0, tmp_path).done == 300
    assert campaign.outcomes["0"] > 60  # what is damaged is read, too


@pytest.mark.slow
def test_what_kills_leave_behind_is_taken_up(tmp_path, capsys):
    assert kill(["--run", "12", "--folder", str(tmp_path)]) == 0
    assert kill(["--run", "14", "--folder", str(tmp_path)]) == 0  # goes on
    assert "14 run kills" in capsys.readouterr().out
