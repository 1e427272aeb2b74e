from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from adem_bench.tasks.harnesses import PYTHON_VARIABLE

CONTRACT = Path(__file__).parents[2] / "integrations" / "contract"
COLOURS = ("red", "blue", "green", "white", "black", "brown")


def write_tsv(path: Path) -> None:
    """Write six yes/no questions in VLMEvalKit's columns."""
    lines = ["index\timage\tquestion\tanswer\tcategory"]
    for number, colour in enumerate(COLOURS):
        picture = path.with_name("picture.png")
        Image.new("RGB", (4, 4), colour).save(picture)
        image = base64.b64encode(picture.read_bytes()).decode()
        answer = "Yes" if number % 3 else "No"
        category = "warm" if number in (0, 5) else "cold"
        lines.append(f"{number}\t{image}\tIs it {{{colour}}}?\t{answer}\t{category}")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def harness_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with LMUData, rows and images of the two stand-ins, to be read."""
    folder = tmp_path_factory.mktemp("harnesses")
    data = folder / "LMUData"
    data.mkdir()
    for name in ("MME", "Between", "COCO_VAL", "own"):
        write_tsv(data / f"{name}.tsv")
    rows = []
    for number, colour in enumerate(COLOURS):
        image = folder / f"{colour}.png"
        Image.new("RGB", (4, 4), colour).save(image)
        answer = "Yes" if number % 3 else "No"
        rows.append({"image": str(image), "question": f"Is it {colour}?", "answer": answer})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def stand_ins(harness_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-ins of both harnesses, found by the processes that are started."""
    places = [str(CONTRACT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, places)))
    monkeypatch.setenv(PYTHON_VARIABLE, sys.executable)
    monkeypatch.setenv("LMUData", str(harness_data / "LMUData"))
    monkeypatch.setenv("MINI_ROWS", str(harness_data / "rows.jsonl"))
    monkeypatch.setenv("STAND_IN_WITHOUT_TORCH", "1")
    return harness_data
