"""`adem-bench compare`: whether runs on the same samples differ, and a gate on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adem_bench.cli.options import FiniteRange, NamedPath, RunName, complete, split_names, warn

if TYPE_CHECKING:
    from adem_bench.results.comparison_text import Findings

FORMATS = ("table", "md", "markdown", "json", "csv", "html")
GATE_CLOSED = 4


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="A B…", type=RunName())
@click.option(
    "--results",
    type=NamedPath(file_okay=False, path_type=Path),
    default=Path("results"),
    show_default=True,
    metavar="DIR",
    help="Where names are looked for.",
)
@click.option(
    "--tasks",
    metavar="A,B",
    shell_complete=complete("tasks", several=True),
    help="Only these; groups are known too.",
)
@click.option("--force", is_flag=True, help="Compare although data or task version differ.")
@click.option(
    "--fail-if-worse",
    is_flag=True,
    help="Exit with code 4 if a headline of the last is significantly worse than of the first.",
)
@click.option(
    "--margin",
    "margins",
    multiple=True,
    metavar="[TASK=]VALUE",
    help="With --fail-if-worse: exit with code 4 unless each headline is shown not to be worse by "
    "this much or more, in the unit of the table; repeatable.",
)
@click.option(
    "--detect",
    multiple=True,
    metavar="[TASK=]VALUE",
    help="The difference that n needed is for, in the unit of the table; repeatable [default: the "
    "margin, else 1 for per cent and 1% of the first figure for other units].",
)
@click.option(
    "--power",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    default=0.8,
    show_default=True,
    metavar="P",
    help="How often so many samples show that difference.",
)
@click.option(
    "--disagreements",
    type=click.IntRange(min=0),
    metavar="N",
    help="Samples to show on which two runs differ [default: 5 of runs of one task, else none].",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="By default as the name of --output says, else a table for the terminal.",
)
@click.option(
    "--output",
    type=NamedPath(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write there (.md, .json, .csv, .html, .txt) instead of to the terminal.",
)
def compare(runs: tuple[str, ...], form: str | None, output: Path | None, **options: Any) -> int:
    """Compare models, task by task, or runs of one task, pair by pair.

    A and B are folders (of one run, of a model's runs, of many), or models below --results as the
    leaderboard calls them. Runs are paired by task, split and settings. Differences come with 95%
    intervals by the paired bootstrap, and p-values by McNemar's exact test for right or wrong and
    by paired randomisation for everything else, adjusted by Holm's method over all tasks.

    Exit codes: 0 done, 2 a mistake, 4 with --fail-if-worse: the last may be worse than the first.
    """
    from adem_bench.results.comparison_formats import SUFFIXES, comparison_text
    from adem_bench.results.comparison_terminal import show_comparison, show_gate
    from adem_bench.results.console import console
    from adem_bench.results.leaderboard.formats import format_of

    if options["margins"] and not options["fail_if_worse"]:
        raise click.UsageError(
            "--margin alone decides nothing: it says how much worse --fail-if-worse lets the last "
            "one be; give that too"
        )
    form = form or (format_of(output, SUFFIXES) if output else "table")
    findings = _findings(runs, options)
    gate = findings.gate
    if output is None and form == "table":
        show_comparison(findings, console(), options["disagreements"])
    elif output is None:
        click.echo(comparison_text(findings, form), nl=False)
        if gate:
            click.echo(gate.sentence(), err=True)
    else:
        _write(findings, form, output, options["disagreements"])
        for line in findings.summary():
            click.echo(line)
        if gate:
            show_gate(gate, console())
    return GATE_CLOSED if gate and not gate.passed else 0


def _findings(runs: tuple[str, ...], options: dict[str, Any]) -> Findings:
    from adem_bench.results.comparison_gate import judge
    from adem_bench.results.comparison_sides import find_sides
    from adem_bench.results.comparison_sizes import Power, read_sizes
    from adem_bench.results.comparison_suite import compare_suite
    from adem_bench.results.comparison_text import Findings
    from adem_bench.results.variants import letters

    sides, warnings = find_sides(runs, options["results"])
    warn(warnings)
    gate = options["fail_if_worse"]
    suite = compare_suite(sides, split_names(options["tasks"]), options["force"], gate)
    places = [*(task.place for task in suite.tasks), *(u.place for u in suite.unpaired)]
    margins = read_sizes("--margin", options["margins"], places)
    detect = read_sizes("--detect", options["detect"] or options["margins"], places)
    power = Power(detect, options["power"], suite.level)
    if not gate:
        return Findings(suite, power, None)
    names = tuple(letters(suite.sides))
    if len(sides) > 2:
        # Sides between take neither samples from these two nor power from their tests.
        pair = [sides[0], sides[-1]]
        between = compare_suite(pair, split_names(options["tasks"]), options["force"], gate)
        names = (names[0], names[-1])
    else:
        between = suite
    return Findings(suite, power, judge(between, names, margins, power.power))


def _write(findings: Findings, form: str, output: Path, disagreements: int | None) -> None:
    import io

    from adem_bench.files import write_atomically
    from adem_bench.results.comparison_formats import comparison_text
    from adem_bench.results.comparison_terminal import show_comparison
    from adem_bench.results.console import console

    if form == "table":
        text = io.StringIO()
        show_comparison(findings, console(text), disagreements)
        write_atomically(output, text.getvalue())
    else:
        write_atomically(output, comparison_text(findings, form))
    click.echo(f"wrote {output}")
