"""Any model that VLMEvalKit knows, as a model here: `--model vlmevalkit:NAME`.

VLMEvalKit is imported when such a model is built, and what its import changes for the whole process
is put back.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from pydantic import Field

from adem_bench.cards import check_options
from adem_bench.errors import CardError, CheckpointError, OutOfMemoryError, nearest_hint
from adem_bench.images import UnreadableImageError, common_form
from adem_bench.metrics.reasoning import DEFAULT_TAGS, ReasoningTags, stated_tags
from adem_bench.models.base import Budget, Model, ModelOptions
from adem_bench.models.device import memory_errors
from adem_bench.prompts import whole
from adem_bench.records import Request, Response
from adem_bench.schemas import ModelCard, Strict, TaskCard

PACKAGE = "ms-vlmeval"
"""VLMEvalKit's name on the package registry."""
FAILED = "Failed to obtain answer"
"""How VLMEvalKit's answers begin where there is none (its smp/file.py, INFER_FAIL_MSG)."""
CHARACTERS_PER_TOKEN = 4
"""For ordering only: the model's own tokenizer is out of reach."""


class VlmEvalKitOptions(Strict):
    """Settings of a card of this kind."""

    source: str
    """Name of a model in VLMEvalKit's `supported_VLM`."""
    dataset: str | None = None
    """Data set of VLMEvalKit whose name the model is given; some models then answer differently."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the model's class that replace VLMEvalKit's own, for example `model_path`."""
    reasoning_tags: ReasoningTags = DEFAULT_TAGS
    """What stands around reasoning, which is not read: names (`think` for `<think>`), or pairs of
    a start and an end with a blank between."""


class VlmEvalKitModel(Model):
    """A model of VLMEvalKit, asked one question at a time as it does itself."""

    @classmethod
    def check(cls, card: ModelCard, tasks: Sequence[TaskCard], data_root: Path | None) -> None:
        """Refuse options that the kind does not have; arguments as in `Model`.

        Raises:
            CardError: there are such, or one is wrong.
        """
        check_options("model", card, VlmEvalKitOptions)

    def __init__(self, card: ModelCard, options: ModelOptions) -> None:
        """Load the model as VLMEvalKit would, on the GPU that `options` name.

        Raises:
            CardError: a wrong option, or VLMEvalKit has no such model.
            CheckpointError: VLMEvalKit is not installed, or the model cannot be loaded.
        """
        super().__init__(card, options)
        self.options = check_options("model", card, VlmEvalKitOptions)
        self._factory = _factory(self.options.source)
        self._vlm = _load(self.options, self._factory, options.device)

    def length(self, request: Request) -> int:
        """Return a guess at the number of tokens, which orders requests."""
        return len(request.prompt) // CHARACTERS_PER_TOKEN + request.max_new_tokens

    def budget(self) -> Budget:
        """Return one row at a time, which is all that VLMEvalKit's models take."""
        return Budget(tokens=1 << 62, rows=1)

    @property
    def reasoning_tags(self) -> Sequence[str]:
        """The card's: VLMEvalKit hands reasoning on with the answer."""
        return self.options.reasoning_tags

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Answer requests one by one."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Response:
        try:
            # Most of its models rely on gradients being off for the whole process.
            with TemporaryDirectory() as folder, torch.no_grad(), memory_errors():
                images = [_in_common_form(path, Path(folder)) for path in request.images]
                message = [{"type": "image", "value": str(path)} for path in images]
                message.append({"type": "text", "value": whole(request.prompt)})
                text = str(self._vlm.generate(message, dataset=self.options.dataset))
        except UnreadableImageError as error:
            return Response("", error=str(error))
        except OutOfMemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - the code of hundreds of models
            return Response("", error=f"{type(error).__name__}: {error}")
        return Response("", error=text) if text.startswith(FAILED) else Response(text)

    def fingerprint(self) -> str:
        """Return a digest of name, arguments and VLMEvalKit's version; weights are not read."""
        seen = json.dumps(self.describe(), sort_keys=True, default=str)
        return hashlib.sha256(seen.encode()).hexdigest()[:16]

    def warnings(self) -> Sequence[str]:
        """Say what this harness does not control."""
        return ("VLMEvalKit decides on decoding and on the length of answers, not the task",)

    def describe(self) -> Mapping[str, Any]:
        """Return name, class and arguments, and VLMEvalKit's version."""
        factory = self._factory
        keywords = {**getattr(factory, "keywords", {}), **self.options.arguments}
        return {
            "name": self.card.name,
            "class": f"{type(self._vlm).__module__}.{type(self._vlm).__qualname__}",
            "arguments": {name: str(value) for name, value in sorted(keywords.items())},
            "dataset": self.options.dataset,
            "vlmevalkit": _version(),
            **stated_tags(self.options.reasoning_tags),
        }


