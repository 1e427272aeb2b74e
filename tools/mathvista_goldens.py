"""Make tests/fixtures/mathvista/goldens.json: what MathVista's own scorer makes of found answers.

Run where a checkout of MathVista (commit 53d52587) is, and Levenshtein and rich are installed:

    python tools/mathvista_goldens.py CHECKOUT tests/fixtures/mathvista/goldens.json

Answers are stripped first, as those of its judges are.
"""

from __future__ import annotations

import json
import sys
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

COMMIT = "53d525874bdde205128e6b160b7357a88277d479"
QUESTIONS = (
    *(("3", "integer", None, []), ("-12", "integer", None, []), ("1000", "integer", None, [])),
    *(("2.5", "float", 1, []), ("0.25", "float", 2, []), ("1.0", "float", 1, [])),
    *(("[1, 2]", "list", None, []), ("[0.5, 1.5]", "list", None, [])),
    ("B", "text", None, ["a dog", "a cat"]),
    ("A", "text", None, ["3", "30", "300"]),
    ("C", "text", None, ["Yes", "No", "B"]),
    ("A", "integer", None, ["145°", "35°", "55°", "125°"]),
)
"""Right answer, its type, decimal places and options."""
FOUND = (
    *(
        "3",
        " 3\n",
        "3.0",
        "3.7",
        "-3",
        "-12",
        "-12.9",
        "1000",
        "1e3",
        "1,000",
        "1_000",
        "three",
        "",
    ),
    *(
        "2.5",
        "2.50",
        "2.45",
        "2.549",
        "2.55",
        "0.25",
        ".25",
        "0.254",
        "0.255",
        "0.2549",
        "1",
        "0.95",
    ),
    *(
        "[1, 2]",
        "[1,2]",
        " [1, 2]",
        "1, 2",
        "[0.5, 1.5]",
        "[0.50, 1.5]",
        "nan",
        "inf",
        "-inf",
        "3 cm",
    ),
    *("A", "B", "C", "a", "b", "(A)", "(b)", "(c) B", "(D)", "(E)", "D", "B.", "B)", "Option B"),
    *("a cat", "A cat", "cat", "a cot", "dog", "the dog", "30", "300", "Yes", "no", "yes it is"),
    *("145", "145°", "35", "(A) or (B)", "(AB)", "the answer is (B) a cat", "\uff13", "None"),
)


def main() -> None:
    """Write what the official code says of every found answer to every question."""
    checkout, target = map(Path, sys.argv[1:])
    scorer = _scorer(checkout)
    cases = []
    for (answer, kind, places, choices), found in product(QUESTIONS, FOUND):
        asked = "multi_choice" if choices else "free_form"
        right = choices[ord(answer) - ord("A")] if choices else answer
        read = scorer.normalize_extracted_answer(found.strip(), choices, asked, kind, places)
        cases.append([answer, kind, places, choices, found, scorer.safe_equal(read, right)])
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    target.write_text(f'{{"commit": "{COMMIT}", "cases": [\n{lines}\n]}}\n', encoding="utf-8")


def _scorer(checkout: Path) -> Any:
    """Return the module that scores, without the packages that its command alone needs."""
    for name in ("datasets", "utilities"):
        module: Any = ModuleType(name)
        module.load_dataset = module.read_json = module.save_json = None
        sys.modules[name] = module
    sys.path.insert(0, str(checkout / "evaluation"))
    import calculate_score  # type: ignore[import-not-found]

    return calculate_score


if __name__ == "__main__":
    main()
