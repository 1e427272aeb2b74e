"""What several verbs share: options, and a group that proposes the nearest command."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from adem_bench.errors import nearest_hint, printable

F = TypeVar("F", bound=Callable[..., Any])


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
        # Options are left to click, which knows how to complain about those.
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            known = self.list_commands(ctx)
            raise click.UsageError(f"unknown command {name!r}{nearest_hint(name, known)}", ctx)
        return super().resolve_command(ctx, args)


def data_root_option(command: F) -> F:
    """Add `--data-root`."""
    return click.option(
        "--data-root",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Folder with data sets and weights/ [default: $ADEM_BENCH_DATA, else ./data].",
    )(command)


def set_option(command: F) -> F:
    """Add `--set`, any number of times, as `overrides`."""
    return _override_option("card, for example options.captions=false")(command)


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


class LoggerNames(click.ParamType[tuple[str, ...]]):
    """Names of loggers, comma-separated, or `none`; each installed."""

    name = "A,B|none"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the names, each once.

        Raises:
            AdemBenchError: there is no such logger, or its package is not installed.
        """
        from adem_bench.loggers.chosen import NONE, check_loggers

        names = tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
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
        help="Where figures go besides the files: tensorboard, wandb, mlflow.",
    )


def split_option(command: F) -> F:
    """Add `--split`."""
    return click.option("--split", metavar="S", help="Split to use instead of the card's.")(command)


def complain(warnings: Iterable[str]) -> None:
    """Print warnings to standard error, one line each."""
    for warning in warnings:
        click.echo(printable(f"warning: {warning}"), err=True)
