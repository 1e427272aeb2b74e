from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adem_bench.errors import AdemBenchError, OutOfMemoryError
from adem_bench.models.base import Budget
from adem_bench.records import Request, Response, Sample
from adem_bench.runner.batching import Backoff, Item, ahead, plan


def item(index: int, length: int, image: int | None = None) -> Item:
    images = () if image is None else (Path(f"{image}.png"),)
    return Item(Sample(str(index), {}, None), Request(f"prompt {index}", images), length)


@st.composite
def many_items(draw):
    shapes = st.tuples(st.integers(1, 60), st.none() | st.integers(0, 9))
    return [item(i, *shape) for i, shape in enumerate(draw(st.lists(shapes, max_size=60)))]


@given(items=many_items(), tokens=st.integers(60, 300), rows=st.integers(1, 8))
def test_every_item_is_planned_once_within_the_budget(items, tokens, rows):
    units = list(plan(items, Budget(tokens, rows)))
    assert [unit.index for unit in units] == list(range(len(units)))
    planned = [entry for unit in units for entry in unit.items]
    assert sorted(planned, key=lambda i: int(i.sample.id)) == items
    for unit in units:
        assert 0 < len(unit.items) <= rows
        assert max(i.length for i in unit.items) * len(unit.items) <= tokens
        assert len({bool(i.request.images) for i in unit.items}) == 1


@given(items=many_items())
def test_questions_on_one_image_follow_each_other_and_text_comes_last(items):
    planned = [i for unit in plan(items, Budget(1 << 30, 4)) for i in unit.items]
    images = [i.request.images for i in planned]
    changes = sum(a != b for a, b in pairwise(images))
    assert changes == max(0, len(set(images)) - 1)
    assert [bool(image) for image in images] == sorted(map(bool, images), reverse=True)


@given(items=many_items(), rows=st.integers(1, 8))
def test_batches_on_which_answers_depend_are_the_samples_in_order(items, rows):
    units = list(plan(items, Budget(tokens=1, rows=rows, in_order=True)))
    assert [entry for unit in units for entry in unit.items] == items
    assert {len(unit.items) for unit in units[:-1]} <= {rows}


def test_an_item_larger_than_the_budget_is_still_answered():
    units = list(plan([item(0, 500), item(1, 5)], Budget(100, 8)))
    assert [len(unit.items) for unit in units] == [1, 1]


def test_the_next_unit_is_prefetched_before_the_current_one_is_answered():
    units = plan([item(i, 1, i) for i in range(3)], Budget(100, 1))
    events = []
    for unit in ahead(units, lambda requests: events.append(("read", requests[0].prompt))):
        events.append(("answer", unit.items[0].request.prompt))
    assert [name for name, _ in events] == ["read", "read", "answer", "read", "answer", "answer"]


def test_memory_back_off_halves_until_it_fits_and_loses_nothing():
    sizes = []

    def generate(requests):
        sizes.append(len(requests))
        if len(requests) > 3:
            raise OutOfMemoryError("too large")
        return [Response(request.prompt) for request in requests]

    backoff = Backoff(generate)
    answers = [response.text for _, response in backoff.answer([item(i, 1) for i in range(8)])]
    assert answers == [f"prompt {i}" for i in range(8)]
    assert sizes == [8, 4, 2, 2, 2, 2]
    assert len(list(backoff.answer([item(i, 1) for i in range(4)]))) == 4
    assert sizes[6:] == [2, 2]


def test_one_sample_that_does_not_fit_is_named():
    def generate(requests):
        raise OutOfMemoryError("too large")

    with pytest.raises(AdemBenchError, match="sample 7 alone does not fit in memory"):
        list(Backoff(generate).answer([item(7, 1)]))
