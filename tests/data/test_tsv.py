"""The reader of VLMEvalKit's TSVs, on files that are well and files that are not."""

from __future__ import annotations

import base64
import struct
import tracemalloc
import zlib

import pytest

from adem_bench.data import table as tables
from adem_bench.data.reading import SkippedRow
from adem_bench.data.table import texts_of
from adem_bench.errors import DataError
from adem_bench.images import open_rgb
from adem_bench.schemas import DataSource
from adem_bench.tasks.tsv.files import TsvFile, find_tsv
from support.tsv_files import BLUE, CHOICE, RED, choice_rows, picture

SOURCE = DataSource(url="https://example.org/mine")


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Writes lines as a TSV and returns it opened."""
    monkeypatch.setenv("ADEM_BENCH_CACHE", str(tmp_path / "cache"))

    def put(*lines: str | bytes) -> TsvFile:
        path = tmp_path / "mine.tsv"
        path.write_bytes(b"".join(x if isinstance(x, bytes) else x.encode() + b"\n" for x in lines))
        return TsvFile(path, SOURCE)

    return put


def split(file: TsvFile, **how):
    """Returns the good rows by index, and the reasons of the others by row."""
    rows = list(file.rows(**how))
    good = {row.index: row for row in rows if not isinstance(row, SkippedRow)}
    return good, {row.id: row.reason for row in rows if isinstance(row, SkippedRow)}


HEADER = "index\timage\tquestion\tanswer"


def test_images_are_taken_out_once_and_shared(table, tmp_path):
    good, bad = split(
        table(HEADER, f"1\t{RED}\tQ\tA", "2\t1\tQ\tA", f"3\t['{BLUE}', '{RED}']\tQ\tA"),
        extract=True,
    )
    assert bad == {}
    assert good["2"].images == good["1"].images
    assert good["3"].images[1:] == good["1"].images
    assert [path.suffix for path in good["3"].images] == [".jpg", ".png"]
    assert len(list((tmp_path / "cache").rglob("*.*"))) == 2
    assert good["1"].images[0].read_bytes() == base64.b64decode(RED)
    assert open_rgb(good["1"].images[0]).size == (64, 48)


def test_without_extraction_nothing_is_written(table, tmp_path):
    file = table(HEADER, f"1\t{RED}\tQ\tA")
    assert split(file)[0]["1"].images == split(file, extract=True)[0]["1"].images
    (tmp_path / "cache" / "tsv-images").rename(tmp_path / "moved")
    split(file)
    assert not (tmp_path / "cache" / "tsv-images").exists()


def test_a_torn_image_in_the_cache_is_written_anew(table):
    file = table(HEADER, f"1\t{RED}\tQ\tA")
    (path,) = split(file, extract=True)[0]["1"].images
    path.write_bytes(path.read_bytes()[:100])
    split(file, extract=True)
    assert path.read_bytes() == base64.b64decode(RED)


def test_a_row_may_refer_to_a_later_one_or_to_one_of_another_split(table):
    lines = (
        HEADER + "\tsplit",
        "1\t3\tQ\tA\ta",
        f"3\t{RED}\tQ\tA\tb",
        "4\t9\tQ\tA\ta",
        "5\t1\tQ\tA\ta",
    )
    good, bad = split(table(*lines), extract=True, row_filter=lambda cells: cells["split"] == "a")
    assert list(good) == ["1"]
    assert open_rgb(good["1"].images[0]).size == (64, 48)
    reason = "mine.tsv, row {}: (index {}) its image is that of row '{}', which has none of its own"
    assert bad == {"row 3": reason.format(3, 4, 9), "row 4": reason.format(4, 5, 1)}


def test_a_data_uri_and_broken_lines_of_base64_are_read(table):
    wrapped = f"{RED[:76]}\n{RED[76:]}"
    good, bad = split(
        table(HEADER, f"1\tdata:image/png;base64,{RED}\tQ\tA", f'2\t"{wrapped}"\tQ\tA'),
        extract=True,
    )
    assert bad == {}
    assert good["1"].images == good["2"].images


def bomb(width: int, height: int) -> str:
    """Returns a small PNG that claims to be as large as this, as base64."""

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" * 99)), chunk(b"IEND", b"")]
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"1\t{'%' * 80}\tQ\tA", "(index 1) its image is not base64"),
        (f"1\t{RED[:-3]}\tQ\tA", "(index 1) its image is not base64"),
        (
            f"1\t{base64.b64encode(b'GIF8' + b'x' * 90).decode()}\tQ\tA",
            "its image is of no known for",
        ),
        (f"1\t{bomb(60_000, 60_000)}\tQ\tA", "(index 1) its image is too large: Image size"),
        (f"\t{RED}\tQ\tA", "it has no index"),
        (f"1\t{RED}\tQ", "it has 3 cells, the header has 4"),
        (f"1\t{RED}\tQ\tA\tB", "it has 5 cells, the header has 4"),
        (f"1\t{RED}\t".encode() + b"\xff\xfe\tA\n", "(index 1) column question is not UTF-8"),
        (f"0\t{BLUE}\tQ\tA", "index 0 stands twice, first in row 1"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_the_others_are_read(table, line, reason):
    file = table(HEADER, f"0\t{BLUE}\tQ\tA", line, f"2\t{RED}\tQ\tA")
    good, bad = split(file, extract=True)
    assert list(good) == ["0", "2"]
    assert list(bad) == ["row 2"]
    assert bad["row 2"].startswith("mine.tsv, row 2: ")
    assert reason in bad["row 2"]


def test_a_row_that_is_too_long_is_passed_over_in_little_memory(table, monkeypatch):
    monkeypatch.setattr(tables, "MAX_CHARACTERS", 1 << 20)
    file = table(HEADER, f"1\t{'A' * (24 << 20)}\tQ\tA", f"2\t{RED}\tQ\tA")
    tracemalloc.start()
    good, bad = split(file, extract=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert list(good) == ["2"]
    assert bad == {"row 1": "mine.tsv, row 1: it is longer than 1 MiB, up to line 2"}
    assert peak < 12 << 20


def test_a_quote_that_is_never_closed_costs_no_more_than_the_limit(table, monkeypatch):
    monkeypatch.setattr(tables, "MAX_CHARACTERS", 1 << 20)
    lines = [f"{index}\t{RED}\tQ\tA" for index in range(2, 600)]
    file = table(HEADER, f'1\t"{RED}\tQ\tA', *lines)
    good, bad = split(file)
    assert list(good) == [str(index) for index in range(1, 600)]
    assert bad == {}


def test_a_lone_quote_is_a_character(table):
    rows = [
        f'1\t{RED}\t"What is it\tA',
        f"2\t{RED}\tQ\tA",
        f'3\t{BLUE}\t"Why\tA',
        f"4\t{RED}\tQ\tA",
    ]
    good, bad = split(table(HEADER, *rows, f'5\t{RED}\t"two\nlines"\tA', f'6\t{RED}\t"Q"\t"A'))
    assert bad == {}
    found = [row.cells["question"] for row in good.values()]
    assert found == ['"What is it', "Q", '"Why', "Q", "two\nlines", '"Q"']
    assert good["6"].cells["answer"] == '"A'


def test_long_files_are_read_row_by_row(table):
    image = picture("green", (400, 300))
    file = table(HEADER, *(f"{index}\t{image}\tQ\tA" for index in range(60)))
    tracemalloc.start()
    count = sum(1 for _ in file.rows(extract=True))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 60
    assert peak < 12 * len(image) < file.path.stat().st_size


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("index\tquestion\tindex", "column 'index' stands twice"),
        ("nothing", "its first line is not a header"),
        ("", "its first line is not a header"),
    ],
)
def test_a_file_without_a_header_is_refused(table, header, found):
    with pytest.raises(DataError, match=f"not as expected: {found}.*example.org"):
        _ = table(header, "1\t2\t3").columns


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
@pytest.mark.parametrize("rest", [b"\n", b"\0\xd8\xff\xff"])
def test_a_file_that_is_not_in_the_encoding_it_states_is_refused(table, encoding, rest):
    text = f"{HEADER}\n1\t{RED}\tWhich?\tA\n"
    with pytest.raises(DataError, match=r"mine\.tsv is not as expected: .*codec can't decode"):
        split(table(text.encode(encoding) + rest))


def test_missing_columns_are_named_with_those_that_are_there(table):
    file = table("\ufeffIndex\tImage_Path\tA", "1\tx.png\tB")
    file.require(["index", "image|image_path"])
    with pytest.raises(
        DataError, match="column question, B is missing; it has index, image_path, A"
    ):
        file.require(["index", "question", "A", "B"])


def test_images_named_by_path_lie_beside_the_file_and_nowhere_else(table, tmp_path):
    (tmp_path / "images" / "mine").mkdir(parents=True)
    for name in ("images/mine/a.png", "b.png"):
        (tmp_path / name).write_bytes(base64.b64decode(RED))
    absolute = tmp_path / "images" / "mine" / "a.png"
    file = table(
        *("index\timage_path", "1\ta.png", "2\tb.png", f"3\t{absolute}", "4\t['a.png', 'b.png']"),
        *("5\t../../secret.png", "6\t/etc/passwd", "7\tgone.png"),
    )
    good, bad = split(file)
    assert good["1"].images == good["3"].images == (absolute,)
    assert good["2"].images == (tmp_path / "b.png",)
    assert good["4"].images == (absolute, tmp_path / "b.png")
    assert good["7"].images == (tmp_path / "images" / "mine" / "gone.png",)
    # What lies in a file's place is told, not that there is none in the first place.
    (tmp_path / "gone.png").mkdir()
    assert split(file)[0]["7"].images == (tmp_path / "gone.png",)
    assert list(bad) == ["row 5", "row 6"]
    assert "image path '../../secret.png' leads out of" in bad["row 5"]
    before = file.digest()
    absolute.write_bytes(b"another")
    assert file.digest() != before


def test_a_file_is_found_where_vlmevalkit_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LMUData", raising=False)
    root, home, lmu = tmp_path / "root", tmp_path / "home" / "LMUData", tmp_path / "lmu"
    with pytest.raises(DataError, match=r"mine\.tsv is missing.*also looked for in .*home/LMUData"):
        find_tsv("mine", root, None, SOURCE)
    for folder in (home, lmu, root):
        folder.mkdir(parents=True)
        (folder / "mine.tsv").write_text("index\tquestion\n")
        if folder == lmu:
            monkeypatch.setenv("LMUData", str(lmu))
        assert find_tsv("mine.tsv", root, None, SOURCE) == folder / "mine.tsv"


@pytest.mark.parametrize(
    ("cell", "texts"),
    [
        ("cat", ["cat"]),
        ("['a', \"it's\"]", ["a", "it's"]),
        ("[1, 2.5]", ["1", "2.5"]),
        ("('a', 'b')", ["('a', 'b')"]),
        ("[__import__('os').system('true')]", ["[__import__('os').system('true')]"]),
        ("[" * 5000 + "]" * 5000, ["[" * 5000 + "]" * 5000]),
        ("[not closed", ["[not closed"]),
        ("[]", []),
    ],
)
def test_a_list_is_a_literal_and_never_run(cell, texts):
    assert texts_of(cell) == texts


def test_a_cell_too_long_for_a_list_of_answers_is_a_text():
    cell = "[" + "1," * (1 << 20) + "]"
    assert texts_of(cell) == [cell]


def test_the_miniature_rows_are_what_tests_take_them_for():
    assert CHOICE["answer"] == "B"
    assert [row["image"] for row in choice_rows()] == [RED, "1"]
