"""VLMEvalKit's data sets: its rows and prompts as samples, and its own scoring of answers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from .judge import hand_over
from .wire import (
    SHARED,
    Job,
    file_digest,
    note_reads,
    number,
    read_answers,
    serve,
    write_only_below,
    write_rows,
)

PACKAGE = "ms-vlmeval"
EXACT = "exact_matching"
"""Its word for scoring without a judge."""
USUAL_JUDGE = "gpt-4o-mini"
"""What its judge is called where it names none; in names of files alone."""
REFUSED_TYPES = {"MT": "its questions are conversations of several turns"}
METHODS = {"TDBenchGrounding": "centroid"}
"""Classes that take a method of scoring where others take a judge, and their default."""
TO_SERVERS = (
    *("MMMU_TEST", "MMT-Bench_ALL", "AesBench_TEST", "DocVQA_TEST", "InfoVQA_TEST"),
    *("Q-Bench1_TEST", "A-Bench_TEST"),
)
"""Data sets whose answers VLMEvalKit writes to a file and does not score."""
UNSCORED: Mapping[str, Any] = {"figures": {}, "headline": "", "vectors": {}}
IN_ORDER = ("ImageVQADataset", "VizWiz")
"""Classes that score rows in the order of the file."""
OCRBENCH_ROWS = 1000
FORMULAS = "Handwritten Mathematical Expression Recognition"
"""A category of OCRBench."""
MOST_LABELS = 200
"""Different values up to which a column names groups."""
TABLES = (".xlsx", ".csv", ".tsv", ".json", ".jsonl")


def version() -> str:
    """Return the release of the package, or the commit of a checkout."""
    import vlmeval

    here = Path(vlmeval.__file__).resolve().parent
    try:
        package = metadata.distribution(PACKAGE)
        if Path(str(package.locate_file("vlmeval"))).resolve() == here:
            return package.version
    except metadata.PackageNotFoundError:
        pass
    from vlmeval.smp import githash

    return f"commit {githash(digits=8)}"


def _few_processes() -> None:
    """Let pools of 16 or 32 processes have as many as there are processors: results are alike."""
    import multiprocessing

    of_any_size = multiprocessing.Pool
    most = os.cpu_count() or 1

    def pool(processes: int | None = None, *others: Any, **given: Any) -> Any:
        return of_any_size(min(processes or most, most), *others, **given)

    multiprocessing.Pool = pool


_few_processes()  # before VLMEvalKit, which imports the name, is imported


def _dataset(job: Job) -> Any:
    """Return the data set, read from the files that are there."""
    from vlmeval import dataset as package
    from vlmeval.dataset import image_base

    name = job["name"]
    # What is on disk is used; theirs would download again over a file that it finds changed.
    for kind in package.DATASET_CLASSES:
        if getattr(kind, "DATASET_MD5", None):
            kind.DATASET_MD5 = dict.fromkeys(kind.DATASET_MD5)
    root = image_base.LMUDataRoot()
    built = package.build_dataset(name)
    if built is None:
        raise FileNotFoundError(f"there is no {name}.tsv in {root}")
    if built.MODALITY != "IMAGE":
        raise ValueError(f"it is a {built.MODALITY.lower()} data set; images are asked about here")
    if built.TYPE in REFUSED_TYPES:
        raise ValueError(REFUSED_TYPES[built.TYPE])
    return built


def build(job: Job) -> dict[str, Any]:
    """Write the samples of a data set; images are unpacked below the job's folder.

    Raises:
        RuntimeError: a row's prompt cannot be made; the message says which, and VLMEvalKit's words.
    """
    import vlmeval.dataset  # noqa: F401 - whose own files are no data

    reads = note_reads(job["folder"])
    built = _dataset(job)
    rows = []
    images = _images_below(job["folder"], built)
    # All are there or none: VLMEvalKit would take a file that was torn by a kill for an image.
    new = images.with_name(f".{images.name}")
    shutil.rmtree(new, ignore_errors=True)
    unpacked = images if images.is_dir() else new
    _unpack_into(unpacked, built)
    digests: dict[str, str] = {}
    columns = [name for name in built.data.columns if name not in ("image", "image_path")]
    counts = {name: built.data[name].astype(str).nunique() for name in columns}
    labels = [name for name in columns if counts[name] <= MOST_LABELS]
    labels = [name for name in labels if counts[name] < len(built.data)]
    labels = [name for name in labels if not {name} & {"index", "question", "answer", "hint"}]
    for place in range(len(built.data)):
        line = built.data.iloc[place]
        try:
            prompt = built.build_prompt(line)
        except Exception as error:
            raise RuntimeError(
                f"row {line.get('index', place)}: {type(error).__name__}: {error}"
            ) from error
        parts = [
            {"image": _kept(part["value"], unpacked)}
            if part["type"] == "image"
            else {"text": str(part["value"])}
            for part in prompt
            if part["type"] in ("image", "text")
        ]
        paths = [part["image"] for part in parts if "image" in part]
        for path in paths:
            if path not in digests:
                digests[path] = file_digest(path)
        for part in parts:
            if "image" in part:
                part["image"] = _moved(part["image"], unpacked, images)
        answer = line.get("answer")
        rows.append(
            {
                "id": str(line["index"]),
                "parts": parts,
                "images": [[_moved(path, unpacked, images), digests[path]] for path in paths],
                "reference": None if answer is None or answer != answer else str(answer),
                "labels": {name: str(line[name]) for name in labels if line[name] == line[name]},
            }
        )
    if new.is_dir():
        new.rename(images)
    found = write_rows(job["folder"], version(), rows)
    return {**found, "version": version(), "type": str(built.TYPE), "reads": reads()}


def _images_below(folder: str, built: Any) -> Path:
    """Return the folder for a data set's images below another one."""
    return Path(folder) / f"unpacked-{_digest_of(built.data)}"


