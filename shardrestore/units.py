"""Units of memory."""

from __future__ import annotations

MIB = 1 << 20
"""Bytes of a mebibyte."""


def format_mib(nbytes: int) -> str:
    """Return a byte count in MiB, rounded up so that it is never understated."""
    return f"{-(-nbytes // MIB):,} MiB"
