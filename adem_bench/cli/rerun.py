"""`adem-bench rerun`: repeat a run, and show where the two differ."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adem_bench.cli.options import (
    NamedPath,
    complete,
    data_root_option,
    harness_python_option,
    judge_option,
    quantization_option,
)
from adem_bench.cli.watching import chosen_progress, watching_options

if TYPE_CHECKING:
    from adem_bench.results.console import Console
    from adem_bench.results.rerun_diff import Change, Differences, RecordChange

DIFFERENT = 1
MAX_SHOWN = 60
"""Characters of a value."""
BEFORE_DIFFERENCE = 20
"""Characters that are shown before the first that differs, of long texts."""


@click.command()
@click.argument("run", type=NamedPath(path_type=Path))
@data_root_option
@harness_python_option
@click.option(
    "--results",
    type=NamedPath(file_okay=False, path_type=Path),
    default=Path("reruns"),
    show_default=True,
    metavar="DIR",
    help="Where the repetition is kept; apart from results/, so that no leaderboard counts it.",
)
@click.option(
    "--model",
    shell_complete=complete("models"),
    metavar="NAME|CARD",
    help="Card in whose folder the weights are  [default: the run's, by name].",
)
@click.option("--device", help="cpu, cuda, cuda:1, …  [default: cpu if it was that, else a GPU]")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    help="Precision of the frozen weights  [default: the run's].",
)
@quantization_option("the run's")
@click.option(
    "--key-variable",
    metavar="NAME",
    help="Environment variable with the key of a served model; a manifest alone sends none.",
)
@judge_option("  [default: the run's]")
@click.option("--fresh", is_flag=True, help="Discard an earlier repetition in that folder.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="For readers or for programs.",
)
@watching_options
def rerun(form: str, quiet: bool, verbose: bool, **given: Any) -> int:
    """Repeat a run from its manifest and compare records and scores.

    Exit codes: 0 the same, 1 different, 2 it cannot be repeated.
    """
    import json

    from adem_bench.runner.rerun import Rerun
    from adem_bench.runner.rerun import rerun as repeat

    found = repeat(Rerun(**given), chosen_progress(quiet, verbose))
    if found is None:  # another process reports it
        return 0
    if form == "json":
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        _show(found)
    return 0 if found.same else DIFFERENT


def _show(found: Differences) -> None:
    from adem_bench.errors import printable
    from adem_bench.results.console import console

    out = console()
    click.echo(printable(f"run:        {found.run}"))
    click.echo(printable(f"repetition: {found.repetition}"))
    records = found.records
    most = max(records.before, records.after)
    fields = ", ".join(f"{name} {count}" for name, count in records.fields.items())
    _part("records", most, records.changed, fields)
    if records.before != records.after:
        click.echo(f"  {records.before:,} records before, {records.after:,} now")
    _grid(out, ("sample", "field", "before", "now"), _record_rows(records.first))
    if records.changed > len(records.first):
        click.echo(f"  and {records.changed - len(records.first):,} more")
    names = dict.fromkeys(change.name.rpartition(".")[0] for change in found.metrics)
    _part("metrics", found.metrics_compared, len(names), "")
    _grid(out, ("figure", "before", "now"), _rows(found.metrics))
    for title, changes in (("identity", found.identity), ("environment", found.environment)):
        click.echo(f"{title}: {f'{len(changes)} changed' if changes else 'the same'}")
        _grid(out, ("what", "before", "now"), _rows(changes))
    click.echo("the same" if found.same else "different")


def _part(what: str, total: int, changed: int, fields: str) -> None:
    if changed:
        click.echo(f"{what}: {changed:,} of {total:,} differ{f' ({fields})' if fields else ''}")
    else:
        click.echo(f"{what}: all {total:,} the same")


def _grid(out: Console, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from adem_bench.results.console import grid

    if rows:
        grid(out, header, rows)


def _record_rows(changes: Iterable[RecordChange]) -> list[tuple[str, ...]]:
    return [(change.sample_id, *row) for change in changes for row in _rows(change.fields)]


def _rows(changes: Iterable[Change]) -> list[tuple[str, ...]]:
    return [(change.name, *_shown(change.before, change.after)) for change in changes]


def _shown(before: Any, after: Any) -> tuple[str, str]:
    """Return two values as short texts, cut so that the place where they differ is in them."""
    import json

    texts = [json.dumps(value, ensure_ascii=False) for value in (before, after)]
    start = 0
    if max(map(len, texts)) > MAX_SHOWN:
        pairs = enumerate(zip(*texts, strict=False))
        differs_at = next((place for place, (a, b) in pairs if a != b), min(map(len, texts)))
        start = max(differs_at - BEFORE_DIFFERENCE, 0)
    first, second = (_cut(text, start) for text in texts)
    return first, second


def _cut(text: str, start: int) -> str:
    end = start + MAX_SHOWN
    return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"
