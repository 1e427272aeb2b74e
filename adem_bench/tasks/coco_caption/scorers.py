"""pycocoevalcap's scorers, each with the per-image numbers that its score is made of.

A score of all images is a function of those numbers' sums: BLEU and METEOR add up counts, the
others are means. CIDEr's are images' scores under the document frequencies of all references.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adem_bench.metrics.intervals import Formula, ratio
from adem_bench.tasks.coco_caption.java import LineServer, UnavailableError, package_file, run_java

if TYPE_CHECKING:
    from adem_bench.metrics.intervals import Array

BLEU = tuple(f"BLEU-{order}" for order in range(1, 5))
METEOR_SECONDS, SPICE_SECONDS = 1800, 3600
METEOR_WEIGHTS = (1.0, 0.6, 0.8, 0.6)
"""Of exact matches, stems, synonyms and paraphrases (METEOR 1.5, English)."""
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
"""METEOR 1.5's parameters for English (Denkowski and Lavie 2014, table 1)."""
METEOR_COLUMNS = 23
SPICE_JARS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
SPICE_URL = "http://nlp.stanford.edu/software/stanford-corenlp-full-2015-12-09.zip"
Tokens = Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class ScorerPart:
    """What a scorer makes of all images."""

    values: tuple[float, ...]
    """As the scorer itself computes them, in the order of its names."""
    rows: Array
    """`(images, columns)`, in the order of the captions."""


@dataclass(frozen=True, slots=True)
class Scorer:
    """A scorer, and how its figures follow from its per-image numbers."""

    compute: Callable[[Tokens, Tokens], ScorerPart]
    """Of one caption and the references of each image, tokenized."""
    formulas: Mapping[str, Formula]
    """A metric's name to its value as a function of the rows' sums."""
    check: Callable[[], object] = lambda: None
    """Raises UnavailableError where the scorer cannot run, before any token is made."""


def bleu(found: Tokens, wanted: Tokens) -> ScorerPart:
    """Return BLEU-1 to BLEU-4; the columns are matches, guesses and the two lengths."""
    import numpy as np
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer = BleuScorer(n=4)
    for image, (text,) in found.items():
        scorer += (text, wanted[image])
    scores, _ = scorer.compute_score(option="closest", verbose=0)
    rows = []
    for counts in scorer.ctest:
        length = counts["testlen"]
        closest = min((abs(other - length), other) for other in counts["reflen"])[1]
        rows.append([*counts["correct"], *counts["guess"], length, closest])
    return ScorerPart(tuple(map(float, scores)), np.array(rows, float))


def _bleu_formula(order: int) -> Formula:
    tiny, small = 1e-15, 1e-9  # as in bleu_scorer.py: no division by zero

    def value(sums: Any) -> Any:
        import numpy as np

        precisions = (sums[..., :order] + tiny) / (sums[..., 4 : 4 + order] + small)
        lengths = (sums[..., 8] + tiny) / (sums[..., 9] + small)
        brevity = np.exp(np.minimum(0, 1 - 1 / lengths))
        return precisions.prod(axis=-1) ** (1 / order) * brevity

    return value


def rouge(found: Tokens, wanted: Tokens) -> ScorerPart:
    """Return ROUGE-L."""
    from pycocoevalcap.rouge.rouge import Rouge

    value, scores = Rouge().compute_score(wanted, found)
    return _scored(float(value), scores)


def cider(found: Tokens, wanted: Tokens) -> ScorerPart:
    """Return CIDEr.

    Raises:
        UnavailableError: there is one image only.
    """
    from pycocoevalcap.cider.cider import Cider

    if len(found) < 2:
        # Words weigh by how few images have them: with one image all weights are 0.
        raise UnavailableError("needs more than one image")
    value, scores = Cider().compute_score(wanted, found)
    return _scored(float(value), scores)


