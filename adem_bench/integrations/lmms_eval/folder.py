"""The folder of YAML that makes lmms-eval know every task card, as `adem_NAME`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from adem_bench.cards import expand_tasks, list_cards, load_task_card
from adem_bench.data.paths import cache_root, made_once
from adem_bench.digests import digest
from adem_bench.files import expand_home
from adem_bench.schemas import TaskCard

PREFIX = "adem_"
OTHERS_TOKENS = 32
"""Length of answers of models that are not ours; ours do what the task says."""
FUNCTIONS = "adem_bench.integrations.lmms_eval.documents"
SEED_SPLIT = "test"
TASK = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{{split}: {seed}}}}}
test_split: {split}
process_docs: !function {functions}.documents_of
output_type: generate_until
doc_to_visual: !function {functions}.images_of
doc_to_text: prompt
doc_to_target: reference
generation_kwargs: {{max_new_tokens: {tokens}, temperature: 0, do_sample: false}}
process_results: !function {functions}.results_of
metric_list:
{metrics}metadata: {{version: {version}}}
"""
METRIC = """\
  - {{metric: {name}, aggregation: !function {functions}.aggregated, higher_is_better: true}}
"""


def tasks_folder(data_root: Path | None = None) -> Path:
    """Return a folder with a YAML file for every task card, made at the first call.

    Args:
        data_root: Folder that holds the data; None leaves it to `$ADEM_BENCH_DATA` or `./data`
            when lmms-eval runs, and generated data to its cache.

    Raises:
        CardError: a card cannot be read.
        DataError: the cache folder cannot be written.
    """
    root = str(expand_home(data_root).resolve()) if data_root else None
    files = {name: text for card in _cards() for name, text in _files(card, root)}

    def write(folder: Path) -> None:
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")

    return made_once(cache_root() / f"lmms-eval-{digest(files)}", write)


def metric_names(card: TaskCard) -> list[str]:
    """Return the metrics that a task reports here: those of its leaderboard columns."""
    return list(dict.fromkeys((card.headline, *card.columns)))


def _cards() -> Iterator[TaskCard]:
    """Yield every task that can be scored, no group and no training data."""
    for name in list_cards("tasks"):
        if expand_tasks([name]) == [name]:
            card = load_task_card(name)
            if card.headline:
                yield card


def _files(card: TaskCard, data_root: str | None) -> Iterator[tuple[str, str]]:
    """Yield names and texts of a task's two files.

    The second has one row, which names the card: lmms-eval loads it as the data set, and
    `documents_of` puts the task's samples in its place.
    """
    quoted = json.dumps  # JSON is YAML
    name, seed = f"{PREFIX}{card.name}", f"{card.name}.jsonl"
    metrics = "".join(
        METRIC.format(name=quoted(metric), functions=FUNCTIONS) for metric in metric_names(card)
    )
    text = TASK.format(
        name=quoted(name),
        split=SEED_SPLIT,
        seed=quoted(seed),
        functions=FUNCTIONS,
        tokens=OTHERS_TOKENS,
        metrics=metrics,
        version=card.version,
    )
    row: Mapping[str, str | None] = {"card": card.name, "data_root": data_root or ""}
    yield f"{name}.yaml", text
    yield seed, f"{json.dumps(row)}\n"
