"""The gate: whether a candidate may take the place of a baseline (`compare --fail-if-worse`).

Without a margin it closes on what is shown to be worse, which is no evidence of being as good; with
one it opens only on what is shown not to be worse by more (non-inferiority). What cannot be judged
does not pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from adem_bench.metrics.paired import Difference, units_enough, units_needed, wide_enough
from adem_bench.records import Metric
from adem_bench.results.comparison import Pair, is_significant
from adem_bench.results.comparison_sides import MAX_NAMED, place_name
from adem_bench.results.comparison_sizes import POWER, Sizes
from adem_bench.results.comparison_suite import SuiteComparison, TaskComparison, Unit
from adem_bench.results.runs import OpenedRun

Outcome = Literal["passed", "worse", "inconclusive", "not judged"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says of one task."""

    task: str
    metric: str
    """Empty where there is nothing to compare."""
    margin: float | None
    """In the metric's own unit; None where only a significant loss counts."""
    outcome: Outcome
    reason: str
    """A sentence without its full stop."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What the gate says of a candidate."""

    baseline: str
    candidate: str
    """Letters of the two."""
    verdicts: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        """Whether every task was judged, and passed."""
        return bool(self.verdicts) and all(v.outcome == "passed" for v in self.verdicts)

    def sentence(self) -> str:
        """Return the verdict in one line."""
        count = len(self.verdicts)
        tasks = "1 task" if count == 1 else f"{count} tasks"
        if not self.passed:
            return f"gate not passed: {'; '.join(self._stuck())}"
        margins = sum(v.margin is not None for v in self.verdicts)
        if margins == count:
            return (
                f"gate passed: {self.candidate} is within the margin of {self.baseline} on {tasks}"
            )
        rest = f", within the margin on {margins} of them" if margins else ""
        return (
            f"gate passed: {self.candidate} is not shown to be worse than {self.baseline} on "
            f"{tasks}{rest}; that alone does not show that it is as good (--margin)"
        )

    def _stuck(self) -> Iterator[str]:
        for outcome in ("worse", "inconclusive", "not judged"):
            names = [v.task for v in self.verdicts if v.outcome == outcome]
            if names:
                more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
                yield f"{outcome} on {', '.join(names[:MAX_NAMED])}{more}"


def judge(
    suite: SuiteComparison,
    letters: tuple[str, ...],
    margins: Sizes | None = None,
    power: float = POWER,
) -> Gate:
    """Judge the last side of a comparison against the first.

    Args:
        suite: Made with `failed_are_wrong`.
        letters: Of its sides.
        margins: How much worse the candidate may be; None: not significantly. A task without a
            margin of its own is judged so too.
        power: As for `Power`, of the sample counts that are named.
    """
    last = len(suite.sides) - 1
    verdicts: list[Verdict] = []
    for task in suite.tasks:
        verdicts += _of_task(task, last, margins or Sizes(), power)
    judged = {verdict.task for verdict in verdicts}
    for unpaired in suite.unpaired:
        name = place_name(unpaired.place, unpaired.settings)
        lacking = [n for n in (0, last) if n not in unpaired.sides]
        if lacking and name not in judged:
            verdicts.append(_missing(name, " and ".join(letters[n] for n in lacking)))
            judged.add(name)
    return Gate(letters[0], letters[last], tuple(verdicts))


def _missing(name: str, lacking: str) -> Verdict:
    verb = "have" if " and " in lacking else "has"
    return Verdict(name, "", None, "not judged", f"{lacking} {verb} no run to compare")


def _of_task(task: TaskComparison, last: int, margins: Sizes, power: float) -> Iterator[Verdict]:
    for pair in task.comparison.pairs:
        if (task.sides[pair.first], task.sides[pair.second]) == (0, last):
            yield _verdict(task, pair, margins.of(task), power)


