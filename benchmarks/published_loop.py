"""The published evaluation loop's work, written from scratch from its description, as a baseline.

What it does and a good implementation need not: CLIP runs for every question, on zeros for
those without image; keys and values of the visual memory are made again in every layer at every
step; similarities are sorted whole; prompts are padded on the left to the longest of a batch in
data-set order; attention is computed step by step; images are read between the batches.
Source: ADEM-VL cec09b8 `adem/model.py`, `adem/adapter.py`, `eval_*.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision import transforms

from adem_bench.images import PIXEL_STATISTICS
from adem_bench.models.fused.network import FusedNetwork
from adem_bench.models.fused.tokenizer import Tokenizer
from adem_bench.records import Request

MAX_LENGTH = 512


class PublishedLoop:
    """The published model and its `generate`, on the weights of `network`."""

    def __init__(
        self,
        network: FusedNetwork,
        weights: Mapping[str, Tensor],
        tokenizer: Tokenizer,
        max_rows: int = 64,
    ) -> None:
        """Take the published layout of the same weights.

        Args:
            network: With the method's and CLIP's weights.
            weights: LLaMA's, by their published names.
            tokenizer: Of the model.
            max_rows: Rows that the cache has room for.
        """
        self.weights = weights
        self.fusion = network.method
        self.vision = network.vision
        self.tokenizer = tokenizer
        embeddings = weights["tok_embeddings.weight"]
        self.device, self.dtype = embeddings.device, embeddings.dtype
        config = network.decoder.llama.config
        self.layers, self.heads = config.num_hidden_layers, config.num_attention_heads
        size = config.hidden_size // self.heads
        angles = 1.0 / 10000.0 ** (torch.arange(0, size, 2).float() / size)
        positions = torch.arange(2 * MAX_LENGTH).float()
        turns = torch.outer(positions, angles)
        self.turns = torch.polar(torch.ones_like(turns), turns).to(self.device)
        room = (2, max_rows, MAX_LENGTH, self.heads, size)
        self.cache = [embeddings.new_zeros(room) for _ in range(self.layers)]

    def answer(self, requests: Sequence[Request], batch_size: int) -> list[str]:
        """Answer requests in their order, `batch_size` at a time."""
        texts: list[str] = []
        for start in range(0, len(requests), batch_size):
            batch = requests[start : start + batch_size]
            images = torch.stack([self._image(request) for request in batch])
            images = images.to(self.device, self.dtype)
            indicators = torch.tensor([float(bool(request.images)) for request in batch])
            prompts = [request.prompt for request in batch]
            indicators = indicators.to(self.device)
            texts += self.generate(prompts, images, indicators, batch[0].max_new_tokens)
        return texts

    def _image(self, request: Request) -> Tensor:
        side = self.vision.image_size
        if not request.images:
            return torch.zeros(3, side, side)
        process = transforms.Compose(
            [
                transforms.Resize((side, side), interpolation=Image.Resampling.BICUBIC),
                transforms.ToTensor(),
                transforms.Normalize(*PIXEL_STATISTICS[request.image_normalization]),
            ]
        )
        return process(Image.open(request.images[0]).convert("RGB"))

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[str], images: Tensor, indicators: Tensor, max_new_tokens: int
    ) -> list[str]:
        """Answer one batch greedily.

        Args:
            prompts: B prompts.
            images: (B, 3, S, S), zeros for rows without image.
            indicators: (B,) 1 for rows with an image, else 0.
            max_new_tokens: At least 1.
        """
        features = self._encode(images)
        side = math.isqrt(features.shape[1] - 1)
        grid = features[:, 1:].transpose(1, 2).reshape(len(images), -1, side, side)
        pooled = [
            features[:, 1:]
            if scale == side * side
            else F.adaptive_avg_pool2d(grid, math.isqrt(scale)).flatten(2).transpose(1, 2)
            for scale in self.fusion.scales
        ]
        visual = self.fusion.adapter_proj(torch.cat(pooled, 1))
        visual = visual * (self.fusion.beta * indicators.view(-1, 1, 1)).to(self.dtype)
        class_tokens = self.fusion.adapter_proj_cls(features[:, 0])
        rows = [
            self._row(prompt, bool(flag)) for prompt, flag in zip(prompts, indicators, strict=True)
        ]
        return self._decode(rows, indicators, visual, class_tokens, max_new_tokens)

    def _row(self, prompt: str, has_image: bool) -> list[int]:
        encode = self.tokenizer.encode
        prefix = [*encode("Image: "), 0] if has_image else encode("Image: N/A")
        return [self.tokenizer.bos_id, *prefix, *encode(prompt)]

    def _decode(
        self,
        rows: Sequence[list[int]],
        indicators: Tensor,
        visual: Tensor,
        class_tokens: Tensor,
        max_new_tokens: int,
    ) -> list[str]:
        longest = max(map(len, rows))
        total = min(MAX_LENGTH, max_new_tokens + longest)
        tokens = torch.zeros(len(rows), total, dtype=torch.long, device=self.device)
        mask = torch.full((len(rows), 1, total, total), -math.inf, device=self.device)
        mask = mask.triu(diagonal=1)
        for index, row in enumerate(rows):
            cut = row[: total - max_new_tokens]
            tokens[index, -len(cut) - max_new_tokens : -max_new_tokens] = torch.tensor(
                cut, device=self.device
            )
            mask[index, :, -len(cut) - max_new_tokens :, : -len(cut) - max_new_tokens] = -math.inf
        embeds = F.embedding(tokens, self.weights["tok_embeddings.weight"])
        at = 1 + len(self.tokenizer.encode("Image: "))
        for index, row in enumerate(rows):
            column = at - len(row) - max_new_tokens
            if indicators[index] == 1 and column >= -511:
                embeds[index, column] = class_tokens[index]
        running = torch.ones(len(rows), dtype=torch.long, device=self.device)
        previous = 0
        for current in range(min(longest, MAX_LENGTH - max_new_tokens), total):
            hidden = embeds[:, previous:current]
            part = mask[:, :, previous:current, :current]
            for layer in range(self.layers):
                hidden = self._layer(layer, hidden, previous, part, visual)
            last = _rms_norm(hidden, self.weights["norm.weight"])[:, -1]
            following = F.linear(last, self.weights["output.weight"]).float().argmax(-1)
            running *= (following != self.tokenizer.eos_id).long()
            tokens[:, current] = following
            if not running.any():
                break
            embeds[:, current] = F.embedding(following, self.weights["tok_embeddings.weight"])
            previous = current
        return [self._text(row[-max_new_tokens:]) for row in tokens.tolist()]

    def _text(self, ids: list[int]) -> str:
        end = self.tokenizer.eos_id
        return self.tokenizer.decode(ids[: ids.index(end)] if end in ids else ids)

    def _layer(self, layer: int, x: Tensor, start: int, mask: Tensor, visual: Tensor) -> Tensor:
        weight = {
            name: self.weights[f"layers.{layer}.{name}.weight"]
            for name in (
                "attention.wq", "attention.wk", "attention.wv", "attention.wo",
                "feed_forward.w1", "feed_forward.w2", "feed_forward.w3",
                "attention_norm", "ffn_norm",
            )
        }  # fmt: skip
        normed = _rms_norm(x, weight["attention_norm"])
        hidden = x + self._attention(layer, weight, normed, start, mask)
        query = _rms_norm(hidden, weight["ffn_norm"])
        gate = F.silu(F.linear(query, weight["feed_forward.w1"]))
        fed = F.linear(gate * F.linear(query, weight["feed_forward.w3"]), weight["feed_forward.w2"])
        return hidden + fed + self._fuse(query, visual) * self.fusion.alpha

    def _attention(
        self, layer: int, weight: dict[str, Tensor], x: Tensor, start: int, mask: Tensor
    ) -> Tensor:
        rows, length, _ = x.shape
        query, key, value = (
            F.linear(x, weight[f"attention.{name}"]).view(rows, length, self.heads, -1)
            for name in ("wq", "wk", "wv")
        )
        query, key = self._rotate(query, start), self._rotate(key, start)
        cached = self.cache[layer]
        cached[0, :rows, start : start + length] = key
        cached[1, :rows, start : start + length] = value
        keys = cached[0, :rows, : start + length].transpose(1, 2)
        values = cached[1, :rows, : start + length].transpose(1, 2)
        scores = query.transpose(1, 2) @ keys.transpose(2, 3) / math.sqrt(self.turns.shape[1] * 2)
        scores = F.softmax((scores + mask).float(), dim=-1).type_as(query)
        context = (scores @ values).transpose(1, 2).contiguous().view(rows, length, -1)
        return F.linear(context, weight["attention.wo"])

    def _rotate(self, x: Tensor, start: int) -> Tensor:
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        turns = self.turns[start : start + x.shape[1], None]
        return torch.view_as_real(pairs * turns).flatten(3).type_as(x)

    def _fuse(self, query: Tensor, visual: Tensor) -> Tensor:
        keys = F.silu(visual + self.fusion.adapter_emb1)
        # float32 slots make the sum float32; autocast rounds it before each product.
        scores = F.silu(query) @ keys.to(query.dtype).permute(0, 2, 1)
        ordered, _ = scores.sort(dim=2)
        threshold = ordered[:, :, int(self.fusion.drop_ratio * ordered.size(2))].unsqueeze(2)
        kept = torch.ones_like(scores)
        kept[torch.where(scores < threshold.expand_as(scores))] = 0
        scores *= kept
        return scores @ (visual + self.fusion.adapter_emb2).to(query.dtype)

    def _encode(self, images: Tensor) -> Tensor:
        """Run CLIP as its own code does: MultiheadAttention, the second norm taken twice."""
        visual = self.vision.visual
        x = visual.conv1(images).flatten(2).transpose(1, 2)
        x = torch.cat([visual.class_embedding.to(x.dtype).expand(len(x), 1, -1), x], 1)
        x = visual.ln_pre(x + visual.positional_embedding.to(x.dtype))
        blocks = list(visual.transformer.resblocks)[:-1]
        for block, adapter in zip(blocks, self.fusion.vision_adapters, strict=False):
            normed = block.ln_1(x)
            x = x + block.attn(normed, normed, normed, need_weights=False)[0]
            x = x + block.mlp(block.ln_2(x)) + adapter(block.ln_2(x))
        return visual.ln_post(x)


def _rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    x32 = x.float()
    return (x32 * torch.rsqrt(x32.pow(2).mean(-1, keepdim=True) + 1e-6)).type_as(x) * weight
