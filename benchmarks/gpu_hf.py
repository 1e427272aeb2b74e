"""`hf:` in batches next to transformers' generate one by one, at LLaVA-1.5's shape."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import workloads
from device_model import TOKENIZER, Numbers, Shape, randomize
from gpu import share_of_equal, watched
from speed import run_ours
from torch import nn
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from adem_bench.cards import load_model_card
from adem_bench.images import open_rgb
from adem_bench.models.base import ModelOptions
from adem_bench.models.hf import model as hf_model
from adem_bench.models.hf.loading import Unloaded, decode_plainly
from adem_bench.records import Request

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.tiny_hf import template, tokenizer

NEW_TOKENS, PATCH = 20, 14


def transformers_model(
    shape: Shape, dtype: str, device: torch.device, arguments: Any
) -> Iterator[dict[str, Any]]:
    """Yield samples per second of questions about images with 20 new tokens.

    Args:
        shape: Of the model.
        dtype: Of its weights.
        device: Where it is.
        arguments: Of the command line.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, processor, network = _made(shape, getattr(torch, dtype), device, folder)
        words = Numbers(TOKENIZER)
        requests = [
            Request(request.prompt, request.images, NEW_TOKENS)
            for request in workloads.mme(folder, arguments.samples, words)
        ]
        few = requests[: arguments.published_samples]

        def one_by_one() -> list[str]:
            return [_generated(processor, network, model, request) for request in few]

        _generated(processor, network, model, few[0])
        seconds, memory, theirs = watched(one_by_one, device)
        run_ours(model, requests[:8])
        our_seconds, our_memory, ours = watched(lambda: run_ours(model, requests), device)
        yield {
            "measured": "hf: LLaVA-1.5", "samples": len(requests), "one_by_one_samples": len(few),
            "one_by_one_per_s": len(few) / seconds, "adem_bench_per_s": len(requests) / our_seconds,
            "times": len(requests) / our_seconds / (len(few) / seconds),
            "one_by_one_gib": memory, "adem_bench_gib": our_memory,
            "same": share_of_equal(theirs, ours[: len(few)]),
        }  # fmt: skip


@torch.inference_mode()
def _generated(processor: Any, network: Any, model: Any, request: Request) -> str:
    text = model._prompts.text(request)
    images = [open_rgb(path) for path in request.images]
    inputs = processor(images=images, text=text, return_tensors="pt", add_special_tokens=False)
    inputs = inputs.to(network.device, network.dtype)
    ids = network.generate(**inputs, max_new_tokens=request.max_new_tokens, do_sample=False)
    new = ids[0, inputs["input_ids"].shape[1] :]
    return str(processor.tokenizer.decode(new, skip_special_tokens=True))


def _made(
    shape: Shape, dtype: torch.dtype, device: torch.device, folder: Path
) -> tuple[hf_model.HfModel, Any, nn.Module]:
    """Return the model of a card, its processor and its network, with random weights."""
    is_small = shape.name == "toy"
    side = 56 if is_small else 336
    words = tokenizer(("<image>",))
    text = shape.config
    text.pad_token_id, text.bos_token_id, text.eos_token_id = (
        words.pad_token_id, words.bos_token_id, words.eos_token_id
    )  # fmt: skip
    vision = CLIPVisionConfig(
        image_size=side, patch_size=PATCH, hidden_size=shape.vision_width,
        intermediate_size=4 * shape.vision_width, num_hidden_layers=shape.vision_blocks,
        num_attention_heads=shape.vision_width // 64,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=text,
        image_token_id=words.convert_tokens_to_ids("<image>"), dtype=dtype,
    )  # fmt: skip
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side}),
        words,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template("<image>", "<s>"),
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            network = LlavaForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)
    randomize(network)
    with torch.no_grad():  # ids that the tokenizer has no text for are never the most probable
        network.lm_head.weight[len(words) :] = 0
        network.lm_head.weight[: len(words.all_special_ids)] = 0
    network.eval()
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
    card = load_model_card(f"hf:{folder}", [f"dtype={str(dtype).removeprefix('torch.')}"])
    decode_plainly(card, network, words)
    unloaded = Unloaded(config, processor, LlavaForConditionalGeneration, network)
    # All that loading would do with weights in files.
    with (
        patch.object(hf_model, "prepare", lambda *_: unloaded),
        patch.object(hf_model, "load", lambda *_: network),
    ):
        model = hf_model.HfModel(card, ModelOptions(str(device)))
        model.load()
    model.load_adapter_for("task", "kind")
    return model, processor, network
