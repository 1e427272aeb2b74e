"""Language models of today as bases, against transformers' own forward on random weights."""

from __future__ import annotations

import json
import shutil
from functools import partial

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Metaspace
from torch.nn import functional
from transformers import (
    AutoTokenizer,
    GPT2Config,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2ForCausalLM,
)

from adem_bench.cards import load_model_card
from adem_bench.errors import CheckpointError
from adem_bench.models.base import ModelOptions, build_model
from adem_bench.models.fused.card import LanguageModelSource, VisionSource
from adem_bench.models.fused.decoder import (
    FusedDecoder,
    KeyValueCache,
    check_architecture,
    projection_sizes,
)
from adem_bench.models.fused.method import LanguageModelAlone, VisualMemory
from adem_bench.models.fused.network import build_network, collate
from adem_bench.models.fused.sequence import InputLayout, SequenceBuilder
from adem_bench.models.fused.tokenizer import HubTokenizer, load_tokenizer, tokenizer_file
from adem_bench.models.fused.weights.clip import load_visual
from adem_bench.records import Request
from adem_bench.registry import METHODS
from support.bases import BASES, SIZES, tiny_base, write_base
from support.fused import WEIGHTS

LENGTHS = (23, 9, 17)


@pytest.fixture(params=BASES)
def llama(request):
    return tiny_base(request.param)


def test_projections_have_the_sizes_that_follow_from_the_configuration(llama):
    layer = llama.model.layers[0]
    found = {
        name: (module.in_features, module.out_features)
        for name, module in layer.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    assert projection_sizes(llama.config) == found


@pytest.fixture
def rows():
    torch.manual_seed(5)
    return [torch.randint(3, 600, (length,)) for length in LENGTHS]


@pytest.mark.parametrize("eager", [False, True])
def test_prompts_and_steps_have_the_logits_of_transformers(llama, rows, eager):
    decoder = FusedDecoder(llama, LanguageModelAlone(), eager)
    cache = KeyValueCache(3, LENGTHS, max(LENGTHS) + 4, "cpu")
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    new = torch.randint(3, 600, (len(rows), 4))
    with torch.inference_mode():
        hidden = decoder(decoder.embed(padded), VisualMemory(), cache)
        prompts = decoder.logits(hidden)
        steps = [
            decoder.logits(decoder.step(decoder.embed(new[:, [i]]), VisualMemory(), cache))[:, 0]
            for i in range(4)
        ]
        for index, row in enumerate(rows):
            whole = torch.cat([row, new[index]])[None]
            expected = llama(whole).logits[0]
            own = torch.cat([prompts[index, : len(row)], *[step[[index]] for step in steps]])
            torch.testing.assert_close(own, expected, atol=1e-5, rtol=1e-5)


METHOD_SETTINGS = {"adem": {}, "memvp": {}, "lavin": {"read_every": 2}}


@pytest.fixture
def network(request, llama):
    """The base with a method whose tensors are all drawn, so that every term counts."""
    visual = load_visual(VisionSource(), WEIGHTS / "clip_tiny.pt", torch.float32)
    method = METHODS.load(request.param)
    settings = method.settings(**METHOD_SETTINGS[request.param])
    network = build_network(llama, visual, method, settings).eval()
    torch.manual_seed(6)
    with torch.no_grad():
        for parameter in network.method.parameters():
            parameter.normal_(0, 0.1)
    return network


def batch_of(network, tokenizer):
    builder = SequenceBuilder(tokenizer, network.method.layout, max_length=64)
    pairs = [("Which one is red?", " A", True), ("Is it?", " no, it is not", False)]
    rows = [builder.training(*pair) for pair in pairs]
    torch.manual_seed(7)
    return collate(rows, [torch.randn(3, 224, 224)], [1, 0]), builder.image_tokens_at


def loss_by_hooks(network, batch, at):
    """The loss by transformers' own forward, the method's terms put in by hooks on its modules."""
    llama, method = network.decoder.llama, network.method
    memory = network.batch_memory(batch.images, batch.indicators)
    embeds = llama.model.embed_tokens(batch.ids).clone()
    if memory.tokens is not None:
        embeds[0, at : at + memory.tokens.shape[1]] = memory.tokens[0]

    def before(module, inputs, output, index):
        return method.before_attention(index, output, memory)

    def after(module, inputs, output, index):
        nothing = torch.zeros_like(output)
        return method.after_feed_forward(index, nothing, inputs[0], output, memory)

    hooks = []
    for index, layer in enumerate(llama.model.layers):
        hooks.append(layer.input_layernorm.register_forward_hook(partial(before, index=index)))
        hooks.append(layer.mlp.register_forward_hook(partial(after, index=index)))
    logits = llama(inputs_embeds=embeds).logits
    for hook in hooks:
        hook.remove()
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten())


