"""From the names in a job to what the loop needs: frozen parts, adapter, data set and sampler."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from adem_bench.cards import load_model_card, load_recipe_card, load_task_card
from adem_bench.data.reading import check_images
from adem_bench.errors import CardError
from adem_bench.models.base import ModelOptions
from adem_bench.models.fused.backbone import FrozenFiles, FrozenParts, pick_dtype
from adem_bench.models.fused.card import FusedCard, FusionSettings
from adem_bench.models.fused.fit import check_method
from adem_bench.models.fused.method import AdapterSettings
from adem_bench.models.fused.network import FusedNetwork, build_network
from adem_bench.models.fused.sequence import SequenceBuilder
from adem_bench.models.quantization import BNB_4BIT, BNB_8BIT, check_quantization
from adem_bench.records import Json
from adem_bench.registry import METHODS
from adem_bench.runner.distributed import Processes
from adem_bench.runner.evaluate import task_for
from adem_bench.schemas import DecodingDefaults, RecipeCard, TaskCard
from adem_bench.tasks.base import TrainingData, build_training_data
from adem_bench.trainers.batch_sampler import BatchSampler, accumulation
from adem_bench.trainers.dataset import TrainingDataset, build_dataset
from adem_bench.trainers.distributed import ProcessGroup, shard_language_model

QUIRKS = {"prompt_format": "Q1", "captions": "Q2"}


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """What is to be trained."""

    recipe: str
    """Name or path of a recipe card."""
    model: str | None = None
    """Name or path of the model card whose frozen parts are used; None: the recipe's."""
    data_root: Path | None = None
    output: Path | None = None
    """Folder to write; None: `results/train/MODEL-RECIPE`."""
    results: Path = Path("results")
    """Where the final evaluation's runs are kept."""
    tasks: tuple[str, ...] = ()
    """Tasks to evaluate on at each epoch's end."""
    device: str = "auto"
    overrides: tuple[str, ...] = ()
    """`key=value` settings of recipe fields."""
    quantization: str | None = None
    """Of the frozen weights; None leaves it to the recipe."""
    overwrite: bool = False
    """Whether to start from scratch, removing what a training left in the output."""
    loggers: tuple[str, ...] = ("tensorboard",)
    """Where scalars go besides the log: `tensorboard`, `wandb`, `mlflow`."""
    name: str | None = None
    """What the trained model is called; None: as its output, or MODEL-RECIPE without one."""


@dataclass(frozen=True, slots=True)
class PromptUse:
    """How one task asks in training and in evaluation."""

    source: str
    """Place in the recipe, task and split."""
    task: str
    kind: str
    training: Mapping[str, Json]
    evaluation: Mapping[str, Json] | None
    """None for data that is for training only."""

    def warning(self) -> str | None:
        """Say where the two part, or None."""
        evaluation = self.evaluation or {}
        parts = [
            f"{name} {value} here, {evaluation[name]} in evaluation"
            + (f" ({QUIRKS[name]})" if name in QUIRKS else "")
            for name, value in self.training.items()
            if name in evaluation and value != evaluation[name]
        ]
        if not parts:
            return None
        return f"{self.task} is asked differently in training: {'; '.join(parts)}"


@dataclass(frozen=True, slots=True)
class Outline:
    """What a job comes to: all that is known before anything is loaded."""

    recipe: RecipeCard
    base: FusedCard
    """Card of the model whose frozen parts are used, as it was read."""
    card: FusedCard
    """The same, as this training loads it."""
    sources: tuple[TrainingData, ...]
    data: Mapping[str, str]
    """Fingerprint of each source's data."""
    prompts: tuple[PromptUse, ...]
    model: Mapping[str, Json]
    """Name and fingerprint (precision included) of the frozen parts, and what the card says of
    prompts and answers."""


