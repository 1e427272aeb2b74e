"""CLIP image towers: a file in OpenAI's layout, or an open_clip name and tag."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transformer import (
    LayerNorm,
    LayerNormFp32,
    QuickGELU,
    ResidualAttentionBlock,
    VisionTransformer,
)
from safetensors.torch import load_file
from torch import Tensor, nn

from adem_bench.errors import CheckpointError
from adem_bench.images import PIXEL_STATISTICS
from adem_bench.models.fused.card import VisionSource
from adem_bench.models.fused.weights.published import load_plain_data
from adem_bench.records import ImageNormalization

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


@dataclass(frozen=True, slots=True)
class VisualSizes:
    """The sizes of a vision tower."""

    width: int
    blocks: int
    patches: int


def visual_sizes(source: VisionSource, file: Path | None) -> VisualSizes | None:
    """Return a tower's sizes without making one; None where its name does not say them.

    Args:
        source: The card's tower.
        file: Weights in OpenAI's layout; None for open_clip's name.

    Raises:
        CheckpointError: the file is not a tower.
    """
    if file is not None:
        shapes = _sizes_of(file, _tensors(file))
        return VisualSizes(shapes["width"], shapes["layers"], shapes["patches"])
    config = (open_clip.get_model_config(source.name) or {}).get("vision_cfg", {})
    found = [config.get(name) for name in ("width", "layers", "image_size", "patch_size")]
    if not all(isinstance(size, int) for size in found):
        return None  # not a plain vision transformer: what loads it says so
    width, layers, image, patch = found
    return VisualSizes(width, layers, (image // patch) ** 2)


def pixel_statistics(source: VisionSource, file: Path | None) -> ImageNormalization:
    """Return the pixel statistics that a tower was trained with.

    Args:
        source: The card's tower.
        file: Weights in OpenAI's layout, whose statistics are CLIP's; None for open_clip's tag.

    Raises:
        CheckpointError: they are none of those that are known here.
    """
    trained = {} if file is not None else _tag(source)
    if not trained:
        return "clip"
    found = (tuple(trained["mean"]), tuple(trained["std"]))
    for name, statistics in PIXEL_STATISTICS.items():
        if statistics == found:
            return name
    raise CheckpointError(
        f"{source.name} with tag {source.pretrained!r} was trained with pixel statistics {found}, "
        f"which image_normalization=tower does not know; choose one of "
        f"{', '.join(PIXEL_STATISTICS)}"
    )


def _tag(source: VisionSource) -> Mapping[str, Any]:
    """Return what open_clip knows of a tag's training; nothing of a tag that it does not know."""
    found: Mapping[str, Any] = open_clip.get_pretrained_cfg(source.name, source.pretrained)
    return found


def _from_tag(source: VisionSource) -> VisionTransformer:
    # Without this, open_clip builds plain GELU for weights that had the quick one, and the other
    # way round, and merely warns.
    force_quick_gelu = bool(_tag(source).get("quick_gelu"))
    is_quick = (open_clip.get_model_config(source.name) or {}).get("quick_gelu", False)
    if _tag(source) and is_quick and not force_quick_gelu:
        raise CheckpointError(
            f"{source.name} computes QuickGELU, and the weights of tag {source.pretrained!r} were "
            f"trained with GELU; set vision.name={source.name.removesuffix('-quickgelu')}"
        )
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
        raise CheckpointError(
            f"{source.name} has no vision transformer with a class token, which methods need; name "
            "one that has in the card's vision.name (ViT-L-14-quickgelu is the published one)"
        )
    if not all(type(block) is ResidualAttentionBlock for block in visual.transformer.resblocks):
        raise CheckpointError(
            f"the blocks of {source.name} are not those of CLIP, which methods need; name another "
            "tower in the card's vision.name"
        )
    return visual


def _from_file(file: Path, dtype: torch.dtype) -> VisionTransformer:
    tensors = _tensors(file)
    sizes = _sizes_of(file, tensors)
    width, patch = sizes["width"], sizes["patch"]
    try:
        visual = VisionTransformer(
            image_size=patch * math.isqrt(sizes["patches"]),
            patch_size=patch,
            width=width,
            layers=sizes["layers"],
            heads=max(1, width // HEAD_WIDTH),
            mlp_ratio=tensors["transformer.resblocks.0.mlp.c_fc.weight"].shape[0] / width,
            output_dim=tensors["proj"].shape[1],
            act_layer=QuickGELU,
            norm_layer=LayerNorm if dtype == torch.float32 else LayerNormFp32,
        )
        visual.load_state_dict(tensors)
    except (KeyError, RuntimeError) as error:
        raise _not_clip(file, error) from error
    return visual


def _tensors(file: Path) -> dict[str, Tensor]:
    return {
        name.removeprefix("visual."): tensor
        for name, tensor in _read(file).items()
        if name.startswith("visual.")
    }


def _sizes_of(file: Path, tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Return a tower's sizes by its tensors.

    Raises:
        CheckpointError: it has no class token, or they are not those of a tower.
    """
    try:
        width, _, _, patch = tensors["conv1.weight"].shape
        positions = tensors["positional_embedding"].shape[0]
    except (KeyError, ValueError) as error:
        raise _not_clip(file, error) from error
    if "class_embedding" not in tensors:
        raise CheckpointError(
            f"{file} has no class token (visual.class_embedding), which methods need; use a CLIP "
            "tower that has one, such as OpenAI's ViT-L/14"
        )
    layers = sum(name.endswith("attn.in_proj_weight") for name in tensors)
    return {"width": width, "patch": patch, "patches": positions - 1, "layers": layers}


def _not_clip(file: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{file} is not a CLIP vision transformer in OpenAI's layout (visual.…): {error}"
    )


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