def _unpack_into(images: Path, built: Any) -> None:
    """Make a data set keep the images that its rows hold in a folder."""
    if "image" in built.data and getattr(built, "img_root", None):
        built.img_root = str(images)


def _moved(path: str, old: Path, new: Path) -> str:
    """Return the path of a file once a folder has another name."""
    beginning = f"{old}{os.sep}"
    return f"{new}{os.sep}{path[len(beginning) :]}" if path.startswith(beginning) else path


def _kept(path: Any, images: Path) -> str:
    """Return where an image stays: those in a folder for temporary files are moved."""
    if os.path.dirname(os.path.realpath(path)) != os.path.realpath(SHARED):  # noqa: PTH120
        return str(path)
    images.mkdir(parents=True, exist_ok=True)
    place = images / f"{file_digest(path)}{Path(path).suffix}"
    shutil.move(path, place)
    return str(place)


def _digest_of(table: Any) -> str:
    import hashlib

    digest = hashlib.sha256()
    for name in ("index", "image", "image_path"):
        for value in table.get(name, ()):
            digest.update(str(value).encode() + b"\0")
    return digest.hexdigest()[:16]


def score(job: Job) -> dict[str, Any]:
    """Score answers as VLMEvalKit's own run does, from a file of predictions in its format."""
    built = _dataset(job)
    _unpack_into(_images_below(job["cache"], built), built)
    from vlmeval.smp import dump
    from vlmeval.smp.status_report import flatten_summary_metrics

    # Some write beside the folder of the answers: two levels, as VLMEvalKit's own runs have.
    folder = os.path.join(job["folder"], job["model"], "run")  # noqa: PTH118
    os.makedirs(folder)  # noqa: PTH103
    os.chdir(folder)
    answers = read_answers(job["answers"])
    table = built.data[[str(index) in answers for index in built.data["index"]]].copy()
    table["prediction"] = [answers[str(index)] for index in table["index"]]
    if "image" in table:
        table.pop("image")
    file = os.path.join(folder, f"{job['model']}_{job['name']}.xlsx")  # noqa: PTH118
    write_only_below([job["folder"]])
    _own_temporary_files()
    dump(table, file)
    if job["name"].startswith(TO_SERVERS) or "answer" not in table or table["answer"].isna().all():
        return {**UNSCORED, "version": version(), "submission": _submission(job, file)}
    hits = _note_hits(built, len(table))
    captions = _note_captions(built)
    named = EXACT
    given: dict[str, Any] = {"nproc": 1, "verbose": False, "retry": 3, "timeout": 600}
    if job.get("judge"):
        named = _judge_name(job["name"], built.TYPE)
        given["nproc"] = job["judge_at_once"]
        _hand_over(job, answers)
    given["model"] = METHODS.get(type(built).__name__, named)
    figures = flatten_summary_metrics(built.evaluate(file, **given))
    primary = built.report_primary_metric(figures)
    found = {str(name): number(value) for name, value in {**primary, **figures}.items()}
    vectors = _vectors(job["folder"], file, set(table.columns), set(answers))
    indices = [str(index) for index in table["index"]]
    for name, numbers in captions.items():
        if len(numbers) == len(indices):
            vectors[name] = dict(zip(indices, numbers))  # noqa: B905 - older Python
    for hit in (*hits, _hits(built, table, found)):
        if hit and "hit" not in vectors:
            vectors["hit"] = dict(zip(indices, hit))  # noqa: B905 - older Python
    return {
        "version": version(),
        "figures": {name: value for name, value in found.items() if value is not None},
        "headline": next(map(str, primary), ""),
        "vectors": vectors,
        **_about_figures(built, len(table)),
    }


