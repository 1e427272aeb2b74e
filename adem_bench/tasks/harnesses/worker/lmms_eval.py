"""lmms-eval's tasks: its documents and prompts as samples, and its own scoring of answers."""

from __future__ import annotations

import hashlib
import inspect
import io
import os
import sys
import time
from collections.abc import Iterable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from .judge import ask_nobody, hand_over, let_clients_be_made, now_scoring
from .wire import (
    Job,
    file_digest,
    note_reads,
    note_writes,
    number,
    read_answers,
    serve,
    write_only_below,
    write_rows,
)

PACKAGE = "lmms-eval"
HANDED_ON = "generate_until"
"""The one type of output that is a text for a question."""
SEEDS = {"random": 0, "numpy": 1234, "torch": 1234, "examples": 1234}
SLOW, PATIENCE = 1.0, 20.0
"""Seconds of an aggregation from which it is not tried on parts, and of all such trials of one."""
ALONE = "alone"
"""The column of figures of single items."""
THOUGHTS = '[["<think>", "</think>"], ["<analysis>", "</analysis>"]]'
"""What its command leaves out of answers unless told otherwise, as its seeds above."""


def _task(job: Job) -> Any:
    """Return the task, with its documents from the files that are there.

    Generators are seeded first and examples are drawn as in lmms-eval's own run, so that what a
    task shuffles or draws is the same.
    """
    import random

    from lmms_eval.api.task import ConfigurableTask
    from lmms_eval.tasks import TaskManager, get_task_dict

    random.seed(SEEDS["random"])
    if "numpy" in sys.modules:  # lmms-eval imports both
        sys.modules["numpy"].random.seed(SEEDS["numpy"])
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(SEEDS["torch"])
    for name in ("process_results", "download"):
        # What fails once fails five times, with waits.
        once = getattr(getattr(ConfigurableTask, name), "__wrapped__", None)
        if once is not None:
            setattr(ConfigurableTask, name, once)
    if job.get("file"):  # all others would be read too, which takes a quarter of a minute
        manager = TaskManager("ERROR", str(Path(job["file"]).parent), include_defaults=False)
    else:
        manager = TaskManager("ERROR", job.get("include_path") or None)
    messages = "chat" if job.get("messages") else "simple"
    found = get_task_dict([job["name"]], manager, messages)
    task = found.get(job["name"]) if isinstance(found, dict) else None
    if task is None or isinstance(task, dict):
        raise ValueError("it is a group; name its tasks")
    if task.OUTPUT_TYPE != HANDED_ON:
        raise ValueError(f"its output is {task.OUTPUT_TYPE}; {HANDED_ON} alone is asked here")
    if (task.config.repeats or 1) > 1:
        raise ValueError(f"it asks everything {task.config.repeats} times")
    if task.config.num_fewshot is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=SEEDS["examples"])
    return task


def build(job: Job) -> dict[str, Any]:
    """Write the samples of a task, and its images below the job's folder.

    Raises:
        TypeError: a prompt is no text, or what is shown is no image.
    """
    import lmms_eval.tasks  # noqa: F401 - whose own files are no data

    let_clients_be_made()  # none is asked here
    reads = note_reads(job["folder"])
    task = _task(job)
    for path in _local_files(task.config):
        with open(path, "rb"):  # noqa: PTH123 - to be noted: copies of it may be what is read
            pass
    rows: list[dict[str, Any]] = []
    place = Path(job["folder"]) / "images"
    for number_, (bare, doc) in enumerate(zip(task.eval_docs_no_media, task.eval_docs)):  # noqa: B905
        shown = _messages(task, doc) if job.get("messages") else _texts_and_visuals(task, bare, doc)
        parts, images = [], []
        for part in shown:
            if isinstance(part, str):
                parts.append({"text": part})
            else:
                images.append(_file(part[0], place))
                parts.append({"image": images[-1][0]})
        target = task.doc_to_target(bare)
        rows.append(
            {
                "id": str(number_),
                "parts": parts,
                "images": [list(image) for image in images],
                "reference": None if target is None else str(target),
                "labels": {},
            }
        )
    found = write_rows(job["folder"], metadata.version(PACKAGE), rows)
    return {
        **found,
        "version": metadata.version(PACKAGE),
        "type": task.OUTPUT_TYPE,
        "generation": _generation(dict(task.config.generation_kwargs or {})),
        "reads": reads(),
    }


