"""What a message proposes in place of an unknown name."""

from __future__ import annotations

import pytest

from adem_bench.errors import nearest_hint

MANY = [f"task_{number}" for number in range(90)]


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("mmee", ["mme", "sqa"], "; did you mean: mme?"),
        ("MME", ["mme", "sqa"], "; did you mean: mme?"),
        ("cider", ["CIDEr", "BLEU_1"], "; did you mean: CIDEr?"),
        ("zz", ["a", "b"], "; known: a, b"),
        ("zz", [], ""),
        ("tsk_7", MANY, "; did you mean: task_7, task_17, task_27?"),
        ("zz", MANY, "; the nearest: task_0, task_1, task_10; `adem-bench tasks` lists all 90"),
    ],
)
def test_close_names_or_the_nearest_and_what_lists_them(name, known, expected):
    assert nearest_hint(name, known, "adem-bench tasks") == expected


def test_many_names_without_a_command_that_lists_them_are_counted():
    assert nearest_hint("zz", MANY) == "; the nearest of 90: task_0, task_1, task_10"
