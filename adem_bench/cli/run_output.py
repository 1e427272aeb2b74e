"""What `adem-bench run` prints: tables and paths for readers, or one JSON object for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from adem_bench.errors import in_shell, printable
from adem_bench.launcher import is_main_process

if TYPE_CHECKING:
    from adem_bench.runner.evaluate import Evaluation
    from adem_bench.runner.loop import Outcome

FILES = ("samples.jsonl", "metrics.json", "manifest.json")


class RunOutput(Protocol):
    """Is told of every finished run."""

    def add(self, evaluation: Evaluation, outcome: Outcome) -> None:
        """Take in a run."""
        ...

    def end(self) -> None:
        """Print what is said of all of them."""
        ...


def run_output(form: str, quiet: bool, results: Path) -> RunOutput:
    """Return the output in a form.

    Args:
        form: `text` or `json`.
        quiet: Whether only figures are printed.
        results: Folder below which runs are kept.
    """
    return _JsonOutput() if form == "json" else _TextOutput(quiet, results)


class _TextOutput:
    """Each result as it comes, then where everything is."""

    def __init__(self, quiet: bool, results: Path) -> None:
        from adem_bench.results.console import console

        self._out = console()
        self._quiet = quiet
        self._results = results
        self._done: list[tuple[str, Outcome]] = []

    def add(self, evaluation: Evaluation, outcome: Outcome) -> None:
        from adem_bench.results.result_tables import show_result

        label = _label(evaluation, outcome)
        if outcome.result.metrics:
            show_result(outcome.result, self._out, label)
        else:
            click.echo(_answered(label, outcome))
        if outcome.resumed and not self._quiet:
            click.echo(f"{outcome.resumed} records were already there")
        if outcome.reused and not self._quiet:
            click.echo(f"{outcome.reused} answers were known from other runs")
        click.echo()
        self._done.append((label, outcome))

    def end(self) -> None:
        from adem_bench.results.result_tables import show_results

        with_figures = [(label, done.result) for label, done in self._done if done.result.metrics]
        if len(with_figures) > 1:
            show_results(with_figures, self._out)
            click.echo()
        if self._quiet:
            return
        for _, outcome in self._done:
            click.echo(f"wrote {outcome.folder}/{', '.join(_written(outcome))}")
        if with_figures:
            click.echo(f"`adem-bench leaderboard {in_shell(self._results)}` tabulates all runs")


class _JsonOutput:
    """One object at the end, and nothing else on standard output."""

    def __init__(self) -> None:
        self._runs: list[dict[str, Any]] = []

    def add(self, evaluation: Evaluation, outcome: Outcome) -> None:
        folder = outcome.folder
        self._runs.append(
            {
                "model": _label(evaluation, outcome),
                "folder": str(folder),
                "files": {name: str(folder / name) for name in _written(outcome)},
                "resumed": outcome.resumed,
                "reused": outcome.reused,
                **outcome.result.to_json(),
            }
        )

    def end(self) -> None:
        if is_main_process():  # other processes have no result
            click.echo(json.dumps({"runs": self._runs}, indent=2))


def _written(outcome: Outcome) -> list[str]:
    return [name for name in FILES if name != "metrics.json" or outcome.result.metrics]


def _answered(label: str, outcome: Outcome) -> str:
    """Return what is said of a run that is to be scored later."""
    result, folder = outcome.result, in_shell(outcome.folder)
    return printable(
        f"{label}: {result.task}, split {result.split}: {result.scored:,} samples answered, "
        f"{result.shortfall()}; not scored, `adem-bench score {folder}` does it"
    )


def _label(evaluation: Evaluation, outcome: Outcome) -> str:
    """Return what a run is called in tables."""
    from adem_bench.results.runs import finished_runs
    from adem_bench.results.variants import run_labels

    # A manifest that was edited since is none of a finished run; `validate` says what is wrong.
    found = finished_runs(outcome.folder)[0] if outcome.result.metrics else []
    labels = run_labels(found).values()
    return next(iter(labels), evaluation.name or evaluation.model)
