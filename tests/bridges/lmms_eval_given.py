"""Columns of lmms-eval's data sets that their code does not tell; by folder of its tasks.

Runs in lmms-eval's environment, with the standard library alone. A value that is `PATH`, or holds
it, stands for the path of a picture; `PICTURE` for a picture.
"""

from __future__ import annotations

PATH, PICTURE = "(path)", "(picture)"
GIVEN = {
    "mathvista": {
        "pid": ("0", "1"),
        "question": ("What is shown?", "Which is it?"),
        "question_type": ("multi_choice",),
        "answer_type": ("text",),
        "choices": (["red", "blue"],),
        "answer": ("red", "blue"),
        "precision": (0.0,),
        "unit": ("",),
        "caption": ("",),
        "ocr": ("",),
        "query": ("What is shown?",),
        "metadata": (
            {
                "split": "testmini",
                "language": "english",
                "source": "IconQA",
                "category": "general-vqa",
                "task": "figure question answering",
                "context": "icon",
                "grade": "elementary school",
                "skills": ["arithmetic reasoning"],
            },
        ),
    },
    "mme": {
        "question_id": ("0.png", "0.png", "1.png", "1.png"),
        "category": ("existence", "existence", "code_reasoning", "code_reasoning"),
        "answer": ("Yes", "No"),
    },
    "mme_realworld": {
        "category": ("Perception/OCR with Complex Context", "Reasoning/Monitoring"),
        "l2-category": ("color", "attribute/x"),
        "multi-choice options": (["(A) red", "(B) blue", "(C) green"],),
        "answer": ("A", "B"),
    },
    "mirb": {
        "subset": ("count", "food"),
        "questions": ("How many?",),
        "answers": ("2", "A"),
        "images": ([PATH],),
    },
    "mmie": {
        "conversations": (
            [
                {"from": "human", "content": [{"text": "What is it?", "image": PATH}]},
                {"from": "gpt", "content": [{"text": "red", "image": ""}]},
            ],
        ),
    },
    "mantis": {
        "question_type": ("multi-choice", "short-answer"),
        "options": ("(A) red (B) blue",),
        "answer": ("A", "red"),
    },
    "mtvqa": {"qa_pairs": ([{"question": "What is it?", "answer": "red"}],), "lang": ("EN",)},
    "mmt": {
        "A": ("red",),
        "B": ("blue",),
        "C": ("green",),
        "D": ("white",),
        "answer": ("A", "B"),
        "l2-category": ("colour",),
    },
    "multi_crit": {
        "split": ("open_ended", "reasoning"),
        "criterion": ("hallucination",),
        "preference": ("a", "b"),
    },
    "llava_interleave_bench": {
        "sub_task": ("nuscenes", "BLINK"),
        "question_type": ("open-ended", "multi-choice"),
        "answer": ("red", "A"),
        "image_0": (PICTURE,),
    },
    "live_bench": {
        "subtask": ("Basic Understanding", "Further Insights"),
        "answer": ("red",),
        "criteria": ("the colour",),
        "images": ([PICTURE],),
        "(judge)": ('{"Rating": 5, "Explanation": "so"}',),
    },
    "refspatial": {"mask": (PICTURE,)},
    "where2place": {"mask": (PICTURE,)},
    "metavqa": {"obs": ([PATH],)},
    "mmlongbench": {"image_list": ([PATH],), "ctxs": ([PATH],)},
    "mmvetv2": {"question": ("What is in <image_1>?",), "image_1": (PICTURE,)},
    "arc_agi_2": {
        "train_input_image_color": ([PICTURE],),
        "train_output_image_color": ([PICTURE],),
        "test_input_image_color": ([PICTURE],),
    },
    "hallusion_bench": {
        "category": ("VD", "VS"),
        "subcategory": ("chart",),
        "set_id": ("0",),
        "figure_id": ("1",),
        "question_id": ("0",),
        "gt_answer": ("1", "0"),
        "visual_input": ("1",),
        "gt_answer_details": ("It is red.",),
        "sample_note": ("colour",),
    },
    "kris_bench": {"ori_images": ([PICTURE],), "gt_image": (PICTURE,)},
    "synthdog": {
        "ground_truth": ('{"gt_parse": {"text_sequence": "red square"}}',),
        "image": (PICTURE,),
    },
    "illusionbench": {
        "image_name": ("animal-1-Village-Easy-1.5-90.png", "cat-2-Forest-Hard-1.5-9.png"),
        "image": (PICTURE,),
    },
    "visualpuzzles": {
        "question": ("What follows?",),
        "options": (["red", "blue", "green", "white"],),
        "answer": ("A", "B"),
        "category": ("Algorithmic", "Analogical", "Deductive", "Inductive", "Spatial"),
        "image": (PICTURE,),
    },
    "VisualPuzzles": {
        "question": ("What follows?",),
        "options": (["red", "blue", "green", "white"],),
        "answer": ("A", "B"),
        "image": (PICTURE,),
    },
    "zerobench": {
        "question_images_decoded": ([PICTURE],),
        "question_text": ("What is it?",),
        "question_answer": ("red",),
    },
    "vmcbench": {
        "A": ("red",),
        "B": ("blue",),
        "C": ("green",),
        "D": ("white",),
        "answer": ("A", "B"),
    },
    "seedbench_2": {
        "question": ("What is it?",),
        "choice_a": ("red",),
        "choice_b": ("blue",),
        "choice_c": ("green",),
        "choice_d": ("white",),
        "answer": ("A", "B"),
        "image": ([PICTURE],),
    },
    "slidevqa": {f"page_{number}": (PICTURE,) for number in range(1, 21)},
    "ai2d": {"options": (["red", "blue", "green", "white"],), "answer": ("0", "1")},
    "charxiv": {
        "descriptive_q": ("What is the title?",),
        "descriptive_a": ("red",),
        "qid": (1, 2),
        "figure_path": (PATH,),
        "image": (PICTURE,),
    },
    "multidocvqa": {
        "answers": ("['red']",),
        "answer_page_idx": ("0",),
        **{f"image_{number}": (PICTURE,) for number in range(1, 21)},
    },
    "gqa": {"image": (PICTURE,), "imageId": ("0",), "id": ("0",), "question": ("What?",)},
    "gqa_ru": {"image": (PICTURE,), "imageId": ("0",), "id": ("0",), "question": ("What?",)},
    "egoplan2": {"keyframes": ([PICTURE],), "formatted_question": ("What?",)},
}
