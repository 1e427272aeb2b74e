"""Decoding of a left-padded batch, and log-probabilities of given continuations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LogitsProcessor, LogitsProcessorList

from adem_bench.models.sampling import RowSampler


@dataclass(frozen=True, slots=True)
class GeneratedRows:
    """What generation for a batch gave."""

    ids: list[list[int]]
    """New ids of each row, cut before the end token."""
    first_logprobs: Tensor
    """(B, vocabulary) float32 log-probabilities of the first new position."""


class _FirstLogprobs(LogitsProcessor):  # type: ignore[misc]
    """Keeps the log-probabilities of the first new position."""

    kept: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = F.log_softmax(scores.float(), dim=-1)
        return scores


class _ForcedTokens(LogitsProcessor):  # type: ignore[misc]
    """Forces given ids, and sums their log-probabilities."""

    def __init__(self, ids: Tensor, lengths: Tensor) -> None:
        self._ids, self._lengths, self._step = ids, lengths, 0
        self.total = torch.zeros(len(ids), device=ids.device)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        forced = self._ids[:, self._step : self._step + 1]
        logprobs = F.log_softmax(scores.float(), dim=-1).gather(1, forced)[:, 0]
        self.total += torch.where(self._step < self._lengths, logprobs, 0.0)
        self._step += 1
        return torch.full_like(scores, -torch.inf).scatter(1, forced, 0.0)


class _DrawnTokens(LogitsProcessor):  # type: ignore[misc]
    """Leaves greedy decoding no choice but the token that each row has drawn."""

    def __init__(self, sampler: RowSampler) -> None:
        self._sampler = sampler

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        drawn = self._sampler(scores.float(), range(len(scores)))[:, None]
        return torch.full_like(scores, -torch.inf).scatter(1, drawn, 0.0)


@torch.inference_mode()
def generate(
    network: Any, inputs: Any, max_new_tokens: int, sampler: RowSampler | None = None
) -> GeneratedRows:
    """Extend every row by at most `max_new_tokens`.

    Args:
        network: A generative model of transformers.
        inputs: B rows from its processor, padded on the left.
        max_new_tokens: At least 1.
        sampler: Of the rows; None decodes greedily.
    """
    first = _FirstLogprobs()
    processors = [first, *([_DrawnTokens(sampler)] if sampler else [])]
    sequences = network.generate(
        **inputs, max_new_tokens=max_new_tokens, logits_processor=LogitsProcessorList(processors)
    )
    prompt = inputs["input_ids"]
    width = prompt.shape[1]
    # Encoder-decoder models give back the answer alone.
    if sequences.shape[1] > width and torch.equal(sequences[:, :width], prompt):
        sequences = sequences[:, width:]
    settings = network.generation_config
    ends = settings.eos_token_id if isinstance(settings.eos_token_id, list) else []
    stops = {*ends, settings.eos_token_id if not ends else None, settings.pad_token_id} - {None}
    assert first.kept is not None
    return GeneratedRows([_cut(row, stops) for row in sequences.tolist()], first.kept)


def _cut(ids: list[int], stops: set[int]) -> list[int]:
    end = next((place for place, token in enumerate(ids) if token in stops), len(ids))
    return ids[:end]


@torch.inference_mode()
def score_continuations(
    network: Any, inputs: Any, continuations: Sequence[Sequence[int]]
) -> list[float]:
    """Return the log-probability of each row's continuation, summed over its tokens.

    Args:
        network: A generative model of transformers.
        inputs: B rows from its processor, padded on the left.
        continuations: B lists of at least one id.
    """
    lengths = [len(ids) for ids in continuations]
    longest = max(lengths)
    device = inputs["input_ids"].device
    padded = [[*ids, *[ids[-1]] * (longest - len(ids))] for ids in continuations]
    scorer = _ForcedTokens(
        torch.tensor(padded, device=device), torch.tensor(lengths, device=device)
    )
    network.generate(
        **inputs, max_new_tokens=longest, logits_processor=LogitsProcessorList([scorer])
    )
    return scorer.total.tolist()
