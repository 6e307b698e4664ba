"""One tensor's entry in a header: its kind, its shape and where its bytes lie."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ..formats import FORMATS
from .strict_json import JsonValue, nesting

MAX_LINES = 200
"""Lines that a message lists at most: a model has less that differs by more than numbers."""

_MAX_NESTING = 127
_ENTRY_NESTING = 2  # a value of an entry lies in the entry, and that in the header
_U64_MAX = 2**64 - 1
_ENTRY_FIELDS = ("dtype", "shape", "data_offsets")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEntry:
    """One tensor's kind and place."""

    dtype: str
    """A key of :data:`~shardrestore.formats.FORMATS`."""
    shape: tuple[int, ...]
    """Elements along each axis; ``()`` for a scalar."""
    begin: int
    """First byte, counted from the start of the data."""
    end: int
    """One past the last byte, counted from the start of the data."""

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes."""
        return self.end - self.begin


def read_entry(value: JsonValue) -> TensorEntry:
    """Read one tensor's value from a header.

    Parameters
    ----------
    value : JsonValue
        As ``strict_json`` returns it.

    Raises
    ------
    ValueError
        What is wrong with it, as the end of a sentence that begins with its name.
    """
    dtype, shape, offsets = _entry_fields(value)
    if isinstance(dtype, tuple) and len(dtype) == 1 and dtype[0][1] is None:
        dtype = dtype[0][0]  # serde reads {"F32": null} as "F32"
    if not isinstance(dtype, str) or dtype not in FORMATS:
        raise ValueError(f"has dtype {show(dtype)}, none of {', '.join(FORMATS)}")
    dims = _integers(shape, "shape")
    span = _integers(offsets, "data_offsets")
    if len(span) != 2 or span[0] > span[1]:
        raise ValueError(f"has data_offsets {show_dims(span)}, not one begin and one end")
    begin, end = span
    expected_bytes = count_bytes(dtype, dims)
    if end - begin != expected_bytes:
        raise ValueError(
            f"is {dtype} of shape {show_dims(dims)} and takes {expected_bytes} bytes, but its "
            f"data_offsets [{begin}, {end}] hold {end - begin}; the file was written wrongly"
        )
    return TensorEntry(dtype=sys.intern(dtype), shape=dims, begin=begin, end=end)


def _entry_fields(value: JsonValue) -> Sequence[JsonValue]:
    """Pick dtype, shape and data_offsets, which serde also reads from an array of three."""
    if isinstance(value, list) and len(value) == len(_ENTRY_FIELDS):
        return value
    if not isinstance(value, tuple):
        raise ValueError(f"is {show(value)}, not an object or an array of 3")
    found: dict[str, JsonValue] = {}
    for key, item in value:
        if key not in _ENTRY_FIELDS:
            if isinstance(item, (list, tuple)) and nesting(item) > _MAX_NESTING - _ENTRY_NESTING:
                raise ValueError(f"is nested deeper than {_MAX_NESTING} levels at {show(key)}")
        elif key in found:
            raise ValueError(f"has {key} twice")
        else:
            found[key] = item
    missing = [key for key in _ENTRY_FIELDS if key not in found]
    if missing:
        raise ValueError(f"has no {' and no '.join(missing)}")
    return [found[key] for key in _ENTRY_FIELDS]


def _integers(value: JsonValue, what: str) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise ValueError(f"has {show(value)} for {what}, not an array")
    integers = []
    for item in value:
        if type(item) is not int:  # a bool is an int to isinstance
            raise ValueError(f"has {show(item)} in {what}, not an integer from 0 to 2**64 - 1")
        integers.append(item)
    return tuple(integers)


def count_bytes(dtype: str, shape: Sequence[int]) -> int:
    """Return a tensor's size in bytes; its bits must fit into 64, and so each product on the way.

    Raises
    ------
    ValueError
        As for ``read_entry``: too large, no whole bytes, or an unknown dtype.
    """
    if dtype not in FORMATS:
        raise ValueError(f"has dtype {show(dtype)}, none of {', '.join(FORMATS)}")
    elements = 1
    for length in shape:
        elements *= length
        if elements > _U64_MAX:
            break
    bits = elements * FORMATS[dtype].bits
    if bits > _U64_MAX:
        raise ValueError(f"is {dtype} of shape {show_dims(shape)} and has over 2**64 - 1 bits")
    if bits % 8:
        raise ValueError(f"is {dtype} of shape {show_dims(shape)}: {bits} bits, no whole bytes")
    return bits // 8


def show_name(name: str) -> str:
    """Return a tensor's name for a message: as it is, unless it is long or unprintable."""
    return name if name.isprintable() and len(name) <= 200 else show(name)


def show(value: JsonValue) -> str:
    """Name a value of unknown size in one short line of printable text."""
    if isinstance(value, (list, tuple)):
        return f"{'an array' if isinstance(value, list) else 'an object'} of {len(value)}"
    return _cut(json.dumps(value) if value is None or isinstance(value, bool) else repr(value))


def show_dims(dims: Sequence[int]) -> str:
    """Return a shape in one short line, however many axes a header gives it."""
    return _cut(repr(list(dims)))


def shorten(lines: list[str]) -> list[str]:
    """Return the lines of a message, the last ones counted if they are very many."""
    left_out = len(lines) - MAX_LINES
    return [*lines[:MAX_LINES], f"  … and {left_out:,} more"] if left_out > 0 else lines


def _cut(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "..."
