"""Make tests/fixtures/vlmevalkit: answers made up here, and what VLMEvalKit's code makes of them.

Run where VLMEvalKit (commit e8e78f05) can be imported next to this package:

    LMUData=EMPTY_FOLDER python tools/vlmevalkit_goldens.py tests/fixtures/vlmevalkit
"""

from __future__ import annotations

import ast
import csv
import gzip
import io
import json
import math
import os
import random
import sys
from pathlib import Path
from string import ascii_uppercase

SEED, COMMIT = 7, "e8e78f05f3080fe28154f2130321f17951c3be94"
NOUNS = (
    *("cat", "dog", "red", "car", "the cat", "blue", "bicycle", "24", "3.5", "None", "N/A"),
    *("tree", "A", "Is it", "10%", "yes", "nan"),
)
WRAPPED = (
    *("{}", "{}.", "({})", "{})", "**{}**", "[{}]", "{}: {t}", "Answer: {}", "The answer is {}."),
    *("the answer is {}", "The correct answer is **{}**. Here is why: A B C D and much more text"),
    *(
        "{} because it is seen on the left side of the picture I think",
        "I believe {t}",
        "{t}",
        "{T}",
    ),
    *("Option {}", "{}\n", "\t{}", "{},", "{};{}", "{}/{}", "It's {}!", "A {} B", "{}-{}", "`{}`"),
    *(
        "A dog is in {}",
        "{} or not {}",
        "Z",
        "Z.",
        "answer is a lamp",
        "Cannot determine the answer",
    ),
)
ODD = (
    *(
        "",
        " ",
        "nan",
        "None",
        "N/A",
        "7",
        "7.0",
        "0",
        "-1",
        "é ü 中文",
        "I can't process this file.",
    ),
    *("Failed to obtain answer via API.", "a b c d e f g h A i j k l", "=1+1", "\u2028", "'; --"),
    *("ABCD", "A, B", "B A", "abcd", "I'm sorry, but without the image provided I cannot"),
)
YES_NO = (
    *(
        "Yes",
        "No",
        "yes",
        "no.",
        "Yes, it is.",
        "No, it isn't",
        "yes no",
        "not",
        "Not really",
        "YES!",
    ),
    *(
        "there is no dog.yes",
        "yes,no",
        "y",
        "n",
        "nope",
        "yes-man",
        "I see 3,000 dogs, yes",
        "no/yes",
    ),
    *(
        "maybe",
        "Yes." * 40,
        "1. yes",
        "no3.",
        "1." * 40 + " no.",
        "It is (yes)",
        "nO",
        "ye s",
        "[no]",
    ),
)
PARTS = (
    *("Regular Text Recognition", "Irregular Text Recognition", "Artistic Text Recognition"),
    *("Handwriting Recognition", "Digit String Recognition", "Non-Semantic Text Recognition"),
    *("Scene Text-centric VQA", "Doc-oriented VQA", "Key Information Extraction"),
    "Handwritten Mathematical Expression Recognition",
)
MME = {
    "perception": "existence count position color posters celebrity scene landmark artwork OCR",
    "cognition": "commonsense_reasoning numerical_calculation text_translation code_reasoning",
}
Row = dict[str, object]


def words(draw: random.Random, most: int = 3) -> str:
    """Return a short text."""
    return " ".join(draw.choice(NOUNS) for _ in range(draw.randint(1, most)))


def choice_answer(draw: random.Random, row: Row) -> str:
    """Return an answer to a multiple-choice question, plain or odd."""
    if draw.random() < 0.12:
        return draw.choice(ODD)
    letters = [letter for letter in ascii_uppercase if row.get(letter)] or ["A"]
    right = str(row["answer"])
    letter = right if draw.random() < 0.5 and right in letters else draw.choice(letters)
    text = str(row.get(letter, ""))
    wrap = draw.choice(WRAPPED) if draw.random() < 0.8 else "{}"
    return wrap.replace("{t}", text).replace("{T}", text.upper()).replace("{}", letter)


