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


@pytest.mark.parametrize("path", ["/etc/a.pth", "../a.pth", "~/a.pth"])
def test_a_card_cannot_write_outside_the_weights_folder(tmp_path, path):
    with pytest.raises(CheckpointError, match="leads out of"):
        downloads(card(sqa={"path": path, "url": "https://example.org/a.pth"}), tmp_path)
