"""What many tests share: the tiny published model as a card, and a few images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, settings
from PIL import Image

# How long an example takes says more of the machine than of the code.
# A busy machine is slow to draw, too.
settings.register_profile(
    "no deadline", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("no deadline")

PARITY = Path(__file__).parent / "fixtures" / "parity"


@pytest.fixture(scope="session", autouse=True)
def caption_parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keeps caption statistics of this session apart from the user's."""
    folder = tmp_path_factory.mktemp("captions")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adem_bench.tasks.coco_caption.cache.cache_root", lambda: folder)
        yield folder


@pytest.fixture(scope="session")
def parity() -> Path:
    """The folder of the tiny model in the published formats, with its goldens."""
    return PARITY


@pytest.fixture(scope="session")
def parity_card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model card for that tiny model."""
    path = tmp_path_factory.mktemp("cards") / "parity.yaml"
    card = {
        "language_model": {"path": str(PARITY / "weights" / "tiny")},
        "vision": {"path": str(PARITY / "weights" / "clip_tiny.pt"), "pretrained": ""},
        "adapters": {"default": {"path": str(PARITY / "checkpoint-19.pth")}},
    }
    path.write_text(yaml.safe_dump(card))
    return path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three images that differ."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = []
    for index, colour in enumerate(("red", "green", "blue")):
        image = Image.new("RGB", (64, 48), colour)
        image.paste("white", (8 * index, 4, 30 + 8 * index, 30))
        paths.append(folder / f"{colour}.png")
        image.save(paths[-1])
    return paths


@pytest.fixture(scope="session")
def one_thread() -> Iterator[None]:
    """Models this small are faster on one thread, the more so on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
