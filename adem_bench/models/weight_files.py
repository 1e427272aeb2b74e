"""What is wrong with a file of weights, said with its cause and remedy; no weight is read twice."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, load_file
from torch import Tensor, nn

from adem_bench.errors import (
    MOST_SAID,
    AdemBenchError,
    CheckpointError,
    OutOfMemoryError,
    lacks_memory,
)
from adem_bench.files import (
    BEGINNING,
    MAX_SETTINGS_BYTES,
    check_regular,
    is_file,
    is_utf8,
    open_bytes,
    read_json,
    why_missing,
)
from adem_bench.models.device import is_memory_error

T = TypeVar("T")
CONFIG_NAME = "config.json"
INDEX_END, WHOLE, WHOLE_PICKLED = ".index.json", "model.safetensors", "pytorch_model.bin"
MIN_KNOWN = 0.9
"""Share of a language model's rows that its own tokenizer fills at least."""
SIZES = ("hidden_size", "intermediate_size", "vocab_size", "n_embd", "d_model", "dim", "ffn_dim")
LAYERS, MOST_LAYERS = "num_hidden_layers", 1024
LABELS, MOST_LABELS = "num_labels", 1 << 15
"""Of a classifier, which transformers names one by one, whether there is such a head or not."""
REPEATED, MOST_REPEATED = re.compile("layers|depth|blocks|experts|n_layer$"), 4096
"""Parts of the names of numbers that say how often something is made, and the most that is."""
MOST_PACKED = 16
"""Numbers that a byte of a file may stand for, where weights are packed, and then some."""
PROCESSORS = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")
TOKENIZERS = (
    *("tokenizer_config.json", "tokenizer.json", "special_tokens_map.json", "added_tokens.json"),
    *("chat_template.json", "chat_template.jinja"),
)
SIDES = re.compile("height|width|edge|size|pinpoints")
EDGES, TOKENS = re.compile("edge"), re.compile("tokens|seq_len")
OF_AREAS = "merge_size"
"""Said by processors whose edges are areas: those of Qwen2-VL and of what came after it."""
MOST_SIDE, MOST_PIXELS, MOST_TOKENS = 1 << 14, 1 << 27, 1 << 20
"""Of what an image is made into: pixels of a side, pixels in all, tokens of a prompt."""
MOST_JSON_BYTES = 512 << 20
COMPLEX = "C64"
"""How safetensors calls them."""
PUZZLING = (LookupError, TypeError, AttributeError, AssertionError, ArithmeticError)
"""Errors whose words say little without the kind: those of a KeyError are the key."""
LFS_POINTER = b"version https://git-lfs"
PAGES = (b"<!doctype html", b"<html")
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What torch.compile, FSDP and checkpointed activations put into names, before any part."""
WRAPPED = re.compile(rf"(?:^|(?<=\.))(?:{'|'.join(WRAPPERS)})\.")
DISTRIBUTED = "module."
"""What distributed training puts before every name."""


def check_file(path: Path) -> None:
    """Refuse a file that holds no weights, or not all of them.

    Raises:
        CheckpointError: it is a pointer, a web page, empty or cut short.
    """
    try:
        size = path.stat().st_size
        with open_bytes(path) as stream:
            beginning = stream.read(BEGINNING)
    except FileNotFoundError as error:  # of a cache, say, in which the other file is not
        raise CheckpointError(f"{path} {why_missing(path)}; fetch it again") from error
    if not beginning:
        raise CheckpointError(f"{path} is empty; fetch it again")
    if beginning.startswith(LFS_POINTER):
        raise CheckpointError(
            f"{path} is a Git LFS pointer, which stands for a file and does not hold it; run `git "
            "lfs pull` in its repository, or fetch the file itself"
        )
    if beginning.lstrip().lower().startswith(PAGES):
        raise CheckpointError(
            f"{path} is a web page, to which its download led instead of the file; fetch it again, "
            "signed in if the page asks for that"
        )
    if path.suffix == ".safetensors":
        _check_size(path, size)
        _check_header(path)


def check_files(folder: Path) -> None:
    """Refuse a folder in which a file of weights or of a tokenizer is not what it seems.

    Raises:
        CheckpointError: as for `check_file`.
    """
    for pattern in ("*.jinja", "*.txt", "*.bin"):  # which may be empty
        for file in sorted(folder.glob(pattern)):
            check_regular(file)
    for pattern in ("*.safetensors", "*.json", "*.model"):
        for file in sorted(folder.glob(pattern)):
            check_file(file)
            if file.suffix == ".json" and file.stat().st_size > MOST_JSON_BYTES:
                raise CheckpointError(
                    f"{file} is larger than {MOST_JSON_BYTES >> 20} MiB, as no such file is; fetch "
                    "it again"
                )
    check_config(folder)
    _check_processors(folder)
    _check_shards(folder)


def check_config(folder: Path) -> None:
    """Refuse a `config.json` that asks for more than its folder's files can hold.

    Networks are made as their configuration says, before a weight is read.

    Raises:
        CheckpointError: it does, or is not an object in JSON.
    """
    file = folder / CONFIG_NAME
    if not file.is_file():
        return
    config, most = _read_object(file), _most_weights(folder)
    for name, value in _numbers(config):
        limit = MOST_LAYERS if name == LAYERS else most if name in SIZES else None
        is_wrong = limit is not None and not 1 <= value <= limit
        is_long = name == LABELS and not value <= MOST_LABELS
        if is_wrong or is_long or (REPEATED.search(name) and not value <= MOST_REPEATED):
            raise CheckpointError(
                f"{file}: {name} is {value:.6g}, which does not go with the folder's weights; "
                "fetch it again"
            )


def check_weights(network: nn.Module, folder: Path) -> None:
    """Refuse a network with far more weights than a folder's files can hold.

    Whatever its configuration calls its sizes: made without memory, a network shows what it takes.

    Args:
        network: On the meta device.
        folder: Of its files.

    Raises:
        CheckpointError: it has.
    """
    parts = [*network.parameters(), *network.buffers()]
    count, most = sum(part.numel() for part in parts), _most_weights(folder)
    if most is not None and count > most:
        raise CheckpointError(
            f"{folder / CONFIG_NAME} asks for a network of {count:.3g} weights, and the files next "
            "to it are too small to hold them; fetch them again"
        )


def _most_weights(folder: Path) -> int | None:
    """Return how many numbers a folder's files of weights can hold; None if there are none."""
    weights = [f for glob in ("*.safetensors", "*.pth", "*.bin") for f in folder.glob(glob)]
    return MOST_PACKED * sum(file.stat().st_size for file in weights) if weights else None


