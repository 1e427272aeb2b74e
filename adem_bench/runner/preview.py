"""What a run would do, before it does it: prompts, sizes, files, and estimates of time and cost."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from adem_bench.data.paths import made_in
from adem_bench.errors import AdemBenchError
from adem_bench.models.base import resolve_decoding
from adem_bench.records import Decoding, Record, Request, Response
from adem_bench.registry import MODEL_KINDS
from adem_bench.results.run_folder import MANIFEST, read_run_file
from adem_bench.results.runs import FinishedRun, finished_runs
from adem_bench.runner.evaluate import Prepared
from adem_bench.schemas import ModelCard
from adem_bench.tasks.base import Judged, Question, Task, judging_of

SAMPLED = 50
"""Samples whose prompts are measured where no earlier run has counted tokens."""
CHARACTERS_PER_TOKEN = 4
MOST_TOKENS = 1 << 60
"""That a manifest is believed."""
ANY_WORD = "any "
"""Of which answers are made that are not there yet: a token each."""
ANY_VERDICT = "1"
"""What is said in a judge's place to code whose next question may hang on it."""
NO_PRICES = "its card has no prices"
UNMEASURED = "scoring made-up answers to see what it is asked failed"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number that is not known before, and what it rests on."""

    value: float
    basis: str


@dataclass(frozen=True, slots=True)
class TaskPreview:
    """One task of a run that is to be."""

    task: str
    split: str
    samples: int
    """Questions that will be asked, repeats counted."""
    whole: int
    """Samples of the split."""
    prompt: str
    """Of the first sample."""
    images: tuple[str, ...]
    """That go with it."""
    max_new_tokens: int
    decoding: Mapping[str, Any]
    """How tokens are chosen; empty if greedily."""
    seconds: Estimate | None
    """None without an earlier run."""
    cost: Estimate | None
    """In the currency of the card's prices; None without prices."""
    judge: str
    """Who reads the answers; empty if nobody does."""
    judge_cost: Estimate | None
    """None without prices, or where what a judge is asked is not known before a run."""
    judge_unknown: str
    """Why there is no such cost; empty where there is."""


@dataclass(frozen=True, slots=True)
class Preview:
    """One model on its tasks."""

    model: str
    kind: str
    chats: bool
    """Whether the prompt is put into a chat template, or into messages to a server."""
    settings: tuple[str, ...]
    """What is otherwise than by default: `blind`, `limit=6`, …"""
    files: tuple[tuple[str, str, str], ...]
    """What of the model is on disk: what it is, its path, whether it is there."""
    tasks: tuple[TaskPreview, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the preview as JSON data."""
        return asdict(self)


@contextmanager
def without_traces() -> Iterator[None]:
    """Let data that is made when it is needed be made in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="adem-bench-") as name, made_in(Path(name)):
        yield


def previews(prepared: Sequence[Prepared]) -> list[Preview]:
    """Return what evaluations would do; no model is loaded.

    Args:
        prepared: By `prepare_each`.

    Raises:
        AdemBenchError: the data cannot be read.
    """
    runs: dict[Path, list[FinishedRun]] = {}
    for each in prepared:
        root = each.evaluation.results
        if root not in runs:
            runs[root] = finished_runs(root)[0] if root.is_dir() else []
    return [_preview(each, runs[each.evaluation.results]) for each in prepared]


def _preview(prepared: Prepared, runs: Sequence[FinishedRun]) -> Preview:
    card = prepared.card
    earlier = [run for run in runs if run.model == card.name]
    try:
        files = card.named_files(prepared.evaluation.data_root)
    except AdemBenchError:  # said among the problems
        files = []
    return Preview(
        model=card.name,
        kind=card.kind,
        chats=bool(getattr(MODEL_KINDS.load(card.kind), "chats", False)),
        settings=tuple(_settings(prepared)),
        files=tuple(files),
        tasks=tuple(_task(prepared, task, earlier, runs) for task in prepared.tasks.values()),
    )


def _settings(prepared: Prepared) -> Iterator[str]:
    """Yield the settings of an evaluation that are not the default."""
    given = prepared.evaluation
    options = given.options
    if options.blind:
        yield "blind"
    repeats = options.repeats if options.repeats > 1 else None
    numbers = {"limit": options.limit, "repeats": repeats, "judge": options.judge}
    chosen = {"prompt_format": given.prompt_format, "adapter": given.adapter, "split": given.split}
    said = numbers | chosen | {"dtype": given.dtype, "quantization": given.quantization}
    yield from (f"{name}={value}" for name, value in said.items() if value is not None)
    decoding = asdict(options.decoding)
    yield from (f"{name}={value}" for name, value in decoding.items() if value is not None)
    yield from given.overrides


def _task(
    prepared: Prepared,
    task: Task,
    earlier: Sequence[FinishedRun],
    runs: Sequence[FinishedRun],
) -> TaskPreview:
    """Return what one task of a run would be.

    Args:
        prepared: The run.
        task: The task.
        earlier: Runs of the model.
        runs: Of any model.
    """
    options = prepared.evaluation.options
    samples = min(task.num_expected, options.limit or task.num_expected) * options.repeats
    first_ones = list(islice(task.samples(), SAMPLED))
    requests = [_request(prepared, task, sample) for sample in first_ones]
    if not requests:
        raise AdemBenchError(f"task {task.card.name}: no sample in split {task.card.split}")
    before = max(
        (run for run in earlier if _is_alike(run, task)), key=lambda run: run.finished, default=None
    )
    rate = before.samples_per_second if before else None
    first = requests[0]
    chosen = asdict(first.decoding)
    judge = prepared.judge if judging_of(task) != "no" and not options.predict_only else None
    answered = [
        Record(sample.id, "", ANY_WORD * request.max_new_tokens, None, None, None)
        for sample, request in zip(first_ones, requests, strict=True)
    ]
    judging = _judge_cost(judge, task, answered, samples, runs) if judge else ""
    return TaskPreview(
        task=task.card.name,
        split=task.card.split,
        samples=samples,
        whole=task.num_expected,
        prompt=first.prompt,
        images=tuple(map(str, first.images)),
        max_new_tokens=first.max_new_tokens,
        decoding={name: value for name, value in chosen.items() if value is not None},
        seconds=Estimate(samples / rate, str(before.folder)) if before and rate else None,
        cost=_cost(prepared, requests, samples, before),
        judge=judge.name if judge else "",
        judge_cost=judging if isinstance(judging, Estimate) else None,
        judge_unknown=judging if isinstance(judging, str) else "",
    )


