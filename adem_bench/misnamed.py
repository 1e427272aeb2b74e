"""What a path is that was given where a card is expected, and what to write instead."""

from __future__ import annotations

from pathlib import Path

from adem_bench.errors import in_shell
from adem_bench.files import MISSING, is_dir, is_file, read_json, why_missing

CARD_SUFFIXES = (".yaml", ".yml")
WEIGHTS_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors", ".gguf")
TRAINING_NAME = "training.json"
"""What says that a folder is a training output, finished or not."""
CHECKPOINTS = "checkpoints"
MOST_NAMED = 3
"""Cards of a folder that are named."""


def not_a_card(path: Path, noun: str) -> str:
    """Return that a file or folder is no card, and what to do; empty if there is nothing there.

    Args:
        path: As it was written.
        noun: What the card was to be of: model, task or recipe.
    """
    if is_dir(path):
        return f"{path} is a folder and not a {noun}'s card{_of_folder(path, noun)}"
    if not is_file(path):
        found = why_missing(path)
        return "" if found == MISSING else f"{path} {found}; expected a {noun}'s card"
    if noun == "model" and path.suffix.lower() in WEIGHTS_SUFFIXES:
        return (
            f"{path} is not a card: it looks like weights; name the model that they belong to, and "
            f"an adapter by --adapter {in_shell(path)} (docs/models.md says how weights of "
            "one's own get a card)"
        )
    return (
        f"{path} is not a card: a {noun}'s card is a YAML file ({' or '.join(CARD_SUFFIXES)}); "
        f"`adem-bench {noun}s` lists those that come with the package"
    )


def _of_folder(folder: Path, noun: str) -> str:
    """Return what a folder is instead, for the end of a message."""
    quoted = in_shell(folder)
    if noun == "model":
        if is_file(folder / TRAINING_NAME):
            return f": it is {unfinished_training(folder)}"
        if is_file(folder / "adapter.json") or is_file(folder / "adapter_config.json"):
            return f": it is an adapter; name its base model, with --adapter {quoted}"
        if is_file(folder / "samples.jsonl"):
            return f": it is a run; `adem-bench rerun {quoted}` repeats it"
        if is_file(folder / "config.json"):
            return f": if transformers saved it, it is written hf:{quoted}"
    cards = sorted(path for suffix in CARD_SUFFIXES for path in folder.glob(f"*{suffix}"))
    if cards:
        names = ", ".join(map(str, cards[:MOST_NAMED]))
        more = f" and {len(cards) - MOST_NAMED} more" if len(cards) > MOST_NAMED else ""
        return f"; name one of its files ({names}{more}), or all by --include {quoted}"
    return f"; a card is a YAML file, and `adem-bench {noun}s` lists those there are"


def unfinished_training(folder: Path) -> str:
    """Return that a folder is the output of a training that has not ended, and how to go on."""
    try:
        identity = read_json(folder / TRAINING_NAME)
        model, command = in_shell(identity["model"]["name"]), identity.get("command")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        model, command = "its base model", None
    again = f"`{command}`" if isinstance(command, str) else "the `adem-bench train` command"
    steps = sorted((folder / CHECKPOINTS).glob("step-*"))
    if not steps:
        return f"a training output without a checkpoint yet; {again} begins it again"
    latest = in_shell(steps[-1])
    return (
        f"the output of a training that is not finished; {again} goes on after step "
        f"{steps[-1].name.removeprefix('step-').lstrip('0') or '0'}, and --model {model} --adapter "
        f"{latest} takes what there is"
    )
