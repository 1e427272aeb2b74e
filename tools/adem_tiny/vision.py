"""The image tower: a small ViT trained contrastively on the mini world, in OpenAI's layout.

ADEM-VL reads a tower before its last block, after `ln_post`. So that is the place where the
contrastive loss stands, and the last block is made to add nothing: run as a whole, the tower
gives the same features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from open_clip.transformer import QuickGELU, VisionTransformer
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from adem_bench.images import PIXEL_STATISTICS
from adem_bench.mini.drawing import SIDE, paint
from adem_bench.mini.world import CELLS, ROWS, Scene
from adem_bench.models.fused.vision import VisionTower, vision_tower
from adem_bench.records import ImageNormalization
from adem_tiny.log import Log, warm_cosine

NORMALIZATIONS: tuple[ImageNormalization, ...] = ("imagenet", "clip")


@dataclass(frozen=True, slots=True)
class VisionRecipe:
    """Sizes and training of the tower."""

    width: int = 128
    blocks: int = 5
    patch: int = 8
    mlp_ratio: float = 4.0
    embedding: int = 64
    steps: int = 1500
    batch: int = 96
    rate: float = 1e-3
    warm_up: int = 100


class PhraseScorer(nn.Module):
    """The throw-away text side: an embedding per phrase, compared with every token.

    A phrase is scored twice: against the class token, and against the patch that fits it
    best, so that patches learn to say what they show.
    """

    def __init__(self, phrases: int, width: int, embedding: int) -> None:
        """Make untrained embeddings.

        Args:
            phrases: Number of phrases.
            width: C, of the features.
            embedding: Width in which phrases and features are compared.
        """
        super().__init__()
        self.phrases = nn.Parameter(torch.randn(phrases, embedding))
        self.patch_proj = nn.Linear(width, embedding, bias=False)
        # SigLIP's start, at the share of matches that phrases have: nearly none.
        self.scale = nn.Parameter(torch.full((2,), 2.3))
        self.bias = nn.Parameter(torch.full((2,), -4.0))

    def forward(self, features: Tensor, proj: Tensor) -> tuple[Tensor, Tensor]:
        """Return two (N, phrases) logits from (N, 1 + P, C) features."""
        phrases = F.normalize(self.phrases, dim=-1)
        whole = F.normalize(features[:, 0] @ proj, dim=-1) @ phrases.T
        patches = F.normalize(self.patch_proj(features[:, 1:]), dim=-1) @ phrases.T
        scale = self.scale.exp()
        return (
            whole * scale[0] + self.bias[0],
            patches.amax(dim=1) * scale[1] + self.bias[1],
        )


def new_visual(recipe: VisionRecipe) -> VisionTransformer:
    """Return an untrained tower whose last block adds nothing."""
    visual = VisionTransformer(
        image_size=SIDE,
        patch_size=recipe.patch,
        width=recipe.width,
        layers=recipe.blocks,
        heads=recipe.width // 64,
        mlp_ratio=recipe.mlp_ratio,
        output_dim=recipe.embedding,
        act_layer=QuickGELU,
    )
    last = visual.transformer.resblocks[-1]
    for layer in (last.attn.out_proj, last.mlp.c_proj):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return visual


def train_visual(
    scenes: Sequence[Scene], held_out: Sequence[Scene], recipe: VisionRecipe, log: Log
) -> VisionTransformer:
    """Train on scenes with a pairwise sigmoid loss (arXiv 2303.15343) and log held-out scores.

    Args:
        scenes: To train on.
        held_out: To measure on.
        recipe: Sizes and training.
        log: Gets losses and scores.
    """
    visual = new_visual(recipe)
    tower = vision_tower(visual)
    vocabulary = sorted({phrase for scene in scenes for phrase in phrases_of(scene)})
    scorer = PhraseScorer(len(vocabulary), recipe.width, recipe.embedding)
    visual.requires_grad_(True)
    parameters = [*visual.parameters(), *scorer.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.05)
    pixels, truth = pixels_of(scenes), _truth(scenes, vocabulary)
    for step, chosen in zip(range(recipe.steps), _batches(len(scenes), recipe.batch), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * warm_cosine(step, recipe.steps, recipe.warm_up)
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            features = _features(tower, normalized(pixels[chosen], NORMALIZATIONS[step % 2]))
        logits = scorer(features.float(), visual.proj)
        # +1 for phrases that are true of the image, -1 for all others.
        sign = 2 * truth[chosen] - 1
        loss = -sum(F.logsigmoid(sign * some).sum(dim=1).mean() for some in logits)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        if step % 50 == 0 or step == recipe.steps - 1:
            log.write(step=step, loss=round(loss.item(), 3))
        if step % 500 == 499 or step == recipe.steps - 1:
            log.write(step=step, **_held_out(tower, scorer, held_out, vocabulary))
    return visual.requires_grad_(False)


def save_visual(visual: VisionTransformer, file: Path) -> None:
    """Write float16 safetensors under OpenAI's names."""
    state = visual.state_dict()
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {f"visual.{name}": tensor.to(torch.float16).contiguous() for name, tensor in state.items()},
        file,
    )