def choices(draw: random.Random, count: int, options: int | None = None) -> list[Row]:
    """Return questions with two to six options.

    Args:
        draw: Source of randomness.
        count: Number of questions.
        options: Number of options of each; None draws it.
    """
    rows: list[Row] = []
    for index in range(count):
        letters = ascii_uppercase[: options or draw.randint(2, 6)]
        row: Row = {
            "index": index,
            "question": f"What is {words(draw)}?",
            "answer": draw.choice(letters),
        }
        row |= {letter: words(draw, 2) for letter in letters}
        row |= {"category": draw.choice(["x", "y"]), "l2-category": draw.choice(["attribute", "z"])}
        rows.append(row | {"image_path": f"{index // 2}.png", "split": "dev"})
    return rows


def circular(draw: random.Random) -> list[Row]:
    """Return questions with their rotations, indices a million apart."""
    rows = choices(draw, 80, 4)
    for turn in (1, 2, 3):
        for row in rows[:80]:
            turned = dict(row, index=int(str(row["index"])) + turn * 1_000_000)
            for place, letter in enumerate("ABCD"):
                turned["ABCD"[(place + turn) % 4]] = row[letter]
            turned["answer"] = "ABCD"[("ABCD".index(str(row["answer"])) + turn) % 4]
            rows.append(turned)
    return rows


def open_choices(draw: random.Random) -> list[Row]:
    """Return questions some of which have no options, as MMMU's."""
    rows = choices(draw, 150)
    for row in rows:
        row["split"] = draw.choice(["dev", "validation"])
        if draw.random() < 0.3:
            for letter in ascii_uppercase:
                row.pop(letter, None)
            row["answer"] = draw.choice(["24/7", "['a', 'b']", "cat", "3.5"])
    return rows


