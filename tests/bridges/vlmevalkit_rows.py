"""Rows of the mini world in the columns of VLMEvalKit's data sets, a generator for each kind.

Most data sets of a kind have the same columns; those that have more, or fixed values in them, are
in `MORE`, by the class that reads them or by their own name.
"""

from __future__ import annotations

import ast
import base64
import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from adem_bench.tasks.base import build_task
from adem_bench.tasks.harnesses.catalogue import Entry

ROWS = 12
LETTERS = "ABCDE"
Row = dict[str, Any]
Make = Callable[[Row, int], Any]
"""Returns the value of a column, of a row and its number."""


@cache
def _image(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


# Kinds


def choices(count: int) -> Iterator[Row]:
    """Yield multiple choice questions with four options."""
    kept = (sample for sample in build_task("mini_sqa", None).samples() if sample.images)
    for number, sample in enumerate(islice(kept, count)):
        texts = [*sample.fields["choices"], "purple", "orange", "none of these"][:4]
        yield {
            "index": number,
            "image": _image(sample.images[0]),
            "question": sample.fields["question"],
            "hint": sample.fields.get("hint", ""),
            **dict(zip(LETTERS, texts, strict=False)),
            "answer": LETTERS[int(str(sample.reference))],
            **_groups(number),
        }


def yes_no(count: int) -> Iterator[Row]:
    """Yield yes/no questions, two to an image."""
    for number, sample in enumerate(islice(build_task("mini_mme", None).samples(), count)):
        yield {
            "index": number,
            "image": _image(sample.images[0]),
            "image_path": f"{number // 2}.png",
            "question": sample.fields["question"],
            "answer": sample.reference,
            **_groups(number),
            "category": "existence" if number < count // 2 else "count",
        }


def short_answers(count: int) -> Iterator[Row]:
    """Yield questions with several right answers."""
    for row in yes_no(count):
        answer = str(row["answer"])
        yield {**row, "answer": f"['{answer}', '{answer.lower()}']"}


def numbers(count: int) -> Iterator[Row]:
    """Yield questions that a number answers."""
    for row in yes_no(count):
        yield {**row, "answer": 1 if row["answer"] == "Yes" else 0}


def words(count: int) -> Iterator[Row]:
    """Yield questions with one right answer, in words."""
    for row in yes_no(count):
        yield {**row, "answer": str(row["answer"]).lower()}


def captions(count: int) -> Iterator[Row]:
    """Yield images with captions."""
    samples = build_task("mini_caption", None).samples()
    for number, sample in enumerate(islice(samples, count)):
        yield {
            "index": number,
            "image": _image(sample.images[0]),
            "question": "Please describe this image in general.",
            "answer": str(list(sample.reference)),
        }


def boxes(count: int) -> Iterator[Row]:
    """Yield questions for a place in the image, with a box of pixels."""
    for row in yes_no(count):
        number = row["index"]
        yield {
            **row,
            "question": f"the {('red', 'blue', 'green')[number % 3]} thing",
            "answer": "[0.1, 0.1, 0.6, 0.6]",
            "bbox": "[4, 4, 20, 20]",
            "image_path": f"{number}.png",
            "data_type": ("text", "icon")[number % 2],
            "ui_type": ("text", "icon")[number % 2],
            "data_source": "mini",
            "application": "mini",
            "description": "a thing",
        }


def _groups(number: int) -> Row:
    return {
        "category": ("first", "second")[number % 2],
        "l2-category": ("third", "fourth")[number % 3 == 0],
        "split": ("dev", "val")[number % 2],
    }


KINDS: Mapping[str, Callable[[int], Iterator[Row]]] = {
    "mcq": choices,
    "mcq_mmmu_pro": choices,
    "mmerealworld": choices,
    "yes_no": yes_no,
    "caption": captions,
    "gui": boxes,
    "grounding": boxes,
}
"""Generators by what is asked; others get questions with several right answers."""


# Columns


def two_images(row: Row, number: int) -> str:
    """Return the image twice, as a list of base64."""
    return f"['{row['image']}', '{row['image']}']"


def placed(row: Row, number: int) -> str:
    """Return a question that says where the image stands."""
    return f"Look at <image 1>. {row['question']}"


def _options(row: Row, number: int) -> str:
    texts = [f"({letter}) {row[letter]}" for letter in "ABCD"]
    return repr([*texts, "(E) This image doesn't feature the answer."])


MMT = (
    *("visual_recognition", "localization", "ocr", "counting", "hallucination", "image_retrieval"),
    *("threed", "visual_captioning", "visual_grounding", "doc_understanding"),
    *("action_recognition", "pixel_level_perception", "image-to-image_translation"),
    *("relation_reasoning", "intelligence_quotient_test", "emotion", "visual_illusion"),
    *("meme_understanding", "visual_prompt_understanding", "anomaly_detection"),
    *("keypoint_detection", "visual_commonsense_reasoning", "image_evaluation_judgement"),
    *("multiple_image_analysis", "cross_image_matching", "temporal_understanding"),
    *("visual_code", "medical_understanding", "autonomous_driving"),
    *("discipline_knowledge_reasoning", "embodied_ai", "gui_navigation"),
)
VMC = (
    *("SEEDBench", "MMStar", "A-OKVQA", "VizWiz", "MMVet", "VQAv2", "OKVQA", "MMMU", "MathVista"),
    *("ScienceQA", "RealWorldQA", "GQA", "MathVision", "TextVQA", "OCRVQA", "AI2D", "ChartQA"),
    *("DocVQA", "InfoVQA", "TableVQABench"),
)
REASONING = ("Quantitative", "Spatial", "Positional", "Attribute", "Stylistic")
PUZZLES = ("spatial", "algorithmic", "analogical", "inductive", "deductive")
PATTERNS = (
    *("grid_number", "size_grid", "rectangle_height_color", "shape_size_hexagon"),
    *("rectangle_height_number", "shape_reflect", "circle_size_number", "polygon_sides_color"),
    *("color_overlap_squares", "color_size_circle", "venn", "size_cycle", "polygon_sides_number"),
    *("shape_size_grid", "color_hexagon", "grid_number_color", "color_grid", "shape_morph"),
    *("triangle", "color_number_hexagon"),
)
OCR_KINDS = ("Regular Text Recognition", "Doc-oriented VQA", "Scene Text-centric VQA")
CCOCR = {
    "DocParsing_Doc": ("doc_parsing", "doc"),
    "DocParsing_Table": ("doc_parsing", "table"),
    "DocParsing_Molecular": ("doc_parsing", "molecular"),
    "DocParsing_Formula": ("doc_parsing", "formula"),
    "Kie": ("kie", "sroie"),
    "MultiLanOcr": ("multi_lan_ocr", "French"),
    "MultiSceneOcr": ("multi_scene_ocr", "document_text"),
}


def _ccocr(name: str) -> Row:
    part = next((part for part in CCOCR if f"CCOCR_{part}" in name), "MultiSceneOcr")
    group, operation = CCOCR[part]
    answer: Make = lambda row, number: ("yes it is", "no it is not")[number % 2]  # noqa: E731
    if group == "kie":
        answer = lambda row, number: json.dumps({"total": ("yes", "no")[number % 2]})  # noqa: E731
    return {
        "category": group,
        "l2-category": operation,
        "split": name.rpartition("_")[2],
        "image_name": lambda row, number: f"{number}.png",
        "answer": answer,
    }


MORE: Mapping[str, Mapping[str, Any]] = {
    "BLINK": {"image": two_images},
    "MMMUDataset": {"question": placed},
    "HallusionBench": {
        "index": lambda row, number: f"VD_figure_{number}_0_{number // 2}_{number % 2}",
        "l2-category": "figure",
        "set_id": 0,
        "figure_id": lambda row, number: number // 2,
        "question_id": lambda row, number: number % 2,
    },
    **{
        name: {"l2-category": MMT, "category": [f"{one}_task" for one in MMT]}
        for name in ("MMT-Bench_ALL_MI", "MMT-Bench_ALL", "MMT-Bench_VAL_MI", "MMT-Bench_VAL")
    },
    "MMVP": {"question": lambda row, number: f"What is seen in pair {number // 2}?"},
    "MTVQADataset": {"split": "test", "answer": lambda row, number: ("Yes", "No")[number % 2]},
    "TableVQABench": {
        "split": ["fintabnetqa", "vtabfact", "vwtq", "vwtq_syn"],
        "answer": lambda row, number: ("yes", "true")[number % 4 == 1],
    },
    "GMAIMMBenchDataset": {
        name: ["first", "second"]
        for name in ("clinical vqa task", "department", "perceptual granularity")
    },
    "MMERealWorld": {
        "multi-choice options": _options,
        "E": "This image doesn't feature the answer.",
        "category": ["Perception/Monitoring", "Reasoning/Monitoring"],
        "l2-category": ["count", "colour/attribute"],
    },
    "HRBenchDataset": {"cycle_category": [0, 1], "category": ["single", "cross"]},
    "CRPE": {
        "category": lambda row, number: ("exist", "subject", "predicate", "object")[
            number // 4 % 4
        ],
        "answer": lambda row, number: LETTERS[number % 2],
    },
    "MMMath": {
        "difficulty": ["easy", "hard"],
        "year": ["seven", "eight"],
        "knowledge_l1": "shapes",
        "knowledge_l2": "circles",
        "answer": lambda row, number: str(number % 3),
    },
    "GSM8KVDataset": {
        "image_path": None,
        "original_question": "How many are there?",
        "modify_scene_related_question": "How many are there in the scene?",
        "answer": lambda row, number: str(number % 3),
    },
    "VizWiz": {"answers": lambda row, number: str([("yes", "no")[number % 2]] * 10)},
    "ZEROBench": {"answers": lambda row, number: ("yes", "no")[number % 2]},
    "MMNIAH": {
        "question": lambda row, number: repr(["A story. <image> It ends.", row["question"]]),
        "multi-choice options": repr([["yes", "no"], []]),
        "category": "infer-choose",
        "answer": lambda row, number: "AB"[number % 2],
    },
    "CMMMU": {
        "category": ["技术与工程", "科学", "健康与医学", "商业", "艺术与设计", "人文社会科学"],
        "type": "选择",
        **{f"option{place}": f"option {place}" for place in (1, 2, 3, 4)},
        "answer": lambda row, number: "ABCD"[number % 4],
    },
    "VMCBenchDataset": {"category": VMC},
    "LEGO": {"question_type": ["height", "sort"], "question": placed},
    "VisuLogic": {"category": [*(f"{name} Reasoning" for name in REASONING), "Other"]},
    "CVBench": {
        "prompt": lambda row, number: f"{row['question']} Answer with a letter.",
        "source": ["COCO", "ADE20K"],
    },
    "Omni3DBench": {"answer_type": ["str", "int"], "answer": ["yes", 1]},
    "_3DSRBench": {"qid": lambda row, number: f"{number // 4:06d}-{number % 4}"},
    "AffordanceDataset": {"answer": lambda row, number: f"['{row['answer']}']"},
    "VisFactor": {
        "question": lambda row, number: f"<IMAGE_0> {row['question']}",
        "image": lambda row, number: f"['{row['image']}']",
        "image_path": lambda row, number: f"['{number}.png']",
        "additional": "",
        "category_id": ["CF1", "CS1", "MA1"],
        "eval_index": lambda row, number: number // 3,
        "answer": ["T", "yes", "3"],
    },
    "TreeBench": {
        "target_instances": "[[1, 1, 9, 9]]",
        "category": ["Perception/Attributes", "Reasoning/Ordering"],
        "l2-category": ["count", "colour"],
    },
    "OCRBench": {"category": OCR_KINDS},
    "PuzzleVQA": {
        "options": lambda row, number: repr([row[letter] for letter in "ABCD"]),
        "answer": lambda row, number: row[row["answer"]],
        "category": PATTERNS,
    },
    "VisualPuzzles": {
        "options": lambda row, number: repr([row[letter] for letter in "ABCD"]),
        "category": PUZZLES,
        "difficulty": ["easy", "medium", "hard"],
    },
    "EmbSpatialBench": {
        "options": lambda row, number: json.dumps([row[letter] for letter in "ABCD"]),
    },
    "GroundingME": {
        "width": 64,
        "height": 64,
        "subtask_l1": ["Spatial", "Rejection"],
        "subtask_l2": ["Relation", "Object"],
        "answer": "[4, 4, 24, 24]",
    },
    "ChartQAPro": {
        "question": lambda row, number: repr([row["question"]]),
        "question_type": ["Factoid", "Multi Choice"],
        "year": "['NO']",
        "Year": "['NO']",
        "paragraph": "",
    },
    "MMSci_DEV_MCQ": {
        "setting": ["Fig2Cap", "SubFig2Cap", "SubCap2Fig"],
        "subject": ["Physics", "Biology"],
    },
    "MMOral_OPG_CLOSED": {
        **{f"option{place}": f"option {place}" for place in (1, 2, 3, 4)},
        "category": ["Teeth", "Jaw"],
    },
    "SparBench": {
        "task": ["position_matching", "depth_prediction_oc", "obj_spatial_relation_oo"],
        "answer": ["A", "1.5", "B"],
    },
    "RoboSpatialBench": {
        "category": ["compatibility", "configuration", "context"],
        "image_path": None,
    },
    **{
        name: {name_of_options: lambda row, number: repr([row[letter] for letter in "ABCD"])}
        for name, name_of_options in (
            ("SiteBenchImage", "options"),
            ("ViewSpatialBench", "candidates"),
        )
    },
    "EMMADataset": {"context": "", "type": "MCQ"},
    "MMESCIDataset": {"type": "MCQ"},
    "SPBench": {
        "candidates": lambda row, number: repr([f"{one}. {row[one]}" for one in "ABCD"]),
        "question_type": "object_rel_direction",
    },
    "MindCubeBench": {"input_prompt": lambda row, number: f"<image> {row['question']}"},
    "ERIQBench": {"question_raw": lambda row, number: f"<image> {row['question']}"},
    "OmniSpatialBench": {"task_type": ["first", "second"], "sub_task_type": ["third", "fourth"]},
    "MedqbenchMCQDataset": {"modality": ["CT", "MRI"]},
    "MedQDEGBenchDataset": {
        "modality": ["CT", "MRI"],
        "degradation_type": ["blur", "noise"],
        "degradation_severity": ["1", "2"],
        "source": "mini",
    },
    "HiPhODataset": {
        "id": lambda row, number: f"mini_{number}",
        "image_question": lambda row, number: row["image"],
        "context": "",
        "information": "",
        "answer": lambda row, number: "['\\\\boxed{" + str(number % 3) + "}']",
        "answer_type": "['Numerical Value']",
        "unit": "['None']",
        "points": "[1.0]",
        "marking": "[]",
        "solution": "",
        "field": "Mechanics",
    },
    "WildDocBenchmark": {
        "index": lambda row, number: (
            f"{('DocVQA', 'ChartQA', 'TableVQA-vtabfact')[number % 3]}-{number}-0-0"
        ),
    },
    "VLRMBench": {"answer": lambda row, number: f"[{number % 2}]", "task_gt": "True"},
    "SSIBenchDataset": {"image_path": None, "answer": "[1, 2, 3, 4]"},
    "VLM2Bench": {"category": "oc-cnt", "answer": lambda row, number: str(number % 3)},
    "OCRBench_v2": {
        "category": ["text recognition en", "cognition VQA en", "cognition VQA cn"],
        "eval": "without eval",
        "bbox": "without bbox",
        "content": "without content",
    },
    "SFE": {
        **dict.fromkeys("EFGHIJKLMNO", ""),
        "question_type": "mcq",
        "question": lambda row, number: f"<image> {row['question']}",
    },
}
"""Columns, by class or name: values, lists of values to go round, or functions of a row and its
number; None leaves a column out."""

OTHER_KINDS: Mapping[str, Callable[[int], Iterator[Row]]] = {
    **dict.fromkeys(
        (
            "CRPE",
            "MMNIAH",
            "CMMMU",
            "VLM2Bench",
            "SparBench",
            "SSIBenchDataset",
            "ZEROBench",
            "MTVQADataset",
            "RoboSpatialBench",
        ),
        words,
    ),
    **dict.fromkeys(("TallyQA", "CountBenchQA", "ChartQA_TEST", "MMMath"), numbers),
    **dict.fromkeys(
        ("RefSpatialDataset", "TDBenchGrounding", "RefCOCODataset", "GroundingME"), boxes
    ),
    **dict.fromkeys(("SFE", "AffordanceDataset"), choices),
}
"""Generators of classes and names that ask otherwise than their kind says."""


def rows_of(name: str, kind: str, owner: str, count: int = ROWS) -> list[Row]:
    """Return the rows of a data set's miniature.

    Args:
        name: Of the data set.
        kind: What it asks, as the catalogue says.
        owner: The class that reads it.
        count: Number of rows; more where a column has more values.
    """
    more: dict[str, Any] = {**MORE.get(owner, {}), **MORE.get(name, {})}
    if owner == "CCOCRDataset":
        more |= _ccocr(name)
    if name in IN_PARTS:
        count = max(count, IN_PARTS[name][1])
    lengths = [len(made) for made in more.values() if isinstance(made, list | tuple)]
    generator = OTHER_KINDS.get(name) or OTHER_KINDS.get(owner) or KINDS.get(kind, short_answers)
    found = list(generator(max([count, *lengths])))
    return [_widened(row, number, more) for number, row in enumerate(found)]


def _widened(row: Row, number: int, more: Mapping[str, Any]) -> Row:
    made = dict(row)
    for column, value in more.items():
        if value is None:
            made.pop(column, None)
        elif callable(value):
            made[column] = value(row, number)
        elif isinstance(value, list | tuple):
            made[column] = value[number % len(value)]
        else:
            made[column] = value
    return made


ANSWERS: Mapping[str, str] = {
    "VisFactor": '{"answer": "T"}',
    "AffordanceDataset": "['A']",
    "SSIBenchDataset": "[1, 2, 3, 4]",
    "ZEROBench": "{yes}",
}
"""What a model answers, where that is not the first row's answer."""


@dataclass(frozen=True, slots=True)
class Miniature:
    """A data set's rows, and an answer to some of them."""

    rows: Mapping[str, Sequence[Row]]
    """By the name of the TSV."""
    answer: str

    owner: str = ""

    def write(self, folder: Path, hub: Path | None = None) -> None:
        """Write what is not there yet.

        Args:
            folder: VLMEvalKit's.
            hub: That mirrors what is on hubs; without it, what belongs there is not written.
        """
        for name, rows in self.rows.items():
            if name in IN_PARTS:
                pattern, count = IN_PARTS[name]
                for number in range(count):
                    write_tsv(folder / f"{pattern.format(number + 1)}.tsv", rows[number::count])
            elif hub is not None and name in SNAPSHOTS:
                write_tsv(hub / SNAPSHOTS[name], rows)
            elif hub is not None and self.owner in SPLITS:
                file = hub / SPLITS[self.owner] / f"{name}.json"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(rows))
            else:
                write_tsv(folder / f"{name}.tsv", rows)


