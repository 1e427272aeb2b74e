"""Records that VLMEvalKit and lmms-eval keep, as runs of our tasks."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from adem_bench.tasks.base import build_task
from support.answering import finished_run

LETTERS = "ABCDE"


@pytest.fixture
def as_run(adem_bench, mini):
    """Scores a file as a run of `theirs`; returns what the command did, and the run."""

    def call(task, path, *more):
        arguments = ("--task", task, "--predictions", path, "--as-run", "theirs", *more)
        done = adem_bench("score", *arguments, "--data-root", mini)
        found = sorted(Path("results/theirs").rglob("samples.jsonl"))
        return done, found[0].parent if found else None

    return call


def records_of(run: Path) -> dict[str, dict]:
    lines = map(json.loads, (run / "samples.jsonl").read_text().splitlines())
    return {line["sample_id"]: line for line in lines}


def mme_rows(mini) -> list[dict]:
    """MME in the columns of VLMEvalKit's TSV, each answered No but for the first."""
    samples = list(build_task("mini_mme", mini).samples())
    return [
        {
            "index": 500 + number,
            "category": sample.groups[0],
            "image_path": f"{sample.groups[0]}/{sample.images[0].name}",
            "question": sample.fields["question"],
            "answer": sample.reference,
            "prediction": "No." if number else "Yes, there is.",
        }
        for number, sample in enumerate(samples)
    ]


def sqa_rows(mini) -> list[dict]:
    """ScienceQA's questions with an image, in the columns of VLMEvalKit's TSV."""
    found = []
    for sample in build_task("mini_sqa", mini).samples():
        if sample.images:
            choices = sample.fields["choices"]
            row = {"index": len(found), "question": sample.fields["question"]}
            row |= dict(zip(LETTERS, choices, strict=False))
            found.append(row | {"answer": LETTERS[sample.reference], "prediction": "B"})
    return found


@pytest.mark.parametrize("suffix", [".xlsx", ".tsv", ".json"])
def test_a_spreadsheet_of_mme_is_a_run_that_compares_with_ones_own(
    as_run, adem_bench, mini, tmp_path, suffix
):
    frame = pd.DataFrame(mme_rows(mini))
    path = tmp_path / f"Their-7B_MME{suffix}"
    writers = {
        ".xlsx": lambda: frame.to_excel(path, index=False),
        ".tsv": lambda: frame.to_csv(path, sep="\t", index=False),
        ".json": lambda: frame.to_json(path, orient="records"),
    }
    writers[suffix]()
    done, run = as_run("mini_mme", path)
    assert done.code == 0, done.err
    records = records_of(run)
    samples = list(build_task("mini_mme", mini).samples())
    assert list(records) == [sample.id for sample in samples]
    assert records[samples[0].id]["response"] == "Yes, there is."
    assert {r["prediction"] for r in records.values()} == {"yes", "no"}
    if suffix != ".xlsx":
        return
    own = finished_run(tmp_path / "own", mini, limit=None)
    compared = adem_bench("compare", run, own, "--format", "json")
    assert (compared.code, json.loads(compared.out)["samples"]) == (0, 320)
    assert adem_bench("validate", run, "--data-root", mini).code == 0


@pytest.mark.parametrize("suffix", [".tsv", ".json"])
def test_a_spreadsheet_of_mme_is_known_behind_a_mark_too(as_run, mini, tmp_path, suffix):
    frame, path = pd.DataFrame(mme_rows(mini)), tmp_path / f"Their-7B_MME{suffix}"
    text = frame.to_json(orient="records") if suffix == ".json" else frame.to_csv(sep="\t")
    path.write_text(text, encoding="utf-16")
    done, run = as_run("mini_mme", path)
    assert done.code == 0, done.err
    assert len(records_of(run)) == len(frame)


def test_questions_with_an_image_are_a_part_of_scienceqa(as_run, mini, tmp_path):
    rows = sqa_rows(mini)
    pd.DataFrame(rows).to_excel(tmp_path / "m_ScienceQA_TEST.xlsx", index=False)
    done, run = as_run("mini_sqa", tmp_path / "m_ScienceQA_TEST.xlsx")
    assert done.code == 0, done.err
    records = records_of(run)
    assert len(records) == len(rows)
    right = sum(row["answer"] == "B" for row in rows)
    assert sum(record["score"] for record in records.values()) == right
    assert f"{len(rows)} of 300 samples" in done.out


