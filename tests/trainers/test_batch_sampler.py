from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adem_bench.errors import CardError
from adem_bench.schemas import RecipeCard
from adem_bench.trainers.batch_sampler import BatchSampler, Position, accumulation, derived_seed


def recipe(**more) -> RecipeCard:
    fields = {"name": "r", "data": [{"task": "sqa"}], "epochs": 2, **more}
    return RecipeCard.model_validate(fields)


def lengths(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(5, 90, count).astype(np.int32)


def steps_of(card: RecipeCard, count: int, world_size: int) -> list[list[tuple[int, ...]]]:
    """The micro-batches of every optimizer step, those of all processes together."""
    samplers = [BatchSampler(lengths(count), card, world_size, rank) for rank in range(world_size)]
    streams = [list(sampler.micro_batches(Position())) for sampler in samplers]
    size = samplers[0].accumulation
    return [
        [m.rows for stream in streams for m in stream[i : i + size]]
        for i in range(0, len(streams[0]), size)
    ]


def test_the_published_recipe_makes_the_published_number_of_steps():
    card = recipe(epochs=20)
    sampler = BatchSampler(np.full(12_726, 100, dtype=np.int32), card, world_size=8)
    assert (sampler.micro_steps, sampler.accumulation, sampler.steps) == (795, 2, 397)
    assert sampler.total_steps == 7_940
    # Captions: 566,747 samples and 5 of them once more.
    captions = BatchSampler(np.full(566_747, 20, dtype=np.int32), recipe(epochs=5), world_size=8)
    assert (captions.micro_steps, captions.steps) == (35_422, 17_711)


@pytest.mark.parametrize("bucketed", [False, True])
def test_a_step_reads_the_same_micro_batches_however_many_processes_share_it(bucketed):
    card = recipe(effective_batch=8, bucket_by_length=bucketed)
    alone, shared = (steps_of(card, 52, world_size) for world_size in (1, 4))
    assert [sorted(step) for step in alone] == [sorted(step) for step in shared]


def test_an_epoch_is_the_order_of_the_distributed_sampler_and_no_sample_comes_twice():
    card = recipe(effective_batch=8)
    steps = steps_of(card, 50, world_size=2)
    assert len(steps) == 12
    first = sorted(index for step in steps[:6] for rows in step for index in rows)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0)).tolist()
    assert first == sorted(order[:48])
    assert sorted(index for rows in steps[0] for index in rows) == sorted(order[:8])


@pytest.mark.parametrize("bucketed", [False, True])
def test_any_position_continues_as_if_nothing_had_happened(bucketed):
    sampler = BatchSampler(lengths(50), recipe(effective_batch=8, bucket_by_length=bucketed))
    whole = list(sampler.micro_batches(Position()))
    position, done = Position(), 0
    while done < sampler.total_steps:
        rest = list(sampler.micro_batches(position))
        assert rest == whole[done * sampler.accumulation :]
        assert sampler.steps_before(position) == done
        position, done = sampler.after(position), done + 1
    assert position == Position(2, 0)


def test_bucketed_micro_batches_hold_rows_of_like_length():
    sizes = lengths(640)
    card = recipe(effective_batch=32, batch_size=8, bucket_by_length=True)

    def padding(sampler: BatchSampler) -> int:
        rows = [sizes[list(m.rows)] for m in sampler.micro_batches(Position())]
        return sum(int(row.max() * len(row) - row.sum()) for row in rows)

    mixed = recipe(effective_batch=32, batch_size=8)
    assert padding(BatchSampler(sizes, card)) < padding(BatchSampler(sizes, mixed)) / 5


def test_the_schedule_stands_still_within_a_step_and_begins_at_zero():
    sampler = BatchSampler(np.full(64, 9, dtype=np.int32), recipe(effective_batch=8, batch_size=2))
    epochs = [sampler.fractional_epoch(Position(0, step)) for step in range(sampler.steps)]
    assert epochs == [step * 4 / 32 for step in range(8)]
    assert sampler.fractional_epoch(Position(1, 0)) == 1


@settings(deadline=None)
@given(st.integers(1, 64), st.integers(1, 8), st.integers(1, 9))
def test_the_effective_batch_is_kept_or_an_error_proposes_what_keeps_it(effective, size, processes):
    try:
        count = accumulation(effective, size, processes)
    except CardError as error:
        assert effective % (size * processes)
        proposed = str(error).split("possible: ")[1]
        for text in proposed.split(", or "):
            fields = {"effective_batch": effective, "batch_size": size, "processes": processes}
            if text.startswith("--set "):
                name, _, value = text.removeprefix("--set ").partition("=")
            else:
                value, _, _ = text.partition(" ")
                name = "processes"
            fields[name] = int(value)
            assert accumulation(*fields.values()) >= 1
    else:
        assert count * size * processes == effective


def test_a_position_of_longer_epochs_is_the_next_ones_start():
    sampler = BatchSampler(lengths(63), recipe(effective_batch=32))  # two processes make two steps
    assert sampler.steps == 1
    assert sampler.clamp(Position(0, 1)) == Position(1, 0)
    assert sampler.clamp(Position(1, 0)) == Position(1, 0)


def test_too_few_samples_are_told():
    with pytest.raises(CardError, match="31 samples make no optimizer step of 32"):
        BatchSampler(lengths(31), recipe())


def test_seeds_differ_between_places_and_repeat():
    seeds = [derived_seed(42, epoch, index) for epoch in range(5) for index in range(100)]
    assert len(set(seeds)) == 500
    assert derived_seed(42, 1, 7) == seeds[107]
    assert all(0 <= seed < 2**63 for seed in seeds)
