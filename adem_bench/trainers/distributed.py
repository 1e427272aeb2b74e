"""The processes that train together: sums over them, and frozen weights spread over them (FSDP2).

A sharded layer's weights are gathered when its turn comes and given up again. The adapter and the
vision tower stay whole on every process: they are small.
"""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from adem_bench.models.fused.network import FusedNetwork
from adem_bench.models.fused.sharding import spread
from adem_bench.runner.distributed import (
    Processes,
    join_process_group,
    leave_process_group,
    reaching_the_others,
)

T = TypeVar("T")


class ProcessGroup:
    """PyTorch's process group where there are several processes; nothing to do for one."""

    def __init__(self, processes: Processes, device: torch.device) -> None:
        """Join the group through the store that torchrun's environment variables name."""
        self.rank, self.world_size = processes.rank, processes.world_size
        self._device = device
        self._is_ours = join_process_group(processes, device)

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
        if self._is_ours:
            leave_process_group()


def shard_language_model(network: FusedNetwork, device: torch.device) -> None:
    """Spread the language model of a network over all processes, in place.

    Args:
        network: On the CPU, whole on every process; its other parts are moved to `device`.
        device: This process's device. The processes' group must be there already.
    """
    llama = network.decoder.llama
    spread([*network.decoder.layers, llama.model.embed_tokens, llama.lm_head], device)
    for module in (llama.model.norm, llama.model.rotary_emb, network.vision, network.method):
        module.to(device)
