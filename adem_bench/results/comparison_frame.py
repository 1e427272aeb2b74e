"""A comparison as a pandas table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adem_bench.results.comparison import is_significant
from adem_bench.results.comparison_sizes import Power
from adem_bench.results.comparison_suite import SuiteComparison
from adem_bench.results.comparison_text import Findings, reading

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "task", "split", "settings", "metric", "is_headline", "first", "second", "first_value",
    "second_value", "difference", "low", "high", "p", "holm_p", "unit", "n", "test", "won", "lost",
    "reading", "n_needed", "size",
)  # fmt: skip


def comparison_frame(suite: SuiteComparison) -> pd.DataFrame:
    """Return a row for each task, pair of runs and metric; the columns are `COLUMNS`.

    Values are in the metrics' units: fractions lie in [0, 1]. `attrs["remarks"]` has what a reader
    must know.
    """
    import pandas as pd

    findings = Findings(suite, power := Power(level=suite.level))
    names = {letter: label for letter, label, _ in findings.sides}
    rows = []
    for task, pair in suite.headlines():
        who = findings.who(task, pair)
        shown = is_significant(pair.headline)
        needed = None if shown else power.needed(task, pair.headline)
        for found in (pair.headline, *pair.groups):
            rows.append(
                (
                    *task.place, task.settings, found.metric, found is pair.headline,
                    *(names[letter] for letter in who),
                    found.first, found.second, found.value, found.low, found.high,
                    found.p_value, found.adjusted_p_value, task.unit(found.metric), found.units,
                    found.test, found.won, found.lost,
                    reading(found, (names[who[0]], names[who[1]])),
                    needed.units if needed and found is pair.headline else None,
                    needed.size if needed and found is pair.headline else None,
                )
            )  # fmt: skip
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame.attrs["remarks"] = list(findings.remarks())
    return frame
