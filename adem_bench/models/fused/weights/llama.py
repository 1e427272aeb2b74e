"""Language models in memory: from the published consolidated layout, or as transformers reads them.

Consolidated tensors are memory-mapped, read ahead and moved one by one into an empty model, and
their pages given back, so that no two copies of the weights are in memory at a time
(docs/method.md, section 12).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from adem_bench.errors import MOST_SAID, CheckpointError
from adem_bench.files import file_state, is_utf8, open_bytes, read_json
from adem_bench.models.device import without_progress_bars
from adem_bench.models.fused.weights.hugging_face import CONFIG_NAME
from adem_bench.models.fused.weights.llama_layout import (
    COMPUTED,
    REPLICATED,
    LlamaTensor,
    config_of,
    empty_llama,
    layer_tensors,
    llama_tensors,
    to_half_rotation,
    top_tensors,
)
from adem_bench.models.fused.weights.published import load_plain_data
from adem_bench.models.fused.weights.read_ahead import Upload, give_back, read_ahead
from adem_bench.models.weight_files import (
    check_file,
    check_files,
    check_weights,
    foreign_reader,
    lacking,
    unwrapped,
)

PARAMS_NAME = "params.json"


def is_consolidated(folder: Path) -> bool:
    """Return whether a folder is in the published layout.

    Some folders in Hugging Face's layout have a params.json too, next to other weights.
    """
    if not (folder / PARAMS_NAME).is_file():
        return False
    return any(folder.glob("*.pth")) or not (folder / CONFIG_NAME).is_file()


class Consolidated:
    """The shards of a folder; each tensor can be taken once and is then let go.

    Attributes:
        config: Transformers' configuration; sizes that tensors show are taken from them.
        model: A LlamaForCausalLM of that configuration whose parameters have no memory.
    """

    def __init__(self, folder: Path) -> None:
        """Map the shards.

        Raises:
            CheckpointError: files are missing, cannot be read or say nothing sensible.
        """
        self._folder = folder
        files = sorted(folder.glob("*.pth"))
        if not files:
            raise CheckpointError(f"{folder} has {PARAMS_NAME} but no consolidated.00.pth")
        self._are_mapped = all(map(_can_be_mapped, files))
        self._shards = [_read_shard(file, self._are_mapped) for file in files]
        try:
            self.config = self._read_config()
            self.model = empty_llama(self.config)
        except KeyError as error:
            raise self._missing(error) from error
        except (
            *(TypeError, ValueError, ArithmeticError, LookupError, RuntimeError),
            StrictDataclassError,
        ) as error:
            reason = str(error).splitlines()[-1].strip()[:MOST_SAID]
            raise CheckpointError(
                f"{folder / PARAMS_NAME} does not describe a model: {reason}"
            ) from error
        self._shapes: dict[str, torch.Size] = {
            name: parameter.shape for name, parameter in self.model.named_parameters()
        }

    @property
    def head_size(self) -> int:
        """Width of an attention head."""
        return int(self.config.hidden_size // self.config.num_attention_heads)

    def shape(self, tensor: LlamaTensor) -> torch.Size:
        """Return the shape that the configuration asks of a tensor."""
        return self._shapes[tensor.transformers]

    def dtype(self, tensor: LlamaTensor) -> torch.dtype:
        """Return the precision in which a tensor that was not yet taken is stored.

        Raises:
            CheckpointError: it is not there.
        """
        try:
            return self._shards[0][tensor.published].dtype
        except KeyError as error:
            raise self._missing(error) from error

    def parts(self, tensor: LlamaTensor) -> list[Tensor]:
        """Return what the shards hold of a tensor, as far as it is there and was not yet taken."""
        return [shard[tensor.published] for shard in self._shards if tensor.published in shard]

    def take(
        self, tensor: LlamaTensor, move: Callable[[Tensor], Tensor] = lambda weight: weight
    ) -> Tensor:
        """Return a whole tensor with its rows as transformers orders them.

        Args:
            tensor: Which.
            move: Brings it where its rows are to be ordered.

        Raises:
            CheckpointError: it is missing, or of another shape than the configuration's.
        """
        try:
            parts = [shard.pop(tensor.published) for shard in self._shards]
        except KeyError as error:
            raise self._missing(error) from error
        one = len(parts) == 1 or tensor.joined_along == REPLICATED
        try:
            weight = parts[0] if one else torch.cat(parts, dim=tensor.joined_along)
        except (RuntimeError, IndexError) as error:
            raise CheckpointError(
                f"{self._folder}: the shards of {tensor.published} do not fit together: {error}"
            ) from error
        if weight.shape != self.shape(tensor):
            raise CheckpointError(
                f"{self._folder}: {tensor.transformers} has shape {tuple(weight.shape)}, "
                f"{PARAMS_NAME} asks for {tuple(self.shape(tensor))}"
            )
        weight = move(weight)
        if tensor.rotated:
            weight = to_half_rotation(weight, self.head_size)
        if self._are_mapped:
            for part in parts:
                if part.untyped_storage().data_ptr() != weight.untyped_storage().data_ptr():
                    give_back(part)
        return weight

    def unknown(self) -> list[str]:
        """Return the names of tensors that no LLaMA of this size has; rotary tables are known."""
        known = {tensor.published for tensor in llama_tensors(self.config.num_hidden_layers)}
        names = {name for shard in self._shards for name in shard}
        return sorted(name for name in names - known if not name.endswith(COMPUTED))

    def _read_config(self) -> LlamaConfig:
        file = self._folder / PARAMS_NAME
        try:
            params = read_json(file)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{file} is not JSON: {error}") from error
        if not isinstance(params, dict):
            raise CheckpointError(f"{file} does not hold a JSON object")
        self._check_sizes(file, params)
        if params.get("use_scaled_rope"):
            raise CheckpointError(
                f"{file} asks for scaled rotary positions (use_scaled_rope), which are read from "
                "Hugging Face folders only; use such a folder of the same model"
            )
        return config_of(
            params,
            vocabulary=self._rows("output.weight"),
            key_rows=self._rows("layers.0.attention.wk.weight"),
            feed_forward=self._rows("layers.0.feed_forward.w1.weight"),
        )

    def _check_sizes(self, file: Path, params: Mapping[str, Any]) -> None:
        """Refuse sizes that the shards do not have, before a network of these is made."""
        for field in ("n_layers", "dim"):
            if field not in params:
                raise self._missing(KeyError(field))
        layers = sum(name.endswith(".attention.wq.weight") for name in self._shards[0])
        if params["n_layers"] != layers:
            raise CheckpointError(
                f"{file}: n_layers is {params['n_layers']!r:.40}, and the weights next to it "
                f"have {layers}"
            )
        width = self._shards[0]["layers.0.attention.wq.weight"].shape[-1]
        if params["dim"] != width:
            raise CheckpointError(
                f"{file}: dim is {params['dim']!r:.40}, and the weights next to it have {width}"
            )

    def _rows(self, name: str) -> int:
        return sum(shard[name].shape[0] for shard in self._shards)

    def _missing(self, error: KeyError) -> CheckpointError:
        return CheckpointError(f"{self._folder}: tensor or parameter {error} is missing")


def _can_be_mapped(file: Path) -> bool:
    check_file(file)
    with open_bytes(file) as stream:
        is_zip = stream.read(2) == b"PK"  # else it is older than torch 1.6
    return is_zip and is_utf8(file)


def _read_shard(file: Path, mmap: bool) -> dict[str, Tensor]:
    shard = load_plain_data(file, mmap=mmap)
    if not isinstance(shard, dict) or not all(isinstance(t, Tensor) for t in shard.values()):
        raise CheckpointError(f"{file} does not hold a dict of tensors")
    return unwrapped(shard, file)


def language_config(source: Path | str) -> Any:
    """Return the configuration of a language model whose weights are not read.

    Args:
        source: A folder in either layout, or a hub id.

    Raises:
        CheckpointError: files are missing or say nothing sensible.
    """
    if isinstance(source, Path) and is_consolidated(source):
        files = [source / PARAMS_NAME, *sorted(source.glob("*.pth"))]
        return _consolidated_config(source, tuple((file.name, file_state(file)) for file in files))
    if isinstance(source, Path):
        check_files(source)
    with foreign_reader(lambda reason: _unloadable(source, reason)):
        return AutoConfig.from_pretrained(str(source))


@lru_cache(maxsize=4)
def _consolidated_config(folder: Path, files: tuple[Any, ...]) -> LlamaConfig:
    """Return the configuration of shards, which a run asks for three times before it reads them."""
    return Consolidated(folder).config


def load_language_model(
    source: Path | str,
    dtype: torch.dtype,
    device: torch.device,
    on_layer: Callable[[nn.Module], None] | None = None,
) -> Any:
    """Return a LlamaForCausalLM (or a model of its architecture) in evaluation mode.

    Args:
        source: A folder in either layout, or a hub id.
        dtype: Precision of the weights in memory.
        device: Where they go.
        on_layer: Given every decoder layer in order, once it is on the device in `dtype`; it may
            replace the layer's modules. The layers after it are still as they are stored.

    Raises:
        CheckpointError: files are missing, or their tensors do not fit together.
    """
    if isinstance(source, Path) and is_consolidated(source):
        return _load_consolidated(source, dtype, device, on_layer)
    if isinstance(source, Path):
        check_files(source)
    with foreign_reader(lambda reason: _unloadable(source, reason)), without_progress_bars():
        config = AutoConfig.from_pretrained(str(source))
        if isinstance(source, Path):
            with torch.device("meta"):
                check_weights(AutoModelForCausalLM.from_config(config), source)
        model, report = AutoModelForCausalLM.from_pretrained(
            str(source), dtype="auto" if on_layer else dtype, output_loading_info=True
        )
    if report["missing_keys"]:
        raise CheckpointError(
            f"{source}: {lacking(report['missing_keys'], report['unexpected_keys'], model)}"
        )
    if on_layer:
        for layer in model.model.layers:
            on_layer(layer.to(device=device, dtype=dtype))
        for part in (model.model.embed_tokens, model.model.norm, model.lm_head):
            part.to(device=device, dtype=dtype)
    return model.to(device).eval()


def _unloadable(source: Path | str, reason: str) -> CheckpointError:
    if isinstance(source, Path) and not is_utf8(source):
        reason = "its path is not in UTF-8, as safetensors asks for; rename it, or link to it"
    return CheckpointError(f"no language model could be loaded from {source}: {reason}")


def _load_consolidated(
    folder: Path,
    dtype: torch.dtype,
    device: torch.device,
    on_layer: Callable[[nn.Module], None] | None,
) -> Any:
    weights = Consolidated(folder)
    model = weights.model
    upload = Upload(device, dtype)
    in_order = read_ahead(llama_tensors(weights.config.num_hidden_layers), weights.parts)

    def place(tensors: Iterable[LlamaTensor]) -> None:
        for _, tensor in zip(tensors, in_order, strict=False):
            _assign(model, tensor.transformers, weights.take(tensor, upload))

    place(top_tensors())
    for index, layer in enumerate(model.model.layers):
        place(layer_tensors(index))
        if on_layer:
            on_layer(layer)
    # The rotary table is a buffer, computed rather than stored: it is still on the meta device.
    model.model.rotary_emb = LlamaRotaryEmbedding(weights.config).to(device)
    return model.eval()


def _assign(model: nn.Module, name: str, tensor: Tensor) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, nn.Parameter(tensor, requires_grad=False))
