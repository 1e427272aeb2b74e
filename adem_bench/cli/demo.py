"""`adem-bench demo`: a page on this machine to try a model by hand."""

from __future__ import annotations

from typing import Any

import click

from adem_bench.cli.question import load_model, model_options


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
    from adem_bench.cli.demo_page import build_page, import_gradio, serve

    gradio = import_gradio()  # before the model is loaded: its absence shows at once
    model = load_model(given)
    serve(build_page(gradio, model), port)
