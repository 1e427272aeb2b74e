from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import click
import pytest

import adem_bench.cli as adem_bench_cli
from adem_bench import __version__
from adem_bench.cli import VERBS, group
from adem_bench.errors import DataError, printable


@pytest.fixture
def failing(monkeypatch):
    """Makes `adem-bench tasks` raise a given exception."""

    def arrange(error):
        @click.command()
        def broken():
            raise error

        monkeypatch.setattr(
            adem_bench_cli.LazyGroup, "get_command", lambda self, context, name: broken
        )

    return arrange


def test_help_lists_every_verb_and_the_version_is_printed(adem_bench):
    shown = adem_bench("--help")
    assert shown.code == 0
    assert [verb for verb in VERBS if f"\n  {verb} " in shown.out] == list(VERBS)
    assert adem_bench("--version").out == f"adem-bench {__version__}\n"


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "run"])
def test_every_verb_of_the_table_is_there_and_has_help(adem_bench, verb):
    assert isinstance(group.get_command(click.Context(group), verb), click.Command)
    assert f"Usage: adem-bench {verb}" in adem_bench(verb, "--help").out


def test_no_command_shows_the_help_as_a_mistake(adem_bench):
    shown = adem_bench()
    assert shown.code == 2
    assert shown.err.startswith("Usage: adem-bench")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("leaderbord",),
            "error: unknown command 'leaderbord'; did you mean: leaderboard?; "
            "see `adem-bench --help`\n",
        ),
        (
            ("models", "shw", "adem-7b"),
            "error: unknown command 'shw'; did you mean: show?; see `adem-bench models --help`\n",
        ),
        (
            ("models", "show", "adem-7"),
            "error: unknown model 'adem-7'; did you mean: adem-7b, adem-13b, adem?\n",
        ),
        (
            ("score", "--task", "sqa"),
            "error: name a run folder, or --task and --predictions (--predictions missing); see "
            "`adem-bench score --help`\n",
        ),
        (
            ("data", "mini", "--output", "d", "--splits", "tset"),
            "error: unknown split 'tset'; did you mean: test?; see `adem-bench data mini --help`\n",
        ),
        (
            ("leaderboard", "nowhere"),
            "error: nowhere is not a folder with results; `adem-bench run` makes one, "
            "or name another one\n",
        ),
    ],
)
def test_a_users_mistake_is_one_line_with_the_remedy_and_exit_code_2(
    adem_bench, arguments, message
):
    shown = adem_bench(*arguments)
    assert (shown.code, shown.out) == (2, "")
    if "models show" in " ".join(arguments):
        # The packaged cards may grow: the nearest one is what matters.
        assert shown.err.startswith("error: unknown model 'adem-7'; did you mean: adem-7b")
    else:
        assert shown.err == message


def test_a_misspelt_option_proposes_the_right_one(adem_bench):
    shown = adem_bench("leaderboard", "--publish")
    assert shown.code == 2
    assert "--published" in shown.err
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError("no\nproblems.json"), 2, "error: no problems.json"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/r/samples.jsonl"),
            2,
            "error: no space left on the disk at /r/samples.jsonl; free some and run the same "
            "command again: what was already written is kept",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/r"),
            2,
            "error: permission denied at /r; check its permissions",
        ),
        # Of a module that Python compiled on a full disk. click takes it for a wish to stop.
        (
            EOFError("marshal data too short"),
            2,
            "error: Python has kept a module half compiled, as on a full disk; delete the folders "
            f"__pycache__ below {sys.prefix}",
        ),
        (
            EOFError("x"),
            70,
            "error: EOFError: x; this is our bug, please report it; the same command with "
            "--debug shows the traceback",
        ),
        (click.Abort(), 3, "interrupted: the same command resumes where it stopped"),
        (KeyboardInterrupt(), 3, "interrupted: the same command resumes where it stopped"),
        (
            KeyError("x"),
            70,
            "error: KeyError: 'x'; this is our bug, please report it; the same command with "
            "--debug shows the traceback",
        ),
    ],
)
def test_each_kind_of_error_has_its_exit_code_and_one_line(adem_bench, failing, error, code, line):
    failing(error)
    shown = adem_bench("tasks")
    assert (shown.code, shown.err.strip()) == (code, line)
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("arguments", [("--debug", "tasks"), ("tasks", "--debug")])
def test_debug_shows_the_traceback_wherever_it_stands(adem_bench, failing, arguments):
    failing(DataError("no data"))
    shown = adem_bench(*arguments)
    assert shown.code == 2
    assert "Traceback" in shown.err
    assert shown.err.endswith("error: no data\n")


def test_a_verbs_exit_code_is_the_programs(adem_bench, monkeypatch):
    @click.command()
    def some_failed():
        click.get_current_context().exit(1)

    monkeypatch.setattr(
        adem_bench_cli.LazyGroup, "get_command", lambda self, context, name: some_failed
    )
    assert adem_bench("run").code == 1


def test_escape_sequences_in_an_error_are_shown_instead_of_obeyed(adem_bench, failing):
    failing(DataError("bad row \x1b]0;owned\x07 \u202etxt"))
    shown = adem_bench("tasks")
    assert shown.err == "error: bad row \\x1b]0;owned\\x07 \\u202etxt\n"
    assert printable("Ünï ✓\n\tok") == "Ünï ✓ ok"


