from __future__ import annotations

import json

import pytest

from adem_bench.cards import load_model_card, load_recipe_card
from adem_bench.errors import ResultsError
from adem_bench.trainers.output import OutputFolder, training_identity


def identity(*overrides: str) -> dict:
    recipe = load_recipe_card("sqa", overrides)
    return training_identity(recipe, {"name": "m", "fingerprint": "f"}, {"sqa": "d"})


def claim(path, *overrides: str, overwrite: bool = False) -> None:
    with OutputFolder(path) as output:
        output.claim(identity(*overrides), overwrite)


def test_the_same_training_may_continue_and_how_it_runs_may_change(tmp_path):
    claim(tmp_path / "out")
    (tmp_path / "out" / "log.jsonl").write_text("kept")
    claim(tmp_path / "out", "workers=3", "batch_size=4", "checkpoint_steps=7")
    assert (tmp_path / "out" / "log.jsonl").read_text() == "kept"


def test_what_a_killed_training_was_writing_is_removed(tmp_path):
    out = tmp_path / "out"
    claim(out)
    (out / "adapter").mkdir()
    written = [".log.jsonl.a1b2c3d4", ".model.yaml.__x1y2z3", "adapter/.adapter.json.aaaabbbb"]
    others = [".notes.markdown", ".netrc", "adapter/adapter.json"]
    for name in (*written, *others):
        (out / name).write_text("x")
    claim(out)
    assert not any((out / name).exists() for name in written)
    assert all((out / name).exists() for name in others)


@pytest.mark.parametrize("text", ["[" * 3000, "null", "{", '{"recipe": 5}', "\0"])
def test_an_edited_note_of_whose_output_it_is_is_another_trainings(tmp_path, text):
    claim(tmp_path / "out")
    (tmp_path / "out" / "training.json").write_text(text)
    with pytest.raises(ResultsError, match=r"cannot be read|was made by another training"):
        claim(tmp_path / "out")


def test_another_training_is_refused_and_told_apart(tmp_path):
    claim(tmp_path / "out")
    (tmp_path / "out" / "log.jsonl").write_text("kept")
    with pytest.raises(ResultsError) as refused:
        claim(tmp_path / "out", "base_learning_rate=0.01", "data.0.prompt_format=QCM-A")
    message = str(refused.value)
    assert "base_learning_rate is 0.009 there, 0.01 here" in message
    assert "CQM-A" in message
    assert "--overwrite" in message
    assert (tmp_path / "out" / "log.jsonl").read_text() == "kept"


def test_a_folder_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ResultsError, match=r"not a training output: it holds thesis\.tex"):
        claim(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_overwriting_is_for_training_outputs_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ResultsError, match="is not a training output"):
        claim(tmp_path, overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_overwriting_removes_nothing_that_training_did_not_write(tmp_path):
    claim(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ResultsError, match=r"also holds notes\.txt, which training did not"):
        claim(tmp_path, overwrite=True)
    assert (tmp_path / "notes.txt").exists()
    assert (tmp_path / "checkpoints").is_dir()


def test_what_a_kill_left_half_written_locks_nobody_out(tmp_path):
    (tmp_path / ".training.json.x1").write_text("{")
    claim(tmp_path)
    assert json.loads((tmp_path / "training.json").read_text())["recipe"]["epochs"] == 20


def test_the_size_of_bucketed_batches_belongs_to_the_training(tmp_path):
    claim(tmp_path, "bucket_by_length=true")
    with pytest.raises(ResultsError, match=r"batch_size is 2 there, 4 here"):
        claim(tmp_path, "bucket_by_length=true", "batch_size=4")


def test_overwriting_empties_the_folder_but_follows_no_link(tmp_path):
    claim(tmp_path / "out")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "out" / "checkpoints").symlink_to(tmp_path / "kept")
    (tmp_path / "out" / "adapter").mkdir()
    claim(tmp_path / "out", "epochs=3", overwrite=True)
    assert (tmp_path / "kept" / "file").exists()
    assert {entry.name for entry in (tmp_path / "out").iterdir()} <= {"training.json", ".lock"}


def test_two_trainings_cannot_share_a_folder(tmp_path):
    with OutputFolder(tmp_path / "out") as first:
        first.claim(identity(), False)
        with pytest.raises(ResultsError, match="another training is writing"):
            claim(tmp_path / "out")


def test_a_broken_identity_is_told(tmp_path):
    claim(tmp_path)
    (tmp_path / "training.json").write_text("{")
    with pytest.raises(ResultsError, match="cannot be read"):
        claim(tmp_path)


def test_the_folder_is_a_model(tmp_path):
    base = load_model_card("adem-tiny")
    with OutputFolder(tmp_path) as output:
        files = {"language_model.path": "/weights/7B", "vision.path": "/weights/clip.pt"}
        output.write_model_card(base, "tiny-mine", files, 123)
    card = load_model_card(str(tmp_path))
    assert (card.name, card.trainable_parameters) == ("tiny-mine", 123)
    assert card.language_model.path == "/weights/7B"
    assert card.vision.path == "/weights/clip.pt"
    assert card.adapters["default"].path == "adapter"
    assert card.language_model_name == base.language_model_name
