"""Every packaged card runs against a miniature of its format."""

from __future__ import annotations

import pytest

from adem_bench.cards import expand_tasks, load_task_card
from adem_bench.errors import DataError
from adem_bench.images import open_rgb
from adem_bench.tasks.base import build_task
from adem_bench.tasks.coco_caption import java
from support.tsv_files import miniature

CARDS = expand_tasks(["vlmevalkit"])
RIGHT = {
    **dict.fromkeys(("mmbench", "seedbench", "ai2d_tsv", "mmstar", "realworldqa"), "B"),
    **dict.fromkeys(("scienceqa_tsv", "mmmu"), "B"),
    **dict.fromkeys(("mme_tsv", "pope_tsv", "hallusionbench"), "Yes"),
}
VALUES = {
    "mmbench": 1.0, "pope_tsv": 1.0, "hallusionbench": 1.0, "mme_tsv": 50.0, "mathvista": 1.0,
    "textvqa_tsv": 1.0, "docvqa": 1.0, "chartqa": 1.0, "ocrbench": 2.0, "coco_tsv": 0.0,
}  # fmt: skip
"""Headline if the miniature's answer is given everywhere; half of the questions elsewhere."""


@pytest.mark.parametrize("name", CARDS)
def test_a_card_runs_against_its_format(name, write, tmp_path, answered, monkeypatch):
    monkeypatch.setattr(java.shutil, "which", lambda name: None)  # Java takes seconds
    file, rows = miniature(name)
    path = write(file, rows)
    task = build_task(name, path.parent, ["options.check_md5=false"])
    samples = list(task.samples())
    assert len(samples) == 2
    assert task.skipped_rows() == ()
    for sample in samples:
        request = task.request(sample)
        assert request.prompt.strip()
        assert all(open_rgb(image).size == (64, 48) for image in request.images)
        assert request.images
    records = answered(task, RIGHT.get(name, "a cat"))
    result = task.aggregate(records)
    assert result.metric(result.headline).value == pytest.approx(VALUES.get(name, 0.5))
    assert {metric.name for metric in result.metrics} >= set(load_task_card(name).columns)
    assert "not compared with the published MD5" in " ".join(result.warnings)
    assert task.statistics(task.card, records).value(result.headline) == pytest.approx(
        result.metric(result.headline).value
    )
    exported = task.export(records, tmp_path / "run")
    assert [path.name for path in exported] == [f"{file}.tsv", f"{file}.xlsx"]
    for path in exported:
        again = task.aggregate(task.import_predictions(path))
        assert again.metrics == result.metrics


@pytest.mark.parametrize("name", CARDS)
def test_a_file_that_is_not_the_published_one_is_refused(name, write):
    file, rows = miniature(name)
    path = write(file, rows)
    with pytest.raises(DataError, match=r"MD5 is not [0-9a-f]{32}.*check_md5=false"):
        build_task(name, path.parent).fingerprint()