def _verdict(task: TaskComparison, pair: Pair, margin: float | None, power: float) -> Verdict:
    metric = pair.headline.metric
    obstacle = next(_obstacles(task, pair), "")
    if obstacle:
        return Verdict(task.name, metric, margin, "not judged", obstacle)
    unit = task.unit(metric)
    if margin is None:
        outcome, reason = _by_significance(pair.headline, unit)
    else:
        outcome, reason = _by_margin(pair.headline, unit, margin, power, task.comparison.noun)
    return Verdict(task.name, metric, margin, outcome, reason)


def _by_significance(difference: Difference, unit: Unit) -> tuple[Outcome, str]:
    p_value = difference.adjusted_p_value
    p_words = "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"
    change = f"{_signed(difference.value, unit)}, Holm p {p_words}"
    if is_significant(difference) and difference.gain < 0:
        return "worse", f"{difference.metric} is significantly worse ({change})"
    return "passed", f"{difference.metric} is not significantly worse ({change})"


def _by_margin(
    difference: Difference, unit: Unit, margin: float, power: float, noun: str
) -> tuple[Outcome, str]:
    name, allowed = difference.metric, _shown(margin, unit)
    low, high = wide_enough(difference)
    worst, best = (-high, -low) if difference.lower_is_better else (low, high)
    if not math.isfinite(worst):
        why = "" if difference.swing else f": all {noun} are alike, and show no spread"
        return "inconclusive", f"the difference of {name} has no interval{why}"
    interval = Metric("", 0.0, unit, 0, "", low, high).format_interval()
    bound = f"+{allowed}" if difference.lower_is_better else f"-{allowed}"
    better, lower = ("below", "above") if difference.lower_is_better else ("above", "below")
    if worst > -margin:
        return "passed", f"the difference of {name} lies {better} {bound} {interval}"
    if best < -margin:
        return "worse", f"the difference of {name} lies {lower} {bound} {interval}"
    reason = f"the difference of {name} may lie on either side of {bound} {interval}"
    needed = units_needed(difference, margin, power) if margin > 0 else None
    if difference.fell == difference.rose == 0 and margin > 0:
        enough = units_enough(difference, margin)
        reason += f"; the two agree on all, and {enough:,} {noun} on which they do would be enough"
    elif needed is not None and needed > difference.units:
        reason += f"; if the two do not differ, about {needed:,} {noun} would show it"
    return "inconclusive", reason


def _obstacles(task: TaskComparison, pair: Pair) -> Iterator[str]:
    """Yield why two runs cannot be judged."""
    runs = task.runs[pair.first], task.runs[pair.second]
    for who, run in zip(("the baseline", "the candidate"), runs, strict=True):
        result = run.result
        allowed = run.run.options.get("max_failed") or 0
        if result.failed > allowed:
            yield (
                f"{result.failed} samples of {who} failed, of which {allowed} are allowed "
                "(run --max-failed)"
            )
        wanted = min(_limit(run) or result.expected, result.expected)
        if result.scored + result.failed < wanted:
            yield f"{who} has only {result.scored + result.failed} of {wanted} samples"
        if result.headline != task.comparison.headline:
            yield f"{result.headline} cannot be compared sample by sample"
    if runs[1].result.failed and pair.headline.lower_is_better:
        yield "what the candidate's failed samples would cost at worst is not known"
    if _limit(runs[0]) != _limit(runs[1]):
        limits = " and ".join(str(_limit(run) or "none") for run in runs)
        yield (
            f"the two were run on other samples (--limit: {limits}); run both with the same --limit"
        )
    if bool(runs[0].run.options.get("blind")) != bool(runs[1].run.options.get("blind")):
        yield (
            "one was run without images (--blind), the other with them; "
            "run both with or both without --blind"
        )


def _limit(run: OpenedRun) -> int:
    return run.run.options.get("limit") or 0


def _shown(value: float, unit: Unit) -> str:
    return Metric("", value, unit, 0).format()


def _signed(value: float, unit: Unit) -> str:
    return f"{'+' if value > 0 else ''}{_shown(value, unit)}"
