"""Steps of decoding: a new token of each row in, logits of the next position out.

On a GPU, a step of a 7B model is some thousand kernels, and starting them takes several times as
long as running them. So a step is recorded once as a CUDA graph for a number of rows and columns,
and replayed. Its buffers stay where they are; batches are filled up to the recorded number of rows.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from adem_bench.models.fused.decoder import FusedDecoder, KeyValueCache, write_column
from adem_bench.models.fused.method import VisualMemory

LEAST_STEPS = 4
"""Fewest steps that are worth a graph: recording one takes as long as a few dozen steps."""
ROWS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128)
"""Numbers of rows that graphs are recorded for; beyond, multiples of the last."""
COLUMNS = 32
"""Graphs are recorded for multiples of this many columns of the cache."""
MOST_GRAPHS = 24


class Steps(ABC):
    """The steps of one batch."""

    cache: KeyValueCache
    """Filled by the prompts before the first step."""

    @abstractmethod
    def __call__(self, tokens: Tensor) -> Tensor:
        """Return (B, vocabulary) float32 logits after one new token of each row, (B,)."""

    @abstractmethod
    def keep(self, rows: Sequence[int]) -> None:
        """Drop every row but `rows`, which are in ascending order."""


class PlainSteps(Steps):
    """Steps that are run as they are."""

    def __init__(
        self, decoder: FusedDecoder, lengths: Sequence[int], memory: VisualMemory, capacity: int
    ) -> None:
        """Begin with an empty cache.

        Args:
            decoder: The language model with a method.
            lengths: Tokens of each row's prompt.
            memory: One entry per row, or a single one for all.
            capacity: The longest prompt and all new tokens.
        """
        self._decoder, self._memory = decoder, memory
        self.cache = KeyValueCache(len(decoder.layers), lengths, capacity, decoder.device)

    def __call__(self, tokens: Tensor) -> Tensor:
        """Run one step; see `Steps`."""
        return _logits(self._decoder, tokens, self._memory, self.cache)

    def keep(self, rows: Sequence[int]) -> None:
        """Drop every row but `rows`; see `Steps`."""
        self._memory = self._memory.select(torch.tensor(rows, device=self._decoder.device))
        self.cache.keep(rows)


def steps_for(
    decoder: FusedDecoder, lengths: Sequence[int], memory: VisualMemory, max_new_tokens: int
) -> Steps | None:
    """Return the steps of a batch whose prompts are still to be run; None for a single token.

    Args:
        decoder: The language model with a method.
        lengths: Tokens of each row's prompt.
        memory: One entry per row, or a single one for all.
        max_new_tokens: At least 1.
    """
    if max_new_tokens == 1:
        return None
    capacity = max(lengths) + max_new_tokens - 1
    plain = decoder.device.type != "cuda" or decoder.eager or decoder.is_sharded
    if plain or max_new_tokens <= LEAST_STEPS:
        return PlainSteps(decoder, lengths, memory, capacity)
    if decoder.recorded_steps is None:
        decoder.recorded_steps = RecordedSteps(decoder)
    return GraphSteps(decoder, decoder.recorded_steps, lengths, memory, capacity)


class StaticCache(KeyValueCache):
    """A cache in buffers that stay where they are, of which every column is read in every step."""

    def __init__(self, stored: Sequence[tuple[Tensor, Tensor]], lengths: Tensor) -> None:
        """Take buffers, whose numbers must be finite: what is masked is still multiplied by 0.

        Args:
            stored: Keys and values of each layer, (R, G, C, S) each.
            lengths: (R,).
        """
        self.lengths = lengths
        self._stored = stored

    def prefill(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Copy a prompt's keys and values to the first rows.

        Args:
            layer: Index of the decoder layer.
            keys: (B, G, T, S), B at most R.
            values: (B, G, T, S).
        """
        for stored, given in zip(self._stored[layer], (keys, values), strict=True):
            stored[: len(given), :, : given.shape[2]] = given

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write one column at each row's length; return all columns.

        Args:
            layer: Index of the decoder layer.
            keys: (R, G, 1, S) of the new token.
            values: (R, G, 1, S).
        """
        stored_keys, stored_values = self._stored[layer]
        write_column(stored_keys, self.lengths, keys)
        write_column(stored_values, self.lengths, values)
        return stored_keys, stored_values

    def visible(self) -> Tensor:
        """Return what is added to similarities, (R, 1, 1, C): 0, or -inf where a row may not read.

        Attention would make this of a mask in every layer anew.
        """
        keys = self._stored[0][0]
        columns = torch.arange(keys.shape[2], device=keys.device)
        hidden = columns > self.lengths[:, None]
        added = torch.zeros(hidden.shape, dtype=keys.dtype, device=keys.device)
        return added.masked_fill(hidden, -torch.inf)[:, None, None]

    def advance(self) -> None:
        """Count the column that a step has added to every layer."""
        self.lengths += 1

    def keep(self, rows: Sequence[int]) -> None:
        """Move `rows` to the front."""
        index = torch.tensor(rows, device=self.lengths.device)
        for stored in (self.lengths, *(x for pair in self._stored for x in pair)):
            stored[: len(index)] = stored[index]


class RecordedSteps:
    """The steps of one decoder as CUDA graphs, and the buffers that they share."""

    def __init__(self, decoder: FusedDecoder) -> None:
        """Record nothing yet."""
        config = decoder.llama.config
        self._layers = len(decoder.layers)
        self._cell = (config.num_key_value_heads, config.head_dim)
        self._like = torch.empty(0, dtype=decoder.dtype, device=decoder.device)
        self._graphs: dict[tuple[int, int, bool], _Graph] = {}
        self._memories: dict[bool, VisualMemory] = {}
        self._reserved = (0, 0)
        self._stored: list[tuple[Tensor, Tensor]] = []
        self._tokens = self._lengths = torch.empty(0)
        self._pool: Any = None

    def begin(self, rows: int, columns: int, memory: VisualMemory) -> None:
        """Have buffers for a batch, and let go of what is recorded where they must grow.

        Args:
            rows: R.
            columns: C, of the cache.
            memory: The batch's, without what is part of the prompt.
        """
        single = len(memory) == 1
        fits = rows <= self._reserved[0] and rows * columns <= self._reserved[1]
        known = self._memories.get(single)
        is_alike = known is not None and _shapes(known) == _shapes(memory)
        if fits and is_alike and len(self._graphs) < MOST_GRAPHS:
            return
        self._graphs.clear()
        self._memories.clear()
        self._stored.clear()
        self._pool = torch.cuda.graph_pool_handle()
        most = max(rows, self._reserved[0])
        cells = max(rows * columns, self._reserved[1])
        self._reserved = (most, cells)
        size = cells * self._cell[0] * self._cell[1]
        self._stored = [
            (self._like.new_zeros(size), self._like.new_zeros(size)) for _ in range(self._layers)
        ]
        self._tokens, self._lengths = self._like.new_zeros(2, most, dtype=torch.long)

    def memory_for(self, memory: VisualMemory) -> VisualMemory:
        """Return the buffers of a batch's memory, with its numbers in them."""
        count = len(memory)
        buffers = self._memories.get(count == 1)
        if buffers is None:
            room = 1 if count == 1 else self._reserved[0]
            buffers = _map(memory, lambda x: x.new_zeros(room, *x.shape[1:]))
            self._memories[count == 1] = buffers
        for buffer, given in zip(_tensors(buffers), _tensors(memory), strict=True):
            buffer[:count] = given
        return buffers

    def cache(self, rows: int, columns: int) -> StaticCache:
        """Return the cache of a batch of so many rows."""
        heads, size = self._cell
        shape = (rows, heads, columns, size)
        count = rows * heads * columns * size
        views = [(k[:count].view(shape), v[:count].view(shape)) for k, v in self._stored]
        return StaticCache(views, self._lengths[:rows])

    def graph(self, decoder: FusedDecoder, rows: int, columns: int, memory: VisualMemory) -> _Graph:
        """Return the step for so many rows and columns, recorded if it is not yet.

        Args:
            decoder: The one that these steps are of.
            rows: R.
            columns: C, of the cache.
            memory: From `memory_for`.
        """
        single = len(memory) == 1
        key = (rows, columns, single)
        if key not in self._graphs:
            part = memory if single else _map(memory, lambda x: x[:rows])
            self._graphs[key] = _Graph(
                decoder, self._tokens[:rows], self.cache(rows, columns), part, self._pool
            )
        return self._graphs[key]


