"""`adem-bench view`: the pages of a results folder at this machine, current while runs go on."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from adem_bench.cli.options import NamedPath, data_root_option


@click.command()
@click.argument("results", type=NamedPath(path_type=Path), default=Path("results"))
@click.option(
    "--port",
    type=click.IntRange(min=0, max=65535),
    default=7575,
    show_default=True,
    help="Port of this machine; 0 takes a free one.",
)
@click.option("--published", is_flag=True, help="Figures from papers on the leaderboard too.")
@data_root_option
def view(results: Path, port: int, published: bool, data_root: Path | None) -> None:
    """Serve the pages of RESULTS (default: ./results) at 127.0.0.1 until Ctrl-C.

    Runs that go on, the leaderboard, and reports of finished runs: pages refresh as the folder
    grows. Nothing is written, and nothing but this machine is answered.
    """
    if results.is_file():
        raise click.ClickException(f"{results} is a file; name a results folder")
    from adem_bench.results.view.following import ResultsFolder
    from adem_bench.results.view.server import ViewServer
    from adem_bench.results.view.site import Site

    with ViewServer(Site(ResultsFolder(results), data_root, published), port) as server:
        click.echo(f"{results} is shown at {server.url} (Ctrl-C ends it)")
        # A shell that starts it in the background has Ctrl-C ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo("ended")
