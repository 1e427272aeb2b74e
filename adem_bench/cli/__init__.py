"""The command line: one module per verb, imported only when the verb is called.

Exit codes: 0 done, 1 done with more failed samples than allowed, 2 the user's mistake,
3 interrupted and resumable, 4 a gate that did not pass (`compare --fail-if-worse`), 70 our bug.
"""

from __future__ import annotations

import atexit
import io
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import click

from adem_bench import __version__
from adem_bench.cli.options import HintingGroup, with_include_option
from adem_bench.errors import AdemBenchError, SeveralErrors, explain_system, printable
from adem_bench.launcher import LAUNCHED, is_main_process
from adem_bench.memory_limit import tried_under_limit
from adem_bench.signals import end_at_next, interrupting

USER_MISTAKE, INTERRUPTED, OUR_BUG = 2, 3, 70
FIRST_PROCESS_S, SHORT_S = 60.0, 5.0
"""Head start of the first process where several report an error: one may be far ahead of another.
It is short without torchrun, which would end the others, and where this process was interrupted."""

LONGEST = 10_000
"""Characters of an error; twice what a path may have."""
PYDANTIC_VARIABLE = "PYDANTIC_DISABLE_PLUGINS"
FIRST_WORDS = {"Invalid", "Missing", "No", "Got", "Option", "Argument"}
"""With which click's own sentences begin."""

VERBS = {
    "run": ("adem_bench.cli.run:run", "Evaluate a model on tasks."),
    "score": ("adem_bench.cli.score:score", "Score predictions that other code made."),
    "train": ("adem_bench.cli.train:train", "Train an adapter with a recipe."),
    "leaderboard": ("adem_bench.cli.leaderboard:leaderboard", "Tabulate every finished run."),
    "compare": (
        "adem_bench.cli.compare:compare",
        "Test whether two models or runs differ.",
    ),
    "report": ("adem_bench.cli.report:report", "Make one page of runs: figures, plots, samples."),
    "view": ("adem_bench.cli.view:view", "Serve the pages of a results folder, as it grows."),
    "rerun": ("adem_bench.cli.rerun:rerun", "Repeat a run and show where the two differ."),
    "validate": (
        "adem_bench.cli.validate:validate",
        "Check run folders for missing or edited parts.",
    ),
    "ask": ("adem_bench.cli.ask:ask", "Ask a model one question about images."),
    "demo": ("adem_bench.cli.demo:demo", "Open a page to try a model by hand."),
    "models": ("adem_bench.cli.models:models", "List models, show one, or fetch its adapters."),
    "tasks": ("adem_bench.cli.tasks:tasks", "List tasks or show one."),
    "recipes": ("adem_bench.cli.recipes:recipes", "List training recipes or explain one."),
    "convert": ("adem_bench.cli.convert:convert", "Convert weights from one layout to the other."),
    "data": ("adem_bench.cli.data:data", "Show which data is on disk, fetch it, check it."),
}
"""Each verb's `module:command` and its line in `--help`, which must cost no import."""


