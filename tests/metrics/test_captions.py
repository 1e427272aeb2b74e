import shutil
import subprocess

import pytest

from adem_bench.tasks.coco_caption import java
from adem_bench.tasks.coco_caption import scorers as module
from adem_bench.tasks.coco_caption.ptb_tokenizer import official_tokens, one_line, substitute_tokens
from adem_bench.tasks.coco_caption.scores import NAMES, caption_scores, score_captions

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="there is no Java here")

REFERENCES = {
    "1": ["A man riding a wave, on top of a surfboard.", "a surfer (red) rides it's wave"],
    "2": ["Two dogs play in the grass!", "two dogs that don't sleep"],
    "3": ["a plate of food on a table", "food"],
}
CAPTIONS = {"1": "a man rides a wave", "2": "two dogs playing in grass", "3": "a table"}
OFFICIAL = {
    "BLEU-1": 0.6568203679165037,
    "BLEU-2": 0.4573510001171039,
    "BLEU-3": 2.9232170481640002e-06,
    "BLEU-4": 8.178800077260104e-09,
    "METEOR": 0.28531049727870916,
    "ROUGE-L": 0.5408696051443548,
    "CIDEr": 1.3376959334474001,
}
"""What pycocoevalcap 1.2's own classes give, tokenizer and METEOR included."""
HOSTILE = ["", "|||", "a ||| b", "a\nb\tc\r\n", "\u2028\x85", "\ud800", "...", "\x00", "a" * 3000]


def values(captions, references):
    return {metric.name: metric for metric in caption_scores(captions, references)}


@pytest.fixture(scope="module")
def official():
    """Scores of the three captions by everything that is official; starting Java takes seconds."""
    return score_captions(CAPTIONS, REFERENCES)


@needs_java
def test_all_metrics_are_those_of_pycocoevalcap(official):
    found = {metric.name: metric for metric in official.metrics}
    assert list(found) == list(NAMES)
    for name, value in OFFICIAL.items():
        assert found[name].value == pytest.approx(value, abs=1e-12)
        assert (found[name].count, found[name].note) == (3, "")


@needs_java
def test_every_score_is_the_function_of_sums_that_resampling_takes_it_for(official):
    known = {metric.name: metric.value for metric in official.metrics if metric.value is not None}
    assert set(known) == set(official.statistics.formulas) == set(OFFICIAL)
    for name, value in known.items():
        assert official.statistics.value(name) == pytest.approx(value, rel=1e-12)


def test_intervals_are_those_of_scoring_redrawn_captions(monkeypatch):
    monkeypatch.setattr(java.shutil, "which", lambda name: None)
    captions = {str(n): f"a man rides {n} waves and {n % 3} dogs" for n in range(12)}
    references = {n: [f"a man rides {int(n) + int(n) % 2} waves", "two dogs"] for n in captions}
    statistics = score_captions(captions, references).statistics
    drawn = [0, 0, 3, 5, 5, 5, 7, 8, 9, 10, 11, 11]
    again = values(
        {str(place): captions[str(n)] for place, n in enumerate(drawn)},
        {str(place): references[str(n)] for place, n in enumerate(drawn)},
    )
    redrawn = statistics.select(drawn)
    for name in ("BLEU-1", "BLEU-4", "ROUGE-L"):
        assert redrawn.value(name) == pytest.approx(again[name].value, rel=1e-12)
    # Not CIDEr: its document frequencies are held, those of the redrawn references would differ.
    assert redrawn.value("CIDEr") != pytest.approx(again["CIDEr"].value, rel=1e-3)


@needs_java
def test_the_official_tokenizer_gives_a_line_for_every_hostile_caption():
    assert len(official_tokens(HOSTILE)) == len(HOSTILE)


@needs_java
@pytest.mark.slow
def test_hostile_captions_break_no_metric():
    captions = {str(number): text for number, text in enumerate(HOSTILE)}
    references = {number: ["a red ball", "||| a\nb"] for number in captions}
    found = values(captions, references)
    for name in OFFICIAL:
        assert found[name].value is not None


@needs_java
def test_the_substitute_tokenizer_agrees_on_plain_captions():
    texts = [text for several in REFERENCES.values() for text in several]
    texts += ["a man's two-tone hat", "It's 3.5 miles, i think...", '"quoted" U.S. signs; TV\'s']
    assert substitute_tokens(texts) == official_tokens(texts)


def test_without_java_the_others_still_come_and_say_so(monkeypatch):
    monkeypatch.setattr(java.shutil, "which", lambda name: None)
    found = values(CAPTIONS, REFERENCES)
    assert found["METEOR"].value is None
    assert "install a Java runtime" in found["METEOR"].note
    for name in ("BLEU-4", "ROUGE-L", "CIDEr"):
        assert found[name].value == pytest.approx(OFFICIAL[name])
        assert "not the official tokenizer" in found[name].note


def test_spice_without_its_files_says_where_they_are_to_be_had(monkeypatch, tmp_path):
    (tmp_path / "lib").mkdir()
    monkeypatch.setattr(module, "package_file", lambda *parts: tmp_path / parts[-1])
    monkeypatch.setattr(module, "LineServer", no_server)
    found = values(CAPTIONS, REFERENCES)
    assert found["SPICE"].value is None
    assert module.SPICE_URL in found["SPICE"].note
    assert found["METEOR"].note == "no server"


def no_server(*arguments):
    raise java.UnavailableError("no server")


@needs_java
def test_a_meteor_that_hangs_is_ended(monkeypatch):
    started = []
    popen = subprocess.Popen

    def note(*arguments, **settings):
        started.append(popen(*arguments, **settings))
        return started[-1]

    monkeypatch.setattr(module, "METEOR_SECONDS", 0.2)
    monkeypatch.setattr(java.subprocess, "Popen", note)
    with pytest.raises(java.UnavailableError, match="ran out of time"):
        module.meteor({"1": ["a"]}, {"1": ["a"]})
    assert started[0].poll() is not None


def test_a_program_that_is_too_slow_or_fails_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(java, "find_java", lambda: "sleep")
    monkeypatch.setattr(java.subprocess, "run", fail_slowly)
    with pytest.raises(java.UnavailableError, match="took longer than 1 s"):
        java.run_java(["-jar", "x"], "", 1, tmp_path)


def fail_slowly(command, **settings):
    raise subprocess.TimeoutExpired(command, settings["timeout"])


def test_nothing_to_score_gives_no_figures():
    assert {metric.value for metric in caption_scores({}, {})} == {None}


def test_one_image_has_no_cider(monkeypatch):
    monkeypatch.setattr(java.shutil, "which", lambda name: None)
    found = values({"1": "a"}, {"1": ["a"]})
    assert found["CIDEr"].value is None
    assert found["CIDEr"].note == "needs more than one image"


def test_an_image_without_references_is_refused():
    with pytest.raises(ValueError, match="no reference for image 2"):
        caption_scores({"1": "a", "2": "b"}, {"1": ["a"], "2": []})


def test_separators_never_reach_a_line_protocol():
    for text in HOSTILE:
        line = one_line(text)
        assert "|||" not in line
        assert len(line.splitlines()) < 2
