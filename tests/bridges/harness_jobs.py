"""Jobs of a harness that is imported once: by `harness_server.py`, in its environment."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from typing import Any

from adem_bench.errors import DataError
from adem_bench.tasks.harnesses import process, task
from adem_bench.tasks.harnesses.judging import JudgeServer
from adem_bench.tasks.harnesses.process import Harness

TIME_LIMIT = 120.0
"""Seconds for one job."""
IMPORTED = {
    "vlmevalkit": (
        *("vlmeval.dataset", "vlmeval.smp.status_report", "openpyxl", "sklearn.metrics"),
        "vlmeval.dataset.utils.multiple_choice",
    ),
    "lmms_eval": ("lmms_eval.tasks", "lmms_eval.api.instance", "lmms_eval.api.reasoning"),
}
"""What each job would import for itself otherwise."""


class Server:
    """A process that has imported a harness, and forks for each job."""

    def __init__(self, harness: Harness) -> None:
        """Start it; it is ready when this returns."""
        package = Path(task.__file__).parent
        script = Path(__file__).with_name("harness_server.py")
        modules = IMPORTED[harness.kind]
        self._process = subprocess.Popen(
            [process.python_of(harness), str(script), str(package), harness.kind, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": "0"},  # a process's own, as jobs have it
        )
        self._ask("")

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def _answer(self, order: dict[str, Any], judge: JudgeServer | None) -> dict[str, Any]:
        if judge is None:
            return self._ask(json.dumps(order) + "\n")
        found: list[dict[str, Any]] = []
        with judge.listening() as socket:
            job = {**order["job"], "judge": socket, "judge_at_once": judge.at_once}
            line = json.dumps({**order, "job": job}) + "\n"
            waiting = Thread(target=lambda: found.append(self._ask(line)), daemon=True)
            waiting.start()
            while waiting.is_alive():
                judge.answer(process.JUDGE_PATIENCE_S)
        return found[0]

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def run_job(
        self,
        harness: Harness,
        job: Mapping[str, Any],
        log: Path,
        time_limit: float,
        doing: str,
        judge: JudgeServer | None = None,
    ) -> Any:
        """Run one job as `process.run_job` does.

        Args:
            harness: Whose.
            job: As there.
            log: What the harness prints is added there.
            time_limit: Seconds; never more than `TIME_LIMIT`.
            doing: For messages.
            judge: Answers what the job asks models on servers.

        Raises:
            DataError: the harness failed; its words are in the message.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = process.environment(job)
        changed = {name: value for name, value in environment.items() if name not in os.environ}
        changed["TMPDIR"] = environment.get("TMPDIR", tempfile.gettempdir())
        limit = min(time_limit, TIME_LIMIT)
        order = {"job": job, "log": str(log), "time_limit": limit, "environment": changed}
        answer = self._answer(order, judge)
        if "result" not in answer:
            raise DataError(f"{doing}: {answer.get('error', f'no answer in {limit:g} seconds')}")
        return answer["result"]
