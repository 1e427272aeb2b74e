"""Where a core's time goes while adem-bench answers the requests of `speed.py`.

    python benchmarks/operations.py [--samples 32] [--log benchmarks/log.jsonl]

PyTorch's profiler on one thread; what its operators do not account for of the time is Python and
the reading of images. Products of packed weights are shown with their share of the machine's rate,
for many rows (prompts and images) and for few (a new token). Other work on the machine counts
in: leave it alone meanwhile.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import date
from math import prod
from pathlib import Path

import torch
from random_model import write_model
from speed import WORKLOADS, matrix_rate, run_ours
from torch.profiler import ProfilerActivity, profile

from adem_bench.cards import load_model_card
from adem_bench.models.base import ModelOptions
from adem_bench.models.fused.model import FusedModel
from adem_bench.models.fused.tokenizer import SentencePieceTokenizer
from adem_bench.runner.manifest import hardware

FEW_ROWS = 64
MANY, FEW = "packed weights, many rows", "packed weights, few rows"
OPERATORS = {
    "aten::bmm": "products of activations",
    "aten::mm": "products of activations",
    "aten::_scaled_dot_product_flash_attention_for_cpu": "attention",
}
OTHER, OUTSIDE = "other operators", "Python and images"
GROUPS = (MANY, FEW, *dict.fromkeys(OPERATORS.values()), OTHER, OUTSIDE)


def main() -> None:
    """Profile every workload and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--log", type=Path, help="JSON-lines file to add the figures to")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        card = write_model(folder)
        rows = {
            make.__name__: measure(folder, card, make, arguments.samples) for make, _ in WORKLOADS
        }
    print(f"{'':28}" + "".join(f"{workload:>20}" for workload in rows))
    for group in GROUPS:
        print(f"{group:28}" + "".join(_cell(*row[group]) for row in rows.values()))
    if arguments.log:
        about = {
            "date": date.today().isoformat(), "benchmark": "operations",
            "samples": arguments.samples, "torch": torch.__version__, "cpu": hardware()["cpu"],
        }  # fmt: skip
        with arguments.log.open("a") as log:
            for workload, row in rows.items():
                log.write(json.dumps({**about, "workload": workload, "shares": row}) + "\n")


def _cell(share: float, of_rate: float | None) -> str:
    return f"{share:>9.0%}" + (f" ({of_rate:4.0%} rate)" if of_rate else " " * 11)


def measure(
    folder: Path, card: Path, make: Callable, samples: int
) -> dict[str, tuple[float, float | None]]:
    """Return each group's share of the time, and what share of the matrix rate it reaches if known.

    Args:
        folder: With the model's files.
        card: Path of the model's card.
        make: Makes the requests, as those in `workloads`.
        samples: How many of them.
    """
    tokenizer = SentencePieceTokenizer(folder / "llama" / "tokenizer.model")
    requests = make(folder, samples, tokenizer)
    model = FusedModel(load_model_card(str(card)), ModelOptions("cpu"))
    model.load_adapter_for("task", "kind")
    model.load()
    rate = matrix_rate()
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        started = time.perf_counter()
        run_ours(model, requests)
        total = time.perf_counter() - started
    seconds: dict[str, float] = defaultdict(float)
    operations: dict[str, float] = defaultdict(float)
    for event in profiler.key_averages(group_by_input_shape=True):
        group = OPERATORS.get(event.key, OTHER)
        if event.key == "mkldnn::_linear_pointwise":
            x, weight = event.input_shapes[:2]
            rows = prod(x[:-1])
            group = FEW if rows <= FEW_ROWS else MANY
            operations[group] += 2 * rows * prod(weight) * event.count
        seconds[group] += event.self_cpu_time_total / 1e6
    seconds[OUTSIDE] = total - sum(seconds.values())
    return {
        group: (
            seconds[group] / total,
            operations[group] / seconds[group] / rate if operations[group] else None,
        )
        for group in GROUPS
    }


if __name__ == "__main__":
    main()
