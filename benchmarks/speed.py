"""Samples per second of adem-bench and of the published loop, same weights, same answers.

    python benchmarks/speed.py [--samples 64] [--rounds 3] [--plain] [--log benchmarks/log.jsonl]

Both run in this process by turns; every answer is compared. Beside them the machine's own rate of
multiplying matrices is measured, with the product that the model uses, and what share of it
adem-bench reaches: its operations, counted without packed weights, by its time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import torch
import workloads
from published_loop import PublishedLoop
from random_model import write_model
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from adem_bench.cards import load_model_card
from adem_bench.models.base import ModelOptions
from adem_bench.models.fused import backbone as frozen
from adem_bench.models.fused.card import VisionSource
from adem_bench.models.fused.model import FusedModel, network_with
from adem_bench.models.fused.onednn import PackedLinear, can_pack
from adem_bench.models.fused.tokenizer import SentencePieceTokenizer
from adem_bench.models.fused.weights.adapter import read_adapter
from adem_bench.models.fused.weights.clip import load_visual
from adem_bench.models.fused.weights.llama import load_language_model
from adem_bench.records import Request, Sample
from adem_bench.runner.batching import Backoff, Item, ahead, plan
from adem_bench.runner.manifest import hardware

# Workload, batch size of the published script.
WORKLOADS = ((workloads.sqa, 4), (workloads.coco_caption, 4), (workloads.mme, 1))
SIDE, ROWS, PRODUCTS = 1024, 2048, 8
"""The product whose rate is measured: (rows, side) by (side, side), the fastest of so many."""


def main() -> None:
    """Measure every workload and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain", action="store_true", help="leave PyTorch's own float32 product")
    parser.add_argument("--log", type=Path, help="JSON-lines file to add the figures to")
    arguments = parser.parse_args()
    packs = can_pack(torch.device("cpu"), torch.float32) and not arguments.plain
    frozen.can_pack = lambda device, dtype: packs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        card = write_model(folder)
        rows = [
            measure(folder, card, make, batch_size, arguments) for make, batch_size in WORKLOADS
        ]
    rate = statistics.median(row["gflops"] for row in rows)
    print(f"{rows[0]['cpu']}, {rows[0]['threads']} threads, matrices at {rate:.0f} GFLOP/s")
    print(
        f"{'workload':14}{'published':>12}{'adem-bench':>12}{'times':>8}{'share':>7}  same answers"
    )
    for row in rows:
        print(
            f"{row['workload']:14}{row['published']:>10.2f}/s{row['adem_bench']:>10.2f}/s"
            f"{row['times']:>8.2f}{row['share']:>7.0%}  {row['same']}/{row['samples']}"
        )
    if arguments.log:
        with arguments.log.open("a") as log:
            log.writelines(json.dumps(row) + "\n" for row in rows)


def measure(
    folder: Path, card: Path, make: Callable, batch_size: int, arguments: argparse.Namespace
) -> dict:
    """Return the figures of one workload: medians over the rounds.

    Args:
        folder: With the model's files.
        card: Path of the model's card.
        make: Makes the requests, as those in `workloads`.
        batch_size: Of the published script.
        arguments: Of the command line.
    """
    tokenizer = SentencePieceTokenizer(folder / "llama" / "tokenizer.model")
    requests = make(folder, arguments.samples, tokenizer)
    published = _published(folder, tokenizer)
    operations = count_operations(card, requests)
    rates, shares = [], []
    seconds: dict[str, list[float]] = {"published": [], "ours": []}
    same = 0
    for _ in range(arguments.rounds):
        # A new model each round: nothing that was remembered may help the next one.
        model = FusedModel(load_model_card(str(card)), ModelOptions("cpu"))
        model.load_adapter_for("task", "kind")
        model.load()
        started = time.perf_counter()
        theirs = published.answer(requests, batch_size)
        between = time.perf_counter()
        ours = run_ours(model, requests)
        seconds["ours"].append(time.perf_counter() - between)
        rates.append(matrix_rate())
        shares.append(operations / seconds["ours"][-1] / rates[-1])
        seconds["published"].append(between - started)
        same = sum(a == b for a, b in zip(theirs, ours, strict=True))
    slow, fast = (statistics.median(seconds[name]) for name in ("published", "ours"))
    return {
        "date": date.today().isoformat(),
        "workload": make.__name__,
        "samples": len(requests),
        "rounds": arguments.rounds,
        "published": len(requests) / slow,
        "adem_bench": len(requests) / fast,
        "times": slow / fast,
        "same": same,
        "gflop": operations / 1e9,
        "gflops": statistics.median(rates) / 1e9,
        "share": statistics.median(shares),
        "packed": not arguments.plain,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cpu": hardware()["cpu"],
    }


def matrix_rate() -> float:
    """Return the operations per second of a product by frozen weights as the model has them."""
    linear = nn.Linear(SIDE, SIDE, bias=False).requires_grad_(False)
    packs = frozen.can_pack(torch.device("cpu"), torch.float32)
    layer = PackedLinear(linear.weight, None) if packs else linear
    x, seconds = torch.randn(ROWS, SIDE), []
    with torch.inference_mode():
        for _ in range(PRODUCTS):
            started = time.perf_counter()
            layer(x)
            seconds.append(time.perf_counter() - started)
    return 2 * ROWS * SIDE * SIDE / min(seconds)


def count_operations(card: Path, requests: Sequence[Request]) -> int:
    """Return the operations of all products of our answers; of packed ones none are counted."""
    packs, frozen.can_pack = frozen.can_pack, lambda device, dtype: False
    try:
        model = FusedModel(load_model_card(str(card)), ModelOptions("cpu"))
        model.load_adapter_for("task", "kind")
        with FlopCounterMode(display=False) as counter:
            run_ours(model, requests)
    finally:
        frozen.can_pack = packs
    return counter.get_total_flops()


def run_ours(model: FusedModel, requests: Sequence[Request]) -> list[str]:
    """Answer requests as the runner does, records left out; texts in the requests' order."""
    items = (
        Item(Sample(str(index), {}, None), request, model.length(request))
        for index, request in enumerate(requests)
    )
    backoff = Backoff(model.generate)
    texts = {
        int(item.sample.id): response.text
        for unit in ahead(plan(items, model.budget()), model.prefetch)
        for item, response in backoff.answer(unit.items)
    }
    return [texts[index] for index in range(len(requests))]


def _published(folder: Path, tokenizer: SentencePieceTokenizer) -> PublishedLoop:
    cpu = torch.device("cpu")
    network = network_with(
        load_language_model(folder / "llama" / "mid", torch.float32, cpu),
        load_visual(VisionSource(), folder / "clip.pt", torch.float32),
        read_adapter(folder / "adapter.pth"),
        load_model_card(str(folder / "mid.yaml")).fusion,
    )
    weights = torch.load(folder / "llama" / "mid" / "consolidated.00.pth", weights_only=True)
    return PublishedLoop(network, weights, tokenizer)


if __name__ == "__main__":
    main()
