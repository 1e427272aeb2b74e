"""ADEM-VL and our tasks in lmms-eval: `--model adem`, `--tasks adem_…`.

lmms-eval finds the model by the entry point group `lmms_eval.models`, and the tasks in the folder
that `python -m adem_bench.integrations.lmms_eval` prints. Tested with lmms-eval 0.7.3.
"""

from __future__ import annotations

from typing import Any

MODEL = "adem"


def manifest() -> Any:
    """Return what lmms-eval wants of a model's entry point."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(
        model_id=MODEL, simple_class_path="adem_bench.integrations.lmms_eval.model.AdemLmms"
    )
