"""The processes that train together: sums over them, and frozen weights spread over them (FSDP2).

A sharded layer's weights are gathered when its turn comes and given up again. The adapter and the
vision tower stay whole on every process: they are small.
"""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.fsdp import fully_shard

from adem_bench.models.fused.network import FusedNetwork
from adem_bench.runner.distributed import PATIENCE, Processes, reaching_the_others

T = TypeVar("T")


class ProcessGroup:
    """PyTorch's process group where there are several processes; nothing to do for one."""

    def __init__(self, processes: Processes, device: torch.device) -> None:
        """Join the group through the store that torchrun's environment variables name."""
        self.rank, self.world_size = processes.rank, processes.world_size
        self._device = device
        if device.type == "cuda":
            torch.cuda.set_device(device)  # where collective operations without a tensor run
        self._is_ours = processes.store is not None and not dist.is_initialized()
        if self._is_ours:
            assert processes.store is not None
            with reaching_the_others():
                dist.init_process_group(
                    "nccl" if device.type == "cuda" else "gloo",
                    store=PrefixStore("training", processes.store),
                    rank=self.rank,
                    world_size=self.world_size,
                    # The others wait while the first one scores.
                    timeout=PATIENCE,
                )

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0

    def all_reduce(self, tensor: Tensor) -> None:
        """Replace a tensor of any shape by its sum over all processes."""
        if self.world_size > 1:
            with reaching_the_others():
                dist.all_reduce(tensor)

    def broadcast(self, value: T) -> T:
        """Return the first process's value on every process; it is pickled on the way."""
        if self.world_size == 1:
            return value
        box = [value]
        with reaching_the_others():
            dist.broadcast_object_list(box, src=0, device=self._device)
        return box[0]

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.world_size > 1:
            self.all_reduce(torch.zeros(1, device=self._device))

    def close(self) -> None:
        """Leave the group, unless it was there before."""
        if self._is_ours and dist.is_initialized():
            dist.destroy_process_group()


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
