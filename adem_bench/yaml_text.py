"""YAML that a stranger may have written: bounded in size and depth, errors in words and lines."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

import yaml

MAX_CHARACTERS = 1 << 20
MAX_NESTED, MAX_VALUES = 32, 100_000
"""Lists and mappings one inside the other, and values in all, repeated ones as often as they
stand."""
ESCAPED_HALF = re.compile(r"\\u[dD][89a-fA-F]")
MERGE = "tag:yaml.org,2002:merge"
NOT_JSON = ("binary", "set", "omap", "pairs")
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, OverflowError)
"""What PyYAML raises for a value that its tag or its look does not allow: `2001-99-99`, `0x_`."""


class YamlTextError(ValueError):
    """What is wrong with a text that should be YAML, and in which line if that is known."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line


def _loader(base: Any) -> Any:
    """Return a safe loader whose values that cannot be made are errors with a line."""

    class Loader(base):  # type: ignore[misc]
        def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
            kind = node.tag.rpartition(":")[2]
            line = node.start_mark.line + 1
            if kind in NOT_JSON:
                raise YamlTextError(f"it has a {kind}, which no field takes", line)
            try:
                value = super().construct_object(node, deep)
            except (yaml.YAMLError, YamlTextError):
                raise
            except UNREADABLE as error:
                reason = f"{str(node.value)[:40]!r} is no {kind}; put a text in quotes"
                raise YamlTextError(reason, line) from error
            if isinstance(value, date):
                raise YamlTextError(f"{node.value!r} is a date; put a text in quotes", line)
            return value

    return Loader


# The safe loader written in C, where PyYAML was built with it: listings read every card.
FAST_LOADER = _loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader))
# Of an escaped half of a character, as in a path that is not UTF-8, the one in C reads none.
PLAIN_LOADER = _loader(yaml.SafeLoader)


def loader_for(text: str) -> Any:
    """Return the class of PyYAML that reads a text: the quicker one of the two that can."""
    return PLAIN_LOADER if ESCAPED_HALF.search(text) else FAST_LOADER


def parse_yaml(text: str) -> Any:
    """Return the value that a text in YAML stands for; of its tags, only the safe ones.

    Raises:
        YamlTextError: not YAML, too long, nested too deeply, a key that appears twice, or more than
            it looks by its aliases.
    """
    if len(text) > MAX_CHARACTERS:
        raise YamlTextError(f"longer than {MAX_CHARACTERS >> 20} MiB")
    try:
        loader = loader_for(text)(text)
    except (yaml.reader.ReaderError, UnicodeError) as error:
        raise _not_allowed(text) from error
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise YamlTextError(str(error.problem), line) from error
    except yaml.reader.ReaderError as error:
        raise _not_allowed(text) from error
    except RecursionError as error:
        raise YamlTextError(f"nested more than {MAX_NESTED} levels deep") from error
    finally:
        loader.dispose()


def _not_allowed(text: str) -> YamlTextError:
    found = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if found is None:
        return YamlTextError("it has a character that YAML does not allow")
    reason = f"it has the character U+{ord(found.group()):04X}, which YAML does not allow"
    return YamlTextError(reason, text.count("\n", 0, found.start()) + 1)


def _check_keys(mapping: yaml.MappingNode) -> None:
    """Refuse a key that stands twice, of which YAML's own loader keeps the last."""
    seen: dict[str, int] = {}
    for key, _ in mapping.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == MERGE:
            continue
        line = key.start_mark.line + 1
        if key.value in seen:
            twice = f"key {key.value[:40]!r} appears twice, first in line {seen[key.value]}"
            raise YamlTextError(twice, line)
        seen[key.value] = line


def _check_size(root: yaml.Node) -> None:
    """Refuse what is larger or deeper than any card, or ambiguous, before a value is made of it.

    An alias repeats a value: a few lines of them stand for more than a machine holds.
    """
    count = 0
    level = [root]
    for _ in range(MAX_NESTED + 1):
        inner: list[yaml.Node] = []
        for node in level:
            if isinstance(node, yaml.SequenceNode):
                inner += node.value
            elif isinstance(node, yaml.MappingNode):
                _check_keys(node)
                inner += [part for pair in node.value for part in pair]
            if count + len(inner) > MAX_VALUES:
                raise YamlTextError(f"it stands for more than {MAX_VALUES} values")
        count += len(inner)
        if not inner:
            return
        level = inner
    raise YamlTextError(f"nested more than {MAX_NESTED} levels deep", root.start_mark.line + 1)
