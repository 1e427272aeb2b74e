"""Processor and model out of a folder; no code of the folder's runs unless the user says so."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
import transformers
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
    BitsAndBytesConfig,
    GenerationConfig,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
)

from adem_bench.errors import CardError, CheckpointError, explain_system
from adem_bench.models.device import without_progress_bars
from adem_bench.models.hf.adapter import Adapter, attach
from adem_bench.models.hf.architectures import check_kind
from adem_bench.models.hf.settings import HfCard, HfFiles, HfOptions, adapter_place
from adem_bench.models.quantization import (
    BNB_4BIT,
    INT8_CPU,
    OUTLIER_THRESHOLD,
    QUANT_TYPE,
    check_quantization,
    quantize_linear_layers,
)
from adem_bench.models.weight_files import (
    CONFIG_NAME,
    PROCESSORS,
    TOKENIZERS,
    check_files,
    check_objects,
    check_weights,
    foreign_reader,
    lacking,
    vocabulary_fault,
)
from adem_bench.schemas import NOT_QUANTIZED

DEFAULT_ATTENTION = "sdpa"
HALF = torch.float16
"""What 4-bit layers compute in on a GPU where neither card nor checkpoint says it."""
KEPT = ("_keep_in_fp32_modules", "_keep_in_fp32_modules_strict")
"""Where networks of transformers name parts whose precision does not follow the others'."""
PLAIN = {
    "do_sample": False,
    "num_beams": 1,
    "num_return_sequences": 1,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "temperature": None,
    "top_p": None,
    "top_k": None,
}
"""Plain greedy decoding: penalties on repetition would count the prompt and its padding."""
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
"""Settings of generation that name tokens; transformers takes anything for them."""
MOST_ID = 1 << 62
"""Above all ids that fit into a tensor."""
OF_NETWORKS = (
    *TOKENS,
    *("decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id"),
    *("bad_words_ids", "suppress_tokens", "begin_suppress_tokens"),
    *("max_length", "use_cache", "transformers_version"),
    *("early_stopping", "length_penalty"),  # of beams, which a card may ask for
)
"""Settings of generation that say how a network is used; all others are preferences."""
CONFIG = (CONFIG_NAME,)
OF_PROCESSORS = (*PROCESSORS, *TOKENIZERS)
OF_GENERATION = ("generation_config.json",)
OF_WEIGHTS = (*CONFIG, *OF_GENERATION, "model.safetensors.index.json")
"""Files that transformers makes something of, by what it makes."""


@dataclass(frozen=True, slots=True)
class Unloaded:
    """All of a model but the values of its weights."""

    config: Any
    processor: Any
    auto: Any
    """The automatic class that makes the network."""
    empty: Any
    """The network without memory for its weights."""

    def dtype(self, card: HfCard, options: HfOptions, device: torch.device) -> torch.dtype | None:
        """Return the precision that the network is going to have; None where loading shows it.

        Args:
            card: Says which.
            options: The card's.
            device: Where the model goes.
        """
        dtype = _dtype(card, device)
        text = self.config.get_text_config()
        parts = (self.config, text)
        is_plain = (
            card.quantization == NOT_QUANTIZED
            and not any(getattr(part, "quantization_config", None) for part in parts)
            and not (options.trust_remote_code or options.device_map)
        )
        if isinstance(dtype, str) or not is_plain:
            return None
        # Some networks keep some of their weights in float32.
        kept = any(getattr(self.empty, name, None) for name in KEPT)
        return None if kept and dtype != torch.float32 else dtype


def check_quantizes(card: HfCard, device: torch.device) -> None:
    """Refuse what cannot be quantized on a device; arguments and errors of `check_quantization`."""
    dtype = _dtype(card, device)
    packages = ("bitsandbytes", "accelerate")  # transformers quantizes with the help of both
    check_quantization(card, device, HALF if isinstance(dtype, str) else dtype, packages)