def _generation(asked: dict[str, Any]) -> dict[str, Any]:
    """Return a task's generation settings: length, stop strings, how tokens are drawn."""
    until = asked.get("until") or []
    temperature = number(asked.get("temperature"))
    draws = asked.get("do_sample")
    return {
        "max_new_tokens": asked.get("max_new_tokens"),
        "until": [until] if isinstance(until, str) else [stop for stop in until if stop],
        **{
            name: asked[name]
            for name in ("temperature", "top_p", "top_k", "num_beams")
            if isinstance(asked.get(name), (int, float))
        },
        "do_sample": bool(temperature) if draws is None else bool(draws),
        # What no model here can be told.
        "unheeded": {
            name: asked[name]
            for name in ("repetition_penalty", "length_penalty", "min_new_tokens")
            if asked.get(name) not in (None, 0, 1)
        },
    }


def _texts_and_visuals(task: Any, bare: Any, doc: Any) -> Iterable[Any]:
    """Yield a document's images, each in a tuple, and its text."""
    text = task.fewshot_context(bare, task.config.num_fewshot)
    if not isinstance(text, str):
        raise TypeError(f"its prompts are {type(text).__name__}; texts are asked here")
    for visual in _flat(task.doc_to_visual(doc)):
        yield (visual,)
    yield text


def _messages(task: Any, doc: Any) -> Iterable[Any]:
    """Yield the texts and images of a document's messages, in order."""
    for message in task.doc_to_messages(doc):
        if message["role"] not in ("system", "user"):
            raise ValueError("its questions are conversations of several turns")
        content = message["content"]
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if part["type"] == "text":
                yield str(part["text"])
            elif part["type"] == "image":
                yield (part.get("url", part.get("image")),)
            else:
                raise TypeError(f"it shows {part['type']}; images are asked about here")


def _local_files(config: Any) -> list[str]:
    """Return the data files that a task names on this machine."""
    named = (getattr(config, "dataset_kwargs", None) or {}).get("data_files") or []
    parts = list(named.values()) if isinstance(named, dict) else [named]
    files = [path for part in parts for path in ([part] if isinstance(part, str) else part)]
    return [path for path in files if os.path.isfile(path)]  # noqa: PTH113


def _flat(visuals: Any) -> Iterable[Any]:
    if visuals is None:
        return []
    return visuals if isinstance(visuals, (list, tuple)) else [visuals]


def _file(visual: Any, place: Path) -> tuple[str, str]:
    """Return the file of an image and the digest of its content."""
    if isinstance(visual, (str, os.PathLike)):
        path = os.path.abspath(visual)  # noqa: PTH100
        return path, file_digest(path)
    if not hasattr(visual, "convert"):
        raise TypeError(f"it shows {type(visual).__name__}; images are asked about here")
    written = io.BytesIO()
    visual.convert("RGB").save(written, "PNG", compress_level=1)
    name = hashlib.sha256(written.getvalue()).hexdigest()[:16]
    file = place / f"{name}.png"
    if not file.exists():
        place.mkdir(parents=True, exist_ok=True)
        part = place / f".{name}.{os.getpid()}"
        part.write_bytes(written.getvalue())
        part.replace(file)
    return str(file), name


