"""Frozen weights spread over processes (FSDP2): gathered part by part, each for its turn alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from adem_bench.errors import CardError
from adem_bench.models.fused.decoder import FusedDecoder


def check_group() -> None:
    """Refuse to shard within a single process.

    Raises:
        CardError: this one has no others.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        raise CardError(
            "shard=true spreads the language model over several processes: start with `torchrun "
            "--nproc-per-node N -m adem_bench run …`, or leave it out"
        )


def spread(parts: Iterable[nn.Module], device: torch.device) -> None:
    """Spread modules over the processes of the group, in place, each gathered as it is called.

    Args:
        parts: Whole on every process.
        device: Where this process keeps its share, and gathers.
    """
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for part in parts:
        # Each part is a root of its own to FSDP, which would keep a root's weights until its
        # backward pass: hence the word on resharding.
        fully_shard(part, mesh=mesh, reshard_after_forward=True)


def spread_layer(layer: Any, device: torch.device) -> None:
    """Spread a decoder layer of transformers, in place, for `gather_in_turn`.

    Args:
        layer: Whole on every process.
        device: As for `spread`.
    """
    layer.requires_grad_(False)
    layer.with_weights = _call
    spread([layer], device)
    register_fsdp_forward_method(layer, "with_weights")


def spread_ends(llama: Any, device: torch.device) -> None:
    """Spread embedding and head of a language model; what is small, or shared by both, stays whole.

    Args:
        llama: Its layers are spread already.
        device: As for `spread`.
    """
    ends = (llama.model.embed_tokens, llama.lm_head)
    for part in (*ends, llama.model.norm):
        part.requires_grad_(False)
    if ends[0].weight is not ends[1].weight:
        spread(ends, device)
    for part in (*ends, llama.model.norm, llama.model.rotary_emb):
        part.to(device)


def gather_in_turn(decoder: FusedDecoder) -> None:
    """Have a decoder gather each layer's weights for a prompt's or a step's turn of the layer."""
    decoder.is_sharded = True
    for layer in decoder.layers:
        for name in ("forward", "step"):
            setattr(layer, name, _gathering(layer.layer, getattr(layer, name)))


def _gathering(layer: Any, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *given: layer.with_weights(function, *given)


def _call(function: Callable[..., Tensor], *given: Any) -> Tensor:
    return function(*given)


def agreed(
    choose: Callable[[Tensor, Sequence[int]], Tensor],
) -> Callable[[Tensor, Sequence[int]], Tensor]:
    """Return a choice of tokens that is the first process's: all go on with the same rows.

    Args:
        choose: As for `generate`.
    """

    def first(logits: Tensor, rows: Sequence[int]) -> Tensor:
        tokens = choose(logits, rows).contiguous()
        dist.broadcast(tokens, src=0)
        return tokens

    return first
