"""Run lmms-eval's tasks on miniatures: rows in the columns that their code reads.

Runs in lmms-eval's environment, with the standard library and the workers alone:

    python lmms_eval_miniatures.py ADEM_BENCH/tasks/harnesses FOLDER < JOBS > OUTCOMES

A job is a line {"name", "file", "messages", "judge", "seconds", "taken"}; an outcome one with
figures or an error. The columns are those that a task's functions name (`lmms_eval_columns.py`). In
them is what the code compares them with, and what data sets hold in columns of such names; where
code refuses a value, others are tried, until questions, images, scores and figures come of it. Then
the workers that `adem-bench run` uses build and score the task. Tasks of one folder begin with what
one of them took.
"""

from __future__ import annotations

import base64
import copy
import functools
import importlib
import inspect
import io
import itertools
import json
import os
import re
import signal
import socketserver
import sys
import tempfile
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

from harness_server import read_until
from lmms_eval_columns import columns_of, functions_of, source_of, values_of
from lmms_eval_given import GIVEN, PATH, PICTURE

ROWS, SLOW, LIMIT = 4, 3.0, 300
SURE = 3
"""Columns that are tried before one is taken that only changes the error."""
SHORT = 1.0
"""Seconds for a task of a folder whose others have failed."""
HEAVY = ("openai", "aiohttp", "math_verify", "latex2sympy2", "pandas", "scipy.stats", "cv2")
"""What many tasks import, which is imported once."""
JUDGE = "(judge)"
"""The answer of the judge, which is found as a column's values are."""
COLOURS = ("red", "blue", "green", "white")
ANSWERS = ("A", "B", "yes", "no")


@functools.cache
def picture(row):
    from PIL import Image

    return Image.new("RGB", (64, 48), COLOURS[row % 4])


@functools.cache
def written(row):
    """Return a picture as a PNG file's bytes."""
    file = io.BytesIO()
    picture(row).save(file, "PNG")
    return file.getvalue()


def stored(row):
    """Return the path of a picture on disk."""
    path = Path(f"picture-{row % 4}.png").absolute()
    if not path.exists():
        path.write_bytes(written(row))
    return str(path)


def encoded(row):
    return base64.b64encode(written(row)).decode()


def same(value):
    return lambda row: value


def by_turns(*values):
    return lambda row: values[row % len(values)]


