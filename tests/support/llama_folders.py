"""Small language models with random weights in the published layout, for tests."""

from __future__ import annotations

import json

import torch

from adem_bench.models.fused.weights.llama_layout import LAYER_TENSORS, TOP_TENSORS


def consolidated(folder, shards=1, width=64, layers=2, heads=4, groups=4, vocabulary=50, hidden=96):
    """Write random weights in the published layout, split into shards as LLaMA's are."""
    torch.manual_seed(0)
    size = width // heads
    shapes = {
        "tok_embeddings.weight": (vocabulary, width),
        "norm.weight": (width,),
        "output.weight": (vocabulary, width),
    }
    for layer in range(layers):
        at = f"layers.{layer}"
        shapes |= {
            f"{at}.attention.wq.weight": (width, width),
            f"{at}.attention.wk.weight": (groups * size, width),
            f"{at}.attention.wv.weight": (groups * size, width),
            f"{at}.attention.wo.weight": (width, width),
            f"{at}.feed_forward.w1.weight": (hidden, width),
            f"{at}.feed_forward.w3.weight": (hidden, width),
            f"{at}.feed_forward.w2.weight": (width, hidden),
            f"{at}.attention_norm.weight": (width,),
            f"{at}.ffn_norm.weight": (width,),
        }
    tensors = {name: torch.randn(shape) * 0.1 for name, shape in shapes.items()}
    dims = {name: dim for name, (_, dim) in (TOP_TENSORS | LAYER_TENSORS).items()}
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        part = {"rope.freqs": torch.zeros(size // 2)}
        for name, tensor in tensors.items():
            dim = dims[name.split(".", 2)[2] if name.startswith("layers.") else name]
            part[name] = tensor if dim < 0 else tensor.chunk(shards, dim)[shard].clone()
        torch.save(part, folder / f"consolidated.{shard:02}.pth")
    params = {
        "dim": width,
        "n_layers": layers,
        "n_heads": heads,
        "norm_eps": 1e-6,
        "vocab_size": -1,
    }
    (folder / "params.json").write_text(json.dumps(params | {"multiple_of": 32}))
    return tensors


def logits(llama) -> torch.Tensor:
    with torch.inference_mode():
        return llama(torch.arange(1, 20)[None]).logits
