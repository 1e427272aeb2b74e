"""Samples per second of adem-bench and of the published loop, same weights, same answers.

    python benchmarks/speed.py [--samples 64] [--rounds 3] [--plain] [--log benchmarks/log.jsonl]

Both run in this process by turns; every answer is compared.
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

from adem_bench.cards import load_model_card
from adem_bench.models.base import ModelOptions
from adem_bench.models.fused import backbone as frozen
from adem_bench.models.fused.card import VisionSource
from adem_bench.models.fused.model import FusedModel, network_with
from adem_bench.models.fused.tokenizer import SentencePieceTokenizer
from adem_bench.models.fused.weights.adapter import read_adapter
from adem_bench.models.fused.weights.clip import load_visual
from adem_bench.models.fused.weights.llama import load_language_model
from adem_bench.records import Request, Sample
from adem_bench.runner.batching import Backoff, Item, ahead, plan
from adem_bench.runner.manifest import hardware

# Workload, batch size of the published script.
WORKLOADS = ((workloads.sqa, 4), (workloads.coco_caption, 4), (workloads.mme, 1))


def main() -> None:
    """Measure every workload and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain", action="store_true", help="leave PyTorch's own float32 product")
    parser.add_argument("--log", type=Path, help="JSON-lines file to add the figures to")
    arguments = parser.parse_args()
    if arguments.plain:
        frozen.can_pack = lambda device, dtype: False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        card = write_model(folder)
        rows = [
            measure(folder, card, make, batch_size, arguments) for make, batch_size in WORKLOADS
        ]
    print(f"{'workload':14}{'published':>12}{'adem-bench':>12}{'times':>8}  same answers")
    for row in rows:
        print(
            f"{row['workload']:14}{row['published']:>10.2f}/s{row['adem_bench']:>10.2f}/s"
            f"{row['times']:>8.2f}  {row['same']}/{row['samples']}"
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
    seconds: dict[str, list[float]] = {"published": [], "ours": []}
    same = 0
    for _ in range(arguments.rounds):
        # A new model each round: nothing that was remembered may help the next one.
        model = FusedModel(load_model_card(str(card)), ModelOptions("cpu"))
        model.load_adapter_for("task", "kind")
        started = time.perf_counter()
        theirs = published.answer(requests, batch_size)
        between = time.perf_counter()
        ours = run_ours(model, requests)
        seconds["ours"].append(time.perf_counter() - between)
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
        "packed": not arguments.plain,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cpu": hardware()["cpu"],
    }


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
