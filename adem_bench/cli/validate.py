"""`adem-bench validate`: whether run folders are complete, unedited and consistent."""

from __future__ import annotations

from pathlib import Path

import click

from adem_bench.cli.options import data_root_option, warn

FOUND = 1


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN…", type=click.Path(path_type=Path))
@data_root_option
def validate(runs: tuple[Path, ...], data_root: Path | None) -> int:
    """Check run folders; print one line for each thing that is wrong.

    Files, fields, counts, digests and identity are checked, figures are computed again, and where
    the run's data is available, requests and predictions too. Exit codes: 0 valid, 1 something is
    wrong, 2 not a run folder.
    """
    from adem_bench.errors import printable
    from adem_bench.results.validation.validate import validate_run

    code = 0
    for run in runs:
        validation = validate_run(run, data_root)
        for finding in validation.issues:
            click.echo(printable(str(finding)))
        warn(f"{run}: not checked: {reason}" for reason in validation.unchecked)
        if validation.issues:
            code = FOUND
        else:
            plural = "" if validation.records == 1 else "s"
            click.echo(printable(f"{run}: valid, {validation.records:,} record{plural}"))
    return code
