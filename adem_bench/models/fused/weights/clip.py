"""CLIP image towers: a file in OpenAI's layout, or an open_clip name and tag."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path

import open_clip
import torch
from open_clip.transformer import LayerNorm, LayerNormFp32, QuickGELU, VisionTransformer
from safetensors.torch import load_file
from torch import Tensor, nn

from adem_bench.errors import CheckpointError
from adem_bench.models.fused.card import VisionSource
from adem_bench.models.fused.weights.published import load_plain_data

HEAD_WIDTH = 64
"""OpenAI's layout does not store the number of heads; it is always width // 64."""


def load_visual(source: VisionSource, file: Path | None, dtype: torch.dtype) -> VisionTransformer:
    """Return a VisionTransformer in evaluation mode.

    In half precision, norms and embeddings stay float32 (docs/method.md, section 2.3).

    Args:
        source: The card's tower.
        file: Weights in OpenAI's layout; None to let open_clip find its tag.
        dtype: Precision.

    Raises:
        CheckpointError: the file or tag cannot be loaded.
    """
    visual = _from_tag(source) if file is None else _from_file(file, dtype)
    visual.to(dtype)
    for module in visual.modules():
        if isinstance(module, nn.LayerNorm):
            module.float()
    visual.class_embedding.data = visual.class_embedding.data.float()
    visual.positional_embedding.data = visual.positional_embedding.data.float()
    return visual.eval()


def _from_tag(source: VisionSource) -> VisionTransformer:
    # Without this, open_clip builds plain GELU for OpenAI's weights and merely warns.
    force_quick_gelu = source.pretrained == "openai"
    try:
        model = open_clip.create_model(
            source.name, pretrained=source.pretrained, force_quick_gelu=force_quick_gelu
        )
    except (RuntimeError, OSError, ValueError) as error:
        raise CheckpointError(
            f"open_clip cannot load {source.name} with tag {source.pretrained!r} ({error}); "
            "without a network, name a file with the same weights in the card's vision.path"
        ) from error
    visual = model.visual
    if not isinstance(visual, VisionTransformer):
        raise CheckpointError(f"{source.name} has no vision transformer")
    return visual


def _from_file(file: Path, dtype: torch.dtype) -> VisionTransformer:
    tensors = {
        name.removeprefix("visual."): tensor
        for name, tensor in _read(file).items()
        if name.startswith("visual.")
    }
    try:
        width, _, _, patch = tensors["conv1.weight"].shape
        positions = tensors["positional_embedding"].shape[0] - 1
        blocks = sum(name.endswith("attn.in_proj_weight") for name in tensors)
        visual = VisionTransformer(
            image_size=patch * math.isqrt(positions),
            patch_size=patch,
            width=width,
            layers=blocks,
            heads=max(1, width // HEAD_WIDTH),
            mlp_ratio=tensors["transformer.resblocks.0.mlp.c_fc.weight"].shape[0] / width,
            output_dim=tensors["proj"].shape[1],
            act_layer=QuickGELU,
            norm_layer=LayerNorm if dtype == torch.float32 else LayerNormFp32,
        )
        visual.load_state_dict(tensors)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{file} is not a CLIP vision transformer in OpenAI's layout (visual.…): {error}"
        ) from error
    return visual


def _read(file: Path) -> Mapping[str, Tensor]:
    if file.suffix == ".safetensors":
        return load_file(file)
    if _is_torchscript(file):
        # OpenAI's own files are TorchScript archives, whose loader runs no Python.
        state: Mapping[str, Tensor] = torch.jit.load(  # type: ignore[no-untyped-call]
            file, map_location="cpu"
        ).state_dict()
        return state
    data = load_plain_data(file)
    return data.get("state_dict", data) if isinstance(data, dict) else {}


def _is_torchscript(file: Path) -> bool:
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())