@pytest.mark.parametrize("again", [False, True])
def test_ctrl_c_in_a_real_process_exits_3(again):
    code = (
        "import atexit, click, signal, sys, time, adem_bench.cli as c\n"
        "def end():\n"
        "    if 'again' in sys.argv: print('ending', flush=True); time.sleep(60)\n"
        "atexit.register(end)\n"
        # Whoever starts the tests in the background may have told them to ignore it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "@click.command()\n"
        "def slow():\n"
        "    print('ready', flush=True); time.sleep(60)\n"
        "c.LazyGroup.get_command = lambda *a: slow\n"
        "c.main(['run'])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *["again"] * again],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    if again:
        assert process.stdout.readline() == "ending\n"
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == (-signal.SIGINT if again else 3)
    assert err.strip() == "interrupted: the same command resumes where it stopped"


def test_an_ascii_terminal_does_not_end_a_listing(tmp_path):
    (tmp_path / "models").mkdir()
    card = "title: Modèle ✓\nlanguage_model: {path: x}\n"
    (tmp_path / "models" / "mine.yaml").write_text(card, encoding="utf-8")
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "ADEM_BENCH_INCLUDE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "adem_bench", "models"],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0
    assert "Mod?le ?" in done.stdout


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams_do_not_end_a_command(tmp_path, closed):
    command = f"exec {sys.executable} -m adem_bench leaderboard runs {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "2>&-" in closed or done.stderr.startswith("error: ")


@pytest.mark.parametrize("arguments", ["--help", "tasks", "models show adem-7b"])
def test_an_output_on_a_full_disk_is_told_once(arguments):
    command = f"exec {sys.executable} -m adem_bench {arguments} > /dev/full"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no space left on the disk")
    assert done.stderr.count("\n") == 1


def test_of_several_processes_the_first_one_reports_before_the_others(
    adem_bench, failing, monkeypatch
):
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    shared = {"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "2"}
    for name, value in {**shared, "MASTER_ADDR": "h", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    failing(DataError("gone"))
    for rank, expected in (("0", []), ("1", [60.0])):
        monkeypatch.setenv("RANK", rank)
        assert adem_bench("tasks").err == "error: gone\n"
        assert waits == expected
    # Whoever is ended is killed before long.
    failing(KeyboardInterrupt())
    assert adem_bench("tasks").code == 3
    assert waits == [60.0, 5.0]


def test_a_message_that_begins_with_a_name_of_the_users_leaves_it_as_it_is(
    adem_bench, failing, tmp_path
):
    shown = adem_bench("run", "--config", "Suite.yaml")
    assert shown.err.startswith("error: invalid value for '--config': ")
    failing(click.UsageError("Suite.yaml says it twice."))
    assert (
        adem_bench("tasks").err
        == "error: Suite.yaml says it twice; see `adem-bench tasks --help`\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("leaderboard", ""), "the path is empty"),
        (("leaderboard", ".", "--output", ""), "'--output': the path is empty"),
        (("report", ".", "--output", ""), "'--output': the path is empty"),
        (("run", "--model", "majority", "--tasks", "mini_mme", "--results", ""), "path is empty"),
        (("run", "--model", "majority", "--tasks", "mini_mme", "--data-root", ""), "path is empty"),
        (("train", "--recipe", "mini", "--output", ""), "'--output': the path is empty"),
        (("data", "mini", "--output", ""), "'--output': the path is empty"),
        (("convert", "adapter", "a.pth", ""), "'TARGET': the path is empty"),
        (("compare", ""), "a name is empty; expected a folder of runs, or a model's name"),
        (("compare", "a", " "), "a name is empty"),
        (("run", "--model", "", "--tasks", "mini_mme"), "the model's name is empty"),
        (
            ("run", "--model", "majority", "--tasks", "mini_mme", "--set", "task.foo=1"),
            "error: --set task.foo=1: unknown field 'foo'",
        ),
        (
            ("run", "--model", "majority", "--tasks", "mini_mme", "--set", "mini_mme.foo=1"),
            "error: --set mini_mme.foo=1: unknown field 'foo'",
        ),
        (
            ("score", "--task", "mini_mme", "--predictions", ".", "--set", "task.foo=1"),
            "an option is written options.foo=…",
        ),
    ],
)
def test_empty_names_and_misplaced_settings_are_named_as_they_were_typed(
    adem_bench, arguments, message
):
    shown = adem_bench(*arguments)
    assert (shown.code, message in shown.err, shown.err.count("\n")) == (2, True, 1), shown.err


def test_a_model_kind_without_a_source_and_a_task_without_samples_are_mistakes(
    adem_bench, tmp_path
):
    shown = adem_bench("run", "--model", "constant:", "--tasks", "sqa")
    assert shown.err.startswith("error: constant: names no source; expected constant:SOURCE")
    header = "index\timage\tquestion\tA\tB\tanswer\n"
    (tmp_path / "empty.tsv").write_text(header)
    card = (
        "kind: tsv_multiple_choice\nsplit: test\nheadline: accuracy\noptions: {file: empty.tsv}\n"
    )
    (tmp_path / "empty.yaml").write_text(card)
    shown = adem_bench("run", "--model", "constant:A", "--tasks", "empty.yaml")
    assert (shown.code, shown.out) == (2, "")
    assert "its data has no sample in split test" in shown.err
    assert not list(tmp_path.rglob("metrics.json"))


@pytest.mark.parametrize("verb", ["leaderboard", "report", "validate"])
def test_a_value_that_nobody_could_read_is_not_repeated_whole(adem_bench, verb):
    shown = adem_bench(verb, "x" * 300_000)
    assert shown.code == 2
    assert shown.err.startswith("error: ")
    assert shown.err.count("x… (") == shown.err.count(" characters left out) …x") == 1
    assert len(shown.err) < 10_100