def test_samples_of_lmms_eval_are_matched_by_their_prompts(as_run, mini, tmp_path):
    path = tmp_path / "20260101_000000_samples_mme.jsonl"
    asked = "{}\nAnswer the question using a single word or phrase."
    lines = []
    for number, row in enumerate(reversed(mme_rows(mini))):
        score = {"question_id": row["image_path"], "category": row["category"], "score": 1.0}
        question = row["question"].removesuffix(" Please answer yes or no.")
        lines.append(
            {
                "doc_id": number, "target": row["answer"], "filtered_resps": [row["prediction"]],
                "input": asked.format(question), "mme_perception_score": score,
            }
        )  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done, run = as_run("mini_mme", path)
    assert done.code == 0, done.err
    records = records_of(run)
    samples = list(build_task("mini_mme", mini).samples())
    assert list(records) == [sample.id for sample in samples]
    assert records[samples[0].id]["response"] == "Yes, there is."
    lines[3]["filtered_resps"] = ["yes", "no"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    refused, _ = as_run("mini_mme", path, "--fresh")
    assert (refused.code, "line 4: document 3 has 2 responses" in refused.err) == (2, True)


def test_lmms_evals_prompt_of_scienceqa_has_the_options_below_the_question(as_run, mini, tmp_path):
    rows, lines = sqa_rows(mini), []
    for number, row in enumerate(rows):
        options = [f"{letter}. {row[letter]}" for letter in LETTERS if letter in row]
        parts = ["Context: a hint", row["question"], *options, "Answer with the letter."]
        prompt = "\n".join(parts)
        lines.append(
            {"doc_id": number, "target": row["answer"], "filtered_resps": "B", "input": prompt}
        )
    path = tmp_path / "x_samples_scienceqa_img.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done, run = as_run("mini_sqa", path)
    assert done.code == 0, done.err
    assert len(records_of(run)) == len(rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": "What is this?"}, "1 of 320 answers are to no question of split test of"),
        ({"answer": "Maybe"}, "1 of 320 rows have another right answer than split test of"),
        ({"index": 501}, "index 501 stands twice, first in row 2"),
    ],
)
def test_rows_of_other_data_are_refused(as_run, mini, tmp_path, change, message):
    rows = mme_rows(mini)
    rows[5] |= change
    pd.DataFrame(rows).to_csv(tmp_path / "m_MME.tsv", sep="\t", index=False)
    done, run = as_run("mini_mme", tmp_path / "m_MME.tsv")
    assert (done.code, run) == (2, None)
    assert message in done.err


def test_an_answer_that_was_not_got_is_a_failed_sample(as_run, mini, tmp_path):
    rows = mme_rows(mini)
    rows[0]["prediction"] = "Failed to obtain answer via API. "
    pd.DataFrame(rows).to_csv(tmp_path / "m_MME.tsv", sep="\t", index=False)
    done, _ = as_run("mini_mme", tmp_path / "m_MME.tsv")
    assert "failed: 1 sample has no answer" in done.out


def test_the_example_of_the_document_runs(adem_bench, mini):
    page = Path(__file__).resolve().parents[2] / "docs" / "published-records.md"
    (block,) = re.findall(r"```sh\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL)
    rows = mme_rows(mini)
    pd.DataFrame(rows).to_excel("Their-7B_MME.xlsx", index=False)
    lines = [
        {"doc_id": n, "target": row["answer"], "filtered_resps": "Yes", "input": row["question"]}
        | {"mme_perception_score": {"question_id": row["image_path"], "category": row["category"]}}
        for n, row in enumerate(rows)
    ]
    kept = "".join(json.dumps(line) + "\n" for line in lines)
    Path("20260101_000000_samples_mme.jsonl").write_text(kept)
    # The small world stands for MME, and a baseline for the model.
    block = re.sub(r"\bmme\n", "mini_mme\n", block.replace("--task mme", "--task mini_mme"))
    block = block.replace("adem-tiny", "constant:No")
    for line in block.splitlines():
        program, *arguments = line.split()
        assert program == "adem-bench"
        where = ("--data-root", mini) if arguments[0] in ("score", "run") else ()
        done = adem_bench(*arguments, *where)
        assert done.code == 0, done.err
        if arguments[0] == "compare":
            assert "no difference shown" in done.out or "is better" in done.out
    assert all(name in done.out for name in ("Their-7B", "Other-7B", "constant:No"))
