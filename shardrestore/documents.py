"""Results as JSON: one conversion for every document that is printed or written.

A dataclass becomes an object with a member for each of its fields, in their order. Where a
document's key, order or rounding differs, the field says so in its metadata: see ``key``,
``rounded``, ``unless``, ``INLINE`` and ``OMITTED``. So the dataclass is the document's
description, and nothing else names its keys.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from pathlib import PurePath
from typing import Any

_RULE = "shardrestore.documents"
"""Where in a field's metadata its rule is."""

_UNLESS = object()
"""In the place of a key: the field is given unless it has a certain value."""

Convert = Callable[[Any], object]
Rule = Mapping[str, object]

INLINE: Rule = {_RULE: "inline"}
"""The members of the field's value stand in the place of the field: for nested dataclasses."""

OMITTED: Rule = {_RULE: "omitted"}
"""The field is in no document."""


def key(name: str, convert: Convert | None = None) -> Rule:
    """Return the metadata of a field whose member has another name, or another value.

    Parameters
    ----------
    name : str
        The member's key.
    convert : callable, optional
        Takes the field's value, returns what is converted in its place.
    """
    return {_RULE: (name, convert)}


def rounded(digits: int) -> Rule:
    """Return the metadata of a number that is given to so many decimal places."""
    return {_RULE: (None, lambda value: round(value, digits))}


def unless(default: object) -> Rule:
    """Return the metadata of a field that is given only where it differs from `default`.

    So a document without the member is read as one with `default`.
    """
    return {_RULE: (_UNLESS, default)}


def to_json(value: object) -> Any:
    """Return a value as plain JSON values; numbers that JSON cannot hold become None.

    Parameters
    ----------
    value : object
        Dataclasses, mappings, tuples, lists, paths and plain values, nested in any way. Keys of
        mappings that are numbers are given as ``%g`` does.

    Raises
    ------
    TypeError
        If it holds anything else.

    Examples
    --------
    >>> to_json({"score": float("inf"), "shape": (2, 3), 0.5: PurePath("out")})
    {'score': None, 'shape': [2, 3], '0.5': 'out'}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    if isinstance(value, Mapping):
        return {
            name if isinstance(name, str) else f"{name:g}": to_json(item)
            for name, item in value.items()
        }
    if is_dataclass(value) and not isinstance(value, type):
        return _to_object(value)
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def encode_json(value: object) -> bytes:
    """Return a value as indented JSON that ends with a line."""
    return (json.dumps(to_json(value), indent=2, allow_nan=False) + "\n").encode()


def _to_object(value: object) -> dict[str, Any]:
    kind: Any = type(value)  # mypy knows no hash of a type
    members: dict[str, Any] = {}
    for attribute, rule in _list_members(kind):
        item = getattr(value, attribute)
        if rule is INLINE:
            members |= _to_object(item)
            continue
        name, detail = rule[_RULE]
        if name is _UNLESS:
            if item != detail:
                members[attribute] = to_json(item)
        else:
            members[name or attribute] = to_json(detail(item) if detail else item)
    return members


@lru_cache
def _list_members(kind: type) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """Return each field that is in a document, and its rule."""
    plain: Rule = {_RULE: (None, None)}
    rules = [(field.name, field.metadata) for field in fields(kind)]
    return tuple(
        (name, INLINE if rule.get(_RULE) == INLINE[_RULE] else rule if _RULE in rule else plain)
        for name, rule in rules
        if rule.get(_RULE) != OMITTED[_RULE]
    )
