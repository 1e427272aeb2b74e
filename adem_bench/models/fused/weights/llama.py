"""Language models in memory: from the published consolidated layout, or as transformers reads them.

Consolidated tensors are memory-mapped and moved one by one into an empty model, so that no
two copies of the weights are in memory at a time (docs/method.md, section 12).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from adem_bench.errors import CheckpointError
from adem_bench.models.fused.weights.consolidated import Consolidated, is_consolidated
from adem_bench.models.fused.weights.llama_layout import llama_tensors


def load_language_model(source: Path | str, dtype: torch.dtype, device: torch.device) -> Any:
    """Return a LlamaForCausalLM (or a model of its architecture) in evaluation mode.

    Args:
        source: A folder in either layout, or a hub id.
        dtype: Precision of the weights in memory.
        device: Where they go.

    Raises:
        CheckpointError: files are missing, or their tensors do not fit together.
    """
    if isinstance(source, Path) and is_consolidated(source):
        return _load_consolidated(source, dtype, device)
    # A bar for a second's work, drawn even into files.
    transformers.utils.logging.disable_progress_bar()
    try:
        AutoConfig.from_pretrained(str(source))
        model = AutoModelForCausalLM.from_pretrained(str(source), dtype=dtype)
    except (OSError, ValueError, ImportError, StrictDataclassError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"no language model could be loaded from {source}: {reason}"
        ) from error
    return model.to(device).eval()


def _load_consolidated(folder: Path, dtype: torch.dtype, device: torch.device) -> Any:
    weights = Consolidated(folder)
    model = weights.model
    for tensor in llama_tensors(weights.config.num_hidden_layers):
        _assign(model, tensor.transformers, weights.take(tensor).to(device=device, dtype=dtype))
    # The rotary table is a buffer, computed rather than stored: it is still on the meta device.
    model.model.rotary_emb = LlamaRotaryEmbedding(weights.config).to(device)
    return model.eval()


def _assign(model: nn.Module, name: str, tensor: Tensor) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, nn.Parameter(tensor, requires_grad=False))
