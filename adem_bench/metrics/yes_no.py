"""Yes-or-no questions: reading answers; POPE's precision and recall; HallusionBench's scores."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from adem_bench.metrics import chat_answers
from adem_bench.metrics.grouped import widened
from adem_bench.metrics.intervals import Formula, Statistics, ratio, with_intervals
from adem_bench.metrics.vlmevalkit_rules import read_yes_no
from adem_bench.records import Json, Metric

POPE_DETAILS = ("f1", "accuracy", "precision", "recall", "yes_share")
HALLUSION_DETAILS = ("aAcc", "fAcc", "qAcc")
CATEGORY = "category/"
CHAT = "chat"
"""The rule for models that answer in sentences; theirs by default."""
CHAT_OPTIONS: Mapping[str, Json] = {"answer_rule": CHAT, "max_new_tokens": 64}
"""How such models are asked."""
CHAT_SCORING = "yes and no are read by the rule `chat` (docs/answers.md)"
YesNo = Literal["yes", "no", "other"]


@dataclass(frozen=True, slots=True)
class YesNoAnswer:
    """One answered question."""

    id: str
    unit: str
    """What is independent of the rest: an image, or a set of related figures."""
    prediction: YesNo
    gold: YesNo
    groups: tuple[str, ...]

    @property
    def is_right(self) -> bool:
        """Whether yes or no was read, and the right one."""
        return self.prediction == self.gold


def read_official(text: str) -> YesNo:
    """Read an answer as the eval_tool does: yes or no in the first four characters."""
    return _in_prefix(text.lower())


def read_lavin(text: str) -> YesNo:
    """Read an answer as LaVIN does: yes or no in the first four characters, blanks counted.

    The published code splits prompt and answer together at `response:`, in lower case and stripped,
    and reads the part behind the first one. It begins with the answer's own blank, and a further
    `response:` ends it.

    Args:
        text: What follows the prompt, its first blank included.

    Source: LaVIN dd0a1bf `eval_mme.py`.
    """
    return _in_prefix(text.lower().rstrip().partition("response:")[0])


def read_lmms_eval(text: str) -> YesNo:
    """Read an answer as lmms-eval does (tasks/mme/utils.py): dots and margins off, y or n too."""
    answer = text.lower().strip().replace(".", "")
    if len(answer) == 1:
        return {"y": "yes", "n": "no"}.get(answer, "other")  # type: ignore[return-value]
    return _in_prefix(answer)


def read_pope(answer: str) -> YesNo:
    """Read an answer as POPE's evaluate.py: yes, unless the first sentence has no or not."""
    words = answer.partition(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


# eval_mme.py writes an answer on one line before MME's eval_tool reads it.
READERS: Mapping[str, Callable[[str], YesNo]] = {
    "vlmevalkit": read_yes_no,
    "lmms_eval": read_lmms_eval,
    "mme": lambda answer: read_official(answer.replace("\n", "").replace("\r", "")),
    "pope": read_pope,
    CHAT: chat_answers.read_yes_no,
}


def unread_warning(answers: Iterable[object]) -> list[str]:
    """Return how many of the answers read are neither yes nor no; nothing if none is."""
    found = list(answers)
    other = sum(answer == "other" for answer in found)
    if not other:
        return []
    return [f"{other} of {len(found)} answers say neither yes nor no, and count as wrong"]


def pope_metrics(answers: Sequence[YesNoAnswer]) -> tuple[Metric, ...]:
    """Return F1, accuracy, precision, recall and the share of yes, overall and by category.

    A question that stands in several categories counts in each, and as often overall, as
    VLMEvalKit counts it (yorn.py). An answer that is neither counts as no, and as wrong.
    """
    if not answers:
        return _none(POPE_DETAILS)
    return _from(pope_statistics(answers), POPE_DETAILS, _entries(answers))


def pope_statistics(answers: Sequence[YesNoAnswer]) -> Statistics:
    """Return what POPE's figures rest on: counts of each category, by image."""
    entries = _entries(answers)
    return _statistics(entries, "images", _pope_counts, _pope_formulas)


def hallusion_metrics(answers: Sequence[YesNoAnswer]) -> tuple[Metric, ...]:
    """Return HallusionBench's accuracies of answers, figures and questions, also by group.

    A figure is right if all questions on it are, a question if it is on all figures of its set.
    Set, figure and question are the last numbers of an index (yorn.py).
    """
    if not answers:
        return _none(HALLUSION_DETAILS)
    return _from(hallusion_statistics(answers), HALLUSION_DETAILS, _scopes(answers))


def hallusion_statistics(answers: Sequence[YesNoAnswer]) -> Statistics:
    """Return what HallusionBench's figures rest on, by set of figures."""
    return _statistics(_scopes(answers), "sets", _hallusion_counts, _hallusion_formulas)


Scopes = dict[str, list[YesNoAnswer]]
"""What a figure is made for (nothing: overall) to its answers."""


def _entries(answers: Sequence[YesNoAnswer]) -> Scopes:
    by_category: Scopes = defaultdict(list)
    for answer in answers:
        for group in answer.groups:
            if group.startswith(CATEGORY):
                by_category[group].append(answer)
    times = [max(1, sum(g.startswith(CATEGORY) for g in a.groups)) for a in answers]
    repeated = [a for answer, n in zip(answers, times, strict=True) for a in [answer] * n]
    return {"": repeated} | dict(sorted(by_category.items()))


def _scopes(answers: Sequence[YesNoAnswer]) -> Scopes:
    names = sorted({group for answer in answers for group in answer.groups})
    return {"": list(answers)} | {
        name: [answer for answer in answers if name in answer.groups] for name in names
    }


def _pope_counts(answers: Sequence[YesNoAnswer]) -> list[int]:
    said = [answer.prediction == "yes" for answer in answers]
    true = [answer.gold == "yes" for answer in answers]
    return [
        sum(s and t for s, t in zip(said, true, strict=True)),
        sum(said),
        sum(true),
        sum(answer.is_right for answer in answers),
        len(answers),
    ]


def _pope_formulas(start: int) -> dict[str, Formula]:
    def share(part: int, whole: int) -> Formula:
        return lambda sums: _or_zero(sums[..., start + part], sums[..., start + whole])

    def f1(sums: Any) -> Any:
        # The harmonic mean of precision and recall, in counts.
        return _or_zero(2 * sums[..., start], sums[..., start + 1] + sums[..., start + 2])

    return {
        "f1": f1,
        "accuracy": share(3, 4),
        "precision": share(0, 1),
        "recall": share(0, 2),
        "yes_share": share(1, 4),
    }


def _or_zero(part: Any, whole: Any) -> Any:
    """An undefined precision or recall is 0 in POPE's scorers."""
    import numpy as np

    return np.nan_to_num(ratio(part, whole))


def _hallusion_counts(answers: Sequence[YesNoAnswer]) -> list[int]:
    counts = [sum(answer.is_right for answer in answers), len(answers)]
    for place in (4, 5):
        right: dict[tuple[str, ...], bool] = {}
        for answer in answers:
            key = hallusion_key(answer, place)
            right[key] = right.get(key, True) and answer.is_right
        counts += [sum(right.values()), len(right)]
    return counts


def hallusion_key(answer: YesNoAnswer, place: int) -> tuple[str, ...]:
    """Return subcategory, set and one more number of an answer's index."""
    parts = answer.id.split("_")
    l2 = next((group for group in answer.groups if group.startswith("l2-category/")), "")
    return (l2, parts[3], parts[place])


def _hallusion_formulas(start: int) -> dict[str, Formula]:
    def share(part: int) -> Formula:
        return lambda sums: ratio(sums[..., start + part], sums[..., start + part + 1])

    return {"aAcc": share(0), "fAcc": share(2), "qAcc": share(4)}


def _statistics(
    scopes: Scopes,
    noun: str,
    counts: Callable[[Sequence[YesNoAnswer]], list[int]],
    formulas: Callable[[int], dict[str, Formula]],
) -> Statistics:
    """Count each scope's answers unit by unit, scopes side by side."""
    import numpy as np

    units = list(dict.fromkeys(answer.unit for answer in scopes[""]))
    place = {unit: number for number, unit in enumerate(units)}
    width = len(counts([]))
    rows = np.zeros((len(units), width * len(scopes)))
    named: dict[str, Formula] = {}
    for number, (scope, answers) in enumerate(scopes.items()):
        start = number * width
        by_unit: dict[str, list[YesNoAnswer]] = defaultdict(list)
        for answer in answers:
            by_unit[answer.unit].append(answer)
        for unit, members in by_unit.items():
            rows[place[unit], start : start + width] = counts(members)
        named |= {_name(scope, detail): made for detail, made in formulas(start).items()}
    return Statistics(noun, tuple(units), ("",) * len(units), rows, named)


def _name(scope: str, detail: str) -> str:
    return f"{scope}.{detail}" if scope else detail


def _from(statistics: Statistics, details: Sequence[str], scopes: Scopes) -> tuple[Metric, ...]:
    metrics = tuple(
        Metric(name, statistics.value(name), "fraction", len(answers))
        for scope, answers in scopes.items()
        for name in (_name(scope, detail) for detail in details)
    )
    units = {
        _name(scope, detail): len({answer.unit for answer in answers})
        for scope, answers in scopes.items()
        for detail in details
    }
    return tuple(widened(m, units[m.name]) for m in with_intervals(metrics, statistics))


def _none(details: Sequence[str]) -> tuple[Metric, ...]:
    return tuple(Metric(name, None, "fraction", 0, "nothing was answered") for name in details)


WORDS: dict[str, YesNo] = {"yes": "yes", "true": "yes", "no": "no", "false": "no"}


def read_word(text: str) -> YesNo:
    """Read the first of yes, true, no and false that is a word of its own."""
    found = re.search(rf"\b(?:{'|'.join(WORDS)})\b", text.lower())
    return WORDS[found.group()] if found else "other"


def _in_prefix(answer: str) -> YesNo:
    prefix = answer[:4]
    if "yes" in prefix:
        return "yes"
    return "no" if "no" in prefix else "other"
