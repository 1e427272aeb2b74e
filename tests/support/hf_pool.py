"""Tiny random models of many architectures of transformers, beside the three of `tiny_hf`."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers as hf

from support.tiny_hf import (
    HEADS,
    IDEFICS_TOKENS,
    QWEN_TOKENS,
    TEXT,
    idefics3,
    llava,
    qwen2_vl,
    save_tiny,
    special_ids,
    template,
    tokenizer,
    tower,
)

SIDE = 24
SQUARE = {"height": SIDE, "width": SIDE}
SHORT_SIDE = {"shortest_edge": SIDE}
GRID = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
FOUR_HEADS = {**TEXT, "num_attention_heads": 4}
PATCHES = {"image_size": SIDE, "patch_size": 8, "num_hidden_layers": 2}
PIXELS = {"min_pixels": 64, "max_pixels": 4096, "patch_size": 4, "merge_size": 2}
PIXEL_SIZES = {
    "size": {"shortest_edge": 64, "longest_edge": 4096},
    "patch_size": 4,
    "merge_size": 2,
}
ROTARY_3D = {"type": "mrope", "mrope_section": [1, 1, 2]}
TILES = {"max_image_size": {"longest_edge": 16}, "size": {"longest_edge": 32}}


def named(special: tuple[str, ...], **names: str) -> Any:
    """A tokenizer that calls some of its special tokens by a name, such as `image_token`."""
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(special)._tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens=names,
    )


def letters(*special: str) -> Any:
    """BERT's tokenizer with a vocabulary of characters."""
    signs = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *special]
    words += [*signs, *(f"##{sign}" for sign in signs)]
    return hf.BertTokenizerFast(vocab={word: place for place, word in enumerate(words)})


def of_text(words: Any, **more: Any) -> dict[str, Any]:
    return {"vocab_size": len(words), **TEXT, **HEADS, **special_ids(words), **more}


def id_of(words: Any, token: str) -> int:
    return words.convert_tokens_to_ids(token)


def clip_tower() -> Any:
    return hf.CLIPVisionConfig(**PATCHES, **tower())


def siglip_tower(**more: Any) -> Any:
    return hf.SiglipVisionConfig(**PATCHES, **tower(), vision_use_head=False, **more)


def clip_images(**more: Any) -> Any:
    return hf.CLIPImageProcessor(size=SHORT_SIDE, crop_size=SQUARE, **more)


def vipllava(folder: Path) -> None:
    """Two layers of the tower side by side."""
    words = tokenizer(("<image>",))
    config = hf.VipLlavaConfig(
        vision_config=clip_tower(),
        text_config=hf.LlamaConfig(**of_text(words)),
        image_token_index=id_of(words, "<image>"),
        vision_feature_layers=[-2, -1],
    )
    processor = hf.LlavaProcessor(
        clip_images(), words, patch_size=8, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=template("<image>", "<s>"),
    )  # fmt: skip
    save_tiny(folder, hf.VipLlavaForConditionalGeneration, config, processor)


def llava_next(folder: Path) -> None:
    """Tiles by the shape of the image."""
    words = tokenizer(("<image>",))
    config = hf.LlavaNextConfig(
        vision_config=clip_tower(),
        text_config=hf.LlamaConfig(**of_text(words)),
        image_token_id=id_of(words, "<image>"),
        vision_feature_layer=-1,
        image_grid_pinpoints=GRID,
    )
    images = hf.LlavaNextImageProcessor(
        size=SHORT_SIDE, crop_size=SQUARE, image_grid_pinpoints=GRID
    )
    processor = hf.LlavaNextProcessor(
        images, words, patch_size=8, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=template("<image>", "<s>"),
    )  # fmt: skip
    save_tiny(folder, hf.LlavaNextForConditionalGeneration, config, processor)


