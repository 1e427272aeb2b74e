"""Sharding in a group of one; tests/trainers/test_processes.py has two processes."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from adem_bench.trainers.batch_sampler import MicroBatch
from adem_bench.trainers.data_loader import BatchLoader
from adem_bench.trainers.distributed import shard_language_model


@pytest.fixture
def group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group")
def test_weights_are_given_up_after_each_use_and_gradients_stay(
    make_network, make_dataset, pairs, image_tokens_at
):
    plain, sharded = make_network(), make_network()
    shard_language_model(sharded, torch.device("cpu"))
    (batch,) = BatchLoader(make_dataset(pairs), 224, 0)[MicroBatch(0, 0, (0, 1, 2, 3))].parts
    losses = [network.loss(batch, image_tokens_at) for network in (plain, sharded)]
    frozen = list(sharded.decoder.llama.parameters())
    whole = [p for p in frozen if not isinstance(p, DTensor)]
    # The final norm is small and stays whole; a layer that was not given up would be here too.
    assert [tuple(p.shape) for p in whole] == [(64,)]
    for loss in losses:
        loss.backward()
    tensors = sharded.method.adapter_tensors()
    for name, tensor in plain.method.adapter_tensors().items():
        if tensor.grad is not None:
            torch.testing.assert_close(tensors[name].grad, tensor.grad, atol=1e-6, rtol=0)
