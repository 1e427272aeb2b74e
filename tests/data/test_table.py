"""Rows of .jsonl, .json, .csv and .tsv files: what is wrong with one is said with its line."""

from __future__ import annotations

import json

import pytest

from adem_bench.data import table
from adem_bench.data.reading import SkippedRow
from adem_bench.data.table import read_table
from adem_bench.errors import DataError
from adem_bench.schemas import DataSource

SOURCE = DataSource(url="https://example.org/pets")


@pytest.fixture
def rows(tmp_path):
    """Reads a file of the given content: good rows as dictionaries, and why others are left out."""

    def read(name: str, content: str | bytes):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        found = list(read_table(path, SOURCE))
        good = [dict(row) for row in found if not isinstance(row, SkippedRow)]
        return good, {row.id: row.reason for row in found if isinstance(row, SkippedRow)}

    return read


CATS = [{"id": 1, "name": "Tom, the cat"}, {"id": 2, "name": 'the "other"\none'}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cats.jsonl", "".join(f"{json.dumps(row)}\n" for row in CATS)),
        ("cats.jsonl", "\ufeff" + "\r\n\r\n".join(json.dumps(row) for row in CATS)),
        ("cats.JSONL", "  \n".join(f"{json.dumps(row)} " for row in CATS)),
        ("cats.json", json.dumps(CATS, indent=1)),
    ],
)
def test_objects_are_rows(rows, name, content):
    assert rows(name, content) == (CATS, {})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cats.csv", 'id,name\n1,"Tom, the cat"\n2,"the ""other""\none"\n'),
        ("cats.csv", '\ufeffid,name\r\n1,"Tom, the cat"\r\n\r\n2,"the ""other""\none"\r\n'),
        ("cats.tsv", 'id\tname\n1\tTom, the cat\n2\t"the ""other""\none"\n'),
    ],
)
def test_cells_below_a_header_are_rows(rows, name, content):
    assert rows(name, content) == ([{**row, "id": str(row["id"])} for row in CATS], {})


LONE = [
    ("1", '"What is it', "A"), ("2", "Q", "B"), ("3", 'a "b', "C"), ("4", '5" wide', "D"),
    ("5", '"Why', "E"), ("6", "Q", '"F'),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "mark"), [("csv", ","), ("tsv", "\t")])
@pytest.mark.parametrize("taken", [[0, 1], [0, 1, 2, 3, 4], [1, 5], [1, 4, 1], [0, 3]])
def test_a_lone_quote_is_a_character(rows, suffix, mark, taken):
    chosen = [LONE[place] for place in taken]
    lines = [mark.join(("id", "text", "end")), *(mark.join(cells) for cells in chosen)]
    good, bad = rows(f"own.{suffix}", "\n".join(lines))
    assert bad == {}
    assert [tuple(row.values()) for row in good] == chosen


@pytest.mark.parametrize(("suffix", "mark"), [("csv", ","), ("tsv", "\t")])
def test_texts_of_several_lines_stay_one_row(rows, suffix, mark):
    cells = [("1", '"two\nlines"', "A"), ("2", '"says ""a""\nand b"', "B"), ("3", "Q", '"x\ny"')]
    lines = [mark.join(("id", "text", "end")), *(mark.join(row) for row in cells)]
    good, bad = rows(f"own.{suffix}", "\n".join(lines))
    assert bad == {}
    assert [row["text"] for row in good] == ["two\nlines", 'says "a"\nand b', "Q"]
    assert good[2]["end"] == "x\ny"


def test_a_quote_that_swallows_rows_is_named_and_the_others_are_read(rows):
    good, bad = rows("own.tsv", 'id\ttext\tend\n1\t"open B\n2\tQ\tC\n3\tQ\tD\n')
    assert [row["id"] for row in good] == ["2", "3"]
    assert bad == {
        "own.tsv:2": "own.tsv, line 2: a quote opens in it that is not closed properly up to line 4"
    }


@pytest.mark.parametrize("name", ["own.jsonl", "own.json", "own.csv", "own.tsv"])
def test_a_byte_order_mark_is_no_part_of_a_file(rows, name):
    texts = {
        "own.jsonl": '{"a": "1", "b": "2"}\n\ufeff{"a": "3", "b": "4"}\n',
        "own.json": '[{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]',
        "own.csv": "a,b\n1,2\n3,4\n",
        "own.tsv": "a\tb\n1\t2\n3\t4\n",
    }
    for marks in ("\ufeff", "\ufeff" * 2):
        assert rows(name, marks + texts[name]) == (
            [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}], {},
        )  # fmt: skip