def llava_onevision(folder: Path) -> None:
    """Tiles, SigLIP and Qwen2."""
    words = tokenizer(("<image>", "<video>"))
    config = hf.LlavaOnevisionConfig(
        vision_config=siglip_tower(),
        text_config=hf.Qwen2Config(**of_text(words)),
        image_token_id=id_of(words, "<image>"),
        video_token_id=id_of(words, "<video>"),
        vision_feature_layer=-1,
        image_grid_pinpoints=GRID,
        vision_aspect_ratio="anyres_max_9",
    )
    processor = hf.LlavaOnevisionProcessor(
        hf.LlavaOnevisionImageProcessor(size=SQUARE, image_grid_pinpoints=GRID), words,
        hf.LlavaOnevisionVideoProcessor(size=SQUARE), num_image_tokens=9,
        vision_feature_select_strategy="full", chat_template=template("<image>", "<s>"),
    )  # fmt: skip
    save_tiny(folder, hf.LlavaOnevisionForConditionalGeneration, config, processor)


def qwen_ids(words: Any) -> dict[str, int]:
    names = {
        "image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>",
    }  # fmt: skip
    return {name: id_of(words, token) for name, token in names.items()}


def qwen_tower(**more: Any) -> dict[str, Any]:
    return {
        "depth": 2, "hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 32,
        "num_heads": 4, "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2, **more,
    }  # fmt: skip


SEEING = {**tower(), "initializer_range": 0.02}
"""Of towers that BLIP's configurations begin with next to no weights."""
QWEN_TEMPLATE = template(
    "<|vision_start|><|image_pad|><|vision_end|>", answer="<|im_start|>assistant\n"
)


def qwen2_5_vl(folder: Path) -> None:
    """Attention of the tower in windows."""
    words = tokenizer(QWEN_TOKENS)
    config = hf.Qwen2_5_VLConfig(
        text_config=of_text(words, rope_scaling=ROTARY_3D),
        vision_config=qwen_tower(window_size=16, fullatt_block_indexes=[1]),
        **qwen_ids(words),
    )
    processor = hf.Qwen2_5_VLProcessor(
        hf.Qwen2VLImageProcessor(**PIXELS), words, hf.Qwen2VLVideoProcessor(**PIXELS),
        chat_template=QWEN_TEMPLATE,
    )  # fmt: skip
    save_tiny(folder, hf.Qwen2_5_VLForConditionalGeneration, config, processor)


def qwen3_vl(folder: Path) -> None:
    """Features of the tower in several layers of the decoder."""
    words = tokenizer(QWEN_TOKENS)
    rotary = {"rope_type": "default", "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    config = hf.Qwen3VLConfig(
        text_config=of_text(words, head_dim=8, rope_scaling=rotary),
        vision_config=qwen_tower(num_position_embeddings=64, deepstack_visual_indexes=[0]),
        **qwen_ids(words),
    )
    processor = hf.Qwen3VLProcessor(
        hf.Qwen2VLImageProcessor(**PIXEL_SIZES), words, hf.Qwen3VLVideoProcessor(**PIXEL_SIZES),
        chat_template=QWEN_TEMPLATE,
    )  # fmt: skip
    save_tiny(folder, hf.Qwen3VLForConditionalGeneration, config, processor)


def glm4v(folder: Path) -> None:
    """Positions in three dimensions, images between tokens of their own."""
    kinds = ("image", "video")
    marks = [f"<|{edge}_of_{kind}|>" for kind in kinds for edge in ("begin", "end")]
    words = tokenizer(("<|image|>", "<|video|>", *marks, "[gMASK]", "<sop>"))
    ids = {f"{kind}_token_id": id_of(words, f"<|{kind}|>") for kind in kinds}
    for kind in kinds:
        ids[f"{kind}_start_token_id"] = id_of(words, f"<|begin_of_{kind}|>")
        ids[f"{kind}_end_token_id"] = id_of(words, f"<|end_of_{kind}|>")
    rotary = {"type": "default", "mrope_section": [2, 1, 1]}
    config = hf.Glm4vConfig(
        text_config=of_text(words, rope_scaling=rotary),
        vision_config=qwen_tower(image_size=32),
        **ids,
    )
    processor = hf.Glm4vProcessor(
        hf.Glm4vImageProcessor(**PIXEL_SIZES), words, hf.Glm4vVideoProcessor(**PIXEL_SIZES),
        chat_template=template("<|begin_of_image|><|image|><|end_of_image|>", "[gMASK]<sop>"),
    )  # fmt: skip
    save_tiny(folder, hf.Glm4vForConditionalGeneration, config, processor)


