"""Greedy decoding of a left-padded batch, and log-probabilities of given continuations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LogitsProcessor, LogitsProcessorList


@dataclass(frozen=True, slots=True)
class Decoded:
    """What greedy decoding of a batch gave."""

    ids: list[list[int]]
    """New ids of each row, cut before the end token."""
    first: Tensor
    """(B, vocabulary) float32 log-probabilities of the first new position."""


class _First(LogitsProcessor):  # type: ignore[misc]
    """Keeps the log-probabilities of the first new position."""

    kept: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = F.log_softmax(scores.float(), dim=-1)
        return scores


class _Dictated(LogitsProcessor):  # type: ignore[misc]
    """Lets nothing but given ids be written, and adds up their log-probabilities."""

    def __init__(self, ids: Tensor, lengths: Tensor) -> None:
        self._ids, self._lengths, self._step = ids, lengths, 0
        self.total = torch.zeros(len(ids), device=ids.device)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        wanted = self._ids[:, self._step : self._step + 1]
        told = F.log_softmax(scores.float(), dim=-1).gather(1, wanted)[:, 0]
        self.total += torch.where(self._step < self._lengths, told, 0.0)
        self._step += 1
        return torch.full_like(scores, -torch.inf).scatter(1, wanted, 0.0)


@torch.inference_mode()
def decode(network: Any, inputs: Any, max_new_tokens: int) -> Decoded:
    """Extend every row greedily by at most `max_new_tokens`.

    Args:
        network: A generative model of transformers.
        inputs: B rows from its processor, padded on the left.
        max_new_tokens: At least 1.
    """
    first = _First()
    written = network.generate(
        **inputs, max_new_tokens=max_new_tokens, logits_processor=LogitsProcessorList([first])
    )
    prompt = inputs["input_ids"]
    width = prompt.shape[1]
    # Encoder-decoder models give back the answer alone.
    if written.shape[1] > width and torch.equal(written[:, :width], prompt):
        written = written[:, width:]
    settings = network.generation_config
    ends = settings.eos_token_id if isinstance(settings.eos_token_id, list) else []
    stops = {*ends, settings.eos_token_id if not ends else None, settings.pad_token_id} - {None}
    assert first.kept is not None
    return Decoded([_cut(row, stops) for row in written.tolist()], first.kept)


def _cut(ids: list[int], stops: set[int]) -> list[int]:
    end = next((place for place, token in enumerate(ids) if token in stops), len(ids))
    return ids[:end]


@torch.inference_mode()
def dictate(network: Any, inputs: Any, continuations: Sequence[Sequence[int]]) -> list[float]:
    """Return the log-probability of a continuation of each row, all its tokens together.

    Args:
        network: A generative model of transformers.
        inputs: B rows from its processor, padded on the left.
        continuations: B lists of at least one id.
    """
    lengths = [len(ids) for ids in continuations]
    longest = max(lengths)
    device = inputs["input_ids"].device
    padded = [[*ids, *[ids[-1]] * (longest - len(ids))] for ids in continuations]
    scorer = _Dictated(torch.tensor(padded, device=device), torch.tensor(lengths, device=device))
    network.generate(
        **inputs, max_new_tokens=longest, logits_processor=LogitsProcessorList([scorer])
    )
    return scorer.total.tolist()
