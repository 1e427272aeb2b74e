"""`adem-bench data`: what is on disk, fetching what is public, checking it, the mini world."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adem_bench.cli.options import (
    HintingGroup,
    NamedPath,
    NumberOr,
    complete,
    data_root_option,
    format_option,
    harness_python_option,
    set_option,
    split_names,
    split_option,
    warn,
)

if TYPE_CHECKING:
    from adem_bench.data.inventory import Listed
    from adem_bench.schemas import TaskCard
    from adem_bench.tasks.data_status import DataStatus, Verification

INCOMPLETE = 1
"""Exit code: something is still missing, or something is wrong."""
IMAGES_OPENED = 200
TASKS = click.argument("tasks", nargs=-1, metavar="[TASK]…", shell_complete=complete("tasks"))


@click.group(cls=HintingGroup)
def data() -> None:
    """Show which data is on disk, fetch it, check it, or make the mini benchmark's."""


@data.command("status")
@TASKS
@data_root_option
@harness_python_option
@split_option
@format_option("table", "json")
@set_option
def status_command(tasks: tuple[str, ...], data_root: Path | None, form: str, **given: Any) -> None:
    """Show for every task, or for those named, what is on disk and what is missing.

    For named tasks every file is listed, with where it comes from.
    """
    from adem_bench.results.console import console, grid
    from adem_bench.tasks.data_status import data_status

    broken: list[str] = []
    found = []
    for card in _cards(tasks, given, broken):
        with _noting(broken, tasks):
            found.append(data_status(card, data_root))
    if form == "json":
        click.echo(json.dumps({"tasks": [status.to_json() for status in found]}, indent=2))
    else:
        header = ("task", "split", "on disk", "to fetch", "licence")
        grid(console(), header, [_status_row(status) for status in found], right=("to fetch",))
        if tasks:
            _show_files(found)
        elif found:
            click.echo(_printable(f"data root: {found[0].data_root}"))
            click.echo("`adem-bench data status TASK` lists files and where they come from")
    warn(broken)


def _status_row(status: DataStatus) -> tuple[str, ...]:
    states = {"there": "yes", "missing": "no", "unusable": "yes, and not as it should be"}
    shown = states.get(status.state, status.reason)
    sizes = [listed.file.size for listed in status.missing]
    to_fetch = "" if not sizes else _bytes(sum(size or 0 for size in sizes))
    if None in sizes:
        to_fetch = f"{to_fetch} or more" if any(sizes) else "unknown"
    return status.card.name, status.card.split, shown, to_fetch, status.card.data.licence


def _show_files(found: Iterable[DataStatus]) -> None:
    from adem_bench.data.inventory import size_on_disk
    from adem_bench.errors import printable
    from adem_bench.results.console import console, grid

    for status in found:
        facts = status.card.data
        troubles = {"missing": "not there", "unusable": "cannot be used"}
        if not (status.files or facts.url or facts.hub or status.state in troubles):
            continue
        click.echo(f"\n{printable(status.card.name)}, {printable(status.card.split)}:")
        if status.state in troubles:
            click.echo(printable(f"{troubles[status.state]}: {status.reason}"))
        rows = []
        for listed in status.files:
            there = _bytes(size_on_disk(listed.path)) if listed.is_there else "no"
            size = "" if listed.file.size is None else _bytes(listed.file.size)
            by_hand = (
                listed.by_hand() if status.state == "on demand" else f"by hand; {listed.by_hand()}"
            )
            origin = listed.file.url if listed.can_be_fetched else by_hand
            checked = ", ".join(listed.digests) or "nothing"
            rows.append((str(listed.path), there, size, checked, origin))
        if rows:
            header = ("file", "on disk", "published", "checked by", "from")
            grid(console(), header, rows, right=("on disk", "published"))
        for name, value in (("source", facts.url), ("on the hub", facts.hub)):
            if value:
                click.echo(printable(f"{name}: {value}"))


