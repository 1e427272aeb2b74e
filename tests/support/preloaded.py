"""What runs and trainings import, for the process that others are forked from."""

from importlib import import_module

import torch

for name in (
    "adem_bench.api",
    "adem_bench.cli.progress",
    "adem_bench.cli.run",
    "adem_bench.cli.train",
    "adem_bench.cli.training_progress",
    "adem_bench.models.fused.model",
    "adem_bench.results.console",
):
    import_module(name)
torch.set_num_threads(1)
