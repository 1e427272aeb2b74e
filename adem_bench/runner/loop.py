"""One task on one model: samples in, records on disk, a result out; resumes where it was."""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from adem_bench.errors import AdemBenchError, CardError, DataError, OutOfMemoryError, ResultsError
from adem_bench.models.base import Budget, Model, load_weights
from adem_bench.records import (
    Decoding,
    Json,
    Record,
    Request,
    Response,
    Result,
    Sample,
    record_key,
)
from adem_bench.results.progress import OnProgress, ProgressLines, Standing
from adem_bench.results.run_folder import NOT_SCORED, RunFolder, is_finished
from adem_bench.results.run_log import RunLog
from adem_bench.results.run_schema import ManifestFile, problems
from adem_bench.results.runs import of_kept_records
from adem_bench.runner.answers import Answers, keeps_answers
from adem_bench.runner.batching import Backoff, Item, Unit, ahead, plan
from adem_bench.runner.distributed import Processes, SharedRun, SharedRunError, reaching_the_others
from adem_bench.runner.judge import JudgeModel
from adem_bench.runner.manifest import (
    RunOptions,
    build_manifest,
    decoding_of,
    now,
    run_folder_path,
    run_identity,
    spent,
)
from adem_bench.runner.outcome import Outcome
from adem_bench.tasks import repeats
from adem_bench.tasks.base import Judge, Task, judging_of

__all__ = ["Outcome", "TaskRun", "record_of", "run_task"]
NOT_OFFERED = {
    "choices": "this model gives no log-probabilities of options, which the task's answer_rule "
    "asks for; choose another answer_rule",
    "parts": "this model takes images and a prompt, not a conversation, which the task (or "
    "num_fewshot, with images) asks for; choose a model of kind hf or openai",
}
"""Why a field of a request cannot be honoured."""
SHOWN_REASONS = 3
"""Why samples failed: as many reasons as a result names, the commonest first."""


def run_task(
    model: Model,
    task: Task,
    options: RunOptions,
    results: Path,
    processes: Processes,
    on_progress: OnProgress = lambda standing: None,
    judge: JudgeModel | None = None,
) -> Outcome | None:
    """Answer a task's samples with a model, keep a record of each, score them.

    Args:
        model: With the task's weights in use.
        task: The benchmark.
        options: Limits and switches.
        results: Folder below which runs are kept.
        processes: Those that share the work.
        on_progress: Called after every batch.
        judge: Reads the answers, of a task that asks one.

    Returns:
        The outcome; None on every process but the first.

    Raises:
        AdemBenchError: data, weights or the disk are at fault; what was answered is kept.
    """
    judge = _judge_for(task, judge, options)
    identity = run_identity(model, task, options, judge.name if judge else None)
    path = _prepared_place(results, model, identity, options)
    shared = processes.new_run(path.name)
    with ExitStack() as stack:
        folder = stack.enter_context(RunFolder(path, processes.rank))
        run = TaskRun(model, task, options, folder, shared, results)
        if processes.is_main_process:
            folder.gather(options.fresh)
        shared.barrier("gathered")
        if 0 in shared.dead:
            raise SharedRunError(
                "the first process of this run has died before it began; the same command starts it"
            )
        # Not before: the folder may belong to another run, which has its own log.
        log = stack.enter_context(_log(path, model, task, processes))
        lines = ProgressLines(task.card.name, log.info)
        shown = (on_progress, lines.update) if processes.is_main_process else ()
        started, clock = now(), time.perf_counter()
        try:
            resumed = run.answer_all(shown, log)
        finally:
            run.close()
        if not shared.is_first:
            shared.leave()
            return None
        if not processes.is_main_process:
            folder.take_over()
        seconds = time.perf_counter() - clock
        run.show(shown)
        lines.close()
        records = run.ordered()
        if not records:
            raise DataError(
                f"task {task.card.name}: its data has no sample in split {task.card.split}; "
                "`adem-bench tasks show` names the file, --split another split"
            )
        # Rows that could not be asked have records without a request.
        answered = sum(bool(record.request_digest) for record in records) - resumed
        reused = shared.add("reused", 0)
        # Each was asked by this call: records with an error are not taken over.
        asked = answered - reused - sum(map(_is_failed, records))
        # A run that has figures, and no new answer, keeps them.
        to_score = not options.predict_only or (answered == 0 and folder.is_scored())
        # What was answered now is its task's own; what was kept may have been edited.
        with of_kept_records(path) if resumed else contextlib.nullcontext():
            records, result, about_judge = run.scored(records, judge, to_score)
        known = _whole_manifest(folder) if answered == 0 else None
        if not known:
            _log_result(log, result)
        manifest = known or build_manifest(
            model,
            task,
            options,
            identity,
            run={
                "started": started,
                "finished": now(),
                "processes": processes.world_size,
                **spent(model, (record.tokens for record in records)),
            },
            timing={
                "seconds": round(seconds, 3),
                "answered": answered,
                "resumed": resumed,
                "reused": reused,
                "samples_per_second": round(asked / seconds, 3) if asked else None,
                **_loading(model),
            },
        )
        manifest |= about_judge
        manifest.pop(NOT_SCORED, None)
        if not to_score:
            manifest[NOT_SCORED] = {"warnings": list(result.warnings)}
        folder.finish(records, result if to_score else None, manifest)
        with of_kept_records(path) if resumed else contextlib.nullcontext():
            repeats.export(task, records, path)
        shared.leave()
    return Outcome(path, result, resumed, reused)


