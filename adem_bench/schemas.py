"""What a card may say: the fields of models, tasks and recipes, each explained; no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from adem_bench.digests import digest, stable_names

DEFAULT_METHOD = "adem"
"""The method of cards that name none. It is left out of digests and identities: runs and trainings
of the first version, which knew no other, go on."""
DownloadProgress = Callable[[str], AbstractContextManager[Callable[[int, int | None], None]]]
CARD_FILE = "file of the card"
"""By which loaders say where a card lies: a name that no field has."""
FORMER: Mapping[str, Any] = {
    "language_model": {"path": "", "hub": False, "tokenizer": "", "source": ""},
    "vision": {"path": "", "name": "ViT-L-14-quickgelu", "pretrained": "openai"},
    "fusion": {
        **{"kind": DEFAULT_METHOD, "alpha": None, "beta": None, "drop_ratio": None},
        **{"scales": None, "cls_token": None},
    },
    "adapters": {},
    "adapter": "",
    "dtype": "auto",
    "attention": "sdpa",
    "max_sequence_length": 512,
    "overflow": "published",
    "image_normalization": "task",
    "prompts": {},
    "prompt_batch_tokens": None,
}
"""Fields that cards of every kind once had, at the values that said nothing."""


NOT_QUANTIZED: Literal["none"] = "none"
Reading = Literal["shown", "published"]
"""`shown` is the rule of docs/images.md, `published` is Pillow's `convert("RGB")` alone (Q33)."""
Quantization = Literal["none", "bnb-4bit", "bnb-8bit", "int8-cpu"]
"""How the frozen weights of the decoder layers are kept (docs/models.md)."""

MOST_WORKERS = 256
"""Of one training process: a slip of the keyboard must not fill the machine with processes."""
MOST_EPOCHS = 1_000_000
"""Above all trainings: the time that is left of more is no time that can be told."""
MOST_BATCH = 1_000_000
"""Samples of an optimizer step."""
MOST_WIDTH = 1 << 16
"""Of an adapter's matrices, and its slots: no model is as wide, and more fills the memory."""
MOST_SEED = (1 << 63) - 1
"""Of generators that take 64 bits."""


class Strict(BaseModel):
    """A frozen model that refuses unknown fields."""

    # Built when first used: a list of cards needs few of these classes. A default that is itself
    # one of them comes from a factory, or it would be built with the class that has it.
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
        defer_build=True,
        allow_inf_nan=False,
    )
    FIRST_FIELDS: ClassVar[frozenset[str]] = frozenset()
    """Always in digests; a later field only off its default (`digests.py`). Never add to it; a
    class that is new has none."""

    def stable_fields(self) -> dict[str, Any]:
        """Return the fields as JSON data without those later ones that are at their default."""
        fields: dict[str, Any] = _stable(self, self.model_dump(mode="json"))
        return fields


def _stable(value: Any, dumped: Any) -> Any:
    """Return what `value` was dumped as, without later fields at their default, at any depth."""
    if isinstance(value, Strict):
        fields = type(value).model_fields
        values = {name: getattr(value, name) for name in dumped}
        defaults = {name: fields[name].get_default(call_default_factory=True) for name in dumped}
        names = stable_names(values, defaults, value.FIRST_FIELDS)
        return {name: _stable(values[name], dumped[name]) for name in names}
    if isinstance(value, Mapping):
        return {key: _stable(inner, dumped[str(key)]) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_stable(*pair) for pair in zip(value, dumped, strict=True)]
    return dumped


class Card(Strict):
    """What every card has."""

    FIRST_FIELDS = frozenset({"name", "title"})
    has_options: ClassVar[bool] = False
    """Whether `options` holds settings of the kind; where not, all settings are fields."""

    name: str
    title: str = ""
    path: Path | None = Field(default=None, exclude=True, validation_alias=CARD_FILE)
    """The file the card was read from, which no file says."""

    def digest(self) -> str:
        """Return 16 hexadecimal digits over the resolved fields, wherever the file lies."""
        return digest(self.stable_fields())


class DataFile(Strict):
    """A file of a data set, or the folder that a published archive becomes."""

    FIRST_FIELDS = frozenset(
        {
            "path", "url", "size", "sha256", "md5", "git_blob", "unpack",
            "unpacked_size", "splits", "optional", "note",
        }
    )  # fmt: skip

    path: str
    """Below the data root."""
    url: str = ""
    """Where it is published; it is fetched only if one of the digests is known."""
    size: int | None = Field(default=None, ge=0)
    """Bytes of what the URL leads to."""
    sha256: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    md5: str = Field(default="", pattern="^([0-9a-f]{32})?$")
    git_blob: str = Field(default="", pattern="^([0-9a-f]{40})?$")
    """The name that git gives to this content."""
    unpack: str | None = None
    """For archives: the folder inside whose content becomes `path`; `.` takes everything."""
    unpacked_size: int | None = Field(default=None, ge=0)
    """Most bytes that an archive may hold; 20 times its own size if empty."""
    splits: tuple[str, ...] = ()
    """Splits that need it; all if empty."""
    optional: bool = False
    """Whether the task can do without it."""
    note: str = ""
    """How to get it, where it cannot be fetched."""


