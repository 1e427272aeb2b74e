"""What an environment says of the processes of a run, by a launcher or by accident."""

from __future__ import annotations

import pytest

from adem_bench.launcher import LaunchError, ProcessRank, is_main_process, process_rank

MEETING = {"MASTER_ADDR": "node0", "MASTER_PORT": "29500"}
SECOND = {"WORLD_SIZE": "2", "RANK": "1"}


@pytest.fixture
def environment(monkeypatch):
    def put(variables):
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", *MEETING):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, ProcessRank()),
        ({"WORLD_SIZE": "", "RANK": ""}, ProcessRank()),
        # Somebody's own: nothing says that there are several.
        ({"RANK": "16"}, ProcessRank()),
        ({"WORLD_SIZE": "1", "RANK": "x", "LOCAL_RANK": "3"}, ProcessRank()),
        ({**SECOND, **MEETING}, ProcessRank(1, 2)),
        (
            {**SECOND, **MEETING, "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"},
            ProcessRank(1, 2, 1, 2),
        ),
    ],
)
def test_a_place_is_that_of_the_environment(environment, variables, place):
    environment(variables)
    assert process_rank() == place
    assert is_main_process() == (place.rank == 0)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WORLD_SIZE": "2"}, "has WORLD_SIZE 2 but no RANK and no MASTER_ADDR and no MASTER_PORT"),
        (SECOND, "has WORLD_SIZE 2 but no MASTER_ADDR and no MASTER_PORT"),
        ({**SECOND, **MEETING, "RANK": ""}, "has WORLD_SIZE 2 but no RANK;"),
        ({**SECOND, **MEETING, "RANK": "2"}, "has RANK 2 of WORLD_SIZE 2"),
        ({**SECOND, **MEETING, "RANK": "-1"}, "RANK in the environment is '-1', not a number"),
        ({**SECOND, **MEETING, "RANK": "one"}, "RANK in the environment is 'one', not a number"),
        ({**SECOND, **MEETING, "LOCAL_RANK": "1.0"}, "LOCAL_RANK in the environment is '1.0'"),
        ({**SECOND, **MEETING, "LOCAL_WORLD_SIZE": "0"}, "LOCAL_WORLD_SIZE in the environment"),
        ({**SECOND, **MEETING, "MASTER_PORT": "99999"}, "MASTER_PORT in the environment is"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE in the environment is '0', not a number from 1 to"),
        ({"WORLD_SIZE": "9" * 5000}, "WORLD_SIZE in the environment is '999"),
        ({"WORLD_SIZE": "٣"}, "WORLD_SIZE in the environment is '٣'"),
    ],
)
def test_variables_that_do_not_go_together_are_a_mistake(environment, variables, said):
    environment(variables)
    with pytest.raises(LaunchError) as told:
        process_rank()
    assert said in str(told.value)
    assert str(told.value).endswith("with torchrun, or unset WORLD_SIZE and RANK for one")
    assert len(str(told.value)) < 300
    assert is_main_process()
