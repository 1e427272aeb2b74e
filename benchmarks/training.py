"""Throughput and peak memory of a training step, next to a transcription of the published one.

    python benchmarks/training.py [--samples 64] [--batch-size 2] [--log benchmarks/log.jsonl]

Each variant runs in a process of its own, by turns, on the same weights and samples, and reads its
images itself. Losses are compared step by step; dropout is off so that they can be.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

EFFECTIVE_BATCH, LENGTH = 16, 320
VARIANTS = {
    "published": {},
    "adem-bench": {},
    "bucketed": {"bucket_by_length": True},
    "checkpointed": {"checkpoint_activations": True},
}


def main() -> None:
    """Measure every variant and print a table, or (`--variant`) be one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=2, help="rows of a micro-batch")
    parser.add_argument("--vocabulary", type=int, default=32_000, help="LLaMA's by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--log", type=Path, help="JSON-lines file to add the figures to")
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant:
        print(json.dumps(run(arguments)))
        return
    with tempfile.TemporaryDirectory() as name:
        from random_model import write_model

        write_model(Path(name), vocabulary=arguments.vocabulary)
        rounds = {variant: [] for variant in VARIANTS}
        for _ in range(arguments.rounds):
            for variant in VARIANTS:
                rounds[variant].append(measure(variant, Path(name), arguments))
    rows = [summary(variant, rounds, arguments) for variant in VARIANTS]
    print(f"{'variant':14}{'samples/s':>11}{'times':>8}{'peak':>10}{'share':>8}  largest loss gap")
    for row in rows:
        print(
            f"{row['variant']:14}{row['samples_per_second']:>11.2f}{row['times']:>8.2f}"
            f"{row['peak_bytes'] / 2**20:>6.0f} MiB{row['memory_share']:>8.0%}  {row['loss_gap']}"
        )
    if arguments.log:
        with arguments.log.open("a") as log:
            log.writelines(json.dumps(row) + "\n" for row in rows)


def measure(variant: str, folder: Path, arguments: argparse.Namespace) -> dict:
    """Return what one process of a variant measured.

    Args:
        variant: A key of VARIANTS.
        folder: With the model's files.
        arguments: Of the command line.
    """
    command = [sys.executable, __file__, "--variant", variant, "--folder", folder]
    command += ["--samples", arguments.samples, "--batch-size", arguments.batch_size]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def summary(variant: str, rounds: dict, arguments: argparse.Namespace) -> dict:
    """Return the figures of a variant next to the published ones: medians over the rounds.

    Args:
        variant: A key of VARIANTS.
        rounds: Each variant's measurements.
        arguments: Of the command line.
    """
    from adem_bench.runner.manifest import hardware, versions

    def median(name: str, key: str) -> float:
        return statistics.median(found[key] for found in rounds[name])

    mine, published = rounds[variant][0]["losses"], rounds["published"][0]["losses"]
    comparable = "bucket_by_length" not in VARIANTS[variant]  # another order of samples
    gap = max(abs(a - b) for a, b in zip(mine, published, strict=True)) if comparable else None
    return {
        "date": date.today().isoformat(),
        "benchmark": "training",
        "variant": variant,
        "samples": arguments.samples,
        "batch_size": arguments.batch_size,
        "vocabulary": arguments.vocabulary,
        "rounds": arguments.rounds,
        "samples_per_second": arguments.samples / median(variant, "seconds"),
        "times": median("published", "seconds") / median(variant, "seconds"),
        "peak_bytes": median(variant, "peak"),
        "memory_share": median(variant, "peak") / median("published", "peak"),
        "loss_gap": gap,
        "torch": versions()["torch"],
        "cpu": hardware()["cpu"],
        "threads": hardware()["threads"],
    }


def run(arguments: argparse.Namespace) -> dict:
    """Train through the samples once; the first optimizer step warms up and is not timed."""
    seconds, losses = (published if arguments.variant == "published" else ours)(arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "peak": peak, "losses": losses}


def prepared(arguments: argparse.Namespace) -> tuple[Any, ...]:
    """Return samples, recipe, data set and sampler: the same for every variant."""
    import workloads

    from adem_bench.models.fused.methods.adem import LAYOUT
    from adem_bench.models.fused.tokenizer import SentencePieceTokenizer
    from adem_bench.records import TrainingPair
    from adem_bench.schemas import RecipeCard
    from adem_bench.trainers.batch_sampler import BatchSampler
    from adem_bench.trainers.dataset import TrainingDataset

    tokenizer = SentencePieceTokenizer(arguments.folder / "llama" / "tokenizer.model")
    count = arguments.samples + EFFECTIVE_BATCH
    requests = workloads.sqa(arguments.folder, count, tokenizer)
    pairs = [
        TrainingPair(str(i), r.prompt.removesuffix("The answer is"), "The answer is A.", r.images)
        for i, r in enumerate(requests)
    ]
    recipe = RecipeCard.model_validate(
        {
            "name": "benchmark",
            "data": [{"task": "sqa", "max_sequence_length": LENGTH}],
            "epochs": 1,
            "effective_batch": EFFECTIVE_BATCH,
            "batch_size": arguments.batch_size,
            **VARIANTS[arguments.variant],
        }
    )
    dataset = TrainingDataset()
    dataset.add(recipe.data[0], _Given(pairs), tokenizer, LAYOUT, lambda of_task: of_task)
    return pairs, recipe, dataset, BatchSampler(dataset.lengths, recipe), tokenizer


