"""`adem-bench ask`: one question to a model, the answer on standard output."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import click

from adem_bench.cli.options import warn
from adem_bench.cli.question import answer, as_request, load_model, model_options
from adem_bench.errors import printable_lines


@click.command()
@model_options
@click.option(
    "--image",
    "images",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Image to look at; repeatable, in order.",
)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    metavar="N",
    help="Longest answer.",
)
@click.argument("question")
def ask(question: str, images: tuple[Path, ...], max_new_tokens: int, **given: Any) -> None:
    """Ask a model a QUESTION (`-`: read it from standard input) and print its answer."""
    text = (_standard_input() if question == "-" else question).strip()
    if not text:
        raise click.UsageError("the question is empty")
    model = load_model(given)
    response = answer(model, as_request(model, text, images, max_new_tokens))
    click.echo(printable_lines(response.text.strip()))
    warn(f"the question met quirk {note} (docs/quirks.md)" for note in response.notes)
    warn(model.warnings())


def _standard_input() -> str:
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    return sys.stdin.read()