def _is_alike(run: FinishedRun, task: Task) -> bool:
    return (run.result.task, run.result.split) == (task.card.name, task.card.split)


def _request(prepared: Prepared, task: Task, sample: Any) -> Request:
    """Return what a sample is asked as, as the runner asks it."""
    options = prepared.evaluation.options
    request = task.request(sample)
    honoured = getattr(MODEL_KINDS.load(prepared.card.kind), "decoding_fields", ())
    asked = replace(options.decoding, seed=options.seed)
    if request.decoding != Decoding():
        asked = asked.over(request.decoding)
    request = replace(request, decoding=resolve_decoding(prepared.card, honoured, asked))
    return request.without_images() if options.blind else request


@dataclass(slots=True)
class _Measuring:
    """A judge that says the same to everything, and notes what it was asked."""

    response: Response
    name: str = "measuring"
    at_once: int = 8
    asked: dict[str, Request] = field(default_factory=dict)
    """By digest: code that cannot read the answer asks the same again."""

    def ask(self, questions: Sequence[Question]) -> list[Response]:
        requests = [replace(question.request, repeat=0) for question in questions]
        self.asked |= {request.digest(): request for request in requests}
        return [self.response] * len(questions)


def _judge_cost(
    card: ModelCard,
    task: Task,
    answered: Sequence[Record],
    samples: int,
    runs: Sequence[FinishedRun],
) -> Estimate | str:
    """Return what the judge will cost, as in an earlier run or by its prompts' length, or why not.

    Args:
        card: The judge's.
        task: Whose answers it reads.
        answered: Records of some samples, as long as they can be.
        samples: How many there will be.
        runs: Earlier ones, of any model.
    """
    price = getattr(MODEL_KINDS.load(card.kind), "price", None)
    if price is None or price(card, 1, 1) is None:
        return NO_PRICES
    for run in sorted(runs, key=lambda run: run.finished, reverse=True):
        used = _used(run, "judge") if _is_alike(run, task) else {}
        if used.get("name") == card.name and (tokens := _tokens(used, run, samples)):
            return Estimate(price(card, *tokens), f"tokens as in {run.folder}")
    if isinstance(task, Judged):
        judge = _Measuring(Response("", error="not asked"))
        task.judged(answered, judge)
        basis = "at most, by the length of its prompts"
    else:
        judge = _Measuring(Response(ANY_VERDICT))
        try:
            with tempfile.TemporaryDirectory(prefix="adem-bench-") as folder:
                read = [replace(record, prediction=record.response) for record in answered]
                task.score_set(read, Path(folder), judge)  # type: ignore[attr-defined]
        except AdemBenchError as error:
            return f"{UNMEASURED}: {error}"
        basis = (
            f"about, by what its code asks of {len(answered)} made-up answers; those of model and "
            "judge as long as they can be, tokens of images not counted"
        )
    asked = judge.asked.values()
    share = samples / len(answered)
    characters = sum(len(request.prompt) for request in asked)
    longest = sum(request.max_new_tokens for request in asked)
    value = price(card, round(characters / CHARACTERS_PER_TOKEN * share), round(longest * share))
    return Estimate(value, basis)


def _used(run: FinishedRun, part: str) -> Mapping[str, Any]:
    """Return a part of a run's manifest, which says what it used; empty if it does not say it."""
    found = read_run_file(run.folder / MANIFEST).get(part)
    return found if isinstance(found, dict) else {}


def _tokens(used: Mapping[str, Any], run: FinishedRun, samples: int) -> tuple[int, int] | None:
    """Return how many tokens of prompts and answers samples will take, by those of a run.

    Args:
        used: What its manifest says.
        run: It.
        samples: How many.
    """
    counted = run.result.scored + run.result.failed
    stated = (used.get(name) for name in ("prompt_tokens", "answer_tokens"))
    tokens = [number for number in stated if type(number) is int and 0 <= number < MOST_TOKENS]
    if not counted or len(tokens) != 2:
        return None
    return round(tokens[0] * samples / counted), round(tokens[1] * samples / counted)


def _cost(
    prepared: Prepared, requests: Sequence[Request], samples: int, before: FinishedRun | None
) -> Estimate | None:
    """Return what the samples will cost, by what an earlier run used, or by the prompts' length."""
    price = getattr(MODEL_KINDS.load(prepared.card.kind), "price", None)
    if price is None:
        return None
    tokens = _tokens(_used(before, "run"), before, samples) if before else None
    if before and tokens:
        basis = f"tokens as in {before.folder}"
    else:
        length = fmean(len(request.prompt) for request in requests) / CHARACTERS_PER_TOKEN
        longest = max(request.max_new_tokens for request in requests)
        tokens = (round(length * samples), longest * samples)
        basis = "at most, by the length of prompts; tokens of images are not counted"
    value = price(prepared.card, *tokens)
    return None if value is None else Estimate(value, basis)
