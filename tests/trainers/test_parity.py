"""The trainer ends where the transcription of the published training does."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product

import pytest
import torch
from sentencepiece import SentencePieceProcessor

from adem_bench.images import load_square
from adem_bench.models.fused.weights.adapter import read_adapter
from adem_bench.trainers.batch_sampler import BatchSampler, Position
from adem_bench.trainers.data_loader import BatchLoader
from benchmarks.published_training import (
    Batch,
    PublishedModel,
    Schedule,
    published_batch,
    published_training,
)

LENGTH = 128
PUBLISHED_PEAK = 1.125e-3


@pytest.fixture(scope="module")
def goldens(parity):
    return torch.load(parity / "goldens.pt", weights_only=True)


@pytest.fixture
def published(parity, goldens) -> PublishedModel:
    weights = parity / "weights"
    return PublishedModel(
        llama=torch.load(weights / "tiny" / "consolidated.00.pth", weights_only=True),
        params=json.loads((weights / "tiny" / "params.json").read_text()),
        clip=torch.load(weights / "clip_tiny.pt", weights_only=True),
        adapter=read_adapter(parity / "checkpoint-19.pth").tensors,
        prefix_image=goldens["prefix_img"].tolist(),
        prefix_text=goldens["prefix_nonimg"].tolist(),
    )


def micro_batch(pairs, indices, parity) -> Batch:
    """Samples as the published loader would give them."""
    tokenizer = SentencePieceProcessor(model_file=str(parity / "weights" / "tokenizer.model"))
    chosen = [pairs[index] for index in indices]
    images = [
        torch.from_numpy(load_square(pair.images[0], 224, "imagenet").pixels)
        if pair.images
        else None
        for pair in chosen
    ]
    return published_batch(tokenizer, [(p.prompt, p.answer) for p in chosen], images, LENGTH)


@pytest.mark.parametrize(
    ("epochs", "text_first", "tokens", "scaled"),
    [
        (4, False, 40, False),
        *(
            pytest.param(2, *case, marks=pytest.mark.slow)
            for case in product([False, True], [None, 40], [False, True])
            if case != (False, 40, False)
        ),
    ],
)
def test_the_steps_of_the_trainer_end_where_the_published_ones_do(
    published,
    parity,
    make_network,
    make_training,
    make_recipe,
    make_dataset,
    pairs,
    epochs,
    text_first,
    tokens,
    scaled,
):
    """Whether the first step has no image, micro-batches are in parts, the loss is scaled."""
    recipe = make_recipe(epochs=epochs, base_learning_rate=PUBLISHED_PEAK * 256 / 4)
    sampler = BatchSampler(make_dataset(pairs[:20]).lengths, recipe)
    order = [m.rows for m in sampler.micro_batches(Position())]
    assert (sampler.total_steps, len(order)) == (5 * epochs, 10 * epochs)
    blind = {index for rows in order[:2] for index in rows} if text_first else set()
    used = [replace(p, images=()) if i in blind else p for i, p in enumerate(pairs[:20])]
    dataset = make_dataset(used)

    network = make_network()
    training = make_training(network, recipe, dataset)
    reports = list(training.steps(BatchLoader(dataset, 224, recipe.seed, tokens), 0))

    batches = [micro_batch(used, rows, parity) for rows in order]
    in_epochs = [batches[start : start + 10] for start in range(0, len(batches), 10)]
    schedule = Schedule(epochs, 0.5, recipe.base_learning_rate, 4, 2, scaled=scaled)
    losses = published_training(published, in_epochs, schedule)

    for name, tensor in network.method.adapter_tensors().items():
        expected = published.parameters[name].detach()
        torch.testing.assert_close(tensor.detach(), expected, atol=1e-5, rtol=0, msg=name)
    means = [(first + second) / 2 for first, second in zip(losses[::2], losses[1::2], strict=True)]
    assert [report.loss for report in reports] == pytest.approx(means, abs=1e-5)
    rates = [schedule.learning_rate(step * 2 / 10) for step in range(5 * epochs)]
    assert [report.learning_rate for report in reports] == pytest.approx(rates)
    before = read_adapter(parity / "checkpoint-19.pth").tensors["adapter_emb1"]
    assert (network.method.adapter_emb1 - before).abs().max() > 5e-3  # they did go somewhere
