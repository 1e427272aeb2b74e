"""A mid-size ADEM-VL model with random weights, written in the published on-disk formats.

512 wide with 8 layers and a CLIP tower 512 wide with 8 blocks: large enough that matrix products
take more than half of the published loop's time.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from torch import Tensor

TOKENIZER = Path(__file__).parents[1] / "tests/fixtures/parity/weights/tokenizer.model"
WIDTH, LAYERS, HEADS, MULTIPLE_OF, VOCABULARY = 512, 8, 8, 32, 600
CLIP_WIDTH, CLIP_BLOCKS, PATCH, SIDE = 512, 8, 14, 16
ADAPTER_DIM, HIDDEN_PROJ, SCALES = 12, 128, (256, 64)


def write_model(folder: Path, seed: int = 0, vocabulary: int = VOCABULARY) -> Path:
    """Write weights, tokenizer, CLIP, adapter and a model card; return the card's path.

    The tokenizer has 600 pieces; a larger `vocabulary` makes embedding and head as large as theirs.

    Args:
        folder: Where to.
        seed: The same one gives the same weights.
        vocabulary: Rows of embedding and head.
    """
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int, scale: float | None = None) -> Tensor:
        spread = shape[-1] ** -0.5 if scale is None else scale
        return torch.randn(*shape, generator=generator) * spread

    language = folder / "llama" / "mid"
    language.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(TOKENIZER, language.parent / "tokenizer.model")
    params = {
        "dim": WIDTH, "n_layers": LAYERS, "n_heads": HEADS, "multiple_of": MULTIPLE_OF,
        "norm_eps": 1e-6, "vocab_size": -1,
    }  # fmt: skip
    (language / "params.json").write_text(json.dumps(params))
    torch.save(_language(random, vocabulary), language / "consolidated.00.pth")
    torch.save(_vision(random), folder / "clip.pt")
    arguments = argparse.Namespace(
        alpha=0.1, beta=0.01, drop_ratio=0.1, down_sample_num=list(SCALES)
    )
    torch.save({"model": _adapter(random), "args": arguments}, folder / "adapter.pth")
    card = {
        "language_model": {"path": "llama/mid"},
        "vision": {"path": "clip.pt", "pretrained": ""},
        "adapters": {"default": {"path": "adapter.pth"}},
    }
    path = folder / "mid.yaml"
    path.write_text(yaml.safe_dump(card))
    return path


def _language(random: Callable[..., Tensor], vocabulary: int) -> dict[str, Tensor]:
    hidden = MULTIPLE_OF * -(-(2 * 4 * WIDTH // 3) // MULTIPLE_OF)
    tensors = {
        "tok_embeddings.weight": random(vocabulary, WIDTH, scale=0.05),
        "norm.weight": torch.ones(WIDTH),
        "output.weight": random(vocabulary, WIDTH),
    }
    for layer in range(LAYERS):
        tensors |= {
            f"layers.{layer}.{name}.weight": tensor
            for name, tensor in {
                **{f"attention.{w}": random(WIDTH, WIDTH) for w in ("wq", "wk", "wv", "wo")},
                "feed_forward.w1": random(hidden, WIDTH),
                "feed_forward.w2": random(WIDTH, hidden),
                "feed_forward.w3": random(hidden, WIDTH),
                "attention_norm": torch.ones(WIDTH),
                "ffn_norm": torch.ones(WIDTH),
            }.items()
        }
    return tensors


def _vision(random: Callable[..., Tensor]) -> dict[str, Tensor]:
    tensors = {
        "conv1.weight": random(CLIP_WIDTH, 3, PATCH, PATCH, scale=0.02),
        "class_embedding": random(CLIP_WIDTH, scale=0.02),
        "positional_embedding": random(SIDE * SIDE + 1, CLIP_WIDTH, scale=0.02),
        "proj": random(CLIP_WIDTH, CLIP_WIDTH),
    }
    for norm in ("ln_pre", "ln_post"):
        tensors |= _norm(norm)
    for block in range(CLIP_BLOCKS):
        at = f"transformer.resblocks.{block}"
        tensors |= {
            f"{at}.attn.in_proj_weight": random(3 * CLIP_WIDTH, CLIP_WIDTH),
            f"{at}.attn.in_proj_bias": random(3 * CLIP_WIDTH, scale=0.02),
            f"{at}.attn.out_proj.weight": random(CLIP_WIDTH, CLIP_WIDTH),
            f"{at}.attn.out_proj.bias": random(CLIP_WIDTH, scale=0.02),
            f"{at}.mlp.c_fc.weight": random(4 * CLIP_WIDTH, CLIP_WIDTH),
            f"{at}.mlp.c_fc.bias": random(4 * CLIP_WIDTH, scale=0.02),
            f"{at}.mlp.c_proj.weight": random(CLIP_WIDTH, 4 * CLIP_WIDTH),
            f"{at}.mlp.c_proj.bias": random(CLIP_WIDTH, scale=0.02),
            **_norm(f"{at}.ln_1"),
            **_norm(f"{at}.ln_2"),
        }
    return {f"visual.{name}": tensor for name, tensor in tensors.items()}


def _norm(name: str) -> dict[str, Tensor]:
    return {f"{name}.weight": torch.ones(CLIP_WIDTH), f"{name}.bias": torch.zeros(CLIP_WIDTH)}


def _adapter(random: Callable[..., Tensor]) -> dict[str, Tensor]:
    slots = sum(SCALES)
    tensors = {
        "adapter_emb1": random(1, slots, WIDTH, scale=0.5),
        "adapter_emb2": random(1, slots, WIDTH, scale=0.05),
    }
    for block in range(CLIP_BLOCKS):
        at = f"backbone.visual.transformer.resblocks.{block}.adapter_mlp"
        tensors[f"{at}.fc1.weight"] = random(ADAPTER_DIM, CLIP_WIDTH)
        tensors[f"{at}.fc2.weight"] = random(CLIP_WIDTH, ADAPTER_DIM)
    for name in ("adapter_proj", "adapter_proj_cls"):
        tensors |= {
            f"{name}.fc1.weight": random(HIDDEN_PROJ, CLIP_WIDTH),
            f"{name}.fc1.bias": random(HIDDEN_PROJ, scale=0.02),
            f"{name}.fc2.weight": random(WIDTH, HIDDEN_PROJ),
            f"{name}.fc2.bias": random(WIDTH, scale=0.02),
        }
    return {f"module.{name}": tensor for name, tensor in tensors.items()}
