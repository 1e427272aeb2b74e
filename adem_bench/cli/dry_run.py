"""`adem-bench run --dry-run`: what a run would do, shown without a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from adem_bench.cli.options import warn
from adem_bench.errors import SeveralErrors, printable, printable_lines

if TYPE_CHECKING:
    from adem_bench.runner.evaluate import Evaluation
    from adem_bench.runner.preview import Estimate, Preview, TaskPreview

MISTAKE = 2
MAX_PROMPT = 4000
"""Characters of a prompt that are shown; JSON has all of it."""


def show_dry_run(evaluations: Sequence[Evaluation], skip_missing: bool, form: str) -> int:
    """Print what evaluations would do, and everything that is wrong with them.

    Args:
        evaluations: What is to be done.
        skip_missing: Whether tasks without data would be left out.
        form: `text` or `json`.

    Returns:
        The exit code: 0 if the run could start.
    """
    from adem_bench.runner.evaluate import prepare_each
    from adem_bench.runner.preview import previews, without_traces

    with without_traces():
        prepared, skipped, problems = prepare_each(evaluations, skip_missing)
        found = previews(prepared)
    told = [str(problem) for problem in SeveralErrors(problems).errors]
    if form == "json":
        shown = [preview.to_json() for preview in found]
        click.echo(json.dumps({"models": shown, "skipped": skipped, "problems": told}, indent=2))
    else:
        for preview in found:
            _show(preview)
        _show_sum(found)
    warn(f"skipped {reason}" for reason in skipped)
    for problem in told:
        click.echo(printable(f"error: {problem}"), err=True)
    return MISTAKE if told else 0


def _show(preview: Preview) -> None:
    settings = f", {', '.join(preview.settings)}" if preview.settings else ""
    click.echo(printable(f"{preview.model} (kind {preview.kind}){settings}"))
    for what, path, state in preview.files:
        click.echo(f"  {printable(f'{what}: {path}, on disk: {state}')}")
    for task in preview.tasks:
        click.echo()
        _show_task(task, preview.chats)
    click.echo()


def _show_task(task: TaskPreview, chats: bool) -> None:
    of_whole = "" if task.samples == task.whole else f" ({task.whole:,} in the split)"
    head = f"{task.task}, split {task.split}: {task.samples:,} samples{of_whole}"
    click.echo(f"  {printable(head)}")
    chosen = ", ".join(f"{name}={value}" for name, value in task.decoding.items())
    click.echo(f"  at most {task.max_new_tokens} new tokens, {chosen or 'decoded greedily'}")
    click.echo(f"  time: {_time(task.seconds)}")
    if task.cost:
        click.echo(f"  cost: {task.cost.value:,.2f} ({printable(task.cost.basis)})")
    if task.judge:
        known = task.judge_cost
        cost = f"cost {known.value:,.2f} ({known.basis})" if known else "cost not known: "
        click.echo(f"  judge: {printable(f'{task.judge}, {cost}{task.judge_unknown}')}")
    for image in task.images:
        click.echo(f"  image: {printable(image)}")
    within = " (the model's chat template goes around it)" if chats else ""
    click.echo(f"  first prompt{within}:")
    text = printable_lines(task.prompt[:MAX_PROMPT])
    click.echo("\n".join(f"  | {line}" for line in text.split("\n")))
    if len(task.prompt) > MAX_PROMPT:
        click.echo(f"  … {len(task.prompt) - MAX_PROMPT:,} characters more")


def _show_sum(found: Sequence[Preview]) -> None:
    tasks = [task for preview in found for task in preview.tasks]
    samples = sum(task.samples for task in tasks)
    times = [task.seconds.value for task in tasks if task.seconds]
    costs = [task.cost.value for task in tasks if task.cost]
    judging = [task.judge_cost.value for task in tasks if task.judge_cost]
    told = [f"{len(tasks):,} runs, {samples:,} samples"]
    if times:
        of_all = "" if len(times) == len(tasks) else f" for {len(times)} of them"
        told.append(f"about {_duration(sum(times))}{of_all}")
    if costs:
        told.append(f"cost {sum(costs):,.2f}")
    if judging:
        told.append(f"{'the judge' if costs else 'cost of the judge'} {sum(judging):,.2f}")
    click.echo("; ".join(told))


def _time(estimate: Estimate | None) -> str:
    if estimate is None:
        return "not known, no earlier run in the results folder"
    return printable(f"about {_duration(estimate.value)} (as fast as {estimate.basis})")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
