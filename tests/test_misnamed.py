"""What is said of a path that is given where a card is expected."""

from __future__ import annotations

import json

import pytest

from adem_bench.cards import load_model_card, load_recipe_card, load_task_card
from adem_bench.errors import CardError


@pytest.mark.parametrize(
    ("load", "name", "content", "message"),
    [
        (load_model_card, "README.md", "# Hi", "is not a card: a model's card is a YAML file"),
        (load_task_card, "questions.jsonl", "{}", "a task's card is a YAML file"),
        (load_recipe_card, "train.sh", "", "`adem-bench recipes` lists"),
        (load_model_card, "run1.pth", "x", "weights; name the model.*--adapter .*run1.pth"),
        (load_model_card, "model.SAFETENSORS", "x", "it looks like weights"),
        (load_task_card, "weights.pth", "x", "a task's card is a YAML file"),
        (
            load_model_card,
            "t.yaml",
            "kind: mme\nsplit: test",
            "a task's card; expected a model's",
        ),
        (load_model_card, "r.yaml", "epochs: 3", "is a recipe's card; expected a model's"),
        (load_task_card, "m.yaml", "kind: echo", "is a model's card; expected a task's"),
        (load_recipe_card, "m.yaml", "kind: echo", "is a model's card; expected a recipe's"),
    ],
)
def test_a_file_that_is_no_such_card_is_named_as_what_it_is(tmp_path, load, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(CardError, match=message) as caught:
        load(str(path))
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("load", "holds", "message"),
    [
        (load_model_card, "notes.txt", "a folder and not a model's card; a card is a YAML file"),
        (
            load_model_card,
            "adapter.json",
            "adapter; name its base model, with --adapter '.*a b'",
        ),
        (load_model_card, "samples.jsonl", "it is a run; `adem-bench rerun '.*a b'` repeats it"),
        (load_model_card, "config.json", "if transformers saved it, it is written hf:'.*a b'"),
        (
            load_model_card,
            "own.yaml",
            r"one of its files \(.*own\.yaml\), or all by --include",
        ),
        (load_task_card, "own.yml", "a folder and not a task's card; name one of its files"),
        (load_task_card, "config.json", "a folder and not a task's card; a card is a YAML file"),
        (load_recipe_card, "notes.txt", "`adem-bench recipes` lists"),
    ],
)
def test_a_folder_is_named_as_what_it_is(tmp_path, load, holds, message):
    folder = tmp_path / "a b"
    folder.mkdir()
    (folder / holds).write_text("{}")
    with pytest.raises(CardError, match=message):
        load(str(folder))


def test_a_path_to_nothing_is_said_to_lead_nowhere(tmp_path):
    with pytest.raises(CardError, match="there is no such file or folder either; "):
        load_model_card(str(tmp_path / "out" / "lr3"))
    with pytest.raises(CardError, match=r"none\.yml does not exist; `adem-bench tasks` lists"):
        load_task_card(str(tmp_path / "none.yml"))


@pytest.mark.parametrize("content", ["{", "[]", '{"model": 3}'])
def test_an_unfinished_training_is_told_how_to_go_on(tmp_path, content):
    out = tmp_path / "out"
    out.mkdir()
    (out / "training.json").write_text(content)
    with pytest.raises(CardError, match="without a checkpoint yet; the `adem-bench train` command"):
        load_model_card(str(out))
    (out / "checkpoints" / "step-00000040").mkdir(parents=True)
    with pytest.raises(CardError, match="goes on after step 40, and --model its base model"):
        load_model_card(str(out))
    known = {"model": {"name": "adem-7b"}, "command": "adem-bench train --recipe sqa"}
    (out / "training.json").write_text(json.dumps(known))
    message = (
        "`adem-bench train --recipe sqa` goes on after step 40, and --model adem-7b "
        "--adapter .*step-00000040 takes what there is"
    )
    with pytest.raises(CardError, match=message):
        load_model_card(str(out))
