"""A tensor of a model: what it is called, its format and shape, and where it stands."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..formats import FORMATS


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor; its elements are numbered in row-major order."""

    name: str
    dtype: str
    """As safetensors spells it: ``"BF16"``, ``"F32"``, …"""
    shape: tuple[int, ...]
    shard: int
    """Number of the shard that holds it, or would hold it in files."""
    offset: int
    """First byte, from the start of its file; of what is in no file, its place in the order."""

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes."""
        return self.count_bytes(self.elements)

    @property
    def element_bytes(self) -> int:
        """Size of an element in bytes; of less than a byte none."""
        return FORMATS[self.dtype].element_bytes

    def count_bytes(self, elements: int) -> int:
        """Return the size of some elements, whole bytes together."""
        return FORMATS[self.dtype].count_bytes(elements)

    def locate(self, start: int) -> int:
        """Return the offset of an element that begins a byte."""
        return self.offset + self.count_bytes(start)
