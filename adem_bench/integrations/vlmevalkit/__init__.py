"""ADEM-VL in VLMEvalKit: its own `run.py` and `vlmutil`, with our models among its own.

`python -m adem_bench.integrations.vlmevalkit -m vlmeval --data MME --model adem-7b`, or `run.py`
for `-m vlmeval` in a checkout's folder; a fork calls `register()` at the end of its
`vlmeval/config.py` instead.
"""

from adem_bench.integrations.vlmevalkit.registration import register, register_when_imported

__all__ = ["TESTED_COMMIT", "TESTED_RELEASE", "register", "register_when_imported"]

TESTED_COMMIT = "e8e78f05"
"""Of VLMEvalKit's repository."""
TESTED_RELEASE = "0.0.20"
"""Of `ms-vlmeval`, its package, which scores differently in places."""
