"""A model on several tasks, by their names: what `adem-bench run` does, as a function."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from adem_bench.cards import (
    expand_tasks,
    list_cards,
    load_model_card,
    load_task_card,
    matching_names,
    packaged_folder,
)
from adem_bench.data.reading import check_images
from adem_bench.errors import (
    AdemBenchError,
    CardError,
    DataError,
    Noted,
    nearest_hint,
    system_errors,
)
from adem_bench.models.base import (
    Baseline,
    Model,
    ModelOptions,
    build_model,
    check_model,
    chosen_card,
    resolve_decoding,
)
from adem_bench.models.device import pick_device
from adem_bench.records import Json
from adem_bench.registry import MODEL_KINDS, TASK_KINDS
from adem_bench.results.names import check_name, check_name_is_free
from adem_bench.results.progress import OnProgress, no_progress
from adem_bench.runner.distributed import Processes, join_process_group
from adem_bench.runner.judge import JudgeModel, check_use, judge_card
from adem_bench.runner.loop import Outcome, run_task
from adem_bench.runner.manifest import RunOptions
from adem_bench.runner.settings import as_typed, settings_of
from adem_bench.schemas import ModelCard, TaskCard
from adem_bench.tasks.base import Task, build_task
from adem_bench.tasks.repeats import check_judge

RULE = "answer_rule"
"""The option that says how answers are read."""
MATCHED = "matched"
"""Prompt format that stands for the one the weights were tuned on."""

Progress = Callable[[str], AbstractContextManager[OnProgress]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is to be evaluated."""

    model: str
    """Name or path of a model card."""
    tasks: tuple[str, ...]
    """Names or paths of task cards, or names of groups."""
    data_root: Path | None = None
    results: Path = Path("results")
    device: str = "auto"
    dtype: str | None = None
    adapter: str | None = None
    """An adapter's path, or `none` for the language model alone; None leaves it to the card."""
    quantization: str | None = None
    split: str | None = None
    prompt_format: str | None = None
    """One of the task's formats, or `matched`."""
    overrides: tuple[str, ...] = ()
    """`key=value` settings of card fields."""
    options: RunOptions = field(default_factory=RunOptions)
    name: str | None = None
    """What the model is called in results; None leaves it to the card."""
    only: tuple[str, ...] | None = None
    """Those of the tasks, groups expanded, that this call does; None for all."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """An evaluation whose cards, data and weights' files were found; nothing is loaded."""

    evaluation: Evaluation
    card: ModelCard
    """With the settings of the evaluation."""
    tasks: Mapping[str, Task]
    """By the names that were given, in order."""
    settings: Mapping[str, Sequence[str]]
    """`key=value` of each task's card."""
    judge: ModelCard | None = None
    """The judge's."""

    def asks_the_model_of(self, other: Prepared) -> bool:
        """Return whether the model that another evaluation loads can do this one too."""
        mine, others = self.evaluation, other.evaluation
        places = [(given.device, given.data_root) for given in (mine, others)]
        return self.card == other.card and places[0] == places[1]

    def build(self, name: str, more: Sequence[str], prompt_format: str | None) -> Task:
        """Return one of the tasks with further settings.

        Args:
            name: One of `tasks`.
            more: `key=value` settings of its card, which go before its own.
            prompt_format: Replaces the prompt format.

        Raises:
            AdemBenchError: as for `task_for`.
        """
        given = self.evaluation
        settings = [*self.settings[name], *more]
        return task_for(self.card, name, given.data_root, settings, given.split, prompt_format)


def evaluate(evaluation: Evaluation, progress: Progress = no_progress) -> Iterator[Outcome]:
    """Run every task and yield its outcome; nothing is yielded but on the first process.

    All cards and data are checked before the model is loaded.

    Args:
        evaluation: What to do.
        progress: Returns, for a task's name, a context whose value is called after every batch.

    Raises:
        AdemBenchError: a card, the data, the weights or the disk are at fault.
    """
    for _, outcome in evaluate_each([evaluation], progress):
        yield outcome


def evaluate_each(
    evaluations: Sequence[Evaluation], progress: Progress = no_progress
) -> Iterator[tuple[Evaluation, Outcome]]:
    """Do one evaluation after the other; all are prepared before the first model is loaded.

    Args:
        evaluations: What to do.
        progress: As for `evaluate`.

    Yields:
        Each outcome with what it is of.

    Raises:
        AdemBenchError: as for `evaluate`.
    """
    prepared, _ = prepare_all(evaluations)
    yield from evaluate_prepared(prepared, progress)