def gradients(network, loss):
    network.zero_grad()
    loss.backward()
    tensors = network.method.adapter_tensors()
    return {name: tensor.grad for name, tensor in tensors.items() if tensor.grad is not None}


@pytest.mark.parametrize("network", METHOD_SETTINGS, indirect=True)
def test_loss_and_gradients_are_those_of_transformers_with_the_methods_terms(network, tokenizer):
    batch = batch_of(network, tokenizer)
    loss, expected = network.loss(*batch), loss_by_hooks(network, *batch)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    own, theirs = gradients(network, loss), gradients(network, expected)
    assert set(own) == set(theirs)
    for name, gradient in theirs.items():
        torch.testing.assert_close(own[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"model_type": "gpt2"},
            "of the architecture 'gpt2', and methods run on llama, mistral, qwen2, qwen3 alone",
        ),
        ({"sliding_window": 256}, "reaches 256 tokens back, and rows may have 512; set max_sequ"),
    ],
)
def test_another_architecture_or_a_shorter_reach_is_refused(changes, reason):
    config = MistralConfig(**SIZES)
    for name, value in changes.items():
        setattr(config, name, value)
    with pytest.raises(CheckpointError, match=reason):
        check_architecture(config, 512)


def test_a_folder_of_another_architecture_is_refused_by_its_name(card, tmp_path, qwen):
    for file in qwen.iterdir():
        if file.name != "config.json":
            (tmp_path / file.name).symlink_to(file)
    GPT2Config().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="the language model is of the architecture 'gpt2'"):
        loaded(card(f"language_model.path={tmp_path}"))


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    """A folder as Qwen's are: safetensors, a tokenizer without BOS, a chat template."""
    folder = tmp_path_factory.mktemp("qwen")
    write_base(folder, "qwen2")
    return folder


@pytest.fixture
def card(parity_card, qwen):
    def load(*settings):
        chosen = [f"language_model.path={qwen}", "adapter=none", *settings]
        return load_model_card(str(parity_card), chosen)

    return load


def loaded(card):
    model = build_model(card, ModelOptions("cpu"))
    model.load_adapter_for("any", "any")
    return model