@data.command("fetch")
@click.argument("tasks", nargs=-1, required=True, metavar="TASK…", shell_complete=complete("tasks"))
@data_root_option
@harness_python_option
@split_option
@set_option
def fetch_command(tasks: tuple[str, ...], data_root: Path | None, **given: Any) -> int:
    """Fetch what is public and has a published digest; nothing on disk is ever replaced.

    `--split all` takes the files of every split. A download that broke off continues. With
    --set data.source=hub the data set is read from the hub into the cache.

    Exit codes: 0 all is there, 1 something must be fetched by hand, 2 something cannot be fetched.
    """
    from adem_bench.data.paths import default_data_root
    from adem_bench.errors import AdemBenchError, DownloadError
    from adem_bench.tasks.data_status import files_of
    from adem_bench.tasks.harnesses.data import has_own_folder

    root = data_root or default_data_root()
    failures: list[str] = []
    by_hand: dict[Path, str] = {}
    for card in _cards(tasks, given, []):
        files = files_of(card, root)
        if has_own_folder(card) and any(not one.can_be_fetched for one in files):
            _fetch_by_harness(card, files, failures)
            continue
        if not files and not card.data.source:
            by_hand[root] = (
                f"task {card.name} lists no file; its data: {card.data.url or 'unknown'}"
            )
        for listed in files:
            try:
                _fetch(listed, root, by_hand)
            except AdemBenchError as error:
                failures.append(str(error))
        if card.data.source and not failures:
            try:
                _draw(card, data_root)
            except AdemBenchError as error:
                failures.append(str(error))
    for path, how in by_hand.items():
        click.echo(_printable(f"{path}: not fetched; {how}"))
    if failures:
        raise DownloadError("; ".join(failures))
    return INCOMPLETE if by_hand else 0


def _fetch(listed: Listed, root: Path, by_hand: dict[Path, str]) -> None:
    from adem_bench.data.inventory import fetch_listed
    from adem_bench.results.progress import download_progress

    if listed.can_be_fetched:
        with download_progress(listed.path.name) as progress:
            outcome = fetch_listed(listed, root, progress)
        click.echo(_printable(f"{listed.path}: {outcome}"))
    elif listed.is_there:
        click.echo(_printable(f"{listed.path}: already there, unchecked"))
    elif not listed.file.optional:
        by_hand[listed.path] = listed.by_hand()


def _fetch_by_harness(card: TaskCard, files: Iterable[Listed], failures: list[str]) -> None:
    """Let another harness fetch what no other code can, unless it is there."""
    from adem_bench.errors import AdemBenchError
    from adem_bench.tasks.harnesses.data import fetch_by_harness

    if all(listed.is_there for listed in files):
        for listed in files:
            click.echo(_printable(f"{listed.path}: already there, unchecked"))
        return
    try:
        click.echo(_printable(f"{card.name}: fetched, below {fetch_by_harness(card)}"))
    except AdemBenchError as error:
        failures.append(str(error))


def _draw(card: TaskCard, data_root: Path | None) -> None:
    from adem_bench.data.hub import HUB, hub_root
    from adem_bench.results.progress import Standing, run_progress
    from adem_bench.tasks.base import resolve_data_root

    if card.data.source.partition(":")[0] == HUB:
        with run_progress(card.name) as update:
            folder = hub_root(card, data_root, lambda count: update(Standing(count, None, count)))
    else:
        folder = resolve_data_root(card, data_root)
    click.echo(_printable(f"{card.name} from {card.data.source}: in {folder}"))