class DataSource(Strict):
    """Where a task's data comes from, what it consists of, and on which terms."""

    FIRST_FIELDS = frozenset({"url", "licence", "layout", "files", "hub", "source"})

    url: str = ""
    licence: str = ""
    layout: str = ""
    """The files expected below the data root, in words."""
    files: tuple[DataFile, ...] = ()
    """The same one by one, for `adem-bench data`."""
    hub: str = ""
    """Hugging Face data set that holds the data: `ID`, `ID@REVISION`, `ID#CONFIGURATION`."""
    source: str = ""
    """Empty for files below the data root; else a data source, or `SOURCE:PLACE`: `hub` (the data
    set above), `hub:ID`, `hub:FOLDER`, `mini` (made by the package), or a plug-in's."""
    _remedy: Callable[[], str] | None = PrivateAttr(default=None)

    def with_remedy(self, remedy: Callable[[], str]) -> Self:
        """Return the same, which knows what to do where its files are not there."""
        found = self.model_copy()
        found._remedy = remedy
        return found

    def remedy(self) -> str:
        """Return what to do about files that are not there, for the end of a message."""
        if self._remedy is not None:
            return self._remedy()
        return f"; to be had from {self.url}" if self.url else ""

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, fields: Any) -> Any:
        """Read `source` under its first name too: cards in the manifests of older runs have it."""
        if not isinstance(fields, Mapping) or "generator" not in fields:
            return fields
        rest = {name: value for name, value in fields.items() if name != "generator"}
        return {"source": fields["generator"] or "", **rest}


class TaskCard(Card):
    """A benchmark: a kind (the class that knows its layout), a split, a size and its settings."""

    FIRST_FIELDS = Card.FIRST_FIELDS | frozenset(
        {
            "kind", "version", "split", "expected", "headline", "columns", "metrics",
            "prompt_format", "data", "options",
        }
    )  # fmt: skip
    has_options = True

    kind: str
    version: int = Field(default=1, ge=1)
    """Raised whenever scores could change."""
    split: str
    expected: dict[str, int] = {}
    """Published number of samples of each split."""
    headline: str = ""
    """The metric that leaderboards show first; empty for data that is for training only."""
    columns: tuple[str, ...] = ()
    """Further metrics for leaderboards; the headline alone if empty."""
    metrics: tuple[str, ...] = ()
    """Metrics of plug-ins, besides the kind's own."""
    prompt_format: str | None = None
    data: DataSource = Field(default_factory=DataSource)
    options: dict[str, Any] = {}
    """Settings of the kind; each kind checks its own."""


class GroupCard(Card):
    """A name for several tasks, in order."""

    FIRST_FIELDS = Card.FIRST_FIELDS | frozenset({"tasks"})

    tasks: tuple[str, ...]


class PublishedScore(Strict):
    """A score that a paper or a repository states for the model."""

    FIRST_FIELDS = frozenset({"task", "metric", "value", "source"})

    task: str
    metric: str
    value: float
    source: str