def yes_no(draw: random.Random, name: str) -> list[Row]:
    """Return yes-or-no questions in the columns of a benchmark."""
    rows: list[Row] = []
    for index in range(280):
        row: Row = {
            "index": index,
            "question": f"What is {words(draw)}?",
            "answer": draw.choice(["Yes", "No"]),
        }
        row |= {"category": draw.choice(["x", "y"]), "image_path": f"{index // 2}.png"}
        if name == "MME":
            subtasks = " ".join(MME.values()).split()
            row["category"] = subtasks[index // 2 % len(subtasks)]
        if name == "POPE":
            row["category"] = draw.choice(
                ["random", "popular,random", "adversarial", "random,popular"]
            )
        if name == "HallusionBench":
            kind, l2 = draw.choice([("VD", "figure"), ("VS", "chart"), ("VS", "table")])
            numbers = [draw.randint(0, 4), draw.randint(0, 2), draw.randint(0, 3)]
            row["index"] = "_".join([kind, l2, str(index), *map(str, numbers)])
            row |= {"category": kind, "l2-category": l2}
        rows.append(row)
    return rows


def answered_texts(draw: random.Random, name: str) -> list[Row]:
    """Return questions with a list of right answers, or one."""
    rows: list[Row] = []
    for index in range(250):
        pool = [words(draw), words(draw)] * 4 + [
            "Don't",
            "two",
            "3,000",
            "it's 5.",
            "a house",
            "50%",
            "0",
        ]
        answers = [draw.choice(pool) for _ in range(10 if name == "TextVQA_VAL" else 2)]
        row: Row = {"index": index, "question": f"What is {words(draw)}?", "answer": repr(answers)}
        if name == "ChartQA_TEST" and draw.random() < 0.7:
            row["answer"] = draw.choice(
                ["14", "0.57", "23%", "1,234", "Yes", "-3", "0", "1e3", "x"]
            )
        if name == "ChartQA_TEST":
            row["split"] = draw.choice(["human", "augmented"])
        if name == "OCRBench":
            row["category"] = draw.choice(PARTS)
        rows.append(row | {"image_path": f"{index // 2}.png"})
    return rows


def text_answer(draw: random.Random, row: Row) -> str:
    """Return an answer near one of the right ones."""
    text = str(row["answer"])
    right = draw.choice(ast.literal_eval(text)) if text.startswith("[") else text
    if draw.random() < 0.4:
        return right
    near = (
        *(
            right,
            right.upper(),
            f" {right}",
            f"{right}.",
            f"{right}s",
            f"the {right}",
            f"{right}\n",
        ),
        *(
            right[:-1],
            f"It is {right}",
            right.replace(" ", ""),
            "14.6",
            "15",
            "0.22",
            "22%",
            "dont",
        ),
        *(
            "2",
            "3000",
            "5",
            "house",
            words(draw),
            "inf",
            "1e3",
            "None",
            "x" * 60,
            "",
            "1_234",
            "0.0",
        ),
    )
    return draw.choice(near)


def maths(draw: random.Random) -> list[Row]:
    """Return questions in MathVista's columns."""
    rows: list[Row] = []
    for index in range(200):
        row: Row = {
            "index": index,
            "question": f"What is {words(draw)}?",
            "image_path": f"{index}.png",
        }
        row |= {
            "task": draw.choice(["geometry", "figure"]),
            "skills": repr(["arithmetic", "logic"]),
        }
        kind = draw.choice(["integer", "float", "list", "text", "choice"])
        row |= {"question_type": "free_form", "answer_type": kind, "precision": 1.0}
        if kind == "choice":
            texts = [words(draw, 2) for _ in range(4)]
            place = draw.randrange(4)
            row |= {"question_type": "multi_choice", "answer_type": "text", "choices": repr(texts)}
            row |= {"answer": texts[place], "answer_option": "ABCD"[place]}
        else:
            made = {
                "integer": draw.randint(0, 9),
                "float": draw.randint(0, 90) / 10,
                "list": [1, 2],
            }
            row["answer"] = made.get(kind, "cat")
        rows.append(row)
    return rows


def maths_answer(draw: random.Random, row: Row) -> str:
    """Return a response to one of them."""
    if row["question_type"] == "multi_choice":
        options = json.loads(str(row["choices"]).replace("'", '"'))
        letters = dict(zip("ABCD", options, strict=True))
        return choice_answer(draw, {**letters, "answer": row["answer_option"]})
    answer = row["answer"]
    return draw.choice([f"{answer}", f" {answer}", f"The answer is {answer}.", "7", "7.0", "none"])


def captions(draw: random.Random) -> list[Row]:
    """Return images with five references each."""
    rows: list[Row] = []
    for index in range(60):
        made = [f"a {words(draw)} on the {words(draw)}." for _ in range(5)]
        rows.append({"index": index, "answer": repr(made), "image_path": f"{index}.png"})
    return rows


def table(rows: list[Row]) -> str:
    """Return rows as the text of a TSV."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, delimiter="\t", lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def made(draw: random.Random) -> dict[str, list[Row]]:
    """Return every data set with a prediction in each row."""
    sets = {
        "MMBench_DEV_EN": circular(draw),
        "SEEDBench_IMG": choices(draw, 300),
        "MMMU_DEV_VAL": open_choices(draw),
        **{name: yes_no(draw, name) for name in ("MME", "POPE", "HallusionBench", "Other_YN")},
        **{
            name: answered_texts(draw, name)
            for name in (
                "TextVQA_VAL",
                "DocVQA_VAL",
                "ChartQA_TEST",
                "GQA_TestDev_Balanced",
                "OCRBench",
            )
        },
        "MathVista_MINI": maths(draw),
        "COCO_VAL": captions(draw),
    }
    for name, rows in sets.items():
        for row in rows:
            if name == "MMBench_DEV_EN" and draw.random() < 0.7:
                row["prediction"] = f"{row['answer']}."
            elif "A" in row or name == "MMMU_DEV_VAL":
                row["prediction"] = choice_answer(draw, row)
            elif name in ("MME", "POPE", "HallusionBench", "Other_YN"):
                is_plain = draw.random() < 0.7
                row["prediction"] = f"{row['answer']}, so" if is_plain else draw.choice(YES_NO)
            elif name == "MathVista_MINI":
                row["prediction"] = maths_answer(draw, row)
            elif name == "COCO_VAL":
                row["prediction"] = f"a {words(draw)} on the {words(draw)}"
            else:
                row["prediction"] = text_answer(draw, row)
    return sets


def theirs(name: str, predictions: Path) -> object:
    """Return VLMEvalKit's scores of a predictions file."""
    from vlmeval import dataset as sets
    from vlmeval.dataset.image_vqa import MathVista, OCRBench

    kinds = {
        "MMMU_DEV_VAL": sets.MMMUDataset,
        **dict.fromkeys(("MMBench_DEV_EN", "SEEDBench_IMG"), sets.ImageMCQDataset),
        **dict.fromkeys(("MME", "POPE", "HallusionBench", "Other_YN"), sets.ImageYORNDataset),
        "OCRBench": OCRBench,
        "COCO_VAL": sets.ImageCaptionDataset,
        "MathVista_MINI": MathVista,
    }
    kind = kinds.get(name, sets.ImageVQADataset)
    for holder in kind.__mro__:
        if "DATASET_MD5" in vars(holder):
            holder.DATASET_MD5 = {}
    if name == "MathVista_MINI":
        return maths_scores(predictions)
    found = kind(name).evaluate(str(predictions), model="exact_matching", nproc=1)
    return found.to_dict("list") if hasattr(found, "to_dict") else found


def maths_scores(predictions: Path) -> object:
    """Return MathVista's scores if the judge never answers."""
    import pandas as pd
    from vlmeval.dataset.utils.mathvista import MathVista_acc, post_check

    data = pd.read_csv(predictions, sep="\t")
    found = [post_check(data.iloc[place], prefetch=True) for place in range(len(data))]
    data["res"] = [res or "?" for res in found]  # an empty cell would be read as the text nan
    data["log"] = ["Prefetch succeed" if res else "" for res in found]
    path = predictions.with_name("judged.xlsx")
    data.to_excel(path, index=False)
    return MathVista_acc(str(path)).to_dict("list")


def readings(draw: random.Random) -> dict[str, list[list[object]]]:
    """Return single answers with what VLMEvalKit reads."""
    from vlmeval.dataset.utils import vqa_eval
    from vlmeval.dataset.utils.yorn import YOrN_Extraction
    from vlmeval.utils import can_infer

    options, says, scores = [], [], []
    alphabet = "AB CD.:()*answeris yesno1,3;'%\n-é"
    for row in choices(draw, 500):
        listed = {letter: str(row[letter]) for letter in ascii_uppercase if letter in row}
        noise = "".join(draw.choice(alphabet) for _ in range(draw.randint(0, 30)))
        for answer in (choice_answer(draw, row), noise):
            options.append([answer, listed, can_infer(answer, dict(listed)) or ""])
        says.append([noise, YOrN_Extraction(noise)])
    says += [[answer, YOrN_Extraction(answer)] for answer in YES_NO]
    for row in answered_texts(draw, "TextVQA_VAL") + answered_texts(draw, "DocVQA_VAL"):
        line = {"answer": row["answer"], "prediction": text_answer(draw, row)}
        found = []
        for method, name in (
            *(("vqa_score", "TextVQA"), ("anls", "DocVQA"), ("relaxed_accuracy", "ChartQA")),
            ("accuracy", "OCRVQA"),
        ):
            (score,) = vqa_eval.hit_calculate([vqa_eval.process_line(line, method=method)], name)
            found.append(float(score))
        scores.append([line["prediction"], line["answer"], *found])
    return {"options": options, "yes_no": says, "scores": scores}


def finite(value: object) -> object:
    """Return JSON data without NumPy's types and without values that are not numbers."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    return value.item() if hasattr(value, "item") else value


def main(folder: Path) -> None:
    """Write the fixtures below a folder."""
    root = Path(os.environ["LMUData"])  # noqa: SIM112
    draw = random.Random(SEED)
    work = root / "work"
    work.mkdir(parents=True, exist_ok=True)
    sets = {}
    for name, rows in made(draw).items():
        data = table([{k: v for k, v in row.items() if k != "prediction"} for row in rows])
        (root / f"{name}.tsv").write_text(data, encoding="utf-8")
        predictions = work / f"model_{name}.tsv"
        predictions.write_text(table(rows), encoding="utf-8")
        text = predictions.read_text(encoding="utf-8")
        sets[name] = {"predictions": text, "scores": finite(theirs(name, predictions))}
        print(name, sets[name]["scores"])
    content = {"vlmevalkit": COMMIT, "sets": sets, "readings": finite(readings(draw))}
    raw = json.dumps(content, ensure_ascii=False).encode("utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "goldens.json.gz").write_bytes(gzip.compress(raw, mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