SNAPSHOTS: Mapping[str, str] = {
    "MedqbenchMCQ": "jiyaoliufd/MedQ-Bench/medqbench_QA_dev.tsv",
    "MedqbenchMCQ_dev": "jiyaoliufd/MedQ-Bench/medqbench_QA_dev.tsv",
    "MedqbenchMCQ_test": "jiyaoliufd/MedQ-Bench/medqbench_QA_test.tsv",
    **{
        f"MedQDEGBench_{kind}_{part}": f"jiyaoliufd/MedQ-DEG-Bench/MedQ-Robust-{kind}-{part}.tsv"
        for kind in ("simulate", "good")
        for part in ("dev", "test")
    },
    **{
        name: f"yifanzhang114/MME-RealWorld-Base64/{name}.tsv"
        for name in ("MME-RealWorld", "MME-RealWorld-CN")
    },
}
"""Where data sets are that are read from a snapshot of the hub, in the folder that mirrors it."""
SPLITS: Mapping[str, str] = {"HiPhODataset": "HY-Wan/HiPhO"}
"""Places of the hub of which classes read a split of the data set's name."""
IN_PARTS: Mapping[str, tuple[str, int]] = {
    "MicroBench": ("microbench_part_{}", 14),
    "OmniMedVQA": ("omnimedbench_part_{}", 14),
    "GMAI-MMBench_TEST": ("GMAI_mm_bench_TEST_part_{}", 11),
}
"""Names of the TSVs of data sets that are read from several, and how many there are."""


@cache
def _rows_of(name: str, kind: str, owner: str) -> list[Row]:
    return rows_of(name, kind, owner)


def miniature(entry: Entry, known: Mapping[str, Entry]) -> Miniature:
    """Return the miniature of a benchmark.

    Args:
        entry: Which.
        known: All, by name.
    """
    parts = [known[name] for name in entry.parts.split()] or [entry]
    rows = {one.name: _rows_of(one.name, one.kind, one.owner) for one in parts}
    first = str(next(iter(rows.values()))[0].get("answer", "yes"))
    try:
        read = ast.literal_eval(first)
    except (SyntaxError, ValueError):
        read = first
    plain = str(read[0]) if isinstance(read, list) and isinstance(read[0], str) else first
    return Miniature(rows, ANSWERS.get(entry.owner, plain), entry.owner)


def write_tsv(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as VLMEvalKit's NAME.tsv, unless it is there."""
    if path.exists():
        return
    found = list(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(found)