def _check_processors(folder: Path) -> None:
    """Refuse settings by which an image or a prompt is made larger than any that is asked.

    Raises:
        CheckpointError: a file has such, or is not an object in JSON.
    """
    for file in (folder / name for name in PROCESSORS):
        settings = _read_object(file) if file.is_file() else {}
        with_areas = any(name == OF_AREAS for name, _ in _numbers(settings))
        for name, value in _numbers(settings):
            is_area = with_areas and EDGES.search(name)
            limits = ((is_area, MOST_PIXELS), (SIDES.search(name), MOST_SIDE),
                      (TOKENS.search(name), MOST_TOKENS))  # fmt: skip
            limit = next((limit for is_such, limit in limits if is_such), MOST_PIXELS)
            if not -limit <= value <= limit:
                raise CheckpointError(
                    f"{file}: {name} is {value:.6g}, more than any processor asks for; fetch it "
                    "again"
                )


def _check_shards(folder: Path) -> None:
    """Refuse an index of shards that are not all there, next to it.

    Raises:
        CheckpointError: it is such, or is not an object in JSON.
    """
    for whole, ending in ((WHOLE, ".safetensors"), (WHOLE_PICKLED, ".bin")):
        if (folder / whole).is_file():
            return  # which is read instead
        files = sorted(folder.glob(f"*{ending}{INDEX_END}"))
        for file in files:
            _check_index(file, ending)
        if files:
            return


