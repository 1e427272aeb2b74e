"""`adem-bench leaderboard`: every finished run in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from adem_bench.cli.options import NamedPath, complete, split_names, warn

FORMATS = ("table", "csv", "md", "markdown", "latex", "json", "html", "long")
NOT_FOR_LONG = ("published", "all_metrics", "models", "sort", "intervals")


@click.command()
@click.argument("results", type=NamedPath(file_okay=False, path_type=Path), default=Path("results"))
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="By default as the name of --output says, else a table for the terminal. long is a CSV "
    "with a row for every metric of every run.",
)
@click.option(
    "--output",
    type=NamedPath(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write there (.csv, .md, .tex, .json, .html, .txt) instead of to the terminal.",
)
@click.option("--published", is_flag=True, help="Show figures from papers too, marked as such.")
@click.option(
    "--all-metrics/--headlines",
    default=None,
    help="Every metric of the tasks' cards, or one per task [default: all in json, html]; in latex "
    "--all-metrics adds samples and samples per second too.",
)
@click.option(
    "--tasks",
    metavar="A,B",
    shell_complete=complete("tasks", several=True),
    help="Only these, in this order; groups are known too.",
)
@click.option(
    "--models",
    multiple=True,
    metavar="PATTERN",
    help="Only rows of these names; * and ? stand for any letters; repeatable.",
)
@click.option(
    "--sort",
    default="",
    metavar="COLUMN",
    help="Rank by this column, for example 'sqa/test average', or by a task's headline "
    "[default: the first headline with a figure of a whole split].",
)
@click.option(
    "--intervals/--no-intervals",
    default=None,
    help="95% intervals next to the figures [default: in md, latex and html; csv and json always "
    "have them].",
)
def leaderboard(results: Path, output: Path | None, **options: Any) -> None:
    """Tabulate every finished run below RESULTS (default: ./results).

    One row per model, one group of columns per task, with the number of samples. Runs of fewer
    samples than the split has are marked, and follow the complete ones without a rank.
    """
    from adem_bench.results.leaderboard.formats import GROUPED, format_of, leaderboard_text
    from adem_bench.results.runs import finished_runs, nothing_finished

    form = options["form"] or (format_of(output) if output else "table")
    if form == "long":
        _refuse(options)
    # Published figures need no run: without a folder they are still worth a table.
    missing = options["published"] and not results.exists()
    runs, warnings = ([], []) if missing else finished_runs(results)
    if not (runs or options["published"]):
        raise nothing_finished(results, warnings)
    warn(warnings)
    if form == "long":
        from adem_bench.results.leaderboard.build import chosen_runs
        from adem_bench.results.leaderboard.formats.exports import leaderboard_long
        from adem_bench.results.variants import run_labels

        shown = chosen_runs(runs, split_names(options["tasks"]))
        _write(leaderboard_long(shown, run_labels(runs)), output, len(shown), "run")
        return
    if not runs:
        warn([f"no finished run below {results}"])
    if options["all_metrics"] is None:
        options["all_metrics"] = form in GROUPED
    board = _board(runs, options)
    if form == "table" and output is None:
        from adem_bench.results.console import console
        from adem_bench.results.leaderboard.formats.terminal import show_leaderboard

        show_leaderboard(board, bool(options["intervals"]), console())
    else:
        text = leaderboard_text(board, form, options["intervals"])
        _write(text, output, len(board.rows), "row")


def _refuse(options: dict[str, Any]) -> None:
    given = [name for name in NOT_FOR_LONG if options[name] not in (None, False, "", ())]
    if given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise click.UsageError(
            f"--format long is every metric of every run, so it takes no {names}"
        )


def _board(runs: Any, options: dict[str, Any]) -> Any:
    from adem_bench.results.leaderboard.build import View, build_leaderboard
    from adem_bench.results.leaderboard.published_figures import published_rows

    tasks = split_names(options["tasks"])
    view = View(options["all_metrics"], tasks, options["models"], options["sort"])
    return build_leaderboard(runs, published_rows() if options["published"] else (), view)


def _write(text: str, output: Path | None, count: int, noun: str) -> None:
    from adem_bench.files import write_atomically

    if output is None:
        click.echo(text, nl=False)
        return
    write_atomically(output, text)
    click.echo(f"wrote {output}: {count} {noun}{'' if count == 1 else 's'}")
