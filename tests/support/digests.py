"""What decides whether an earlier run is found again, computed by the code that is imported.

Only what users call is used, so that the same file runs with earlier versions: the fixtures of
`fixtures/earlier_runs` hold what the version named in their README computed.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import adem_bench
from adem_bench.cards import list_cards, load_model_card, load_recipe_card, load_task_card

TSV_TASKS = (
    "mmbench", "seedbench", "ai2d_tsv", "mmmu", "mmstar", "realworldqa", "scienceqa_tsv",
    "mme_tsv", "pope_tsv", "hallusionbench", "textvqa_tsv", "docvqa", "chartqa", "ocrbench",
    "mathvista", "coco_tsv",
)  # fmt: skip
QUESTION_TASKS = (
    "vqav2", "gqa", "vizwiz", "textvqa_val", "textvqa_val_ocr", "refcoco", "refcoco_plus",
    "refcocog", "ocid_ref", "tallyqa", "pope", "vsr", "ai2d",
)  # fmt: skip
MINI_TASKS = ("mini_sqa", "mini_mme", "mini_caption")
GROUPS = {"mini", "adem", "vlm_evaluation", "vlmevalkit"}
"""Cards of tasks that are no task."""


def benchmark_calls(data: Path) -> dict[str, dict[str, Any]]:
    """Calls of `evaluate` that ask every kind of task, in more than its default prompts.

    Args:
        data: The fixtures' data root.
    """
    unchecked = {"options.check_md5": False}
    return {
        "questions": {"tasks": QUESTION_TASKS, "data_root": data},
        "logits": {
            "tasks": ("pope", "vsr"),
            "data_root": data,
            "settings": {"options.answer_rule": "logits"},
        },
        "tsv": {"tasks": TSV_TASKS, "data_root": data, "settings": unchecked},
        "tsv in the instruction template": {
            "tasks": ("mmbench", "mme_tsv", "docvqa"),
            "data_root": data,
            "settings": unchecked,
            "prompt_format": "instruction",
        },
        "mini": {"tasks": MINI_TASKS, "limit": 24},
        "mini with captions": {
            "tasks": ("mini_sqa",),
            "split": "minitest",
            "prompt_format": "CQM-A",
            "settings": {"options.captions": True},
        },
        "mini, blind": {"tasks": ("mini_mme",), "limit": 8, "blind": True},
        "majority": {"model": "majority", "tasks": ("mini_sqa", "mini_mme"), "limit": 8},
        "constant": {"model": "constant:Yes", "tasks": ("mini_mme",), "limit": 8},
    }


def weight_calls(data: Path, parity_card: Path, output: Path) -> dict[str, dict[str, Any]]:
    """Calls of `evaluate` that load weights, each with other settings.

    Args:
        data: The fixtures' data root.
        parity_card: Card of the tiny model in the published files.
        output: A finished training output.
    """
    calls: dict[str, dict[str, Any]] = {
        "adem-tiny": {},
        "alpha": {"settings": {"fusion.alpha": 0.2}},
        "other settings": {
            "settings": {
                "fusion.beta": 0.1,
                "fusion.drop_ratio": 0.0,
                "fusion.cls_token": False,
                "attention": "eager",
                "overflow": "fix",
                "max_sequence_length": 256,
                "image_normalization": "clip",
            }
        },
        "no adapter": {"adapter": "none"},
        "another adapter": {"adapter": output / "adapter"},
        "bfloat16": {"dtype": "bfloat16"},
        "published files": {"model": parity_card},
        "training output": {"model": output},
    }
    common = {"model": "adem-tiny", "tasks": ("vsr",), "data_root": data, "limit": 1}
    return {name: common | call for name, call in calls.items()}


def run_digests(calls: Mapping[str, dict[str, Any]], results: Path) -> dict[str, Any]:
    """Make the runs; return of each its folder, its identity and the digests of its requests."""
    return {
        f"{name}: {manifest['task']['name']}": {
            "folder": folder.relative_to(results / name).as_posix(),
            "identity": manifest["identity"],
            "requests": {
                record["sample_id"]: record["request_digest"]
                for record in map(json.loads, (folder / "samples.jsonl").open(encoding="utf-8"))
            },
        }
        for name, call in calls.items()
        for folder, manifest in _runs(results / name, **call)
    }


def _runs(results: Path, **call: Any) -> Iterator[tuple[Path, Any]]:
    chosen = {"limit": None, "blind": False}
    options = {name: call.pop(name, default) for name, default in chosen.items()}
    outcomes = adem_bench.evaluate(
        call.pop("model", "echo"),
        call.pop("tasks"),
        results=results,
        device="cpu",
        options=adem_bench.RunOptions(**options),
        **call,
    )
    for outcome in outcomes:
        yield outcome.folder, json.loads((outcome.folder / "manifest.json").read_text())


def card_digests() -> dict[str, dict[str, str]]:
    """The digest of every card that travels with the package."""
    loaders = {"models": load_model_card, "tasks": load_task_card, "trainers": load_recipe_card}
    return {
        kind: {name: load(name).digest() for name in list_cards(kind) if name not in GROUPS}
        for kind, load in loaders.items()
    }


def all_digests(data: Path, parity_card: Path, output: Path) -> dict[str, Any]:
    """All of the above; arguments as there."""
    with tempfile.TemporaryDirectory() as results:
        calls = benchmark_calls(data) | weight_calls(data, parity_card, output)
        return {"runs": run_digests(calls, Path(results)), "cards": card_digests()}


if __name__ == "__main__":
    json.dump(all_digests(Path("data"), Path("parity.yaml"), Path("training/finished")), sys.stdout)
