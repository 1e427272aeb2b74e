"""Run lmms-eval's tasks on miniatures: rows in the columns that their code reads.

Runs in lmms-eval's environment, with the standard library and the workers alone:

    python lmms_eval_miniatures.py ADEM_BENCH/tasks/harnesses FOLDER < JOBS > OUTCOMES

A job is a line {"name", "file"}; an outcome one with figures or an error. Columns are those that a
task's functions name. What is in them follows from their names; where code refuses a value, others
of the kinds that data sets hold are tried, until questions, images, scores and figures come of it.
Then the workers that `adem-bench run` uses build and score the task.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROWS, MOST_TRIALS, SECONDS, LIMIT = 4, 400, 10.0, 45
READ = re.compile(r"""\w+(?:\[|\.get\()\s*f?["']([\w \-/]{1,40})["']""")
TEMPLATE = re.compile(r"\{\{\s*(\w+)")
COLOURS = ("red", "blue", "green", "white")
ANSWERS = ("A", "B", "yes", "no")


def picture(row):
    from PIL import Image

    return Image.new("RGB", (64, 48), COLOURS[row % 4])


def stored(row):
    """Return the path of a picture on disk."""
    path = Path(f"picture-{row}.png").absolute()
    if not path.exists():
        picture(row).save(path)
    return str(path)


def same(value):
    return lambda row: value


def by_turns(*values):
    return lambda row: values[row % len(values)]


OPTIONS = list(COLOURS)
NUMBERS = [4.0, 6.0, 30.0, 40.0]
SHARES = [0.1, 0.1, 0.5, 0.5]
TEXTS = (
    by_turns("What is shown in <image 1>?", "Is it red, <image 1>?"),
    int,
    lambda row: [f"text {row}", "red"],
    same('["red", "blue"]'),
    same({"A": "red", "B": "blue"}),
    same(None),
)
IMAGES = (picture, lambda row: [picture(row), picture(row + 1)], stored, lambda row: [stored(row)])
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
)
LISTS = (
    same(OPTIONS),
    same(repr(OPTIONS)),
    same(json.dumps(OPTIONS)),
    same("A. red\nB. blue\nC. green\nD. white"),
    same(dict(zip("ABCD", OPTIONS))),  # noqa: B905
    same({"label": list("ABCD"), "text": OPTIONS}),
    same(json.dumps(dict(zip("ABCD", OPTIONS)))),  # noqa: B905
    same([{"label": "A", "text": "red"}, {"label": "B", "text": "blue"}]),
)
BOXES = (
    same(NUMBERS),
    same(SHARES),
    same([NUMBERS]),
    same(repr(SHARES)),
    same([SHARES]),
    same({"x": 1.0, "y": 2.0, "w": 3.0, "h": 4.0}),
    same([[4.0, 6.0], [30.0, 40.0]]),
)
PLACES = (
    int,
    str,
    lambda row: f"validation_Art_{row + 1}",
    lambda row: f"{row:012}.jpg",
    lambda row: f"test_{row}",
)
KINDS = (
    (re.compile(r"bbox|box|polygon|segment|coord|point|region", re.I), BOXES + KEPT),
    (re.compile(r"(width|height|size|num|count|level|year|grade|score|turn)", re.I),
     (by_turns(64, 48), by_turns("64", "48"), by_turns([64, 48], [48, 64]))),
    (re.compile(r"option|choice|candidate", re.I), LISTS + KEPT),
    (re.compile(r"answer|label|target|gt|ground|solution|caption|reference|correct|sentence", re.I),
     KEPT + LISTS),
    (re.compile(r"(^|_)(id|idx|index|qid|uid|pid|key)$|Id$|^id", re.I), PLACES),
    (re.compile(r"image|img|picture|visual|photo|mask|figure|screenshot", re.I), IMAGES),
)  # fmt: skip


def first_values(column, words):
    """Return what may be in a column, the likeliest first.

    Args:
        column: Its name.
        words: Texts that the task's code compares with.
    """
    known = [same(word) for word in words]
    for pattern, makers in KINDS:
        if pattern.search(column):
            others = IMAGES if makers is not IMAGES else ()
            if makers is IMAGES and re.search(r"path|name|file|url|type|id", column):
                makers = (stored, *PLACES[2:], *IMAGES)
            return [*makers, *TEXTS, *known, *others]
    return [*TEXTS[:1], *known, *TEXTS[1:], *KEPT, *LISTS, *PLACES, *BOXES, *IMAGES]


def functions_of(config):
    """Return the functions that a task names, with those of their modules that they call."""
    waiting = [value for value in config.values() if inspect.isfunction(value)]
    for metric in config.get("metric_list") or ():
        waiting += [value for value in metric.values() if inspect.isfunction(value)]
    found = []
    while waiting:
        one = waiting.pop()
        if one in found:
            continue
        found.append(one)
        for name in set(re.findall(r"\b(\w+)\(", inspect.getsource(one))):
            called = one.__globals__.get(name)
            if inspect.isfunction(called) and "lmms_eval/tasks" in called.__code__.co_filename:
                waiting.append(called)
    return found


class Miniature:
    """Rows of one task, in columns that are found."""

    def __init__(self, job):
        from lmms_eval import utils

        self.job = job
        self.config = utils.load_yaml_config(job["file"], mode="full")
        functions = functions_of(self.config)
        source = "\n".join(map(inspect.getsource, functions))
        words = re.findall(r"""(?:==|in|!=)\s*[\[(]?["']([\w \-]{2,40})["']""", source)
        words += re.findall(r"""["']([\w \-]{2,40})["']\s*:""", source)
        self.words = list(dict.fromkeys(words))[:30]
        names = []
        for key in ("doc_to_target", "doc_to_visual", "doc_to_text"):
            value = self.config.get(key)
            if isinstance(value, str):
                names += TEMPLATE.findall(value) or [value]
        shown = [one for one in functions if one.__code__.co_varnames[:1] in
                 (("doc",), ("sample",), ("example",), ("row",), ("x",), ("dataset",))]  # fmt: skip
        shown_source = "\n".join(map(inspect.getsource, shown))
        for name in READ.findall(shown_source):
            if re.search(rf"""\b(doc|sample|example|row|x|d)(\[|\.get\()\s*["']{re.escape(name)}""",
                         shown_source):  # fmt: skip
                names.append(name)
        self.columns = dict.fromkeys(names or ["question"], 0)
        self.makers = {}

    def maker(self, column):
        if column not in self.makers:
            self.makers[column] = first_values(column, self.words)
        return self.makers[column][self.columns[column]]

    def rows(self):
        return [{column: self.maker(column)(row) for column in self.columns} for row in range(ROWS)]

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
        stage = 0
        try:
            task = worker._task(self.job)
            docs, shown = task.eval_docs_no_media, task.eval_docs
            stage = 1
            for place in range(len(docs)):
                list(worker._texts_and_visuals(task, docs[place], shown[place]))
                if self.job.get("messages"):
                    list(worker._messages(task, shown[place]))
            stage = 2
            if not any(
                worker._flat(task.doc_to_visual(shown[place])) for place in range(len(docs))
            ):
                raise LookupError("no image is shown")
            for place in range(len(docs)):
                task.doc_to_target(docs[place])
            stage = 3
            items = {}
            for place in range(len(docs)):
                answer = ANSWERS[place % len(ANSWERS)]
                for name, value in task.process_results(docs[place], [answer]).items():
                    items.setdefault(name, []).append(value)
            stage = 4
            from types import SimpleNamespace

            task.args = SimpleNamespace(output_path=os.getcwd())  # noqa: PTH109
            for name, values in items.items():
                function = task.aggregation().get(name)
                if function:
                    takes = "args" in inspect.signature(function).parameters
                    function(values, **({"args": task.args} if takes else {}))
        except BaseException as error:  # noqa: BLE001 - of their code
            return stage, error
        return 5, None

    def find(self, worker):
        """Find columns with which the task runs; return the last error, or None."""
        end, trials, seen = time.monotonic() + SECONDS, 0, set()
        stage, error = self.trial(worker)
        while error is not None and trials < MOST_TRIALS and time.monotonic() < end:
            seen.add(signature(error))
            missing = error.args[0] if isinstance(error, KeyError) and error.args else None
            if isinstance(missing, str) and missing not in self.columns and self.is_column(missing):
                self.columns[missing] = 0
                stage, error = self.trial(worker)
                trials += 1
                continue
            if "no image" in str(error) and not {"image", "image_1"} & self.columns.keys():
                self.columns |= {"image": 0, "image_1": 0}
                stage, error = self.trial(worker)
                continue
            better = None
            for column in self.suspects(error):
                kept = self.columns[column]
                self.maker(column)
                for number in range(len(self.makers[column])):
                    if number == kept or time.monotonic() > end:
                        continue
                    self.columns[column] = number
                    trials += 1
                    new_stage, new = self.trial(worker)
                    if new is None or new_stage > stage or (
                        new_stage == stage and signature(new) not in seen
                    ):  # fmt: skip
                        better = (new_stage, new)
                        break
                if better:
                    break
                self.columns[column] = kept
            if better is None:
                break
            stage, error = better
        return error

    def is_column(self, name):
        values = {str(value) for row in self.rows() for value in row.values()}
        return name not in values and len(name) < 40

    def suspects(self, error):
        """Return columns, those first that the lines of the error name."""
        frames = reversed(traceback.extract_tb(error.__traceback__))
        lines = [frame.line or "" for frame in frames if "lmms_eval" in frame.filename]
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
        return list(dict.fromkeys([*named, *words, *likely, *self.columns]))


def signature(error):
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if "lmms_eval" in frame.filename and "worker" not in frame.filename]  # fmt: skip
    last = (frames[-1].filename, frames[-1].lineno) if frames else ()
    return (type(error).__name__, *last, str(error)[:60])


def outcome(job, folder, worker):
    """Return what became of one task.

    Args:
        job: Its name and file.
        folder: Where everything may be written.
        worker: The worker's module.
    """
    import datasets

    place = Path(folder, job["name"])
    (place / "files" / "tmp").mkdir(parents=True, exist_ok=True)
    os.chdir(place)
    tempfile.tempdir = str(place / "files" / "tmp")
    try:
        made = Miniature(job)
        datasets.load_dataset = made.load
        datasets.load_from_disk = made.load
        error = made.find(worker)
        if error is not None:
            frame = (traceback.extract_tb(error.__traceback__) or [None])[-1]
            where = f"{Path(frame.filename).name}:{frame.lineno}" if frame else ""
            return {"error": f"{type(error).__name__}: {str(error)[:160]} ({where})"}
        common = {**job, "folder": str(place)}
        built = worker.build(common)
        lines = [
            json.dumps({"id": str(n), "text": ANSWERS[n % len(ANSWERS)]}) + "\n"
            for n in range(built["count"])
        ]
        (place / "answers.jsonl").write_text("".join(lines))
        more = {"folder": str(place / "files"), "answers": str(place / "answers.jsonl")}
        found = worker.score({**common, **more})
    except BaseException as error:  # noqa: BLE001 - of their code
        return {"error": f"{type(error).__name__}: {str(error)[:160]}"}
    means = [name for name, columns in found["of"].items() if columns]
    return {
        "figures": len(found["figures"]),
        "headline": found["headline"],
        "means": len(means),
        "columns": list(made.columns),
        "files": found["files"],
    }


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

    del lmms_eval.api.instance, lmms_eval.api.reasoning
    for line in sys.stdin:
        job = json.loads(line)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.setsid()
            signal.alarm(LIMIT)
            _without_network()
            said = json.dumps(outcome(job, folder, worker))
            os.write(writing, said.encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as stream:
            said = stream.read()
        os.waitpid(child, 0)
        found = json.loads(said) if said else {"error": f"it did not end in {LIMIT} seconds"}
        answers.write(json.dumps({"name": job["name"], **found}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
