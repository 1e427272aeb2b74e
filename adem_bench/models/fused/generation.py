"""Decoding of a right-padded batch; finished rows leave it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from adem_bench.models.fused.decoder import FusedDecoder, KeyValueCache
from adem_bench.models.fused.method import VisualMemory
from adem_bench.models.fused.sequence import PromptRow

WORTH_LEAVING = 7 / 8
"""Share of running rows at which finished ones leave: leaving copies memories and caches."""


@dataclass(frozen=True, slots=True)
class GeneratedRows:
    """What generation for a batch gave."""

    ids: list[list[int]]
    """New ids per row, cut before the end token."""
    first_logits: Tensor
    """(B, vocabulary) float32 logits of the first new position."""
    ended: list[bool]
    """Whether each row came to its end, rather than to its most tokens."""
    finite: list[bool]
    """Whether each row's tokens were chosen by finite numbers."""


Choose = Callable[[Tensor, Sequence[int]], Tensor]
"""Returns (R,) tokens for (R, vocabulary) logits of the next position of the rows it is told."""


def most_probable(logits: Tensor, rows: Sequence[int]) -> Tensor:
    """Return the most probable token of each row: greedy decoding."""
    return logits.argmax(dim=-1)


@torch.inference_mode()
def generate(
    decoder: FusedDecoder,
    rows: Sequence[PromptRow],
    memory: VisualMemory,
    max_new_tokens: int,
    end_ids: Sequence[int],
    choose: Choose = most_probable,
    is_finished: Callable[[list[int]], bool] | None = None,
) -> GeneratedRows:
    """Extend every row by at most `max_new_tokens`, or fewer where a row says so.

    Args:
        decoder: The language model with a method.
        rows: B prompts, each with room for at least one new token.
        memory: One entry per row, or a single one for all.
        max_new_tokens: At least 1.
        end_ids: The tokens that end a row.
        choose: Chooses the next token of each row.
        is_finished: Whether a row ends with the new ids that it has; None: none does.
    """
    device = decoder.device
    lengths = torch.tensor([len(row.ids) for row in rows], device=device)
    longest = int(lengths.max())
    cache = None
    if max_new_tokens > 1:
        cache = KeyValueCache(len(decoder.layers), lengths, longest + max_new_tokens - 1)
    embeds = _embed(decoder, rows, memory, longest)
    shifted_from = int(lengths.min()) if decoder.shifts_at_shortest else None
    hidden = decoder(embeds, memory, cache, lengths[:, None] - 1, shifted_from)
    logits = decoder.logits(hidden)[:, 0].float()
    first_logits = logits
    ids: list[list[int]] = [[] for _ in rows]
    active = torch.arange(len(rows), device=device)
    running = torch.ones_like(active, dtype=torch.bool)
    limits = [max_new_tokens if row.max_new_tokens is None else row.max_new_tokens for row in rows]
    row_limits = torch.tensor(limits, device=device)
    ends = torch.tensor(end_ids, device=device)
    ended = torch.zeros(len(rows), dtype=torch.bool, device=device)
    finite = torch.ones_like(ended)
    for produced in range(1, max_new_tokens + 1):
        tokens = choose(logits, active.tolist())
        # The most probable of numbers with a NaN among them is that NaN.
        finite[active] &= logits.amax(dim=-1).isfinite() | ~running
        at_end = torch.isin(tokens, ends)
        ended[active] |= at_end & running
        running = running & ~at_end
        for row, token in zip(active[running].tolist(), tokens[running].tolist(), strict=True):
            ids[row].append(token)
        if is_finished is not None:
            finished = torch.tensor([is_finished(ids[row]) for row in active.tolist()])
            ended[active] |= finished.to(device) & running
            running = running & ~finished.to(device)
        running = running & (row_limits[active] > produced)
        if produced == max_new_tokens or not running.any() or cache is None:
            break
        if int(running.sum()) <= WORTH_LEAVING * len(active):
            kept = running.nonzero()[:, 0]
            active, tokens, running = active[kept], tokens[kept], running[kept]
            memory = memory.select(kept)
            cache.keep(kept)
        hidden = decoder.step(decoder.embed(tokens[:, None]), memory, cache)
        logits = decoder.logits(hidden)[:, 0].float()
    return GeneratedRows(ids, first_logits, ended.tolist(), finite.tolist())


def _embed(
    decoder: FusedDecoder, rows: Sequence[PromptRow], memory: VisualMemory, longest: int
) -> Tensor:
    """Return (B, T, D) input embeddings, padded on the right, image tokens in place."""
    device = decoder.device
    padded = torch.tensor([row.ids + [0] * (longest - len(row.ids)) for row in rows], device=device)
    embeds = decoder.embed(padded)
    if memory.tokens is not None:
        for index, row in enumerate(rows):
            if row.image_tokens_at is not None:
                place = slice(row.image_tokens_at, row.image_tokens_at + memory.tokens.shape[1])
                room = embeds[index, place]
                room.copy_(memory.tokens[index, : len(room)])
    return embeds


def choice_logprobs(logits: Tensor, first_ids: Sequence[int]) -> tuple[float, ...]:
    """Return the log-probability of each choice's first token, from (vocabulary,) logits."""
    log_probabilities = F.log_softmax(logits, dim=-1)
    return tuple(log_probabilities[list(first_ids)].tolist())
