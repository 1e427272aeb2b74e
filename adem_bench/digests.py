"""Digests that stay what they are while the things they are of gain fields.

A run, a training or a record is found again by a digest, also by a version of this package that
knows more fields. So the fields of the first version (`FIRST_FIELDS` of the class) always enter,
and **a field added later enters only where it differs from its default**: what was made before
there was such a field was made with the default. All that a new field needs for that is a
default. Never add a name to `FIRST_FIELDS`, and never change the default of a later
field: either would make every unfinished run start over and every finished one fail `validate`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

SORTED = json.JSONEncoder(sort_keys=True)


def digest(data: Any) -> str:
    """Return 16 hexadecimal digits over JSON data, whatever the order of an object's keys."""
    return hashlib.sha256(SORTED.encode(data).encode()).hexdigest()[:16]


def stable_fields(value: Any) -> Any:
    """Return a dataclass as a dictionary without those later fields that are at their default.

    Dataclasses inside it, also in lists and dictionaries, are treated alike; one without
    `FIRST_FIELDS` has later fields only. Everything else is returned as it is.
    """
    if value is None or isinstance(value, str | int | float):
        return value
    if (fields := _fields(value.__class__)) is not None:
        return {
            name: stable_fields(inner)
            for name, default, is_first in fields
            if (inner := getattr(value, name)) != default or is_first
        }
    if isinstance(value, Mapping):
        return {key: stable_fields(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return tuple(map(stable_fields, value))
    return list(map(stable_fields, value)) if isinstance(value, list) else value


@cache  # every request and record of a run is asked for
def _fields(kind: type[Any]) -> Sequence[tuple[str, Any, bool]] | None:
    """Return a dataclass's fields: name, default, and whether the first version had it.

    None of any other class.
    """
    if not dataclasses.is_dataclass(kind):
        return None
    first = getattr(kind, "FIRST_FIELDS", ())
    return [
        (
            field.name,
            field.default
            if field.default_factory is dataclasses.MISSING
            else field.default_factory(),
            field.name in first,
        )
        for field in dataclasses.fields(kind)
    ]


def stable_names(
    values: Mapping[str, Any], defaults: Mapping[str, Any], first: Collection[str]
) -> list[str]:
    """Return the names of the fields that enter a digest, in order.

    Args:
        values: All fields.
        defaults: What they are unless given.
        first: Names of the fields of the first version.
    """
    return [name for name, value in values.items() if name in first or value != defaults[name]]
