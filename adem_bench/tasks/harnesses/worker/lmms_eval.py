"""lmms-eval's tasks: its documents and prompts as samples, and its own scoring of answers."""

from __future__ import annotations

import hashlib
import inspect
import io
import os
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from .judge import hand_over, now_scoring
from .wire import (
    Job,
    file_digest,
    note_reads,
    number,
    read_answers,
    serve,
    write_only_below,
    write_rows,
)

PACKAGE = "lmms-eval"
HANDED_ON = "generate_until"
"""The one type of output that is a text for a question."""


def _task(job: Job) -> Any:
    """Return the task, with its documents from the files that are there."""
    from lmms_eval.api.task import ConfigurableTask
    from lmms_eval.tasks import TaskManager, get_task_dict

    for name in ("process_results", "download"):
        # What fails once fails five times, with waits.
        once = getattr(getattr(ConfigurableTask, name), "__wrapped__", None)
        if once is not None:
            setattr(ConfigurableTask, name, once)
    manager = TaskManager("ERROR", job.get("include_path") or None)
    found = get_task_dict([job["name"]], manager)
    task = found.get(job["name"]) if isinstance(found, dict) else None
    if task is None or isinstance(task, dict):
        raise ValueError("it is a group; name its tasks")
    if task.OUTPUT_TYPE != HANDED_ON:
        raise ValueError(f"its output is {task.OUTPUT_TYPE}; {HANDED_ON} alone is asked here")
    return task


def build(job: Job) -> dict[str, Any]:
    """Write the samples of a task, and its images below the job's folder.

    Raises:
        TypeError: a prompt is no text, or what is shown is no image.
    """
    import lmms_eval.tasks  # noqa: F401 - whose own files are no data

    reads = note_reads(job["folder"])
    task = _task(job)
    for path in _local_files(task.config):
        with open(path, "rb"):  # noqa: PTH123 - to be noted: copies of it may be what is read
            pass
    rows: list[dict[str, Any]] = []
    place = Path(job["folder"]) / "images"
    few = task.config.num_fewshot or 0
    for number_, (bare, doc) in enumerate(zip(task.eval_docs_no_media, task.eval_docs)):  # noqa: B905
        text = task.fewshot_context(bare, few)
        if not isinstance(text, str):
            raise TypeError(f"its prompts are {type(text).__name__}; texts are asked here")
        images = [_file(visual, place) for visual in _flat(task.doc_to_visual(doc))]
        target = task.doc_to_target(bare)
        rows.append(
            {
                "id": str(number_),
                "parts": [*({"image": path} for path, _ in images), {"text": text}],
                "images": [list(image) for image in images],
                "reference": None if target is None else str(target),
                "labels": {},
            }
        )
    asked = dict(task.config.generation_kwargs or {})
    until = asked.get("until") or []
    found = write_rows(job["folder"], metadata.version(PACKAGE), rows)
    return {
        **found,
        "version": metadata.version(PACKAGE),
        "type": task.OUTPUT_TYPE,
        "generation": {
            "max_new_tokens": asked.get("max_new_tokens"),
            "until": [until] if isinstance(until, str) else [stop for stop in until if stop],
            **{
                name: asked[name]
                for name in ("temperature", "top_p", "top_k", "num_beams")
                if isinstance(asked.get(name), (int, float))
            },
            "do_sample": bool(asked.get("do_sample")),
        },
        "repeats": task.config.repeats or 1,
        "reads": reads(),
    }


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
    from lmms_eval.api.instance import Instance

    task = _task(job)
    folder = job["folder"]
    use_images = getattr(task.config, "process_results_use_image", False)
    docs = task.eval_docs if use_images else task.eval_docs_no_media
    split = task.config.test_split or task.config.validation_split
    given = {"full_docs": task.eval_docs} if getattr(task.config, "full_docs", False) else {}
    told = {"output_path": folder, "log_samples": False, "process_with_media": use_images}
    task.args = SimpleNamespace(**told)
    task._instances = []
    places = [place for place in range(len(docs)) if str(place) in answers]
    for place in places:
        about = {"task": job["name"], "doc_id": place, "repeats": 1, "split": split}
        one = Instance(
            request_type=HANDED_ON,
            arguments=("", {}, None, place, job["name"], split),
            idx=0,
            metadata=about,
        )
        one.resps = [answers[str(place)]]
        task._instances.append(one)
    os.chdir(folder)
    write_only_below([folder])
    _filter(task, places)
    items: dict[tuple[str, str], dict[str, Any]] = {}
    for place, one in zip(places, task._instances):  # noqa: B905
        now_scoring(str(place))
        for key in one.filtered_resps:
            found = task.process_results(docs[place], [one.filtered_resps[key]], **given)
            for name, value in found.items():
                items.setdefault((name, key), {})[str(place)] = value
    now_scoring(None)
    figures: dict[str, float] = {}
    of: dict[str, list[str]] = {}
    vectors: dict[str, dict[str, float]] = {}
    for (name, key), values in items.items():
        aggregate = task.aggregation().get(name)
        if aggregate is None:
            continue
        takes_args = "args" in inspect.signature(aggregate).parameters
        rest = {"args": task.args} if takes_args else {}
        value = number(aggregate(list(values.values()), **rest))
        label = f"{name},{key}"
        if value is None:
            continue
        figures[label] = value
        of[label] = []
        for column, numbers in _numbers(values).items():
            vectors[f"{label}|{column}"] = numbers
            if _is_mean(aggregate, rest, list(values.values()), column):
                of[label].append(f"{label}|{column}")
    first = next((name for name in task.aggregation() if any(name == n for n, _ in items)), "")
    headline = next((label for label in figures if label.split(",")[0] == first), "")
    return {
        "version": metadata.version(PACKAGE),
        "figures": figures,
        "headline": headline,
        "vectors": vectors,
        "of": of,
    }


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


def _filter(task: Any, places: list[int]) -> None:
    """Apply a task's filters: they pair answers with documents by place, so the others go."""
    shown = task.task_docs
    chosen = shown.select(places) if hasattr(shown, "select") else [shown[p] for p in places]
    for ensemble in task._filters:
        ensemble.apply(task._instances, chosen)


def _is_mean(aggregate: Any, rest: dict[str, Any], items: list[Any], column: str) -> bool:
    """Return whether an aggregation is the mean of its items, or of what they hold by a name.

    That the figure is equal says little where all items are alike; so it is asked for the figure
    of other numbers too.
    """
    tried = [float(place % 3 == 0) for place in range(len(items))]
    others = [{**item, column: one} if column else one for item, one in zip(items, tried)]  # noqa: B905
    try:
        found = number(aggregate(others, **rest))
    except Exception:  # noqa: BLE001 - it may want other types, and is no mean then
        return False
    mean = sum(tried) / len(tried)
    return found is not None and min(abs(found - mean), abs(found - 100 * mean)) < 1e-9


def names(job: Job) -> dict[str, Any]:
    """Return every task's name."""
    from lmms_eval.tasks import TaskManager

    manager = TaskManager("ERROR", job.get("include_path") or None)
    found = {str(name): "" for name in manager.all_subtasks}
    return {"version": metadata.version(PACKAGE), "names": found}


def main() -> None:
    """Do one job."""
    serve({"build": build, "score": score, "names": names})
