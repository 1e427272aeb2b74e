"""Recipes of MemVP and LaVIN have the settings of their published scripts.

Source: MemVP 5eef19f and LaVIN dd0a1bf, `scripts/` and their README.
"""

from __future__ import annotations

import pytest

from adem_bench.cards import load_model_card, load_recipe_card
from adem_bench.errors import CardError
from adem_bench.trainers.batch_sampler import accumulation
from adem_bench.trainers.optimizer import peak_learning_rate

MEMVP = {"adapter_scale": 0.1, "hidden_proj": 128, "adapter_dim": 12, "visual_scale": 0.01}
LAVIN = {"adapter_scale": 1.0, "hidden_proj": 128, "adapter_dim": 8, "read_every": 4}
SQA = {"task": "sqa", "split": "train", "options": {"captions": False}}
MIXTURE = {"task": "lavin_instruction", "split": "all", "prompt_format": None, "options": {}}
SCRIPTS = {
    "memvp_sqa_7b": (MEMVP | {"slots": 320}, SQA | {"prompt_format": "QCM-A"}, 8, 1, 20, 2),
    "memvp_sqa_13b": (MEMVP | {"slots": 400}, SQA | {"prompt_format": "QCM-A"}, 8, 1, 20, 2),
    "lavin_sqa_7b": (LAVIN | {"temperature": 10}, SQA | {"prompt_format": "QCM-ALE"}, 2, 4, 20, 2),
    "lavin_sqa_13b": (LAVIN | {"temperature": 5}, SQA | {"prompt_format": "QCM-ALE"}, 8, 1, 20, 2),
    "lavin_instruction_13b": (LAVIN | {"temperature": 5}, MIXTURE, 8, 1, 15, 0.2),
}
"""Method, data, GPUs, accumulated micro-batches of 4 rows, epochs, warm-up."""


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_recipe_has_the_published_settings(name):
    method, data, gpus, accumulated, epochs, warm_up = SCRIPTS[name]
    recipe = load_recipe_card(name)
    family, _, size = recipe.model.partition("-")
    assert (family, size) == (name.partition("_")[0], name.rpartition("_")[2])
    assert load_model_card(recipe.model).fusion.kind == recipe.method.kind == family
    assert {key: recipe.method.values()[key] for key in method} == method
    (source,) = recipe.data
    assert {key: getattr(source, key) for key in data} == data
    assert source.max_sequence_length == 512
    assert (recipe.epochs, recipe.warmup_epochs, recipe.seed) == (epochs, warm_up, 0)
    assert recipe.shuffle_seed == 0
    assert (recipe.effective_batch, recipe.batch_size) == (32, 4)
    assert accumulation(recipe.effective_batch, recipe.batch_size, gpus) == accumulated
    assert peak_learning_rate(recipe) == pytest.approx(1.125e-3, rel=1e-12)
    assert (recipe.weight_decay, recipe.betas) == (0.02, (0.9, 0.95))
    assert (recipe.max_grad_norm, recipe.min_learning_rate) == (None, 0)


MINI = ("mini", "memvp_mini", "lavin_mini", "llava_mini")


def test_the_methods_are_tuned_on_the_mini_world_alike():
    """What `make methods` compares: all but the method and the room for its image tokens."""
    known = [load_recipe_card(name) for name in MINI]
    for recipe in known[1:]:
        own = recipe.model_dump(exclude={"name", "title", "path", "method", "data"})
        assert own == known[0].model_dump(exclude={"name", "title", "path", "method", "data"})
        for source, first in zip(recipe.data, known[0].data, strict=True):
            length = {"max_sequence_length"}
            assert source.model_dump(exclude=length) == first.model_dump(exclude=length)


def test_a_slip_does_not_fill_the_machine_with_processes():
    with pytest.raises(CardError, match="less than or equal to 256, found 9999"):
        load_recipe_card("sqa", ["workers=9999"])
