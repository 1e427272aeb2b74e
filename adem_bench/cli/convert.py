"""`adem-bench convert`: weights from one layout to the other, either way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from adem_bench.cli.options import HintingGroup, NamedPath, warn

F = TypeVar("F", bound=Callable[..., Any])


def _places(command: F) -> F:
    """Add SOURCE, TARGET and `--overwrite`."""
    command = click.option("--overwrite", is_flag=True, help="Replace an earlier result.")(command)
    path = NamedPath(path_type=Path)
    return click.argument("source", type=path)(click.argument("target", type=path)(command))


@click.group(cls=HintingGroup)
def convert() -> None:
    """Convert weights between the published layouts and ours."""


@convert.command("adapter")
@_places
def adapter_command(source: Path, target: Path, overwrite: bool) -> None:
    """Turn a published checkpoint (.pth) into an adapter folder, or a folder into a .pth.

    A training checkpoint is an adapter folder too.
    """
    from adem_bench.models.fused.weights.convert_adapter import convert_adapter

    warn(convert_adapter(source, target, overwrite))
    click.echo(f"wrote {target}")


@convert.command("llama")
@_places
@click.option(
    "--dtype",
    type=click.Choice(["float16", "bfloat16", "float32"]),
    help="Precision to write.  [default: as stored]",
)
def llama_command(source: Path, target: Path, overwrite: bool, dtype: str | None) -> None:
    """Turn a consolidated LLaMA folder into a Hugging Face folder, or the reverse."""
    import torch

    from adem_bench.models.fused.weights.convert_llama import convert_llama

    chosen: torch.dtype | None = getattr(torch, dtype) if dtype else None
    warn(convert_llama(source, target, chosen, overwrite))
    click.echo(f"wrote {target}")