def by_transformers(qwen, text, most):
    """The new ids of greedy generation, and the tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(qwen)
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    network = Qwen2ForCausalLM.from_pretrained(qwen).eval()
    new = network.generate(ids, max_new_tokens=most, do_sample=False)[0, ids.shape[1] :]
    return new.tolist(), tokenizer


def text_of(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=True).removeprefix(" ")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ((), "<|end|>Is it red?"),
        (("language_model.bos_token=''",), "Is it red?"),
        (("language_model.bos_token='<|start|>'",), "<|start|>Is it red?"),
        (
            ("language_model.chat_template=true",),
            "<|start|>user\nIs it red?<|end|>\n<|start|>assistant\n",
        ),
    ],
)
def test_a_prompt_begins_and_ends_as_its_card_says(card, qwen, settings, text):
    (response,) = loaded(card(*settings)).generate([Request("Is it red?", (), 8)])
    ids, tokenizer = by_transformers(qwen, text, 8)
    assert response.text == text_of(tokenizer, ids)


def test_answers_end_at_the_tokens_that_the_card_names(card, qwen):
    ids, tokenizer = by_transformers(qwen, "<|end|>Is it red?", 8)
    end = json.dumps(tokenizer.convert_ids_to_tokens(ids[2]))
    request = Request("Is it red?", (), 8)
    (response,) = loaded(card(f"language_model.end_tokens=[{end}]")).generate([request])
    assert response.text == text_of(tokenizer, ids[: ids.index(ids[2])])


def test_a_learned_answer_follows_the_chat_template_and_is_all_that_is_learned(card):
    source = card("language_model.chat_template=true").language_model
    tokenizer = load_tokenizer(source.path, None, source)
    builder = SequenceBuilder(tokenizer, InputLayout("Image: ", "", image_tokens=2), max_length=80)
    row = builder.training("Red?", "Yes", has_image=True)
    start, end = tokenizer.token_id("<|start|>"), tokenizer.token_id("<|end|>")
    encode = tokenizer.encode
    assert list(row.ids) == [
        start, *encode("user\nImage: "), 0, 0, *encode("Red?"), end, *encode("\n"),
        start, *encode("assistant\n"), *encode("Yes"), end,
    ]  # fmt: skip
    assert list(row.ids[row.supervised_from :]) == [*encode("Yes"), end]
    assert row.ids[builder.image_tokens_at : builder.image_tokens_at + 2] == [0, 0]


def test_every_token_of_an_answer_is_learned_the_first_of_the_vocabulary_too(card):
    source = card().language_model
    tokenizer = load_tokenizer(source.path, None, source)
    builder = SequenceBuilder(tokenizer, InputLayout(), max_length=80)
    row = builder.training("Red?", "Yes!", has_image=False)
    assert tokenizer.encode("!") == [0]
    assert row.labels[row.supervised_from :] == [*tokenizer.encode("Yes"), 0, tokenizer.eos_id]
    batch = collate([row, builder.training("Is it?", "!", has_image=False)], [], [0, 0])
    assert batch.supervised == 5 + 2


@pytest.mark.parametrize(("eos", "unlearned"), [("<unk>", None), ("</s>", 0)])
def test_a_token_of_nothing_is_learned_only_where_it_ends_answers(eos, unlearned):
    inner = Tokenizer(WordLevel({"<unk>": 0, "</s>": 1, "red": 2}, unk_token="<unk>"))
    theirs = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", eos_token=eos)
    assert HubTokenizer(theirs).unlearned_id == unlearned


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("language_model.bos_token=<s>", "bos_token: the tokenizer of .* has no token '<s>'"),
        ("language_model.end_tokens=[nope]", "end_tokens: the tokenizer of .* no token 'nope'"),
    ],
)
def test_a_token_that_the_tokenizer_lacks_is_named(card, setting, reason):
    with pytest.raises(CheckpointError, match=reason):
        loaded(card(setting))


@pytest.mark.parametrize("tokenizer", ["sentencepiece", "hub"])
def test_half_of_a_character_is_no_token(card, tokenizer):
    setting = r'language_model.bos_token="\ud800"'
    own = load_model_card("adem-tiny", [setting]) if tokenizer == "sentencepiece" else card(setting)
    with pytest.raises(CheckpointError, match=r"has no token '\\ud800'"):
        loaded(own).load()


@pytest.mark.parametrize("scheme", ["first", "always"])
def test_a_blank_before_a_message_is_one_where_the_tokenizer_adds_its_own(scheme, tmp_path):
    blank = "\N{LOWER ONE EIGHTH BLOCK}"
    words = ["<unk>", "<s>", "</s>", "[INST]", blank, f"{blank}a", f"{blank}[INST]"]
    words += [f"{blank}[/INST]", f"{blank}red", f"{blank}cat"]
    inner = Tokenizer(WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = Metaspace(prepend_scheme=scheme)
    theirs = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        chat_template="<s>[INST] {{ messages[0].content }} [/INST]",
    )  # fmt: skip
    theirs.save_pretrained(tmp_path)
    source = LanguageModelSource(path="chat", chat_template=True)
    own = load_tokenizer(tmp_path, None, source)
    message = [{"role": "user", "content": "red cat"}]
    whole = theirs.apply_chat_template(message, return_dict=False)
    assert [*own.begin_ids, *own.encode("red cat" + own.after_prompt)] == list(whole)
    assert words.index("<unk>") not in whole


def test_another_models_tokenizer_next_to_a_folder_is_left_alone(card, qwen, tmp_path):
    shutil.copytree(qwen, tmp_path / "qwen")
    shutil.copy(WEIGHTS / "tokenizer.model", tmp_path)
    model = loaded(card(f"language_model.path={tmp_path / 'qwen'}"))
    request = Request("Is it red?", (), 4)
    assert model.generate([request]) == loaded(card()).generate([request])
    (tmp_path / "qwen" / "tokenizer.json").unlink()  # nothing but the file next to it
    assert tokenizer_file(tmp_path / "qwen") == tmp_path / "tokenizer.model"


def test_a_tokenizer_without_chat_template_is_told(parity_card):
    card = load_model_card(str(parity_card), ["language_model.chat_template=true"])
    reason = "has no chat template in tokenizer.model; leave the field out"
    with pytest.raises(CheckpointError, match=reason):
        loaded(card)


def test_what_stands_around_prompts_makes_another_fingerprint(card):
    settings = ("bos_token=''", "chat_template=true", "end_tokens=['!']")
    cards = [card(), *(card(f"language_model.{setting}") for setting in settings)]
    assert len({loaded(one).fingerprint() for one in cards}) == 4


def test_another_chat_template_makes_another_fingerprint_where_it_is_used(card, qwen, tmp_path):
    shutil.copytree(qwen, tmp_path / "other")
    with (tmp_path / "other" / "chat_template.jinja").open("a") as file:
        file.write(" ")

    def fingerprint(folder, *settings):
        return loaded(card(f"language_model.path={folder}", *settings)).fingerprint()

    chat = "language_model.chat_template=true"
    assert fingerprint(qwen, chat) != fingerprint(tmp_path / "other", chat)
    assert fingerprint(qwen) == fingerprint(tmp_path / "other")
