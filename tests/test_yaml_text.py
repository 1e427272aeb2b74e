"""YAML that no card of ours holds."""

from __future__ import annotations

import pytest

from adem_bench.yaml_text import YamlTextError, parse_yaml

BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0b_", "'0b_' is no int"),
        ("0x_", "'0x_' is no int"),
        ("2001-99-99", "'2001-99-99' is no timestamp"),
        ("2001-01-01 99:99:99", "is no timestamp"),
        ("2001-01-01", "is a date"),
        ("!!int x", "'x' is no int"),
        ("!!int ''", "'' is no int"),
        ("!!float x", "'x' is no float"),
        ("!!bool x", "'x' is no bool"),
        ("!!timestamp x", "'x' is no timestamp"),
        ("!!binary x", "it has a binary"),
        ("!!set {x}", "it has a set"),
        ("!!python/name:os.system", "could not determine a constructor"),
        ("9" * 5000, "is no int"),
        ("a\x01b", r"it has the character U\+0001"),
        ("a\ud800b", r"it has a character|it has the character U\+D800"),
        ("[" * 3000, "nest"),
        ("{a: " * 3000, "nest"),
        ("[" * 40 + "]" * 40, "nested more than 32"),
        ("&a [*a]", "nested more than 32"),
        ("{[1]: 2}", "found unhashable key"),
        ("1\nvalue: 2", "key 'value' appears twice, first in line 2"),
        ("{a: {b: 1, b: 2}}", "key 'b' appears twice, first in line 2"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_line(text, reason):
    with pytest.raises(YamlTextError, match=reason) as caught:
        parse_yaml(f"title: t\nvalue: {text}")
    assert caught.value.line in (1, 2, 3, None)


def test_a_few_lines_do_not_stand_for_more_than_memory_holds():
    with pytest.raises(YamlTextError, match="more than 100000 values"):
        parse_yaml(BOMB)
    with pytest.raises(YamlTextError, match="longer than 1 MiB"):
        parse_yaml("a" * (1 << 21))


def test_anchors_paths_and_numbers_are_read():
    text = 'a: &a {b: 1, c: [1.5, true, null]}\nd: {<<: *a, b: 2}\np: "caf\\udce9"\n'
    assert parse_yaml(text) == {
        "a": {"b": 1, "c": [1.5, True, None]},
        "d": {"b": 2, "c": [1.5, True, None]},
        "p": "caf\udce9",
    }
    assert parse_yaml("") is None
