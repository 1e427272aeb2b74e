"""The ADEM-VL adapter: tuned with the package's own loss on all three mini benchmarks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from adem_bench.data.mini.world import Scene
from adem_bench.models.adem.adapter_files import AdapterSettings, write_adapter
from adem_bench.models.adem.fusion import AdemFusion
from adem_bench.models.adem.llama_files import load_language_model
from adem_bench.models.adem.network import AdemNetwork, TrainingBatch, collate
from adem_bench.models.adem.sequence import SequenceBuilder
from adem_bench.models.adem.tokenizer import SentencePieceTokenizer
from adem_bench.models.adem.vision import VisionTower
from adem_bench.models.adem.vision_files import load_visual
from adem_bench.records import ImageNormalization
from adem_bench.schemas import VisionSource
from adem_tiny.log import Log, warm_cosine
from adem_tiny.texts import Row
from adem_tiny.vision import normalized, pixels_of

LONGEST = {"mme": 96, "sqa": 96, "caption": 30}
"""Training length in tokens; captions are cut at 30, as published."""
NORMALIZATION: dict[str, ImageNormalization] = {
    "mme": "imagenet",
    "sqa": "imagenet",
    "caption": "clip",
}


@dataclass(frozen=True, slots=True)
class AdapterRecipe:
    """Hyper-parameters of ADEM-VL and of its tuning."""

    scales: tuple[int, ...] = (64, 16)
    alpha: float = 0.1
    beta: float = 0.3
    drop_ratio: float = 0.1
    hidden_proj: int = 256
    adapter_dim: int = 32
    steps: int = 1800
    batch: int = 64
    rate: float = 3e-3
    warm_up: int = 100
    weight_decay: float = 0.02


def load_network(folder: Path, recipe: AdapterRecipe) -> tuple[AdemNetwork, SequenceBuilder]:
    """Return the network with an untuned adapter, from `language/` and `vision.safetensors`."""
    cpu = torch.device("cpu")
    llama = load_language_model(folder / "language", torch.float32, cpu)
    visual = load_visual(VisionSource(), folder / "vision.safetensors", torch.float32)
    tower = VisionTower(visual, recipe.adapter_dim)
    width = int(llama.config.hidden_size)
    strengths = (recipe.alpha, recipe.beta, recipe.drop_ratio)
    fusion = AdemFusion((tower.width, width), recipe.scales, recipe.hidden_proj, True, strengths)
    tokenizer = SentencePieceTokenizer(folder / "language" / "tokenizer.model")
    return AdemNetwork(tower, fusion, llama), SequenceBuilder(tokenizer, cls_token=True)


def tune(
    network: AdemNetwork,
    builder: SequenceBuilder,
    rows: Sequence[Row],
    recipe: AdapterRecipe,
    log: Log,
) -> None:
    """Tune the adapter in place; CLIP and the language model stay as they are."""
    parameters = network.adapter_tensors()
    optimizer = torch.optim.AdamW(
        parameters.values(),
        lr=recipe.rate,
        betas=(0.9, 0.95),
        weight_decay=recipe.weight_decay,
    )
    examples = Examples(rows, builder.tokenizer)
    network.train()
    for step, batch in zip(range(recipe.steps), examples.batches(recipe.batch), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * warm_cosine(step, recipe.steps, recipe.warm_up)
        # Fused attention's backward pass takes thrice as long for rows as short as these.
        with sdpa_kernel(SDPBackend.MATH):
            loss = network.loss(batch, builder.class_token_at)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimizer.step()
        if step % 25 == 0 or step == recipe.steps - 1:
            log.write(step=step, loss=round(loss.item(), 4))
    network.eval()


def save(network: AdemNetwork, recipe: AdapterRecipe, folder: Path) -> None:
    """Write the adapter in float16 with its settings."""
    tensors = {name: tensor.half() for name, tensor in network.adapter_tensors().items()}
    settings = AdapterSettings(
        alpha=recipe.alpha,
        beta=recipe.beta,
        drop_ratio=recipe.drop_ratio,
        scales=recipe.scales,
        cls_token=True,
        hidden_proj=recipe.hidden_proj,
        adapter_dim=recipe.adapter_dim,
        language_model="adem-tiny",
        vision="adem-tiny",
        prompts={"scienceqa": {"prompt_format": "QCM-A", "captions": False}},
    )
    write_adapter(folder, tensors, settings)


class Examples:
    """Training rows as token ids, with their images as bytes; each image is kept once."""

    def __init__(self, rows: Sequence[Row], tokenizer: SentencePieceTokenizer) -> None:
        """Tokenize the rows and paint the images."""
        builders = {
            kind: SequenceBuilder(tokenizer, cls_token=True, max_length=longest)
            for kind, longest in LONGEST.items()
        }
        self._kinds = [row.kind for row in rows]
        self._rows = [
            builders[row.kind].training(row.prompt, row.answer, row.scene is not None)
            for row in rows
        ]
        scenes: dict[Scene, int] = {}
        self._image = [
            None if row.scene is None else scenes.setdefault(row.scene, len(scenes)) for row in rows
        ]
        self._pixels = pixels_of(list(scenes))

    def batches(self, size: int) -> Iterator[TrainingBatch]:
        """Yield batches of one kind of row for ever, kinds mixed at random."""
        while True:
            batches = []
            for kind in LONGEST:
                order = torch.randperm(len(self._rows)).tolist()
                mine = [index for index in order if self._kinds[index] == kind]
                batches += [mine[i : i + size] for i in range(0, len(mine) - size + 1, size)]
            yield from (self._batch(batches[index]) for index in torch.randperm(len(batches)))

    def _batch(self, chosen: Sequence[int]) -> TrainingBatch:
        images = [number for index in chosen if (number := self._image[index]) is not None]
        pixels = normalized(self._pixels[images], NORMALIZATION[self._kinds[chosen[0]]])
        indicators = [int(self._image[index] is not None) for index in chosen]
        return collate([self._rows[index] for index in chosen], list(pixels), indicators)