@dataclass(frozen=True)
class Prepared:
    """All that training needs, loaded and checked."""

    recipe: RecipeCard
    base: FusedCard
    """Card of the model whose frozen parts are used, as it was read."""
    frozen: FrozenParts
    network: FusedNetwork
    settings: AdapterSettings
    dataset: TrainingDataset
    sampler: BatchSampler
    image_tokens_at: int
    """Index of the first image token in rows with an image."""
    data: Mapping[str, str]
    """Fingerprint of each source's data."""
    prompts: tuple[PromptUse, ...]

    @property
    def parameters(self) -> tuple[int, int]:
        """Number of tuned parameters, and of all."""
        tensors = self.network.method.adapter_tensors().values()
        tuned = sum(tensor.numel() for tensor in tensors)
        return tuned, tuned + self.frozen.parameters

    def warnings(self) -> Iterator[str]:
        """Return what a user must know before training begins."""
        yield from self.dataset.skipped.warnings()
        recipe = self.recipe
        if recipe.warmup_epochs >= recipe.epochs:
            yield (
                f"warmup_epochs {recipe.warmup_epochs:g} is not below epochs {recipe.epochs}: the "
                "learning rate rises to the end; set a shorter warm-up, or more epochs"
            )
        yield from (warning for use in self.prompts if (warning := use.warning()))


def read_recipe(job: TrainingJob) -> RecipeCard:
    """Return a job's recipe, its model named.

    Raises:
        CardError: it cannot be read, or neither it nor the job names a model.
    """
    chosen = [] if job.quantization is None else [f"quantization={job.quantization}"]
    recipe = load_recipe_card(job.recipe, [*job.overrides, *chosen])
    model = job.model or recipe.model
    if not model:
        raise CardError(f"recipe {recipe.name} names no model; give --model NAME or a model card")
    return recipe.model_copy(update={"model": model})


def base_card(recipe: RecipeCard) -> FusedCard:
    """Return the card of the model whose frozen parts are used, as the trained one is asked.

    Raises:
        CardError: there is no such card, or the model has no frozen parts.
    """
    base = load_model_card(recipe.model)
    if not isinstance(base, FusedCard):
        raise CardError(
            f"model {base.name} is of kind {base.kind}, which has no frozen parts to train an "
            "adapter on; expected one of kind fused"
        )
    if base.fusion.kind == recipe.method.kind:
        return base
    # How another method is asked and decodes says nothing of this one.
    return base.model_copy(update={"evaluation": {}, "decoding": DecodingDefaults()})


def outline(
    job: TrainingJob, recipe: RecipeCard, processes: Processes, device: torch.device
) -> Outline:
    """Check the cards and the data, and find the weights.

    Args:
        job: What is to be trained.
        recipe: From `read_recipe`.
        processes: Those that train together.
        device: Of this process.

    Raises:
        AdemBenchError: a card or the data are at fault, or weights are missing.
    """
    base = base_card(recipe)
    card = _training_card(base, recipe, device)
    if recipe.shard_frozen_weights and card.quantization in (BNB_4BIT, BNB_8BIT):
        raise CardError(
            f"shard_frozen_weights cannot spread weights of {card.quantization}, whose layers keep "
            "scales next to them; leave it out, or set quantization=none"
        )
    check_quantization(card, device, pick_dtype(card.dtype, device))
    sources = [
        build_training_data(
            source.task,
            job.data_root,
            # JSON is YAML, which values of overrides are read as.
            [f"options.{key}={json.dumps(value)}" for key, value in source.options.items()],
            source.split,
            source.prompt_format,
        )
        for source in recipe.data
    ]
    for source in sources:
        check_images(source.training_pairs(), source.card.data)
    names = [f"{n} {data.card.name} {data.card.split}" for n, data in enumerate(sources)]
    data = {name: source.fingerprint() for name, source in zip(names, sources, strict=True)}
    prompts = tuple(
        _prompt_use(base, name, source, job.data_root)
        for name, source in zip(names, sources, strict=True)
    )
    accumulation(recipe.effective_batch, recipe.batch_size, processes.world_size)
    check_method(card, recipe.method, job.data_root)
    files = FrozenFiles(card, job.data_root, pick_dtype(card.dtype, device))
    model: dict[str, Json] = {"name": card.name, "fingerprint": files.fingerprint}
    prompt_tokens = card.language_model.prompt_tokens()
    if prompt_tokens:
        model["prompt_tokens"] = prompt_tokens
    return Outline(recipe, base, card, tuple(sources), data, prompts, model)


