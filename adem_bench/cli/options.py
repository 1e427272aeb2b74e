"""What several verbs share: options, and a group that proposes the nearest command."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from math import isfinite
from pathlib import Path
from typing import Any, Literal, TypeVar

import click
from click.shell_completion import CompletionItem

from adem_bench.errors import nearest_hint, printable
from adem_bench.launcher import is_main_process
from adem_bench.registry import INCLUDE_VARIABLE
from adem_bench.tasks.harnesses import PYTHON_VARIABLE

MOST_DIGITS = 18
"""Of a number that counts something."""
F = TypeVar("F", bound=Callable[..., Any])


class NamedPath(click.Path):
    """A file or folder: an empty name is not the folder that one is in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path.

        Args:
            value: As given.
            param: The parameter, for errors.
            ctx: The command, for errors.
        """
        if not str(value):
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


class FiniteRange(click.FloatRange):
    """A range of finite numbers: of click's own, `nan` is within any bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number.

        Args:
            value: As given.
            param: The parameter, for errors.
            ctx: The command, for errors.
        """
        number = super().convert(value, param, ctx)
        if not isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


class HintingGroup(click.Group):
    """A click group that answers an unknown command with the nearest ones."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first argument names.

        Raises:
            UsageError: there is none.
        """
        name = args[0]
        # Options are left to click, which reports those.
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            known = self.list_commands(ctx)
            hint = nearest_hint(name, known, f"{ctx.command_path} --help")
            raise click.UsageError(f"unknown command {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)


def with_include_option(command: click.Command) -> click.Command:
    """Give `--include` to a command and to all commands below it; return it."""
    if not any(isinstance(parameter, _Include) for parameter in command.params):
        command.params.append(_Include())
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            with_include_option(inner)
    return command


class _Include(click.Option):
    """`--include DIR`: the folder counts while the command runs, in child processes too."""

    def __init__(self) -> None:
        super().__init__(
            ["--include"],
            multiple=True,
            type=NamedPath(exists=True, file_okay=False),
            metavar="DIR",
            expose_value=False,
            callback=_include,
            help="Folder whose cards are known and whose Python modules are run; repeatable "
            f"[default: ${INCLUDE_VARIABLE}].",
        )


def _include(context: click.Context, parameter: click.Parameter, folders: tuple[str, ...]) -> None:
    _while_it_runs(context, INCLUDE_VARIABLE, folders)


def _while_it_runs(
    context: click.Context, variable: str, values: tuple[str, ...], in_place: bool = False
) -> None:
    """Put values before those of a variable, until the command ends.

    Args:
        context: Of the command.
        variable: Its name.
        values: Without any, nothing is done.
        in_place: Whether they replace the variable's.
    """
    before = os.environ.get(variable)
    if values:
        kept = [before] if before and not in_place else []
        os.environ[variable] = os.pathsep.join([*values, *kept])
        if not context.resilient_parsing:  # else a shell asks what to propose, once it is closed
            context.call_on_close(lambda: _restore(variable, before))


def _restore(variable: str, before: str | None) -> None:
    if before is None:
        os.environ.pop(variable, None)
    else:
        os.environ[variable] = before


def harness_python_option(command: F) -> F:
    """Add `--harness-python`, which counts while the command runs, in child processes too."""
    return click.option(
        "--harness-python",
        multiple=True,
        metavar="[KIND=]PATH",
        expose_value=False,
        callback=_harness_python,
        help="Interpreter of the environment that has VLMEvalKit or lmms-eval; "
        f"`vlmevalkit=PATH` for one of them, repeatable [default: ${PYTHON_VARIABLE}].",
    )(command)


def _harness_python(
    context: click.Context, parameter: click.Parameter, named: tuple[str, ...]
) -> None:
    from adem_bench.tasks.harnesses.process import HARNESSES

    for kind in (one.partition("=")[0] for one in named if "=" in one):
        if kind not in HARNESSES:
            wrong = f"{kind!r} is not another harness{nearest_hint(kind, HARNESSES)}"
            raise click.BadParameter(wrong, context, parameter)
    # One for both leaves nothing of what the variable names for each.
    for_both = any("=" not in one for one in named)
    _while_it_runs(context, PYTHON_VARIABLE, named, in_place=for_both)


def complete(
    kind: Literal["models", "tasks", "trainers"], several: bool = False
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Return what a shell proposes for the name of a card: the known names, else files.

    Args:
        kind: Of card.
        several: Whether names may stand in a list with commas.
    """

    def proposed(
        context: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from adem_bench.cards import list_cards
        from adem_bench.errors import AdemBenchError

        before, comma, begun = incomplete.rpartition(",") if several else ("", "", incomplete)
        try:
            names = [name for name in list_cards(kind) if name.startswith(begun)]
        except AdemBenchError:  # a shell has no place for it, and the command will say it
            names = []
        if not names and not comma:
            return [CompletionItem(incomplete, type="file")]
        taken = before.split(",")
        return [CompletionItem(before + comma + name) for name in names if name not in taken]

    return proposed


def data_root_option(command: F) -> F:
    """Add `--data-root`."""
    return click.option(
        "--data-root",
        type=NamedPath(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Folder with data sets and weights/ [default: $ADEM_BENCH_DATA, else ./data].",
    )(command)


def set_option(command: F) -> F:
    """Add `--set` for the fields of a task's card, any number of times, as `overrides`."""
    return _override_option("card, for example options.captions=false")(command)


def model_set_option(command: F) -> F:
    """Add `--set` for the fields of a model's card."""
    return _override_option("model's card, for example decoding.top_k=5")(command)


def cards_set_option(command: F) -> F:
    """Add `--set` for the fields of a model's card and of several tasks' cards."""
    return _override_option(
        "cards: options.captions=false for all tasks that have the option, "
        "mini_sqa.options.captions=false for one"
    )(command)


def recipe_set_option(command: F) -> F:
    """Add `--set` for the fields of a recipe."""
    return _override_option(
        "recipe (`adem-bench recipes show NAME` lists them), for example epochs=3 or "
        "data.0.limit=500"
    )(command)


def _override_option(what: str) -> Callable[[F], F]:
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help=f"Override a field of the {what}; repeatable.",
    )


class RunName(click.types.StringParamType):
    """A folder of runs, or a name that the leaderboard shows; an empty one is neither."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the text.

        Args:
            value: As given.
            param: The parameter, for errors.
            ctx: The command, for errors.
        """
        if not str(value).strip():
            self.fail("a name is empty; expected a folder of runs, or a model's name", param, ctx)
        return super().convert(value, param, ctx)


class Samples(click.IntRange):
    """A number of samples, at least one."""

    def __init__(self) -> None:
        super().__init__(min=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number.

        Args:
            value: As given.
            param: The option, for errors.
            ctx: The command, for errors.
        """
        try:
            int(value)
        except ValueError:
            self.fail(f"{value!r} is not a whole number of samples", param, ctx)
        return super().convert(value, param, ctx)


class NumberOr(click.ParamType[int | None]):
    """A number, or a word that stands for None."""

    def __init__(self, word: str, least: int = 0) -> None:
        """Take `word`, or numbers of at least `least`."""
        self.name = f"N|{word}"
        self._word, self._least = word, least

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        """Return the number, or None for the word.

        Args:
            value: As given.
            param: The option, for errors.
            ctx: The command, for errors.
        """
        if value == self._word or value is None:
            return None
        number = _whole(str(value))
        if number is None or number < self._least:
            what = "a positive number" if self._least else "a number"
            self.fail(f"{value!r} is neither {what} nor {self._word}", param, ctx)
        return number


class Part(click.ParamType[tuple[int, int]]):
    """`K/N`: one of N parts, counted from 1."""

    name = "K/N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Return the part's number and how many there are.

        Args:
            value: As given.
            param: The option, for errors.
            ctx: The command, for errors.
        """
        number, parts = map(_whole, str(value).partition("/")[::2])
        if number is None or parts is None:
            self.fail(f"{value!r} is not K/N, for example 1/4", param, ctx)
        if not 1 <= number <= parts:
            self.fail(f"{value!r}: parts are counted from 1 to {parts}", param, ctx)
        return number, parts


def _whole(text: str) -> int | None:
    """Return the whole number that a text is; None if it is none, or longer than Python reads."""
    return int(text) if text.isdecimal() and len(text) <= MOST_DIGITS else None


def split_names(text: str | None) -> tuple[str, ...]:
    """Return the names in a list with commas, each once."""
    names = (name.strip() for name in (text or "").split(","))
    return tuple(dict.fromkeys(name for name in names if name))


class LoggerNames(click.ParamType[tuple[str, ...]]):
    """Names of loggers, comma-separated, or `none`; each installed."""

    name = "A,B|none"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the names, each once.

        Args:
            value: As given.
            param: The option, for errors.
            ctx: The command, for errors.

        Raises:
            AdemBenchError: there is no such logger, or its package is not installed.
        """
        from adem_bench.loggers.multi import NONE, check_loggers

        names = split_names(value)
        if names in ((), (NONE,)):
            return ()
        check_loggers(names)
        return names


def log_to_option(default: str) -> Callable[[F], F]:
    """Add `--log-to`, as `loggers`."""
    return click.option(
        "--log-to",
        "loggers",
        type=LoggerNames(),
        metavar="A,B|none",
        default=default,
        show_default=True,
        help="Where figures go in addition to the files: tensorboard, wandb, mlflow.",
    )


def decoding_options(command: F) -> F:
    """Add `--temperature` and `--top-p`."""
    for option in (
        click.option(
            "--top-p",
            type=FiniteRange(0, 1, min_open=True),
            metavar="P",
            help="Draw from the most probable tokens, up to this share of the probability "
            "[default: the card's].",
        ),
        click.option(
            "--temperature",
            type=FiniteRange(min=0),
            metavar="T",
            help="Draw new tokens at this temperature; 0: take the most probable [default: the "
            "card's, else 0].",
        ),
    ):
        command = option(command)
    return command


QUANTIZATIONS = ("none", "bnb-4bit", "bnb-8bit", "int8-cpu")


def quantization_option(default: str) -> Callable[[F], F]:
    """Add `--quantization`; `default` says what it is unless given."""
    return click.option(
        "--quantization",
        type=click.Choice(QUANTIZATIONS),
        help=f"How the decoder layers' frozen weights are kept [default: {default}].",
    )


def format_option(*forms: str) -> Callable[[F], F]:
    """Add `--format`, as `form`; the first is the default."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(forms),
        default=forms[0],
        show_default=True,
        help="For readers or for programs.",
    )


def name_option(multiple: bool, what: str) -> Callable[[F], F]:
    """Add `--name`.

    Args:
        multiple: Whether it may be given several times.
        what: What it is for, after "Name in tables and of the folder of runs".
    """
    return click.option(
        "--name",
        "names" if multiple else "name",
        multiple=multiple,
        metavar="NAME",
        help=f"Name in tables and of the folder of runs{what}.",
    )


def judge_option(what: str) -> Callable[[F], F]:
    """Add `--judge`; `what` says what it is for besides."""
    return click.option(
        "--judge",
        shell_complete=complete("models"),
        metavar="NAME|CARD",
        help=f"Model that reads the answers, of tasks that ask one: openai:MODEL@URL, …{what}",
    )


def split_option(command: F) -> F:
    """Add `--split`."""
    return click.option("--split", metavar="S", help="Split to use instead of the card's.")(command)


def warn(warnings: Iterable[str]) -> None:
    """Print warnings to standard error, one line each; of torchrun's processes, the first does."""
    if not is_main_process():
        return
    for warning in warnings:
        click.echo(printable(f"warning: {warning}"), err=True)
