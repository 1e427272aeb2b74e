"""Frozen language models that outgrow one GPU: each process keeps a part of every layer (FSDP2).

A layer's weights are gathered when its turn comes and given up again. The adapter and the vision
tower stay whole on every process: they are small.
"""

from __future__ import annotations

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from adem_bench.models.fused.network import FusedNetwork


def shard_language_model(network: FusedNetwork, device: torch.device, world_size: int) -> None:
    """Spread the language model of a network over all processes, in place.

    Args:
        network: On the CPU, whole on every process; its other parts are moved to `device`.
        device: This process's device.
        world_size: Number of processes; their group must be there already.
    """
    mesh = init_device_mesh(device.type, (world_size,))
    llama = network.decoder.llama
    # Each part is a root of its own to FSDP, which would keep a root's weights until its backward
    # pass: hence the word on resharding.
    for layer in network.decoder.layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    for part in (llama.model.embed_tokens, llama.lm_head):
        fully_shard(part, mesh=mesh, reshard_after_forward=True)
    for module in (llama.model.norm, llama.model.rotary_emb, network.vision, network.method):
        module.to(device)