def prepare(card: HfCard, files: HfFiles, options: HfOptions) -> Unloaded:
    """Load the processor, and check that the files are such a model; weights are not read.

    Args:
        card: With the name for messages.
        files: Where the files are.
        options: The card's.

    Raises:
        CheckpointError: files are missing or of another kind, weights are missing or do not fit,
            or the model needs code of its own that the user has not allowed.
    """
    folder, trusted = str(files.folder), options.trust_remote_code
    _check(card, files)
    config = _tried(
        card, files, CONFIG, lambda: AutoConfig.from_pretrained(folder, trust_remote_code=trusted)
    )
    check_kind(card.name, config.model_type)
    auto = _auto_class(config.model_type)
    processor = _tried(
        card,
        files,
        OF_PROCESSORS,
        lambda: AutoProcessor.from_pretrained(
            folder, trust_remote_code=trusted, **options.processor
        ),
        options.of_processors(),
    )
    if not hasattr(processor, "image_processor"):
        raise CheckpointError(
            f"model {card.name}: its processor reads no images; expected an image-text-to-text "
            "model of transformers with the files of its processor"
        )
    _check_arguments(card, processor, options)
    _check_vocabulary(card, config, processor.tokenizer)
    # Some settings are looked at with the first text alone.
    _tried(card, files, TOKENIZERS, lambda: processor.tokenizer("a"))
    empty = _empty(card, files, config, auto, options)
    check_weights(empty, files.folder)
    return Unloaded(config, processor, auto, empty)


def load(
    unloaded: Unloaded,
    card: HfCard,
    files: HfFiles,
    options: HfOptions,
    device: torch.device,
    adapter: Adapter | None = None,
) -> Any:
    """Return the network, in evaluation mode on its device.

    Args:
        unloaded: What there is without weights.
        card: Precision and attention, and the name for messages.
        files: Where the files are.
        options: The card's.
        device: Where the model goes.
        adapter: What was tuned on it, if anything.

    Raises:
        CheckpointError: weights cannot be read, are missing or do not fit.
    """
    with _quietly(), without_progress_bars():
        quantized = _quantized(card, unloaded.config, unloaded.empty, device)
        if options.device_map:
            quantized |= {
                "device_map": options.device_map,
                "max_memory": options.max_memory or None,
            }
        network, report = _tried(
            card,
            files,
            OF_WEIGHTS,
            lambda: _read(
                unloaded.auto,
                card.attention,
                str(files.folder),
                trust_remote_code=options.trust_remote_code,
                dtype=_dtype(card, device),
                # Pickles can run code as they are read.
                use_safetensors=True,
                output_loading_info=True,
                **quantized,
            ),
        )
    missing = report["missing_keys"]
    if missing:
        reason = lacking(missing, report["unexpected_keys"], network)
        raise CheckpointError(f"model {card.name}: {reason}")
    decode_plainly(card, network, unloaded.processor.tokenizer)
    if card.quantization == INT8_CPU:
        quantize_linear_layers(_decoder_layers(card, network), INT8_CPU, network.dtype)
    if adapter is not None:
        attach(network, adapter)
    network.eval()
    if options.device_map:
        if "disk" in getattr(network, "hf_device_map", {}).values():
            raise CheckpointError(
                f"model {card.name} does not fit into the memory of all devices; use a smaller "
                "--dtype (bfloat16), --quantization or a larger options.max_memory"
            )
        return network
    try:
        network.to(device)
    except torch.OutOfMemoryError as error:
        raise CheckpointError(
            f"model {card.name} does not fit on {device}; use a smaller --dtype (bfloat16), "
            "--quantization or another --device"
        ) from error
    return network


def check_places(card: HfCard, options: HfOptions, device: str) -> None:
    """Refuse settings of devices that contradict each other, before anything is looked for.

    Args:
        card: Quantization and adapter.
        options: The card's.
        device: As the command line says.

    Raises:
        CardError: they do.
        CheckpointError: a package is missing.
    """
    if card.quantization == INT8_CPU and adapter_place(card) is not None:
        raise CardError(
            f"model {card.name}: an adapter cannot be put on weights of {INT8_CPU}; choose another "
            "--quantization"
        )
    if not options.device_map:
        return
    if device != "auto":
        raise CardError(
            f"--device {device}: model {card.name} is spread by options.device_map; leave one out"
        )
    if card.quantization == INT8_CPU:
        raise CardError(
            f"model {card.name}: {INT8_CPU} is for one CPU; leave out options.device_map"
        )
    if find_spec("accelerate") is None:
        raise CheckpointError(
            "options.device_map needs accelerate, which is not installed; `pip install "
            "'adem-bench[quantization]'` brings it"
        )


