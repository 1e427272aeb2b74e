import numpy as np
import pytest

from adem_bench.tasks.coco_caption import cache as caption_parts
from adem_bench.tasks.coco_caption import java
from adem_bench.tasks.coco_caption.cache import CaptionParts
from adem_bench.tasks.coco_caption.scorers import SCORERS, ScorerPart
from adem_bench.tasks.coco_caption.scores import score_captions

CAPTIONS = {"1": "a man rides a wave", "2": "two dogs playing"}
REFERENCES = {"1": ["a man riding a wave"], "2": ["two dogs play", "dogs"]}


@pytest.fixture
def parts(tmp_path, monkeypatch):
    monkeypatch.setattr(caption_parts, "cache_root", lambda: tmp_path)
    return lambda captions=CAPTIONS: CaptionParts(captions, REFERENCES)


def test_what_was_scored_once_is_found_again(parts, monkeypatch):
    made = ScorerPart((0.25,), np.array([[0.5, 1.0], [0.0, 1.0]]))
    parts().put("CIDEr", made)
    found = parts().get("CIDEr")
    assert found.values == made.values
    assert (found.rows == made.rows).all()
    assert parts().get("METEOR") is None
    assert parts({"1": "a man rides a wave", "2": "three dogs"}).get("CIDEr") is None
    # The kept part is the one that counts: nothing is computed for it again.
    monkeypatch.setattr(java.shutil, "which", lambda name: None)
    scores = {m.name: m for m in score_captions(CAPTIONS, REFERENCES, parts()).metrics}
    assert scores["CIDEr"].value == 0.25


def test_a_torn_or_foreign_part_is_made_anew(parts, tmp_path):
    parts().put("CIDEr", ScorerPart((0.25,), np.zeros((2, 2))))
    (file,) = tmp_path.rglob("CIDEr.npz")
    whole = file.read_bytes()
    for broken in (b"", b"no archive", whole[: len(whole) // 2], whole[:-30] + b"x" * 30):
        file.write_bytes(broken)
        assert parts().get("CIDEr") is None
    parts().put("CIDEr", ScorerPart((0.25,), np.zeros((3, 2))))  # of another number of images
    assert parts().get("CIDEr") is None


def test_what_a_substitute_tokenizer_made_is_not_kept(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(java.shutil, "which", lambda name: None)
    score_captions(CAPTIONS, REFERENCES, parts())
    assert list(tmp_path.rglob("*.npz")) == []


def test_a_disk_that_refuses_is_no_reason_to_fail(parts, tmp_path):
    (tmp_path / "captions").write_text("in the way")
    parts().put("CIDEr", ScorerPart((0.25,), np.zeros((2, 2))))
    assert parts().get("CIDEr") is None


def test_names_of_parts_are_names_of_files():
    names = [next(iter(scorer.formulas)) for scorer in SCORERS]
    assert all(name.replace("-", "").isalnum() for name in names)
