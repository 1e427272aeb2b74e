"""Runs of two processes that ask a server, and are killed in the middle of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from support.chat_server import Script, Step, said
from support.processes import DEADLINE_S, Done, several

ANSWERED = 3
"""Questions that are answered before the kill."""


def prompt(asked: Mapping) -> str:
    """Return the text of the last message that a server got."""
    content = asked["messages"][-1]["content"]
    if isinstance(content, str):
        return content
    return next(part["text"] for part in content if part["type"] == "text")


def killed_and_resumed(
    count: int,
    command: list[object],
    server: Script,
    answer: Callable[[str], str],
    written: Callable[[], int],
    output: Path,
    environment: Mapping[str, str],
) -> list[Done]:
    """Kill processes with SIGKILL once some questions are answered, and start them again.

    Args:
        count: Of the processes that share the run.
        command: What `python` runs; it asks the server one question at a time.
        server: Says nothing any more after the first questions, until the kill.
        answer: To a prompt.
        written: How many answers are on disk.
        output: Beside it is what the processes print.
        environment: Of the processes.

    Returns:
        How those ended that were started again; nothing that was on disk was asked again.
    """

    def first_ones(asked):
        is_answered = len(server.asked) <= ANSWERED
        return Step(said(answer(prompt(asked))), silent=not is_answered)

    server.last = first_ones
    killed = several(count, command, output, environment)
    deadline = time.monotonic() + DEADLINE_S
    while written() < ANSWERED:
        assert time.monotonic() < deadline, "no answers appeared"
        assert all(process.poll() is None for process in killed), killed[0].wait()
        time.sleep(0.01)
    for process in killed:
        process.kill()
    assert written() == ANSWERED
    at = len(server.asked)
    server.last = lambda asked: Step(said(answer(prompt(asked))))
    done = [process.wait() for process in several(count, command, output, environment)]
    # Prompts of several samples may be alike: they are counted, not compared.
    assert len(server.asked) - at == written() - ANSWERED, "an answer was asked for again"
    return done
