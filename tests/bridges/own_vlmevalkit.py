"""VLMEvalKit's own run, with a model of ours; run in its environment.

    python own_vlmevalkit.py MODEL FOLDER DATA_SET…

Questions are asked in VLMEvalKit's own prompts, as instructions. Rows made for a test have other
MD5 sums than the published data, which it would fetch again otherwise.
"""

from __future__ import annotations

import runpy
import sys
from functools import partial

import vlmeval.config
import vlmeval.dataset

from adem_bench.integrations.vlmevalkit.model import AdemVL


class Instructed(AdemVL):
    """A model that is asked in no published prompt."""

    def _find_task(self, dataset):
        return None


if __name__ == "__main__":
    model, folder, *names = sys.argv[1:]
    for kind in vlmeval.dataset.DATASET_CLASSES:
        if getattr(kind, "DATASET_MD5", None):
            kind.DATASET_MD5 = dict.fromkeys(kind.DATASET_MD5)
    vlmeval.config.supported_VLM[model] = partial(Instructed, model, several_images="joined")
    given = ["--data", *names, "--model", model, "--judge", "exact_matching"]
    sys.argv = ["vlmeval", *given, "--work-dir", folder]
    runpy.run_module("vlmeval", run_name="__main__", alter_sys=True)
