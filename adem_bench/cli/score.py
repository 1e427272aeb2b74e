"""`adem-bench score`: metrics of predictions that other code made, and of runs."""

from __future__ import annotations

from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adem_bench.cli.options import (
    NamedPath,
    complete,
    data_root_option,
    harness_python_option,
    judge_option,
    set_option,
    split_option,
    warn,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adem_bench.runner.judge import JudgeModel
    from adem_bench.tasks.base import Task

OF_PREDICTIONS = ("task", "predictions", "as_run", "output", "split", "overrides", "fresh")
"""Options that say nothing of a run, which knows its task."""


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN]…", type=NamedPath(path_type=Path))
@click.option(
    "--task", shell_complete=complete("tasks"), metavar="T", help="Name or card of the task."
)
@click.option(
    "--predictions",
    type=NamedPath(exists=True, path_type=Path),
    metavar="PATH",
    help="File or folder in the benchmark's published format.",
)
@data_root_option
@harness_python_option
@split_option
@click.option(
    "--as-run",
    metavar="NAME",
    help="Also keep the predictions as a run of a model of that name, for leaderboard, compare, "
    "report and validate.",
)
@click.option(
    "--results",
    type=NamedPath(file_okay=False, path_type=Path),
    default=Path("results"),
    show_default=True,
    metavar="DIR",
    help="Where that run is kept.",
)
@judge_option("; what another judge has read is a run of its own, next to RUN.")
@click.option(
    "--device", default="auto", show_default=True, help="Of the judge: cpu, cuda, cuda:1, …"
)
@click.option("--fresh", is_flag=True, help="Replace other predictions under the same NAME.")
@click.option(
    "--output",
    type=NamedPath(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Also write metrics.json there.",
)
@set_option
def score(runs: tuple[Path, ...], data_root: Path | None, results: Path, **given: Any) -> None:
    """Score predictions that other code made, or runs: again, or by another judge.

    Published formats are read: preds.json (question id to option index), COCO result lists,
    a folder of MME eval_tool files, VLMEvalKit's predictions (.tsv, .xlsx or .json), samples of
    lmms-eval (.jsonl), lists of question ids and answers, vlm-evaluation's results, and
    samples.jsonl of a run.
    """
    if runs:
        foreign = [name for name in OF_PREDICTIONS if given[name]]
        if foreign:
            option = {"overrides": "set"}.get(foreign[0], foreign[0].replace("_", "-"))
            raise click.UsageError(
                f"--{option} is for predictions of other code; a run knows its task and settings"
            )
        _score_runs(runs, data_root, _judge(data_root, given))
        return
    missing = [f"--{name}" for name in ("task", "predictions") if not given[name]]
    if missing:
        raise click.UsageError(
            f"name a run folder, or --task and --predictions ({' and '.join(missing)} missing)"
        )
    _score_predictions(data_root, results, given)


def _judge(
    data_root: Path | None, given: dict[str, Any], tasks: Sequence[Task] = ()
) -> JudgeModel | None:
    """Return the judge that was named, loaded; None of none.

    Args:
        data_root: For its weights.
        given: The command's parameters.
        tasks: Whose answers it reads, where they are known.
    """
    if given["judge"] is None:
        return None
    from adem_bench.runner.judge import JudgeModel, check_use, judge_card

    card = judge_card(given["judge"], data_root)
    check_use(card, tasks)
    return JudgeModel.load(card, given["device"], data_root)


def _score_runs(runs: tuple[Path, ...], data_root: Path | None, judge: JudgeModel | None) -> None:
    from adem_bench.results.console import console
    from adem_bench.results.result_tables import show_result
    from adem_bench.results.score_run import NewJudge, score_run

    named = NewJudge(judge.name, judge.of_finished_run) if judge else None
    for run in runs:
        scored = score_run(run, data_root, named)
        show_result(scored.result, console(), scored.model)
        warn(scored.warnings)
        click.echo(f"wrote {scored.folder / 'metrics.json'}")


def _score_predictions(data_root: Path | None, results: Path, given: dict[str, Any]) -> None:
    from adem_bench.files import write_json
    from adem_bench.results.console import console
    from adem_bench.results.result_tables import show_result
    from adem_bench.tasks import repeats
    from adem_bench.tasks.predictions import read_predictions

    name, path = given["as_run"], given["predictions"]
    if name is not None and not name.strip():
        raise click.UsageError("--as-run needs a name")
    task = _task(data_root, given)
    repeats.check_judge(task, given["judge"] is not None)
    judge = _judge(data_root, given, [task])
    records = read_predictions(task, path)
    if name is None:
        with closing(judge.of_run(None, None)) if judge else nullcontext() as asks:
            _, result = repeats.score(task, records, None, asks)
        show_result(result, console(), str(path))
    else:
        from adem_bench.runner.imported import keep_as_run

        outcome = keep_as_run(task, records, name, path, results, given["fresh"], judge)
        result = outcome.result
        show_result(result, console(), name)
        click.echo(f"wrote {outcome.folder}/samples.jsonl, metrics.json, manifest.json")
    output = given["output"]
    if output is not None:
        write_json(output / "metrics.json", result.to_json())
        click.echo(f"wrote {output / 'metrics.json'}")


def _task(data_root: Path | None, given: dict[str, Any]) -> Task:
    from adem_bench.cards import expand_tasks
    from adem_bench.errors import CardError
    from adem_bench.runner.settings import as_typed
    from adem_bench.tasks.base import build_task

    name = given["task"]
    members = expand_tasks([name])
    if members != [name]:
        raise CardError(f"{name} is a group; score one of its tasks: {', '.join(members)}")
    settings = [override.removeprefix("task.") for override in given["overrides"]]
    with as_typed(given["overrides"]):
        return build_task(name, data_root, settings, given["split"])
