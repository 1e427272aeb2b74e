"""An ADEM-VL model of any size with random weights, made on the device: no weight file is read.

Its tokenizer is the one of 600 pieces that the tests use, and its texts are the numbers of tokens:
random weights choose among all rows of the output head.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from open_clip.transformer import LayerNorm, LayerNormFp32, QuickGELU, VisionTransformer
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from adem_bench.models.base import ModelOptions
from adem_bench.models.device import count_parameters, pick_device
from adem_bench.models.fused.backbone import (
    FrozenFiles,
    FrozenParts,
    language_model_signature,
    pick_dtype,
    vision_signature,
)
from adem_bench.models.fused.card import FusedCard
from adem_bench.models.fused.methods.adem import AdemSettings, AdemVl
from adem_bench.models.fused.model import FusedModel
from adem_bench.models.fused.network import build_network
from adem_bench.models.fused.tokenizer import SentencePieceTokenizer
from adem_bench.models.fused.weights.clip import in_precision
from adem_bench.models.fused.weights.llama_layout import (
    empty_llama,
    llama_tensors,
    to_interleaved_rotation,
)

TOKENIZER = Path(__file__).parents[1] / "tests/fixtures/parity/weights/tokenizer.model"


@dataclass(frozen=True)
class Shape:
    """Sizes of language model and vision tower."""

    name: str
    width: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int = 32_000
    vision_width: int = 1024
    vision_blocks: int = 24

    @property
    def config(self) -> LlamaConfig:
        """Transformers' configuration of the language model."""
        return LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            intermediate_size=self.feed_forward,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            rms_norm_eps=1e-6,
        )


SHAPES = {
    "7B": Shape("7B", 4096, 32, 32, 11008),
    "13B": Shape("13B", 5120, 40, 40, 13824),
    "toy": Shape("toy", 64, 2, 2, 160, vocabulary=600, vision_width=64, vision_blocks=2),
}


class Numbers(SentencePieceTokenizer):
    """The tests' tokenizer, which writes any id as its number."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the ids as numbers."""
        return " ".join(map(str, ids))


class MadeParts(FrozenParts):
    """Frozen parts with random weights."""

    def __init__(self, shape: Shape, dtype: str, device: str, adapter: Path, seed: int = 0) -> None:
        """Make them.

        Args:
            shape: Their sizes.
            dtype: Of the weights.
            device: Where they are made.
            adapter: Where the card finds one.
            seed: The same one gives the same weights on the same device.
        """
        self.card = FusedCard.model_validate(
            {
                "name": shape.name,
                "dtype": dtype,
                "language_model": {"path": f"made/{shape.name}", "hub": True},
                "image_normalization": "task",
                "adapters": {"default": {"path": str(adapter)}},
            }
        )
        self.device = pick_device(device)
        self.dtype = pick_dtype(dtype, self.device)
        self._found = FrozenFiles(self.card, None, self.dtype)
        self.tokenizer = Numbers(TOKENIZER)
        self._packs = False
        torch.manual_seed(seed)
        llama = random_llama(shape.config, self.dtype, self.device)
        signature = language_model_signature(llama)
        visual = random_tower(shape, self.dtype, self.device)
        self._visual_parameters = count_parameters(visual)
        # What loading would have put there.
        self.__dict__["_language_model"] = (llama, signature, count_parameters(llama))
        self.__dict__["_visual"] = (visual, vision_signature(visual))


def random_llama(config: LlamaConfig, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """Return a LlamaForCausalLM in evaluation mode."""
    llama = empty_llama(config).to(dtype).to_empty(device=device)
    randomize(llama)
    llama.model.rotary_emb = LlamaRotaryEmbedding(config).to(device)
    return llama.eval()


def random_tower(shape: Shape, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """Return a CLIP tower of 224 pixels in patches of 14, in evaluation mode."""
    with torch.device(device):
        visual = VisionTransformer(
            image_size=224,
            patch_size=14,
            width=shape.vision_width,
            layers=shape.vision_blocks,
            heads=shape.vision_width // 64,
            mlp_ratio=4,
            output_dim=768,
            act_layer=QuickGELU,
            norm_layer=LayerNorm if dtype == torch.float32 else LayerNormFp32,
        )
    return in_precision(visual, dtype)


@torch.no_grad()
def randomize(module: nn.Module) -> None:
    """Draw matrices so that states keep their size; vectors become 1, and biases 0."""
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(0, parameter[0].numel() ** -0.5)
        else:
            parameter.fill_(float(not name.endswith("bias")))


def made_model(shape: Shape, dtype: str, device: str, folder: Path) -> FusedModel:
    """Return the model that `adem-bench run` would make of such weights.

    Args:
        shape: Of the frozen parts.
        dtype: Of the weights.
        device: Where they are.
        folder: For the adapter, a small file: models read theirs.
    """
    adapter = folder / f"adapter-{shape.name}.pth"
    parts = MadeParts(shape, dtype, device, adapter)
    if not adapter.exists():
        write_adapter(parts, adapter)
    model = FusedModel(parts.card, ModelOptions(device), parts)
    model.load_adapter_for("task", "kind")
    return model


def renewed(model: FusedModel) -> FusedModel:
    """Return a model of the same frozen parts that remembers no image."""
    again = FusedModel(model.card, ModelOptions(str(model._frozen.device)), model._frozen)
    again.load_adapter_for("task", "kind")
    return again


def in_float32(model: FusedModel) -> FusedModel:
    """Return a model that computes with the same weights in float32; they are copied."""
    parts = copy.copy(model._frozen)
    parts.dtype = torch.float32
    for name in ("_language_model", "_visual"):
        module, *described = getattr(parts, name)
        parts.__dict__[name] = (copy.deepcopy(module).float(), *described)
    exact = FusedModel(parts.card, ModelOptions(str(parts.device)), parts)
    exact.load_adapter_for("task", "kind")
    return exact


def write_adapter(parts: MadeParts, path: Path) -> None:
    """Write an adapter of the paper's settings with random numbers in every tensor."""
    method = build_network(parts.llama, parts.visual, AdemVl, AdemSettings()).method
    generator = torch.Generator().manual_seed(1)
    scales = {"adapter_emb1": 0.5, "adapter_emb2": 0.05}
    tensors = {
        name: torch.randn(tensor.shape, generator=generator)
        * scales.get(name, 0.02 if tensor.ndim == 1 else tensor.shape[-1] ** -0.5)
        for name, tensor in method.adapter_tensors().items()
    }
    arguments = argparse.Namespace(
        alpha=method.alpha, beta=method.beta, drop_ratio=method.drop_ratio,
        down_sample_num=list(method.scales),
    )  # fmt: skip
    torch.save({"model": tensors, "args": arguments}, path)


def published_weights(llama: nn.Module) -> Mapping[str, Tensor]:
    """Return a model's weights by the names of the published layout; most are shared."""
    head_size = llama.config.head_dim
    named = dict(llama.named_parameters())
    return {
        tensor.published: to_interleaved_rotation(named[tensor.transformers], head_size)
        if tensor.rotated
        else named[tensor.transformers]
        for tensor in llama_tensors(llama.config.num_hidden_layers)
    }
