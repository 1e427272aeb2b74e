"""LLaVA's connector against transformers' LlavaForConditionalGeneration on the same weights."""

from __future__ import annotations

import pytest
import torch
from open_clip.transformer import QuickGELU, VisionTransformer
from torch.nn import functional
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from adem_bench.cards import load_model_card
from adem_bench.errors import CheckpointError
from adem_bench.models.base import ModelOptions, build_model
from adem_bench.models.fused.generation import generate
from adem_bench.models.fused.method import FrozenSizes
from adem_bench.models.fused.methods.llava import Llava, LlavaSettings
from adem_bench.models.fused.network import build_network, collate
from adem_bench.models.fused.sequence import PromptRow, SequenceBuilder
from adem_bench.models.fused.weights.adapter import AdapterSettings, read_adapter, write_adapter
from adem_bench.records import Request
from support.fused import meta_network

IMAGE = 599
"""The token that stands for a patch in transformers' input."""
PATCHES = 4
QUESTIONS = ("Which one is red?", "Is it a cat, or is it a dog?")


@pytest.fixture(scope="module")
def reference():
    vision = CLIPVisionConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=1,
        image_size=28, patch_size=14, hidden_act="quick_gelu",
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=600, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, initializer_range=0.2,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=IMAGE,
        image_seq_length=PATCHES, vision_feature_layer=-2,
    )  # fmt: skip
    torch.manual_seed(3)
    made = LlavaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in made.model.vision_tower.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return made


def open_clip_tower(vision) -> VisionTransformer:
    """An open_clip tower with the weights of transformers' one."""
    tower = VisionTransformer(
        image_size=28,
        patch_size=14,
        width=64,
        layers=3,
        heads=1,
        mlp_ratio=2.0,
        act_layer=QuickGELU,
    )
    theirs = dict(vision.state_dict())
    theirs = {name.removeprefix("vision_model."): tensor for name, tensor in theirs.items()}
    own = {
        "class_embedding": theirs["embeddings.class_embedding"],
        "positional_embedding": theirs["embeddings.position_embedding.weight"],
        "conv1.weight": theirs["embeddings.patch_embedding.weight"],
        "proj": tower.proj,
    }
    norms = {"ln_pre": "pre_layrnorm", "ln_post": "post_layernorm"}
    for layer in range(3):
        ours, at = f"transformer.resblocks.{layer}", f"encoder.layers.{layer}"
        norms |= {f"{ours}.ln_1": f"{at}.layer_norm1", f"{ours}.ln_2": f"{at}.layer_norm2"}
        norms |= {f"{ours}.mlp.c_fc": f"{at}.mlp.fc1", f"{ours}.mlp.c_proj": f"{at}.mlp.fc2"}
        norms[f"{ours}.attn.out_proj"] = f"{at}.self_attn.out_proj"
        for kind in ("weight", "bias"):
            parts = [theirs[f"{at}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            own[f"{ours}.attn.in_proj_{kind}"] = torch.cat(parts)
    for name, other in norms.items():
        own |= {f"{name}.{kind}": theirs[f"{other}.{kind}"] for kind in ("weight", "bias")}
    tower.load_state_dict(own)
    return tower.eval()


class Decoder(torch.nn.Module):
    """Transformers' language model within LLaVA, as a causal language model of its own."""

    def __init__(self, reference):
        super().__init__()
        self.model, self.lm_head = reference.model.language_model, reference.lm_head
        self.config = reference.config.text_config


@pytest.fixture
def network(reference):
    tower = open_clip_tower(reference.model.vision_tower)
    network = build_network(Decoder(reference), tower, Llava, LlavaSettings()).eval()
    projector = reference.model.multi_modal_projector
    own = {f"multi_modal_projector.{n}": p for n, p in projector.named_parameters()}
    network.method.load_adapter(own, "of transformers")
    reference.requires_grad_(False)
    projector.requires_grad_(True)
    return network


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(4))


def test_answers_are_those_of_transformers(network, reference, tokenizer, images):
    builder = SequenceBuilder(tokenizer, network.method.layout)
    rows = [builder.prompt(question, True, 8) for question in QUESTIONS]
    with torch.inference_mode():
        memory = network.encode_images(images)
        own = generate(network.decoder, rows, memory, 8, tokenizer.end_ids)
    for index, row in enumerate(rows):
        ids = torch.tensor([row.ids])
        ids[0, 1 : 1 + PATCHES] = IMAGE
        with torch.inference_mode():
            logits = reference(input_ids=ids, pixel_values=images[[index]]).logits[0, -1]
            new = reference.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=images[[index]],
                max_new_tokens=8, do_sample=False, eos_token_id=tokenizer.eos_id,
            )[0, ids.shape[1] :]  # fmt: skip
        torch.testing.assert_close(own.first_logits[index], logits, atol=1e-5, rtol=1e-5)
        assert own.ids[index] == [token for token in new.tolist() if token != tokenizer.eos_id]


