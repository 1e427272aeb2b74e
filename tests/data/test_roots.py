from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adem_bench.cards import load_task_card
from adem_bench.data.paths import cache_root, default_data_root, holds_mini
from adem_bench.errors import CardError, DataError, MissingDataError, ResultsError
from adem_bench.mini import source, writer
from adem_bench.mini.source import generated_root
from adem_bench.tasks.data_status import data_status


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ADEM_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def written(monkeypatch):
    """The splits of every call of the generator, which writes a token file."""
    calls = []

    def write(root: Path, splits: tuple[str, ...], train_size: int) -> None:
        calls.append(splits)
        (root / "file").write_text("whole")

    monkeypatch.setattr(writer, "write_mini", write)
    return calls


def test_the_data_root_is_the_variable_or_the_folder_data(monkeypatch, tmp_path):
    monkeypatch.delenv("ADEM_BENCH_DATA", raising=False)
    assert default_data_root() == Path("data")
    monkeypatch.setenv("ADEM_BENCH_DATA", str(tmp_path))
    assert default_data_root() == tmp_path


def test_the_cache_is_the_users_own_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv("ADEM_BENCH_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "adem-bench"


def test_data_is_generated_once(cache, written):
    first = generated_root("test")
    assert generated_root("minitest") == first
    assert written == [("test",)]
    assert source.MINI_VERSION in first.name
    assert generated_root("trainval") != first
    assert written[1:] == [("train", "val")]
    train = generated_root("train")
    assert generated_root("all") == train
    # A train split of another size is another folder.
    assert train.name.endswith(str(source.TRAIN_SIZE))


def test_two_at_a_time_make_it_once(cache, written):
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: generated_root("test"), range(4)))
    assert len(folders) == len(written) == 1
    assert [path.name for path in cache.iterdir() if path.is_dir()] == [folders.pop().name]


def test_a_generator_that_fails_leaves_nothing(cache, written, monkeypatch):
    def fail(root: Path, splits: tuple[str, ...], train_size: int) -> None:
        (root / "half").write_text("")
        raise ResultsError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(writer, "write_mini", fail)
        with pytest.raises(DataError, match=r"no space left.*set ADEM_BENCH_CACHE"):
            generated_root("test")
    assert [path for path in cache.iterdir() if path.is_dir()] == []
    assert (generated_root("test") / "file").read_text() == "whole"


def test_a_cache_that_cannot_be_written_says_what_to_set(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("ADEM_BENCH_CACHE", str(blocked))
    with pytest.raises(DataError, match="set ADEM_BENCH_CACHE to a folder"):
        generated_root("test")


def test_an_unknown_split_proposes_the_nearest(cache):
    with pytest.raises(CardError, match="did you mean: test"):
        generated_root("tset")


@pytest.mark.parametrize("by", ["option", "variable"])
def test_a_data_root_is_the_mini_world_only_where_it_holds_one(tmp_path, monkeypatch, cache, by):
    monkeypatch.delenv("ADEM_BENCH_DATA", raising=False)
    generated = cache / f"mini-{source.MINI_VERSION}-test"
    generated.mkdir(parents=True)
    card = load_task_card("mini_sqa")
    assert source.mini_root(card, None) == generated
    official = tmp_path / "DATA"
    (official / "scienceqa" / "images").mkdir(parents=True)
    (official / "images" / "val2014").mkdir(parents=True)
    given = official if by == "option" else None
    if by == "variable":
        monkeypatch.setenv("ADEM_BENCH_DATA", str(official))
    assert source.mini_root(card, given) == generated
    assert data_status(card, given).state == "on demand"
    (official / "images" / "val2014" / "COCO_val2014_000002000001.png").touch()
    assert source.mini_root(card, given) == official
    assert data_status(card, given).state == "missing"


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_what_the_generator_wrote_is_known_again(tmp_path, split, monkeypatch):
    monkeypatch.setattr(writer, "CAPTION_SIZE", 1)
    monkeypatch.setattr(writer, "SCIENCE_SIZE", 1)
    monkeypatch.setattr(writer, "MME_IMAGES", 1)
    assert not holds_mini(tmp_path)
    writer.write_mini(tmp_path, splits=(split,), train_size=1)
    assert holds_mini(tmp_path)


def test_a_data_root_that_is_not_there_is_no_reason_to_make_the_mini_world_elsewhere(
    tmp_path, cache
):
    with pytest.raises(MissingDataError, match="DATA is not a folder; name another --data-root"):
        source.mini_root(load_task_card("mini_sqa"), tmp_path / "DATA")
    assert not cache.exists()
