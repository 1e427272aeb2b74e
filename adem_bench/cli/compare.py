"""`adem-bench compare`: whether runs on the same samples differ."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument(
    "runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN RUN…"
)
@click.option("--force", is_flag=True, help="Compare although data or task version differ.")
@click.option(
    "--disagreements",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    metavar="N",
    help="Samples to show on which two runs differ.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Terminal tables, or everything as JSON.",
)
def compare(runs: tuple[Path, ...], force: bool, disagreements: int, form: str) -> None:
    """Compare runs that answered the same samples, pair by pair.

    RUN is the folder of a run, or a folder that holds one run. Differences come with 95%
    intervals by the paired bootstrap, and p-values by McNemar's exact test for right or wrong and
    by paired randomisation for everything else, adjusted by Holm's method.
    """
    import json

    from adem_bench.results.comparison import compare_runs
    from adem_bench.results.comparison_text import comparison_json, show_comparison
    from adem_bench.results.console import console
    from adem_bench.results.runs import open_run

    opened = [open_run(path) for path in runs]
    comparison = compare_runs(opened, force)
    if form == "json":
        click.echo(json.dumps(comparison_json(comparison, opened), indent=2))
    else:
        show_comparison(comparison, opened, console(), disagreements)