OPTIONS = list(COLOURS)
LETTERED = dict(zip("ABCD", OPTIONS))  # noqa: B905
NUMBERS = [4.0, 6.0, 30.0, 40.0]
SHARES = [0.1, 0.1, 0.5, 0.5]
TEXTS = (
    by_turns("What is in <image 1> <图片 1>?", "Is it red, <image 1> <图片 1>?"),
    int,
    lambda row: [f"text {row}", "red"],
    same('["red", "blue"]'),
    same({"A": "red", "B": "blue"}),
    same(None),
    by_turns("1", "2"),
    same([{"role": "user", "content": "What is it?"}]),
    same([{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "red"}]),
    same("{}"),
    same([]),
)
IMAGES = (
    picture,
    lambda row: [picture(row), picture(row + 1)],
    stored,
    lambda row: [stored(row)],
    encoded,
    lambda row: [encoded(row)],
    lambda row: {"bytes": written(row), "path": None},
    written,
    lambda row: [{"bytes": written(row), "path": None}],
    lambda row: f"data:image/png;base64,{encoded(row)}",
    lambda row: json.dumps([stored(row)]),
    lambda row: [{"image": picture(row)}],
    lambda row: [[picture(row)], [picture(row)]],
)
KEPT = (
    by_turns("A", "B"),
    by_turns("yes", "no"),
    by_turns(0, 1),
    by_turns(["yes"], ["no"]),
    by_turns("(A)", "(B)"),
    by_turns("1", "2"),
    by_turns("['yes']", "['no']"),
    same([{"answer": "yes", "answer_confidence": "yes", "answer_id": 1}]),
    by_turns(["a red square on the left", "red"], ["two blue circles", "blue"]),
    same(SHARES),
    same(NUMBERS),
    same("[0.1, 0.1, 0.5, 0.5]"),
    by_turns(1.5, 2.0),
    by_turns(True, False),
    same([[0, 1], [1, 0]]),
    same("[[0, 1], [1, 0]]"),
    same({"text": "red", "answer": "red"}),
    same('{"answer": "red"}'),
    same('["A", "B"]'),
    same([["yes"], ["no"]]),
    same([1, 0]),
    same([]),
    same([{"text": "red", "answer": "red", "bbox": NUMBERS, "label": "red", "id": 1}]),
    same(None),
)
LISTS = (
    same(OPTIONS),
    same(repr(OPTIONS)),
    same(json.dumps(OPTIONS)),
    same("A. red\nB. blue\nC. green\nD. white"),
    same([f"{letter}. {text}" for letter, text in LETTERED.items()]),
    same(LETTERED),
    same({"label": list("ABCD"), "text": OPTIONS}),
    same(json.dumps(LETTERED)),
    same([{"label": letter, "text": text} for letter, text in LETTERED.items()]),
    same([{"key": letter, "value": text} for letter, text in LETTERED.items()]),
    same("red, blue, green, white"),
    lambda row: [picture(place) for place in range(4)],
    same(None),
)
BOXES = (
    same(NUMBERS),
    same(SHARES),
    same([NUMBERS]),
    same(repr(SHARES)),
    same([SHARES]),
    same({"x": 1.0, "y": 2.0, "w": 3.0, "h": 4.0}),
    same([[4.0, 6.0], [30.0, 40.0]]),
    same([[[4.0, 6.0], [30.0, 6.0], [30.0, 40.0]]]),
    same(json.dumps(NUMBERS)),
    same(json.dumps([NUMBERS])),
    same([0.5, 0.5]),
    same("<box>(1,2),(3,4)</box>"),
    same({"bbox": NUMBERS, "label": "red"}),
)
PLACES = (
    int,
    str,
    lambda row: f"validation_Art_{row + 1}",
    lambda row: f"{row:012}.jpg",
    lambda row: f"test_{row}",
    lambda row: f"{row // 2}_{row % 2}",
    lambda row: f"mini/{row // 2}.png",
    lambda row: f"a_b_c_{row}_1",
)
SIZES = (
    by_turns(64, 48),
    by_turns("64", "48"),
    by_turns([64, 48], [48, 64]),
    by_turns(1, 2),
    by_turns(0, 1),
    by_turns("1", "2"),
)
KINDS = (
    (re.compile(r"bbox|box|polygon|segment|coord|point|region", re.I), BOXES + KEPT),
    (re.compile(r"width|height|size|num|count|level|year|grade|score|turn", re.I), SIZES),
    (re.compile(r"^[A-H]$"), (by_turns("red", "blue"), *LISTS, *KEPT)),
    (re.compile(r"option|choice|candidate", re.I), LISTS + KEPT),
    (re.compile(r"answer|label|target|gt|ground|solution|caption|reference|correct|sentence", re.I),
     KEPT + LISTS + BOXES),
    (re.compile(r"(^|_)(id|idx|index|qid|uid|pid|key)$|Id$|^id|_id_", re.I), PLACES),
    (re.compile(r"image|img|picture|visual|photo|mask|figure|screenshot|frame", re.I), IMAGES),
)  # fmt: skip
CAPTIONS = re.compile(r"COCOEvalCap|Cider\(|Bleu\(|PTBTokenizer")
"""Code that scores captions."""
LETTER = re.compile(r"(\d|_[a-jA-J]|[a-z][A-J])$")
"""The end of the name of one option."""
JUDGED = (
    "1",
    "yes",
    "A",
    '{"score": 1, "correct": true, "answer": "A", "reason": "so"}',
    "8 7\nBoth are good.",
    "[[A]]",
    "Rating: [[5]]",
    "Score: 5",
    "Correct",
    "0.5",
    '[{"score": 1}]',
)


def first_values(column, known, source):
    """Return what may be in a column, the likeliest first.

    Args:
        column: Its name.
        known: What the task's code compares it with.
        source: Of the task's functions.
    """
    if column == JUDGE:
        return [same(text) for text in JUDGED]
    words = [value for value in known if isinstance(value, str)]
    numbers = [value for value in known if not isinstance(value, str)]
    compared = [by_turns(*values[:ROWS]) for values in (words, numbers) if len(values) > 1]
    compared += [same(value) for value in known]
    for pattern, makers in KINDS:
        if pattern.search(column):
            if makers[:1] == LISTS[:1] and LETTER.search(column):
                makers = (by_turns("red", "blue"), *makers)
            others = IMAGES if makers is not IMAGES else ()
            if makers is IMAGES and re.search(r"path|name|file|url|type|id$", column):
                makers = (stored, *PLACES[2:], *IMAGES)
            if makers is PLACES and "extract_subset_name" in source:
                makers = (PLACES[2], *PLACES)
            if makers[:1] == KEPT[:1] and CAPTIONS.search(source):
                makers = (KEPT[8], *makers)
            return [*compared, *makers, *TEXTS, *others]
    return [*compared, *TEXTS, *KEPT, *LISTS, *PLACES, *BOXES, *SIZES, *IMAGES]