def _about_figures(built: Any, count: int) -> dict[str, Any]:
    """Return what figures do not say of themselves: their unit, and which are means of what.

    Args:
        built: The data set.
        count: Of rows.
    """
    kind = type(built).__name__
    if kind != "OCRBench":
        return {"unit": "points"} if kind == "ImageCaptionDataset" else {}
    # Its figures are counts; the last one is a tenth of all, and a share of 1,000 questions.
    of = {"Final Score Norm": ["hit"]} if count == OCRBENCH_ROWS else {}
    return {"unit": "points", "of": of}


def _submission(job: Job, file: str) -> str:
    """Return the file that a server scores, below the job's folder."""
    made = file
    if job["name"] == "MMMU_TEST":
        from vlmeval.utils.result_transfer import MMMU_result_transfer

        made = MMMU_result_transfer(file)
    elif job["name"].startswith("MMT-Bench_ALL"):
        from vlmeval.utils.result_transfer import MMTBench_result_transfer

        made = MMTBench_result_transfer(file, model=EXACT, nproc=1)
    return os.path.relpath(made, job["folder"])


def _note_hits(built: Any, count: int) -> list[list[float]]:
    """From now on note the scores of rows that short answers' scoring computes and does not write.

    Args:
        built: The data set; others than those whose order is known are not noted.
        count: Of rows.
    """
    noted: list[list[float]] = []
    if type(built).__name__ not in IN_ORDER:
        return noted
    from vlmeval.dataset.utils import vqa_eval

    theirs = vqa_eval.hit_calculate

    def hit_calculate(result: Any, *others: Any, **given: Any) -> Any:
        hits = theirs(result, *others, **given)
        if len(hits) == count:
            noted.append([float(hit) for hit in hits])
        return hits

    vqa_eval.hit_calculate = hit_calculate
    return noted


def _note_captions(built: Any) -> dict[str, list[float]]:
    """From now on note what each caption adds to the figures that are means over captions.

    Returns:
        Filled while captions are scored: numbers in the order of the rows, by the figure's name.
    """
    noted: dict[str, list[float]] = {}
    if type(built).__name__ != "ImageCaptionDataset":
        return noted
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    for kind, name in ((Cider, "CIDEr"), (Rouge, "ROUGE_L")):
        theirs = kind.compute_score

        def compute_score(self: Any, *given: Any, theirs: Any = theirs, name: str = name) -> Any:
            mean, each = theirs(self, *given)
            noted[name] = [float(one) for one in each]
            return mean, each

        kind.compute_score = compute_score
    return noted


def _hits(built: Any, table: Any, figures: Mapping[str, Any]) -> list[float]:
    """Return the score of each row, where VLMEvalKit counts right ones and notes none.

    Args:
        built: The data set.
        table: Its rows with predictions.
        figures: What VLMEvalKit counted.
    """
    pairs = [(str(row["answer"]), str(row["prediction"])) for _, row in table.iterrows()]
    kind = type(built).__name__
    if kind == "CountBenchQA":
        return [float(answer in text) for answer, text in pairs]
    if kind == "TallyQA":
        from vlmeval.dataset.utils.tallyqa import extract_count_from_prediction as count

        return [float(count(text) == float(answer)) for answer, text in pairs]
    if kind == "OCRBench":
        lines = zip(pairs, table["category"])  # noqa: B905 - older Python
        hits = [_reads_text(answer, text, category) for (answer, text), category in lines]
        return hits if sum(hits) == figures.get("Final Score") else []
    return []


