"""Decoding of a batch by a network's own `generate`, and log-probabilities of continuations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.generation import GenerationMixin

from adem_bench.errors import CheckpointError
from adem_bench.models.device import attention_kernels
from adem_bench.models.hf.architectures import end_tokens
from adem_bench.models.sampling import RowSampler


@dataclass(frozen=True, slots=True)
class Limits:
    """How long answers may be, and how many beams are searched."""

    max_new_tokens: int
    num_beams: int = 1
    min_length: int | None = None
    """Least tokens of prompt and answer together."""
    max_length: int | None = None
    """Most tokens of prompt and answer together."""


@dataclass(frozen=True, slots=True)
class GeneratedRows:
    """What generation for a batch of B rows gave."""

    ids: list[list[int]]
    """New ids of each row, cut before the end token."""
    ended: list[bool]
    """Whether an end token was written; else the limit was reached."""
    finite: list[bool]
    """Whether all numbers that a row's tokens were chosen by are finite."""
    first_logprobs: Tensor
    """(B, vocabulary) float32 log-probabilities of the first new position."""


class _Watch(LogitsProcessor):  # type: ignore[misc]
    """Notes where new tokens begin, what the first scores are, and scores that are no numbers."""

    def __init__(self) -> None:
        self.width: int | None = None
        """Ids that the network takes for the prompt, whatever it was given."""
        self.first: Tensor | None = None
        self._steps: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self.first is None:
            self.width = input_ids.shape[1]
            self.first = F.log_softmax(scores.float(), dim=-1)
        # NaN passes through a maximum; -inf alone is a token that is ruled out.
        is_finite = scores.amax(dim=-1).isfinite()
        self._steps.append(is_finite)
        return torch.where(is_finite[:, None], scores, 0.0)

    def finite_steps(self, beams: int) -> list[int]:
        """Return how many first steps of each row were finite in all its beams."""
        rows = torch.stack(self._steps).cpu().view(len(self._steps), -1, beams).all(dim=-1)
        return rows.long().cumprod(dim=0).sum(dim=0).tolist()


class _ForcedTokens(LogitsProcessor):  # type: ignore[misc]
    """Forces given ids, and sums their log-probabilities."""

    def __init__(self, ids: Tensor, lengths: Tensor) -> None:
        self._ids, self._lengths, self._step = ids, lengths, 0
        self.total = torch.zeros(len(ids), device=ids.device)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        forced = self._ids[:, self._step : self._step + 1].to(scores.device)
        logprobs = F.log_softmax(scores.float(), dim=-1).gather(1, forced)[:, 0]
        logprobs = logprobs.to(self.total.device)
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


class Decoder:
    """Asks one network."""

    def __init__(self, network: Any, dropped: int = 0) -> None:
        """Keep the network.

        Args:
            network: A generative model of transformers.
            dropped: Ids at a prompt's end that its own generate leaves out.
        """
        self._network = network
        self._dropped = dropped
        self._ends = end_tokens(network)
        self._is_watched = True
        """Whether the network's own `generate` passes scores through what it is given."""

    @torch.inference_mode()
    def generate(
        self, inputs: Any, limits: Limits, sampler: RowSampler | None = None
    ) -> GeneratedRows:
        """Extend every row.

        Args:
            inputs: B rows from the network's processor, padded on the left.
            limits: Of the answers.
            sampler: Of the rows; None takes the most probable tokens, or beams.

        Raises:
            CheckpointError: the network cannot be watched as it generates.
        """
        watch = _Watch()
        drawn = [_DrawnTokens(sampler)] if sampler else []
        sequences = self._run(inputs, limits, [watch, *drawn])
        if watch.first is None:
            self._is_watched = False
            sequences = self._run(inputs, limits, [watch, *drawn])
        if watch.first is None:
            name = type(self._network).__name__
            raise CheckpointError(f"{name}.generate takes no logits processors: it cannot be asked")
        beams = limits.num_beams
        rows = [self._cut(row) for row in sequences[:, watch.width :].tolist()]
        finite = watch.finite_steps(beams)
        return GeneratedRows(
            ids=[ids for ids, _ in rows],
            ended=[ended for _, ended in rows],
            # Behind its end a row is computed with the others, and nothing of it is kept.
            finite=[
                steps >= len(ids) + ended for (ids, ended), steps in zip(rows, finite, strict=True)
            ],
            first_logprobs=watch.first[::beams],
        )

    def _run(self, inputs: Any, limits: Limits, processors: Sequence[LogitsProcessor]) -> Tensor:
        settings: dict[str, Any] = {
            "max_new_tokens": limits.max_new_tokens,
            "num_beams": limits.num_beams,
        }
        if limits.min_length is not None:
            settings["min_length"] = limits.min_length
        if limits.max_length is not None:
            left = limits.max_length - (inputs["input_ids"].shape[1] - self._dropped)
            settings["max_new_tokens"] = max(1, min(limits.max_new_tokens, left))
        settings["logits_processor"] = LogitsProcessorList(processors)
        with attention_kernels(self._network.device):
            if self._is_watched:
                written: Tensor = self._network.generate(**inputs, **settings)
            else:  # that of all models, where one of its own drops what it is given (Janus)
                written = GenerationMixin.generate(self._network, **inputs, **settings)
        return written

    def _cut(self, ids: list[int]) -> tuple[list[int], bool]:
        end = next((place for place, token in enumerate(ids) if token in self._ends), None)
        return (ids, False) if end is None else (ids[:end], True)

    @torch.inference_mode()
    def score(self, inputs: Any, continuations: Sequence[Sequence[int]]) -> list[float]:
        """Return the log-probability of each row's continuation, summed over its tokens.

        Args:
            inputs: B rows from the network's processor, padded on the left.
            continuations: B lists of at least one id.
        """
        lengths = [len(ids) for ids in continuations]
        longest = max(lengths)
        device = inputs["input_ids"].device
        padded = [[*ids, *[ids[-1]] * (longest - len(ids))] for ids in continuations]
        scorer = _ForcedTokens(
            torch.tensor(padded, device=device), torch.tensor(lengths, device=device)
        )
        self._run(inputs, Limits(longest), [scorer])
        return scorer.total.tolist()