class ModelCard(Card):
    """What the card of any model may say; kinds of models add fields of their own."""

    FIRST_FIELDS = Card.FIRST_FIELDS | frozenset(
        {
            "kind", "options", "language_model", "vision", "fusion", "adapters",
            "adapter", "dtype", "attention", "max_sequence_length", "overflow",
            "image_normalization", "prompts", "language_model_name",
            "trainable_parameters", "published", "prompt_batch_tokens",
        }
    )  # fmt: skip
    has_options = True

    kind: str = "fused"
    options: dict[str, Any] = {}
    """Settings of kinds that have no card of their own; each kind checks its own. `source` is what
    stands behind the colon of a name like `hf:FOLDER`."""
    language_model_name: str = ""
    """For tables, for example `LLaMA-7B`."""
    trainable_parameters: int | None = None
    published: tuple[PublishedScore, ...] = ()
    evaluation: dict[str, dict[str, Any]] = {}
    """How the model is asked unless the user says otherwise: a task's name or kind to its
    `prompt_format` and options."""
    _given: frozenset[str] = PrivateAttr(default=frozenset())
    _card_name: str = PrivateAttr(default="")

    def note_given(self, names: Iterable[str]) -> None:
        """Keep which options the command line sets, by dotted names; no file can say that."""
        self._given = frozenset(name for name in names if name.split(".")[0] == "options")

    @property
    def card_name(self) -> str:
        """Return the card's own name where the user gave the model another; else nothing."""
        return self._card_name

    def renamed(self, name: str, card_name: str) -> Self:
        """Return the card of a model that the user calls `name`; its own name is `card_name`."""
        card = self.model_copy(update={"name": name})
        card._card_name = card_name
        return card

    def is_given(self, name: str) -> bool:
        """Return whether the command line sets an option (`options.source`), or all of them."""
        parts = name.split(".")
        return any(".".join(parts[:count]) in self._given for count in range(1, len(parts) + 1))

    @model_validator(mode="before")
    @classmethod
    def _without_foreign(cls, fields: Any) -> Any:
        """Read cards in the manifests of older runs, which list fields of every kind."""
        if not isinstance(fields, Mapping):
            return fields
        return {
            name: value
            for name, value in fields.items()
            if name in cls.model_fields or name not in FORMER or value != FORMER[name]
        }

    def named_files(self, data_root: Path | None) -> list[tuple[str, str, str]]:
        """Return each file that the card names: what it is, its path, and whether it is there."""
        return []

    def unprotected(self) -> list[str]:
        """Return the addresses of files that anyone on the way could replace unnoticed."""
        return []

    def pull(self, data_root: Path | None, progress: DownloadProgress) -> Iterator[str]:
        """Fetch the model's files; yield what became of each.

        Args:
            data_root: Folder whose `weights/` they belong in; None for the default root.
            progress: Returns, for a file's name, a context whose value is called with
                the bytes so far.

        Raises:
            DownloadError: a file could not be fetched.
        """
        yield f"model {self.name} is of kind {self.kind}, which has no files to fetch"


class DecodingDefaults(Strict):
    """How a model chooses new tokens where a request does not say it; greedily if all is empty."""

    temperature: float | None = Field(default=None, ge=0)
    """Logits are divided by it before a token is drawn; 0 or nothing is greedy."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Only the most probable tokens are drawn, up to this share of the probability."""
    top_k: int | None = Field(default=None, ge=1)
    """Only so many of the most probable tokens are drawn."""


class TorchModelCard(ModelCard):
    """A model that is loaded into this process."""

    decoding: DecodingDefaults = Field(default_factory=DecodingDefaults)

    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """`auto` is float32 on the CPU; on a GPU float16 for fused models, as published, and the
    checkpoint's own precision for others."""
    attention: Literal["sdpa", "eager"] = "sdpa"
    """`eager` rounds as the published code does; `sdpa` is faster."""
    quantization: Quantization = NOT_QUANTIZED
    """Of the linear layers within the language model's decoder layers, which are frozen; all else
    stays in `dtype`, which is also what the quantized layers compute in."""
    prompt_batch_tokens: int | None = Field(default=None, ge=64)
    """Most prompt and answer tokens in one batch, before memory back-off; by device if empty."""


class TrainingSource(Strict):
    """Data to train on: a task's own, asked in its training prompts."""

    FIRST_FIELDS = frozenset(
        {
            "task", "split", "prompt_format", "options", "max_sequence_length",
            "augmentation", "limit",
        }
    )  # fmt: skip

    task: str
    """Name or path of a task card; the same card evaluates the result."""
    split: str = "train"
    """Split of the task's data."""
    prompt_format: str | None = None
    """Prompt format to train on; the task card's if empty (Q1)."""
    options: dict[str, Any] = {}
    """Options of the task's kind that replace the card's, for example `captions: false` (Q2)."""
    max_sequence_length: int = Field(default=512, ge=8)
    """Tokens of prompt and answer together; longer rows lose their end (captions: 30, Q12)."""
    augmentation: Literal["none", "caption"] = "none"
    """`caption` is the published crop, flip and RandAugment of caption training."""
    limit: int | None = Field(default=None, ge=1)
    """Use so many samples only, spread evenly over the split."""


