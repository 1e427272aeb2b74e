"""`adem-bench score`: metrics of predictions that other code made."""

from __future__ import annotations

from pathlib import Path

import click

from adem_bench.cli.options import data_root_option, set_option, split_option


@click.command()
@click.option("--task", "task_name", required=True, metavar="T", help="Name or card of the task.")
@click.option(
    "--predictions",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="File or folder in the benchmark's published format.",
)
@data_root_option
@split_option
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Also write metrics.json there.",
)
@set_option
def score(
    task_name: str,
    predictions: Path,
    data_root: Path | None,
    split: str | None,
    output: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Score predictions that other code made.

    Published formats are read: preds.json (question id to option index), COCO result lists,
    a folder of MME eval_tool files, VLMEvalKit's predictions (.tsv, .xlsx or .json) for tasks in
    its TSV files, lists of question ids and answers, and vlm-evaluation's results.
    """
    from adem_bench.cards import expand_tasks
    from adem_bench.errors import CardError
    from adem_bench.files import write_json
    from adem_bench.results.console import console, show_result
    from adem_bench.tasks.base import build_task

    members = expand_tasks([task_name])
    if members != [task_name]:
        raise CardError(f"{task_name} is a group; score one of its tasks: {', '.join(members)}")
    settings = [override.removeprefix("task.") for override in overrides]
    task = build_task(task_name, data_root, settings, split)
    result = task.aggregate(task.import_predictions(predictions))
    show_result(result, console(), str(predictions))
    if output is not None:
        write_json(output / "metrics.json", result.to_json())
        click.echo(f"wrote {output / 'metrics.json'}")