def _check_arguments(card: HfCard, processor: Any, options: HfOptions) -> None:
    """Refuse arguments that no part of a processor knows: transformers leaves them out silently."""
    known = {"backend", "use_fast"}
    for part in (processor, processor.tokenizer, processor.image_processor):
        known |= vars(part).keys() if hasattr(part, "__dict__") else set()
        known |= set(inspect.signature(type(part).__init__).parameters)
        known |= set(getattr(getattr(part, "valid_kwargs", None), "__annotations__", ()))
    # Batches are padded on the left, whatever a tokenizer is told.
    unknown = sorted(options.processor.keys() - (known - {"self", "padding_side"}))
    if unknown:
        raise CardError(
            f"model {card.name}: options.processor: {unknown[0]!r} has no effect on a "
            f"{type(processor).__name__}; leave it out"
        )


def _check_vocabulary(card: HfCard, config: Any, tokenizer: Any) -> None:
    """Refuse the tokenizer of another model, whose ids would be nonsense or none at all."""
    rows = getattr(config.get_text_config(), "vocab_size", None)
    if rows and (fault := vocabulary_fault(tokenizer.vocab_size, len(tokenizer), rows)):
        raise CheckpointError(
            f"model {card.name} cannot be loaded: {fault}; put the files of its own tokenizer there"
        )


def _check(card: HfCard, files: HfFiles) -> None:
    try:
        check_files(files.folder)
        # Without a word, transformers goes on without those that it cannot read.
        check_objects(files.folder, (*OF_GENERATION, *PROCESSORS))
        if not any(files.folder.glob("*.safetensors")):
            raise CheckpointError(
                f"{files.folder} has no weights in safetensors; weights in pickles become "
                "safetensors when transformers loads and saves them"
            )
    except (CheckpointError, OSError) as error:
        reason = explain_system(error) or error
        raise CheckpointError(f"model {card.name} cannot be loaded: {reason}") from error


def _read(auto: Any, attention: str, folder: str, **settings: Any) -> Any:
    """Return a network and what was found of it, with another attention where it lacks the usual.

    Args:
        auto: One of transformers' automatic classes.
        attention: As a card says.
        folder: Of the files.
        settings: Of `from_pretrained`.
    """
    try:
        return auto.from_pretrained(folder, attn_implementation=attention, **settings)
    except ValueError as error:
        # Before any weight is read.
        if attention != DEFAULT_ATTENTION or "scaled_dot_product_attention" not in str(error):
            raise
        return auto.from_pretrained(folder, attn_implementation="eager", **settings)


def _auto_class(model_type: str) -> Any:
    """Return the automatic class for a type of model: a few also hear, and are known by another."""
    listed = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES
    if model_type not in listed[0] and model_type in listed[1]:
        return AutoModelForMultimodalLM
    return AutoModelForImageTextToText


def _empty(card: HfCard, files: HfFiles, config: Any, auto: Any, options: HfOptions) -> Any:
    """Return a network without memory for its weights.

    Args:
        card: For messages.
        files: Which `config` is of.
        config: Of the model.
        auto: The automatic class that makes it.
        options: The card's.

    Raises:
        CheckpointError: the configuration describes none.
    """
    with torch.device("meta"):
        return _tried(
            card,
            files,
            CONFIG,
            lambda: auto.from_config(config, trust_remote_code=options.trust_remote_code),
        )


def _quantized(card: HfCard, config: Any, empty: Any, device: torch.device) -> dict[str, Any]:
    """Return the arguments by which transformers quantizes as it loads: none without bitsandbytes.

    Args:
        card: Says how.
        config: Of the model.
        empty: The model without memory for its weights.
        device: Where the model goes.

    Raises:
        CheckpointError: the model is quantized already, or has no decoder layers.
    """
    if card.quantization == NOT_QUANTIZED:
        return {}
    text = config.get_text_config()
    if any(getattr(part, "quantization_config", None) for part in (config, text)):
        raise CheckpointError(
            f"model {card.name}: its weights are quantized already; choose --quantization "
            f"{NOT_QUANTIZED}"
        )
    inner = set(_decoder_layers(card, empty).modules())
    if card.quantization == INT8_CPU:
        return {}
    others = [
        name
        for name, module in empty.named_modules()
        if isinstance(module, nn.Linear) and module not in inner
    ]
    dtype = _dtype(card, device)
    is_4bit = card.quantization == BNB_4BIT
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=is_4bit,
            load_in_8bit=not is_4bit,
            bnb_4bit_quant_type=QUANT_TYPE,
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=(config.dtype or HALF) if isinstance(dtype, str) else dtype,
            llm_int8_threshold=OUTLIER_THRESHOLD,
            llm_int8_skip_modules=others,
        ),
        "device_map": {"": device},
    }