def prepare(
    job: TrainingJob, outlined: Outline, processes: Processes, device: torch.device
) -> Prepared:
    """Load everything.

    Args:
        job: What is to be trained.
        outlined: From `outline`.
        processes: Those that train together.
        device: Of this process.

    Raises:
        AdemBenchError: the weights are at fault, or there is too little data.
    """
    recipe = outlined.recipe
    # Weights to be sharded go to their device part by part.
    place = "cpu" if recipe.shard_frozen_weights else str(device)
    frozen = FrozenParts(outlined.card, ModelOptions(place, job.data_root), trainable=True)
    network = _new_network(recipe, frozen, device)
    settings = _settings(frozen, network, outlined.prompts)
    pairs = zip(recipe.data, outlined.sources, strict=True)
    dataset = build_dataset(pairs, frozen.tokenizer, network.method.layout, frozen.normalization)
    sampler = BatchSampler(dataset.lengths, recipe, processes.world_size, processes.rank)
    return Prepared(
        recipe=recipe,
        base=outlined.base,
        frozen=frozen,
        network=network,
        settings=settings,
        dataset=dataset,
        sampler=sampler,
        image_tokens_at=SequenceBuilder(frozen.tokenizer, network.method.layout).image_tokens_at,
        data=outlined.data,
        prompts=outlined.prompts,
    )


def _training_card(base: FusedCard, recipe: RecipeCard, device: torch.device) -> FusedCard:
    """Return the card with the recipe's precisions and method, and no settings of its own.

    Those are the recipe's, and a card's would go before the trained adapter's in an evaluation.
    """
    chosen = base.dtype if recipe.precision == "auto" else recipe.precision
    dtype = str(pick_dtype(chosen, device)).removeprefix("torch.")
    fusion = FusionSettings(kind=recipe.method.kind)
    kept = base.quantization if recipe.quantization == "auto" else recipe.quantization
    chosen_fields = {"dtype": dtype, "quantization": kept, "fusion": fusion, "shard": False}
    return base.model_copy(update=chosen_fields)


def _new_network(recipe: RecipeCard, frozen: FrozenParts, device: torch.device) -> FusedNetwork:
    """Return the network with a fresh adapter: the same one on every process and device."""
    eager = recipe.attention == "eager" or (recipe.attention == "auto" and device.type == "cpu")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe.seed)  # the CPU's alone
        method = METHODS.load(recipe.method.kind)
        network = build_network(frozen.llama, frozen.visual, method, recipe.method, eager)
    for part in (network.method, network.vision):
        part.to(frozen.device)
    network.decoder.checkpoint_activations(recipe.checkpoint_activations)
    return network


def _settings(
    frozen: FrozenParts, network: FusedNetwork, prompts: tuple[PromptUse, ...]
) -> AdapterSettings:
    chosen = network.method.chosen
    language_model, vision = frozen.identities
    return AdapterSettings(
        method=chosen.kind,
        values=chosen.values(),
        language_model=language_model.name,
        language_model_architecture=language_model.architecture,
        language_model_signature=language_model.signature,
        vision=vision.name,
        vision_architecture=vision.architecture,
        vision_signature=vision.signature,
        prompts=_agreed(prompts),
    )


def _agreed(prompts: Iterable[PromptUse]) -> dict[str, dict[str, Json]]:
    """Return each task kind's prompt settings, where all sources of the kind have the same."""
    found: dict[str, list[dict[str, Json]]] = {}
    for use in prompts:
        found.setdefault(use.kind, []).append(dict(use.training))
    return {
        kind: settings[0]
        for kind, settings in found.items()
        if all(other == settings[0] for other in settings)
    }


def _prompt_use(
    base: FusedCard, name: str, data: TrainingData, data_root: Path | None
) -> PromptUse:
    card: TaskCard = load_task_card(str(data.card.path))
    evaluation = None
    if card.headline:
        evaluation = task_for(base, str(data.card.path), data_root).prompt_settings()
    return PromptUse(name, card.name, card.kind, data.training_settings(), evaluation)


def shard(prepared: Prepared, group: ProcessGroup, device: torch.device) -> None:
    """Spread the frozen language model over the processes, where the recipe asks for it.

    Args:
        prepared: Its network is changed in place.
        group: The processes that train together.
        device: Of this process.

    Raises:
        CardError: there is only one process.
    """
    if not prepared.recipe.shard_frozen_weights:
        return
    if group.world_size == 1:
        raise CardError("shard_frozen_weights needs several processes: start with torchrun")
    shard_language_model(prepared.network, device)
