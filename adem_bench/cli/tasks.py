"""`adem-bench tasks`: list the task cards, or show one and whether its data is on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adem_bench.cli.options import (
    HintingGroup,
    complete,
    data_root_option,
    format_option,
    harness_python_option,
    set_option,
    split_option,
    warn,
)
from adem_bench.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from adem_bench.schemas import TaskCard


FOR_TRAINING = "none: data for training"


@click.group(cls=HintingGroup, invoke_without_command=True)
@click.pass_context
def tasks(context: click.Context) -> None:
    """List tasks or show one."""
    if context.invoked_subcommand is None:
        context.invoke(list_command)


@tasks.command("list")
@format_option("table", "json")
@click.option("--kind", metavar="K", help="Only tasks of this kind, for example mcq.")
@click.option("--search", metavar="TEXT", help="Only those with a text in their name or title.")
@click.option(
    "--source",
    type=click.Choice(["vlmevalkit", "lmms_eval"]),
    help="List the benchmarks of another harness that is installed, in place of our own.",
)
@click.option("--complete", is_flag=True, help="With --source: those too that its code computes.")
@harness_python_option
def list_command(
    form: str, kind: str | None, search: str | None, source: str | None, complete: bool
) -> None:
    """List every task card and group; one that cannot be read is named with the reason.

    With --source the benchmarks of VLMEvalKit or lmms-eval: what each asks, whether a judge model
    scores it, whether its data is on disk, and why those are refused that cannot be run.
    """
    wanted = _Wanted(kind or "", search or "")
    if complete and not source:
        raise click.UsageError("--complete is for the benchmarks of another harness (--source)")
    if source:
        _list_harness(source, complete, form, wanted)
    else:
        _list_cards(form, wanted)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which tasks are listed; empty: any."""

    kind: str
    search: str

    def is_like(self, *texts: str) -> bool:
        return self.search.casefold() in " ".join(texts).casefold()

    def __call__(self, kind: str, *texts: str) -> bool:
        return self.kind.casefold() in ("", kind.casefold()) and self.is_like(*texts)


def _say_none(wanted: _Wanted, kinds: Iterable[str]) -> None:
    """Say that nothing is listed, and of which kinds it would be without `--kind`.

    Args:
        wanted: Which tasks are.
        kinds: Those of all that have the text.
    """
    from collections import Counter

    text = f" with {wanted.search!r} in its name" if wanted.search else ""
    of_kind = f" of kind {wanted.kind}" if wanted.kind else ""
    counts = Counter(kinds).most_common()
    others = ", ".join(f"{kind} ({count})" for kind, count in counts)
    click.echo(printable(f"no task{of_kind}{text}" + (f"; kinds are {others}" if others else "")))


def _list_cards(form: str, wanted: _Wanted) -> None:
    """List the cards of tasks and groups.

    Args:
        form: `table` or `json`.
        wanted: Which.
    """
    import json

    from adem_bench.cards import expand_tasks, known_cards, load_task_or_group
    from adem_bench.errors import CardError
    from adem_bench.results.console import console, grid
    from adem_bench.schemas import TaskCard

    cards: list[tuple[str, TaskCard]] = []
    groups: list[tuple[str, list[str]]] = []
    known, doubled = known_cards("tasks")
    broken = [*doubled.values()]
    for name, path in known.items():
        try:
            card = load_task_or_group(path)
            if isinstance(card, TaskCard):
                cards.append((name, card))
            else:
                groups.append((name, expand_tasks([str(path)])))
        except CardError as error:
            broken.append(str(error))
    alike = [card.kind for name, card in cards if wanted.is_like(name, card.title)]
    cards = [(name, card) for name, card in cards if wanted(card.kind, name, card.title)]
    groups = [(name, members) for name, members in groups if wanted("group", name)]
    if form == "json":
        listed = {
            "tasks": [_listed(name, card) for name, card in cards],
            "groups": [{"name": name, "tasks": members} for name, members in groups],
        }
        click.echo(json.dumps(listed, indent=2))
    else:
        header = ("task", "title", "kind", "split", "samples", "judge", "headline")
        if cards:
            grid(console(), header, [_row(*pair) for pair in cards], right=("samples",))
        if not cards and not groups:
            _say_none(wanted, alike)
        if groups:
            click.echo("\n" if cards else "", nl=False)
            shown = [(name, ", ".join(members)) for name, members in groups]
            grid(console(), ("group", "tasks"), shown)
    warn(broken)