def _judge_for(task: Task, judge: JudgeModel | None, options: RunOptions) -> JudgeModel | None:
    """Return the judge of a task: none where it asks none.

    Raises:
        CardError: it is to be scored, and cannot be without one.
    """
    if not options.predict_only:
        repeats.check_judge(task, judge is not None)
    return None if judging_of(task) == "no" else judge


def _prepared_place(
    results: Path, model: Model, identity: Mapping[str, Json], options: RunOptions
) -> Path:
    """Return a run's folder; a model that is going to be asked has loaded its weights.

    Args:
        results: Folder below which runs are kept.
        model: With the task's weights in use.
        identity: Of the run.
        options: Whether it begins anew.

    Raises:
        CheckpointError: the weights cannot be read: that shows before anything is written.
    """
    path = run_folder_path(results, model, identity)
    if options.fresh or not is_finished(path):
        load_weights(model)
    return path


def _is_failed(record: Record) -> bool:
    """Return whether a sample was asked, and has no answer."""
    return bool(record.error and record.request_digest and not record.is_unjudged)


def _whole_manifest(folder: RunFolder) -> Any:
    """Return the manifest of the finished run that is here; None if there is none, or a damaged."""
    try:
        manifest = folder.manifest()
    except ResultsError:
        return None
    return None if any(problems(ManifestFile, manifest)) else manifest


def _loading(model: Model) -> dict[str, float]:
    """Return how long a model took to load, where that is known: not that of every plug-in."""
    seconds = getattr(model, "loading_s", None)
    is_loaded = getattr(model, "is_loaded", True)
    return {} if seconds is None or not is_loaded else {"loading_seconds": round(seconds, 3)}


def _log(path: Path, model: Model, task: Task, processes: Processes) -> RunLog:
    card = task.card
    about = (
        f"model {model.card.name} ({model.fingerprint()}), task {card.name} (version "
        f"{card.version}), split {card.split}"
    )
    for seconds in _loading(model).values():
        about += f"; the model was loaded in {seconds} s"
    return RunLog(path, about, processes.rank, processes.world_size)


def _log_result(log: RunLog, result: Result) -> None:
    for warning in result.warnings:
        log.warning(warning)
    headline = next((m for m in result.metrics if m.name == result.headline), None)
    figure = "not scored"
    if headline:
        unit = "%" if headline.unit == "fraction" and headline.value is not None else ""
        figure = f"{headline.name} {headline.format()}{unit}"
    log.info(
        f"finished: {figure}; {result.scored:,} of {result.expected:,} samples answered, "
        f"{result.shortfall()}"
    )


