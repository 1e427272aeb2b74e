"""`adem-bench leaderboard`: every finished run in one table."""

from __future__ import annotations

from pathlib import Path

import click

from adem_bench.cli.options import complain


@click.command()
@click.argument(
    "results", type=click.Path(file_okay=False, path_type=Path), default=Path("results")
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "md", "long"]),
    default="table",
    show_default=True,
    help="Terminal table, CSV, Markdown, or a CSV with a row for every metric of every run.",
)
@click.option("--published", is_flag=True, help="Show figures from papers too, marked as such.")
@click.option(
    "--all-metrics", is_flag=True, help="Show every metric of the tasks' cards, not headlines only."
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write there instead of to the terminal.",
)
def leaderboard(
    results: Path, form: str, published: bool, all_metrics: bool, output: Path | None
) -> None:
    """Tabulate every finished run below RESULTS (default: ./results).

    One row a model, one column a headline metric, with the samples it rests on. Runs of fewer
    samples than the split has are marked and ranked after the whole ones.
    """
    from adem_bench.results.finished import finished_runs
    from adem_bench.results.formats import leaderboard_long, leaderboard_text, show_leaderboard
    from adem_bench.results.leaderboard import build_leaderboard
    from adem_bench.results.published import published_rows
    from adem_bench.results.table import console

    # Published figures need no run: without a folder they are still worth a table.
    missing = published and not results.exists()
    runs, warnings = ([], []) if missing else finished_runs(results)
    complain(warnings)
    if form == "long":
        _write(leaderboard_long(runs), output, len(runs), "run")
        return
    if not runs:
        complain([f"no finished run below {results}"])
    board = build_leaderboard(runs, published_rows() if published else (), all_metrics)
    if form == "table" and output is None:
        show_leaderboard(board, console())
    else:
        _write(leaderboard_text(board, form), output, len(board.rows), "row")


def _write(text: str, output: Path | None, count: int, noun: str) -> None:
    from adem_bench.files import write_atomically

    if output is None:
        click.echo(text, nl=False)
        return
    write_atomically(output, text)
    click.echo(f"wrote {output}: {count} {noun}{'' if count == 1 else 's'}")
