"""Make tests/fixtures/lmms_eval: what lmms-eval asks and finds, and what our processes read of it.

    python tools/lmms_eval_goldens.py tests/fixtures/lmms_eval --harness-python …/bin/python

For a task of each of some kinds: rows, answers made up here, the questions and figures of the
evaluation of lmms-eval 0.7.3 itself, and the samples and scores that the processes of
`lmms_eval:NAME` hand over.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from adem_bench.tasks.base import build_task
from adem_bench.tasks.harnesses import PYTHON_VARIABLE, task
from adem_bench.tasks.harnesses.catalogue import catalogue
from adem_bench.tasks.harnesses.process import LMMS_EVAL, find

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from bridges import lmms_eval_rows  # noqa: E402
from bridges.harness_jobs import Server  # noqa: E402

NAMES = ("ai2d", "pope", "textvqa_val", "chartqa")
"""Multiple choice, yes/no, short answers of several people, numbers."""


def main() -> None:
    """Write a file for each task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--harness-python", help="interpreter of an environment that has it")
    given = parser.parse_args()
    if given.harness_python:
        os.environ[PYTHON_VARIABLE] = f"lmms_eval={given.harness_python}"
    given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        os.environ |= {
            "HF_DATASETS_CACHE": str(place / "kept"),
            "ADEM_BENCH_CACHE": str(place / "cache"),
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
        }
        own = _own_runs(place)
        server = Server(LMMS_EVAL)
        for one in NAMES:
            found = {**_ours(one, place, server), "own": own[one]}
            file = given.folder / f"{one}.json"
            file.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        server.close()


def _own_runs(place: Path) -> dict[str, Any]:
    """Return what lmms-eval's own evaluation asks and finds, by task."""
    python, scripts = find(LMMS_EVAL).python, TESTS / "bridges"
    lmms_eval_rows.write_requests(place / "rows.json")
    kept = [place / "rows.json", place / "kept"]
    subprocess.run([python, scripts / "hub_cache.py", *kept], check=True)
    answers = {name: dict(enumerate(_answers(name))) for name in NAMES}
    files = {name: catalogue(LMMS_EVAL)[name].file for name in NAMES}
    job = {"answers": answers, "files": files, "folder": str(place)}
    script = [python, scripts / "own_lmms_eval.py"]
    subprocess.run(script, check=True, input=json.dumps(job).encode())
    return {name: json.loads((place / f"{name}.json").read_text()) for name in NAMES}


def _answers(name: str) -> list[str]:
    return lmms_eval_rows.answers(name, lmms_eval_rows.ROWS)


def _ours(name: str, place: Path, server: Server) -> dict[str, Any]:
    """Return what the processes of a task hand over.

    Args:
        name: Of the task.
        place: For its files.
        server: Does the jobs.
    """
    said: dict[str, Any] = {}

    def run_job(harness: Any, job: Any, *rest: Any) -> Any:
        said[job["do"]] = server.run_job(harness, job, *rest)
        return said[job["do"]]

    task.run_job = run_job
    made = build_task(f"lmms_eval:{name}", None)
    rows = list(made.rows())
    for row in rows:
        row["images"] = [Path(image).name for image in row["images"]]
        for part in row["parts"]:
            part |= {"image": Path(part["image"]).name} if "image" in part else {}
    answers = _answers(name)
    lines = (
        json.dumps({"id": row["id"], "response": text}) + "\n"
        for row, text in zip(rows, answers, strict=True)
    )
    (place / "predictions.jsonl").write_text("".join(lines))
    answered = made.import_predictions(place / "predictions.jsonl")
    made.score_set(answered, place / "scoring" / name)
    built = {
        key: said["build"][key] for key in ("count", "digest", "version", "type", "generation")
    }
    return {"rows": rows, "answers": answers, "built": built, "scored": said["score"]}


if __name__ == "__main__":
    sys.exit(main())