def score(job: Job) -> dict[str, Any]:
    """Score answers as lmms-eval's own run does: filters, process_results, aggregation."""
    from types import SimpleNamespace

    answers = read_answers(job["answers"])
    hand_over(job, answers)  # before the task's modules are imported: some make their client then
    if job.get("judging") == "no":
        ask_nobody()
    task = _task(job)
    folder = job["folder"]
    docs = task.eval_docs_no_media
    told = {"output_path": folder, "log_samples": False, "process_with_media": False}
    task.args = SimpleNamespace(**told)
    places = [place for place in range(len(docs)) if str(place) in answers]
    for place in places:  # as there: what it draws or keeps is what scoring finds
        task.fewshot_context(docs[place], task.config.num_fewshot)
    task._instances = [_instance(task, job["name"], place, answers[str(place)]) for place in places]
    os.chdir(folder)
    write_only_below([folder, *_tokenizer()])
    tags = _filter(task, places)
    items: dict[tuple[str, str], dict[str, Any]] = {}
    for place, one in zip(places, task._instances):  # noqa: B905
        now_scoring(str(place))
        for key, answer in one.filtered_resps.items():
            found = task.process_results(docs[place], [_without_thoughts(answer, tags)])
            for name, value in found.items():
                items.setdefault((name, key), {})[str(place)] = value
    now_scoring(None)
    figures: dict[str, float] = {}
    of: dict[str, list[str]] = {}
    vectors: dict[str, dict[str, float]] = {}
    noted = note_writes()
    for (name, key), values in items.items():
        function = task.aggregation().get(name)
        if function is None:
            continue
        takes_args = "args" in inspect.signature(function).parameters
        aggregate = partial(function, args=task.args) if takes_args else function
        before, began = len(noted), time.monotonic()
        whole = _figures(f"{name},{key}", aggregate(list(values.values())))
        took = time.monotonic() - began
        figures |= whole
        # One that writes files is not called again, as it would write over them; no judge either.
        is_plain = len(noted) == before and took < SLOW and not job.get("judge")
        again = aggregate if is_plain else None
        for label, value in whole.items():
            columns = _numbers(values)
            of[label] = [
                column
                for column, numbers in columns.items()
                if _is_near(value, numbers.values())
                and _is_mean(again, f"{name},{key}", label, values, column)
            ]
            if again is not None and not of[label]:
                alone = _alone(again, f"{name},{key}", label, values, value)
                columns |= {ALONE: alone} if alone else {}
                of[label] = [ALONE] if alone else []
            of[label] = [f"{label}|{column}" for column in of[label]]
            vectors |= {f"{label}|{column}": numbers for column, numbers in columns.items()}
    first = next((name for name in task.aggregation() if any(name == n for n, _ in items)), "")
    headline = next((label for label in figures if label.split(",")[0] == first), "")
    made = (path for path in Path(folder).rglob("*") if path.is_file())
    names_made = [str(path.relative_to(folder)) for path in made]
    return {
        "version": metadata.version(PACKAGE),
        "figures": figures,
        "headline": headline,
        "vectors": vectors,
        "of": of,
        "files": sorted(name for name in names_made if not name.startswith("tmp/")),
    }


def _instance(task: Any, name: str, place: int, answer: str) -> Any:
    """Return what lmms-eval keeps of an answered question."""
    from lmms_eval.api.instance import Instance

    split = task.config.test_split or task.config.validation_split
    about = {"task": name, "doc_id": place, "repeats": 1, "split": split}
    if type(task.config.metadata) is dict:
        about.update(task.config.metadata)
    one = Instance(
        request_type=HANDED_ON,
        arguments=("", {}, None, place, name, split),
        idx=0,
        metadata=about,
    )
    one.resps = [answer]
    return one


def _filter(task: Any, places: list[int]) -> Any:
    """Apply a task's filters; return the tags around thoughts, which are left out afterwards.

    Filters pair answers with documents by place, so the documents that were not asked go.
    """
    from lmms_eval.api.reasoning import parse_reasoning_tags_config

    stated = getattr(task.config, "reasoning_tags", None)
    tags = parse_reasoning_tags_config(cli_value=THOUGHTS, task_value=stated)
    if tags is None and getattr(task.config, "auto_strip_thinking", False):
        from lmms_eval.filters.transformation import StripThinkingFilter

        for ensemble in task._filters:
            ensemble.filters.insert(0, StripThinkingFilter())
    shown = task.task_docs
    chosen = shown.select(places) if hasattr(shown, "select") else [shown[p] for p in places]
    for ensemble in task._filters:
        ensemble.apply(task._instances, chosen)
    return tags


def _without_thoughts(answer: Any, tags: Any) -> Any:
    from lmms_eval.api.reasoning import strip_reasoning_tags

    if tags is None:
        return answer
    if isinstance(answer, list):
        return [_without_thoughts(one, tags) for one in answer]
    return strip_reasoning_tags(answer, tags) if isinstance(answer, str) else answer


