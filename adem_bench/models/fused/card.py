"""The card of a fused model: where its frozen parts and adapters are, which method joins them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from adem_bench.errors import CheckpointError, DownloadError, in_shell
from adem_bench.models.places import (
    NO_ADAPTER,
    candidate_paths,
    weights_folder,
    weights_path,
)
from adem_bench.schemas import DEFAULT_METHOD, DownloadProgress, Reading, Strict, TorchModelCard

if TYPE_CHECKING:
    from adem_bench.data.downloading import Download

FORMER_KIND = "adem"
"""What the kind `fused` was called when it had one method."""


OWN_NAMES = ("localhost", "127.0.0.1", "::1")
"""Of this machine, between which and itself nobody stands."""


class AdapterSource(Strict):
    """One adapter on disk, and where it is published."""

    FIRST_FIELDS = frozenset({"path", "url", "size", "sha256"})

    path: str
    """Below the card's own folder or the weights folder."""
    url: str = ""
    """Of the file itself, which can be fetched."""
    size: int | None = None
    """Bytes."""
    sha256: str = ""
    page: str = ""
    """Of a web page that offers the file, which must be fetched by hand."""

    @property
    def is_released(self) -> bool:
        """Whether the method's authors published it."""
        return bool(self.url or self.page)


class LanguageModelSource(Strict):
    """The frozen language model."""

    FIRST_FIELDS = frozenset({"path", "hub", "tokenizer", "source"})

    path: str
    """A folder in the published layout or the Hugging Face layout, or (`hub: true`) a hub id."""
    hub: bool = False
    """Whether transformers may fetch `path` from its hub where no such folder exists."""
    tokenizer: str = ""
    """tokenizer.model; by default looked for in the folder and next to it."""
    source: str = ""
    """Where to get it, for the message when it is missing."""
    bos_token: str | None = None
    """The token that a prompt begins with, none if empty text; if nothing is said, the tokenizer's
    own, or its EOS where it has no such token."""
    end_tokens: tuple[str, ...] = ()
    """Tokens that end an answer, besides the tokenizer's EOS."""
    chat_template: bool = False
    """Whether prompts are put as a user's message into the tokenizer's chat template."""

    def prompt_tokens(self) -> dict[str, Any]:
        """Return what is said of prompts and answers, without what is at its default."""
        said = self.stable_fields()
        return {name: said[name] for name in said if name not in self.FIRST_FIELDS}


class VisionSource(Strict):
    """The frozen image tower: CLIP's, SigLIP's or one of their kind."""

    FIRST_FIELDS = frozenset({"path", "name", "pretrained"})

    path: str = ""
    """A file in OpenAI's or open_clip's layout (`visual.…` keys); tried before the tag."""
    name: str = "ViT-L-14-quickgelu"
    """open_clip's name of the architecture. By default a file's sizes say it, with OpenAI's
    conventions (heads of 64, QuickGELU)."""
    pretrained: str = "openai"
    """open_clip's tag of the weights, or of those that a file's began as: what they were trained
    with."""


class FusionSettings(Strict):
    """The method, and settings of it that overrule what a checkpoint says of itself (Q28).

    A card that sets any is read with the method's own fields, by `Method.overrides`.
    """

    FIRST_FIELDS = frozenset({"kind"})

    kind: str = DEFAULT_METHOD

    def values(self) -> dict[str, Any]:
        """Return the settings that the card sets."""
        names = [name for name in type(self).model_fields if name != "kind"]
        found = {name: getattr(self, name) for name in names}
        return {name: value for name, value in found.items() if value is not None}


