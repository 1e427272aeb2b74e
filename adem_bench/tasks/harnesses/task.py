"""A benchmark of another harness as a task: `vlmevalkit:NAME`, `lmms_eval:NAME`.

Samples are what the harness's own code makes of the data on disk, written to the cache by a process
of its own; answers are scored as a set, by another one.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

from filelock import FileLock

from adem_bench.data.paths import cache_root
from adem_bench.digests import digest
from adem_bench.errors import DataError
from adem_bench.files import file_name, open_text, read_json, write_atomically, write_json
from adem_bench.metrics.grouped import MEAN_SCORE, grouped_metrics, scores_of, widened
from adem_bench.metrics.intervals import Formula, Statistics, ratio, share_metric, with_intervals
from adem_bench.prompts import INSTRUCTION, TEMPLATE
from adem_bench.records import (
    Decoding,
    Json,
    Metric,
    Part,
    Prediction,
    Record,
    Request,
    Response,
    Sample,
)
from adem_bench.schemas import Seconds, Strict, TaskCard
from adem_bench.tasks.base import Judge, Judging, SetScores
from adem_bench.tasks.benchmark import Benchmark, TokenCount, scored_records
from adem_bench.tasks.harnesses.catalogue import (
    MESSAGES,
    catalogue,
    entry_of,
    judging_of_source,
    names_like,
)
from adem_bench.tasks.harnesses.figures import own_scores, parts_of_figures, unit_of
from adem_bench.tasks.harnesses.judging import JudgeServer
from adem_bench.tasks.harnesses.process import (
    LMMS_EVAL,
    VLMEVALKIT,
    Harness,
    data_folder,
    find,
    run_job,
)
from adem_bench.tasks.harnesses.sizes import is_unchanged

FORMAT = 2
"""Of what is kept of samples; raised when a worker writes them otherwise."""
SPLIT = "theirs"
"""The split of every such task: which rows are asked is the harness's."""
LOCK = ".lock"
SCORES, ANSWERS, LOG, FILES = "scores.json", "answers.jsonl", "log.txt", "files"
"""In the folder of a run's scoring; `FILES` has what the harness wrote."""
NO_MEAN = "no mean over samples: no interval"
EXACT = "exact matching in place of a judge (--judge)"
"""Said of figures of a benchmark that its own harness has judged."""
MOST_SCORINGS = 5
"""How often answers are scored anew without those that the judge failed on."""
IMAGES = "judge_images"
CATEGORIES = ("category", "l2-category")
"""Columns whose values are report groups."""
DEFAULT_TOKENS, CHAT_TOKENS = 128, 1024
"""How long an answer may be where the harness does not say."""


class HarnessOptions(Strict):
    """Settings of a card of this kind."""

    source: str
    """The benchmark's name in its harness."""
    max_new_tokens: TokenCount | None = None
    """The harness's own by default; where it has none, 128."""
    time_limit: Seconds = 3600
    """Seconds that reading the data, or scoring, may take."""