def _figures(label: str, value: Any) -> dict[str, float]:
    """Return the number that an aggregation returned, or the numbers of its table by name."""
    if isinstance(value, dict):
        return {
            name: one
            for key, part in value.items()
            for name, one in _figures(f"{label}|{key}", part).items()
        }
    found = number(value)
    return {} if found is None else {label: found}


def _numbers(values: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return the numbers that items are, or hold by name, where all do."""
    found: dict[str, dict[str, float]] = {}
    whole = {place: number(value) for place, value in values.items()}
    if all(value is not None for value in whole.values()):
        found[""] = whole  # type: ignore[assignment]
    if all(isinstance(value, dict) for value in values.values()):
        names = set.intersection(*(set(value) for value in values.values()))
        for name in sorted(map(str, names)):
            column = {place: number(value.get(name)) for place, value in values.items()}
            if all(value is not None for value in column.values()):
                found[name] = column  # type: ignore[assignment]
    return found


def _is_near(value: float, numbers: Iterable[float]) -> bool:
    """Return whether a figure is the mean of numbers, or 100 times it."""
    found = list(numbers)
    mean = sum(found) / len(found)
    return min(abs(value - mean), abs(value - 100 * mean)) <= 1e-9 * max(1.0, abs(value))


def _is_mean(aggregate: Any, start: str, label: str, values: dict[str, Any], column: str) -> bool:
    """Return whether a figure that equals the mean of items, or of what they hold by a name, is it.

    That it is says little where all are alike, so it is asked for the figure of other numbers too.

    Args:
        aggregate: The aggregation; None if it may not be called again.
        start: What its figures' names begin with.
        label: The figure's name.
        values: The items.
        column: The name; empty for the items themselves.
    """
    if aggregate is None:
        return len(set(_numbers(values)[column].values())) > 1
    tried = [float(place % 3 == 0) for place in range(len(values))]
    others = [
        {**item, column: one} if column else one
        for item, one in zip(values.values(), tried)  # noqa: B905
    ]
    try:
        found = _figures(start, aggregate(others)).get(label)
    except Exception:  # noqa: BLE001 - it may want other types, and is no mean then
        return False
    return found is not None and _is_near(found, tried)


def _alone(
    aggregate: Any, start: str, label: str, values: dict[str, Any], value: float
) -> dict[str, float]:
    """Return a figure of each item alone, if their mean is the figure of all, and so for others.

    Args:
        aggregate: The aggregation.
        start: What its figures' names begin with.
        label: The figure's name.
        values: The items.
        value: The figure of all.
    """
    places = list(values)
    until = time.monotonic() + PATIENCE
    found: dict[str, float] = {}
    try:
        for place in places:
            found[place] = _figures(start, aggregate([values[place]]))[label]
            if time.monotonic() > until:
                return {}
        # Groups of one size would have the same mean as all: uneven parts tell them.
        for part in (places, places[: 2 * len(places) // 3 + 1], places[::3]):
            whole = _figures(start, aggregate([values[place] for place in part]))[label]
            if abs(whole - sum(found[place] for place in part) / len(part)) > 1e-9:
                return {}
    except Exception:  # noqa: BLE001 - it may want several items, and is no mean then
        return {}
    return found if len(set(found.values())) > 1 else {}


def _tokenizer() -> list[str]:
    """Return the folder in which the tokenizer of captions keeps a file while it runs."""
    from importlib.util import find_spec

    spec = find_spec("pycocoevalcap")
    places = spec.submodule_search_locations if spec else None
    return [os.path.join(place, "tokenizer") for place in places or ()]  # noqa: PTH118


def names(job: Job) -> dict[str, Any]:
    """Return every task's name."""
    from lmms_eval.tasks import TaskManager

    manager = TaskManager("ERROR", job.get("include_path") or None)
    found = {str(name): "" for name in manager.all_subtasks}
    return {"version": metadata.version(PACKAGE), "names": found}


def main() -> None:
    """Do one job."""
    serve({"build": build, "score": score, "names": names})
