"""What every model offers to the runner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from adem_bench.records import Json, Request, Response
from adem_bench.registry import MODEL_KINDS
from adem_bench.schemas import ModelCard


@dataclass(frozen=True, slots=True)
class Budget:
    """How large a batch may be before memory is short."""

    tokens: int
    """Rows times the longest row's prompt and answer tokens."""
    rows: int


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """How to load a model, whatever its card says."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, …"""
    data_root: Path | None = None
    """Folder whose `weights/` holds what the card names; None as for tasks."""


class Model(Protocol):
    """Anything that answers requests. A model works with any task."""

    card: ModelCard

    def use_weights_for(self, task: str, task_kind: str) -> None:
        """Switch to the weights that the card names for a task (by its name, then its kind).

        Raises:
            CheckpointError: they are missing or do not fit.
        """
        ...

    def tuned_on(self, task_kind: str) -> Mapping[str, Json]:
        """Return what is known of the prompts that the current weights were tuned on.

        Keys are those of the task kind's `prompt_settings`, `prompt_format` first of all.
        """
        ...

    def length(self, request: Request) -> int:
        """Return the number of tokens that a request takes, its answer included."""
        ...

    def budget(self) -> Budget:
        """Return how large a batch may be."""
        ...

    def prefetch(self, requests: Sequence[Request]) -> None:
        """Start reading the images of requests that `generate` will soon be given."""
        ...

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Answer a batch; one response per request, in order.

        Raises:
            OutOfMemoryError: the batch did not fit; nothing is lost, a smaller one may fit.
        """
        ...

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change with the weights or their settings."""
        ...

    def warnings(self) -> Sequence[str]:
        """Return what a reader of the results must know about the weights in use."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Return what a manifest should say of the loaded model, as JSON data."""
        ...


def build_model(card: ModelCard, options: ModelOptions) -> Model:
    """Return the model that a card describes, its frozen weights loaded.

    Raises:
        CardError: unknown kind.
        CheckpointError: weights are missing or do not fit.
    """
    model: Model = MODEL_KINDS.load(card.kind)(card, options)
    return model
