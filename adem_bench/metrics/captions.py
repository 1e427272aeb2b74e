"""Caption metrics through pycocoevalcap, on captions tokenized as its COCOEvalCap does.

A metric that cannot be had (no Java, a file missing, a program that fails) has no value and
says how to get it; the others come all the same.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adem_bench.metrics.java import LineServer, UnavailableError, package_file, run_java
from adem_bench.metrics.tokens import official_tokens, substitute_tokens
from adem_bench.records import Metric

NAMES = (
    *(f"BLEU-{order}" for order in range(1, 5)),
    "METEOR",
    "ROUGE-L",
    "CIDEr",
    "SPICE",
)
METEOR_SECONDS, SPICE_SECONDS = 1800, 3600
SPICE_JARS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
SPICE_URL = "http://nlp.stanford.edu/software/stanford-corenlp-full-2015-12-09.zip"
SUBSTITUTE = "not the official tokenizer, which needs Java"
Tokens = Mapping[str, list[str]]


def caption_scores(
    captions: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> tuple[Metric, ...]:
    """Return BLEU-1 to BLEU-4, METEOR, ROUGE-L, CIDEr and SPICE.

    Args:
        captions: One caption for each image.
        references: At least one reference for each of these images.

    Raises:
        ValueError: an image has no reference.
    """
    bare = [image for image in captions if not references.get(image)]
    if bare:
        raise ValueError(f"no reference for image {bare[0]}")
    if not captions:
        return tuple(Metric(name, None, "fraction", 0, "no caption was scored") for name in NAMES)
    found, wanted, note = _tokens(captions, references)
    values: dict[str, float | str] = {}
    for names, compute in SCORERS.items():
        try:
            values |= dict(zip(names, compute(found, wanted), strict=True))
        except UnavailableError as error:
            values |= dict.fromkeys(names, str(error))
    return tuple(_metric(name, values[name], len(captions), note) for name in NAMES)


def _metric(name: str, value: float | str, count: int, note: str) -> Metric:
    if isinstance(value, str):
        return Metric(name, None, "fraction", count, value)
    if not math.isfinite(value):
        return Metric(name, None, "fraction", count, "the scorer returned no number")
    return Metric(name, value, "fraction", count, note)


def _tokens(
    captions: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> tuple[Tokens, Tokens, str]:
    """Return tokenized captions and references by image, and what to know of the tokens."""
    texts = [*captions.values(), *(text for image in captions for text in references[image])]
    try:
        tokens, note = official_tokens(texts), ""
    except UnavailableError as error:
        tokens, note = substitute_tokens(texts), f"{SUBSTITUTE} ({error})"
    rest = iter(tokens)
    found = {image: [next(rest)] for image in captions}
    return found, {image: [next(rest) for _ in references[image]] for image in captions}, note


def _bleu(found: Tokens, wanted: Tokens) -> list[float]:
    from pycocoevalcap.bleu.bleu import Bleu

    scores, _ = Bleu(4).compute_score(wanted, found, verbose=0)
    return [float(score) for score in scores]


def _rouge(found: Tokens, wanted: Tokens) -> list[float]:
    from pycocoevalcap.rouge.rouge import Rouge

    return [float(Rouge().compute_score(wanted, found)[0])]


def _cider(found: Tokens, wanted: Tokens) -> list[float]:
    from pycocoevalcap.cider.cider import Cider

    if len(found) < 2:
        # Words weigh by how few images have them: with one image all weights are 0.
        raise UnavailableError("needs more than one image")
    return [float(Cider().compute_score(wanted, found)[0])]


def _meteor(found: Tokens, wanted: Tokens) -> list[float]:
    """Speak METEOR's protocol: `SCORE` lines give statistics, one `EVAL` line the score of all."""
    jar = package_file("meteor", "meteor-1.5.jar")
    package_file("meteor", "data", "paraphrase-en.gz")
    arguments = ["-Xmx2G", "-jar", jar.name, "-", "-", "-stdio", "-l", "en", "-norm"]
    with LineServer(arguments, METEOR_SECONDS, jar.parent) as meteor:
        statistics = []
        for image, (text,) in found.items():
            meteor.send(" ||| ".join(["SCORE", *wanted[image], text]))
            statistics.append(meteor.line())
        meteor.send(" ||| ".join(["EVAL", *statistics]))
        for _ in statistics:
            meteor.line()  # the score of one image
        try:
            return [float(meteor.line())]
        except ValueError as error:
            raise UnavailableError("METEOR answered with something else than a score") from error


def _spice(found: Tokens, wanted: Tokens) -> list[float]:
    jar = package_file("spice", "spice-1.0.jar")
    library = jar.parent / "lib"
    absent = [name for name in SPICE_JARS if not (library / name).is_file()]
    if absent:
        raise UnavailableError(
            f"{' and '.join(absent)} missing; take them out of {SPICE_URL} into {library}"
        )
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
            scores = [float(result["scores"]["All"]["f"]) for result in results]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UnavailableError(f"SPICE wrote no usable result: {error}") from error
    return [sum(scores) / len(scores)] if scores else [math.nan]


SCORERS: dict[tuple[str, ...], Callable[[Tokens, Tokens], list[float]]] = {
    NAMES[:4]: _bleu,
    ("METEOR",): _meteor,
    ("ROUGE-L",): _rouge,
    ("CIDEr",): _cider,
    ("SPICE",): _spice,
}
