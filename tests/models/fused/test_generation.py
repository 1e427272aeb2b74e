"""Decoding: rows that leave, devices that work ahead, buffers that stay where they are."""

from __future__ import annotations

import pytest
import torch

from adem_bench.models.fused import generation
from adem_bench.models.fused.decoder import KeyValueCache
from adem_bench.models.fused.generation import generate
from adem_bench.models.fused.sequence import PromptRow
from adem_bench.models.fused.steps import StaticCache, steps_for
from adem_bench.models.sampling import RowSampler
from adem_bench.records import Decoding, Request
from support.fused import FIXTURES, tiny_network

LENGTHS = (3, 9, 5, 17, 4, 8, 11, 6, 13)
MOST = 12
ENDS = tuple(range(40))
"""So many that rows end at all steps."""


@pytest.fixture(scope="module")
def network():
    return tiny_network(FIXTURES / "parity" / "checkpoint-19.pth", "adem", eager=False)


@pytest.fixture(scope="module")
def rows():
    torch.manual_seed(4)
    return [
        PromptRow([1, *torch.randint(3, 600, (length,)).tolist()], None, 7 if length == 9 else None)
        for length in LENGTHS
    ]


@pytest.fixture(scope="module")
def memory(network):
    torch.manual_seed(5)
    with torch.inference_mode():
        return network.encode_images(torch.randn(len(LENGTHS), 3, 224, 224))


def answers(network, rows, memory, **given):
    found = generate(network.decoder, rows, memory, MOST, ENDS, **given)
    return found.ids, found.ended, found.finite


@pytest.mark.parametrize("lag", [1, 4, MOST])
def test_answers_are_the_same_however_far_a_device_works_ahead(
    network, rows, memory, lag, monkeypatch
):
    is_finished = lambda ids: len(ids) > 3 and ids[-1] % 5 == 0  # noqa: E731
    requests = [Request("a", decoding=Decoding(temperature=1.0, seed=row)) for row in range(9)]
    ways = [
        lambda: answers(network, rows, memory),
        lambda: answers(network, rows, memory, is_finished=is_finished),
        lambda: answers(network, rows, memory, choose=RowSampler(requests)),
    ]
    waiting = [way() for way in ways]
    assert len({len(ids) for ids in waiting[0][0]}) > 1
    monkeypatch.setitem(generation.LAG, "cpu", lag)
    assert [way() for way in ways] == waiting


def test_a_row_ends_at_its_own_limit(network, rows, memory):
    ids, ended, _ = answers(network, rows, memory, choose=lambda x, rows: 100 + 0 * x.argmax(-1))
    assert [len(row) for row in ids] == [7 if length == 9 else MOST for length in LENGTHS]
    assert ended == [False] * len(rows)


def test_numbers_that_are_not_finite_count_before_a_rows_end_and_not_behind_it(
    network, rows, memory, monkeypatch
):
    """Row 0 has ended when both it and row 1 are broken in the second step."""
    step = iter(range(MOST))
    real = type(network.decoder).logits

    def logits(hidden):
        out = real(network.decoder, hidden).clone()
        now = next(step)
        out[..., 100] = 1e4
        if now == 0:
            out[0, ..., 5] = 1e5
        if now == 1:  # both are still there, and leave then
            out[:2, ..., 5] = torch.nan
        return out

    monkeypatch.setattr(network.decoder, "logits", logits)
    ids, ended, finite = answers(network, rows, memory)
    assert (ids[0], ended[0]) == ([], True)
    assert finite == [True, False] + [True] * 7


def test_a_cache_in_fixed_buffers_gives_the_same_logits(network, rows, memory):
    """What a CUDA graph is recorded of, run as it is: more rows and columns than are in use."""
    decoder = network.decoder
    lengths = [len(row.ids) for row in rows]
    columns, room = 64, 16
    with torch.inference_mode():
        plain = steps_for(decoder, lengths, memory, MOST)
        heads, size = _heads(decoder)
        shape = (room, heads, columns, size)
        stored = [(torch.full(shape, 7.0), torch.full(shape, 7.0)) for _ in decoder.layers]
        static = StaticCache(stored, torch.zeros(room, dtype=torch.long))
        static.lengths[: len(rows)] = torch.tensor(lengths)
        padded = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(row.ids) for row in rows], batch_first=True
        )
        for cache in (plain.cache, static):
            decoder(decoder.embed(padded), memory, cache)
        wide = memory.select(torch.arange(room).clamp(max=len(rows) - 1))
        kept = list(range(len(rows)))
        for step in range(4):
            tokens = torch.arange(len(kept)) + 50 * step + 3
            expected = plain(tokens)
            filled = torch.zeros(room, dtype=torch.long)
            filled[: len(kept)] = tokens
            hidden = decoder.step(decoder.embed(filled[:, None]), wide, static)
            found = decoder.logits(hidden)[: len(kept), 0].float()
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
            if step == 1:
                places = [0, 2, 3, 7, 8]
                kept = [kept[place] for place in places]
                plain.keep(places)
                static.keep(places)
                wide = wide.select(torch.tensor([*places, *range(len(places), room)]))


def _heads(decoder):
    attention = decoder.llama.config
    return attention.num_key_value_heads, attention.head_dim


def test_a_cache_knows_its_end_without_asking_the_device():
    cache = KeyValueCache(1, [3, 5, 4], 9, "cpu")
    cache.prefill(0, torch.ones(3, 1, 5, 2), torch.ones(3, 1, 5, 2))
    column = torch.zeros(3, 1, 1, 2)
    keys, _ = cache.append(0, column, column)
    assert keys.shape[2] == cache.visible().shape[-1] == 6
    cache.advance()
    cache.keep([0, 2])
    keys, _ = cache.append(0, column[:2], column[:2])
    assert keys.shape[2] == cache.visible().shape[-1] == 6
    assert cache.lengths.tolist() == [4, 5]
