"""The published training step, written from scratch from its description, on raw state dicts.

The yardstick of the trainer's parity test and the baseline of its benchmark: it imports nothing
of the package. It is as wasteful as the original: CLIP runs on zeros for rows without image, keys
and values of the visual memory are made again in every layer, similarities are sorted whole,
every position goes through the output head.
Source: ADEM-VL cec09b8 `adem/model.py`, `adem/adapter.py`, `clip/model.py`, `engine.py`,
`util/misc.py`, `util/datasets.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from sentencepiece import SentencePieceProcessor
from torch import Tensor, nn
from torch.nn import functional as F

POSITIONS = 1024
"""Rows of the published table of rotations: twice its longest sequence."""


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
    """(B,) 1 for rows with an image, else 0."""

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        tensors = (self.ids, self.labels, self.images, self.indicators)
        return Batch(*(tensor.to(device) for tensor in tensors))


@dataclass
class Settings:
    """What the published command line sets of the method."""

    alpha: float = 0.1
    beta: float = 0.01
    drop_ratio: float = 0.1
    scales: Sequence[int] = (256, 64)
    class_token: bool = True
    """Whether the prefixes and the class token are inserted."""
    dropout: float = 0.0
    """Inside the CLIP adapters; 0.1 is the published constant while training."""


@dataclass
class PublishedModel:
    """LLaMA and CLIP as raw tensors, the adapter as parameters under its published names."""

    llama: Mapping[str, Tensor]
    """Consolidated checkpoint."""
    params: Mapping[str, float]
    """Content of params.json."""
    clip: Mapping[str, Tensor]
    """OpenAI's key names, `visual.` and on."""
    adapter: Mapping[str, Tensor]
    """Published names without `module.`, in the published order."""
    prefix_image: Sequence[int]
    """Ids of `Image: `."""
    prefix_text: Sequence[int]
    """Ids of `Image: N/A`."""
    settings: Settings = field(default_factory=Settings)
    dtype: torch.dtype = torch.float32
    """Of the frozen weights, but for norms and embeddings of CLIP; where it is half precision,
    products of the adapter's float32 parameters are computed in it, as under autocast."""
    device: str | torch.device = "cpu"

    def __post_init__(self) -> None:
        self.language = {
            name: tensor.to(self.device, self.dtype) for name, tensor in self.llama.items()
        }
        self.vision = {
            name.removeprefix("visual."): tensor.to(
                self.device, self.dtype if _is_half_in_clip(name) else torch.float32
            )
            for name, tensor in self.clip.items()
            if name.startswith("visual.")
        }
        self.parameters = {
            name: nn.Parameter(tensor.to(self.device, torch.float32, copy=True))
            for name, tensor in self.adapter.items()
        }
        self.heads = int(self.params["n_heads"])
        size = int(self.params["dim"]) // self.heads
        turns = 1.0 / 10000.0 ** (torch.arange(0, size, 2).float() / size)
        turns = torch.outer(torch.arange(POSITIONS).float(), turns)
        self.turns = torch.polar(torch.ones_like(turns), turns).to(self.device)

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean cross-entropy over the labels that are not 0."""
        features = self.encode(batch.images.to(self.dtype))
        visual = self._project("adapter_proj", self._pool(features[:, 1:]))
        visual *= (self.settings.beta * batch.indicators.float().view(-1, 1, 1)).to(self.dtype)
        hidden, labels = self._embed(batch.ids), batch.labels
        if self.settings.class_token:
            class_tokens = self._project("adapter_proj_cls", features[:, [0]])
            hidden, labels = self._insert(hidden, batch, class_tokens)
        length = int((labels > 0).nonzero()[:, 1].max()) + 1
        hidden, labels = hidden[:, :length], labels[:, :length]
        mask = torch.full((1, 1, length, length), -math.inf, device=self.device).triu(diagonal=1)
        for layer in range(int(self.params["n_layers"])):
            hidden = self._layer(f"layers.{layer}.", hidden, mask, visual)
        logits = F.linear(self._rms_norm(hidden, "norm"), self.language["output.weight"])
        logits = logits[:, :-1].reshape(-1, logits.shape[-1])
        return F.cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=0)

    def encode(self, images: Tensor) -> Tensor:
        """Return CLIP's features (B, 1 + P, C): no last block, `ln_post` on every token."""
        kernel = self.vision["conv1.weight"]
        patches = F.conv2d(images, kernel, stride=kernel.shape[-1]).flatten(2).transpose(1, 2)
        first = self.vision["class_embedding"].to(self.dtype).expand(len(images), 1, -1)
        positions = self.vision["positional_embedding"].to(self.dtype)
        x = torch.cat([first, patches], 1) + positions
        x = self._layer_norm(x, "ln_pre").transpose(0, 1)
        blocks = sum(name.endswith("in_proj_weight") for name in self.vision)
        for block in range(blocks - 1):
            x = self._clip_block(f"transformer.resblocks.{block}.", x)
        return self._layer_norm(x.transpose(0, 1), "ln_post")

    def _clip_block(self, at: str, x: Tensor) -> Tensor:
        """Run one block on tokens (1 + P, B, C); its second norm is taken once for each branch."""
        x = x + self._clip_attention(f"{at}attn.", self._layer_norm(x, f"{at}ln_1"))
        inner = self._clip_linear(f"{at}mlp.c_fc", self._layer_norm(x, f"{at}ln_2"))
        mlp = self._clip_linear(f"{at}mlp.c_proj", inner * torch.sigmoid(1.702 * inner))
        fc1, fc2 = (
            self.parameters[f"backbone.visual.{at}adapter_mlp.{name}.weight"]
            for name in ("fc1", "fc2")
        )
        inner = F.gelu(F.linear(self._layer_norm(x, f"{at}ln_2"), fc1.to(self.dtype)))
        inner = F.dropout(inner, self.settings.dropout)
        return x + mlp + F.linear(inner, fc2.to(self.dtype)) * 0.1

    def _clip_attention(self, at: str, x: Tensor) -> Tensor:
        """Attend as `nn.MultiheadAttention` does, with heads of 64 channels."""
        width = x.shape[-1]
        attended, _ = F.multi_head_attention_forward(
            x, x, x, width, width // 64,
            self.vision[f"{at}in_proj_weight"], self.vision[f"{at}in_proj_bias"],
            None, None, False, 0.0,
            self.vision[f"{at}out_proj.weight"], self.vision[f"{at}out_proj.bias"],
            need_weights=False,
        )  # fmt: skip
        return attended

    def _clip_linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.vision[f"{name}.weight"], self.vision[f"{name}.bias"])

    def _layer_norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self.vision[f"{name}.weight"], self.vision[f"{name}.bias"]
        return F.layer_norm(x.float(), x.shape[-1:], weight, bias).to(x.dtype)

    def _pool(self, patches: Tensor) -> Tensor:
        """Return the patches (B, P, C) at every scale, one after the other (B, M, C)."""
        rows, count, width = patches.shape
        side = math.isqrt(count)
        grid = patches.reshape(rows, side, side, width).permute(0, 3, 1, 2)
        sides = [math.isqrt(scale) for scale in self.settings.scales]
        pooled = [grid if to == side else F.adaptive_avg_pool2d(grid, to) for to in sides]
        return torch.cat([part.flatten(2).transpose(1, 2) for part in pooled], 1)

    def _project(self, name: str, x: Tensor) -> Tensor:
        weight1, bias1, weight2, bias2 = (
            self.parameters[f"{name}.{layer}.{part}"].to(self.dtype)
            for layer in ("fc1", "fc2")
            for part in ("weight", "bias")
        )
        return F.linear(F.silu(F.linear(x, weight1, bias1)), weight2, bias2)

    def _embed(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.language["tok_embeddings.weight"])

    def _insert(self, embeds: Tensor, batch: Batch, class_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Put prefix and class token after BOS; cut both back to the loader's length."""
        image, text = (
            self._embed(torch.tensor(ids, dtype=torch.long, device=self.device))
            for ids in (self.prefix_image, self.prefix_text)
        )
        rows, labels = [], []
        for row, label, token, flag in zip(
            embeds, batch.labels, class_tokens, batch.indicators.tolist(), strict=True
        ):
            inserted = torch.cat([image, token]) if flag > 0 else text
            ignored = label.new_zeros(len(inserted))
            rows.append(torch.cat([row[:1], inserted, row[1:]])[: len(row)])
            labels.append(torch.cat([label[:1], ignored, label[1:]])[: len(label)])
        return torch.stack(rows), torch.stack(labels)

    def _layer(self, at: str, x: Tensor, mask: Tensor, visual: Tensor) -> Tensor:
        normed = self._rms_norm(x, f"{at}attention_norm")
        hidden = x + self._attention(f"{at}attention.", normed, mask)
        query = self._rms_norm(hidden, f"{at}ffn_norm")
        w1, w2, w3 = (self.language[f"{at}feed_forward.w{index}.weight"] for index in (1, 2, 3))
        fed = F.linear(F.silu(F.linear(query, w1)) * F.linear(query, w3), w2)
        return hidden + fed + self._fuse(query, visual) * self.settings.alpha

    def _fuse(self, query: Tensor, visual: Tensor) -> Tensor:
        """Read the visual memory (B, M, d), with the lowest similarities of a token zeroed."""
        keys = F.silu(visual + self.parameters["adapter_emb1"])
        scores = F.silu(query) @ keys.to(query.dtype).permute(0, 2, 1)
        if self.settings.drop_ratio > 0:
            ordered, _ = scores.sort(dim=2)
            rank = int(self.settings.drop_ratio * scores.shape[2])
            kept = torch.ones_like(scores)
            kept[torch.where(scores < ordered[:, :, rank : rank + 1].expand_as(scores))] = 0
            scores = scores * kept
        return scores @ (visual + self.parameters["adapter_emb2"]).to(query.dtype)

    def _attention(self, at: str, x: Tensor, mask: Tensor) -> Tensor:
        rows, length, width = x.shape
        query, key, value = (
            F.linear(x, self.language[f"{at}{name}.weight"]).view(rows, length, self.heads, -1)
            for name in ("wq", "wk", "wv")
        )
        query, key = self._rotate(query).transpose(1, 2), self._rotate(key).transpose(1, 2)
        scores = query @ key.transpose(2, 3) / math.sqrt(width // self.heads)
        weights = F.softmax((scores + mask).float(), dim=-1).type_as(query)
        context = weights @ value.transpose(1, 2)
        context = context.transpose(1, 2).reshape(rows, length, width)
        return F.linear(context, self.language[f"{at}wo.weight"])

    def _rotate(self, x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * self.turns[: x.shape[1], None]).flatten(3).type_as(x)

    def _rms_norm(self, x: Tensor, name: str) -> Tensor:
        x32 = x.float()
        scale = torch.rsqrt(x32.pow(2).mean(-1, keepdim=True) + self.params["norm_eps"])
        return (x32 * scale).type_as(x) * self.language[f"{name}.weight"]


def _is_half_in_clip(name: str) -> bool:
    """Return whether CLIP's own code converts a weight: all but norms and embeddings."""
    return not any(part in name for part in ("ln_", "class_embedding", "positional_embedding"))


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
    """Whether losses are scaled, as the published trainer always does."""

    def learning_rate(self, epoch: float) -> float:
        """Return the rate at a fractional epoch: a linear rise, then half a cosine to 0."""
        peak = self.blr * self.effective_batch / 256
        if epoch < self.warmup_epochs:
            return peak * epoch / self.warmup_epochs
        share = (epoch - self.warmup_epochs) / (self.epochs - self.warmup_epochs)
        return peak * 0.5 * (1.0 + math.cos(math.pi * share))


def published_optimizer(model: PublishedModel, weight_decay: float) -> torch.optim.AdamW:
    """Return AdamW with the projectors' biases undecayed, first; everything else decays."""
    spared: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    for name, parameter in model.parameters.items():
        is_spared = parameter.ndim <= 1 or name.endswith(".bias")
        (spared if is_spared else decayed).append(parameter)
    groups = [
        {"params": spared, "weight_decay": 0.0},
        {"params": decayed, "weight_decay": weight_decay},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), eps=1e-8)


def published_training(
    model: PublishedModel, epochs: Iterable[Sequence[Batch]], schedule: Schedule
) -> list[float]:
    """Train on each epoch's micro-batches; return every micro-step's loss as it is logged.

    A parameter that no batch has reached yet has no gradient at all, so AdamW leaves it alone.
    Once reached, it keeps a gradient of zeros where a window does not reach it, so it decays and
    its moments fade: PyTorch 1.13, which the published requirements name, clears gradients so.

    Args:
        model: Its adapter is changed in place.
        epochs: Micro-batches of each epoch.
        schedule: The hyper-parameters.
    """
    optimizer = published_optimizer(model, schedule.weight_decay)
    scaler = torch.amp.GradScaler(torch.device(model.device).type, enabled=schedule.scaled)
    losses = []
    for epoch, batches in enumerate(epochs):
        optimizer.zero_grad(set_to_none=False)  # whatever an incomplete window left
        for step, batch in enumerate(batches):
            if step % schedule.accumulation == 0:
                for group in optimizer.param_groups:
                    group["lr"] = schedule.learning_rate(step / len(batches) + epoch)
            loss = model.loss(batch)
            if torch.isnan(loss):
                loss = torch.nan_to_num(loss) * 0
            losses.append(loss.item())
            scaler.scale(loss / schedule.accumulation).backward()
            if (step + 1) % schedule.accumulation == 0:
                scaler.unscale_(optimizer)
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad(set_to_none=False)
    return losses


def published_row(
    tokenizer: SentencePieceProcessor, prompt: str, answer: str, length: int
) -> tuple[Tensor, Tensor]:
    """Return padded ids and labels, (length,) each; the images' prefixes come later.

    Args:
        tokenizer: LLaMA's.
        prompt: Not learned.
        answer: Learned.
        length: L, to which rows are padded or cut.
    """
    bos, eos = tokenizer.bos_id(), tokenizer.eos_id()
    ids = [bos, *tokenizer.encode(prompt + answer), eos][:length]
    example = torch.tensor(ids + [0] * (length - len(ids)))
    labels = example.clone()
    labels[: 1 + len(tokenizer.encode(prompt))] = 0
    return example, labels


def published_batch(
    tokenizer: SentencePieceProcessor,
    texts: Sequence[tuple[str, str]],
    images: Sequence[Tensor | None],
    length: int,
) -> Batch:
    """Return a micro-batch of (prompt, answer) pairs; rows without image get a black one.

    Args:
        tokenizer: LLaMA's.
        texts: B prompts and answers.
        images: B images (3, S, S), None for rows without.
        length: L, to which rows are padded or cut.
    """
    ids, labels = zip(*(published_row(tokenizer, *text, length) for text in texts), strict=True)
    shape = next((image.shape for image in images if image is not None), (3, 224, 224))
    pixels = [torch.zeros(shape) if image is None else image for image in images]
    flags = torch.tensor([float(image is not None) for image in images])
    return Batch(torch.stack(ids), torch.stack(labels), torch.stack(pixels), flags)