class HarnessTask(Benchmark):
    """A benchmark of another harness, of which this one knows questions, images and scores."""

    harness: ClassVar[Harness]
    options_schema: ClassVar[type[Strict]] = HarnessOptions
    prompt_formats: ClassVar[Mapping[str, str]] = {
        "question": "{question}",
        INSTRUCTION: TEMPLATE,
    }
    chat_options: ClassVar[Mapping[str, Json]] = {}

    @classmethod
    def card_fields(cls, source: str) -> dict[str, Any]:
        """Return the fields of the card that `KIND:SOURCE` stands for.

        Raises:
            CardError: there is no such benchmark, or it cannot be run; the message says why.
        """
        entry = entry_of(cls.harness, source)
        return {
            "title": f"{source}, by {cls.harness.title}",
            "split": SPLIT,
            "options": {"source": entry.name},
        }

    @classmethod
    def sources_like(cls, source: str) -> Sequence[str]:
        """Return the benchmarks that a name, a pattern or a group of them stands for.

        Raises:
            CardError: the harness is not installed, or a pattern matches nothing that can be run.
        """
        return names_like(cls.harness, source)

    def check_metrics(self) -> None:
        """Leave the card's headline open: it is known once answers were scored."""

    # Data

    @cached_property
    def built(self) -> Mapping[str, Any]:
        """What reading the data gave: file of samples, their number and digest, versions."""
        installed = find(self.harness)
        about = [FORMAT, str(installed.folder), installed.version, str(data_folder())]
        key = digest([*about, self.asked, str(Path.cwd())])
        kept = self._cache / f"built-{key}.json"
        with self._alone():  # of several processes one reads, and the others see the same
            found = _kept(kept, key)
            if found is None or not is_unchanged(found):
                job = {"do": "build", "folder": str(self._cache)}
                found = {"key": key, "data": str(data_folder()), **self._job(job, "reading")}
                write_json(kept, found)
        return found

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let no other process write to this benchmark's part of the cache.

        Raises:
            DataError: the cache cannot be written.
        """
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._cache / LOCK)
            lock.acquire()
        except OSError as error:
            raise DataError(
                f"{self._cache} cannot be written ({error.strerror}); set ADEM_BENCH_CACHE to a "
                "folder that can be written"
            ) from error
        try:
            yield
        finally:
            lock.release()

    @property
    def asked(self) -> Mapping[str, Json]:
        """What every job is told of the benchmark."""
        return {"name": self.options.source}

    @property
    def _cache(self) -> Path:
        return cache_root() / "harnesses" / self.harness.kind / file_name(self.options.source)

    def _job(
        self,
        job: Mapping[str, Any],
        doing: str,
        log: Path | None = None,
        judge: JudgeServer | None = None,
    ) -> Any:
        return run_job(
            self.harness,
            {**self.asked, **job},
            log or self._cache / LOG,
            self.options.time_limit,
            f"{doing} {self.options.source}",
            **({"judge": judge} if judge else {}),
        )

    def fetch(self) -> None:
        """Let the harness fetch the data by its own code; what is on disk stays as it is.

        Raises:
            DataError: it cannot; its words are in the message.
        """
        with self._alone():
            self._job({"do": "build", "folder": str(self._cache), "network": True}, "fetching")

    def rows(self) -> Iterator[Any]:
        """Yield the samples as the harness's process wrote them.

        Raises:
            DataError: the file is damaged.
        """
        path = Path(self.built["samples"])
        with open_text(path) as lines:
            try:
                yield from map(json.loads, lines)
            except (ValueError, RecursionError) as error:
                raise DataError(
                    f"{path} is damaged: {error}; remove it, it is made anew"
                ) from error

    def sample(self, row: Any) -> Sample:
        """Return what a row asks."""
        reference = row["reference"]
        labels = row["labels"]
        return Sample(
            id=row["id"],
            fields={"parts": row["parts"], "labels": labels},
            # In a list: what is right is for the harness to say, not for equal texts.
            reference=None if reference is None else [reference],
            images=tuple(map(Path, row["images"])),
            groups=tuple(f"{name}/{labels[name]}" for name in CATEGORIES if name in labels),
        )

    def count(self) -> int:
        """Return how many samples there are."""
        return int(self.built["count"])

    def digest(self) -> str:
        """Return a digest of the samples, their images and the harness's version."""
        return str(self.built["digest"])

    def packages(self) -> Mapping[str, str]:
        """Return the version of the package that made the prompts, and scores."""
        return {self.harness.package: self.built["version"]}

    # Prompt

    def question(self, sample: Sample) -> str:
        """Return the texts of a sample's message, one below the other."""
        texts = (part["text"] for part in sample.fields["parts"] if "text" in part)
        text = "\n".join(texts)
        return text.strip() if self.prompt_format == INSTRUCTION else text

    def request(self, sample: Sample) -> Request:
        """Render a sample as what a model may see; images between texts stay there."""
        asked = Request(
            prompt=self.prompt(sample),
            images=sample.images,
            max_new_tokens=self.max_new_tokens,
            image_normalization=self.image_normalization,
        )
        parts = sample.fields["parts"]
        kinds = ["image" in part for part in parts]
        if kinds == sorted(kinds, reverse=True) or self.prompt_format == INSTRUCTION:
            return asked  # images first, as everywhere
        places = iter(range(len(sample.images)))
        return replace(
            asked,
            parts=tuple(
                Part(image=next(places)) if "image" in part else Part(part["text"])
                for part in parts
            ),
        )

    @property
    def max_new_tokens(self) -> int:
        """The longest answer, in tokens."""
        return self.options.max_new_tokens or DEFAULT_TOKENS

    # Reading and score

    def parse_response(self, sample: Sample, response: Response) -> Prediction:
        """Keep the answer as it is: the harness reads it, with all others."""
        return Prediction(response.text, None)

    @property
    def judging(self) -> Judging:
        """Whether its harness has answers judged by another model."""
        own = getattr(self.options, "include_path", "")
        return judging_of_source(self.harness, self.options.source, own)

    def score_set(
        self, records: Sequence[Record], folder: Path, judge: Judge | None = None
    ) -> SetScores:
        """Score answers as the harness does, in a process of its own that writes below a folder.

        What the judge fails on is left out, and the others are scored without it.

        Args:
            records: Those with an error are not scored.
            folder: Of the run's scoring.
            judge: Answers in place of the harness's own judge.

        Raises:
            DataError: the harness failed, wrote elsewhere, or took too long; or the judge failed
                on a question that is not about one sample.
        """
        answered = scored_records(records)
        if judge is None:
            return self._score(answered, folder, None) if answered else SetScores({}, {})
        failed: dict[str, str] = {}
        whole = f"{self.harness.title}, scoring {self.options.source}: the judge failed on"
        for _ in range(MOST_SCORINGS):
            left = [record for record in answered if record.sample_id not in failed]
            if not left:
                return SetScores({}, {}, unjudged=failed)
            server = JudgeServer(judge, folder / IMAGES)
            try:
                found = self._score(left, folder, server, judge.name)
            except DataError:
                if not server.failed:
                    raise
            else:
                if not server.failed:
                    return replace(found, unjudged=failed)
            if "" in server.failed:
                raise DataError(
                    f"{whole} a question that is not about one sample: {server.failed['']}; what "
                    "it answered is kept, and the same command goes on from there"
                )
            failed |= server.failed
        reason = list(failed.values())[-1]
        raise DataError(f"{whole} {len(failed)} answers, and on others each time: {reason}")

    def _score(
        self,
        answered: Sequence[Record],
        folder: Path,
        server: JudgeServer | None,
        judge: str = "",
    ) -> SetScores:
        """Score answers, or take the scores that are kept of them.

        Args:
            answered: With answers.
            folder: Of the run's scoring.
            server: Answers what is asked of a judge.
            judge: Its name and fingerprint.
        """
        texts = [[one.sample_id, one.answer_text] for one in answered]
        key = digest([self.fingerprint(), texts, *([judge] if judge else [])])
        kept = _kept(folder / SCORES, key)
        if kept is None:
            lines = (
                json.dumps({"id": one.sample_id, "text": one.answer_text}) + "\n"
                for one in answered
            )
            write_atomically(folder / ANSWERS, lines)
            found = self._scored(folder, server)
            kept = {"key": key, "count": len(answered), **found}
            if server is None or not server.failed:
                write_json(folder / SCORES, kept)
        return self._scores(kept, judge)

    def _scored(self, folder: Path, judge: JudgeServer | None) -> Mapping[str, Any]:
        """Score the answers in a folder; what the harness writes is kept there.

        It writes elsewhere first: VLMEvalKit replaces parts of paths, where a run's own folder
        would have the benchmark's name too.

        Args:
            folder: Of the run's scoring.
            judge: Answers what is asked of a judge.
        """
        files = folder / FILES
        shutil.rmtree(files, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix="scoring-", ignore_cleanup_errors=True) as place:
            job = {
                "do": "score",
                "folder": place,
                "cache": str(self._cache),
                "answers": str((folder / ANSWERS).absolute()),
                "model": "model",
                "judging": self.judging,
            }
            try:
                found: Mapping[str, Any] = self._job(job, "scoring", folder / LOG, judge)
            finally:
                shutil.rmtree(Path(place) / "tmp", ignore_errors=True)
                shutil.copytree(place, files, symlinks=True)
        return found

    def _scores(self, found: Mapping[str, Any], judge: str) -> SetScores:
        if submission := found.get("submission"):
            return SetScores(
                {},
                {},
                warnings=[
                    f"not scored: a server has the right answers of {self.options.source}; "
                    f"what it takes is scoring/{FILES}/{submission} in the run's folder"
                ],
            )
        labels = {row["id"]: row["labels"] for row in self.rows()}
        figures, vectors = found["figures"], found["vectors"]
        parts = parts_of_figures(figures, vectors, labels, found.get("of"))
        by_sample: dict[str, dict[str, float]] = {}
        for name, part in parts.items():
            for sample_id, value in part.items():
                by_sample.setdefault(sample_id, {})[name] = value
        unit = "points" if found.get("unit") == "points" else unit_of(figures, parts)
        package = f"{self.harness.package} {found['version']}"
        unjudged = self.judging != "no" and not judge
        source = f"{package}, {EXACT}" if unjudged else package
        metrics = [
            Metric(
                name,
                value,
                unit,
                len(parts.get(name, ())) or found["count"],
                note=source if name in parts else f"{source}; {NO_MEAN}",
            )
            for name, value in figures.items()
        ]
        headline = found["headline"] or next(iter(figures), "")
        warnings = [f"scored by {self.harness.title} ({package})"]
        if unjudged:
            warnings[0] += ", by exact matching: its own default is a judge model"
        if not figures:
            files = ", ".join(found.get("files") or ()) or "none"
            warnings = [
                f"not scored: {self.harness.title} ({package}) gives no figure; what it wrote, "
                f"such as answers for a server, below scoring/…/{FILES}: {files}"
            ]
        warnings += [f"asked without {self._unheeded}"] if self._unheeded else []
        scores = own_scores(headline, parts, vectors)
        return SetScores(scores, by_sample, metrics, headline, warnings)

    @property
    def _unheeded(self) -> str:
        """Settings of the benchmark that no model here can be told; none by default."""
        return ""

    def metrics(self, records: Sequence[Record]) -> Sequence[Metric]:
        """Return the figures that are means over samples, with intervals."""
        names = dict.fromkeys(name for record in records for name in record.scores)
        if not names:
            return grouped_metrics(scores_of(records), MEAN_SCORE, self.unit, groups=())
        statistics = self.statistics(self.card, records)
        found = []
        for name in names:
            values = [record.scores[name] for record in records if name in record.scores]
            if name in statistics.shares:
                found.append(share_metric(name, round(sum(values)), len(values)))
            else:
                metric = Metric(name, fmean(values), "fraction", len(values))
                found.append(replace(metric, unit="points") if max(values) > 1 else metric)
        return [
            widened(metric, metric.count, 1.0 if metric.unit == "fraction" else 100.0, self.unit)
            for metric in with_intervals(tuple(found), statistics)
        ]

    @classmethod
    def statistics(cls, card: TaskCard, records: Sequence[Record]) -> Statistics:
        """Return what the figures that are means rest on, sample by sample.

        Args:
            card: The card of the run; its data may not be available.
            records: Of any samples.
        """
        import numpy as np

        scored = scored_records(records)
        names = list(dict.fromkeys(name for record in scored for name in record.scores))
        parts = [record.scores for record in scored]
        if not names:
            names = [MEAN_SCORE]
            scored = [record for record in scored if record.score is not None]
            parts = [{MEAN_SCORE: record.score or 0.0} for record in scored]
        place = {name: number for number, name in enumerate(names)}
        rows = np.zeros((len(parts), 2 * len(names)))
        for row, part in zip(rows, parts, strict=True):
            for name, value in part.items():
                row[place[name]] = value
                row[place[name] + len(names)] = 1
        values = {name: {part[name] for part in parts if name in part} for name in names}
        return Statistics(
            noun=cls.unit,
            units=tuple(record.sample_id for record in scored),
            strata=("",) * len(scored),
            rows=rows,
            formulas={name: _mean(number, len(names)) for name, number in place.items()},
            shares=frozenset(name for name in names if values[name] <= {0.0, 1.0}),
        )


