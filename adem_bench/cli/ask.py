"""`adem-bench ask`: one question to a model, the answer on standard output.

What `demo` has in common with it is here too: options, loading, asking.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from adem_bench.cli.options import (
    NamedPath,
    complete,
    data_root_option,
    decoding_options,
    model_set_option,
    quantization_option,
    warn,
)
from adem_bench.errors import printable_lines

if TYPE_CHECKING:
    from adem_bench.models.base import Model
    from adem_bench.records import Decoding, Request, Response

F = TypeVar("F", bound=Callable[..., Any])
BY_HAND = "by hand"
"""Stands for a task where none is: ADEM-VL takes its default adapter."""


def model_options(command: F) -> F:
    """Add the options that choose a model and how it is loaded."""
    options: tuple[Callable[[Any], Any], ...] = (
        click.option(
            "--model",
            required=True,
            metavar="NAME|CARD",
            shell_complete=complete("models"),
            help="Model to ask.",
        ),
        data_root_option,
        click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, …"),
        click.option(
            "--dtype",
            type=click.Choice(["auto", "float32", "float16", "bfloat16"]),
            help="Precision of the weights [default: the card's].",
        ),
        quantization_option("the card's"),
        click.option("--adapter", metavar="PATH", help="Adapter to use; `none`: none."),
        decoding_options,
        click.option("--seed", type=int, default=0, show_default=True, help="Of drawn tokens."),
        model_set_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


def load_model(given: dict[str, Any]) -> Model:
    """Return the model that the options of `model_options` name, ready to be asked.

    Raises:
        AdemBenchError: the card or the weights are at fault.
    """
    from adem_bench.models.base import ModelOptions, build_model, chosen_card

    # All settings are the model's here; `model.` in front is for who comes from `run`.
    settings = [override.removeprefix("model.") for override in given["overrides"]]
    names = ("dtype", "adapter", "quantization")
    card = chosen_card(given["model"], settings, **{name: given[name] for name in names})
    model = build_model(card, ModelOptions(given["device"], given["data_root"]))
    model.load_adapter_for(BY_HAND, BY_HAND)
    return model


def as_request(
    model: Model,
    question: str,
    images: Sequence[Path],
    max_new_tokens: int,
    decoding: Decoding,
) -> Request:
    """Return a question in the wording that the model was tuned on, where it says so.

    Args:
        model: Ready to be asked.
        question: In the user's words.
        images: To look at, in order.
        max_new_tokens: The longest answer.
        decoding: How tokens are chosen.
    """
    from adem_bench.models.base import Instructed
    from adem_bench.prompts import whole
    from adem_bench.records import Request

    # An argument that is not UTF-8 arrives with halves of characters.
    asked = whole(question)
    prompt = model.instruction(asked) if isinstance(model, Instructed) else asked
    return Request(prompt, tuple(images), max_new_tokens, decoding=decoding)


def asked_decoding(model: Model, given: dict[str, Any]) -> Decoding:
    """Return how tokens are chosen by the options of `model_options`.

    Raises:
        CardError: the model does not offer it.
    """
    from adem_bench.records import Decoding

    return model.decoding(Decoding(given["temperature"], given["top_p"], seed=given["seed"]))


def answer(model: Model, request: Request) -> Response:
    """Return the model's answer to one request.

    Raises:
        AdemBenchError: an image cannot be read, or there is no answer for another reason.
    """
    from adem_bench.errors import AdemBenchError, OutOfMemoryError

    try:
        (response,) = model.answer([request])
    except OutOfMemoryError as error:
        raise AdemBenchError(
            "the question does not fit in memory; use a smaller --dtype (bfloat16), a smaller "
            "image or a device with more memory"
        ) from error
    if response.error and not _is_cut(response):
        server = str(model.describe().get("server", ""))
        where = f"{server}: " if server and server not in response.error else ""
        raise AdemBenchError(f"{where}{response.error}")
    return response


def _is_cut(response: Response) -> bool:
    """Return whether there is a beginning of an answer to be shown, if no answer that counts."""
    return response.finish_reason == "length" and bool(response.answer_text.strip())


@click.command()
@model_options
@click.option(
    "--image",
    "images",
    multiple=True,
    type=NamedPath(exists=True, dir_okay=False, path_type=Path),
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
    decoding = asked_decoding(model, given)
    response = answer(model, as_request(model, text, images, max_new_tokens, decoding))
    click.echo(printable_lines(response.answer_text.strip()))
    if response.error:
        warn([f"the answer was cut at {max_new_tokens} tokens (--max-new-tokens)"])
    warn(f"the question met quirk {note} (docs/quirks.md)" for note in response.notes)
    warn(model.warnings())


def _standard_input() -> str:
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    return sys.stdin.read()