def _check_index(file: Path, ending: str) -> None:
    """Refuse an index of shards, as `_check_shards` does.

    Args:
        file: The index.
        ending: Of the shards' names.
    """
    folder, found = file.parent, _read_object(file)
    shards = found.get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise CheckpointError(f"{file} has no weight_map; fetch it again")
    for shard in dict.fromkeys(map(str, shards.values())):
        if Path(shard).name != shard or "\0" in shard:
            raise CheckpointError(f"{file} names {shard!r:.99}, which is not a file next to it")
        if not is_file(folder / shard):
            raise CheckpointError(f"{folder} lacks {shard:.99}, which {file.name} names; fetch it")
        if not shard.endswith(ending):
            raise CheckpointError(f"{file} names {shard!r:.99}, whose name is not one of weights")
    if not isinstance(found.get("metadata"), dict):  # which transformers asks for
        raise CheckpointError(
            f'{file} has no metadata that is an object; fetch it again, or add `"metadata": {{}}`'
        )


def check_objects(folder: Path, names: Iterable[str]) -> None:
    """Refuse files of JSON that transformers cannot read, which it rarely names.

    Args:
        folder: Of the files.
        names: Of what may be there; other files than `.json` are not looked at.

    Raises:
        CheckpointError: one is not an object in JSON, or has a byte order mark.
    """
    for file in (folder / name for name in names if name.endswith(".json")):
        if file.is_file() and file.stat().st_size <= MAX_SETTINGS_BYTES:
            _read_object(file)
            if not file.read_bytes().lstrip().startswith(b"{"):
                raise CheckpointError(
                    f"{file} begins with a byte order mark, which transformers does not read; "
                    "save it in UTF-8 without one"
                )


def _read_object(file: Path) -> dict[str, Any]:
    """Return a JSON object of settings.

    Raises:
        CheckpointError: the file holds none.
    """
    try:
        found = read_json(file)
    except (OSError, ValueError) as error:
        # What is no text has its own remedy.
        remedy = "" if ";" in str(error) else "; fetch it again"
        raise CheckpointError(f"{file} is not JSON: {error}{remedy}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{file} does not hold a JSON object; fetch it again")
    return found


