"""Drawn tokens: from the published distribution, and of no row by another."""

from __future__ import annotations

import pytest
import torch

from adem_bench.models.sampling import RowSampler, drawable
from adem_bench.records import Decoding, Request

DRAWS = 4000


def requests(count, **decoding):
    chosen = Decoding(**{"temperature": 1.0, "seed": 1, **decoding})
    return [Request(f"question {n}", decoding=chosen) for n in range(count)]


def published_top_p(probabilities, top_p):
    """The distribution that tokens are drawn from, by a loop over the tokens of one row."""
    kept, before = {}, 0.0
    for token in sorted(range(len(probabilities)), key=lambda t: -probabilities[t]):
        if before <= top_p:
            kept[token] = probabilities[token]
        before += probabilities[token]
    return {token: p / sum(kept.values()) for token, p in kept.items()}


@pytest.mark.parametrize("temperature", [0.1, 0.7, 1.5])
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.75, 1.0])
def test_what_is_drawable_is_the_published_distribution(temperature, top_p):
    logits = torch.randn(8, 30, generator=torch.Generator().manual_seed(2))
    found, ids = drawable(logits, Decoding(temperature, top_p))
    for row in range(8):
        probabilities = (logits[row].double() / temperature).softmax(-1).tolist()
        expected = published_top_p(probabilities, top_p)
        shares = found[row] / found[row].sum()
        for token, share in zip(ids[row].tolist(), shares.tolist(), strict=True):
            assert share == pytest.approx(expected.get(token, 0.0), abs=1e-5)


def test_tokens_are_drawn_as_often_as_they_are_probable():
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -9.0])
    sampler = RowSampler(requests(1, top_p=0.95))
    drawn = [int(sampler(logits[None], [0])) for _ in range(DRAWS)]
    expected = published_top_p(logits.softmax(-1).tolist(), 0.95)
    assert set(drawn) == set(expected)
    for token, share in expected.items():
        # Four standard deviations.
        margin = 4 * (share * (1 - share) / DRAWS) ** 0.5
        assert drawn.count(token) / DRAWS == pytest.approx(share, abs=margin)


def test_a_row_draws_the_same_whatever_shares_its_batch():
    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(3))
    asked = requests(6)
    together = RowSampler(asked)
    first, second = together(logits, range(6)), together(logits[[4, 1]], [4, 1])
    for row in (1, 4):
        alone = RowSampler([asked[row]])
        assert alone(logits[[row]], [0]) == first[row]
        assert alone(logits[[row]], [0]) == second[[4, 1].index(row)]
    assert torch.equal(RowSampler(asked[::-1])(logits.flip(0), range(6)), first.flip(0))


def test_another_seed_or_question_draws_otherwise():
    logits = torch.zeros(1, 1000)

    def drawn(request):
        return int(RowSampler([request])(logits, [0]))

    one, other = requests(2)
    assert drawn(one) == drawn(one)
    assert len({drawn(one), drawn(other), drawn(requests(1, seed=2)[0])}) == 3


def test_only_the_most_probable_are_drawn_where_that_is_asked_for():
    logits = torch.arange(20.0)[None] / 10
    sampler = RowSampler(requests(1, top_k=3))
    assert {int(sampler(logits, [0])) for _ in range(300)} == {17, 18, 19}


def test_a_draw_at_the_very_end_is_a_token_that_can_be_drawn(monkeypatch):
    sampler = RowSampler(requests(1, top_p=0.5))
    monkeypatch.setattr("random.Random.random", lambda self: 1 - 2**-53)
    assert int(sampler(torch.tensor([[0.0, 3.0, 2.9, -1.0]]), [0])) in (1, 2)