def sign_of(maker):
    """Return what tells a maker from others, also those of another task."""
    return re.sub(r"<PIL[^>]*>|/[^'\"]*/", "", repr([maker(0), maker(1)]))[:200]


def filled(value, row):
    """Return a given value with a picture, or the path of one, in its place."""
    if isinstance(value, dict):
        return {name: filled(one, row) for name, one in value.items()}
    if isinstance(value, list):
        return [filled(one, row) for one in value]
    return stored(row) if value == PATH else picture(row) if value == PICTURE else value


def given(values):
    """Return what makes a row's value of those given for its column."""
    return lambda row: filled(values[row % len(values)], row)


class Miniature:
    """Rows of one task, in columns that are found."""

    def __init__(self, job, begin):
        """Read the task's code.

        Args:
            job: Its name and file.
            begin: What a task of the same folder took: by column a place and a maker's sign.
        """
        from lmms_eval import utils

        self.job = job
        self.config = utils.load_yaml_config(job["file"], mode="full")
        functions = functions_of(self.config)
        self.known = values_of(self.config, functions)
        self.source = "\n".join(map(source_of, functions))
        self.given = GIVEN.get(Path(job["file"]).parent.name, {})
        names = [*self.given, *columns_of(self.config, functions), *begin]
        if job.get("judge", "no") != "no":
            names.append(JUDGE)
        self.columns = dict.fromkeys(names, 0)
        self.makers = {}
        for column, (place, sign) in begin.items():
            self.maker(column)
            signs = [sign_of(maker) for maker in self.makers[column]]
            if column in self.given:
                continue
            if sign in signs:
                self.columns[column] = signs.index(sign)
            elif place < len(signs):
                self.columns[column] = place

    def maker(self, column):
        if column not in self.makers:
            others = first_values(column, self.known.get(column, ()), self.source)
            told = [given(self.given[column])] if column in self.given else []
            self.makers[column] = [*told, *others]
        return self.makers[column][self.columns[column]]

    def taken(self):
        """Return what another task of the folder may begin with."""
        return {
            column: [place, sign_of(self.maker(column))] for column, place in self.columns.items()
        }

    def rows(self):
        names = [column for column in self.columns if column != JUDGE]
        return [{column: self.maker(column)(row) for column in names} for row in range(ROWS)]

    def load(self, *given, split=None, **named):
        """Stand in for `datasets.load_dataset`."""
        import datasets

        made = datasets.Dataset.from_list(self.rows())
        if split is not None:
            return made
        keys = ("test_split", "validation_split", "training_split", "fewshot_split")
        splits = {self.config[key] for key in keys if self.config.get(key)}
        return datasets.DatasetDict({name: made for name in splits})

    def trial(self, worker):
        """Go through all that a run does; return how far it came, and the error."""
        self.stage = 0
        try:
            task = worker._task(self.job)
            self.ask(worker, task)
            self.score(task)
        except BaseException as error:  # noqa: BLE001 - of their code
            return self.stage, error
        return 5, None

    def ask(self, worker, task):
        """Make the questions and the right answers."""
        docs, shown = task.eval_docs_no_media, task.eval_docs
        places = range(len(docs))
        if not places:
            raise LookupError("no row is left")
        self.stage = 1
        for place in places:
            list(worker._texts_and_visuals(task, docs[place], shown[place]))
            if self.job.get("messages"):
                list(worker._messages(task, shown[place]))
        self.stage = 2
        visuals = (worker._flat(task.doc_to_visual(shown[place])) for place in places)
        if not self.job.get("messages") and not any(visuals):
            raise LookupError("no image is shown")
        for place in places:
            task.doc_to_target(docs[place])

    def score(self, task):
        """Score answers, and make the figures as long as that is quick."""
        self.stage = 3
        items = {}
        for place, doc in enumerate(task.eval_docs_no_media):
            answer = ANSWERS[place % len(ANSWERS)]
            for name, value in task.process_results(doc, [answer]).items():
                items.setdefault(name, []).append(value)
        if not items.keys() & task.aggregation().keys():
            raise LookupError("no figure is made of these rows")
        self.stage = 4
        task.args = SimpleNamespace(output_path=os.getcwd(), log_samples=False)  # noqa: PTH109
        for name, values in items.items():
            began = time.monotonic()
            function = task.aggregation().get(name)
            if function:
                takes = "args" in inspect.signature(function).parameters
                function(values, **({"args": task.args} if takes else {}))
            if time.monotonic() - began > SLOW:
                break  # scoring calls all, once

    def find(self, worker):
        """Find columns with which the task runs; return the last error, or None."""
        end, seen = time.process_time() + self.job["seconds"], set()
        stage, error = self.trial(worker)
        while error is not None and time.process_time() < end:
            if isinstance(error, ImportError):
                break  # no row mends that
            seen.add(signature(error))
            missing = error.args[0] if isinstance(error, KeyError) and error.args else None
            if isinstance(missing, str) and missing not in self.columns and self.is_column(missing):
                self.columns[missing] = 0
                stage, error = self.trial(worker)
                continue
            if "no image" in str(error) and not {"image", "image_1"} & self.columns.keys():
                self.columns |= {"image": 0, "image_1": 0}
                stage, error = self.trial(worker)
                continue
            found = self.better(worker, stage, error, seen, end)
            if found is None:
                break
            stage, error = found
        return error

    def better(self, worker, stage, error, seen, end):
        """Give one column another value that brings the task further; return how far.

        Args:
            worker: The worker's module.
            stage: How far it comes now.
            error: What ends it there.
            seen: Signatures of earlier errors.
            end: When the processor's time is used up.
        """
        otherwise = None
        for number_, column in enumerate(self.suspects(error)):
            if otherwise and number_ >= SURE:
                break
            kept = self.columns[column]
            self.maker(column)
            for number in range(len(self.makers[column])):
                if number == kept or time.process_time() > end:
                    continue
                self.columns[column] = number
                new_stage, new = self.trial(worker)
                if new is None or is_further(new_stage, new, stage, error):
                    return new_stage, new
                if otherwise is None and new_stage == stage and signature(new) not in seen:
                    otherwise = (column, number, new_stage, new)
            self.columns[column] = kept
        if otherwise is None:
            return None
        column, number, *found = otherwise
        self.columns[column] = number
        return found

    def is_column(self, name):
        values = {str(value) for row in self.rows() for value in row.values()}
        return name not in values and len(name) < 40

    def suspects(self, error):
        """Return columns, those first that the error or the lines of it name."""
        frames = reversed(traceback.extract_tb(error.__traceback__))
        lines = [frame.line or "" for frame in frames if "lmms_eval" in frame.filename]
        first = self.rows()[0]
        shown = [
            column for column, value in first.items()
            if isinstance(value, str) and len(value) > 3 and value in str(error)
        ]  # fmt: skip
        named = [
            column for line in lines for column in self.columns
            if re.search(rf"""["']{re.escape(column)}["']""", line)
        ]  # fmt: skip
        words = [
            column for line in lines for column in self.columns
            if re.search(rf"\b{re.escape(column)}", line)
        ]  # fmt: skip
        likely = [column for column in self.columns
                  if re.search("image|answer|option|choice|type|categ", column)]  # fmt: skip
        if "no image" in str(error):
            likely = [column for column in self.columns if "im" in column] + likely
        if "no row" in str(error):
            likely = [*self.known.keys() & self.columns.keys(), *likely]
        return list(dict.fromkeys([*shown, *named, *words, *likely, *self.columns]))


