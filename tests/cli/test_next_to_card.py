"""Data next to its card is found by every verb that reads a run, as by the run."""

from __future__ import annotations

import json
import sys

import pytest
import yaml

ROWS = [(n, f"Is {n} even?", "no" if n % 2 else "yes") for n in range(6)]
TSV = "index\timage_path\tquestion\tanswer\n" + "".join(
    f"{n}\t\t{question}\t{answer}\n" for n, question, answer in ROWS
)
JSONL = "".join(
    json.dumps({"id": n, "question": question, "answer": answer}) + "\n"
    for n, question, answer in ROWS
)


@pytest.mark.parametrize(
    ("kind", "options", "content"),
    [
        ("tsv_yes_no", {"file": "rows.tsv", "text_only": True}, TSV),
        ("jsonl", {"file": "rows.jsonl", "metric": "yes_no", "image": None}, JSONL),
    ],
)
def test_rerun_validate_and_report_find_what_the_run_found(
    adem_bench, monkeypatch, tmp_path, kind, options, content
):
    folder = tmp_path / "own"
    folder.mkdir()
    card = {"kind": kind, "split": "test", "headline": "accuracy", "options": options}
    (folder / "quiz.yaml").write_text(yaml.safe_dump(card))
    (folder / options["file"]).write_text(content)
    arguments = ["run", "--model", "constant:yes", "--tasks", "mini_mme,own/quiz.yaml"]
    arguments += ["--limit", "4"]
    monkeypatch.setattr(sys, "argv", ["adem-bench", *arguments])
    assert adem_bench(*arguments).code == 0
    (run,) = (tmp_path / "results").glob("*/quiz/*")
    valid = adem_bench("validate", run)
    assert (valid.code, valid.err) == (0, "")
    told = adem_bench("report", run)
    assert (told.code, told.err) == (0, "")
    again = adem_bench("rerun", run, "--results", "again")
    assert again.code == 0, again.err
    assert again.out.endswith("the same\n")
    (folder / "quiz.yaml").rename(folder / "moved.yaml")  # another name: not taken for it
    assert "not checked" in adem_bench("validate", run).err
