"""Boxes in the forms in which models write them."""

from __future__ import annotations

import pytest

from adem_bench.metrics.boxes import READERS, overlap

BOX = [0.1, 0.2, 0.3, 0.4]


@pytest.mark.parametrize(
    ("text", "scale"),
    [
        ("[0.1, 0.2, 0.3, 0.4]", 1), ("It is at (0.1 0.2 0.3 0.4).", 1),
        ("[[100,200,300,400]]", 1000),
        # Qwen-VL, Qwen2-VL (whose tags may be special tokens that are not decoded), Qwen2.5-VL
        ("<box>(100,200),(300,400)</box>", 1000), ("<box>(100,200),(300,400)</box>", 1),
        ("<ref>the cat</ref><box>(100,200),(300,400)</box>", 1000), ("(100,200),(300,400)", 1000),
        ("<|object_ref_start|>a<|object_ref_end|><|box_start|>(100,200),(300,400)<|box_end|>", 1),
        ('```json\n[{"bbox_2d": [100, 200, 300, 400], "label": "cat"}]\n```', 1000),
        # InternVL, DeepSeek-VL2, MiniGPT-v2, and tags around bare numbers
        ("<ref>the cat</ref><box>[[100, 200, 300, 400]]</box>", 1000),
        ("<box>[[100, 200, 300, 400]]</box>", 1), ("<box>[[0.1, 0.2, 0.3, 0.4]]</box>", 1),
        ("<|ref|>cat<|/ref|><|det|>[[100, 200, 300, 400]]<|/det|>", 1), ("{<10><20><30><40>}", 100),
        ("<box>100 200 300 400</box>", 1000), ("[(100,200),(300,400)]", 1000),
        ('{"box_2d": [200, 100, 400, 300]}', 1),
    ],
)  # fmt: skip
def test_the_first_box_is_read_in_the_form_of_any_model(text, scale):
    assert READERS["first"](text, scale) == pytest.approx(BOX)
    assert READERS["first"](f"Here it is: {text} and [0, 0, 1, 1]", scale) == pytest.approx(BOX)


@pytest.mark.parametrize(
    ("text", "box"),
    [
        # transformers' patch_index_to_coordinate (Kosmos-2): corner cells, one cell, one row.
        ("<phrase>a cat</phrase><object><patch_index_0044><patch_index_0863></object>",
         [0.390625, 0.046875, 0.984375, 0.828125]),
        ("<patch_index_0044><patch_index_0044>", [0.375, 0.03125, 0.40625, 0.0625]),
        ("<patch_index_0032><patch_index_0063>", [0.0, 0.03125, 1.0, 0.0625]),
        # transformers' dequantize (Florence-2), thousand bins from centre to centre.
        ("cat<loc_52><loc_332><loc_932><loc_774>", [0.0525, 0.3325, 0.9325, 0.7745]),
        # PaliGemma: top, left, bottom, right of 1024.
        ("<loc0256><loc0128><loc0512><loc0768> cat", [0.125, 0.25, 0.75, 0.5]),
    ],
)  # fmt: skip
def test_tokens_of_places_have_a_scale_of_their_own(text, box):
    for scale in (1, 1000):
        assert READERS["first"](text, scale) == pytest.approx(box)


@pytest.mark.parametrize(
    "text",
    ["", "a cat", "[100, 200, 300, 400]", "<box>(300,200),(100,400)</box>", "(0.1, 0.2)",
     "<patch_index_0044><patch_index_9999>", "<loc_1><loc_2><loc_3>", "<box>(1,2),(3,4000)</box>"],
)  # fmt: skip
def test_what_is_no_box_in_the_image_is_none(text):
    assert READERS["first"](text, 1) == []


def test_the_suite_s_rule_wants_a_list_and_nothing_else():
    assert READERS["official"]("[0.1, 0.2, 0.3, 0.4]", 1) == BOX
    assert READERS["official"]("<box>(100,200),(300,400)</box>", 1000) == []


def test_overlap_of_boxes():
    assert overlap(BOX, BOX) == pytest.approx(1)
    assert overlap(BOX, [0.2, 0.2, 0.4, 0.4]) == pytest.approx(1 / 3)
    assert overlap(BOX, [0.5, 0.5, 0.6, 0.6]) == 0