def _version() -> str:
    """Return the release of VLMEvalKit's package that is imported, or a checkout's commit.

    In a package `githash` finds nothing, or the commit of whatever repository lies around it.
    """
    import vlmeval
    from vlmeval.smp import githash

    imported = Path(vlmeval.__file__).parent
    try:
        package = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        package = None
    if package and Path(str(package.locate_file("vlmeval"))).resolve() == imported.resolve():
        return f"{PACKAGE} {package.version}"
    return str(githash(digits=8))


def _in_common_form(path: Path, folder: Path) -> Path:
    """Return an image's file, or one in a folder where models would read its own in many ways."""
    form = common_form(path)
    if form.is_own:
        return path
    number = sum(1 for _ in folder.iterdir())
    written = folder / f"{number}.{form.media_type.removeprefix('image/')}"
    written.write_bytes(form.data)
    return written


@contextmanager
def process_settings_kept() -> Iterator[None]:
    """Put back what VLMEvalKit's import changes for the whole process.

    It trusts every HTTPS server, turns gradients off and seeds torch's generator
    (`vlmeval/__init__.py`, `vlmeval/vlm/__init__.py`).
    """
    context, is_grad = ssl._create_default_https_context, torch.is_grad_enabled()
    generator = torch.get_rng_state()
    try:
        yield
    finally:
        ssl._create_default_https_context = context
        torch.set_grad_enabled(is_grad)
        torch.set_rng_state(generator)


def _factory(name: str) -> Any:
    """Return the callable that VLMEvalKit has for a name."""
    if importlib.util.find_spec("vlmeval") is None:
        raise CheckpointError(
            f"model vlmevalkit:{name} needs VLMEvalKit: `pip install {PACKAGE}`, or clone "
            "https://github.com/open-compass/VLMEvalKit and `pip install -e` it"
        )
    try:
        with process_settings_kept():
            from vlmeval.config import supported_VLM
    except Exception as error:  # its import runs the code of hundreds of models
        raise CheckpointError(
            f"VLMEvalKit cannot be imported ({type(error).__name__}: {error}); install what its "
            "requirements.txt names, and rouge, rouge_score, rapidfuzz, opencv-python-headless"
        ) from error
    if name not in supported_VLM:
        raise CardError(f"VLMEvalKit has no model {name!r}{nearest_hint(name, supported_VLM)}")
    return supported_VLM[name]


def _load(options: VlmEvalKitOptions, factory: Any, device: str) -> Any:
    if device.startswith("cuda:"):
        # Its models move themselves to the current GPU.
        torch.cuda.set_device(torch.device(device))
    # As its own loop does: transformers would otherwise spread the model over torchrun's processes.
    world_size = os.environ.pop("WORLD_SIZE", None)
    try:
        with process_settings_kept():
            return partial(factory, **options.arguments)()
    except Exception as error:  # the code of hundreds of models
        raise CheckpointError(
            f"VLMEvalKit cannot load {options.source} ({type(error).__name__}: {error})"
        ) from error
    finally:
        if world_size is not None:
            os.environ["WORLD_SIZE"] = world_size