class _Given:
    """Training data given as a list."""

    def __init__(self, pairs: list) -> None:
        self._pairs = pairs

    def training_pairs(self) -> Iterator[Any]:
        yield from self._pairs

    def skipped_rows(self) -> list:
        return []


def ours(arguments: argparse.Namespace) -> tuple[float, list[float]]:
    """Train with the package's loop."""
    import torch

    from adem_bench.cards import load_model_card
    from adem_bench.models.base import ModelOptions
    from adem_bench.models.fused.backbone import FrozenParts
    from adem_bench.models.fused.model import network_with
    from adem_bench.models.fused.sequence import SequenceBuilder
    from adem_bench.models.fused.weights.adapter import read_adapter
    from adem_bench.runner.distributed import Processes
    from adem_bench.trainers.data_loader import BatchLoader
    from adem_bench.trainers.distributed import ProcessGroup
    from adem_bench.trainers.loop import Training
    from adem_bench.trainers.train import TOKENS_AT_ONCE

    _, recipe, dataset, sampler, tokenizer = prepared(arguments)
    card = load_model_card(str(arguments.folder / "mid.yaml"), ["dtype=float32"])
    frozen = FrozenParts(card, ModelOptions("cpu"), trainable=True)
    adapter = read_adapter(arguments.folder / "adapter.pth")
    network = network_with(frozen.llama, frozen.visual, adapter, card.fusion, eager=True)
    for module in network.method.vision_adapters:
        module.dropout.p = 0.0
    network.decoder.checkpoint_activations(recipe.checkpoint_activations)
    place = SequenceBuilder(tokenizer, network.method.layout).image_tokens_at
    group = ProcessGroup(Processes(), torch.device("cpu"))
    training = Training(network, place, recipe, sampler, group)
    loader = BatchLoader(dataset, network.vision.image_size, 0, TOKENS_AT_ONCE["cpu"])
    steps = training.steps(loader, workers=0)
    losses = [next(steps).loss]
    started = time.perf_counter()
    losses += [report.loss for report in steps]
    return time.perf_counter() - started, losses


def published(arguments: argparse.Namespace) -> tuple[float, list[float]]:
    """Train with the transcription of the published loop."""
    import torch
    from published_training import (
        Batch,
        PublishedModel,
        Schedule,
        Settings,
        published_batch,
        published_training,
    )
    from sentencepiece import SentencePieceProcessor

    from adem_bench.images import load_square
    from adem_bench.models.fused.weights.adapter import read_adapter
    from adem_bench.trainers.batch_sampler import Position

    pairs, recipe, _, sampler, _ = prepared(arguments)
    folder = arguments.folder
    tokenizer = SentencePieceProcessor(model_file=str(folder / "llama" / "tokenizer.model"))
    model = PublishedModel(
        llama=torch.load(folder / "llama" / "mid" / "consolidated.00.pth", weights_only=True),
        params=json.loads((folder / "llama" / "mid" / "params.json").read_text()),
        clip=torch.load(folder / "clip.pt", weights_only=True),
        adapter=read_adapter(folder / "adapter.pth").tensors,
        prefix_image=tokenizer.encode("Image: "),
        prefix_text=tokenizer.encode("Image: N/A"),
        settings=Settings(dropout=0.0),
    )
    marks: list[float] = []

    class Loader(list):
        """Micro-batches read when they are asked for, with the time of each asking."""

        def __iter__(self) -> Iterator[Batch]:
            for rows in super().__iter__():
                marks.append(time.perf_counter())
                yield read(rows)

    def read(rows: Sequence[int]) -> Batch:
        chosen = [pairs[index] for index in rows]
        images = [
            torch.from_numpy(load_square(p.images[0], 224, "imagenet").pixels) if p.images else None
            for p in chosen
        ]
        return published_batch(tokenizer, [(p.prompt, p.answer) for p in chosen], images, LENGTH)

    order = Loader(m.rows for m in sampler.micro_batches(Position()))
    size = sampler.accumulation
    schedule = Schedule(1, 0.0, recipe.base_learning_rate, EFFECTIVE_BATCH, size)
    losses = published_training(model, [order], schedule)
    seconds = time.perf_counter() - marks[size]
    means = [sum(losses[i : i + size]) / size for i in range(0, len(losses), size)]
    return seconds, means


if __name__ == "__main__":
    main()