def _mean(place: int, width: int) -> Formula:
    return lambda sums: ratio(sums[..., place], sums[..., place + width])


def _kept(path: Path, key: str) -> Mapping[str, Any] | None:
    """Return what is kept under a key; None if that is nothing, or a file that is damaged."""
    try:
        kept = read_json(path)
    except (OSError, ValueError):
        return None
    is_asked = isinstance(kept, dict) and kept.get("key") == key
    return kept if is_asked else None


class VlmEvalKitTask(HarnessTask):
    """An image data set of VLMEvalKit, scored by its `evaluate`."""

    harness = VLMEVALKIT
    rows_of = "vlmevalkit"
    chat_options: ClassVar[Mapping[str, Json]] = {"max_new_tokens": CHAT_TOKENS}


class LmmsEvalOptions(HarnessOptions):
    """Settings of a card of a task of lmms-eval."""

    include_path: str = ""
    """Folder of lmms-eval tasks of one's own."""
    messages: bool | None = None
    """Whether questions are the task's `doc_to_messages`, which lmms-eval's chat models are asked,
    or its `doc_to_text` and `doc_to_visual`; by default the first for models that chat and for
    tasks that have nothing else."""


class LmmsEvalTask(HarnessTask):
    """A task of lmms-eval, scored by its `process_results` and aggregations."""

    harness = LMMS_EVAL
    rows_of = "lmms_eval"
    options_schema: ClassVar[type[Strict]] = LmmsEvalOptions
    chat_options: ClassVar[Mapping[str, Json]] = {"messages": True}

    @property
    def asked(self) -> Mapping[str, Json]:
        """What every job is told of the task."""
        entry = catalogue(self.harness).get(self.options.source)
        messages = self.options.messages
        if messages is None:
            messages = entry is not None and entry.modality == MESSAGES
        file = entry.file if entry is not None and not self.options.include_path else ""
        return {
            **super().asked,
            "include_path": self.options.include_path,
            "file": file,
            "messages": messages,
        }

    @property
    def _unheeded(self) -> str:
        """Settings of the benchmark that no model here can be told."""
        unheeded = self.built["generation"].get("unheeded") or {}
        return ", ".join(f"{name} {value:g}" for name, value in unheeded.items())

    @property
    def max_new_tokens(self) -> int:
        """The longest answer, in tokens: the task's own unless the card says one."""
        theirs = self.built["generation"]["max_new_tokens"]
        default = CHAT_TOKENS if self.options.messages else DEFAULT_TOKENS
        return self.options.max_new_tokens or theirs or default

    def request(self, sample: Sample) -> Request:
        """Render a document with the task's own generation settings."""
        settings = self.built["generation"]
        decoding = Decoding()
        top_p, temperature = settings.get("top_p", 1), settings.get("temperature", 1)
        if settings["do_sample"] and temperature and top_p:
            decoding = Decoding(
                temperature, None if top_p == 1 else top_p, settings.get("top_k") or None, 0
            )
        elif (settings.get("num_beams") or 1) > 1:
            decoding = Decoding(num_beams=int(settings["num_beams"]))
        stop = tuple(settings["until"])
        return replace(super().request(sample), stop=stop, decoding=decoding)