def idefics2(folder: Path) -> None:
    """A resampler of four latents."""
    words = tokenizer(("<image>", "<fake_token_around_image>", "<end_of_utterance>"))
    config = hf.Idefics2Config(
        vision_config={"image_size": 16, "patch_size": 4, "num_hidden_layers": 2, **tower()},
        perceiver_config={
            "resampler_n_latents": 4, "resampler_depth": 1, "resampler_n_heads": 2,
            "num_key_value_heads": 1, "resampler_head_dim": 8, "hidden_size": 32,
            "rms_norm_eps": 1e-6,
        },
        text_config=hf.MistralConfig(**of_text(words)),
        image_token_id=id_of(words, "<image>"),
    )  # fmt: skip
    images = hf.Idefics2ImageProcessor(
        size={"shortest_edge": 8, "longest_edge": 16}, do_image_splitting=False
    )
    processor = hf.Idefics2Processor(
        images, words, image_seq_len=4, chat_template=template("<image>", "<s>")
    )
    save_tiny(folder, hf.Idefics2ForConditionalGeneration, config, processor)


def smolvlm(folder: Path) -> None:
    """Idefics3 for video, too; its processor needs num2words."""
    words = tokenizer(IDEFICS_TOKENS)
    words.image_token, words.global_image_token = "<image>", "<global-img>"
    words.fake_image_token = "<fake_token_around_image>"
    config = hf.SmolVLMConfig(
        vision_config={"image_size": 16, "patch_size": 4, "num_hidden_layers": 2, **tower()},
        text_config={"model_type": "llama", **of_text(words)},
        image_token_id=id_of(words, "<image>"),
        scale_factor=2,
        pad_token_id=words.pad_token_id,
    )
    sampling = {"fps": 1, "max_frames": 4, "video_size": {"longest_edge": 16}}
    processor = hf.SmolVLMProcessor(
        hf.SmolVLMImageProcessor(**TILES, do_image_splitting=True), words,
        hf.SmolVLMVideoProcessor(**TILES, video_sampling=sampling), image_seq_len=4,
        chat_template=template("<image>", "<s>"),
    )  # fmt: skip
    save_tiny(folder, hf.SmolVLMForConditionalGeneration, config, processor)


def internvl(folder: Path) -> None:
    """Tiles, and four patches to a token."""
    names = {
        "start_image_token": "<img>", "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>", "video_token": "<video>",
    }  # fmt: skip
    words = named(tuple(names.values()), **names)
    eyes = {"image_size": [SIDE, SIDE], "patch_size": [4, 4], "num_hidden_layers": 2, **tower()}
    config = hf.InternVLConfig(
        vision_config=eyes,
        text_config=hf.Qwen2Config(**of_text(words)),
        image_token_id=id_of(words, "<IMG_CONTEXT>"),
        downsample_ratio=0.5,
        vision_feature_layer=-1,
    )
    processor = hf.InternVLProcessor(
        hf.GotOcr2ImageProcessor(size=SQUARE, crop_to_patches=True, max_patches=4), words,
        hf.InternVLVideoProcessor(size=SQUARE), image_seq_length=9,
        chat_template=template("<IMG_CONTEXT>", "<s>"),
    )  # fmt: skip
    save_tiny(folder, hf.InternVLForConditionalGeneration, config, processor)


