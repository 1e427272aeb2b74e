"""Training steps on a device: the published step and adem-bench's, weights made on the device."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import workloads
from device_model import Shape, made_model, published_weights
from gpu import collect, watched
from published_training import (
    PublishedModel,
    Schedule,
    Settings,
    published_batch,
    published_training,
)
from training import LENGTH, _Given

from adem_bench.images import load_square
from adem_bench.models.fused.methods.adem import LAYOUT
from adem_bench.models.fused.model import FusedModel, network_with
from adem_bench.models.fused.sequence import SequenceBuilder
from adem_bench.models.fused.weights.adapter import read_adapter
from adem_bench.records import TrainingPair
from adem_bench.runner.distributed import Processes
from adem_bench.schemas import RecipeCard
from adem_bench.trainers.batch_sampler import BatchSampler, Position
from adem_bench.trainers.data_loader import BatchLoader
from adem_bench.trainers.dataset import TrainingDataset
from adem_bench.trainers.distributed import ProcessGroup
from adem_bench.trainers.loop import Training
from adem_bench.trainers.train import TOKENS_AT_ONCE

ROWS, ACCUMULATION = 2, 2
"""The published script's micro-batches of one process."""
STEPS = 10
VARIANTS = {"adem-bench": {}, "checkpoint_activations": {"checkpoint_activations": True}}


def training(
    shape: Shape, dtype: str, device: torch.device, samples: int
) -> Iterator[dict[str, Any]]:
    """Yield samples per second and memory of the published step and of adem-bench's.

    Args:
        shape: Of the model.
        dtype: Of the frozen weights.
        device: Where it trains.
        samples: At most as many are learned from.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = made_model(shape, dtype, str(device), folder)
        adapter = read_adapter(folder / f"adapter-{shape.name}.pth")
        tokenizer = model._frozen.tokenizer
        count = ROWS * ACCUMULATION * (1 + min(STEPS, samples))
        pairs = [
            TrainingPair(
                str(i), r.prompt.removesuffix("The answer is"), "The answer is A.", r.images
            )
            for i, r in enumerate(workloads.sqa(folder, count, tokenizer))
        ]
        counted = len(pairs) - ROWS * ACCUMULATION
        weights = _resting(device)
        seconds, memory, loss = _published(model, adapter, pairs, tokenizer)
        yield {
            "measured": "training, published", "samples_per_s": counted / seconds,
            "gib": memory, "weights_gib": weights,
            "first_loss": loss,
        }  # fmt: skip
        for variant, settings in VARIANTS.items():
            collect(device)
            ours, our_memory, our_loss = _ours(model, adapter, pairs, tokenizer, settings)
            yield {
                "measured": f"training, {variant}", "samples_per_s": counted / ours,
                "times": seconds / ours, "gib": our_memory,
                "share_of_memory": _share(our_memory, memory),
                "share_without_weights": _share(our_memory - weights, memory - weights),
                "first_loss": our_loss,
            }  # fmt: skip


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _resting(device: torch.device) -> float:
    return torch.cuda.memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0


def _recipe(settings: dict[str, Any]) -> RecipeCard:
    return RecipeCard.model_validate(
        {
            "name": "benchmark",
            "data": [{"task": "sqa", "max_sequence_length": LENGTH}],
            "epochs": 1,
            "effective_batch": ROWS * ACCUMULATION,
            "batch_size": ROWS,
            **settings,
        }
    )


def _sampler(recipe: RecipeCard, pairs: list, tokenizer: Any) -> tuple[TrainingDataset, Any]:
    dataset = TrainingDataset()
    dataset.add(recipe.data[0], _Given(pairs), tokenizer, LAYOUT, lambda of_task: of_task)
    return dataset, BatchSampler(dataset.lengths, recipe)


def _ours(
    model: FusedModel, adapter: Any, pairs: list, tokenizer: Any, settings: dict[str, Any]
) -> tuple[float, float, float]:
    recipe = _recipe(settings)
    dataset, sampler = _sampler(recipe, pairs, tokenizer)
    frozen, device = model._frozen, model._frozen.device
    network = network_with(frozen.llama, frozen.visual, adapter, frozen.card.fusion)
    for module in network.method.vision_adapters:
        module.dropout.p = 0.0
    network.decoder.checkpoint_activations(recipe.checkpoint_activations)
    place = SequenceBuilder(tokenizer, network.method.layout).image_tokens_at
    group = ProcessGroup(Processes(), device)
    run = Training(network, place, recipe, sampler, group)
    loader = BatchLoader(dataset, network.vision.image_size, 0, TOKENS_AT_ONCE.get(device.type))
    steps = run.steps(loader, workers=0)
    first = next(steps).loss  # warms up
    seconds, memory, _ = watched(lambda: list(steps), device)
    return seconds, memory, first


def _published(
    model: FusedModel, adapter: Any, pairs: list, tokenizer: Any
) -> tuple[float, float, float]:
    recipe = _recipe({})
    _, sampler = _sampler(recipe, pairs, tokenizer)
    frozen, device = model._frozen, model._frozen.device
    llama = frozen.llama
    trained = PublishedModel(
        llama=published_weights(llama),
        params={
            "n_heads": llama.config.num_attention_heads, "dim": llama.config.hidden_size,
            "n_layers": llama.config.num_hidden_layers, "norm_eps": llama.config.rms_norm_eps,
        },
        clip={f"visual.{name}": weight for name, weight in frozen.visual.named_parameters()},
        adapter=adapter.tensors,
        prefix_image=tokenizer.encode("Image: "),
        prefix_text=tokenizer.encode("Image: N/A"),
        settings=Settings(dropout=0.0),
        dtype=frozen.dtype,
        device=device,
    )  # fmt: skip

    class Loader(list):
        """Micro-batches read when they are asked for."""

        def __iter__(self) -> Iterator[Any]:
            return map(read, super().__iter__())

    def read(rows: Any) -> Any:
        chosen = [pairs[index] for index in rows]
        images = [
            torch.from_numpy(load_square(p.images[0], 224, "imagenet").pixels) if p.images else None
            for p in chosen
        ]
        texts = [(p.prompt, p.answer) for p in chosen]
        return published_batch(tokenizer._processor, texts, images, LENGTH).to(device)

    batches = [m.rows for m in sampler.micro_batches(Position())]
    schedule = Schedule(
        1, 0.0, recipe.base_learning_rate, recipe.effective_batch, sampler.accumulation,
        scaled=frozen.dtype == torch.float16,
    )  # fmt: skip
    warm = published_training(trained, [Loader(batches[:ACCUMULATION])], schedule)
    rest = [Loader(batches[ACCUMULATION:])]
    seconds, memory, _ = watched(lambda: published_training(trained, rest, schedule), device)
    return seconds, memory, sum(warm) / ACCUMULATION
