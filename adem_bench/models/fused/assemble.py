"""Joins frozen parts and an adapter file into a network, sizes read off the adapter's tensors."""

from __future__ import annotations

from typing import Any

from adem_bench.errors import CheckpointError
from adem_bench.models.fused.methods.adem import AdemFusion
from adem_bench.models.fused.network import AdemNetwork
from adem_bench.models.fused.vision import VisionTower
from adem_bench.models.fused.weights.adapter import AdapterFile, AdapterSettings, resolve_settings
from adem_bench.schemas import FusionSettings


def build_network(
    llama: Any,
    visual: Any,
    adapter: AdapterFile,
    fusion: FusionSettings,
    eager: bool = False,
) -> AdemNetwork:
    """Return a network in evaluation mode with the adapter's weights.

    Args:
        llama: A LlamaForCausalLM; shared, not copied.
        visual: An open_clip VisionTransformer; shared, not copied.
        adapter: The tuned weights.
        fusion: Settings of the card, which go before the adapter's own.
        eager: As for `FusedDecoder`.

    Raises:
        CheckpointError: the adapter does not fit the frozen parts or the settings.
    """
    settings = resolve_settings(fusion, adapter.settings)
    network = empty_network(llama, visual, settings, eager)
    tensors = dict(adapter.tensors)
    if not settings.cls_token:
        # The card switched the class token off: its projector has nothing to do.
        tensors = {n: t for n, t in tensors.items() if not n.startswith("adapter_proj_cls.")}
    network.load_adapter(tensors, str(adapter.path))
    network.fusion.to(network.decoder.device)
    network.vision.to(network.decoder.device)
    return network.eval()


def empty_network(
    llama: Any, visual: Any, settings: AdapterSettings, eager: bool = False
) -> AdemNetwork:
    """Return a network whose tuned parameters are freshly made (docs/method.md, section 7.1).

    Args:
        llama: As for `build_network`.
        visual: As for `build_network`.
        settings: alpha, beta, drop ratio, scales, sizes; none of them None.
        eager: As for `FusedDecoder`.

    Raises:
        CheckpointError: the scales do not suit the vision tower.
    """
    tower = VisionTower(visual, settings.adapter_dim or 0)
    scales = settings.scales or ()
    for scale in scales:
        if round(scale**0.5) ** 2 != scale or scale > tower.patches:
            raise CheckpointError(
                f"scale {scale} does not suit a vision tower with {tower.patches} patches; "
                "scales are square numbers up to that"
            )
    fusion = AdemFusion(
        (tower.width, llama.config.hidden_size),
        scales,
        settings.hidden_proj or 0,
        bool(settings.cls_token),
        (settings.alpha or 0.0, settings.beta or 0.0, settings.drop_ratio or 0.0),
    )
    return AdemNetwork(tower, fusion, llama, eager)
