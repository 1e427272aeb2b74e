"""What processes of a shared run do when another does not come."""

from __future__ import annotations

from datetime import timedelta
from functools import cache

import pytest
from torch.distributed import TCPStore

from adem_bench.runner.distributed import Processes, SharedRunError


@cache
def store():
    """What processes share, as long as these tests: a process says to its end that it lives."""
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


@pytest.fixture
def _first_of_two(monkeypatch):
    """The environment of the first of two processes, of which there is no second."""
    shared = {
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store().port, "WORLD_SIZE": 2, "RANK": 0},
        **{"TORCHELASTIC_USE_AGENT_STORE": True, "TORCHELASTIC_RESTART_COUNT": 0},
    }
    for name, value in shared.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.usefixtures("_first_of_two")
def test_processes_that_would_answer_another_run_are_told_so():
    run = Processes().new_run("test-1")
    run.agree("run folder", "test-1")
    with pytest.raises(SharedRunError, match=r"process 0 of 2 has another run folder \(test-2\)"):
        run.agree("run folder", "test-2")


@pytest.mark.usefixtures("_first_of_two")
def test_a_barrier_does_not_wait_for_ever():
    run = Processes(timedelta(milliseconds=100)).new_run()
    with pytest.raises(SharedRunError) as told:
        run.barrier("the end")
    assert str(told.value) == (
        "process 1 of 2 has not come to 'the end' in 0:00:00.100000; what was answered is kept, "
        "and the same command resumes"
    )
    assert told.value.exit_code == 3