class _Graph:
    """One recorded step."""

    def __init__(
        self,
        decoder: FusedDecoder,
        tokens: Tensor,
        cache: StaticCache,
        memory: VisualMemory,
        pool: Any,
    ) -> None:
        self.tokens = tokens
        self._kept = (cache, memory)  # the graph knows their addresses alone
        before = cache.lengths.clone()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            # Once as it is: libraries set themselves up. The column that it writes, the first
            # replay writes again.
            _logits(decoder, tokens, memory, cache)
            cache.lengths.copy_(before)
            self._graph = torch.cuda.CUDAGraph()
            self._graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                self.logits = _logits(decoder, tokens, memory, cache)
            finally:
                self._graph.capture_end()
        torch.cuda.current_stream().wait_stream(stream)

    def replay(self) -> None:
        """Run the step."""
        self._graph.replay()


class GraphSteps(Steps):
    """Steps that are replayed."""

    def __init__(
        self,
        decoder: FusedDecoder,
        recorded: RecordedSteps,
        lengths: Sequence[int],
        memory: VisualMemory,
        capacity: int,
    ) -> None:
        """Begin with an empty cache; arguments as for `PlainSteps`."""
        self._decoder, self._recorded, self._count = decoder, recorded, len(lengths)
        memory = replace(memory, tokens=None)  # they are part of the prompt
        rows, self._columns = _rows(len(lengths)), COLUMNS * math.ceil(capacity / COLUMNS)
        recorded.begin(rows, self._columns, memory)
        self._memory = recorded.memory_for(memory)
        self.cache = recorded.cache(rows, self._columns)
        self.cache.lengths.zero_()
        self._graph = recorded.graph(decoder, rows, self._columns, self._memory)
        self.cache.lengths[: len(lengths)] = torch.tensor(lengths, device=decoder.device)

    def __call__(self, tokens: Tensor) -> Tensor:
        """Replay the step; see `Steps`."""
        self._graph.tokens[: self._count] = tokens
        self._graph.replay()
        return self._graph.logits[: self._count]

    def keep(self, rows: Sequence[int]) -> None:
        """Move `rows` to the front, and go on with the graph of so many."""
        self.cache.keep(rows)
        if len(self._memory) > 1:
            index = torch.tensor(rows, device=self._decoder.device)
            for buffer in _tensors(self._memory):
                buffer[: len(rows)] = buffer[index]
        self._count = len(rows)
        fewer = _rows(len(rows))
        self.cache = self._recorded.cache(fewer, self._columns)
        self._graph = self._recorded.graph(self._decoder, fewer, self._columns, self._memory)


def _logits(
    decoder: FusedDecoder, tokens: Tensor, memory: VisualMemory, cache: KeyValueCache
) -> Tensor:
    hidden = decoder.step(decoder.embed(tokens[:, None]), memory, cache)
    return decoder.logits(hidden)[:, 0].float()


def _rows(count: int) -> int:
    """Return for how many rows the graph of a batch is recorded."""
    most = ROWS[-1]
    return next((rows for rows in ROWS if rows >= count), most * math.ceil(count / most))


def _tensors(memory: VisualMemory) -> list[Tensor]:
    named = (getattr(memory, one.name) for one in fields(memory))
    return [tensor for tensor in named if tensor is not None]


def _shapes(memory: VisualMemory) -> tuple[Any, ...]:
    return (type(memory), *((x.shape[1:], x.dtype) for x in _tensors(memory)))


def _map(memory: VisualMemory, change: Callable[[Tensor], Tensor]) -> VisualMemory:
    changed = {
        one.name: None if (x := getattr(memory, one.name)) is None else change(x)
        for one in fields(memory)
    }
    return replace(memory, **changed)