def _reads_text(answers: str, text: str, category: str) -> float:
    """Return whether a prediction has one of the right texts in it, by OCRBench's rule.

    Args:
        answers: A Python list of them.
        text: The prediction.
        category: In handwritten formulas blanks do not count, elsewhere case.
    """
    import ast

    def bare(one: str) -> str:
        one = one.strip().replace("\n", " ")
        return one.replace(" ", "") if category == FORMULAS else one.lower()

    return float(any(bare(str(answer)) in bare(text) for answer in ast.literal_eval(answers)))


def _own_temporary_files() -> None:
    """Give MMBench's scoring, which names a file after the second, names of this process's own."""
    import uuid

    with suppress(ImportError):
        from vlmeval.dataset.utils import multiple_choice

        multiple_choice.timestr = lambda: f"vlmevalkit-{uuid.uuid4().hex}"


def _judge_name(name: str, kind: str) -> str:
    """Return the judge that VLMEvalKit's own run would ask: some scoring takes no other name."""
    from types import SimpleNamespace

    try:
        from vlmeval.run import get_judge_kwargs
    except ImportError:  # a checkout has it elsewhere
        return USUAL_JUDGE
    nothing = dict.fromkeys(("judge", "judge_args", "judge_base_url", "judge_key", "judge_retry"))
    given = {"judge_api_nproc": 1, "retry": 3, "verbose": False, "judge_timeout": 600}
    asked = SimpleNamespace(**nothing, **given, use_verifier=False, use_vllm=False)
    named = get_judge_kwargs(name, kind, asked).get("model", EXACT)
    return USUAL_JUDGE if named == EXACT else str(named)


def _hand_over(job: Job, ids: Mapping[str, str]) -> None:
    """Let our judge answer what VLMEvalKit asks its own."""
    from vlmeval.api.base import BaseAPI

    BaseAPI.working = lambda _: True  # else it is greeted first
    hand_over(job, ids)


def _vectors(folder: str, file: str, given: set[str], ids: set[str]) -> dict[str, Any]:
    """Return the numbers that scoring wrote for each row, by column."""
    from vlmeval.smp import load

    found: dict[str, dict[str, float]] = {}
    for path in sorted(map(str, Path(folder).rglob("*"))):
        if path == file or not path.endswith(TABLES):
            continue
        try:
            rows = load(path)
        except Exception as error:  # noqa: BLE001 - notes of any kind
            print(f"{path} is not a table: {error}")  # noqa: T201 - to the log
            continue
        if isinstance(rows, list) and rows and all(isinstance(row, Mapping) for row in rows):
            columns = {name: [row.get(name) for row in rows] for name in rows[0]}
        elif hasattr(rows, "columns"):
            columns = {str(name): list(rows[name]) for name in rows.columns}
        else:
            continue
        indices = [str(index) for index in columns.get("index", ())]
        if not indices or len(set(indices)) < len(indices) or not set(indices) <= ids:
            continue
        for name in set(columns) - given:
            values = [number(value) for value in columns[name]]
            if all(value is not None for value in values):
                found.setdefault(name, dict(zip(indices, values)))  # type: ignore[arg-type]  # noqa: B905
    return found


def names(job: Job) -> dict[str, Any]:
    """Return the class of every name, those too that classes compute."""
    from vlmeval.dataset import DATASET_CLASSES

    found: dict[str, str] = {}
    for kind in DATASET_CLASSES:
        for name in kind.supported_datasets():
            found.setdefault(str(name), kind.__name__)
    return {"version": version(), "names": found}


def main() -> None:
    """Do one job."""
    remedy = "`adem-bench data fetch vlmevalkit:{name}` asks for it"
    serve({"build": build, "score": score, "names": names}, remedy)