def evaluate_prepared(
    prepared: Sequence[Prepared], progress: Progress = no_progress
) -> Iterator[tuple[Evaluation, Outcome]]:
    """Do what was prepared, in order; a model that two in a row ask is loaded once.

    Args:
        prepared: By `prepare_all`.
        progress: As for `evaluate`.

    Yields:
        Each outcome with what it is of.

    Raises:
        AdemBenchError: the data, the weights or the disk are at fault.
    """
    processes = Processes()
    model: Model | None = None
    before: Prepared | None = None
    judges: dict[tuple[Any, ...], JudgeModel] = {}
    for each in prepared:
        torch.manual_seed(each.evaluation.options.seed)
        if model is None or before is None or not each.asks_the_model_of(before):
            if model is not None:
                model = None
                gc.collect()  # two do not fit into memory, and libraries' models hold themselves
            device = processes.own_device(each.evaluation.device)
            if getattr(each.card, "shard", False):
                join_process_group(processes, pick_device(device))
            model = build_model(each.card, ModelOptions(device, each.evaluation.data_root))
        before = each
        matched = each.evaluation.prompt_format == MATCHED
        tasks = _match(model, each.tasks, each.build) if matched else each.tasks.values()
        options, results = each.evaluation.options, each.evaluation.results
        if (name := each.evaluation.name) is not None:
            for task in tasks:
                model.load_adapter_for(task.card.name, task.card.kind)
                check_name_is_free(results, name, task.card.name, model.fingerprint())
        judge = None
        if each.judge is not None:
            key = (options.judge, each.evaluation.device, each.evaluation.data_root)
            if key not in judges:
                device = processes.own_device(each.evaluation.device)
                judges[key] = JudgeModel.load(each.judge, device, each.evaluation.data_root)
            judge = judges[key]
        for outcome in evaluate_model(model, tasks, options, results, processes, progress, judge):
            yield each.evaluation, outcome


def prepare_all(
    evaluations: Sequence[Evaluation], skip_missing: bool = False
) -> tuple[list[Prepared], list[str]]:
    """Return evaluations with their cards and data; nothing is loaded.

    Args:
        evaluations: What is to be done.
        skip_missing: Whether tasks whose data cannot be read are left out.

    Returns:
        What can be done, and why tasks were left out.

    Raises:
        AdemBenchError: a card, an option, the data or the weights are at fault; several that are
            wrong are raised together.
    """
    prepared, skipped, problems = prepare_each(evaluations, skip_missing)
    problems.raise_all()
    if not prepared and skipped:
        raise DataError(f"nothing is left to run: {'; '.join(skipped)}")
    return prepared, skipped


def prepare_each(
    evaluations: Sequence[Evaluation], skip_missing: bool = False
) -> tuple[list[Prepared], list[str], Noted]:
    """Return what can be done, why tasks were left out, and what is wrong.

    Args:
        evaluations: What is to be done.
        skip_missing: As for `prepare_all`.
    """
    problems = Noted()
    skipped: list[str] = []
    found = [_prepare(each, skipped if skip_missing else None, problems) for each in evaluations]
    return [each for each in found if each is not None], list(dict.fromkeys(skipped)), problems


def _prepare(evaluation: Evaluation, skipped: list[str] | None, problems: Noted) -> Prepared | None:
    """Return an evaluation with what it needs; None if there is nothing to do, or it cannot be.

    Args:
        evaluation: What is to be done.
        skipped: Is told of tasks that are left out; None if none may be.
        problems: Is told of everything that is wrong.
    """
    try:
        overrides = evaluation.overrides
        model_settings, settings = settings_of(overrides, evaluation.model, evaluation.tasks)
        if evaluation.only is not None:
            settings = {name: settings[name] for name in settings if name in evaluation.only}
        with as_typed(overrides):
            card = chosen_card(
                evaluation.model,
                model_settings,
                evaluation.dtype,
                evaluation.adapter,
                evaluation.quantization,
            )
        if evaluation.name is not None:
            check_name(evaluation.name)
            card = card.renamed(evaluation.name, card.name)
        # What the model does not offer shows before data and weights are read.
        honoured = getattr(MODEL_KINDS.load(card.kind), "decoding_fields", ())
        resolve_decoding(card, honoured, evaluation.options.decoding)
        check_evaluation(card, list(settings))
    except AdemBenchError as error:
        problems += _with_unknown_names(evaluation, skipped, error)
        return None
    chosen = None if evaluation.prompt_format == MATCHED else evaluation.prompt_format
    tasks: dict[str, Task] = {}
    options = evaluation.options
    judge = _judge_card(evaluation, problems)
    prepared = Prepared(evaluation, card, tasks, settings, judge)
    for name in settings:
        try:
            with as_typed(overrides):
                task = prepared.build(name, [], chosen)
            check_judge(task, options.judge is not None or options.predict_only)
            check_data(task, evaluation.options.blind)
            tasks[name] = task
        except DataError as error:
            if skipped is None:
                problems.append(error)
            else:
                skipped.append(f"{name}: {error}")
        except AdemBenchError as error:
            problems.append(error)
    with problems:
        check_use(judge, [] if evaluation.only else list(tasks.values()))
    if tasks or skipped is None:
        problems += _problems_of_model(prepared, settings if skipped is None else tasks)
    return prepared if tasks else None