def meteor(found: Tokens, wanted: Tokens) -> ScorerPart:
    """Speak METEOR's protocol: `SCORE` lines give statistics, one `EVAL` line the score of all.

    Raises:
        UnavailableError: Java or a file is missing, or the program fails.
    """
    import numpy as np

    jar = package_file("meteor", "meteor-1.5.jar")
    package_file("meteor", "data", "paraphrase-en.gz")
    # Its tables stay: collectors with threads of their own go over them for nothing.
    memory = ["-Xmx2G", "-XX:+UseSerialGC"]
    arguments = [*memory, "-jar", jar.name, "-", "-", "-stdio", "-l", "en", "-norm"]
    with LineServer(arguments, METEOR_SECONDS, jar.parent) as program:
        lines = []
        for image, (text,) in found.items():
            program.send(" ||| ".join(["SCORE", *wanted[image], text]))
            lines.append(program.line())
        program.send(" ||| ".join(["EVAL", *lines]))
        for _ in lines:
            program.line()  # the score of one image
        try:
            value = float(program.line())
            rows = np.array([line.split() for line in lines], float).reshape(-1, METEOR_COLUMNS)
        except ValueError as error:
            raise UnavailableError("METEOR answered with something else than a score") from error
    is_whole = (rows[:, 20] == 1) & (rows[:, 21:23] == rows[:, 0:2]).all(axis=1)
    rows[is_whole, 20] = 0  # a caption in one chunk with its reference is not fragmented
    return ScorerPart((value,), rows)


def _meteor_formula(sums: Any) -> Any:
    """METEOR 1.5 of added-up statistics (Denkowski and Lavie 2014, section 2).

    The columns: words of candidate and reference, function words of each, matches of each; four
    columns a kind of match (content of each, function words of each); chunks, matched words of
    each.
    """
    import numpy as np

    words, functions = sums[..., 0:2], sums[..., 2:4]
    kinds = sums[..., 4:20].reshape(*sums.shape[:-1], 4, 2, 2)  # kind, content or function, side
    matched = np.einsum("...ktj,k,t->...j", kinds, METEOR_WEIGHTS, [DELTA, 1 - DELTA])
    shares = ratio(matched, DELTA * (words - functions) + (1 - DELTA) * functions)
    precision, recall = shares[..., 0], shares[..., 1]
    mean = ratio(precision * recall, ALPHA * precision + (1 - ALPHA) * recall)
    chunks, together = sums[..., 20], sums[..., 21:23].sum(axis=-1) / 2
    return np.nan_to_num(mean * (1 - GAMMA * ratio(chunks, together) ** BETA))


def spice(found: Tokens, wanted: Tokens) -> ScorerPart:
    """Return SPICE.

    Raises:
        UnavailableError: Java or a file is missing, or the program fails.
    """
    jar = spice_jar()
    rows = [
        {"image_id": image, "test": text, "refs": wanted[image]} for image, (text,) in found.items()
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in.json").write_text(json.dumps(rows))
        arguments = ["-Xmx8G", "-jar", str(jar), "in.json", "-out", "out.json"]
        run_java([*arguments, "-subset", "-silent"], "", SPICE_SECONDS, folder)
        try:
            results: list[dict[str, Any]] = json.loads((folder / "out.json").read_text())
            by_image = {str(r["image_id"]): float(r["scores"]["All"]["f"]) for r in results}
            scores = [by_image[image] for image in found]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UnavailableError(f"SPICE wrote no usable result: {error}") from error
    return _scored(sum(scores) / len(scores), scores)


def spice_jar() -> Path:
    """Return SPICE's program, with all that it needs next to it.

    Raises:
        UnavailableError: it is missing, or what its package leaves out is.
    """
    jar = package_file("spice", "spice-1.0.jar")
    library = jar.parent / "lib"
    absent = [name for name in SPICE_JARS if not (library / name).is_file()]
    if absent:
        raise UnavailableError(
            f"{' and '.join(absent)} missing; take them out of {SPICE_URL} into {library}"
        )
    return jar


def _scored(value: float, scores: Any) -> ScorerPart:
    """Return a mean with what it is the mean of."""
    import numpy as np

    column = np.asarray(scores, float)
    return ScorerPart((value,), np.stack([column, np.ones(len(column))], axis=1))


def _mean(sums: Any) -> Any:
    return ratio(sums[..., 0], sums[..., 1])


SCORERS = (
    Scorer(bleu, {name: _bleu_formula(order) for order, name in enumerate(BLEU, 1)}),
    Scorer(meteor, {"METEOR": _meteor_formula}),
    Scorer(rouge, {"ROUGE-L": _mean}),
    Scorer(cider, {"CIDEr": _mean}),
    Scorer(spice, {"SPICE": _mean}, spice_jar),
)
"""In the order of tables."""
