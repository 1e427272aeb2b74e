"""Tiny vision towers with random weights, one of each kind, under names that open_clip knows.

The names are known within this process. Sizes: 16, 16, 36, 16 and 9 patches, four blocks each.
"""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

import open_clip
import timm
import torch
from open_clip.transformer import QuickGELU, VisionTransformer
from safetensors.torch import save_file
from timm.layers import LayerNorm
from timm.models.vision_transformer import VisionTransformer as Trunk
from torch import nn

CONFIGS = Path(__file__).parents[1] / "fixtures" / "towers"
NAMES = {
    "openai": "",
    "laion": "tiny-laion",
    "layer_scale": "tiny-layer-scale",
    "siglip": "tiny-siglip",
    "siglip2": "tiny-siglip2",
}
"""Kind of tower to open_clip's name of it; OpenAI's file needs none."""
KINDS = tuple(NAMES)
TAG = "drawn"
BLOCKS = 4


def vit_tiny_patch14_siglip_60(pretrained=False, **more):
    """SigLIP's trunk at toy size: as in that of 384 pixels, a rest behind the last patch."""
    return _trunk(img_size=60, patch_size=14, **more)


def vit_tiny_patch16_siglip_48(pretrained=False, **more):
    """SigLIP2's trunk at toy size, with the activation of its larger ones."""
    return _trunk(img_size=48, patch_size=16, act_layer="gelu_tanh", **more)


def _trunk(**more):
    given = {
        "embed_dim": 64, "depth": BLOCKS, "num_heads": 4, "mlp_ratio": 2.0, "class_token": False,
        "norm_layer": partial(LayerNorm, eps=1e-6),
    }  # fmt: skip
    allowed = ("num_classes", "global_pool", "img_size", "patch_size", "act_layer")
    return Trunk(**given, **{name: more[name] for name in allowed if name in more})


@cache
def know_names() -> None:
    """Make the names and the tag known to open_clip and timm."""
    for make in (vit_tiny_patch14_siglip_60, vit_tiny_patch16_siglip_48):
        timm.models.register_model(make)
    open_clip.add_model_config(CONFIGS)
    siglip = open_clip.get_pretrained_cfg("ViT-B-16-SigLIP", "webli")
    clip = open_clip.get_pretrained_cfg("ViT-H-14", "laion2b_s32b_b79k")
    for name in filter(None, NAMES.values()):
        known = siglip if "siglip" in name else clip
        open_clip.pretrained._PRETRAINED[name] = {TAG: {**known, "url": "", "hf_hub": ""}}


def tiny_visual(kind: str, seed: int = 0) -> nn.Module:
    """Return open_clip's own module of a tower, every parameter drawn."""
    know_names()
    torch.manual_seed(seed)
    if NAMES[kind]:
        visual = open_clip.create_model(NAMES[kind], pretrained=None).visual
    else:
        visual = VisionTransformer(
            image_size=56, patch_size=14, width=64, layers=BLOCKS, heads=1, mlp_ratio=2.0,
            output_dim=32, act_layer=QuickGELU,
        )  # fmt: skip
    with torch.no_grad():
        for parameter in visual.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return visual.eval()


def write_tower(kind: str, folder: Path, seed: int = 0) -> dict[str, str]:
    """Write a tower's weights in open_clip's layout, once; return `vision` of a model's card.

    Args:
        kind: One of `KINDS`.
        folder: Where the file is put.
        seed: Of its weights.
    """
    file = folder / f"{kind}-{seed}.safetensors"
    if file.is_file():
        know_names()
    else:
        state = tiny_visual(kind, seed).state_dict()
        save_file({f"visual.{name}": tensor.contiguous() for name, tensor in state.items()}, file)
    if not NAMES[kind]:
        return {"path": str(file), "pretrained": ""}
    return {"path": str(file), "name": NAMES[kind], "pretrained": TAG}