def _numbers(config: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the numbers of a configuration, of its parts and lists, by the name next above them."""
    for name, value in config.items():
        yield from _numbers_in(name, value)


def _numbers_in(name: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        yield from _numbers(value)
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers_in(name, inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, max(min(value, 1 << 63), -(1 << 63))


@contextmanager
def foreign_reader(
    error_of: Callable[[str], CheckpointError], advice: Callable[[str], str] = lambda message: ""
) -> Iterator[None]:
    """Turn what another package raises over broken files into an error of ours.

    Such readers raise nearly anything. What is said of a lack of memory stays.

    Args:
        error_of: Makes the error of a reason.
        advice: What to say behind the reason, from the whole message.

    Raises:
        CheckpointError: something was raised.
    """
    try:
        yield
    except (AdemBenchError, OutOfMemoryError):
        raise
    except Exception as error:
        if is_memory_error(error) or lacks_memory(error):
            raise
        lines = [line.strip() for line in str(error).strip().splitlines()]
        # A line that ends in a colon says only that the next one says it.
        reason = " ".join(lines[: 2 if lines[0].endswith(":") else 1])[:MOST_SAID] if lines else ""
        if not reason or isinstance(error, PUZZLING):
            reason = f"{type(error).__name__}: {reason}".removesuffix(": ")
        raise error_of(reason + advice(str(error))) from error


def lacking(missing: Collection[str], unexpected: Collection[str], network: object) -> str:
    """Return what is wrong with weights that lack tensors of a network.

    Args:
        missing: Names of what is lacking.
        unexpected: Names of what is there, and is none of the network's.
        network: The network.
    """
    first = min(missing)
    said = f"its weights lack {len(missing)} tensors of a {type(network).__name__}, {first} first"
    wrapped = next((name for name in sorted(unexpected) if own_name(name) != name), None)
    if wrapped is None:
        return f"{said}; a download may have been broken off"
    return (
        f"{said}; they were saved with what training wraps around a model ({wrapped}): save the "
        "model that torch.compile or distributed training holds (`_orig_mod`, `module`) again"
    )


def _check_size(path: Path, size: int) -> None:
    """Refuse a safetensors file that is shorter than its header says, or of complex numbers."""
    with open_bytes(path) as stream:
        length = int.from_bytes(stream.read(8), "little")
        whole = 8 + length
        if whole <= size:
            try:
                header = json.loads(stream.read(length))
                parts = {name: part for name, part in header.items() if name[:2] != "__"}
                whole += max((part["data_offsets"][1] for part in parts.values()), default=0)
                is_complex = (name for name, part in parts.items() if part["dtype"] == COMPLEX)
                if (name := next(is_complex, None)) is not None:
                    raise complex_numbers(path, name)
            except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
                return  # its reader says what is wrong
    if size < whole:
        shown = f"{size} of {whole} bytes" if whole < 1 << 50 else f"{size} bytes"
        raise CheckpointError(
            f"{path} is not a safetensors file, or cut short: it has {shown}; fetch it again"
        )


def complex_numbers(path: Path, name: object) -> CheckpointError:
    """Return the error of a file with a complex tensor, of which loaders drop a half."""
    return CheckpointError(
        f"{path}: {name} is a tensor of complex numbers; expected real ones, as no model here has "
        "others"
    )


def _check_header(path: Path) -> None:
    """Refuse a safetensors file whose header contradicts itself: loaders do not name the file."""
    if not is_utf8(path):  # safetensors opens no such path
        return
    try:
        with safe_open(path, "np"):
            pass
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Return a safetensors file's tensors, mapped, under their own names.

    Raises:
        CheckpointError: it is no such file, or not a whole one.
    """
    check_file(path)
    try:
        # Of itself, safetensors opens no path that is not UTF-8.
        tensors = load_file(path) if is_utf8(path) else load(path.read_bytes())
        return unwrapped(tensors, path)
    except (SafetensorError, ValueError, RuntimeError, LookupError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from error


def own_name(name: str) -> str:
    """Return a tensor's name without what training wrapped around modules.

    A model that was compiled, sharded or trained by several processes is saved with it.
    """
    name = WRAPPED.sub("", name)
    while name.startswith(DISTRIBUTED):
        name = WRAPPED.sub("", name.removeprefix(DISTRIBUTED))
    return name


def unwrapped(tensors: Mapping[str, T], path: Path) -> dict[str, T]:
    """Return tensors under their own names, in order.

    Args:
        tensors: As a file names them.
        path: The file, for the message.

    Raises:
        CheckpointError: two would have the same name.
    """
    found: dict[str, T] = {}
    for name, tensor in tensors.items():
        own = own_name(str(name))
        if own in found:
            raise CheckpointError(
                f"{path} has the tensor {own} twice, as {name} too; save the model's own "
                "state_dict, without wrappers"
            )
        found[own] = tensor
    return found


def vocabulary_fault(tokens: int, with_added: int, rows: int) -> str | None:
    """Return why a tokenizer of transformers is of another model than the weights; None if it fits.

    Vocabularies are padded to round numbers, by some hundredths, and added tokens (`[PAD]`) may lie
    beyond the rows of the weights as long as nothing asks for them.

    Args:
        tokens: Of the tokenizer, without those that were added.
        with_added: All of its tokens.
        rows: Tokens that the language model has embeddings of.
    """
    if tokens <= rows and with_added >= MIN_KNOWN * rows:
        return None
    return f"its tokenizer has {with_added:,} tokens, and its language model {rows:,}"