def _judge_card(evaluation: Evaluation, problems: Noted) -> ModelCard | None:
    """Return the judge's card; arguments as for `_prepare`."""
    if evaluation.options.judge is not None:
        with problems:
            return judge_card(evaluation.options.judge, evaluation.data_root)
    return None


def _with_unknown_names(
    evaluation: Evaluation, skipped: list[str] | None, error: AdemBenchError
) -> Noted:
    """Return what is wrong with an evaluation that cannot be prepared.

    Args:
        evaluation: What is to be done.
        skipped: None if tasks without data are a mistake.
        error: What it stopped at: an unknown name, or a setting, without which the data and the
            weights that are asked for are not known.
    """
    of_tasks, noted = Noted(), Noted()
    known: list[str] = []
    for name in evaluation.tasks:
        with of_tasks:
            expand_tasks([name])
            known.append(name)
    with noted:
        matching_names("models", [evaluation.model])
        load_model_card(evaluation.model)
    model_is_known = not noted
    noted += of_tasks
    if not noted:
        noted.append(error)
        return noted
    if evaluation.name is not None:
        with noted:
            check_name(evaluation.name)
    if evaluation.overrides or not known:
        return noted
    if model_is_known:
        _prepare(replace(evaluation, tasks=tuple(known)), skipped, noted)
    elif skipped is None:
        for name in expand_tasks(known):
            if evaluation.only is None or name in evaluation.only:
                with noted:
                    task = build_task(name, evaluation.data_root, (), evaluation.split)
                    check_data(task, evaluation.options.blind)
    return noted


def check_data(task: Task, is_blind: bool) -> None:
    """Read a task's annotation files and look for its images: what is missing shows now.

    Args:
        task: Whose data.
        is_blind: Whether images are withheld, so that none need be there.

    Raises:
        DataError: something is missing or malformed.
    """
    task.fingerprint()
    if not is_blind:
        check_images(task.samples(), task.card.data)


def _problems_of_model(prepared: Prepared, names: Iterable[str]) -> Noted:
    """Return what is wrong with a model for some of its tasks, as far as is seen unloaded."""
    card, data_root = prepared.card, prepared.evaluation.data_root
    noted = Noted()
    asked: list[TaskCard] = []
    for name in names:
        with noted, as_typed(prepared.evaluation.overrides):
            asked.append(load_task_card(name, prepared.settings[name]))
    with noted:
        check_model(card, asked, data_root)
        return noted
    for task in asked:  # the first error hides those of other adapters
        with noted:
            check_model(card, [task], data_root)
    return noted


def evaluate_model(
    model: Model,
    tasks: Iterable[Task],
    options: RunOptions,
    results: Path,
    processes: Processes,
    progress: Progress = no_progress,
    judge: JudgeModel | None = None,
) -> Iterator[Outcome]:
    """Run tasks on a loaded model and yield their outcomes, as `evaluate` does.

    Args:
        model: Ready to be asked; it is given each task's weights in turn.
        tasks: With their data.
        options: Limits and switches, the same for all.
        results: Folder below which runs are kept.
        processes: Those that share the work.
        progress: As for `evaluate`.
        judge: Reads the answers to those tasks that ask one.

    Raises:
        AdemBenchError: the data, the weights or the disk are at fault.
    """
    for task in tasks:
        shown = progress if processes.is_main_process else no_progress
        with system_errors(), shown(task.card.name) as on_progress:
            model.load_adapter_for(task.card.name, task.card.kind)
            if isinstance(model, Baseline):
                model.fit(task.samples())
            with _left_alone():
                outcome = run_task(model, task, options, results, processes, on_progress, judge)
        if outcome is not None:
            yield outcome