def is_further(new_stage, new, stage, error):
    """Return whether an error is of a later stage, or of a later line of the same function."""
    if new_stage != stage:
        return new_stage > stage
    before, after = lines_of(error), lines_of(new)
    if not before or not after or before[0][0] != after[0][0]:
        return False
    return [line for _, line in after] > [line for _, line in before]


def lines_of(error):
    """Return function and line of each call in the task's code."""
    frames = traceback.extract_tb(error.__traceback__)
    return [(frame.name, frame.lineno) for frame in frames if "lmms_eval/tasks" in frame.filename]


def signature(error):
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if "lmms_eval" in frame.filename and "worker" not in frame.filename]  # fmt: skip
    last = (frames[-1].filename, frames[-1].lineno) if frames else ()
    return (type(error).__name__, *last, str(error)[:60])


class Judge(socketserver.StreamRequestHandler):
    """Answers what the task's code asks a judge, with the text that is tried."""

    def handle(self):
        self.rfile.readline()
        message = {"role": "assistant", "content": self.server.miniature.maker(JUDGE)(0)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        reply = {"id": "judge", "object": "chat.completion", "created": 0, "model": "judge"}
        self.server.asked += 1
        self.wfile.write(json.dumps({**reply, "choices": [choice], "usage": usage}).encode())
        self.wfile.write(b"\n")


def judging(made):
    """Start a judge; return its server."""
    server = socketserver.ThreadingUnixStreamServer("judge", Judge)
    server.daemon_threads, server.miniature, server.asked = True, made, 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def outcome(job, folder, worker, begin):
    """Return what became of one task.

    Args:
        job: Its name and file.
        folder: Where everything may be written.
        worker: The worker's module.
        begin: What a task of the same folder took.
    """
    import datasets
    import huggingface_hub

    place = Path(folder, job["name"])
    (place / "files" / "tmp").mkdir(parents=True, exist_ok=True)
    os.chdir(place)
    worker.let_clients_be_made()  # as when it builds
    tempfile.tempdir = str(place / "files" / "tmp")
    huggingface_hub.snapshot_download = lambda *given, **named: str(place)
    huggingface_hub.hf_hub_download = lambda *given, **named: stored(0)
    # Before the task's modules are read, which take it by its name.
    datasets.load_dataset = datasets.load_from_disk = lambda *given, **named: made.load(
        *given, **named
    )
    try:
        made = Miniature(job, begin)
        server = None
        common = {"name": job["name"], "file": job["file"], "folder": str(place)}
        if JUDGE in made.columns:
            server = judging(made)
            common["judge"] = "judge"
            worker.hand_over(common, [str(row) for row in range(ROWS)])
        marks = map("{:016x}".format, itertools.count())
        datasets.arrow_dataset.generate_fingerprint = lambda made: next(marks)
        error = made.find(worker)
        if error is not None:
            frame = (traceback.extract_tb(error.__traceback__) or [None])[-1]
            where = f"{Path(frame.filename).name}:{frame.lineno}" if frame else ""
            return {"error": f"{type(error).__name__}: {str(error)[:160]} ({where})"}
        built = worker.build(common)
        lines = [
            json.dumps({"id": str(n), "text": ANSWERS[n % len(ANSWERS)]}) + "\n"
            for n in range(built["count"])
        ]
        (place / "answers.jsonl").write_text("".join(lines))
        more = {"folder": str(place / "files"), "answers": str(place / "answers.jsonl")}
        if server:
            common["judge"] = str(place / "judge")
            server.asked = 0
        found = worker.score({**common, **more, "judging": job["judge"]})
    except BaseException as error:  # noqa: BLE001 - of their code
        return {"error": f"{type(error).__name__}: {str(error)[:160]}"}
    return {
        "figures": len(found["figures"]),
        "headline": found["headline"],
        "means": len([name for name, columns in found["of"].items() if columns]),
        "rows": built["count"],
        "judged": server.asked if server else 0,
        "files": found["files"],
        "taken": made.taken(),
    }


def _read_once():
    """Let a process read the files of a task once, not at each trial."""
    import lmms_eval.tasks
    from lmms_eval import utils

    read = functools.cache(utils.load_yaml_config)
    utils.load_yaml_config = lambda *given, **named: copy.deepcopy(read(*given, **named))
    lmms_eval.tasks.TaskManager = functools.cache(lmms_eval.tasks.TaskManager)


def main():
    """Do each job in a fork."""
    package, folder = sys.argv[1:3]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.path.insert(0, package)
    from worker import lmms_eval as worker
    from worker.wire import _without_network

    sys.path.pop(0)
    import lmms_eval.api.instance
    import lmms_eval.api.reasoning
    import lmms_eval.tasks
    from loguru import logger

    for name in HEAVY:
        with suppress(ImportError):
            importlib.import_module(name)
    from PIL import Image

    Image.init()
    logger.remove()
    _read_once()
    del lmms_eval.api.instance, lmms_eval.api.reasoning
    taken, failed = {}, set()
    for line in sys.stdin:
        job = json.loads(line)
        family = str(Path(job["file"]).parent)
        taken.setdefault(family, job["taken"])
        job["seconds"] = min(job["seconds"], SHORT) if family in failed else job["seconds"]
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.setsid()
            os.close(reading)
            _without_network()
            said = json.dumps(outcome(job, folder, worker, taken[family]))
            with os.fdopen(writing, "w") as stream:
                stream.write(said)
            os._exit(0)
        os.close(writing)
        said = read_until(reading, time.monotonic() + LIMIT)
        os.close(reading)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # Java too, which may outlive it
        os.waitpid(child, 0)
        found = json.loads(said) if said else {"error": f"it did not end in {LIMIT} seconds"}
        taken[family] = found.get("taken") or taken[family]
        (failed.add if "error" in found else failed.discard)(family)
        answers.write(json.dumps({"name": job["name"], **found}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
