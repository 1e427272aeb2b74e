"""ADEM-VL in VLMEvalKit: its own `run.py` and `vlmutil`, with our models among its own.

`python -m adem_bench.integrations.vlmevalkit run.py --data MME --model adem-7b` in VLMEvalKit's
folder; a fork calls `register()` at the end of its `vlmeval/config.py` instead.
"""

from adem_bench.integrations.vlmevalkit.registration import register, register_when_imported

__all__ = ["TESTED_COMMIT", "register", "register_when_imported"]

TESTED_COMMIT = "e8e78f05"
"""Of VLMEvalKit, which has no releases on the package registry."""
