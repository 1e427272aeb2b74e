import pytest
from hypothesis import given
from hypothesis import strategies as st

from adem_bench.data.reading import data_digest, is_safe_name, load_json
from adem_bench.errors import DataError
from adem_bench.schemas import DataSource

SOURCE = DataSource(url="https://example.org/data")


@pytest.mark.parametrize("name", ["image.png", "val2014/COCO_1.jpg", "a b.png", "..a.png"])
def test_names_below_a_folder_are_safe(name):
    assert is_safe_name(name)


@pytest.mark.parametrize(
    "name", ["", " ", ".", "..", "../a", "a/../../b", "/etc/passwd", "a\\..\\b", "C:/a", "a\0b", 3]
)
def test_names_that_could_leave_it_are_not(name):
    assert not is_safe_name(name)


@given(st.text())
def test_any_name_can_be_judged(name):
    assert is_safe_name(name) in (True, False)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "is missing: expected rows"), (b"{", "not JSON"), (b"\xff", "not JSON")],
)
def test_a_file_that_cannot_be_used_is_named_with_its_source(tmp_path, content, message):
    path = tmp_path / "rows.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as error:
        load_json(path, "rows", SOURCE)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert SOURCE.url in str(error.value)


def test_a_folder_in_a_files_place_is_said(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        load_json(tmp_path, "rows", SOURCE)


def test_the_digest_follows_content_names_and_sizes(tmp_path):
    rows, image = tmp_path / "rows.json", tmp_path / "a.png"
    rows.write_text("[]")
    seen = {data_digest([rows], [], tmp_path), data_digest([rows], [image], tmp_path)}
    image.write_bytes(b"x")
    seen.add(data_digest([rows], [image], tmp_path))
    rows.write_text("{}")
    seen.add(data_digest([rows], [image], tmp_path))
    assert len(seen) == 4