def _decoder_layers(card: HfCard, network: Any) -> nn.Module:
    """Return the layers of a network's language model.

    Raises:
        CheckpointError: there are none to be found.
    """
    decoder = network.get_decoder() if hasattr(network, "get_decoder") else network
    while not hasattr(decoder, "layers") and hasattr(decoder, "model"):
        decoder = decoder.model
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise CheckpointError(
            f"model {card.name}: a {type(network).__name__} has no decoder layers that are known "
            f"here; choose --quantization {NOT_QUANTIZED}"
        )
    return layers


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep transformers from printing a table of tensors: what is wrong with them, we say."""
    messages = transformers.utils.logging
    before = messages.get_verbosity()
    messages.set_verbosity_error()
    try:
        yield
    finally:
        messages.set_verbosity(before)


def _dtype(card: HfCard, device: torch.device) -> torch.dtype | str:
    """Return the precision: `auto` is the checkpoint's own on a GPU, and float32 on the CPU."""
    if card.dtype == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    dtype: torch.dtype = getattr(torch, card.dtype)
    return dtype


def decode_plainly(card: HfCard, network: Any, tokenizer: Any) -> None:
    """Take what a checkpoint prefers in decoding out of its settings, and pad on the left.

    Args:
        card: For messages.
        network: Whose settings.
        tokenizer: Is told how to pad.

    Raises:
        CheckpointError: a token that the settings name is none.
    """
    usual = vars(GenerationConfig()).items()
    plain = {k: v for k, v in usual if k not in OF_NETWORKS and not k.startswith("_")} | PLAIN
    for module in network.modules():
        # Some networks leave generation to their language model, which has settings of its own.
        settings = getattr(module, "generation_config", None)
        if settings is not None:
            for name, value in plain.items():
                setattr(settings, name, value)
            for name in TOKENS:
                if not _is_token(value := getattr(settings, name)):
                    raise CheckpointError(
                        f"model {card.name} cannot be loaded: {name} is {value!r:.60} in its "
                        "generation_config.json or config.json, which is not the id of a token; "
                        "put the model's own file there"
                    )
    ends = network.generation_config.eos_token_id
    first_end = ends[0] if isinstance(ends, list) else ends
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = tokenizer.eos_token_id if first_end is None else first_end
    network.generation_config.pad_token_id = tokenizer.pad_token_id
    tokenizer.padding_side = "left"


def _is_token(value: object) -> bool:
    """Return whether a setting is the id of a token, several of them, or nothing."""
    several = value if isinstance(value, list) and value else [value]
    return value is None or all(type(one) is int and abs(one) < MOST_ID for one in several)


def _tried(
    card: HfCard, files: HfFiles, names: Sequence[str], make: Callable[[], Any], else_: str = ""
) -> Any:
    """Return what transformers makes of some files, which its own messages rarely name.

    Args:
        card: For messages.
        files: With their folder.
        names: Of the files.
        make: Calls transformers.
        else_: What else may be at fault, for the end of a message.

    Raises:
        CheckpointError: it makes nothing of them.
    """

    def unloadable(reason: str) -> CheckpointError:
        try:
            check_objects(files.folder, names)
        except CheckpointError as error:
            reason = str(error)
        return CheckpointError(f"model {card.name} cannot be loaded: {reason}")

    def advice(message: str) -> str:
        return _advice(message) or f"; fetch {files.named(names)} again{else_}"

    with foreign_reader(unloadable, advice):
        return make()


def _advice(message: str) -> str:
    if "trust_remote_code" in message:
        return (
            "; it needs Python code out of its repository: read that code, then allow it with "
            "--set model.options.trust_remote_code=true"
        )
    if "scaled_dot_product_attention" in message or "attn_implementation" in message:
        return "; try --set model.attention=eager"
    return ""
