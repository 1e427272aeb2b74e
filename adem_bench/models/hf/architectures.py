"""What is particular to an architecture of transformers: how it takes batches, images and prompts.

Most is found out by asking the processor about blank images; a table holds what cannot be.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from adem_bench.errors import CheckpointError

SAFE_WITH_PADDING = frozenset(
    {
        "aya_vision", "blip-2", "deepseek_vl", "gemma3", "glm4v", "idefics2", "idefics3",
        "instructblip", "internvl", "janus", "llava", "llava_next", "llava_onevision", "mistral3",
        "mllama", "ovis2", "paligemma", "qwen2_5_vl", "qwen2_vl", "qwen3_vl",
        "smolvlm", "vipllava",
    }
)  # fmt: skip
"""Model types whose answers do not depend on padding (tests/models/hf/test_architectures.py).

Rows of all others share a batch only where none of them needs padding.
"""
REFUSED = {
    "pix2struct": "it reads its prompt as pixels, or none at all",
    "vision-encoder-decoder": "it reads images, but no prompts",
}
"""Model types that cannot be asked a question, and why."""
OPEN_PROMPTS = frozenset({"git"})
"""Model types whose prompts begin with BERT's `[CLS]` and go on where `[SEP]` would be."""
DROPPED_AT_END = {"blip": 1}
"""Ids at a prompt's end that a model type's own generate leaves out."""
WRITES_PLACEHOLDERS = frozenset({"blip-2", "florence2", "fuyu", "instructblip", "kosmos-2"})
"""Model types whose processors put an image's tokens into a plain prompt by themselves."""
UNKNOWN_TO_NETWORKS = ("token_type_ids", "mm_token_type_ids")
"""What tokenizers make whether or not the network takes it."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """How a network takes what it is asked."""

    is_padded: bool
    """Whether rows of unequal length may share a batch."""
    takes_images: int | None
    """The most images of a prompt; None if there is no limit that is known."""
    needs_image: bool
    """Whether it answers about an image only."""
    unknown_inputs: tuple[str, ...]
    """What its processor makes and it does not take."""

    def fault(self, images: int) -> str | None:
        """Return why a prompt with so many images cannot be asked; None if it can."""
        if images == 0 and self.needs_image:
            return "the model answers about an image, and the sample has none"
        if self.takes_images is not None and images > self.takes_images:
            return f"the model takes {self.takes_images} image per prompt, the sample has {images}"
        return None


def check_kind(name: str, model_type: str) -> None:
    """Refuse what is no model for questions about images.

    Args:
        name: The card's.
        model_type: As its configuration says.

    Raises:
        CheckpointError: it cannot be asked.
    """
    if model_type in REFUSED:
        raise CheckpointError(
            f"model {name} is a {model_type}, which cannot be asked: {REFUSED[model_type]}; choose "
            "an image-text-to-text model whose prompt is text"
        )


def describe_network(network: Any, prompt_lengths: tuple[int | None, ...]) -> Architecture:
    """Return how a loaded network takes what it is asked.

    Args:
        network: A generative model of transformers.
        prompt_lengths: Tokens of one prompt without image, with one and with two; None where its
            processor refuses it.
    """
    without, one, two = prompt_lengths
    parameters = inspect.signature(network.generate).parameters
    pixels = parameters.get("pixel_values")
    needs_pixels = pixels is not None and pixels.default is inspect.Parameter.empty
    # A second image that adds nothing to the prompt is one that the network does not look at.
    takes_one = one is not None and (two is None or two == one)
    taken = {
        name
        for function in (network.forward, network.prepare_inputs_for_generation, network.generate)
        for name in inspect.signature(function).parameters
    }
    return Architecture(
        is_padded=network.config.model_type in SAFE_WITH_PADDING,
        takes_images=1 if takes_one else None,
        needs_image=needs_pixels or (one is not None and without is None),
        unknown_inputs=tuple(name for name in UNKNOWN_TO_NETWORKS if name not in taken),
    )


def end_tokens(network: Any) -> frozenset[int]:
    """Return the ids at which an answer of a network ends; padding, if it has no end of its own."""
    settings = [network.generation_config]
    if settings[0].eos_token_id is None:
        # Networks that leave generation to their language model.
        settings += [
            module.generation_config
            for module in network.modules()
            if getattr(module, "generation_config", None) is not None
        ]
    found: set[int | None] = set()
    for one in settings:
        ends = one.eos_token_id
        found |= set(ends) if isinstance(ends, list | tuple) else {ends}
    if network.config.model_type == "blip":
        # Its own generate stops there, whatever its settings say.
        found.add(network.config.text_config.sep_token_id)
    return frozenset(id for id in found if id is not None) or frozenset({settings[0].pad_token_id})
