"""lmms-eval's own run of tasks with given answers; run in its environment, without adem_bench.

Reads {"answers": {task: {document: text}}, "files": {task: path},
"chat": [task, …], "folder": path} as JSON from standard input and
writes, for each task, what was asked and the figures to FOLDER/TASK.json.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import traceback
from argparse import Namespace
from pathlib import Path

from judge_stub import serve

THOUGHTS = '[["<think>", "</think>"], ["<analysis>", "</analysis>"]]'


def shown(visual):
    """Return the digest of an image as a PNG in RGB, or of a file."""
    if isinstance(visual, str):
        return hashlib.sha256(Path(visual).read_bytes()).hexdigest()[:16]
    file = io.BytesIO()
    visual.convert("RGB").save(file, "PNG", compress_level=1)
    return hashlib.sha256(file.getvalue()).hexdigest()[:16]


def model_of(answers, asked, chat):
    """Return a model that gives known answers and notes what it is asked.

    Args:
        answers: Texts by document.
        asked: Questions are added here by document: texts and images, generation settings.
        chat: Whether it takes messages.
    """
    from lmms_eval.api.model import lmms

    class Known(lmms):
        is_simple = not chat

        def generate_until(self, requests):
            for request in requests:
                if chat:
                    _, messages, settings, place, task, split = request.args
                    parts = []
                    for message in messages(self.task_dict[task][split][place]):
                        content = message["content"]
                        if isinstance(content, str):
                            content = [{"type": "text", "text": content}]
                        for part in content:
                            is_text = part["type"] == "text"
                            parts.append(part["text"] if is_text else [shown(part["url"])])
                else:
                    text, settings, visuals, place, task, split = request.args
                    found = visuals(self.task_dict[task][split][place]) or []
                    parts = [*([shown(visual)] for visual in found), text]
                asked[str(place)] = {"parts": parts, "settings": settings}
            return [answers[str(request.doc_id)] for request in requests]

        def loglikelihood(self, requests):
            raise NotImplementedError

        def generate_until_multi_round(self, requests):
            raise NotImplementedError

    return Known()


def own_run(name, file, answers, chat, folder):
    """Return what lmms-eval asks and its figures, from its own evaluation in this process.

    Args:
        name: Of the task.
        file: That defines it: to read those of all tasks takes a quarter of a minute.
        answers: Texts by document.
        chat: Whether the model takes messages.
        folder: Where it may write.
    """
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    asked = {}
    told = Namespace(
        output_path=folder, log_samples=False, process_with_media=False, reasoning_tags=THOUGHTS
    )
    found = simple_evaluate(
        model=model_of(answers, asked, chat),
        tasks=[name],
        task_manager=TaskManager("ERROR", str(Path(file).parent), include_defaults=False),
        batch_size=1,
        bootstrap_iters=0,
        log_samples=False,
        cli_args=told,
        process_docs_parallel=1,  # what draws at random would differ from run to run
        limit=len(answers),
    )
    figures = {
        key: value
        for key, value in found["results"][name].items()
        if "," in key and "_stderr" not in key
    }
    return {"asked": asked, "figures": figures}


def main():
    """Run each task in a process of its own, for they leave things behind."""
    job = json.loads(sys.stdin.read())
    import lmms_eval.evaluator
    import lmms_eval.tasks  # noqa: F401

    os.chdir(job["folder"])
    for name, answers in job["answers"].items():
        place = Path(job["folder"], f"{name}.json")
        child = os.fork()
        if child == 0:
            os.environ |= {"OPENAI_API_URL": serve(), "OPENAI_API_KEY": "judge"}
            try:
                file, chat = job["files"][name], name in job.get("chat", ())
                found = own_run(name, file, answers, chat, job["folder"])
            except BaseException as error:  # noqa: BLE001 - of their code
                traceback.print_exc()
                found = {"error": f"{type(error).__name__}: {error}"}
            place.write_text(json.dumps(found, default=float))
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
