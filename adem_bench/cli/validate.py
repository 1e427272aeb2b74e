"""`adem-bench validate`: whether run folders are complete, unedited and consistent."""

from __future__ import annotations

from pathlib import Path

import click

from adem_bench.cli.options import NamedPath, data_root_option, harness_python_option, warn

FOUND = 1


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN…", type=NamedPath(path_type=Path))
@data_root_option
@harness_python_option
def validate(runs: tuple[Path, ...], data_root: Path | None) -> int:
    """Check run folders, or all that are below a folder; print a line for each thing that is wrong.

    Files, fields, counts, digests and identity are checked, figures are computed again, and where
    the run's data is available, requests and predictions too. Exit codes: 0 valid, 1 something is
    wrong, 2 not a run folder.
    """
    from adem_bench.errors import printable
    from adem_bench.results.validation.validate import Tasks, runs_below, validate_run

    found = list(dict.fromkeys(run for named in runs for run in runs_below(named)))
    wrong, tasks = 0, Tasks(data_root)
    for run in found:
        validation = validate_run(run, data_root, tasks)
        for finding in validation.issues:
            click.echo(printable(str(finding)))
        warn(f"{run}: not checked: {reason}" for reason in validation.unchecked)
        if validation.issues:
            wrong += 1
        else:
            plural = "" if validation.records == 1 else "s"
            click.echo(printable(f"{run}: valid, {validation.records:,} record{plural}"))
    if len(found) > len(runs):
        click.echo(f"{len(found):,} runs: {len(found) - wrong:,} valid, {wrong:,} with problems")
    return FOUND if wrong else 0