def phrases_of(scene: Scene) -> set[str]:
    """Return the short captions that are true of a scene."""
    phrases = {f"{len(scene.things)} shapes"} if scene.things else set()
    if scene.place:
        phrases.add(scene.place)
    for thing in scene.things:
        cell = CELLS[thing.cell]
        phrases |= {
            thing.shape,
            thing.color,
            f"{thing.color} {thing.shape}",
            f"{thing.shape} {cell}",
            f"{thing.color} {cell}",
            f"{thing.color} {thing.shape} {cell}",
        }
    if scene.lettering is not None:
        text = scene.lettering.text
        phrases |= {f"says {text}", f"letters in {scene.lettering.color}"}
        phrases |= {f"letters at the {ROWS[scene.lettering.row]}"}
        phrases |= {f"letter {index} is {letter}" for index, letter in enumerate(text)}
        if "+" in text:
            phrases.add(f"sum of {int(text[0]) + int(text[2])}")
    return phrases


def pixels_of(scenes: Sequence[Scene]) -> Tensor:
    """Return (N, 3, 64, 64) bytes."""
    return torch.from_numpy(np.stack([paint(scene) for scene in scenes])).permute(0, 3, 1, 2)


def normalized(pixels: Tensor, normalization: ImageNormalization) -> Tensor:
    """Return float32 pixels as `images.load_square` makes them."""
    mean, deviation = (torch.tensor(values) for values in PIXEL_STATISTICS[normalization])
    return (pixels.float() / 255 - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)


def _truth(scenes: Sequence[Scene], vocabulary: Sequence[str]) -> Tensor:
    """Return (N, phrases) ones where a phrase is true."""
    index = {phrase: position for position, phrase in enumerate(vocabulary)}
    truth = torch.zeros(len(scenes), len(vocabulary))
    for row, scene in enumerate(scenes):
        truth[row, [index[phrase] for phrase in phrases_of(scene) if phrase in index]] = 1
    return truth


def _batches(count: int, size: int) -> Iterator[Tensor]:
    while True:
        order = torch.randperm(count)
        yield from (order[i : i + size] for i in range(0, count - size + 1, size))


def _features(tower: VisionTower, images: Tensor) -> Tensor:
    """Return (N, 1 + P, C) features as ADEM-VL reads them: `ln_post`, no last block."""
    x = tower.embed(images)
    for index in range(tower.blocks - 1):
        x = tower.block(index, x)
    return tower.final_norm(x)


@torch.inference_mode()
def _held_out(
    tower: VisionTower, scorer: PhraseScorer, scenes: Sequence[Scene], vocabulary: Sequence[str]
) -> dict[str, float]:
    """Return the share of true phrases among as many best-scored ones, for both scores."""
    features = _features(tower, normalized(pixels_of(scenes), "imagenet"))
    truth = _truth(scenes, vocabulary)
    found = {}
    for name, logits in zip(
        ("class_token", "patches"), scorer(features, tower.visual.proj), strict=True
    ):
        hits = []
        for row, true in zip(logits, truth, strict=True):
            best = row.topk(int(true.sum())).indices
            hits.append(true[best].mean())
        found[name] = round(torch.stack(hits).mean().item(), 4)
    return found
