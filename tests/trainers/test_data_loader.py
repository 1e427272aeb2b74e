from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from adem_bench.signals import ENDING
from adem_bench.trainers.batch_sampler import MicroBatch
from adem_bench.trainers.data_loader import BatchLoader, prefetch_batches, worker_count

WHOLE = MicroBatch(0, 0, tuple(range(12)))


@pytest.fixture
def dataset(make_dataset, pairs):
    return make_dataset(pairs)


def test_a_micro_batch_is_whole_or_in_parts_of_like_rows(dataset):
    (whole,) = BatchLoader(dataset, 224, 0)[WHOLE].parts
    assert whole.indicators.tolist() == [int(i % 3 != 2) for i in range(12)]
    assert len(whole.images) == 8
    parts = BatchLoader(dataset, 224, 0, tokens_at_once=60)[WHOLE].parts
    assert len(parts) > 3
    for part in parts:
        assert len(set(part.indicators.tolist())) == 1
        assert part.ids.numel() <= 60 or len(part.ids) == 1
    assert sum(part.supervised for part in parts) == whole.supervised
    assert sum(part.ids.numel() for part in parts) < whole.ids.numel()


def test_parts_have_the_gradients_of_the_whole(dataset, make_network, image_tokens_at):
    gradients = []
    for tokens in (None, 60):
        network = make_network()
        parts = BatchLoader(dataset, 224, 0, tokens)[WHOLE].parts
        total = sum(part.supervised for part in parts)
        losses = [network.loss(p, image_tokens_at) * (p.supervised / total) for p in parts]
        sum(losses).backward()
        gradients.append({n: t.grad for n, t in network.method.adapter_tensors().items()})
    for name, gradient in gradients[0].items():
        if gradient is not None:
            torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4)


def test_rows_of_one_length_stay_together(dataset):
    micro = MicroBatch(0, 0, (1,) * 8)
    length = len(dataset.row(1).ids)
    parts = BatchLoader(dataset, 224, 0, tokens_at_once=3 * length)[micro].parts
    assert [len(part.ids) for part in parts] == [3, 3, 2]


def test_augmentation_follows_sample_and_epoch_alone(make_dataset, pairs):
    dataset = make_dataset(pairs, augmentation="caption")

    def pixels(epoch: int, *rows: int, seed: int = 1) -> torch.Tensor:
        return BatchLoader(dataset, 32, seed)[MicroBatch(epoch, 7, rows)].parts[0].images

    alone, among = pixels(0, 3), pixels(0, 0, 3, 1)
    assert torch.equal(alone[0], among[1])
    assert not torch.equal(alone, pixels(1, 3))
    assert not torch.equal(alone, pixels(0, 3, seed=2))


def test_where_nothing_can_be_read_a_row_stands_in(make_dataset, pairs, tmp_path):
    missing = replace(pairs[0], images=(tmp_path / "missing.png",))
    batch = BatchLoader(make_dataset([missing]), 32, 0)[MicroBatch(0, 0, (0, 0))]
    assert not batch.counts
    assert len(batch.unreadable) == 2
    (part,) = batch.parts
    assert part.indicators.tolist() == [0]
    assert "sample 0" in batch.unreadable[0]
    assert "missing.png does not exist" in batch.unreadable[0]


def test_workers_share_a_machine(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert worker_count(None, 8) == 7
    assert worker_count(None, 1) == 10
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert worker_count(None, 2) == 1
    assert worker_count(0, 1) == 0


KEPT = """
from adem_bench.trainers.data_loader import prefetch_batches

class Numbers:
    def __getitem__(self, number):
        return number

kept = prefetch_batches(Numbers(), iter(range(100)), 2, pinned=False)
print(next(kept))
"""


def test_python_ends_where_a_loader_is_kept():
    # As a traceback keeps one; workers never take the signal with which Python would end them.
    command = [sys.executable, "-c", KEPT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


class _Asking:
    """Asks its process to end, as schedulers do each of a job."""

    def __getitem__(self, number):
        for one in ENDING:
            os.kill(os.getpid(), one)
        return number


def test_workers_leave_the_end_to_their_parent():
    assert list(prefetch_batches(_Asking(), iter(range(4)), 2, pinned=False)) == [0, 1, 2, 3]
