"""JSON read value by value."""

import json
import tracemalloc

import pytest

from adem_bench.data import streaming
from adem_bench.data.streaming import array_items, lines, object_items
from adem_bench.errors import DataError
from adem_bench.schemas import DataSource

SOURCE = DataSource(url="https://example.org")
ROWS = [{"id": 1, "text": 'a ] } \\ " \u00e9 \U0001f600'}, [1, [2]], 12345, -1.5e3, None, True, "x"]


@pytest.fixture(params=[1, 3, 2**20])
def chunk(request, monkeypatch):
    """However little is read at a time."""
    monkeypatch.setattr(streaming, "CHUNK", request.param)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("indent", [None, 2])
def test_items_are_those_of_the_whole_file(tmp_path, indent):
    path = tmp_path / "rows.json"
    path.write_text(
        json.dumps({"skipped": ROWS, "n": 12, "rows": ROWS, "more": [1]}, indent=indent)
    )
    assert list(array_items(path, "rows", "rows", SOURCE)) == ROWS
    assert dict(object_items(path, "rows", SOURCE)) == json.loads(path.read_text())
    path.write_text(json.dumps(ROWS, indent=indent))
    assert list(array_items(path, "", "rows", SOURCE)) == ROWS
    path.write_text("\n".join(map(json.dumps, ROWS)) + "\n\n")
    assert list(lines(path, "rows", SOURCE)) == ROWS


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("text", ["[]", " [ ] ", '{"rows": []}'])
def test_nothing_is_no_item(tmp_path, text):
    path = tmp_path / "rows.json"
    path.write_text(text)
    assert list(array_items(path, "rows" if "rows" in text else "", "rows", SOURCE)) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ('{"rows": [1, 2', "not such JSON"),
        ('{"rows": [1 2]}', "expected ','"),
        ('{"other": [1]}', "no `rows` in it"),
        ('{"rows": {"a": 1}}', r"expected '\['"),
        ("[1]", "expected '{'"),
        ('{"rows": [' + "[" * 100_000, "not such JSON"),
        ('{"rows": ["\xff"]}', "not such JSON"),
    ],
)
def test_what_is_wrong_is_said_with_the_file(tmp_path, text, message):
    path = tmp_path / "rows.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=message) as error:
        list(array_items(path, "rows", "a list of rows", SOURCE))
    assert "rows.json" in str(error.value)
    assert "https://example.org" in str(error.value)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("[1][1]", r"expected its end, found '\['"),
        ("[1]\0\0", "expected its end"),
        ("[1,]", "Expecting value"),
        ("[,]", "Expecting value"),
    ],
)
def test_a_list_is_whole_and_alone_in_its_file(tmp_path, text, message):
    (tmp_path / "rows.json").write_text(text)
    with pytest.raises(DataError, match=message):
        list(array_items(tmp_path / "rows.json", "", "a list of rows", SOURCE))


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}{"b": 2}', "expected its end, found '{'"),
        ('{"a": 1,}', "Expecting value"),
        ("{1: 2}", "expected a name, found 1"),
        ("{[1]: 2}", r"expected a name, found \[1\]"),
    ],
)
def test_an_object_is_whole_and_alone_in_its_file(tmp_path, text, message):
    (tmp_path / "rows.json").write_text(text)
    with pytest.raises(DataError, match=message):
        list(object_items(tmp_path / "rows.json", "an object of rows", SOURCE))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.json is missing: expected rows"):
        list(lines(tmp_path / "none.json", "rows", SOURCE))


def test_a_row_without_end_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "MAX_ROW_LENGTH", 1000)
    monkeypatch.setattr(streaming, "CHUNK", 100)
    path = tmp_path / "rows.json"
    path.write_text('["' + "x" * 100_000)
    with pytest.raises(DataError, match="a row of more than 1000 characters"):
        list(array_items(path, "", "rows", SOURCE))


def test_memory_holds_a_few_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "CHUNK", 2**14)
    path = tmp_path / "rows.json"
    rows = [{"id": number, "text": "x" * 1000} for number in range(3000)]
    path.write_text(json.dumps({"first": rows, "rows": rows}))
    tracemalloc.start()
    count = sum(1 for _ in array_items(path, "rows", "rows", SOURCE))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == len(rows)
    assert peak < path.stat().st_size / 20
