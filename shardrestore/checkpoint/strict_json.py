"""JSON read as serde_json reads it, which is how safetensors reads its headers.

The standard library does the work; the hooks below close every gap to serde_json
1.0 (without its ``float_roundtrip`` feature), as the source of its number and string
parsers and trials with safetensors 0.8.0 show them:

- ``NaN`` and ``Infinity`` are no JSON;
- half a surrogate pair is no character;
- an integer from 0 to 2**64 - 1 is an ``int``, any other number a ``float``, ``-0`` too;
- a number that serde_json's own arithmetic rounds to infinity is an error;
- arrays are lists and objects are tuples of pairs, so that no duplicate key is lost.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import NoReturn, TypeAlias

__all__ = ["JsonError", "JsonObject", "JsonValue", "nesting", "read_object"]

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | JsonObject | None"
JsonObject: TypeAlias = "tuple[tuple[str, JsonValue], ...]"


class JsonError(ValueError):
    """Bytes that serde_json would not read as an object; the message says why, in one line."""


_U64_MAX = 2**64 - 1
_U64_DIGITS = 20
# Every sum of rounding errors in serde_json's float arithmetic is far below the
# distance from here to the largest float, about 1.797e308.
_SURELY_FINITE = 1.79e308
_POWER_LIMIT = 2**31

# In valid JSON a backslash always starts an escape. Whole pairs and harmless escapes
# match without the group, so the group is half a pair.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F]|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)

_SPACE = r"[ \t\n\r]*"
_EMPTY = re.compile(rf"{_SPACE}\{{{_SPACE}\}}{_SPACE}")
_OPEN = re.compile(rf'{_SPACE}\{{{_SPACE}(?=")')
_COLON = re.compile(rf"{_SPACE}:{_SPACE}")
_NEXT = re.compile(rf'{_SPACE}(?:(,){_SPACE}(?=")|\}}{_SPACE}\Z)')


def read_object(raw: bytes) -> Iterator[tuple[str, JsonValue]]:
    """Read a JSON document that is one object, member by member.

    One member at a time keeps the peak memory near that of what the caller keeps, and
    halves the time, which otherwise goes into collecting garbage.

    Yields
    ------
    tuple[str, JsonValue]
        Each name and its value, in the order of the document.

    Raises
    ------
    JsonError
        If serde_json would not read it, or it is no object. Members before the fault
        have been yielded by then.

    Examples
    --------
    >>> list(read_object(b'{"a": [1, -0], "a": {"b": 1.5}}'))
    [('a', [1, -0.0]), ('a', (('b', 1.5),))]
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonError(f"not UTF-8: byte {error.start} is 0x{raw[error.start]:02x}") from error
    for escape in _ESCAPE.finditer(text):
        if escape[1]:
            raise JsonError(
                f"not JSON: \\{escape[1]} at character {escape.start()} is half a surrogate pair"
            )
    if _EMPTY.fullmatch(text):
        return
    position = _match(_OPEN, text, 0, "an object with quoted names").end()
    while True:
        name, position = _scan(text, position)
        value, position = _scan(text, _match(_COLON, text, position, "a colon").end())
        yield str(name), value
        link = _match(_NEXT, text, position, "a comma and a name, or the end")
        if not link[1]:
            return
        position = link.end()


def _match(pattern: re.Pattern[str], text: str, position: int, what: str) -> re.Match[str]:
    found = pattern.match(text, position)
    if found is None:
        raise JsonError(f"not JSON: expected {what} at character {position}")
    return found


def _scan(text: str, position: int) -> tuple[JsonValue, int]:
    try:
        return _DECODER.raw_decode(text, position)
    except json.JSONDecodeError as error:
        raise JsonError(f"not JSON: {error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise JsonError(f"not JSON: too deeply nested after character {position}") from error
    except MemoryError as error:
        raise JsonError(f"too large for this machine's memory ({len(text)} characters)") from error


def nesting(value: JsonValue) -> int:
    """Return how many arrays and objects lie within each other, at most: 0 for a scalar.

    serde_json reads 127 levels; the standard library does not count them.
    """
    depth = 0
    containers = [value] if isinstance(value, (list, tuple)) else []
    while containers:
        depth += 1
        containers = [
            child
            for node in containers
            for child in (node if isinstance(node, list) else (item for _, item in node))
            if isinstance(child, (list, tuple))
        ]
    return depth


def _integer(text: str) -> int | float:
    if len(text) <= _U64_DIGITS and not text.startswith("-"):
        value = int(text)
        if value <= _U64_MAX:
            return value
    return _float(text)


def _float(text: str) -> float:
    value = float(text)
    if abs(value) >= _SURELY_FINITE and _overflows(text):
        raise JsonError(f"not JSON: the number {text[:40]} is out of range")
    return value


def _overflows(text: str) -> bool:
    """Whether serde_json's float arithmetic ends at infinity for a non-zero number.

    It keeps as many leading digits as fit into 64 bits and multiplies them by a power
    of ten, with two roundings: 1.7976931348623158e308 overflows there, not in Python.
    """
    mantissa, _, power = text.lstrip("-").lower().partition("e")
    whole, _, fraction = mantissa.partition(".")
    significand, kept = _append_digits(0, whole)
    exponent = len(whole) - kept
    significand, kept = _append_digits(significand, fraction)
    exponent += int(min(float(power or 0), _POWER_LIMIT)) - kept
    if exponent < 0:
        return False
    return exponent > 308 or math.isinf(float(significand) * float(f"1e{exponent}"))


def _append_digits(significand: int, digits: str) -> tuple[int, int]:
    """Append digits while the number fits into 64 bits; return it and how many fitted."""
    for kept, digit in enumerate(digits):
        longer = 10 * significand + int(digit)
        if longer > _U64_MAX:
            return significand, kept
        significand = longer
    return significand, len(digits)


def _constant(text: str) -> NoReturn:
    raise JsonError(f"not JSON: {text} is no number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=tuple, parse_int=_integer, parse_float=_float, parse_constant=_constant
)