class FusedCard(TorchModelCard):
    """A frozen language model and a frozen vision tower, joined by a method."""

    has_options = False

    language_model: LanguageModelSource
    vision: VisionSource = Field(default_factory=VisionSource)
    fusion: FusionSettings = Field(default_factory=FusionSettings)
    adapters: dict[str, AdapterSource] = Field(default={})
    """Task name to the adapter tuned for it; `default` serves every other task."""
    adapter: str = ""
    """One adapter for every task, before `adapters` (`--adapter`)."""
    max_sequence_length: int = Field(default=512, ge=16)
    """Prompt and answer together (published: 512)."""
    overflow: Literal["published", "fix"] = "published"
    """What happens to prompts that do not fit (Q9)."""
    image_normalization: Literal["task", "tower", "imagenet", "clip", "inception"] = "task"
    """`task` follows each benchmark's published pipeline (Q14), `tower` the tower's training."""
    image_reading: Reading = "published"
    """How files become pixels: as the published code reads them, or as they are shown (Q33)."""
    shard: bool = False
    """Whether processes under torchrun hold a part of the language model each, and answer every
    request together, rather than holding it whole and sharing the requests."""
    prompts: dict[str, dict[str, Any]] = Field(default={})
    """Task kind to the prompt settings the weights were tuned on, where their file is silent; of
    released adapters (those with a `url`) the method knows them."""

    @field_validator("kind")
    @classmethod
    def _current(cls, kind: str) -> str:
        return "fused" if kind == FORMER_KIND else kind

    @field_validator("options")
    @classmethod
    def _none(cls, options: dict[str, Any]) -> dict[str, Any]:
        if options:
            raise PydanticCustomError(
                "no_options", "fused models take none; their settings are fields of the card"
            )
        return options

    @property
    def base_name(self) -> str:
        """Name of the frozen language model."""
        source = self.language_model
        # A folder's path is private to its machine.
        return self.language_model_name or (source.path if source.hub else Path(source.path).name)

    def missing(self, path: str, data_root: Path | None) -> str:
        """Return one line: what is missing, every place that was looked at, where to get it."""
        places = [str(place) for place in candidate_paths(path, self, data_root)]
        return (
            f"{self._role(path)} {path!r} of model {self.name} is not on disk (looked at "
            f"{', '.join(places)}); {self._remedy(path, places[-1])}"
        )

    def lacking(self, adapters: Iterable[AdapterSource], data_root: Path | None) -> list[str]:
        """Return one line for each file that is missing, as `missing` does.

        Args:
            adapters: Those that are to be used.
            data_root: As for `missing`.
        """
        paths = [source.path for source in adapters if source.path != NO_ADAPTER]
        if not self.language_model.hub:
            paths.append(self.language_model.path)
        paths.append(self.language_model.tokenizer)
        if not self.vision.pretrained:  # else open_clip has it
            paths.append(self.vision.path)
        return [
            self.missing(path, data_root)
            for path in dict.fromkeys(filter(None, paths))
            if weights_path(path, self, data_root) is None
        ]

    def _role(self, path: str) -> str:
        """Return what a path of this card is, in words."""
        roles = {
            self.language_model.path: "language model",
            self.vision.path: "CLIP tower",
            self.language_model.tokenizer: "tokenizer",
        }
        return roles.get(path, "adapter")

    def _remedy(self, path: str, target: str) -> str:
        """Return what to do about a missing file, which belongs at `target`."""
        offered = (a for a in self.adapters.values() if a.path == path and a.is_released)
        source = next(offered, None)
        if source and source.url:
            return f"`adem-bench models pull {in_shell(self.name)}` fetches it from {source.url}"
        if source:
            return f"get it from {source.page} and put it at {target}; {self._to_check(source)}"
        language_model = self.language_model
        if path in (language_model.path, language_model.tokenizer):
            if language_model.source:
                return f"get it from {language_model.source} and put it at {target}"
        elif path == self.vision.path:
            return (
                f"put the weights of {self.vision.name} there, or leave vision.path empty to let "
                "open_clip fetch them"
            )
        card = self.path or "built in memory"
        return f"put it at {target}, or change the path in the card ({card})"

    def _to_check(self, source: AdapterSource) -> str:
        """Return how a file that was fetched by hand is checked, and what it cannot be held to."""
        unknown = [name for name in ("size", "sha256") if not getattr(source, name)]
        silent = f" (no {' and no '.join(unknown)} is published)" if unknown else ""
        values = f", {self.trainable_parameters:,} values" if self.trainable_parameters else ""
        return (
            f"`adem-bench models check {in_shell(self.name)}` then says whether it is a "
            f"{self.fusion.kind} adapter{values}{silent}"
        )

    def source_for(self, task: str, task_kind: str) -> AdapterSource:
        """Return the adapter for a task: by its name, its kind, then `default`.

        Raises:
            CheckpointError: the card names none.
        """
        if self.adapter:
            return AdapterSource(path=self.adapter)
        for name in (task, task_kind, "default"):
            if name in self.adapters:
                return self.adapters[name]
        raise CheckpointError(
            f"model {self.name} names no adapter for {task}; add `default` to the card's "
            "`adapters`, or give --adapter PATH (or --adapter none for the plain language model)"
        )

    def named_files(self, data_root: Path | None) -> list[tuple[str, str, str]]:
        """Return each file that the card names: what it is, its path, and whether it is there."""
        named = {
            "language model": self.language_model.path,
            "tokenizer": self.language_model.tokenizer,
            "CLIP tower": self.vision.path,
        }
        named |= {f"adapter {task}": source.path for task, source in self.adapters.items()}
        rows = []
        for what, path in named.items():
            if path and path != NO_ADAPTER:
                found = weights_path(path, self, data_root)
                state = f"yes: {found}" if found else f"no: {self.missing(path, data_root)}"
                rows.append((what, path, state))
        return rows

    def unprotected(self) -> list[str]:
        """Return the addresses over plain http, on another machine, whose digest is not known.

        Raises:
            CheckpointError: one is not an address.
        """
        urls = [source.url for source in self.adapters.values() if source.url and not source.sha256]
        places = {}
        for url in urls:
            try:
                places[url] = urlsplit(url)
            except ValueError as error:
                raise CheckpointError(
                    f"model {self.name}: {url!r} is not a URL: {error}"
                ) from error
        return [
            url
            for url, place in places.items()
            if place.scheme == "http" and place.hostname not in OWN_NAMES
        ]

    def pull(self, data_root: Path | None, progress: DownloadProgress) -> Iterator[str]:
        """Fetch the published adapters into the weights folder; yield what became of each.

        Args:
            data_root: Folder whose `weights/` they belong in; None for the default root.
            progress: Returns, for a file's name, a context whose value is called with
                the bytes so far.

        Raises:
            CheckpointError: as for `downloads`.
            DownloadError: files could not be fetched; all others were.
        """
        from adem_bench.data.downloading import fetch  # listings and runs need none of it

        chosen = downloads(self, data_root)
        failures = []
        for path, download in chosen.items():
            there = weights_path(path, self, data_root)
            if there is not None and there != download.target:
                yield f"{there}: already there"
                continue
            try:
                with progress(download.target.name) as report:
                    outcome = fetch(download, report)
                yield f"{download.target}: {outcome}"
            except DownloadError as error:
                failures.append(str(error))
        by_hand = {a.path: a for a in self.adapters.values() if a.page and not a.url}
        for path, source in by_hand.items():
            there = weights_path(path, self, data_root)
            if there is None:
                yield f"to be fetched by hand: {self.missing(path, data_root)}"
            else:
                yield f"{there}: already there; {self._to_check(source)}"
        if not chosen and not by_hand:
            yield f"model {self.name} names no adapter with a URL: nothing to fetch"
        path = self.language_model.path
        if not self.language_model.hub and weights_path(path, self, data_root) is None:
            yield f"still needed: {self.missing(path, data_root)}"
        if failures:
            raise DownloadError("; ".join(failures))


def downloads(card: FusedCard, data_root: Path | None) -> dict[str, Download]:
    """Return the adapters of a card that have a URL, by their path in the card, each file once.

    Raises:
        CheckpointError: a URL is not http(s), or a path leads out of the weights folder.
    """
    from adem_bench.data.downloading import Download

    folder = weights_folder(data_root)
    found: dict[str, Download] = {}
    for task, source in card.adapters.items():
        if not source.url:
            continue
        if not source.url.startswith(("http://", "https://")):
            raise CheckpointError(
                f"model {card.name}, adapter {task}: url {source.url!r} is not http(s)"
            )
        path = Path(source.path)
        if path.is_absolute() or ".." in path.parts or source.path.startswith("~"):
            raise CheckpointError(
                f"model {card.name}, adapter {task}: path {source.path!r} leads out of {folder}; "
                "only paths below it can be pulled"
            )
        digests = {"sha256": source.sha256} if source.sha256 else {}
        found[source.path] = Download(source.url, folder / path, source.size, digests)
    return found