def gemma3(folder: Path) -> None:
    """Attention in both directions within an image, in windows elsewhere."""
    names = {
        "image_token": "<image_soft_token>",
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
    }
    words = named(tuple(names.values()), **names)
    config = hf.Gemma3Config(
        text_config=of_text(words, head_dim=8, sliding_window=16, query_pre_attn_scalar=8),
        vision_config={**PATCHES, **tower(), "patch_size": 4, "vision_use_head": False},
        mm_tokens_per_image=9,
        image_token_index=id_of(words, names["image_token"]),
        boi_token_index=id_of(words, names["boi_token"]),
        eoi_token_index=id_of(words, names["eoi_token"]),
    )
    processor = hf.Gemma3Processor(
        hf.Gemma3ImageProcessor(size=SQUARE), words, image_seq_length=9,
        chat_template=template("<start_of_image>", "<s>"),
    )  # fmt: skip
    save_tiny(folder, hf.Gemma3ForConditionalGeneration, config, processor)


def paligemma(folder: Path) -> None:
    """No template; a prompt is seen in both directions."""
    words = named(("<image>",), image_token="<image>")
    images = hf.SiglipImageProcessor(size=SQUARE)
    images.image_seq_length = 9
    processor = hf.PaliGemmaProcessor(images, words)  # adds its places to the tokenizer
    config = hf.PaliGemmaConfig(
        text_config=hf.GemmaConfig(**of_text(processor.tokenizer), head_dim=8),
        vision_config=siglip_tower(projection_dim=32),
        image_token_index=id_of(processor.tokenizer, "<image>"),
        projection_dim=32,
    )
    save_tiny(folder, hf.PaliGemmaForConditionalGeneration, config, processor)


PIXTRAL_TOKENS = ("[IMG]", "[IMG_BREAK]", "[IMG_END]")


def pixtral_tower() -> Any:
    sizes = {"image_size": 32, "patch_size": 4, "num_hidden_layers": 2, "head_dim": 8}
    return hf.PixtralVisionConfig(**sizes, **tower())


def pixtral_processor(words: Any, **more: Any) -> Any:
    return hf.PixtralProcessor(
        hf.PixtralImageProcessor(
            size={"longest_edge": 32}, patch_size=4 * more.get("spatial_merge_size", 1)
        ),
        words,
        patch_size=4,
        chat_template=template("[IMG]", "<s>"),
        **more,
    )


