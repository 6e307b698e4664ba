"""Segments: the unit of parallel work and of tie accounting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..notes import Note
from ..pairing.pairs import Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A contiguous run of elements of one pair, at most ``Granularity.segment_elements``."""

    number: int
    """Position in canonical order: tensor names in code-point order, then elements."""

    pair: Pair

    index: int
    """Position within the tensor."""

    start: int
    """Index of the first element within the tensor."""

    elements: int

    @property
    def element_bytes(self) -> int:
        """Bytes that an element has in both inputs together."""
        return self.pair.base.element_bytes + self.pair.target.element_bytes

    @property
    def nbytes(self) -> int:
        """Bytes of both inputs together."""
        return self.elements * self.element_bytes

    @property
    def stream(self) -> str:
        """Name that random keys are drawn for: tied weights have one for all their names."""
        return self.pair.twin or self.pair.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A region of a run, which may have others beside it: some of the run's segments."""

    name: str

    pairs: tuple[Pair, ...]
    """In canonical order, empty ones included."""

    elements: int

    members: npt.NDArray[np.bool_]
    """By segment number: whether the segment belongs to the region."""

    notes: tuple[Note, ...]
    """Of both models and of their pairing."""


def split_pairs(pairs: Sequence[Pair], segment_elements: int) -> tuple[Segment, ...]:
    """Split pairs, given in canonical order, into segments in canonical order."""
    segments: list[Segment] = []
    for pair in pairs:
        total = pair.target.elements
        for index, start in enumerate(range(0, total, segment_elements)):
            segments.append(
                Segment(
                    number=len(segments),
                    pair=pair,
                    index=index,
                    start=start,
                    elements=min(segment_elements, total - start),
                )
            )
    return tuple(segments)


def twin_segments(
    twins: Sequence[Pair], segments: Sequence[Segment], segment_elements: int
) -> tuple[Segment, ...]:
    """Return the segments of further names, each with the number of the one it repeats."""
    by_place = {(segment.pair.name, segment.index): segment for segment in segments}
    return tuple(
        replace(segment, number=by_place[twin.twin or "", segment.index].number)
        for twin in twins
        for segment in split_pairs([twin], segment_elements)
    )