class MethodSettings(Strict):
    """Hyper-parameters of a method; each method has fields of its own, and defaults."""

    FIRST_FIELDS = frozenset({"kind"})

    kind: str = DEFAULT_METHOD
    """The method that is trained."""

    from_tensors: ClassVar[frozenset[str]] = frozenset()
    """Fields that the shapes of an adapter's tensors say, so that no card overrules them."""

    @model_serializer(mode="wrap")
    def _plain(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the default method: identities of trainings are older than other methods."""
        fields: dict[str, Any] = handler(self)
        if fields.get("kind") == DEFAULT_METHOD:
            del fields["kind"]
        return fields

    def values(self) -> dict[str, Any]:
        """Return the fields but for the method's name."""
        return {name: getattr(self, name) for name in type(self).model_fields if name != "kind"}


Decay = Annotated[float, Field(ge=0, lt=1)]
Seconds = Annotated[float, Field(gt=0, le=1_000_000)]
"""To wait: eleven days, for no system waits longer than 24."""


class RecipeCard(Card):
    """How an adapter is trained; defaults are what the published recipes share."""

    FIRST_FIELDS = Card.FIRST_FIELDS | frozenset(
        {
            "model", "data", "method", "epochs", "warmup_epochs", "base_learning_rate",
            "min_learning_rate", "weight_decay", "betas", "max_grad_norm",
            "effective_batch", "batch_size", "precision", "attention", "tokens_at_once",
            "checkpoint_activations", "bucket_by_length", "shard_frozen_weights",
            "seed", "shuffle_seed", "max_unreadable_images", "checkpoint_steps",
            "keep_checkpoints", "workers",
        }
    )  # fmt: skip

    model: str = ""
    """Model card whose frozen parts are used, unless `--model` names another."""
    data: tuple[TrainingSource, ...] = Field(min_length=1)
    """What is trained on; several sources are shuffled together."""
    method: MethodSettings = Field(default_factory=MethodSettings)
    """The adapter's sizes and strengths."""
    epochs: int = Field(ge=1, le=MOST_EPOCHS)
    """Passes over the data."""
    warmup_epochs: float = Field(default=0.0, ge=0)
    """Epochs of linear warm-up; the rest is half a cosine."""
    base_learning_rate: float = Field(default=9e-3, gt=0)
    """Learning rate per 256 samples (`--blr`); the peak is it times effective_batch/256."""
    min_learning_rate: float = Field(default=0.0, ge=0)
    """Where the cosine ends."""
    weight_decay: float = Field(default=0.02, ge=0)
    """Of all tuned tensors but the projectors' biases."""
    betas: tuple[Decay, Decay] = (0.9, 0.95)
    """AdamW's decay rates."""
    max_grad_norm: float | None = Field(default=None, gt=0)
    """Gradients are scaled down to this norm; not at all if empty, as published."""
    nan_loss: Literal["method", "zero", "skip"] = "method"
    """What a micro-batch does whose loss is not a number: counts as zero (ADEM-VL, MemVP, Q23), or
    is left out of its step (LaVIN, L7); by default as the method's published trainer has it."""
    effective_batch: int = Field(default=32, ge=1, le=MOST_BATCH)
    """Samples per optimizer step, over all processes and accumulated micro-batches."""
    batch_size: int = Field(default=2, ge=1, le=MOST_BATCH)
    """Rows of a micro-batch on one process; accumulation is derived from it."""
    precision: Literal["auto", "float16", "bfloat16", "float32"] = "auto"
    """Of frozen weights and activations; the adapter is float32. `auto` is float16 with loss
    scaling on a GPU, as published, and float32 on the CPU."""
    quantization: Literal["auto", Quantization] = "auto"
    """Of the frozen linear layers within the decoder layers: `bnb-4bit` and `bnb-8bit`
    (bitsandbytes), `int8-cpu`, or `none`; the adapter stays float32. `auto` is the model card's."""
    attention: Literal["auto", "sdpa", "eager"] = "auto"
    """`eager` rounds as the published code does; `auto` is that on the CPU, where it is also
    faster to train, and `sdpa` on a GPU."""
    tokens_at_once: int | None = Field(default=None, ge=0)
    """Tokens that go through the network together. A micro-batch of more is done in parts of rows
    of like length, those with and without image apart; dropout aside, its loss and gradients are
    the same. 0 takes micro-batches whole. If empty: 1024 on the CPU, 0 on a GPU and for sharded
    models."""
    checkpoint_activations: bool = False
    """Keep each decoder layer's input alone and compute the rest again: less memory, more time."""
    bucket_by_length: bool = False
    """Put rows of like length into one micro-batch: less padding, another order."""
    shard_frozen_weights: bool = False
    """Spread the language model's weights over the processes (FSDP2)."""
    seed: int = Field(default=42, ge=-MOST_SEED, le=MOST_SEED)
    """Of initialization, dropout and augmentation."""
    shuffle_seed: int = Field(default=0, ge=-MOST_SEED, le=MOST_SEED)
    """Of the order of samples (the published DistributedSampler's own)."""
    max_unreadable_images: int = Field(default=100, ge=0)
    """Samples left out of an epoch because their image cannot be read, up to which training goes
    on."""
    checkpoint_steps: int = Field(default=500, ge=1)
    """Optimizer steps between checkpoints; one is written at each epoch's end too."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """How many of the latest checkpoints stay on disk."""
    workers: int | None = Field(default=None, ge=0, le=MOST_WORKERS)
    """Processes that read images for one training process; by the machine if empty."""
