"""Tiny random models of three architectures, saved as transformers saves real ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

IDEFICS_TOKENS = (
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
    "<end_of_utterance>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
)
QWEN_TOKENS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
TEMPLATE = (
    "{% for message in messages %}ROLE:{{ message['role'] }} "
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}\n{% endfor %}{% if add_generation_prompt %}ANSWER:{% endif %}"
)


def template(image: str, start: str = "", answer: str = "ANSWER:") -> str:
    """A chat template with an image's own tokens."""
    return start + TEMPLATE.replace("IMAGE", image).replace("ANSWER:", answer)


def tokenizer(special: tuple[str, ...], **more: Any) -> Any:
    """A byte-level tokenizer: every text is representable, every id is a byte or special."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = ("<pad>", "<s>", "</s>", "<unk>", *special)
    vocabulary = {name: place for place, name in enumerate((*names, *letters))}
    inner = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        **more,
    )
    made.add_special_tokens({"additional_special_tokens": list(special)})
    return made


def llava(folder: Path) -> None:
    """LLaVA: CLIP and a LLaMA; 9 tokens an image, whatever its size."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    words = tokenizer(("<image>",))
    vision = CLIPVisionConfig(image_size=24, patch_size=8, num_hidden_layers=2, **tower())
    text = LlamaConfig(vocab_size=len(words), **TEXT, **HEADS, **special_ids(words))
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=words.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )
    images = CLIPImageProcessor(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    processor = LlavaProcessor(
        images,
        words,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template("<image>", "<s>"),
    )
    save_tiny(folder, LlavaForConditionalGeneration, config, processor)


def qwen2_vl(folder: Path) -> None:
    """Qwen2-VL: as many tokens as an image has pixels for, positions in three dimensions."""
    from transformers import (
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
    )
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    words = tokenizer(QWEN_TOKENS)
    ids = {name: words.convert_tokens_to_ids(name) for name in QWEN_TOKENS}
    config = Qwen2VLConfig(
        text_config={
            **TEXT,
            **HEADS,
            **special_ids(words),
            "vocab_size": len(words),
            "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
        },
        vision_config={
            "depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "patch_size": 4,
            "mlp_ratio": 2, "spatial_merge_size": 2, "temporal_patch_size": 2,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    pixels = {"min_pixels": 8 * 8, "max_pixels": 64 * 64, "patch_size": 4, "merge_size": 2}
    processor = Qwen2VLProcessor(
        Qwen2VLImageProcessor(**pixels),
        words,
        Qwen2VLVideoProcessor(**pixels),
        chat_template=template(
            "<|vision_start|><|image_pad|><|vision_end|>", answer="<|im_start|>assistant\n"
        ),
    )
    save_tiny(folder, Qwen2VLForConditionalGeneration, config, processor)


def idefics3(folder: Path) -> None:
    """Idefics3, the architecture of SmolVLM: images in tiles."""
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessor,
        Idefics3Processor,
    )

    words = tokenizer(IDEFICS_TOKENS)
    config = Idefics3Config(
        vision_config={"image_size": 16, "patch_size": 4, "num_hidden_layers": 2, **tower()},
        text_config={
            "model_type": "llama",
            "vocab_size": len(words),
            **TEXT,
            **HEADS,
            **special_ids(words),
        },
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=words.pad_token_id,
    )
    images = Idefics3ImageProcessor(
        size={"longest_edge": 32}, max_image_size={"longest_edge": 16}, do_image_splitting=True
    )
    processor = Idefics3Processor(
        images, words, image_seq_len=4, chat_template=template("<image>", "<s>")
    )
    save_tiny(folder, Idefics3ForConditionalGeneration, config, processor)


BUILDERS: dict[str, Callable[[Path], None]] = {
    "llava": llava,
    "qwen2_vl": qwen2_vl,
    "idefics3": idefics3,
}


def tower() -> dict[str, Any]:
    return {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}


def special_ids(words: Any) -> dict[str, Any]:
    return {
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }


def save_tiny(folder: Path, kind: Any, config: Any, processor: Any, seed: int = 1) -> None:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = kind(config)
        # As they are drawn, weights are too small for the images to change an answer.
        for name, weight in network.named_parameters():
            if weight.ndim > 1 and "latent_query" not in name:  # which begin as large
                weight.data.mul_(8)
            if not weight.any() and (weight.ndim > 1 or "gate" in name):
                weight.data.normal_(0, 0.5)
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