@data.command("verify")
@TASKS
@data_root_option
@harness_python_option
@split_option
@click.option(
    "--images",
    type=NumberOr("all"),
    metavar="N|all",
    default=IMAGES_OPENED,
    show_default=True,
    help="How many images of a task are opened, spread evenly.",
)
@format_option("table", "json")
@set_option
def verify_command(
    tasks: tuple[str, ...], data_root: Path | None, images: int | None, form: str, **given: Any
) -> int:
    """Check digests, rows, counts and images of the tasks named, or of all that are on disk.

    Exit codes: 0 all is well, 1 something is wrong, 2 there is nothing to check.
    """
    from adem_bench.data.paths import default_data_root
    from adem_bench.errors import DataError
    from adem_bench.tasks.data_status import data_status, verify_data

    found = []
    for card in _cards(tasks, given, []):
        with _noting([], tasks):
            if not tasks and data_status(card, data_root).state != "there":
                continue
            found.append(verify_data(card, data_root, images))
            if form == "table":
                _show_verification(found[-1])
    if form == "json":
        click.echo(json.dumps({"tasks": [one.to_json() for one in found]}, indent=2))
    if not found:
        root = data_root or default_data_root()
        raise DataError(
            f"nothing to check: no task's data is on disk below {root}; `adem-bench data status` "
            "says where to get it"
        )
    return INCOMPLETE if any(one.problems for one in found) else 0


def _show_verification(found: Verification) -> None:
    expected = "" if found.expected is None else f" of {found.expected:,}"
    counts = (
        f"{found.samples:,}{expected} samples, {found.images:,} images, {found.opened:,} opened"
    )
    state = "wrong" if found.problems else "good"
    click.echo(_printable(f"{found.task}, {found.split}: {state} ({counts})"))
    for problem in found.problems:
        click.echo(_printable(f"  {problem}"))


def _cards(names: tuple[str, ...], given: dict[str, Any], broken: list[str]) -> Iterator[TaskCard]:
    """Yield the cards of named tasks and groups, or of all; unreadable ones are added to `broken`.

    Raises:
        CardError: a named one cannot be read.
    """
    from adem_bench.cards import expand_tasks, known_cards, load_task_card, load_task_or_group
    from adem_bench.errors import CardError
    from adem_bench.schemas import TaskCard

    settings = [override.removeprefix("task.") for override in given["overrides"]]
    settings += [f"split={given['split']}"] if given["split"] else []
    if names:
        yield from (
            load_task_card(name, settings) for name in expand_tasks(names, for_training=True)
        )
        return
    known, doubled = known_cards("tasks")
    broken += doubled.values()
    for path in known.values():
        try:
            card = load_task_or_group(path)
            if isinstance(card, TaskCard):
                yield load_task_card(str(path), settings) if settings else card
        except CardError as error:
            broken.append(str(error))


@contextmanager
def _noting(broken: list[str], named: tuple[str, ...]) -> Iterator[None]:
    """Note that a card does not fit, where it is one of all; raise it where it was named."""
    from adem_bench.errors import CardError

    try:
        yield
    except CardError as error:
        if named:
            raise
        broken.append(str(error))


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"


def _printable(text: str) -> str:
    from adem_bench.errors import printable

    return printable(text)


@data.command("mini")
@click.option(
    "--output",
    required=True,
    type=NamedPath(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Data root to write into; created if missing.",
)
@click.option(
    "--splits", default="test", show_default=True, help="Comma-separated: train, val, test."
)
@click.option(
    "--train-size", type=click.IntRange(min=1), help="Items of each train split.  [default: 6000]"
)
@click.option("--seed", type=int, help="Chooses the items; other seeds give other questions.")
def mini(output: Path, splits: str, train_size: int | None, seed: int | None) -> None:
    """Write the mini world in the official data sets' layouts.

    The same options give the same bytes on every machine.
    """
    from adem_bench.errors import nearest_hint
    from adem_bench.mini import SPLITS, write_mini

    wanted = split_names(splits)
    for split in wanted:
        if split not in SPLITS:
            raise click.UsageError(f"unknown split {split!r}{nearest_hint(split, SPLITS)}")
    if not wanted:
        raise click.UsageError("--splits names none")
    given = {"train_size": train_size, "seed": seed}
    chosen = {name: value for name, value in given.items() if value is not None}
    write_mini(output, splits=wanted, **chosen)
    click.echo(f"wrote {', '.join(wanted)} below {output}")
