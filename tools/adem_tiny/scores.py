"""Scores of a network on a split of the mini world, for the log of the training."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pycocoevalcap.cider.cider import Cider

from adem_bench.data.mini.items import caption_items, yes_no_items
from adem_bench.data.mini.science import science_problems
from adem_bench.data.mini.world import Scene, Split
from adem_bench.models.adem.decoding import decode
from adem_bench.models.adem.network import AdemNetwork
from adem_bench.models.adem.sequence import SequenceBuilder
from adem_bench.tasks.prompts import ANSWER_START
from adem_tiny.adapter import NORMALIZATION
from adem_tiny.texts import LETTERS, science_texts
from adem_tiny.vision import normalized, pixels_of

BATCH = 50


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt with what the scores need to judge the answer."""

    kind: str
    group: str
    scene: Scene | None
    prompt: str
    right: str | list[str]


def questions_of(split: Split, seed: int) -> list[Question]:
    """Return the questions of a split in the published evaluation prompts."""
    questions = []
    for item in yes_no_items(split, 20, seed):
        for text, right in ((item.true_question, "yes"), (item.false_question, "no")):
            prompt = f"Instruction: {text}\nResponse:"
            questions.append(Question("mme", item.subtask, item.scene, prompt, right))
    for problem in science_problems(split, 300, seed):
        prompt = science_texts(problem)[0] + ANSWER_START
        group = "without image" if problem.scene is None else "with image"
        right = LETTERS[problem.answer]
        questions.append(Question("sqa", group, problem.scene, prompt, right))
    for caption in caption_items(split, 150, seed):
        right = caption.captions
        questions.append(Question("caption", "", caption.scene, "a picture of", right))
    return questions


def score(
    network: AdemNetwork,
    builder: SequenceBuilder,
    questions: Sequence[Question],
    blind: bool = False,
) -> dict[str, float]:
    """Return the share of right answers of each kind and group, and CIDEr.

    Args:
        network: In evaluation mode.
        builder: Its sequence builder.
        questions: From `questions_of`.
        blind: Leave every image out.
    """
    answers = _answers(network, builder, questions, blind)
    right: dict[str, list[bool]] = defaultdict(list)
    found: dict[str, list[str]] = {}
    references: dict[str, list[str]] = {}
    for index, (question, answer) in enumerate(zip(questions, answers, strict=True)):
        if question.kind == "caption":
            match = re.search(r"picture of (.+)", answer)
            found[str(index)] = [match.group(1) if match else answer]
            references[str(index)] = list(question.right)
            continue
        is_right = _read(question.kind, answer) == question.right
        right[question.kind].append(is_right)
        right[f"{question.kind} {question.group}"].append(is_right)
    scores = {name: round(sum(values) / len(values), 4) for name, values in right.items()}
    cider, _ = Cider().compute_score(references, found)
    return scores | {"CIDEr": round(float(cider), 4)}


def majority(questions: Sequence[Question]) -> dict[str, float]:
    """Return the scores of the most frequent answer, as `score` does."""
    scores = {}
    for kind in ("mme", "sqa"):
        given = [str(question.right) for question in questions if question.kind == kind]
        scores[kind] = round(max(map(given.count, given)) / len(given), 4)
    references = {
        str(index): list(question.right)
        for index, question in enumerate(questions)
        if question.kind == "caption"
    }
    every = [caption for captions in references.values() for caption in captions]
    most = max(every, key=every.count)
    cider, _ = Cider().compute_score(references, {name: [most] for name in references})
    return scores | {"CIDEr": round(float(cider), 4)}


def _read(kind: str, answer: str) -> str:
    if kind == "mme":
        return next((word for word in ("yes", "no") if word in answer.lower()[:4]), "other")
    letter = re.search("[A-Z]", answer)
    return letter.group() if letter else ""


def _answers(
    network: AdemNetwork, builder: SequenceBuilder, questions: Sequence[Question], blind: bool
) -> list[str]:
    limit = {"mme": 10, "sqa": 1, "caption": 20}
    answers = [""] * len(questions)
    batches: dict[tuple[str, bool], list[int]] = defaultdict(list)
    for index, question in enumerate(questions):
        batches[question.kind, question.scene is not None and not blind].append(index)
    for (kind, has_image), members in batches.items():
        for start in range(0, len(members), BATCH):
            chosen = members[start : start + BATCH]
            rows = [builder.prompt(questions[i].prompt, has_image, limit[kind]) for i in chosen]
            with torch.inference_mode():
                memory = network.remember_nothing()
                if has_image:
                    scenes = [scene for i in chosen if (scene := questions[i].scene) is not None]
                    memory = network.remember(normalized(pixels_of(scenes), NORMALIZATION[kind]))
            decoded = decode(network.decoder, rows, memory, limit[kind], builder.tokenizer.eos_id)
            for index, ids in zip(chosen, decoded.ids, strict=True):
                answers[index] = builder.tokenizer.decode(ids)
    return answers
