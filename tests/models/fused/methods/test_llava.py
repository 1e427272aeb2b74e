"""LLaVA's connector against transformers' LlavaForConditionalGeneration on the same weights."""

from __future__ import annotations

from copy import deepcopy
from typing import get_args

import pytest
import torch
from open_clip.transformer import QuickGELU, VisionTransformer
from peft import LoraConfig, get_peft_model
from torch.nn import functional
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from adem_bench.cards import load_model_card
from adem_bench.errors import CheckpointError
from adem_bench.models.base import ModelOptions, build_model
from adem_bench.models.fused.decoder import projection_sizes
from adem_bench.models.fused.generation import generate
from adem_bench.models.fused.lora import LoraProjections
from adem_bench.models.fused.method import FrozenSizes
from adem_bench.models.fused.methods.llava import Llava, LlavaSettings, Target
from adem_bench.models.fused.network import build_network, collate
from adem_bench.models.fused.sequence import PromptRow, SequenceBuilder
from adem_bench.models.fused.weights.adapter import AdapterSettings, read_adapter, write_adapter
from adem_bench.models.fused.weights.llama import language_config
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


def network_of(reference, settings):
    """Our network with the frozen weights of transformers' one."""
    return build_network(
        Decoder(reference), open_clip_tower(reference.model.vision_tower), Llava, settings
    ).eval()


def projector_of(reference):
    projector = reference.model.multi_modal_projector
    return {f"multi_modal_projector.{n}": p for n, p in projector.named_parameters()}


@pytest.fixture
def network(reference):
    network = network_of(reference, LlavaSettings())
    network.method.load_adapter(projector_of(reference), "of transformers")
    reference.requires_grad_(False)
    reference.model.multi_modal_projector.requires_grad_(True)
    return network


@pytest.fixture(params=[get_args(Target), ("q_proj", "v_proj")], ids=["all", "two"])
def tuned(reference, request):
    """Our network and peft's model of transformers' one, with the same matrices."""
    settings = LlavaSettings(lora_rank=4, lora_alpha=12, lora_targets=request.param)
    network = network_of(deepcopy(reference), settings)
    config = LoraConfig(
        r=4, lora_alpha=12, lora_dropout=0.05,
        target_modules=rf".*language_model.*\.({'|'.join(request.param)})",
    )  # fmt: skip
    peft = get_peft_model(deepcopy(reference), config).eval()
    peft.base_model.model.model.multi_modal_projector.requires_grad_(True)
    generator = torch.Generator().manual_seed(6)
    theirs = {}
    for name, tensor in peft.named_parameters():
        if ".lora_" in name:
            tensor.data.copy_(torch.randn(tensor.shape, generator=generator) * 0.2)
            theirs[name.replace("language_model.", "").replace(".default.", ".")] = tensor
    theirs |= projector_of(peft.base_model.model)
    network.method.load_adapter(theirs, "of peft")
    return network, peft, theirs


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(4))


def test_answers_are_those_of_transformers(network, reference, tokenizer, images):
    check_answers(network, reference, tokenizer, images)


def test_answers_with_lora_are_those_of_peft_merged_or_not(tuned, tokenizer, images):
    network, peft, _ = tuned
    check_answers(network, peft, tokenizer, images)
    check_answers(network, peft.merge_and_unload(), tokenizer, images)


def check_answers(network, reference, tokenizer, images):
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
    check_gradients(network, reference, projector_of(reference), tokenizer, images)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_loss_and_gradients_with_lora_are_those_of_peft(tuned, tokenizer, images, checkpointed):
    network, peft, theirs = tuned
    network.decoder.checkpoint_activations(checkpointed)
    check_gradients(network, peft, theirs, tokenizer, images)
    assert all(tensor.grad is None for tensor in network.decoder.llama.parameters())


def check_gradients(network, reference, theirs, tokenizer, images):
    builder = SequenceBuilder(tokenizer, network.method.layout, max_length=64)
    row = builder.training(QUESTIONS[0], " the left one", True)
    batch = collate([row], [images[0]], [1])
    network.loss(batch, builder.image_tokens_at).backward()
    ids = batch.ids.clone()
    ids[0, 1 : 1 + PATCHES] = IMAGE
    logits = reference(input_ids=ids, pixel_values=images[:1]).logits
    functional.cross_entropy(logits[0, :-1], batch.labels[0, 1:]).backward()
    own = network.method.adapter_tensors()
    assert own.keys() == theirs.keys()
    for name, parameter in own.items():
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


@pytest.fixture(params=[(0, get_args(Target)), (3, ("o_proj", "up_proj"))], ids=["frozen", "lora"])
def adapter(request, parity, tmp_path):
    """An adapter's folder for the tiny published model, with the rank and targets of its LoRA."""
    rank, targets = request.param
    config = language_config(parity / "weights" / "tiny")
    sizes = FrozenSizes(
        vision_width=128, vision_blocks=4, patches=256, language_width=64, language_layers=4,
        projections=projection_sizes(config),
    )  # fmt: skip
    torch.manual_seed(5)
    settings = LlavaSettings(lora_rank=rank, lora_targets=targets)
    tensors = Llava(settings, sizes).adapter_tensors()
    for name, tensor in tensors.items():
        if ".lora_B." in name:
            tensor.data.normal_(std=0.5)
    write_adapter(tmp_path / "adapter", tensors, AdapterSettings(method="llava"))
    return tmp_path / "adapter", rank, targets


def test_an_adapter_is_written_recognised_and_answers_by_its_image(parity_card, pictures, adapter):
    folder, rank, targets = adapter
    read = read_adapter(folder)
    assert read.method is Llava
    assert read.settings.values == (
        {"lora_rank": rank, "lora_targets": targets} if rank else {"lora_rank": 0}
    )
    adapters = f"adapters={{default: {{path: {folder}}}}}"
    card = load_model_card(str(parity_card), ["fusion={kind: llava}", adapters])
    model = build_model(card, ModelOptions("cpu"))
    model.load_adapter_for("any", "any")
    requests = [Request("Is it red?", (picture,), 6) for picture in pictures[:3]]
    found = model.generate([*requests, Request("Is it red?", (), 6)])
    assert found == [model.generate([request])[0] for request in requests] + [found[3]]
    assert len({response.text for response in found}) > 1


def test_where_answers_of_a_question_without_image_differ_lora_is_all_that_does(
    parity_card, adapter
):
    folder, rank, _ = adapter
    adapters = f"adapters={{default: {{path: {folder}}}, other: {{path: none}}}}"
    card = load_model_card(str(parity_card), ["fusion={kind: llava}", adapters])
    model = build_model(card, ModelOptions("cpu"))
    request = Request("Is it red?", (), 6, choices=("A", "B"))
    found = []
    for task in ("any", "other", "any"):
        model.load_adapter_for(task, "any")
        found.append(model.generate([request])[0].choice_logprobs)
    # The frozen projections are those of all adapters: one leaves nothing behind.
    assert found[0] == found[2]
    assert (found[0] != found[1]) is bool(rank)


def test_without_its_package_lora_is_refused_with_the_extra_that_brings_it():
    with pytest.raises(CheckpointError, match=r"lora_rank 8.*needs no_such.*adem-bench\[lora\]"):
        LoraProjections({"mlp.up_proj": (4, 8)}, 1, 8, 16, 0.0, package="no_such")
