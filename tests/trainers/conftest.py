"""A tiny network to train, on the published test weights, and data for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
import yaml

from adem_bench.models.fused.card import FusionSettings, VisionSource
from adem_bench.models.fused.methods.adem import LAYOUT
from adem_bench.models.fused.model import network_with
from adem_bench.models.fused.network import FusedNetwork
from adem_bench.models.fused.sequence import SequenceBuilder
from adem_bench.models.fused.tokenizer import SentencePieceTokenizer
from adem_bench.models.fused.weights.adapter import read_adapter
from adem_bench.models.fused.weights.clip import load_visual
from adem_bench.models.fused.weights.llama import load_language_model
from adem_bench.records import TrainingPair
from adem_bench.runner.distributed import Processes
from adem_bench.schemas import RecipeCard, TrainingSource
from adem_bench.trainers.batch_sampler import BatchSampler
from adem_bench.trainers.dataset import TrainingDataset, build_dataset
from adem_bench.trainers.distributed import ProcessGroup
from adem_bench.trainers.loop import Training

WORDS = ("red", "circle", "blue", "square", "the", "of", "picture", "which", "one", "has", "more")


@pytest.fixture(autouse=True)
def _on_one_thread(one_thread: None) -> None:
    """All tests here run tiny models."""


@pytest.fixture(autouse=True)
def _without_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    """To draw the curve takes a fifth of such a training; those of module fixtures have theirs."""
    monkeypatch.setattr("adem_bench.trainers.train.draw_loss_curve", lambda *given: None)


@dataclass
class Pairs:
    """Training data given as a list."""

    pairs: Sequence[TrainingPair]
    skipped: list = field(default_factory=list)

    def training_pairs(self):
        yield from self.pairs

    def skipped_rows(self):
        return self.skipped


@pytest.fixture(scope="session")
def tokenizer(parity: Path) -> SentencePieceTokenizer:
    return SentencePieceTokenizer(parity / "weights" / "tokenizer.model")


@pytest.fixture(scope="session")
def image_tokens_at(tokenizer: SentencePieceTokenizer) -> int:
    """Where the class token stands in this vocabulary."""
    return SequenceBuilder(tokenizer, LAYOUT).image_tokens_at


@pytest.fixture
def make_network(parity: Path) -> Callable[..., FusedNetwork]:
    """Makes the tiny network with the published adapter, its dropout off unless asked for."""

    def make(dropout: float = 0.0, dtype: torch.dtype = torch.float32) -> FusedNetwork:
        llama = load_language_model(parity / "weights" / "tiny", dtype, torch.device("cpu"))
        visual = load_visual(VisionSource(), parity / "weights" / "clip_tiny.pt", dtype)
        adapter = read_adapter(parity / "checkpoint-19.pth")
        network = network_with(llama, visual, adapter, FusionSettings(), eager=True)
        for module in network.method.vision_adapters:
            module.dropout.p = dropout
        return network

    return make


@pytest.fixture(scope="session")
def pairs(pictures: list[Path]) -> list[TrainingPair]:
    """Samples of different lengths, every third without image."""
    generator = torch.Generator().manual_seed(0)

    def text(count: int) -> str:
        chosen = torch.randint(len(WORDS), (count,), generator=generator)
        return " ".join(WORDS[index] for index in chosen)

    return [
        TrainingPair(
            id=f"sample {index}",
            prompt=f"Question: {text(3 + index % 7)}\nResponse:",
            answer=f"The answer is {text(1 + index % 4)}.",
            images=() if index % 3 == 2 else (pictures[index % 2],),
        )
        for index in range(24)
    ]


@pytest.fixture
def make_dataset(tokenizer: SentencePieceTokenizer) -> Callable[..., TrainingDataset]:
    """Makes a data set of pairs."""

    def make(pairs: Sequence[TrainingPair], **source: object) -> TrainingDataset:
        chosen = TrainingSource(task="given", max_sequence_length=128).model_copy(update=source)
        return build_dataset([(chosen, Pairs(pairs))], tokenizer, LAYOUT, lambda of_task: of_task)

    return make


@pytest.fixture
def make_recipe() -> Callable[..., RecipeCard]:
    """Makes a recipe with small batches."""

    def make(**more: object) -> RecipeCard:
        fields = {
            "name": "small", "data": [{"task": "given"}], "epochs": 2, "warmup_epochs": 0.5,
            "effective_batch": 4, "batch_size": 2, "base_learning_rate": 0.3,
        }  # fmt: skip
        return RecipeCard.model_validate(fields | more)

    return make


@pytest.fixture
def make_training(image_tokens_at: int) -> Callable[..., Training]:
    """Makes a training of a network on a data set, in this process alone."""

    def make(network: FusedNetwork, recipe: RecipeCard, dataset: TrainingDataset) -> Training:
        sampler = BatchSampler(dataset.lengths, recipe)
        group = ProcessGroup(Processes(), torch.device("cpu"))
        return Training(network, image_tokens_at, recipe, sampler, group)

    return make


SMALL = {
    "adem": {"alpha": 0.2, "scales": [256, 16], "adapter_dim": 6, "hidden_proj": 8},
    "memvp": {"kind": "memvp", "slots": 260, "adapter_dim": 6, "hidden_proj": 8},
    "lavin": {"kind": "lavin", "temperature": 2.0, "adapter_dim": 6, "hidden_proj": 8},
    "llava": {"kind": "llava", "lora_rank": 4, "lora_alpha": 8},
}
"""Small settings of each method."""


@pytest.fixture(scope="session")
def recipe_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Method to a recipe of eight optimizer steps."""
    found = {}
    for method, settings in SMALL.items():
        fields = {
            "data": [
                {"task": "mini_sqa", "prompt_format": "CQM-A", "limit": 8},
                {"task": "mini_instruction", "split": "all", "limit": 8},
            ],
            "method": settings,
            "epochs": 2, "warmup_epochs": 0.5, "effective_batch": 4, "batch_size": 2, "workers": 0,
            "base_learning_rate": 0.3,
        }  # fmt: skip
        found[method] = tmp_path_factory.mktemp(method) / "small.yaml"
        found[method].write_text(yaml.safe_dump(fields))
    return found


@pytest.fixture(scope="session")
def recipe_file(recipe_files: dict[str, Path]) -> Path:
    """The recipe of the default method."""
    return recipe_files["adem"]
