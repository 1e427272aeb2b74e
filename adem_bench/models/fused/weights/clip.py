"""Vision towers: a file in OpenAI's or open_clip's layout, or an open_clip name and tag."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from textwrap import shorten
from typing import Any

import open_clip
import timm
import torch
from open_clip.model import _build_vision_tower
from open_clip.timm_model import TimmModel
from open_clip.transformer import (
    LayerNorm,
    LayerNormFp32,
    QuickGELU,
    ResidualAttentionBlock,
    VisionTransformer,
)
from timm.models.vision_transformer import Block
from timm.models.vision_transformer import VisionTransformer as Trunk
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from adem_bench.errors import CheckpointError
from adem_bench.files import file_state
from adem_bench.images import PIXEL_STATISTICS
from adem_bench.models.fused.card import VisionSource
from adem_bench.models.fused.vision import TowerSizes, vision_tower
from adem_bench.models.fused.weights.published import load_plain_data
from adem_bench.models.weight_files import (
    check_file,
    complex_numbers,
    foreign_reader,
    load_tensors,
    unwrapped,
)
from adem_bench.records import ImageNormalization

MOST_POSITIONS = 1 << 16
HEAD_WIDTH = 64
"""OpenAI's layout does not store the number of heads; it is always width // 64."""
OPENAI = VisionSource().name
"""The name by default: a file is then read by OpenAI's conventions, whatever its size."""
PLAIN_SIZES = {"image_size", "patch_size", "width", "layers", "head_width", "mlp_ratio"}
"""What open_clip says of a tower in which nothing else differs from OpenAI's."""
TRUNK = "trunk."
"""What names of tensors begin with where timm has made a tower's trunk."""

DRAWING = frozenset(
    getattr(Tensor, f"{step}_")
    for step in ("uniform", "normal", "erfinv", "mul", "add", "clamp", "fill", "zero")
)
"""What initializers change a tensor with."""


def load_visual(source: VisionSource, file: Path | None, dtype: torch.dtype) -> nn.Module:
    """Return a tower in evaluation mode: a VisionTransformer of open_clip or, for SigLIP, of timm.

    In half precision, norms and embeddings stay float32 (docs/method.md, section 2.3).

    Args:
        source: The card's tower.
        file: Weights in OpenAI's or open_clip's layout; None to let open_clip find its tag.
        dtype: Precision.

    Raises:
        CheckpointError: the file or tag cannot be loaded.
    """
    return in_precision(
        _from_tag(source) if file is None else _from_file(source, file, dtype), dtype
    )


