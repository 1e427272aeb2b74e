from __future__ import annotations

import base64
import gzip
import json
from dataclasses import replace
from itertools import islice

import pytest

from adem_bench.results.report import samples
from adem_bench.results.report.samples import (
    FAILED,
    MISSING,
    NOT_ASKED,
    RIGHT,
    WRONG,
    sample_table,
)
from adem_bench.results.runs import open_run
from adem_bench.tasks.base import build_task
from support.run_writer import choice, write_run


@pytest.fixture
def opened(tmp_path):
    def write(name, records, **changes):
        return open_run(write_run(tmp_path / name, records, **changes))

    return write


def unpacked(packed):
    return json.loads(gzip.decompress(base64.b64decode(packed.data)))


def test_rows_hold_what_every_run_made_of_a_sample(opened):
    failed = replace(choice(2, 0, error="unreadable image"), request_digest="d" * 16)
    first = opened("a", [choice(0, 0), choice(1, 1), failed])
    second = opened("b", [choice(0, 1, response="\x1b[31m</script>\x00"), choice(1, 1)])
    packed = sample_table([first, second], [None, None], {}, "average", 10)
    data = unpacked(packed)
    assert (packed.count, packed.images, packed.prompt_lengths) == (3, 0, [])
    assert data["groups"] == ["SOC", "IMG", "NAT", "NO"]
    assert data["images"] == {}
    assert data["rows"][0] == [
        "0", [0, 1], -1, None, "0", 1.0,
        [[" A", "0", RIGHT, None], ["\x1b[31m</script>\x00", "1", WRONG, None]],
    ]  # fmt: skip
    assert data["rows"][1][5] == 0.0
    assert [cell[2] for cell in data["rows"][2][6]] == [FAILED, MISSING]
    assert data["rows"][2][6][0][0] == "unreadable image"


def test_prompts_images_and_options_come_from_the_data(opened):
    task = build_task("mini_sqa", None)
    asked = [sample for _, sample in zip(range(6), task.samples(), strict=False)]
    records = [
        choice(int(sample.id), 0, int(str(sample.reference)), groups=sample.groups)
        for sample in asked
    ]
    packed = sample_table([opened("a", records)], [task], {}, "average", 10)
    data = unpacked(packed)
    with_image = [sample for sample in asked if sample.images]
    assert packed.images == packed.thumbnails == len(data["images"]) == len(with_image) > 0
    for row, sample in zip(data["rows"], asked, strict=True):
        assert row[3] == task.request(sample).prompt
        assert (
            row[4]
            == f"{'ABCDE'[int(sample.reference)]}. {sample.fields['choices'][sample.reference]}"
        )
        assert (row[2] >= 0) == bool(sample.images)
    image = base64.b64decode(data["images"]["0"].removeprefix("data:image/jpeg;base64,"))
    assert image.startswith(b"\xff\xd8")


def test_prompts_stand_side_by_side_where_runs_asked_differently(opened):
    plain = build_task("mini_sqa", None)
    hinted = build_task("mini_sqa", None, prompt_format="CQM-A")
    known = list(islice(plain.samples(), 3))
    records = [choice(int(sample.id), 0) for sample in known]
    first, other = (opened(name, records) for name in "ab")
    packed = sample_table([first, other], [plain, hinted], {}, "average", 10)
    for row, sample in zip(unpacked(packed)["rows"], known, strict=True):
        assert row[3] == [plain.request(sample).prompt, hinted.request(sample).prompt]
        assert row[3][0] != row[3][1]
    assert list(map(len, packed.prompt_lengths)) == [len(known)] * 2
    alike = unpacked(sample_table([first, other], [plain, plain], {}, "average", 10))
    assert alike["rows"][0][3] == plain.request(known[0]).prompt
    half = unpacked(sample_table([first, other], [None, plain], {}, "average", 10))
    assert half["rows"][0][3] == [None, plain.request(known[0]).prompt]


def test_images_of_samples_that_went_wrong_come_first(opened):
    task = build_task("mini_sqa", None)
    asked = [sample for sample in islice(task.samples(), 20) if sample.images][:4]
    assert len({sample.images[0] for sample in asked}) == 4
    references = [int(str(sample.reference)) for sample in asked]
    predictions = [reference + number % 2 for number, reference in enumerate(references)]
    records = [
        choice(int(sample.id), *given)
        for sample, *given in zip(asked, predictions, references, strict=True)
    ]
    for most, shown in ((2, {"1", "3"}), (3, {"0", "1", "3"})):
        data = unpacked(sample_table([opened("a", records)], [task], {}, "average", most))
        assert [row[2] for row in data["rows"]] == [0, 1, 2, 3]
        assert set(data["images"]) == shown


def test_an_unreadable_image_is_left_out(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert samples.thumbnails({tmp_path / "broken.png": 0, tmp_path / "absent.png": 1}) == {}


def test_a_row_that_could_not_be_asked_is_not_shown_as_failed(opened):
    unusable = choice(1, 0, error="its answer is no option")
    assert not unusable.request_digest
    data = unpacked(sample_table([opened("a", [choice(0, 0), unusable])], [None], {}, "average", 9))
    (cell,) = data["rows"][1][6]
    assert cell == ["its answer is no option", "", NOT_ASKED, None]
