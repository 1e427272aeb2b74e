"""Benchmarks of VLMEvalKit and lmms-eval as tasks: their data, prompts and scores, our runner.

`task.py` is what the runner sees; the other harness runs in processes of its own (`process.py`
starts `worker/`), in this environment or in one that the user names. `catalogue.py` knows their
names without importing them, and `figures.py` finds what each sample adds to a figure of theirs.
"""

PYTHON_VARIABLE = "ADEM_BENCH_HARNESS_PYTHON"
"""Interpreters in whose environments harnesses are installed: `PATH`, or `KIND=PATH` several times,
separated as in `PATH` variables."""