def test_loss_and_gradients_are_those_of_transformers(network, reference, tokenizer, images):
    builder = SequenceBuilder(tokenizer, network.method.layout, max_length=64)
    row = builder.training(QUESTIONS[0], " the left one", True)
    batch = collate([row], [images[0]], [1])
    network.loss(batch, builder.image_tokens_at).backward()
    ids = batch.ids.clone()
    ids[0, 1 : 1 + PATCHES] = IMAGE
    logits = reference(input_ids=ids, pixel_values=images[:1]).logits
    functional.cross_entropy(logits[0, :-1], batch.labels[0, 1:]).backward()
    theirs = dict(reference.model.multi_modal_projector.named_parameters())
    for name, parameter in network.method.multi_modal_projector.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name].grad, atol=1e-5, rtol=1e-4)
        theirs[name].grad = None


def test_a_row_without_image_is_the_language_model_alone(network, tokenizer):
    builder = SequenceBuilder(tokenizer, network.method.layout, max_length=64)
    row = builder.training(QUESTIONS[0], " no", False)
    batch = collate([row], [], [0])
    loss = network.loss(batch, builder.image_tokens_at)
    alone = network.decoder.llama
    states = alone.model(input_ids=batch.ids).last_hidden_state
    expected = functional.cross_entropy(alone.lm_head(states)[0, :-1], batch.labels[0, 1:])
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert not loss.requires_grad


def test_tuned_tensors_of_the_published_size():
    found = meta_network(Llava, LlavaSettings(), 4096, 32, 32).method.adapter_tensors()
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {
        "multi_modal_projector.linear_1.weight": (4096, 1024),
        "multi_modal_projector.linear_1.bias": (4096,),
        "multi_modal_projector.linear_2.weight": (4096, 4096),
        "multi_modal_projector.linear_2.bias": (4096,),
    }


def test_an_over_long_question_loses_its_start_and_never_the_image():
    sizes = FrozenSizes(
        vision_width=8, vision_blocks=2, patches=4, language_width=8, language_layers=1
    )
    method = Llava(LlavaSettings(), sizes)
    row = PromptRow([1, 0, 0, 0, 0, *range(10, 30)], image_tokens_at=1)
    assert method.cut_prompt(row, 16, 4).ids == [1, 0, 0, 0, 0, *range(23, 30)]
    text = PromptRow([1, *range(10, 30)], image_tokens_at=None)
    assert method.cut_prompt(text, 16, 4).ids == list(range(18, 30))
    with pytest.raises(CheckpointError, match="an image takes 4 tokens, which with 12 new ones"):
        method.cut_prompt(row, 16, 12)
    with pytest.raises(CheckpointError, match="skipped_blocks 2 leaves nothing"):
        Llava(LlavaSettings(skipped_blocks=2), sizes)


def test_an_adapter_is_written_recognised_and_answers_by_its_image(parity_card, pictures, tmp_path):
    sizes = FrozenSizes(
        vision_width=128, vision_blocks=4, patches=256, language_width=64, language_layers=4
    )
    torch.manual_seed(5)
    tensors = Llava(LlavaSettings(), sizes).adapter_tensors()
    write_adapter(tmp_path / "adapter", tensors, AdapterSettings(method="llava"))
    assert read_adapter(tmp_path / "adapter").method is Llava
    adapter = f"adapters={{default: {{path: {tmp_path / 'adapter'}}}}}"
    card = load_model_card(str(parity_card), ["fusion={kind: llava}", adapter])
    model = build_model(card, ModelOptions("cpu"))
    model.load_adapter_for("any", "any")
    requests = [Request("Is it red?", (picture,), 6) for picture in pictures[:3]]
    found = model.generate([*requests, Request("Is it red?", (), 6)])
    assert found == [model.generate([request])[0] for request in requests] + [found[3]]
    assert len({response.text for response in found}) > 1
