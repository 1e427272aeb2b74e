"""Drawing new tokens: each row from a random stream of its own, whatever shares its batch."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from adem_bench.records import Decoding, Request


class RowSampler:
    """Draws the next token of each row.

    A row's random numbers come from its seed and its request alone, so that its answer depends
    neither on the batch nor on the order of samples, and is the same on a CPU and a GPU as far as
    their logits are.
    """

    def __init__(self, requests: Sequence[Request]) -> None:
        """Begin the rows' streams.

        Args:
            requests: B requests with one way of decoding but for the seed.
        """
        self._decoding = requests[0].decoding
        # Seeded by a text, which Python hashes with SHA-512 on every platform.
        self._streams = [
            random.Random(f"{request.decoding.seed or 0} {request.digest()}")  # noqa: S311
            for request in requests
        ]

    def __call__(self, logits: Tensor, rows: Sequence[int]) -> Tensor:
        """Return one token for each row, (R,).

        Args:
            logits: (R, vocabulary) float32 of the next position.
            rows: Which of the B requests they are.
        """
        probabilities, ids = drawable(logits, self._decoding)
        reached = probabilities.cumsum(dim=-1)
        draws = [self._streams[row].random() for row in rows]
        wanted = torch.tensor(draws, device=logits.device)[:, None] * reached[:, -1:]
        # The first token whose share of the probability is passed; never one that has none.
        # None has any where numbers are not finite, which is for the caller to see.
        last = (probabilities > 0).sum(dim=-1, keepdim=True).clamp(min=1) - 1
        place = torch.searchsorted(reached, wanted, right=True).minimum(last)
        return ids.gather(-1, place)[:, 0]


def drawable(logits: Tensor, decoding: Decoding) -> tuple[Tensor, Tensor]:
    """Return probabilities in descending order, 0 where no token is to be drawn, and their ids.

    Args:
        logits: (R, vocabulary) float32.
        decoding: With a temperature.

    Returns:
        Two (R, vocabulary) tensors; probabilities do not sum to 1 once some are left out.

    Source: LaVIN dd0a1bf `lavin/generator.py`, `sample_top_p`: a token stays while what stands
    before it holds no more than `top_p`.
    """
    assert decoding.temperature
    probabilities = (logits / decoding.temperature).softmax(dim=-1)
    probabilities, ids = probabilities.sort(dim=-1, descending=True, stable=True)
    if decoding.top_k is not None:
        kept = torch.arange(probabilities.shape[-1], device=logits.device) < decoding.top_k
        probabilities = probabilities * kept
    if decoding.top_p is not None:
        before = probabilities.cumsum(dim=-1) - probabilities
        probabilities = probabilities.masked_fill(before > decoding.top_p, 0)
    return probabilities, ids
