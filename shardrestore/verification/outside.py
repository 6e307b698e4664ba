"""What lies outside the region: the target's, byte for byte, or cast as was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checkpoint.tensor import Tensor
from ..formats import FORMATS
from .blocks import Blocks
from .elements import show_code
from .findings import Difference
from .layout import PlacedTensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A run of elements of a tensor outside the region."""

    tensor: Tensor
    placed: PlacedTensor
    start: int
    elements: int

    @property
    def nbytes(self) -> int:
        """Bytes to read of target and output together."""
        sides = self.tensor.dtype, self.placed.tensor.dtype
        return sum(FORMATS[dtype].count_bytes(self.elements) for dtype in sides)


def split_tensor(tensor: Tensor, placed: PlacedTensor, segment_elements: int) -> Iterator[Piece]:
    """Split a tensor into pieces of whole bytes, for workers to share."""
    step = max(segment_elements // 8 * 8, 8)
    for start in range(0, tensor.elements, step):
        elements = min(step, tensor.elements - start)
        yield Piece(tensor=tensor, placed=placed, start=start, elements=elements)


class OutsideCheck:
    """One worker's look at tensors that must be the target's."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks

    def compare(self, piece: Piece) -> Difference | None:
        """Compare a piece with the target's."""
        difference: Difference | None = None
        for start, wanted, found in self._sides(piece):
            wrong = wanted != found
            if wrong.any():
                difference = _describe(piece, start, wanted, found, wrong).merge(difference)
        return difference

    def _sides(self, piece: Piece) -> Iterator[tuple[int, Any, Any]]:
        """Yield first element, what must be there and what is, block by block."""
        if piece.tensor.dtype == piece.placed.tensor.dtype:
            return self._raw(piece)
        return self._blocks.cast_chunks(piece.tensor, piece.placed, piece.start, piece.elements)

    def _raw(self, piece: Piece) -> Iterator[tuple[int, Any, Any]]:
        # Elements smaller than a byte are compared, counted and shown as bytes.
        code_type = FORMATS[piece.tensor.dtype].code_type
        blocks = self._blocks.raw_blocks(piece.tensor, piece.placed, piece.start, piece.elements)
        for start, wanted, found in blocks:
            yield start, wanted.view(code_type), found.view(code_type)


def _describe(piece: Piece, start: int, wanted: Any, found: Any, wrong: Any) -> Difference:
    at = int(wrong.argmax())
    return Difference(
        file=piece.placed.source.where,
        name=piece.tensor.name,
        count=int(np.count_nonzero(wrong)),
        element=start + at * found.itemsize * 8 // FORMATS[piece.placed.tensor.dtype].bits,
        text=f"is {show_code(found, at)} (target {show_code(wanted, at)}): outside the "
        "region everything is the target's",
    )
