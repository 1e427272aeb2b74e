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
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any


def digest(data: Any) -> str:
    """Return 16 hexadecimal digits over JSON data, whatever the order of an object's keys."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def stable_fields(value: Any) -> Any:
    """Return a dataclass as a dictionary without those later fields that are at their default.

    Dataclasses inside it, also in lists and dictionaries, are treated alike; one without
    `FIRST_FIELDS` has later fields only. Everything else is returned as it is.
    """
    if value is None or isinstance(value, str | int | float):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        defaults = _defaults(type(value))
        values = {name: getattr(value, name) for name in defaults}
        return {
            name: stable_fields(values[name])
            for name in stable_names(values, defaults, getattr(value, "FIRST_FIELDS", ()))
        }
    if isinstance(value, Mapping):
        return {key: stable_fields(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return tuple(map(stable_fields, value))
    return list(map(stable_fields, value)) if isinstance(value, list) else value


@cache  # every request of a run has a digest
def _defaults(kind: type[Any]) -> Mapping[str, Any]:
    """Return the defaults of a dataclass's fields."""
    return {
        field.name: field.default_factory()
        if field.default_factory is not dataclasses.MISSING
        else field.default
        for field in dataclasses.fields(kind)
    }


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
