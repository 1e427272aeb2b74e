"""`adem-bench demo`: a page on this machine to try a model by hand, made with Gradio."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adem_bench.cli.ask import answer, as_request, asked_decoding, load_model, model_options
from adem_bench.errors import AdemBenchError, lacks_memory

if TYPE_CHECKING:
    from adem_bench.models.base import Model
    from adem_bench.records import Decoding

ADDRESS = "127.0.0.1"
QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
"""Gradio reports its use to its makers unless it is set not to, before it is imported."""


@click.command()
@model_options
@click.option(
    "--port",
    type=click.IntRange(min=1, max=65535),
    default=7860,
    show_default=True,
    help="Port of this machine.",
)
def demo(port: int, **given: Any) -> None:
    """Open a page at 127.0.0.1 to ask a model about images; needs the extra `demo`."""
    gradio = import_gradio()  # before the model is loaded: its absence shows at once
    model = load_model(given)
    serve(build_page(gradio, model, asked_decoding(model, given)), port)


def import_gradio() -> Any:
    """Return the package, set to report nothing.

    Raises:
        AdemBenchError: it is not installed.
    """
    os.environ |= QUIET
    try:
        import gradio
    except ImportError as error:
        if lacks_memory(error):
            raise
        raise AdemBenchError(
            "the demo needs Gradio, which is not installed; `pip install 'adem-bench[demo]'` "
            "brings it, and `adem-bench ask` asks without it"
        ) from error
    return gradio


def build_page(gradio: Any, model: Model, decoding: Decoding) -> Any:
    """Return the page: images, a question, the answer, and the prompt as the model was given it.

    Args:
        gradio: The package.
        model: Ready to be asked.
        decoding: How tokens are chosen.
    """

    def ask(files: list[tuple[str, str | None]] | None, question: str, most: int) -> Any:
        if not question.strip():
            raise gradio.Error("The question is empty.", print_exception=False)
        images = [Path(file) for file, _ in files or []]
        request = as_request(model, question.strip(), images, int(most), decoding)
        try:
            return answer(model, request).text, request.prompt
        except AdemBenchError as error:
            raise gradio.Error(str(error), print_exception=False) from error

    with gradio.Blocks(title=f"adem-bench: {model.card.name}", analytics_enabled=False) as page:
        with gradio.Row():
            with gradio.Column():
                images = gradio.Gallery(label="Images", type="filepath", file_types=["image"])
                question = gradio.Textbox(label="Question", lines=3)
                most = gradio.Slider(1, 512, value=128, step=1, label="Longest answer, in tokens")
                button = gradio.Button("Ask", variant="primary")
            with gradio.Column():
                shown = gradio.Textbox(label=f"Answer of {model.card.name}", lines=8)
                prompt = gradio.Textbox(label="Prompt, as the model was given it", lines=4)
        for event in (button.click, question.submit):
            event(ask, [images, question, most], [shown, prompt], api_name=False)
    return page


def serve(page: Any, port: int) -> None:
    """Serve the page on this machine alone until it is interrupted.

    Raises:
        AdemBenchError: the port is taken.
    """
    try:
        page.launch(
            server_name=ADDRESS,
            server_port=port,
            share=False,
            ssr_mode=False,  # a second server, of Node's
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise AdemBenchError(
            f"port {port} of {ADDRESS} cannot be used, most likely because it is taken; name "
            "another with --port"
        ) from error
    click.echo(f"http://{ADDRESS}:{port} (Ctrl-C ends it)")
    page.block_thread()
