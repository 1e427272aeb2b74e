"""Which card each `--set KEY=VALUE` of an evaluation is for: the model's, or which tasks'."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from adem_bench.cards import expand_tasks, list_cards, load_task_card, split_overrides
from adem_bench.errors import CardError, nearest_hint
from adem_bench.registry import TASK_KINDS
from adem_bench.schemas import TaskCard

ALL_TASKS = "task"
"""Before a key, says that it is a field of the tasks' cards."""


def few_shot_settings(number: int | None, seed: int) -> list[str]:
    """Return the settings of the tasks that say how many examples are shown, and which.

    Args:
        number: Examples before each question; None leaves it to the cards.
        seed: By which they are drawn.
    """
    if number is None:
        return []
    seeded = [f"options.fewshot_seed={seed}"] if number and seed else []
    return [f"options.num_fewshot={number}", *seeded]


def settings_of(
    overrides: Sequence[str], model: str, tasks: Sequence[str]
) -> tuple[list[str], dict[str, list[str]]]:
    """Return the settings of the model's card, and those of each task's.

    `TASK.key=…` is for one task, or for the members of a group; a bare key is for the model if
    its card has such a field, else for every task. An option is only for tasks that have it.

    Args:
        overrides: `key=value`, in order; later ones win.
        model: Name or path of the model's card.
        tasks: Names or paths of tasks and groups.

    Raises:
        CardError: no card has the field, no task has the option, or a task is named that is not
            asked.
    """
    names = expand_tasks(tasks)
    addressed = _addressed(tasks, names)
    for_model: list[str] = []
    for_tasks: dict[str, list[str]] = {name: [] for name in names}
    for override in overrides:
        meant = next((name for name in addressed if override.startswith(f"{name}.")), None)
        if meant is None:
            _check_asked(override, names)
            of_model, rest = split_overrides([override], model)
            for_model += of_model
            members: Sequence[str] = names
        else:
            rest, members = [override.removeprefix(f"{meant}.")], addressed[meant]
        for setting in rest:
            for name in _having(setting, override, members):
                for_tasks[name].append(setting)
    return for_model, for_tasks


@contextmanager
def as_typed(overrides: Sequence[str]) -> Iterator[None]:
    """Name settings as they were typed in errors of a card, which know `model.key=…` as `key=…`.

    Args:
        overrides: As typed.

    Raises:
        CardError: as it is within.
    """
    try:
        yield
    except CardError as error:
        said = str(error)
        for typed in overrides:
            parts = typed.split(".")
            for count in range(len(parts)):
                short = f"--set {'.'.join(parts[count:])}:"
                if said.startswith(short):
                    raise CardError(f"--set {typed}:{said.removeprefix(short)}") from error
        raise


def _addressed(tasks: Sequence[str], names: Sequence[str]) -> dict[str, list[str]]:
    """Return what may stand before a key, longest first, with the tasks that it stands for."""
    found = {given: expand_tasks([given]) for given in tasks}
    found |= {load_task_card(name).name: [name] for name in names}
    # A field of cards means the field, also where a task has its name.
    reserved = {"model", ALL_TASKS, *TaskCard.model_fields}
    return {key: found[key] for key in sorted(found, key=len, reverse=True) if key not in reserved}


def _check_asked(override: str, names: Sequence[str]) -> None:
    """Check that what stands before a key is no task that is not asked.

    Raises:
        CardError: it is.
    """
    first = override.partition("=")[0].partition(".")[0]
    if first != override.partition("=")[0] and first in list_cards("tasks"):
        raise CardError(
            f"--set {override}: {first} is not among the tasks that are asked: {', '.join(names)}"
        )


def _having(setting: str, override: str, names: Sequence[str]) -> Sequence[str]:
    """Return those of several tasks that have the option that is set; all for other fields.

    Args:
        setting: `key=value` of a task's card.
        override: As given, for the message.
        names: Of tasks.

    Raises:
        CardError: none has it.
    """
    part, _, option = setting.partition("=")[0].partition(".")
    if part != "options" or not option or len(names) == 1:
        return names  # one task's own error says more
    option = option.partition(".")[0]
    known = {name: _options_of(name) for name in names}
    having = [name for name in names if (options := known[name]) is None or option in options]
    if not having:
        every = {option for options in known.values() for option in options or ()}
        raise CardError(
            f"--set {override}: none of {', '.join(names)} has an option {option!r}"
            f"{nearest_hint(option, every)}"
        )
    return having


def _options_of(name: str) -> Mapping[str, object] | None:
    """Return the options that a task's kind has; None if it does not say."""
    schema = getattr(TASK_KINDS.load(load_task_card(name).kind), "options_schema", None)
    return None if schema is None else schema.model_fields
