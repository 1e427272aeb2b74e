"""Decoding of a right-padded batch; finished rows leave it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from adem_bench.models.device import attention_kernels
from adem_bench.models.fused.decoder import FusedDecoder
from adem_bench.models.fused.method import VisualMemory
from adem_bench.models.fused.sequence import PromptRow
from adem_bench.models.fused.steps import steps_for

WORTH_LEAVING = 7 / 8
"""Share of running rows at which finished ones leave: leaving copies memories and caches."""
LAG = {"cuda": 1}
"""Steps that a device works ahead, so that it never waits to be told what comes next. Rows that
have ended by then are computed in vain."""


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
    lengths = [len(row.ids) for row in rows]
    lag = LAG.get(device.type, 0)
    shifted_from = min(lengths) if decoder.shifts_at_shortest else None
    last = torch.tensor(lengths, device=device)[:, None] - 1
    answers = _Answers(rows, max_new_tokens, end_ids, is_finished)
    with attention_kernels(device):
        steps = steps_for(decoder, lengths, memory, max_new_tokens)
        embeds = _embed(decoder, rows, memory, max(lengths))
        hidden = decoder(embeds, memory, steps.cache if steps else None, last, shifted_from)
        logits = first_logits = decoder.logits(hidden)[:, 0].float()
        active = list(range(len(rows)))
        coming: deque[_Coming] = deque()
        for produced in range(1, max_new_tokens + 1):
            tokens = choose(logits, active)
            coming.append(_Coming(active, tokens, logits))
            is_last = produced == max_new_tokens
            while len(coming) > (0 if is_last else lag):
                answers.take(coming.popleft())
            if is_last or steps is None or not answers.running:
                break
            if len(answers.running) <= WORTH_LEAVING * len(active):
                places = [place for place, row in enumerate(active) if row in answers.running]
                active, tokens = [active[place] for place in places], tokens[places]
                steps.keep(places)
            logits = steps(tokens)
    return GeneratedRows(answers.ids, first_logits, answers.ended, answers.finite)


class _Coming:
    """Tokens of a step on their way from the device."""

    def __init__(self, rows: list[int], tokens: Tensor, logits: Tensor) -> None:
        self.rows = rows
        # The most probable of numbers with a NaN among them is that NaN.
        found = torch.stack([tokens, logits.amax(dim=-1).isfinite().to(tokens.dtype)])
        self._event: torch.cuda.Event | None = None
        if found.device.type == "cuda":
            self._found = torch.empty(found.shape, dtype=found.dtype, pin_memory=True)
            self._found.copy_(found, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()
        else:
            self._found = found

    def arrived(self) -> tuple[list[int], list[int]]:
        """Return each row's token, and 1 where it was chosen by finite numbers, once known."""
        if self._event is not None:
            self._event.synchronize()
        tokens, finite = self._found.tolist()
        return tokens, finite


class _Answers:
    """What is known of the rows' answers."""

    def __init__(
        self,
        rows: Sequence[PromptRow],
        max_new_tokens: int,
        end_ids: Sequence[int],
        is_finished: Callable[[list[int]], bool] | None,
    ) -> None:
        self._limits = [
            max_new_tokens if row.max_new_tokens is None else row.max_new_tokens for row in rows
        ]
        self._ends, self._is_finished = frozenset(end_ids), is_finished
        self.ids: list[list[int]] = [[] for _ in rows]
        self.ended = [False] * len(rows)
        self.finite = [True] * len(rows)
        self.running = set(range(len(rows)))

    def take(self, coming: _Coming) -> None:
        """Add the tokens of a step to the rows that had not ended before it."""
        for row, token, is_finite in zip(coming.rows, *coming.arrived(), strict=True):
            if row not in self.running:
                continue
            self.finite[row] &= bool(is_finite)
            at_end = token in self._ends
            if not at_end:
                self.ids[row].append(token)
            if at_end or (self._is_finished and self._is_finished(self.ids[row])):
                self.ended[row] = True
                self.running.discard(row)
            elif len(self.ids[row]) >= self._limits[row]:
                self.running.discard(row)


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
