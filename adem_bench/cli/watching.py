"""`--quiet` and `--verbose`: how much of a long run is shown on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from adem_bench.runner.evaluate import Progress

F = TypeVar("F", bound=Callable[..., Any])


def quiet_option(command: F) -> F:
    """Add `--quiet`."""
    return click.option(
        "--quiet", "-q", is_flag=True, help="Show results, warnings and errors, nothing else."
    )(command)


def watching_options(command: F) -> F:
    """Add `--quiet` and `--verbose`."""
    verbose = click.option(
        "--verbose", "-v", is_flag=True, help="Show what goes into run.log: failed samples too."
    )
    return quiet_option(verbose(command))


def chosen_progress(quiet: bool, verbose: bool) -> Progress:
    """Return what shows the progress of runs: a bar, lines, the lines of `run.log`, or nothing.

    Raises:
        UsageError: both are asked for.
    """
    from adem_bench.results.progress import no_progress, run_progress

    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose exclude each other")
    if verbose:
        _show_log()
    return no_progress if quiet or verbose else run_progress


def _show_log() -> None:
    """Show the lines of `run.log` until the command is done."""
    import logging

    from adem_bench.results.run_log import LOGGER, line_format

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(line_format("%(asctime)s %(levelname)s %(message)s"))
    LOGGER.addHandler(handler)
    click.get_current_context().call_on_close(lambda: LOGGER.removeHandler(handler))
