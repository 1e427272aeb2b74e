"""What a card may say of a transformers model, and where its files are; no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from adem_bench.cards import check_options
from adem_bench.errors import CardError, CheckpointError
from adem_bench.files import MISSING, exists, expand_home, file_digest, why_missing
from adem_bench.metrics.reasoning import DEFAULT_TAGS, ReasoningTags
from adem_bench.models.places import NO_ADAPTER, candidate_paths, weights_path
from adem_bench.schemas import DecodingDefaults, DownloadProgress, ModelCard, Strict, TorchModelCard

Attention = Literal["sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention"]
CONFIG_NAME = "config.json"
FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.tiktoken")
"""All that makes a model; weights in pickles are not among it."""
CODE = "*.py"
TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates")


Size = Annotated[str, Field(pattern=r"(?i)^\d{1,9}(\.\d{1,9})? ?[kmg]i?b$")]
"""As accelerate reads them: `20GiB`, `1.5GB`."""


class HfOptions(Strict):
    """The `options` of a card of kind `hf`."""

    source: str
    """A folder, or the id of a repository on the hub."""
    revision: str | None = None
    """Branch, tag or commit of that repository."""
    trust_remote_code: bool = False
    """Whether Python code out of the model's repository may run."""
    processor: dict[str, Any] = Field(default={})
    """Arguments for the processor, for example `{do_image_splitting: false}`."""
    system: str = ""
    """System message before every prompt."""
    reasoning_tags: ReasoningTags = DEFAULT_TAGS
    """What stands around reasoning, which is not read: names (`think` for `<think>`), or pairs of
    a start and an end with a blank between."""
    adapter_base: str = ""
    """The name by which an adapter knows this model, where it is another one."""
    device_map: Literal["", "auto"] = ""
    """`auto` spreads the layers over all GPUs, and over the CPU's memory where they are full."""
    max_memory: dict[int | Literal["cpu", "mps"], Size] = Field(default={})
    """Most memory for the weights on each device with `device_map`, as `{0: 20GiB, cpu: 64GiB}`."""
    cut_answers: Literal["failed", "scored"] = "failed"
    """What an answer counts that reached the most new tokens before its end."""
    min_length: int | None = Field(default=None, ge=1)
    """Least tokens of prompt and answer together, as `generate` of transformers counts them."""
    max_length: int | None = Field(default=None, ge=2)
    """Most tokens of prompt and answer together; `max_new_tokens` of a task counts too."""

    def of_processors(self) -> str:
        """Return what else may be at fault where a processor is, for the end of a message."""
        return "; options.processor, which is set, may be the cause" if self.processor else ""


class HfDecoding(DecodingDefaults):
    """How a model chooses new tokens where a request does not say it."""

    num_beams: int | None = Field(default=None, ge=1)
    """Beams of a beam search; 1 or nothing is greedy."""


class HfCard(TorchModelCard):
    """An image-text-to-text model of transformers."""

    # The field is younger than digests of this kind.
    FIRST_FIELDS = TorchModelCard.FIRST_FIELDS - {"adapter"}

    decoding: HfDecoding = Field(default_factory=HfDecoding)
    adapter: str = ""
    """A folder that peft saved; empty or `none`: the model as it is."""
    attention: Attention = "sdpa"  # type: ignore[assignment]  # more than other kinds know
    """As transformers calls it; `sdpa` is `eager` where a model supports nothing else."""

    def named_files(self, data_root: Path | None) -> list[tuple[str, str, str]]:
        """Return the model's folder: what it is, its source, and whether it is there."""
        source = read_options(self).source
        found = find_folder(self, source, data_root)
        missing = "no: taken from the Hugging Face hub, which keeps it in its own cache"
        files = [("model", source, f"yes: {found}" if found else missing)]
        place = adapter_place(self)
        if place is not None:
            found = find_folder(self, place, data_root)
            files.append(("adapter", place, f"yes: {found}" if found else "no"))
        return files

    def pull(self, data_root: Path | None, progress: DownloadProgress) -> Iterator[str]:
        """Fetch the model into the hub's cache; yield what became of it.

        Args:
            data_root: As for `find_files`.
            progress: Unused: the hub's library draws its own.

        Raises:
            CheckpointError: as for `find_files`.
        """
        files = find_files(self, read_options(self), data_root)
        state = f"fetched, commit {files.revision}" if files.revision else "already there"
        yield f"{files.folder}: {state}"


