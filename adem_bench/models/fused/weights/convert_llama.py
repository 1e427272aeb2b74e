"""LLaMA weights from the published layout to Hugging Face's and back, value by value.

Source files are memory-mapped. Towards Hugging Face, one output shard at a time is in memory;
towards the published layout, which is one file here, the tensors that change (all of them if
their precision does, else those with rotary rows).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig

from adem_bench.errors import CheckpointError
from adem_bench.files import write_json
from adem_bench.models.fused.tokenizer import (
    TOKENIZER_NAME,
    SentencePieceTokenizer,
    tokenizer_file,
)
from adem_bench.models.fused.weights.hugging_face import (
    CONFIG_NAME,
    INDEX_NAME,
    is_hugging_face,
    read_config,
    read_weights,
)
from adem_bench.models.fused.weights.llama import PARAMS_NAME, Consolidated, is_consolidated
from adem_bench.models.fused.weights.llama_layout import (
    COMPUTED,
    TOP_TENSORS,
    UNSTATED,
    empty_llama,
    llama_tensors,
    misfit,
    params_of,
    to_interleaved_rotation,
)
from adem_bench.models.fused.weights.output_path import atomic_output, check_target

SHARD_BYTES = 2 * 10**9
HUGGING_FACE_FILES = (
    CONFIG_NAME,
    "generation_config.json",
    "model*.safetensors",
    INDEX_NAME,
    TOKENIZER_NAME,
)
EMBEDDINGS, HEAD = TOP_TENSORS["tok_embeddings.weight"][0], TOP_TENSORS["output.weight"][0]
CONSOLIDATED_FILES = (PARAMS_NAME, "consolidated.*.pth", TOKENIZER_NAME)


def convert_llama(
    source: Path,
    target: Path,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
    shard_bytes: int = SHARD_BYTES,
) -> list[str]:
    """Write a LLaMA in the other layout: a consolidated folder as Hugging Face's, or the reverse.

    Args:
        source: A folder in either layout.
        target: The folder to make.
        dtype: Precision to write; None for that of each tensor as it is stored.
        overwrite: Whether an earlier result may be replaced.
        shard_bytes: Size of Hugging Face's weight files, at most (a larger tensor has its own).

    Returns:
        Warnings, one line each: what the target lacks.

    Raises:
        CheckpointError: the source is not a LLaMA in either layout, or the target is refused.
        ResultsError: the target cannot be written; nothing of it is left.
    """
    if not source.is_dir():
        found = "is a file" if source.exists() else "does not exist"
        raise CheckpointError(f"{source} {found}; give the folder of a LLaMA")
    if is_consolidated(source):
        check_target(source, target, overwrite, HUGGING_FACE_FILES)
        lost = _to_hugging_face(source, target, dtype, shard_bytes)
    elif is_hugging_face(source):
        check_target(source, target, overwrite, CONSOLIDATED_FILES)
        lost = _to_consolidated(source, target, dtype)
    else:
        raise CheckpointError(
            f"{source} is in neither layout: expected {PARAMS_NAME} with consolidated.*.pth, or "
            f"{CONFIG_NAME} with safetensors"
        )
    if tokenizer_file(source) is None:
        lost.append(f"{source} has no {TOKENIZER_NAME} in it or next to it, so {target} has none")
    return lost


def _to_hugging_face(
    source: Path, target: Path, dtype: torch.dtype | None, shard_bytes: int
) -> list[str]:
    weights = Consolidated(source)
    unknown = weights.unknown()
    if unknown:
        raise CheckpointError(
            f"{source} holds {', '.join(unknown[:6])}, which a LLaMA of its size does not have"
        )
    with atomic_output(target) as folder:
        folder.mkdir()
        weights.config.dtype = _write_shards(weights, folder, dtype, shard_bytes)
        weights.config.save_pretrained(folder)
        GenerationConfig.from_model_config(weights.config).save_pretrained(folder)
        _copy_tokenizer(source, folder)
    return []


def _write_shards(
    weights: Consolidated, folder: Path, dtype: torch.dtype | None, shard_bytes: int
) -> torch.dtype:
    """Write the weights, with an index if there are several files; return their precision."""
    tensors = {t.transformers: t for t in llama_tensors(weights.config.num_hidden_layers)}
    planned = {
        name: torch.empty(weights.shape(t), dtype=dtype or weights.dtype(t), device="meta")
        for name, t in tensors.items()
    }
    split = split_torch_state_dict_into_shards(planned, max_shard_size=shard_bytes)
    for file, names in split.filename_to_tensors.items():
        # Copied, as safetensors refuses tensors that share memory, which tied ones do. No name
        # holds a shard, so that it is gone before the next one is made.
        save_file(
            {
                name: weights.take(tensors[name]).to(planned[name].dtype, copy=True).contiguous()
                for name in names
            },
            folder / file,
            metadata={"format": "pt"},
        )
        (folder / file).chmod(0o644)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        write_json(folder / INDEX_NAME, index)
    return next(iter(planned.values())).dtype


def _to_consolidated(source: Path, target: Path, dtype: torch.dtype | None) -> list[str]:
    config = read_config(source)
    problem = misfit(config)
    if problem:
        raise CheckpointError(f"{source} has no consolidated form: {problem}")
    weights = _published_weights(source, config, dtype)
    params = params_of(config, _vocabulary(source, config))
    with atomic_output(target) as folder:
        folder.mkdir()
        # Given a path, torch would hide why a write failed.
        with (folder / "consolidated.00.pth").open("wb") as stream:
            torch.save(weights, stream)
        write_json(folder / PARAMS_NAME, params)
        _copy_tokenizer(source, folder)
    lost = [
        f"{name} {getattr(config, name)}"
        for name, value in UNSTATED.items()
        if getattr(config, name) != value
    ]
    return [f"{target} has no place for {', '.join(lost)} of {source}"] if lost else []


def _published_weights(
    folder: Path, config: LlamaConfig, dtype: torch.dtype | None
) -> dict[str, Tensor]:
    """Return a Hugging Face folder's tensors under published names, rows in published order.

    Raises:
        CheckpointError: tensors are missing, unknown or of another shape.
    """
    found = read_weights(folder)
    if config.tie_word_embeddings and EMBEDDINGS in found:
        found[HEAD] = found[EMBEDDINGS]
    expected = {name: weight.shape for name, weight in empty_llama(config).state_dict().items()}
    problems = {
        "missing": expected.keys() - found.keys(),
        "unexpected": {n for n in found.keys() - expected.keys() if not n.endswith(COMPUTED)},
        "of another shape": {n for n, t in found.items() if expected.get(n, t.shape) != t.shape},
    }
    found_problems = [
        f"{what}: {', '.join(sorted(names)[:6])}" for what, names in problems.items() if names
    ]
    if found_problems:
        raise CheckpointError(
            f"{folder} does not match its {CONFIG_NAME}; {'; '.join(found_problems)}"
        )
    head_size = config.hidden_size // config.num_attention_heads
    published: dict[str, Tensor] = {}
    for tensor in llama_tensors(config.num_hidden_layers):
        weight = found.pop(tensor.transformers)
        if tensor.rotated:
            weight = to_interleaved_rotation(weight, head_size)
        published[tensor.published] = weight.to(dtype or weight.dtype)
    return published


def _vocabulary(source: Path, config: LlamaConfig) -> int:
    """Return `vocab_size`: -1 as in the published files if the tokenizer says the same."""
    file = tokenizer_file(source)
    same = file is not None and SentencePieceTokenizer(file).vocab_size == config.vocab_size
    return -1 if same else int(config.vocab_size)


def _copy_tokenizer(source: Path, folder: Path) -> None:
    file = tokenizer_file(source)
    if file is not None:
        shutil.copyfile(file, folder / TOKENIZER_NAME)
