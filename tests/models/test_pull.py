from __future__ import annotations

import pytest

from adem_bench.errors import CheckpointError
from adem_bench.models.fused.card import FusedCard, downloads


def card(**adapters):
    return FusedCard.model_validate(
        {"name": "m", "language_model": {"path": "x"}, "adapters": adapters}
    )


def test_adapters_with_a_url_are_wanted_each_file_once(tmp_path):
    source = {"path": "a.pth", "url": "https://example.org/a.pth"}
    found = downloads(card(sqa=source, default=source, own={"path": "own.pth"}), tmp_path)
    assert {path: download.target for path, download in found.items()} == {
        "a.pth": tmp_path / "weights" / "a.pth"
    }


PAGE = "https://example.org/a/view"


def test_an_adapter_behind_a_web_page_is_named_with_its_place_and_what_to_check(tmp_path):
    chosen = card(sqa={"path": "a.pth", "page": PAGE}, default={"path": "a.pth", "page": PAGE})
    assert downloads(chosen, tmp_path) == {}
    first, *others = chosen.pull(tmp_path, None)
    assert first.startswith("to be fetched by hand: adapter 'a.pth' of model m is not on disk")
    assert f"get it from {PAGE} and put it at {tmp_path / 'weights' / 'a.pth'}" in first
    assert "`adem-bench models check m`" in first
    assert "(no size and no sha256 is published)" in first
    assert [line.partition(":")[0] for line in others] == ["still needed"]
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "a.pth").touch()
    assert next(chosen.pull(tmp_path, None)).startswith(
        f"{tmp_path / 'weights' / 'a.pth'}: already there; `adem-bench models check m`"
    )


def test_what_a_card_knows_of_a_file_behind_a_page_is_not_called_unknown():
    known = {"path": "a.pth", "page": PAGE, "size": 3, "sha256": "0" * 64}
    assert "is published" not in card(sqa=known).missing("a.pth", None)


@pytest.mark.parametrize("path", ["/etc/a.pth", "../a.pth", "~/a.pth"])
def test_a_card_cannot_write_outside_the_weights_folder(tmp_path, path):
    with pytest.raises(CheckpointError, match="leads out of"):
        downloads(card(sqa={"path": path, "url": "https://example.org/a.pth"}), tmp_path)


@pytest.mark.parametrize(
    ("source", "is_refused"),
    [
        ({"url": "http://example.org/a.pth"}, True),
        ({"url": "HTTP://example.org/a.pth"}, True),
        ({"url": "http://example.org/a.pth", "sha256": "0" * 64}, False),
        ({"url": "https://example.org/a.pth"}, False),
        ({"url": "http://127.0.0.1:8000/a.pth"}, False),
    ],
)
def test_what_anyone_on_the_way_could_replace_is_fetched_only_if_asked_for(source, is_refused):
    assert bool(card(sqa={"path": "a.pth", **source}).unprotected()) == is_refused


@pytest.mark.parametrize("url", ["http://[::1", "https://[x]/", "http://\u2100.com/"])
def test_a_url_that_is_none_is_named(url):
    with pytest.raises(CheckpointError, match=r"model m: '.*' is not a URL: "):
        card(sqa={"path": "a.pth", "url": url}).unprotected()