@dataclass(frozen=True, slots=True)
class HfFiles:
    """A model's files on this machine."""

    folder: Path
    revision: str | None
    """Commit on the hub; None for a folder of the user's."""
    with_code: bool

    def named(self, names: Iterable[str]) -> str:
        """Return those of some files that are there, as a message names them."""
        there = [name for name in names if (self.folder / name).exists()]
        return f"{', '.join(there)} in {self.folder}" if there else str(self.folder)

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits over the names and contents of all files."""
        patterns = (*FILES, CODE) if self.with_code else FILES
        files = sorted({file for pattern in patterns for file in self.folder.glob(pattern)})
        parts = [f"{file.name} {file_digest(file)}" for file in files]
        return hashlib.sha256("\n".join(parts).encode(errors="backslashreplace")).hexdigest()[:16]


def read_options(card: ModelCard) -> HfOptions:
    """Return a card's options.

    Raises:
        CardError: an option is unknown or wrong.
    """
    options = check_options("model", card, HfOptions)
    if options.max_memory and not options.device_map:
        raise CardError(
            f"model {card.name}: options.max_memory has no effect without options.device_map=auto"
        )
    if options.adapter_base and adapter_place(card) is None:
        raise CardError(f"model {card.name}: options.adapter_base has no effect without an adapter")
    return options


def adapter_place(card: ModelCard) -> str | None:
    """Return where a card's adapter is; None if it has none."""
    place = str(getattr(card, "adapter", ""))
    return None if place in ("", NO_ADAPTER) else place


def find_adapter_folder(card: ModelCard, data_root: Path | None) -> Path | None:
    """Return the folder of a card's adapter; None if it has none.

    Args:
        card: The model's.
        data_root: Whose `weights/` is looked at, too; None for the default root.

    Raises:
        CheckpointError: there is no such folder.
    """
    place = adapter_place(card)
    if place is None:
        return None
    folder = find_folder(card, place, data_root)
    if folder is None:
        looked = [str(path) for path in candidate_paths(place, card, data_root)]
        raise CheckpointError(
            f"adapter {place} does not exist (looked at {', '.join([place, *looked])}); expected a "
            "folder that save_pretrained of a peft model wrote"
        )
    return folder.parent if folder.is_file() else folder


def find_files(card: ModelCard, options: HfOptions, data_root: Path | None) -> HfFiles:
    """Return a model's files: of a folder here, else of the hub, fetched if they are not here yet.

    Args:
        card: Whose folder, and the `weights/` of the data root, are looked at.
        options: With the source.
        data_root: None for the default one.

    Raises:
        CheckpointError: there is neither such a folder nor such a repository.
    """
    folder = find_folder(card, options.source, data_root)
    if folder is not None and options.revision is not None:
        raise CardError(
            f"model {card.name}: options.revision has no effect on the folder {folder}; leave it "
            "out, or give a hub's id"
        )
    if folder is None:
        return _fetched(card, options, data_root)
    config = folder / CONFIG_NAME
    if not config.is_file():
        found = why_missing(config)
        lacking = f"{folder} has no {CONFIG_NAME}" if found == MISSING else f"{config} {found}"
        raise CheckpointError(
            f"model {card.name}: {lacking}; expected a folder that transformers has saved "
            "(save_pretrained of model and processor)"
        )
    return HfFiles(folder, None, options.trust_remote_code)


def find_folder(card: ModelCard, source: str, data_root: Path | None) -> Path | None:
    """Return the folder on this machine that a source stands for; None leaves it to the hub.

    Args:
        card: Whose folder is looked at first.
        source: A path, or a hub id.
        data_root: Whose `weights/` is looked at next; None for the default root.
    """
    found = weights_path(source, card, data_root)
    if found is None:
        # As on a command line: relative to the working directory.
        here = expand_home(source)
        found = here if exists(here) else None
    return found


def has_chat_template(folder: Path) -> bool:
    """Return whether a model's folder has a chat template, in whichever file it is kept."""
    if any((folder / name).exists() for name in TEMPLATES):
        return True
    texts = (folder / name for name in ("tokenizer_config.json", "processor_config.json"))
    return any('"chat_template"' in t.read_text("utf-8", "replace") for t in texts if t.is_file())


def _fetched(card: ModelCard, options: HfOptions, data_root: Path | None) -> HfFiles:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    fetch: Callable[..., str] = snapshot_download
    patterns = [*FILES, CODE] if options.trust_remote_code else [*FILES]
    try:
        # Folders within a repository hold the same weights in other formats.
        folder = fetch(
            options.source,
            revision=options.revision,
            allow_patterns=patterns,
            ignore_patterns=["*/*"],
        )
    except (HFValidationError, OSError, ValueError) as error:
        looked = [str(place) for place in candidate_paths(options.source, card, data_root)]
        reason = next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
        raise CheckpointError(
            f"model {card.name}: {options.source!r} is not a folder (looked at "
            f"{', '.join([options.source, *looked])}) and cannot be fetched from the Hugging Face "
            f"hub ({reason[:160]}); give a folder that save_pretrained wrote, or a hub's id"
        ) from error
    return HfFiles(Path(folder), Path(folder).name, options.trust_remote_code)
