"""Benchmarks of VLMEvalKit and lmms-eval as tasks: their data, prompts and scores, our runner.

`task.py` is what the runner sees; the other harness runs in processes of its own (`process.py`
starts `worker/`), in this environment or in one that the user names. `catalogue.py` knows their
names without importing them, and `figures.py` finds what each sample adds to a figure of theirs.
"""
