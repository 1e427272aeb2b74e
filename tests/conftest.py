"""What many tests share: the tiny published model as a card, mini data, and a few images."""

from __future__ import annotations

import gc
import os
import resource
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, settings
from PIL import Image

from adem_bench.data.paths import made_once
from adem_bench.mini import write_mini
from adem_bench.mini.source import generated_root

# How long an example takes says more of the machine than of the code.
# A busy machine is slow to draw, too.
settings.register_profile(
    "no deadline", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("no deadline")

PARITY = Path(__file__).parent / "fixtures" / "parity"
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGPROF", "SIGALRM")]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow tests: the last to end are then short ones."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep the garbage collector off what imports make: millions of objects that stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(7000, 10, 10)
        gc.enable()


@pytest.fixture(autouse=True)
def _left_as_found() -> Iterator[None]:
    """Put back what a test leaves changed in its process, and say so: others run there, too."""
    folder, limit = Path.cwd(), resource.getrlimit(resource.RLIMIT_AS)
    handlers = {one: signal.getsignal(one) for one in SIGNALS}
    yield
    left = []
    for one, handler in handlers.items():
        if signal.getsignal(one) != handler:
            signal.signal(one, handler)
            left.append(one.name)
    if resource.getrlimit(resource.RLIMIT_AS) != limit:
        resource.setrlimit(resource.RLIMIT_AS, limit)
        left.append("RLIMIT_AS")
    if Path.cwd() != folder:
        os.chdir(folder)
        left.append("the current folder")
    if left:
        warnings.warn(f"a test left changed: {', '.join(left)}", stacklevel=1)


@pytest.fixture(scope="session")
def common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of these tests share, if several run them side by side."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def once(common: Path) -> Callable[[str, Callable[[Path], None]], Path]:
    """Makes a folder to be read, the first time that any of those processes asks for it."""

    def make(name: str, fill: Callable[[Path], None]) -> Path:
        return made_once(common / "made" / name, fill)

    return make


@pytest.fixture(scope="session", autouse=True)
def _cache(common: Path) -> Iterator[None]:
    """Keeps what the package makes itself apart from the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADEM_BENCH_CACHE", str(common / "cache"))
        # Also where a test has a cache of its own: these take seconds to make.
        patch.setattr("adem_bench.tasks.coco_caption.cache.cache_root", lambda: common / "captions")
        yield


@pytest.fixture(scope="session")
def mini(_cache: None) -> Path:
    """A data root with the mini world's test splits, to be read."""
    return generated_root("test")


@pytest.fixture(scope="session")
def small_mini(once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """A data root with those and 16 items of each train split, to be read."""
    return once(
        "small-mini", lambda folder: write_mini(folder, splits=("train", "test"), train_size=16)
    )


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
def pool_card(
    once: Callable[[str, Callable[[Path], None]], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, str], Path]:
    """Makes a model card of a tiny language model and a tiny tower, by name; it has no adapter."""
    from support.bases import BASE_NAMES, write_base
    from support.towers import write_tower

    folder = tmp_path_factory.mktemp("pool")

    def make(base: str, tower: str) -> Path:
        path = folder / f"{base}-{tower}.yaml"
        if not path.is_file():
            place = PARITY / "weights" / "tiny"
            if base != BASE_NAMES[0]:
                place = once(f"base-{base}", lambda folder: write_base(folder, base))
            card = {"language_model": {"path": str(place)}, "vision": write_tower(tower, folder)}
            path.write_text(yaml.safe_dump(card))
        return path

    return make


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