def _list_harness(source: str, complete: bool, form: str, wanted: _Wanted) -> None:
    """List the benchmarks of another harness.

    Args:
        source: Its kind of task.
        complete: Whether it is asked for the names that its code computes.
        form: `table` or `json`.
        wanted: Which.
    """
    import json
    from collections import Counter

    from adem_bench.results.console import console, grid
    from adem_bench.tasks.harnesses.catalogue import catalogue, is_on_disk
    from adem_bench.tasks.harnesses.process import HARNESSES
    from adem_bench.tasks.harnesses.sizes import sizes

    harness = HARNESSES[source]
    found = catalogue(harness, complete)
    chosen = [one for one in found.values() if wanted(one.kind, one.name)]
    on_disk = {one.name: is_on_disk(harness, one) for one in chosen}
    samples = sizes(harness, chosen)
    if form == "json":
        listed = [
            {
                "name": f"{source}:{one.name}",
                "kind": one.kind,
                "modality": one.modality,
                "samples": samples.get(one.name),
                "judge": one.judge,
                "on_disk": on_disk[one.name],
                "refused": one.refused or None,
            }
            for one in chosen
        ]
        click.echo(json.dumps({"tasks": listed}, indent=2))
        return
    words = {True: "yes", False: "no", None: "?"}
    rows = [
        (
            *(f"{source}:{one.name}", one.kind, str(samples.get(one.name, "?")), one.judge),
            *(words[on_disk[one.name]], one.refused),
        )
        for one in chosen
    ]
    header = ("task", "kind", "samples", "judge", "on disk", "refused, because")
    if rows:
        grid(console(), header, rows, right=("samples",))
    reasons = Counter(one.refused for one in chosen if one.refused)
    runnable = len(chosen) - reasons.total()
    if not chosen:
        _say_none(wanted, (one.kind for one in found.values() if wanted.is_like(one.name)))
        return
    click.echo(f"{len(chosen)} of {len(found)} names are listed; {runnable} can be run")
    if "?" in (row[2] for row in rows):
        click.echo("samples is ? where neither data on disk nor a card says how many there are")
    for reason, count in reasons.most_common():
        click.echo(f"{count} {'is' if count == 1 else 'are'} refused: {reason}")


def _row(name: str, card: TaskCard) -> tuple[str, ...]:
    expected = str(card.expected.get(card.split, ""))
    headline = card.headline or FOR_TRAINING
    judge = _judge(card).replace("no", "")
    return (name, card.title, card.kind, card.split, expected, judge, headline)


def _judge(card: TaskCard) -> str:
    """Return whether a judge reads the answers: `no`, `optional`, `needed`; `?` if unknown."""
    from adem_bench.errors import AdemBenchError
    from adem_bench.registry import JUDGED, TASK_KINDS

    if TASK_KINDS.is_builtin(card.kind):
        return JUDGED.get(card.kind, "no")
    try:
        found = getattr(TASK_KINDS.load(card.kind), "judging", "no")
    except AdemBenchError:
        return "?"
    return found if isinstance(found, str) else "?"


def _listed(name: str, card: TaskCard) -> dict[str, Any]:
    """Return what a program is told of a card."""
    return {
        "name": name,
        "title": card.title,
        "kind": card.kind,
        "split": card.split,
        "samples": card.expected.get(card.split),
        "headline": card.headline or None,
        "judge": _judge(card),
        "card": str(card.path),
    }


@tasks.command("show")
@click.argument("name", shell_complete=complete("tasks"))
@data_root_option
@harness_python_option
@split_option
@set_option
def show_command(
    name: str, data_root: Path | None, split: str | None, overrides: tuple[str, ...]
) -> None:
    """Show a task: its card, where its data is published, and whether it is on disk."""
    from adem_bench.cards import expand_tasks, load_task_card
    from adem_bench.results.console import console, grid

    members = expand_tasks([name])
    if members != [name]:
        click.echo(f"{name} is a group: {', '.join(members)}")
        return
    card = load_task_card(name, [*overrides, *([f"split={split}"] if split else [])])
    rows = [*_facts(card), *_choices(card), ("data on disk", _presence(card, data_root))]
    grid(console(), ("field", "value"), rows)


def _facts(card: TaskCard) -> list[tuple[str, str]]:
    expected = ", ".join(f"{split} {count}" for split, count in card.expected.items())
    facts = [
        ("name", card.name),
        ("title", card.title),
        ("card", str(card.path)),
        ("kind", card.kind),
        ("version", str(card.version)),
        ("split", card.split),
        ("expected samples", expected or "as many as the data has"),
        ("headline", card.headline or FOR_TRAINING),
        ("columns", ", ".join(card.columns)),
        ("prompt format", card.prompt_format or ""),
        ("options", ", ".join(f"{key}={value}" for key, value in card.options.items())),
        ("data layout", card.data.layout),
        ("data licence", card.data.licence),
        ("data source", card.data.url),
    ]
    return [(field, value) for field, value in facts if value]


def _choices(card: TaskCard) -> list[tuple[str, str]]:
    """Return what the kind offers: messages on a name that it does not know point here."""
    from adem_bench.registry import TASK_KINDS

    kind = TASK_KINDS.load(card.kind)
    schema = getattr(kind, "options_schema", None)
    options = {} if schema is None else schema.model_fields
    defaults = [
        f"{name}={field.get_default(call_default_factory=True)}" for name, field in options.items()
    ]
    choices = [
        ("prompt formats", ", ".join(getattr(kind, "prompt_formats", ()))),
        ("options, by default", ", ".join(defaults)),
        ("metrics", ", ".join(_metrics(card))),
    ]
    return [(field, value) for field, value in choices if value]


def _metrics(card: TaskCard) -> Sequence[str]:
    from adem_bench.data.paths import default_data_root
    from adem_bench.tasks.base import task_of

    if not card.headline:
        return ()
    files = card.model_copy(update={"data": card.data.model_copy(update={"source": ""})})
    names: Sequence[str] = getattr(task_of(files, default_data_root()), "metric_names", tuple)()
    return names


def _presence(card: TaskCard, data_root: Path | None) -> str:
    """Return whether the first sample can be read, and from where; makes no data."""
    from adem_bench.tasks.data_status import data_status

    status = data_status(card, data_root)
    if status.state == "there":
        return f"yes, below {status.data_root}"
    if status.state == "unusable":
        return f"yes, and it cannot be used: {status.reason}"
    return f"no: {status.reason}" if status.state == "missing" else status.reason
