"""Number formats, a row each: what others call them, and how their codes become values.

A code is the unsigned integer that a number's bits are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One number format."""

    name: str
    """As safetensors spells it."""
    bits: int
    """Bits of one element."""
    torch: str | None = None
    """What torch calls it, and ``config.json``; None if torch has no such format."""
    option: str | None = None
    """What the option ``dtype`` calls it; None if weights are never cast to it."""
    exponent: int = 0
    """The exponent's bits in a code: all of them are set in NaN and infinity, only there.

    0 if codes of the format are not ranked: they are integers, or not the weights themselves.
    """
    largest: float = 0.0
    """Largest finite number, of formats that are ranked."""
    widen: str | None = None
    """Kernel that gives the float32 value of a code; None if the code is float32's own."""
    narrow: str | None = None
    """Kernel that rounds float32 values to codes; None if the code is float32's own."""

    @property
    def is_ranked(self) -> bool:
        """Whether weights of the format can be scored."""
        return bool(self.exponent)

    @property
    def element_bytes(self) -> int:
        """Size of an element in bytes; of less than a byte none."""
        return self.bits // 8

    @property
    def code_type(self) -> np.dtype[Any]:
        """NumPy's type of a code; elements smaller than a byte are looked at as bytes."""
        return np.dtype(f"u{max(self.element_bytes, 1)}")

    @property
    def torch_codes(self) -> str:
        """What torch calls integers of an element's size: signed ones, others lack functions."""
        return f"int{self.bits}"

    def count_bytes(self, elements: int) -> int:
        """Return the size of elements in bytes, where they are whole bytes."""
        return elements * self.bits // 8


FORMATS: Final[Mapping[str, Format]] = {
    row.name: row
    for row in (
        Format(name="F4", bits=4),
        Format(name="F6_E2M3", bits=6),
        Format(name="F6_E3M2", bits=6),
        Format(name="BOOL", bits=8, torch="bool"),
        Format(name="U8", bits=8, torch="uint8"),
        Format(name="I8", bits=8, torch="int8"),
        Format(name="F8_E4M3", bits=8, torch="float8_e4m3fn"),
        Format(name="F8_E4M3FNUZ", bits=8, torch="float8_e4m3fnuz"),
        Format(name="F8_E5M2", bits=8, torch="float8_e5m2"),
        Format(name="F8_E5M2FNUZ", bits=8, torch="float8_e5m2fnuz"),
        Format(name="F8_E8M0", bits=8, torch="float8_e8m0fnu"),
        Format(name="U16", bits=16, torch="uint16"),
        Format(name="I16", bits=16, torch="int16"),
        Format(
            name="F16",
            bits=16,
            torch="float16",
            option="fp16",
            exponent=0x7C00,
            largest=65504.0,
            widen="widen_float16",
            narrow="narrow_float16",
        ),
        Format(
            name="BF16",
            bits=16,
            torch="bfloat16",
            option="bf16",
            exponent=0x7F80,
            largest=float.fromhex("0x1.fep127"),
            widen="widen_bfloat16",
            narrow="narrow_bfloat16",
        ),
        Format(name="U32", bits=32, torch="uint32"),
        Format(name="I32", bits=32, torch="int32"),
        Format(
            name="F32",
            bits=32,
            torch="float32",
            option="fp32",
            exponent=0x7F800000,
            largest=float.fromhex("0x1.fffffep127"),
        ),
        Format(name="U64", bits=64, torch="uint64"),
        Format(name="I64", bits=64, torch="int64"),
        Format(name="F64", bits=64, torch="float64"),
        Format(name="C64", bits=64, torch="complex64"),
    )
}
"""Every format that safetensors 0.8 knows, by its name there."""

RANKED: Final = tuple(sorted(name for name, row in FORMATS.items() if row.is_ranked))
"""Formats whose weights can be scored: their codes are the weights themselves."""

CASTS: Final[Mapping[str, str | None]] = {
    "auto": None,
    **dict(sorted((row.option, name) for name, row in FORMATS.items() if row.option)),
}
"""What the option ``dtype`` may say, and the format it means; None keeps every tensor's own."""

TORCH_FORMATS: Final[Mapping[str, str]] = {
    row.torch: name for name, row in FORMATS.items() if row.torch
}
"""What safetensors calls torch's formats; by name, because older versions lack some."""


def can_overflow(source: str, dtype: str) -> bool:
    """Return whether a finite weight may be infinite after a cast from `source` to `dtype`."""
    return FORMATS[source].largest > FORMATS[dtype].largest


def cast_dtype(dtype: str, cast: str | None) -> str:
    """Return the format that a tensor has in the output: a cast concerns what can be scored."""
    return cast if cast is not None and FORMATS[dtype].is_ranked else dtype