class LazyGroup(HintingGroup):
    """A group whose commands are named in `VERBS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of the table."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a verb's command; None for an unknown verb."""
        if cmd_name not in VERBS:
            return None
        module, _, attribute = VERBS[cmd_name][0].partition(":")
        return with_include_option(getattr(import_module(module), attribute))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs' lines out of the table instead of out of the commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, line) for verb, (_, line) in VERBS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog='Tab completes commands and names after eval "$(_ADEM_BENCH_COMPLETE=bash_source '
    'adem-bench)" (zsh_source in zsh, fish_source in fish).',
)
@click.version_option(__version__, prog_name="adem-bench", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks of errors.")
def group() -> None:
    """Evaluate vision-language models on ScienceQA, COCO captions, MME and other benchmarks."""


with_include_option(group)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line, print any error as one line, and exit with its code.

    Args:
        arguments: What follows the program's name; None means `sys.argv`.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Taken out here so that it may also stand after the verb, where people add it.
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A title with an accent must not end a run on an ASCII terminal.
            stream.reconfigure(errors="replace")
    code = _run(given, debug)
    try:
        sys.stdout.flush()
    except OSError:  # Python would try again as it ends, and complain; an error has been told
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
        code = code or USER_MISTAKE
    sys.exit(code)


def _open_closed_streams() -> None:
    """Give what is said nowhere (`>&-`) a place, lest it go to the next file that is opened."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115


def _run(arguments: list[str], debug: bool) -> int:
    try:
        with interrupting(), tried_under_limit(), without_plugins_of_pydantic():
            code = _called(arguments)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return USER_MISTAKE
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last stop: each a line
        interrupted = isinstance(error, click.Abort | KeyboardInterrupt)
        if interrupted:
            atexit.register(end_at_next)  # before what libraries have to do at the end
        explained = [
            _explain(each)
            for each in (error.errors if isinstance(error, SeveralErrors) else [error])
        ]
        if not is_main_process():
            # All of torchrun's processes make the same mistake; it ends the others once one has
            # failed. Who is still there after the wait failed alone, and says so.
            are_ended = LAUNCHED in os.environ
            time.sleep(FIRST_PROCESS_S if are_ended and not interrupted else SHORT_S)
        if debug:
            traceback.print_exception(error)
        for line, _ in explained:
            click.echo(printable(_shortened(line)), err=True)
        return explained[0][1]
    return code if isinstance(code, int) else 0


def _called(arguments: list[str]) -> object:
    try:
        return group.main(arguments, prog_name="adem-bench", standalone_mode=False)
    except click.Abort as abort:
        if isinstance(abort.__cause__, EOFError):  # nobody's wish to stop
            raise abort.__cause__ from None
        raise


@contextmanager
def without_plugins_of_pydantic() -> Iterator[None]:
    """Keep pydantic from asking every installed package for plug-ins, a tenth of a listing's time.

    A user's own setting stays.
    """
    is_set = PYDANTIC_VARIABLE in os.environ
    os.environ.setdefault(PYDANTIC_VARIABLE, "__all__")
    try:
        yield
    finally:
        if not is_set:
            os.environ.pop(PYDANTIC_VARIABLE, None)


def _shortened(line: str) -> str:
    """Return a line without its middle if it repeats a value that nobody could read."""
    if len(line) <= LONGEST:
        return line
    half = LONGEST // 2
    return f"{line[:half]}… ({len(line) - LONGEST:,} characters left out) …{line[-half:]}"


def _explain(error: Exception | KeyboardInterrupt) -> tuple[str, int]:
    """Return the line and the exit code of an error."""
    if isinstance(error, click.Abort | KeyboardInterrupt):
        cause = error.__cause__ if isinstance(error, click.Abort) else error
        signal = f" by {cause}" if isinstance(cause, KeyboardInterrupt) and str(cause) else ""
        # Ours say more; click's own are empty.
        said = str(error) if isinstance(error, click.Abort) else ""
        line = said or "interrupted: the same command resumes where it stopped"
        return line.replace("interrupted", f"interrupted{signal}", 1), INTERRUPTED
    if isinstance(error, AdemBenchError):
        return f"error: {error}", error.exit_code
    if isinstance(error, click.UsageError):
        message = _begun_small(error.format_message().removesuffix("."))
        path = error.ctx.command_path if error.ctx else "adem-bench"
        return f"error: {message}; see `{path} --help`", USER_MISTAKE
    if isinstance(error, click.ClickException):
        return f"error: {error.format_message()}", USER_MISTAKE
    system = explain_system(error)
    if system:
        return f"error: {system}", USER_MISTAKE
    plugin = _plugin_of(error)
    if plugin:
        line = f"error: plug-in {plugin} failed: {type(error).__name__}: {error}"
        return f"{line}; the same command with --debug shows the traceback", USER_MISTAKE
    return (
        f"error: {type(error).__name__}: {error}; this is our bug, please report it; "
        "the same command with --debug shows the traceback",
        OUR_BUG,
    )


def _begun_small(message: str) -> str:
    """Return a sentence as it goes on after `error:`; ours may begin with a name of the user's."""
    first = message.partition(" ")[0]
    return message.replace(first, first.lower(), 1) if first in FIRST_WORDS else message


def _plugin_of(error: BaseException) -> str | None:
    """Return the plug-in in whose code an error was raised, if in any."""
    from adem_bench.registry import MODEL_KINDS, TASK_KINDS

    foreign = MODEL_KINDS.foreign() | TASK_KINDS.foreign()
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = [(f.f_globals.get("__name__", ""), f.f_code.co_filename) for f in frames]
    found = [place for pair in names for place in pair if place in foreign]
    return found[-1] if found else None
