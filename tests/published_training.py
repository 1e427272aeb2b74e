"""The published training step, written anew from its description, on raw state dicts.

The yardstick of the trainer's parity test and the baseline of its benchmark: it imports nothing
of the package. It is as wasteful as the original: CLIP runs on black images for rows without
one, keys and values of the visual memory are made anew in every layer, similarities are sorted
whole, every position goes through the output head.
Source: ADEM-VL cec09b8 `adem/model.py`, `adem/adapter.py`, `engine.py`, `clip/model.py`;
arXiv 2410.17779 section 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLIP_ADAPTER = "backbone.visual.transformer.resblocks.{}.adapter_mlp.{}.weight"


@dataclass
class Batch:
    """A micro-batch as the published data loader gives it."""

    ids: Tensor
    """(B, L), padded with 0."""
    labels: Tensor
    """(B, L), 0 ignored."""
    images: Tensor
    """(B, 3, S, S), zeros for rows without image."""
    indicators: Tensor
    """(B,) 0 or 1."""


@dataclass
class Settings:
    """Strengths of the method."""

    alpha: float = 0.1
    beta: float = 0.01
    drop_ratio: float = 0.1
    scales: Sequence[int] = (256, 64)
    dropout: float = 0.1


@dataclass
class PublishedModel:
    """LLaMA and CLIP as raw tensors, the adapter as parameters under its published names."""

    llama: Mapping[str, Tensor]
    params: Mapping[str, float]
    clip: Mapping[str, Tensor]
    adapter: Mapping[str, Tensor]
    prefix_image: Sequence[int]
    """Ids of `Image: `."""
    prefix_text: Sequence[int]
    """Ids of `Image: N/A`."""
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        self.parameters = {
            name: nn.Parameter(tensor.float().clone()) for name, tensor in self.adapter.items()
        }
        self.heads = int(self.params["n_heads"])
        self.layers = int(self.params["n_layers"])
        size = int(self.params["dim"]) // self.heads
        angles = 1.0 / 10000.0 ** (torch.arange(0, size, 2).float() / size)
        turns = torch.outer(torch.arange(1024).float(), angles)
        self.turns = torch.polar(torch.ones_like(turns), turns)
        self.clip_blocks = sum(name.endswith("attn.in_proj_weight") for name in self.clip)

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean cross-entropy over the labels that are not 0."""
        features = self.encode(batch.images)
        visual, class_tokens = self._memory(features, batch.indicators)
        embeds = F.embedding(batch.ids, self.llama["tok_embeddings.weight"])
        embeds, labels = self._splice(embeds, batch, class_tokens)
        length = 1 + max(int(index) for index in (labels > 0).nonzero()[:, 1])
        hidden, labels = embeds[:, :length], labels[:, :length]
        mask = torch.full((1, 1, length, length), -math.inf).triu(diagonal=1)
        for layer in range(self.layers):
            hidden = self._layer(layer, hidden, mask, visual)
        logits = F.linear(self._norm(hidden, "norm"), self.llama["output.weight"])
        flat = logits[:, :-1].reshape(-1, logits.shape[-1])
        return F.cross_entropy(flat, labels[:, 1:].flatten(), ignore_index=0)

    def encode(self, images: Tensor) -> Tensor:
        """Return (B, 1 + P, C): every block but the last, then `ln_post` on all tokens."""
        weight = {name.removeprefix("visual."): tensor for name, tensor in self.clip.items()}
        kernel = weight["conv1.weight"]
        x = F.conv2d(images, kernel, stride=kernel.shape[-1]).flatten(2).transpose(1, 2)
        first = weight["class_embedding"].expand(len(x), 1, -1)
        x = torch.cat([first, x], 1) + weight["positional_embedding"]
        x = _layer_norm(x, weight, "ln_pre")
        for block in range(self.clip_blocks - 1):
            x = self._clip_block(x, weight, block)
        return _layer_norm(x, weight, "ln_post")

    def _clip_block(self, x: Tensor, weight: Mapping[str, Tensor], block: int) -> Tensor:
        at = f"transformer.resblocks.{block}."
        rows, length, width = x.shape
        packed = F.linear(
            _layer_norm(x, weight, f"{at}ln_1"),
            weight[f"{at}attn.in_proj_weight"],
            weight[f"{at}attn.in_proj_bias"],
        )
        query, key, value = packed.view(rows, length, 3, width // 64, 64).permute(2, 0, 3, 1, 4)
        context = ((query @ key.transpose(2, 3)) / 8.0).softmax(-1) @ value
        context = context.transpose(1, 2).reshape(rows, length, width)
        x = x + F.linear(
            context, weight[f"{at}attn.out_proj.weight"], weight[f"{at}attn.out_proj.bias"]
        )
        # The published block takes its second norm twice, once for each branch.
        z = F.linear(
            _layer_norm(x, weight, f"{at}ln_2"),
            weight[f"{at}mlp.c_fc.weight"],
            weight[f"{at}mlp.c_fc.bias"],
        )
        z = z * torch.sigmoid(1.702 * z)
        z = F.linear(z, weight[f"{at}mlp.c_proj.weight"], weight[f"{at}mlp.c_proj.bias"])
        down, up = (self.parameters[CLIP_ADAPTER.format(block, name)] for name in ("fc1", "fc2"))
        tuned = F.gelu(F.linear(_layer_norm(x, weight, f"{at}ln_2"), down))
        return x + z + F.linear(F.dropout(tuned, self.settings.dropout), up) * 0.1

    def _memory(self, features: Tensor, indicators: Tensor) -> tuple[Tensor, Tensor]:
        side = math.isqrt(features.shape[1] - 1)
        grid = features[:, 1:].transpose(1, 2).reshape(len(features), -1, side, side)
        pooled = [
            F.adaptive_avg_pool2d(grid, math.isqrt(scale)).flatten(2).transpose(1, 2)
            for scale in self.settings.scales
        ]
        visual = self._project("adapter_proj", torch.cat(pooled, 1))
        visual = visual * (self.settings.beta * indicators.float().view(-1, 1, 1))
        return visual, self._project("adapter_proj_cls", features[:, 0])

    def _project(self, name: str, x: Tensor) -> Tensor:
        given = self.parameters
        x = F.silu(F.linear(x, given[f"{name}.fc1.weight"], given[f"{name}.fc1.bias"]))
        return F.linear(x, given[f"{name}.fc2.weight"], given[f"{name}.fc2.bias"])

    def _splice(self, embeds: Tensor, batch: Batch, class_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Insert prefix and class token after BOS; cut back to the loader's length."""
        table, length = self.llama["tok_embeddings.weight"], batch.ids.shape[1]
        rows, labels = [], []
        for index, flag in enumerate(batch.indicators.tolist()):
            prefix = F.embedding(
                torch.tensor(self.prefix_image if flag else self.prefix_text), table
            )
            inserted = [prefix, class_tokens[index : index + 1]] if flag else [prefix]
            row = torch.cat([embeds[index, :1], *inserted, embeds[index, 1:]])
            none = torch.zeros(len(row) - length, dtype=torch.long)
            rows.append(row[:length])
            joined = torch.cat([batch.labels[index, :1], none, batch.labels[index, 1:]])
            labels.append(joined[:length])
        return torch.stack(rows), torch.stack(labels)

    def _layer(self, layer: int, x: Tensor, mask: Tensor, visual: Tensor) -> Tensor:
        at = f"layers.{layer}."
        hidden = x + self._attention(at, self._norm(x, f"{at}attention_norm"), mask)
        query = self._norm(hidden, f"{at}ffn_norm")
        gate = F.silu(F.linear(query, self.llama[f"{at}feed_forward.w1.weight"]))
        gate = gate * F.linear(query, self.llama[f"{at}feed_forward.w3.weight"])
        fed = F.linear(gate, self.llama[f"{at}feed_forward.w2.weight"])
        return hidden + fed + self._fuse(query, visual) * self.settings.alpha

    def _fuse(self, query: Tensor, visual: Tensor) -> Tensor:
        keys = F.silu(visual + self.parameters["adapter_emb1"])
        scores = F.silu(query) @ keys.permute(0, 2, 1)
        ordered, _ = scores.detach().sort(dim=2)
        threshold = ordered[:, :, int(self.settings.drop_ratio * ordered.size(2))].unsqueeze(2)
        kept = torch.ones_like(scores)
        kept[scores < threshold] = 0
        return (scores * kept) @ (visual + self.parameters["adapter_emb2"])

    def _attention(self, at: str, x: Tensor, mask: Tensor) -> Tensor:
        rows, length, width = x.shape
        query, key, value = (
            F.linear(x, self.llama[f"{at}attention.{name}.weight"]).view(
                rows, length, self.heads, -1
            )
            for name in ("wq", "wk", "wv")
        )
        query, key = (self._rotate(part).transpose(1, 2) for part in (query, key))
        scores = query @ key.transpose(2, 3) / math.sqrt(width // self.heads)
        context = (scores + mask).softmax(-1) @ value.transpose(1, 2)
        context = context.transpose(1, 2).reshape(rows, length, width)
        return F.linear(context, self.llama[f"{at}attention.wo.weight"])

    def _rotate(self, x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * self.turns[: x.shape[1], None]).flatten(3)

    def _norm(self, x: Tensor, name: str) -> Tensor:
        eps = self.params["norm_eps"]
        normed = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
        return normed * self.llama[f"{name}.weight"]


def _layer_norm(x: Tensor, weight: Mapping[str, Tensor], name: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weight[f"{name}.weight"], weight[f"{name}.bias"])


@dataclass
class Schedule:
    """The published hyper-parameters of the optimization."""

    epochs: int
    warmup_epochs: float
    blr: float
    effective_batch: int
    accumulation: int
    weight_decay: float = 0.02
    scaled: bool = False
    """Whether the loss is scaled, as in half precision."""

    def learning_rate(self, epoch: float) -> float:
        """Return the rate at a fractional epoch."""
        peak = self.blr * self.effective_batch / 256
        if epoch < self.warmup_epochs:
            return peak * epoch / self.warmup_epochs
        span = self.epochs - self.warmup_epochs
        return peak * 0.5 * (1.0 + math.cos(math.pi * (epoch - self.warmup_epochs) / span))


def published_optimizer(model: PublishedModel, weight_decay: float) -> torch.optim.AdamW:
    """Return AdamW with the four projector biases undecayed, first."""
    named = model.parameters.items()
    spared = [p for name, p in named if p.ndim <= 1 or name.endswith(".bias")]
    others = [p for name, p in named if not (p.ndim <= 1 or name.endswith(".bias"))]
    groups = [
        {"params": spared, "weight_decay": 0.0},
        {"params": others, "weight_decay": weight_decay},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95))


def published_training(
    model: PublishedModel, epochs: Iterable[Sequence[Batch]], schedule: Schedule
) -> list[float]:
    """Train; `epochs` holds each epoch's micro-batches. Return the loss of every micro-step."""
    optimizer = published_optimizer(model, schedule.weight_decay)
    scaler = torch.amp.GradScaler("cpu", enabled=schedule.scaled)
    losses = []
    for epoch, batches in enumerate(epochs):
        # PyTorch 1.13, which the published code names, keeps zeros in place of gradients.
        optimizer.zero_grad(set_to_none=False)
        for step, batch in enumerate(batches):
            if step % schedule.accumulation == 0:
                for group in optimizer.param_groups:
                    group["lr"] = schedule.learning_rate(step / len(batches) + epoch)
            loss = model.loss(batch)
            losses.append(loss.item())
            if torch.isnan(loss):
                loss = torch.nan_to_num(loss) * 0
            scaler.scale(loss / schedule.accumulation).backward()
            if (step + 1) % schedule.accumulation == 0:
                scaler.unscale_(optimizer)
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad(set_to_none=False)
    return losses


def published_row(tokenizer, prompt: str, answer: str, length: int) -> tuple[Tensor, Tensor]:
    """Return padded ids and labels, (length,) each, as the published data set does."""
    masked = 1 + len(tokenizer.encode(prompt))
    ids = [tokenizer.bos_id(), *tokenizer.encode(prompt + answer), tokenizer.eos_id()][:length]
    labels = [0] * min(masked, len(ids)) + ids[masked:]
    padding = [0] * (length - len(ids))
    return torch.tensor(ids + padding), torch.tensor(labels + padding)