def record_of(task: Task, sample: Sample, request: Request, response: Response) -> Record:
    """Return what is kept of an answer; nothing is read of a response that has an error.

    Args:
        task: Which reads the response.
        sample: What was asked about.
        request: As the model was given it.
        response: What it answered.
    """
    read = replace(response, text=response.answer_text)
    prediction = None if response.error else task.parse_response(sample, read)
    return Record(
        sample_id=sample.id,
        request_digest=request.digest(),
        response=response.text,
        prediction=prediction.value if prediction else None,
        reference=sample.reference,
        score=prediction.score if prediction else None,
        groups=sample.groups,
        cluster=sample.cluster,
        error=response.error,
        notes=(*response.notes, *(prediction.notes if prediction else ())),
        choice_logprobs=response.choice_logprobs,
        tokens=response.tokens,
        finish_reason=response.finish_reason,
        answer=response.answer,
        reasoning=response.reasoning,
        repeat=request.repeat,
    )


class TaskRun:
    """The parts of `run_task` that share its arguments."""

    def __init__(
        self,
        model: Model,
        task: Task,
        options: RunOptions,
        folder: RunFolder,
        shared: SharedRun,
        results: Path,
    ) -> None:
        """Keep what the parts need.

        Args:
            model: With the task's weights in use.
            task: The benchmark.
            options: Limits and switches.
            folder: Where records are kept.
            shared: The units that processes draw from, and their barriers.
            results: Folder below which runs are kept, and the answers that they share.
        """
        self.model = model
        self.task = task
        self.options = options
        self.folder = folder
        self.shared = shared
        self._results = results
        self._kept: list[str] = []
        self._order: list[str] = []  # keys of all records, as the samples come
        self._decoding = decoding_of(model, options)
        self._together = bool(getattr(model, "answers_together", False))
        # Processes that answer together must ask the same, whatever others have found by then.
        keeps = options.reuse and keeps_answers(model) and not self._together
        self._answers = (
            Answers(results, model.fingerprint(), options.seed, options.fresh) if keeps else None
        )

    def samples(self) -> Iterator[Sample]:
        """Yield the samples up to the limit."""
        limit = self.options.limit
        return islice(self.task.samples(), None if limit is None else min(limit, sys.maxsize))

    def request(self, sample: Sample) -> Request:
        """Return what is asked of a sample, without its images in a blind run.

        Raises:
            CardError: the task asks for what the model does not offer, or it is asked several
                times and answers alike each time.
        """
        request = self.task.request(sample)
        for field, words in NOT_OFFERED.items():
            if getattr(request, field) and field not in self.model.request_fields:
                raise CardError(f"model {self.model.card.name}: {words}")
        decoding = self._decoding
        if request.decoding != Decoding():
            asked = replace(self.options.decoding, seed=self.options.seed)
            decoding = self.model.decoding(asked.over(request.decoding))
        if self.options.repeats > 1 and not (decoding.samples or self.model.answers_vary):
            raise CardError(self._answers_alike())
        request = request.without_images() if self.options.blind else request
        return request if request.decoding == decoding else replace(request, decoding=decoding)

    def _answers_alike(self) -> str:
        draws = "temperature" in self.model.decoding_fields
        return (
            f"--repeats {self.options.repeats}: model {self.model.card.name} would give the same "
            f"answer each time; {'give --temperature too' if draws else 'leave the option out'}"
        )

    def answer_all(self, shown: Sequence[OnProgress], log: RunLog) -> int:
        """Answer all samples, together with the other processes; arguments as for `answer`.

        What a process that died has left is drawn anew by those that live.

        Raises:
            AdemBenchError: data, weights or the disk are at fault; what was answered is kept.
        """
        missed = self.shared.dead
        resumed = self.answer(shown, log, 0)
        self.shared.barrier("answered0")
        for attempt in itertools.count(1):
            if self.shared.dead == missed:
                break
            missed = self.shared.dead
            log.warning(f"processes {sorted(missed)} have died; the others answer what they left")
            self.answer(shown, log, attempt)
            self.shared.barrier(f"answered{attempt}")
        return resumed

    def answer(self, shown: Sequence[OnProgress], log: RunLog, attempt: int) -> int:
        """Answer what this process draws; return how many records were there before.

        Args:
            shown: Told after every unit how far all processes have come.
            log: Told which samples fail, and why.
            attempt: How often units were planned anew, after a process had died.

        Raises:
            AdemBenchError: data, weights or the disk are at fault; what was answered is kept.
        """
        earlier = self.folder.records()
        # Every process must have read the same records before the first one adds to them.
        self.shared.barrier(f"read{attempt}")
        budget = self._budget()
        kept: list[str] = []
        units = plan(self._items(earlier, kept if attempt else self._kept), budget)
        backoff = Backoff(self._answered_together if self._together else self.model.answer)
        rows: int | None = None
        self.show(shown)
        to_ask = self._not_known(units if self._together else self.shared.drawn(units, attempt))
        for unit in ahead(to_ask, self.model.prefetch, budget.ahead):
            # A part is appended as soon as it is answered, so that a kill loses no more.
            answered = [self._append(item, given) for item, given in backoff.answer(unit.items)]
            failed = [record for record in answered if record.error]
            for record in failed:
                log.warning(f"sample {record.key} failed: {record.error}")
            if backoff.most_rows != rows:
                rows = backoff.most_rows
                log.info(f"memory ran out: no more than {rows} requests at once from here on")
            if self._records:
                self.shared.add("asked", len(answered))
                self.shared.add("failed", len(failed))
            self.show(shown)
        self.show(shown)
        return len(self._kept)

    def show(self, shown: Sequence[OnProgress]) -> None:
        """Tell how far all processes have come."""
        if shown:
            asked = self.shared.add("asked", 0)
            done = len(self._kept) + self.shared.add("reused", 0) + asked
            standing = Standing(done, self._total, asked, self.shared.add("failed", 0))
            for tell in shown:
                tell(standing)

    def close(self) -> None:
        """Write the answers that are still to be kept for other runs."""
        if self._answers:
            self._answers.close()

    def _not_known(self, units: Iterable[Unit]) -> Iterator[Unit]:
        """Yield what must be asked, and append what other runs have been answered."""
        for unit in units:
            items = tuple(item for item in unit.items if not self._reuse(item))
            if items:
                yield Unit(unit.index, items)

    def _reuse(self, item: Item) -> bool:
        """Return whether the answer to a request is known; its record is then appended."""
        response = self._answers.find(item.request) if self._answers else None
        if response is None:
            return False
        self.folder.append([record_of(self.task, item.sample, item.request, response)])
        self.shared.add("reused", 1)
        return True

    def _append(self, item: Item, response: Response) -> Record:
        record = record_of(self.task, item.sample, item.request, response)
        if self._records:
            self.folder.append([record])
        if self._answers and record.error is None:
            self._answers.keep(item.request, response)
        return record

    @property
    def _records(self) -> bool:
        """Whether this process keeps what is answered: one of those that answer together does."""
        return self.shared.is_first or not self._together

    def _answered_together(self, requests: Sequence[Request]) -> list[Response]:
        """Answer a batch that the other processes answer too, each with its part of the weights.

        Raises:
            SharedRunError: one of the others has ended.
            AdemBenchError: memory ran out, which the others cannot know.
        """
        try:
            with reaching_the_others():
                return self.model.answer(requests)
        except OutOfMemoryError as error:
            raise AdemBenchError(
                "memory ran out in one of the processes that hold the model together; give a "
                "smaller --batch-size, or set prompt_batch_tokens"
            ) from error

    def _budget(self) -> Budget:
        suits = self.model.budget()
        if self.options.batch_size is None:
            return suits
        return replace(suits, tokens=1 << 62, rows=self.options.batch_size)

    @cached_property
    def _total(self) -> int:
        """How many answers there will be; a task may read its data to say so."""
        samples = min(self.task.num_expected, self.options.limit or self.task.num_expected)
        return samples * self.options.repeats

    def _items(self, earlier: Mapping[str, Record], kept: list[str]) -> Iterator[Item]:
        """Yield what is still to be answered; a record of another request does not count.

        Args:
            earlier: By their keys.
            kept: The keys of those that count are added to it.
        """
        self._order.clear()
        for sample in self.samples():
            asked = self.request(sample)
            for repeat in range(self.options.repeats):
                request = replace(asked, repeat=repeat) if repeat else asked
                key = record_key(sample.id, repeat)
                self._order.append(key)
                record = earlier.get(key)
                is_answered = record is not None and (record.error is None or record.is_unjudged)
                if record and is_answered and record.request_digest == request.digest():
                    kept.append(record.key)
                else:
                    yield Item(sample, request, self.model.length(request))

    def ordered(self) -> list[Record]:
        """Return the samples' records in the samples' order, then the malformed rows."""
        found = self.folder.records()
        records = [found[key] for key in self._order if key in found]
        taken = {record.sample_id for record in records}
        malformed = {row.id: row for row in self.task.skipped_rows()}
        return records + [
            Record(row.id, "", "", None, None, None, error=row.reason)
            for row in malformed.values()
            if row.id not in taken
        ]

    def scored(
        self, records: list[Record], judge: JudgeModel | None, to_score: bool
    ) -> tuple[list[Record], Result, dict[str, Any]]:
        """Return the records with their scores, the result, and what a manifest says of the judge.

        Args:
            records: Of the run.
            judge: Of a task that asks one.
            to_score: Whether they are to be scored now.
        """
        if not to_score:
            return records, self.unscored(records), {}
        if judge is None:
            return *self.score(records), {}
        shared = self._results if self.options.reuse else None
        with closing(judge.of_run(self.folder.path, shared, self.options.fresh)) as asks:
            return *self.score(records, asks), {"judge": asks.describe()}

    def score(
        self, records: Sequence[Record], judge: Judge | None = None
    ) -> tuple[list[Record], Result]:
        """Return the records with their scores, and the result with what a reader must know.

        Args:
            records: Of the run.
            judge: Of a task that one can judge.
        """
        scored, result = repeats.score(self.task, records, self.folder.path, judge)
        return scored, replace(result, warnings=(*result.warnings, *self._notes(scored)))

    def unscored(self, records: Sequence[Record]) -> Result:
        """Return a result without metrics: how many samples have an answer, and how many none."""
        card, samples = self.task.card, repeats.by_repeat(records)[0]
        answered = sum(map(repeats.is_scored, samples))
        return Result(
            task=card.name,
            task_version=card.version,
            split=card.split,
            headline=card.headline,
            metrics=(),
            scored=answered,
            failed=len(samples) - answered,
            expected=self.task.num_expected,
            warnings=tuple(self._notes(records)),
            unusable=sum(record.is_unusable_row for record in samples),
        )

    def _notes(self, records: Sequence[Record]) -> list[str]:
        """Return what a reader must know besides what the task says."""
        notes = [
            *self.model.warnings(),
            *self._prompt_warnings(),
            *_note_warnings(records),
            *self._cut_warning(records),
        ]
        notes += _failure_warnings(records, notes)
        return notes + (list(self._answers.warnings) if self._answers else [])

    def _cut_warning(self, records: Sequence[Record]) -> Iterator[str]:
        """Yield how many answers were scored though they were cut; one token is always cut."""
        cut = sum(record.finish_reason == "length" and not record.error for record in records)
        if cut and any(self.request(s).max_new_tokens > 1 for s in islice(self.samples(), 1)):
            yield f"{cut} of {len(records)} answers ended at max_new_tokens, and were scored"

    def _prompt_warnings(self) -> Iterator[str]:
        used = self.task.prompt_settings()
        for name, tuned in self.model.training_prompts(self.task.card.kind).items():
            if name in used and used[name] != tuned:
                yield (
                    f"{name}: {_shown(used[name])} here, {_shown(tuned)} when the weights were "
                    "tuned (--prompt-format matched uses that)"
                )


def _failure_warnings(records: Sequence[Record], said: Sequence[str]) -> list[str]:
    """Return the commonest reasons of failed samples, each with its remedy.

    Args:
        records: Of the run; rows that could not be asked are no failures.
        said: Warnings that there are: models may name reasons of their own.
    """
    reasons = Counter(record.error for record in records if record.error and record.request_digest)
    return [
        f"{count} of {len(records)} samples failed: {reason}"
        for reason, count in reasons.most_common(SHOWN_REASONS)
        if not any(reason[:40] in warning for warning in said)
    ]


def _note_warnings(records: Sequence[Record]) -> Iterator[str]:
    met = {(record.sample_id, note) for record in records for note in record.notes}
    counts = Counter(note for _, note in met)
    for note, count in sorted(counts.items()):
        yield f"{count} samples met quirk {note} (docs/quirks.md)"


def _shown(value: Json) -> str:
    return (
        {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value)
    )