def pixtral(folder: Path) -> None:
    """LLaVA with images of any shape."""
    words = tokenizer(PIXTRAL_TOKENS)
    config = hf.LlavaConfig(
        vision_config=pixtral_tower(),
        text_config=hf.MistralConfig(**of_text(words), head_dim=8),
        image_token_id=id_of(words, "[IMG]"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    save_tiny(folder, hf.LlavaForConditionalGeneration, config, pixtral_processor(words))


def mistral3(folder: Path) -> None:
    """Pixtral with four patches to a token."""
    words = tokenizer(PIXTRAL_TOKENS)
    config = hf.Mistral3Config(
        vision_config=pixtral_tower(),
        text_config=hf.MistralConfig(**of_text(words), head_dim=8),
        image_token_index=id_of(words, "[IMG]"),
        spatial_merge_size=2,
        vision_feature_layer=-1,
    )
    processor = pixtral_processor(words, spatial_merge_size=2)
    save_tiny(folder, hf.Mistral3ForConditionalGeneration, config, processor)


def mllama(folder: Path) -> None:
    """Cross-attention to tiles."""
    words = tokenizer(("<|image|>", "<|python_tag|>"))
    text = {**of_text(words), "num_hidden_layers": 3, "rope_scaling": {"rope_type": "default"}}
    eyes = {**tower(), **PATCHES, "attention_heads": 4}
    eyes |= {"num_global_layers": 1, "vision_output_dim": 64, "intermediate_layers_indices": [1]}
    shapes = [[1, 1], [1, 2], [2, 1], [2, 2], [1, 3], [3, 1], [1, 4], [4, 1]]
    config = hf.MllamaConfig(
        text_config={**text, "cross_attention_layers": [1]},
        vision_config={**eyes, "max_num_tiles": 4, "supported_aspect_ratios": shapes},
        image_token_index=id_of(words, "<|image|>"),
    )
    processor = hf.MllamaProcessor(
        hf.MllamaImageProcessor(size=SQUARE, max_image_tiles=4), words,
        chat_template=template("<|image|>", "<s>"),
    )  # fmt: skip
    save_tiny(folder, hf.MllamaForConditionalGeneration, config, processor)


def janus(folder: Path) -> None:
    """Makes images too, by a `generate` of its own."""
    names = {
        "image_token": "<image_placeholder>",
        "boi_token": "<begin_of_image>",
        "eoi_token": "<end_of_image>",
    }
    words = named(tuple(names.values()), **names)
    eyes = {**PATCHES, "hidden_size": 32, "num_attention_heads": 4, "mlp_ratio": 2}
    config = hf.JanusConfig(
        text_config=hf.LlamaConfig(**of_text(words)),
        vision_config={**eyes, "projection_dim": 32, "num_image_tokens": 9},
        vq_config={
            "embed_dim": 4, "num_embeddings": 8, "double_latent": False, "latent_channels": 4,
            "in_channels": 3, "base_channels": 32, "channel_multiplier": [1, 1],
            "num_res_blocks": 1, "dropout": 0.0, "projection_dim": 32, "num_patches": 9,
            "image_token_embed_dim": 32,
        },
        image_token_id=id_of(words, names["image_token"]),
    )  # fmt: skip
    processor = hf.JanusProcessor(
        hf.JanusImageProcessor(size=SQUARE, min_size=8), words, num_image_tokens=9,
        chat_template=template("<image_placeholder>", "<s>"),
    )  # fmt: skip
    save_tiny(folder, hf.JanusForConditionalGeneration, config, processor)


def deepseek_vl(folder: Path) -> None:
    """SigLIP and LLaMA behind an aligner."""
    words = named(("<image_placeholder>",), image_token="<image_placeholder>")
    config = hf.DeepseekVLConfig(
        text_config=hf.LlamaConfig(**of_text(words)),
        vision_config=siglip_tower(),
        image_token_id=id_of(words, "<image_placeholder>"),
    )
    processor = hf.DeepseekVLProcessor(
        hf.DeepseekVLImageProcessor(size=SQUARE, min_size=8), words, num_image_tokens=9,
        chat_template=template("<image_placeholder>", "<s>"),
    )  # fmt: skip
    save_tiny(folder, hf.DeepseekVLForConditionalGeneration, config, processor)


def aya_vision(folder: Path) -> None:
    """Tiles, SigLIP and Cohere."""
    marks = ("<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_LINE_BREAK|>", "TILE", "TILE_GLOBAL")
    words = tokenizer(("<image>", "<|IMG_PATCH|>", *marks))
    eyes = {**PATCHES, **tower(), "patch_size": 4, "vision_use_head": False}
    config = hf.AyaVisionConfig(
        vision_config=hf.SiglipVisionConfig(**eyes),
        text_config=hf.Cohere2Config(**of_text(words)),
        image_token_index=id_of(words, "<|IMG_PATCH|>"),
        downsample_factor=2,
        vision_feature_layer=-1,
        adapter_layer_norm_eps=1e-6,
    )
    processor = hf.AyaVisionProcessor(
        hf.GotOcr2ImageProcessor(size=SQUARE, crop_to_patches=True, max_patches=4), words,
        patch_size=4, img_size=SIDE, downsample_factor=2,
        chat_template=template("<image>", "<s>"),
    )  # fmt: skip
    save_tiny(folder, hf.AyaVisionForConditionalGeneration, config, processor)


def ovis2(folder: Path) -> None:
    """Images become a mixture of visual words."""
    marks = ("<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>")
    words = named(("<image>", "<IMG_ATOM>", *marks), image_token="<image>")
    eyes = {**PATCHES, **tower(), "patch_size": 4, "hidden_stride": 1}
    config = hf.Ovis2Config(
        vision_config={**eyes, "num_visual_indicator_tokens": len(marks)},
        text_config={"model_type": "qwen2", **of_text(words)},
        image_token_id=id_of(words, "<IMG_ATOM>"),
        visual_indicator_token_ids=[id_of(words, mark) for mark in marks],
        vocab_size=len(words),
        hidden_size=32,
    )
    processor = hf.Ovis2Processor(
        hf.Ovis2ImageProcessor(size=SQUARE, crop_to_patches=True, max_patches=4), words,
        image_seq_length=36, chat_template=template("<image>", "<s>"),
    )  # fmt: skip
    save_tiny(folder, hf.Ovis2ForConditionalGeneration, config, processor)


def bert_blip(words: Any) -> dict[str, Any]:
    return {
        **FOUR_HEADS, "vocab_size": len(words), "encoder_hidden_size": 32,
        "max_position_embeddings": 128, "projection_dim": 32, "is_decoder": True,
        "bos_token_id": id_of(words, "[DEC]"), "eos_token_id": 2, "pad_token_id": 0,
        "sep_token_id": id_of(words, "[SEP]"),
    }  # fmt: skip


def blip(folder: Path) -> None:
    """A BERT that writes captions; a generate of its own."""
    words = letters("[DEC]", "[ENC]")
    config = hf.BlipConfig(
        text_config=bert_blip(words),
        vision_config={**PATCHES, **SEEING, "projection_dim": 32},
        projection_dim=32,
    )
    processor = hf.BlipProcessor(hf.BlipImageProcessor(size=SQUARE), words)
    save_tiny(folder, hf.BlipForConditionalGeneration, config, processor)


def git(folder: Path) -> None:
    """A BERT that sees an image before its prompt."""
    words = letters()
    config = hf.GitConfig(
        vision_config={**PATCHES, **tower()},
        **FOUR_HEADS,
        vocab_size=len(words),
        max_position_embeddings=128,
        bos_token_id=id_of(words, "[CLS]"),
        eos_token_id=id_of(words, "[SEP]"),
        pad_token_id=0,
    )
    save_tiny(folder, hf.GitForCausalLM, config, hf.GitProcessor(clip_images(), words))


QUERIES = {
    **FOUR_HEADS, "encoder_hidden_size": 32, "cross_attention_frequency": 1,
    "max_position_embeddings": 64,
}  # fmt: skip


def blip2(folder: Path) -> None:
    """Query tokens and OPT; its processor writes the placeholder."""
    words = tokenizer(("<image>",))
    opt = {
        **special_ids(words), "vocab_size": len(words), "hidden_size": 32, "ffn_dim": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "word_embed_proj_dim": 32,
        "max_position_embeddings": 256,
    }  # fmt: skip
    config = hf.Blip2Config(
        vision_config={**PATCHES, **SEEING},
        qformer_config={"vocab_size": 64, **QUERIES},
        text_config=hf.OPTConfig(**opt).to_dict(),
        num_query_tokens=4,
        image_token_index=id_of(words, "<image>"),
    )
    processor = hf.Blip2Processor(hf.BlipImageProcessor(size=SQUARE), words, num_query_tokens=4)
    save_tiny(folder, hf.Blip2ForConditionalGeneration, config, processor)


def instructblip(folder: Path) -> None:
    """Query tokens that read the prompt."""
    words, queries = tokenizer(("<image>",)), letters("[DEC]")
    config = hf.InstructBlipConfig(
        vision_config={**PATCHES, **SEEING},
        qformer_config={"vocab_size": len(queries), "pad_token_id": 0, **QUERIES},
        text_config=hf.LlamaConfig(**of_text(words)).to_dict(),
        num_query_tokens=4,
        image_token_index=id_of(words, "<image>"),
    )
    processor = hf.InstructBlipProcessor(
        hf.BlipImageProcessor(size=SQUARE), words, queries, num_query_tokens=4
    )
    save_tiny(folder, hf.InstructBlipForConditionalGeneration, config, processor)


def florence2(folder: Path) -> None:
    """DaViT and BART; its processor writes the placeholder."""
    words = named(("<image>",), image_token="<image>")
    eyes = {
        "in_channels": 3, "depths": (1, 1), "patch_size": (7, 3), "patch_stride": (4, 2),
        "patch_padding": (3, 1), "patch_prenorm": (False, True), "embed_dim": (16, 32),
        "num_heads": (2, 4), "num_groups": (2, 4), "window_size": 3, "projection_dim": 32,
        "max_temporal_embeddings": 10, "max_position_embeddings": 10,
    }  # fmt: skip
    bart = hf.BartConfig(
        vocab_size=len(words), d_model=32, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=64,
        decoder_ffn_dim=64, encoder_attention_heads=4, decoder_attention_heads=4,
        max_position_embeddings=256, decoder_start_token_id=words.eos_token_id,
        forced_bos_token_id=None, forced_eos_token_id=None, **special_ids(words),
    )  # fmt: skip
    config = hf.Florence2Config(
        vision_config=eyes,
        text_config=bart.to_dict(),
        image_token_id=id_of(words, "<image>"),
        is_encoder_decoder=True,
    )
    images = hf.CLIPImageProcessor(size=SQUARE, crop_size=SQUARE, do_center_crop=False)
    images.image_seq_length = 10
    processor = hf.Florence2Processor(images, words, num_additional_image_tokens=1)
    save_tiny(folder, hf.Florence2ForConditionalGeneration, config, processor)


KOSMOS_TOKENS = (
    "<image>", "</image>", "<phrase>", "</phrase>", "<object>", "</object>",
    "</delimiter_of_multi_objects/>", "<grounding>", "</doc>", "</chunk>", "</line>", "</word>",
    *(f"<patch_index_{place:04d}>" for place in range(1024)),
)  # fmt: skip


def kosmos2(folder: Path) -> None:
    """64 tokens of one image, and tokens for places."""
    words = tokenizer(KOSMOS_TOKENS)
    text = {
        **special_ids(words), "vocab_size": len(words), "embed_dim": 32, "layers": 2,
        "ffn_dim": 64, "attention_heads": 4, "max_position_embeddings": 256,
    }  # fmt: skip
    config = hf.Kosmos2Config(
        text_config=text, vision_config={**PATCHES, **tower()}, latent_query_num=64
    )
    processor = hf.Kosmos2Processor(clip_images(), words)
    save_tiny(folder, hf.Kosmos2ForConditionalGeneration, config, processor)


def pix2struct(folder: Path) -> None:
    """Refused: prompts are pixels."""
    words = tokenizer(())
    sizes = {"hidden_size": 32, "d_kv": 8, "d_ff": 64}
    ids = {**special_ids(words), "decoder_start_token_id": 0}
    config = hf.Pix2StructConfig(
        text_config={**sizes, **ids, "vocab_size": len(words), "num_layers": 2, "num_heads": 4},
        vision_config={
            **sizes, "num_hidden_layers": 2, "num_attention_heads": 4,
            "patch_embed_hidden_size": 768,
        },
    )  # fmt: skip
    processor = hf.Pix2StructProcessor(hf.Pix2StructImageProcessor(max_patches=16), words)
    save_tiny(folder, hf.Pix2StructForConditionalGeneration, config, processor)


def vision_encoder_decoder(folder: Path) -> None:
    """Refused: no prompts."""
    words = tokenizer(())
    eyes = hf.ViTConfig(**PATCHES, **tower())
    text = hf.GPT2Config(
        vocab_size=len(words), n_embd=32, n_layer=2, n_head=4, add_cross_attention=True,
        is_decoder=True, **special_ids(words),
    )  # fmt: skip
    config = hf.VisionEncoderDecoderConfig.from_encoder_decoder_configs(eyes, text)
    config.decoder_start_token_id = words.bos_token_id
    config.pad_token_id = words.pad_token_id
    processor = hf.TrOCRProcessor(hf.ViTImageProcessor(size=SQUARE), words)
    save_tiny(folder, hf.VisionEncoderDecoderModel, config, processor)


def phi4_multimodal(folder: Path) -> None:
    """Also hears; 256 tokens a tile, whatever its size."""
    names = {"image_token": "<|image|>", "audio_token": "<|audio|>"}
    words = named(tuple(names.values()), **names)
    side = {"image_size": 448, "crop_size": 448, "patch_size": 14}
    config = hf.Phi4MultimodalConfig(
        **of_text(words),
        vision_config={
            **FOUR_HEADS, **side, "image_token_id": id_of(words, names["image_token"]),
        },
        audio_config={
            "hidden_size": 32, "intermediate_size": 64, "num_blocks": 1, "num_attention_heads": 4,
            "nemo_conv_channels": 16, "audio_token_id": id_of(words, names["audio_token"]),
        },
    )  # fmt: skip
    processor = hf.Phi4MultimodalProcessor(
        hf.Phi4MultimodalImageProcessor(size={"height": 448, "width": 448}, dynamic_hd=1),
        hf.Phi4MultimodalFeatureExtractor(), words, chat_template=template("<|image|>", "<s>"),
    )  # fmt: skip
    # With other seeds an answer has the image's placeholder, which its network stumbles over.
    save_tiny(folder, hf.Phi4MultimodalForCausalLM, config, processor, seed=3)


def fuyu(folder: Path) -> None:
    """Patches go into the decoder as they are; its processor writes the placeholder."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    # As in the real one, a text begins with a mark, which the processor takes off images again.
    pieces = ["<pad>", "<s>", "</s>", "<unk>", "|SPEAKER|", "|NEWLINE|", "<0x04>"]
    scored = [(piece, -1.0) for piece in (*pieces, "\u2581", *string.printable[:94])]
    inner = Tokenizer(models.Unigram(scored, unk_id=3))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    inner.decoder = decoders.Metaspace(prepend_scheme="always")
    words = hf.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    ids = special_ids(words)
    persimmon = {"model_type": "persimmon", "vocab_size": len(words), **FOUR_HEADS, **ids}
    config = hf.FuyuConfig(
        vocab_size=len(words),
        text_config=persimmon,
        **FOUR_HEADS,
        patch_size=8,
        image_token_id=id_of(words, "|SPEAKER|"),
        **ids,
    )
    images = hf.FuyuImageProcessor(
        size={"height": 32, "width": 32}, patch_size={"height": 8, "width": 8}
    )
    save_tiny(folder, hf.FuyuForCausalLM, config, hf.FuyuProcessor(images, words))


def chameleon(folder: Path) -> None:
    """Images become tokens of a codebook."""
    names = {"image_token": "<image>", "boi_token": "<racm3:break>", "eoi_token": "<eoss>"}
    codes = ("IMGIMGAZ", "IMGIMGBZ")
    words = named((*names.values(), *codes), **names)
    config = hf.ChameleonConfig(
        **of_text(words),
        vq_config={
            "embed_dim": 4, "num_embeddings": 2, "latent_channels": 4, "resolution": SIDE,
            "in_channels": 3, "base_channels": 32, "channel_multiplier": [1, 1],
            "num_res_blocks": 1,
        },
        vocabulary_map={name: id_of(words, name) for name in ("<image>", *codes)},
    )  # fmt: skip
    processor = hf.ChameleonProcessor(
        hf.ChameleonImageProcessor(size=SHORT_SIDE, crop_size=SQUARE), words,
        image_seq_length=144, image_token="<image>",
    )  # fmt: skip
    save_tiny(folder, hf.ChameleonForConditionalGeneration, config, processor)


Builder = Callable[[Path], None]
PADDED: tuple[Builder, ...] = (
    aya_vision, blip2, deepseek_vl, gemma3, glm4v, idefics2, idefics3, instructblip, internvl,
    janus, llava, llava_next, llava_onevision, mistral3, mllama, ovis2, paligemma, pixtral,
    qwen2_5_vl, qwen2_vl, qwen3_vl, smolvlm, vipllava,
)  # fmt: skip
"""Those whose rows of unequal length share a batch."""
UNPADDED: tuple[Builder, ...] = (blip, chameleon, florence2, fuyu, git, kosmos2, phi4_multimodal)
REFUSED: tuple[Builder, ...] = (pix2struct, vision_encoder_decoder)
ONE_IMAGE = (blip, blip2, florence2, fuyu, git, instructblip, kosmos2)
NEED_IMAGE = (blip, blip2, instructblip, paligemma)