def in_precision(visual: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a tower in evaluation mode, norms and embeddings in float32 and the rest in `dtype`.

    Source: ADEM-VL cec09b8 `clip/model.py`, `convert_weights`.
    """
    visual.to(dtype)
    for module in visual.modules():
        if isinstance(module, nn.LayerNorm):
            module.float()
    for name, parameter in visual.named_parameters(recurse=False):
        if name in ("class_embedding", "positional_embedding", "pos_embed"):
            parameter.data = parameter.data.float()
    return visual.eval()


def visual_sizes(source: VisionSource, file: Path | None) -> TowerSizes | None:
    """Return a tower's sizes without its weights; None where its name does not say them.

    Args:
        source: The card's tower.
        file: Weights in OpenAI's or open_clip's layout; None for open_clip's name.

    Raises:
        CheckpointError: the file is not a tower, or not the one that is named.
    """
    return _sizes_in(source, file, None if file is None else file_state(file))


@lru_cache(maxsize=4)
def _sizes_in(source: VisionSource, file: Path | None, state: object) -> TowerSizes | None:
    """Return a tower's sizes; a run asks for them twice, and files are read whole for them."""
    if file is not None:
        if not _is_named(source):
            shapes = _sizes_of(file, _tensors(file, with_values=False))
            return TowerSizes(shapes["width"], shapes["layers"], shapes["patches"])
        return vision_tower(_from_named_file(source, file, with_values=False)).sizes
    try:
        return vision_tower(_checked(source, _untrained(source))).sizes
    except CheckpointError:
        return None  # what loads it says so


def pixel_statistics(source: VisionSource, file: Path | None) -> ImageNormalization:
    """Return the pixel statistics that a tower was trained with.

    Args:
        source: The card's tower.
        file: Its weights; None to let open_clip find its tag.

    Raises:
        CheckpointError: they are none of those that are known here.
    """
    trained = {} if file is not None and not _is_named(source) else _tag(source)
    trunk = _vision_config(source).get("timm_model_name")
    if trained:
        found = (tuple(trained["mean"]), tuple(trained["std"]))
    elif trunk and (known := timm.get_pretrained_cfg(trunk)):
        found = (tuple(known.mean), tuple(known.std))
    else:
        return "clip"
    for name, statistics in PIXEL_STATISTICS.items():
        if statistics == found:
            return name
    raise CheckpointError(
        f"{source.name} with tag {source.pretrained!r} was trained with pixel statistics {found}, "
        f"which image_normalization=tower does not know; choose one of "
        f"{', '.join(PIXEL_STATISTICS)}"
    )


def reading_of_file(source: VisionSource) -> str:
    """Return how a file's weights are computed; nothing if by OpenAI's conventions, as once all.

    Fingerprints rest on it: the same file under another name or tag may be another tower.

    Args:
        source: The card's tower.

    Raises:
        CheckpointError: name and tag contradict each other.
    """
    if not _is_named(source):
        return ""
    config, quick = _vision_config(source), _is_quick(source)
    is_openai = quick and config.get("head_width", HEAD_WIDTH) == HEAD_WIDTH
    if is_openai and config.keys() <= PLAIN_SIZES:
        return ""
    return f"{source.name} {'QuickGELU' if quick else 'GELU'}"


def _is_named(source: VisionSource) -> bool:
    return source.name != OPENAI


def _vision_config(source: VisionSource) -> Mapping[str, Any]:
    """Return open_clip's configuration of a tower; nothing of a name that it does not know."""
    found = _model_config(source).get("vision_cfg")
    return found if isinstance(found, dict) else {}


def _model_config(source: VisionSource) -> Mapping[str, Any]:
    """Return open_clip's configuration of a tower and its text side; nothing of an unknown name.

    Raises:
        CheckpointError: the name is that of a place (`hf-hub:…`), where there is none.
    """

    def unknown(reason: str) -> CheckpointError:
        return CheckpointError(
            f"open_clip has no architecture {source.name!r:.99} (vision.name): {reason}"
        )

    with foreign_reader(unknown):
        return dict(open_clip.get_model_config(source.name) or {})


def _tag(source: VisionSource) -> Mapping[str, Any]:
    """Return what open_clip knows of a tag's training; nothing of a tag that it does not know."""
    found: Mapping[str, Any] = open_clip.get_pretrained_cfg(source.name, source.pretrained)
    return found


def _is_quick(source: VisionSource) -> bool:
    """Return whether the tower computes QuickGELU, by its tag or else by its name.

    Raises:
        CheckpointError: the name says so, and the tag's weights were trained with GELU.
    """
    quick: bool = _tag(source).get("quick_gelu", False)
    is_named_so: bool = _model_config(source).get("quick_gelu", False)
    if _tag(source) and is_named_so and not quick:
        raise CheckpointError(
            f"{source.name} computes QuickGELU, and the weights of tag {source.pretrained!r} were "
            f"trained with GELU; set vision.name={source.name.removesuffix('-quickgelu')}"
        )
    return quick or is_named_so


def _from_tag(source: VisionSource) -> nn.Module:
    try:
        # Without this, open_clip builds plain GELU for weights that had the quick one, and the
        # other way round, and merely warns.
        model = open_clip.create_model(
            source.name, pretrained=source.pretrained, force_quick_gelu=_is_quick(source)
        )
    except (RuntimeError, OSError, ValueError) as error:
        raise CheckpointError(
            f"open_clip cannot load {source.name} with tag {source.pretrained!r} ({error}); "
            "without a network, name a file with the same weights in the card's vision.path"
        ) from error
    return _checked(source, model.visual)


class _Undrawn(TorchFunctionMode):
    """Leaves out the drawing of values without memory, most of the time of making timm's towers."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do what is asked, but for the steps of drawing."""
        if func in DRAWING and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


def _untrained(source: VisionSource) -> nn.Module:
    """Return a tower by its name, without memory for its weights.

    Raises:
        CheckpointError: open_clip knows no such name, or cannot make it.
    """
    config = _model_config(source)
    if not config:
        raise CheckpointError(f"open_clip has no architecture {source.name!r} (vision.name)")

    def unmakable(reason: str) -> CheckpointError:
        return CheckpointError(f"open_clip cannot make the tower {source.name}: {reason}")

    # What `create_model` makes a tower with: that one makes the text side too.
    with foreign_reader(unmakable), torch.device("meta"), _Undrawn():
        visual: nn.Module = _build_vision_tower(
            config["embed_dim"], config["vision_cfg"], _is_quick(source)
        )
    return visual


def _checked(source: VisionSource, visual: nn.Module) -> nn.Module:
    """Return what computes the blocks of a tower of open_clip.

    Raises:
        CheckpointError: they are not those that methods can run.
    """
    if isinstance(visual, TimmModel) and isinstance(visual.trunk, Trunk):
        visual = visual.trunk
        is_plain = not visual.num_prefix_tokens and not visual.dynamic_img_size
        known = is_plain and visual.pos_embed is not None and all(map(_is_plain, visual.blocks))
    elif isinstance(visual, VisionTransformer):
        blocks = visual.transformer.resblocks
        # An attention pool's norm is not one of the blocks' states.
        known = visual.attn_pool is None and all(type(b) is ResidualAttentionBlock for b in blocks)
    else:
        raise CheckpointError(
            f"{source.name} is not a plain vision transformer, which methods need; name one in the "
            "card's vision.name (ViT-L-14-quickgelu is the published one)"
        )
    patches = vision_tower(visual).patches
    if not known or math.isqrt(patches) ** 2 != patches:
        raise CheckpointError(
            f"the blocks of {source.name} are not those of CLIP or SigLIP, which methods need; "
            "name another tower in the card's vision.name"
        )
    return visual


def _is_plain(block: nn.Module) -> bool:
    """Return whether a block of timm has its two norms and no others."""
    norms = sum(isinstance(module, nn.LayerNorm) for module in block.modules())
    return type(block) is Block and norms == 2


def _from_file(source: VisionSource, file: Path, dtype: torch.dtype) -> nn.Module:
    if _is_named(source):
        return _from_named_file(source, file)
    tensors = _tensors(file)
    sizes = _sizes_of(file, tensors)
    width, patch = sizes["width"], sizes["patch"]
    with foreign_reader(lambda reason: _not_clip(file, reason)):
        with torch.device("meta"):  # values that are drawn only to be replaced take seconds
            visual: nn.Module = VisionTransformer(
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
        visual.to_empty(device="cpu").load_state_dict(tensors)
    return visual


def _from_named_file(source: VisionSource, file: Path, with_values: bool = True) -> nn.Module:
    """Return the tower that the card names, with a file's weights.

    Args:
        source: The card's tower.
        file: Its weights.
        with_values: As for `_tensors`.

    Raises:
        CheckpointError: they are not of that tower, or nothing says how they were trained.
    """
    visual = _untrained(source)
    if isinstance(visual, VisionTransformer) and not _tag(source):
        known = ", ".join(open_clip.list_pretrained_tags_by_model(source.name)) or "none"
        raise CheckpointError(
            f"nothing says whether {file} was trained with GELU or QuickGELU: open_clip has no "
            f"tag {source.pretrained!r} of {source.name}; set vision.pretrained to the tag that "
            f"the weights are of or began as (it has {known})"
        )
    tensors = _tensors(file, with_values)
    try:
        visual.load_state_dict(tensors, assign=True)
    except (RuntimeError, ValueError, LookupError, AttributeError) as error:
        raise CheckpointError(
            f"{file} does not hold the tower {source.name} of vision.name (visual.…): "
            f"{shorten(str(error).strip().splitlines()[-1], 200, placeholder=' …')}"
        ) from error
    return _checked(source, visual)


def _tensors(file: Path, with_values: bool = True) -> dict[str, Tensor]:
    """Return the tensors of a file's tower.

    Args:
        file: The file.
        with_values: Whether more than their shapes is asked for: a gigabyte need not be read.
    """
    read = _read(file, with_values)
    # open_clip's trainer puts `module.` before every name.
    named = {name.removeprefix("module."): tensor for name, tensor in read.items()}
    return {
        name.removeprefix("visual."): tensor
        for name, tensor in named.items()
        if name.startswith("visual.")
    }


def _sizes_of(file: Path, tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Return a tower's sizes by its tensors.

    Raises:
        CheckpointError: it has no class token, or they are not those of a tower.
    """
    if any(name.startswith(TRUNK) for name in tensors):
        raise CheckpointError(
            f"{file} is a tower that timm has made (visual.trunk.…), whose file does not say its "
            "heads; name its architecture in vision.name, as open_clip calls it (ViT-B-16-SigLIP, "
            "…)"
        )
    try:
        width, _, _, patch = tensors["conv1.weight"].shape
        positions = tensors["positional_embedding"].shape[0]
    except KeyError as error:
        raise _not_clip(file, f"it has no tensor visual.{error.args[0]}") from error
    except (LookupError, ValueError) as error:
        raise _not_clip(file, str(error)) from error
    if min(width, patch, positions) < 1 or positions > MOST_POSITIONS:
        raise _not_clip(file, f"its tower is {width} wide, with {positions} positions")
    if "class_embedding" not in tensors:
        raise CheckpointError(
            f"{file} has no class token (visual.class_embedding), which a tower in OpenAI's layout "
            "has; name the architecture of another one in vision.name"
        )
    layers = sum(name.endswith("attn.in_proj_weight") for name in tensors)
    return {"width": width, "patch": patch, "patches": positions - 1, "layers": layers}


def _not_clip(file: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{file} is not a CLIP vision transformer in OpenAI's layout (visual.…): {reason}"
    )


def _read(file: Path, with_values: bool) -> Mapping[str, Tensor]:
    if file.suffix == ".safetensors":
        return load_tensors(file)
    check_file(file)
    if _is_torchscript(file):
        # OpenAI's own files are TorchScript archives, whose loader runs no Python.
        with foreign_reader(lambda reason: _not_clip(file, reason)):
            state: Mapping[str, Tensor] = torch.jit.load(  # type: ignore[no-untyped-call]
                file, map_location="cpu" if with_values else "meta"
            ).state_dict()
        for name, tensor in state.items():
            if tensor.is_complex():
                raise complex_numbers(file, name)
        return state
    # Files in PyTorch's first format cannot be mapped.
    data = load_plain_data(file, mmap=not with_values and zipfile.is_zipfile(file))
    found = data.get("state_dict", data) if isinstance(data, dict) else {}
    named = found.items() if isinstance(found, dict) else ()
    return unwrapped({name: part for name, part in named if isinstance(part, Tensor)}, file)


def _is_torchscript(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False  # its reader says what is wrong