def test_a_separator_of_lines_in_a_text_parts_no_row(rows):
    good, bad = rows("cats.jsonl", '{"name": "a\u2028b\u0085c"}\n')
    assert (good, bad) == ([{"name": "a\u2028b\u0085c"}], {})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{bad", "line 2: it is not JSON (Expecting property name"),
        ('{"id": 1} {"id": 2}', "line 2: it is not JSON (Extra data, character 11)"),
        ("[1, 2]", "line 2: expected an object, found list"),
        ("7", "line 2: expected an object, found int"),
        ('{"id": Infinity}', "line 2: inf is not a JSON value"),
        ('{"id": [1, -Infinity]}', "line 2: -inf is not a JSON value"),
        ('{"name": "\\ud800"}', "line 2: column name is not UTF-8"),
        (b'{"name": "\xff"}', "line 2: column name is not UTF-8"),
        ("[" * 100_000, "line 2: it is not JSON (maximum recursion depth"),
        (f'{{"id": {"9" * 5000}}}', "line 2: it is not JSON (Exceeds the limit"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_and_the_others_are_read(rows, line, reason):
    wrong = line if isinstance(line, bytes) else line.encode()
    good, bad = rows("cats.jsonl", b'{"id": 1}\n' + wrong + b'\n{"id": 3}\n')
    assert good == [{"id": 1}, {"id": 3}]
    assert list(bad) == ["cats.jsonl:2"]
    assert bad["cats.jsonl:2"].startswith(f"cats.jsonl, {reason}")


def test_cells_that_are_too_many_are_named_by_the_line_on_which_their_row_begins(rows):
    good, bad = rows("cats.csv", 'id,name\n1,"two\nlines"\n2,b,c\n3,d\n')
    assert [row["id"] for row in good] == ["1", "3"]
    assert bad == {"cats.csv:4": "cats.csv, line 4: it has 3 cells, the header has 2"}


@pytest.mark.parametrize("name", ["cats.jsonl", "cats.json"])
def test_nan_is_an_empty_cell(rows, name):
    content = '{"id": NaN, "names": ["a", NaN]}'
    good, _ = rows(name, content if name.endswith("l") else f"[{content}]")
    assert good == [{"id": None, "names": ["a", None]}]


def test_an_empty_cell_is_none(rows):
    assert rows("cats.csv", "id,name\n1,\n") == ([{"id": "1", "name": None}], {})


def test_a_line_that_is_too_long_is_passed_over(rows, monkeypatch):
    monkeypatch.setattr(table, "MAX_CHARACTERS", 1 << 20)
    long = '{"id": "' + "a" * (3 << 20) + '"}'
    good, bad = rows("cats.jsonl", f'{{"id": 1}}\n{long}\n{{"id": 3}}\n')
    assert good == [{"id": 1}, {"id": 3}]
    assert bad == {"cats.jsonl:2": "cats.jsonl, line 2: it is longer than 1 MiB"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cats.csv", "", "it is empty"),
        ("cats.csv", "\n", "its first line is not a header"),
        ("cats.csv", "id,name,id\n", "column 'id' appears twice in its header"),
        ("cats.json", '{"id": 1}', "not such JSON"),
        ("cats.json", '[{"id": 1}, {"id": ', "not such JSON"),
        ("cats.parquet", "PAR1", "its name ends in '.parquet', and not in one of .jsonl, .json"),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_where_it_is_to_be_had(
    rows, name, content, message
):
    with pytest.raises(DataError) as error:
        rows(name, content)
    assert message in str(error.value)
    assert "https://example.org/pets" in str(error.value)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(DataError, match=r"cats\.jsonl is missing: expected rows"):
        list(read_table(tmp_path / "cats.jsonl", SOURCE))


@pytest.mark.parametrize(
    ("cell", "items"),
    [
        ('["a", "b"]', ["a", "b"]),
        ("['a', 'b']", ["a", "b"]),
        ("[a, b]", ["[a, b]"]),
        ("a", ["a"]),
        ("", []),
    ],
)
def test_a_cell_of_texts_may_hold_a_list(tmp_path, cell, items):
    (tmp_path / "cats.tsv").write_text(f"id\tnames\n1\t{cell}\n")
    (row,) = read_table(tmp_path / "cats.tsv", SOURCE)
    assert row.items_of("names") == items


def test_a_text_of_json_is_never_read_as_a_list(tmp_path):
    (tmp_path / "cats.jsonl").write_text(json.dumps({"name": "[1]", "names": ["a"], "none": None}))
    (row,) = read_table(tmp_path / "cats.jsonl", SOURCE)
    assert [row.items_of(column) for column in row] == [["[1]"], ["a"], []]