@contextmanager
def _left_alone() -> Iterator[None]:
    """Keep the garbage collector off what is there already: libraries, and the model.

    It would walk over these half a million objects again and again as records come. What a caller
    has frozen stays so.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def check_evaluation(card: ModelCard, names: Sequence[str]) -> None:
    """Check that a model's card says how to ask tasks that there are.

    Args:
        card: The model's.
        names: Names or paths of the tasks that it is asked.

    Raises:
        CardError: a key of `evaluation` is neither a kind of task nor a task.
    """
    if card.evaluation:
        asked = {load_task_card(name).name for name in names}
        known = {*TASK_KINDS.table(), *list_cards("tasks"), *asked}
        unknown = [key for key in card.evaluation if key not in known]
        if unknown:
            raise CardError(
                f"model {card.name}: evaluation names {unknown[0]!r}, which is neither a task nor "
                f"a kind of task{nearest_hint(unknown[0], known, 'adem-bench tasks')}"
            )


def task_for(
    card: ModelCard,
    name: str,
    data_root: Path | None,
    overrides: Sequence[str] = (),
    split: str | None = None,
    prompt_format: str | None = None,
) -> Task:
    """Return a task, asked as the model's card says where nothing else is said.

    What a model that chats answers is read by the task's rule for such models. That goes before a
    card of the package, and not before a rule that the user names: in a card of theirs, in the
    model's, or in `overrides`.

    Args:
        card: The model's; its `evaluation` of the task's kind goes before the task's card, that of
            the task's name before both.
        name: Name or path of a task card, not of a group.
        data_root: As for `build_task`.
        overrides: `key=value` settings of the task's card, which go before all those.
        split: Replaces the card's split.
        prompt_format: Replaces the prompt format.

    Raises:
        CardError: as for `build_task`; what the model's card says wrongly is its own error.
        DataError: the data is missing.
    """
    task = load_task_card(name)
    chosen = card.evaluation.get(task.kind, {}) | card.evaluation.get(task.name, {})
    said = {*chosen, *_options_of(overrides)}
    asked = load_task_card(name, overrides)
    chosen = {**_for_chat(card, task, asked, said, data_root), **chosen}
    own = [
        # JSON is YAML, which values of overrides are read as.
        f"{'' if key == 'prompt_format' else 'options.'}{key}={json.dumps(value)}"
        for key, value in chosen.items()
    ]
    try:
        return build_task(name, data_root, [*own, *overrides], split, prompt_format)
    except CardError:
        try:
            build_task(name, data_root, own)
        except CardError as error:
            if own:
                raise CardError(f"model {card.name}, evaluation of {name}: {error}") from error
        raise


def _for_chat(
    card: ModelCard,
    task: TaskCard,
    asked: TaskCard,
    said: Collection[str],
    data_root: Path | None,
) -> Mapping[str, Json]:
    """Return the options with which a task is asked because its model chats.

    Args:
        card: The model's.
        task: As its file says.
        asked: With what the command line says.
        said: Options that the command line or the model's card sets.
        data_root: Where the model's files may be.
    """
    kind, model = TASK_KINDS.load(task.kind), MODEL_KINDS.load(card.kind)
    if not getattr(model, "chats", False) or RULE in said:
        return {}
    found: dict[str, Json] = dict(getattr(kind, "options_for_chat", lambda _: {})(asked))
    if not model.ends_answers(card, data_root):
        found.pop("max_new_tokens", None)  # it would only go on for longer
    if _is_packaged(task):
        return found
    return {} if RULE in task.options else {n: v for n, v in found.items() if n not in task.options}


def _is_packaged(task: TaskCard) -> bool:
    """Return whether a card is the package's, which says what is published; others' are chosen."""
    return task.path is not None and packaged_folder("tasks").resolve() in task.path.parents


def _options_of(overrides: Sequence[str]) -> list[str]:
    """Return the names of the options that overrides set."""
    keys = (override.partition("=")[0] for override in overrides)
    return [key.removeprefix("options.") for key in keys if key.startswith("options.")]


def _match(
    model: Model, tasks: Mapping[str, Task], build: Callable[[str, Sequence[str], str | None], Task]
) -> list[Task]:
    """Return the tasks, asked as the weights were tuned where that is known.

    Raises:
        CardError: it is known of none of them.
    """
    found: list[Task] = []
    for name, task in tasks.items():
        model.load_adapter_for(task.card.name, task.card.kind)
        matched = _matched(model, task)
        found.append(task if matched is None else build(name, *matched))
    if all(new is old for new, old in zip(found, tasks.values(), strict=True)):
        raise CardError(
            f"--prompt-format matched: neither the adapter nor the card of {model.card.name} "
            f"says which prompts it was tuned on for {', '.join(tasks)}; name a format instead"
        )
    return found


def _matched(model: Model, task: Task) -> tuple[list[str], str | None] | None:
    """Return settings and prompt format that the weights were tuned on; None if unknown."""
    tuned: Mapping[str, Json] = model.training_prompts(task.card.kind)
    if not tuned:
        return None
    prompt_format = tuned.get("prompt_format")
    known = {key: value for key, value in tuned.items() if key != "prompt_format"}
    settings = [f"options.{key}={str(value).lower()}" for key, value in known.items()]
    return settings, str(prompt_format) if prompt_format else None
