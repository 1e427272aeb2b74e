from __future__ import annotations

import pytest

from adem_bench.cards import load_model_card
from adem_bench.models.fused.card import FusedCard
from adem_bench.models.places import weights_path
from adem_bench.schemas import CARD_FILE


@pytest.fixture
def card(tmp_path):
    (tmp_path / "cards").mkdir()
    return FusedCard.model_validate(
        {
            "name": "mine",
            CARD_FILE: tmp_path / "cards" / "mine.yaml",
            "language_model": {"path": "7B", "source": "the moon"},
            "vision": {"path": "clip/v.pt"},
            "adapters": {
                "sqa": {"path": "sqa.pth", "url": "https://example.org/sqa.pth"},
                "default": {"path": "own.pth"},
            },
        }
    )


def test_a_path_is_found_next_to_the_card_before_the_weights_folder(card, tmp_path):
    assert weights_path("sqa.pth", card, tmp_path) is None
    below = tmp_path / "weights" / "sqa.pth"
    below.parent.mkdir()
    below.touch()
    assert weights_path("sqa.pth", card, tmp_path) == below
    next_to_card = tmp_path / "cards" / "sqa.pth"
    next_to_card.touch()
    assert weights_path("sqa.pth", card, tmp_path) == next_to_card


def test_absolute_and_home_paths_are_taken_as_they_are(card, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.pth").touch()
    assert weights_path("~/a.pth", card, None) == tmp_path / "a.pth"
    assert weights_path(str(tmp_path / "a.pth"), card, None) == tmp_path / "a.pth"
    assert weights_path("~/b.pth", card, None) is None


def test_an_empty_path_is_nowhere(card, tmp_path):
    (tmp_path / "weights").mkdir()
    assert weights_path("", card, tmp_path) is None


def test_without_a_data_root_the_environment_names_it(card, tmp_path, monkeypatch):
    monkeypatch.setenv("ADEM_BENCH_DATA", str(tmp_path / "d"))
    (tmp_path / "d" / "weights" / "7B").mkdir(parents=True)
    assert weights_path("7B", card, None) == tmp_path / "d" / "weights" / "7B"
    monkeypatch.delenv("ADEM_BENCH_DATA")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "weights" / "clip").mkdir(parents=True)
    found = weights_path("clip", card, None)
    assert found is not None
    assert found.resolve() == tmp_path / "data" / "weights" / "clip"


@pytest.mark.parametrize(
    ("path", "what", "remedy"),
    [
        ("7B", "language model '7B'", "get it from the moon and put it at {root}/weights/7B"),
        ("sqa.pth", "adapter 'sqa.pth'", "`adem-bench models pull mine` fetches it from "),
        ("own.pth", "adapter 'own.pth'", "put it at {root}/weights/own.pth, or change the path"),
        ("clip/v.pt", "CLIP tower 'clip/v.pt'", "leave vision.path empty"),
    ],
)
def test_the_message_names_what_is_missing_where_it_was_sought_and_the_remedy(
    card, tmp_path, path, what, remedy
):
    message = card.missing(path, tmp_path)
    assert message.startswith(f"{what} of model mine is not on disk")
    assert str(tmp_path / "cards" / path) in message
    assert str(tmp_path / "weights" / path) in message
    assert remedy.format(root=tmp_path) in message
    assert "\n" not in message


def test_the_published_card_says_where_llama_and_the_adapters_are_to_be_had(tmp_path):
    card = load_model_card("adem-7b")
    assert "forms.gle" in card.missing(card.language_model.path, tmp_path)
    for source in card.adapters.values():
        assert "releases/download/checkpoint/" in card.missing(source.path, tmp_path)
