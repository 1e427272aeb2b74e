"""Adapters from the published layout to ours and back, tensors bit for bit."""

from __future__ import annotations

from pathlib import Path

from adem_bench.errors import CheckpointError
from adem_bench.models.fused.method import AdapterSettings
from adem_bench.models.fused.weights.adapter import (
    SETTINGS_NAME,
    WEIGHTS_NAME,
    adapter_folder,
    read_adapter,
    stated_facts,
    write_adapter,
)
from adem_bench.models.fused.weights.output_path import atomic_output, check_target
from adem_bench.models.fused.weights.published import PublishedAdapter, write_published

PUBLISHED_SUFFIX = ".pth"


def convert_adapter(source: Path, target: Path, overwrite: bool = False) -> list[str]:
    """Write an adapter in the other layout: a published `.pth` as a folder, a folder as a `.pth`.

    Of a training checkpoint, which is an adapter folder with more files, the adapter is taken.

    Args:
        source: A published file, or an adapter folder.
        target: The folder or file to make.
        overwrite: Whether an earlier result may be replaced.

    Returns:
        Warnings, one line each: what the target's layout has no place for.

    Raises:
        CheckpointError: the source is not an adapter, or the target is refused.
        ResultsError: the target cannot be written; nothing of it is left.
    """
    adapter = read_adapter(source)
    folder = adapter_folder(source)
    _check_name(source, target, is_file=folder is not None)
    content = () if folder else (WEIGHTS_NAME, SETTINGS_NAME)
    check_target(folder or source, target, overwrite, content)
    with atomic_output(target) as partial:
        if folder:
            method = adapter.method
            names = method.published_order(list(adapter.tensors))
            tensors = {name: adapter.tensors[name] for name in names}
            arguments = method.to_arguments(adapter.settings)
            write_published(partial, PublishedAdapter(tensors, arguments))
        else:
            write_adapter(partial, adapter.tensors, adapter.settings)
        written = read_adapter(partial)
    lost = [*_changed(adapter.settings, written.settings), *adapter.also_holds]
    return [f"{target} has no place for {', '.join(lost)} of {source}"] if lost else []


def _check_name(source: Path, target: Path, is_file: bool) -> None:
    """Refuse a name that says the opposite of what will be there.

    Raises:
        CheckpointError: it does.
    """
    if is_file and target.suffix != PUBLISHED_SUFFIX:
        raise CheckpointError(
            f"{source} is an adapter folder, which becomes a published file; give the target a "
            f"name that ends in {PUBLISHED_SUFFIX}, not {target.name!r}"
        )
    if not is_file and target.suffix in (PUBLISHED_SUFFIX, ".safetensors"):
        raise CheckpointError(
            f"{source} is a published file, which becomes an adapter folder; give the target a "
            f"folder's name, not {target.name!r}"
        )


def _changed(before: AdapterSettings, after: AdapterSettings) -> list[str]:
    """Return the names of settings that differ, prompts by task kind."""
    first, second = stated_facts(before), stated_facts(after)
    prompts = [
        f"prompts.{kind}"
        for kind, settings in before.prompts.items()
        if settings != after.prompts.get(kind)
    ]
    names = [name for name in first if name != "prompts" and first[name] != second.get(name)]
    return names + prompts
