"""What the passes ask of a device: to count a segment, or to cut it.

A pass knows tasks, files and progress; an engine knows how a segment's blocks are
read and what becomes of their elements. Whatever the device, the same integers
come back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..kernels.interface import Counts
from ..plan.segment import Segment
from ..selection.cut import Cut
from ..selection.histogram import SparseHistogram
from .workspace import Workspace

Advance = Callable[[int], None]
"""Receives how many more elements of a segment are done."""


class Sink(Protocol):
    """Takes what cuts make of a segment, block by block."""

    def write(self, start: int, elements: int, parts: Sequence[Any]) -> None:
        """Take a block, for each cut; keep no reference to it.

        Parameters
        ----------
        start : int
            Index of the first element within the tensor.
        elements : int
        parts : sequence
            Bytes, as ``memoryview``; or tensors of the device, where results stay there.
        """

    def restart(self) -> None:
        """Hear that the segment begins anew: its blocks come once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What pass 1 finds in a segment."""

    histogram: SparseHistogram
    """Scores by bin."""
    zero_base: int
    """Elements whose base weight is zero."""
    overflows: int
    """Finite weights of both that the output's format makes infinite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentCut:
    """A cut where it meets one segment."""

    cut: Cut
    remainder: int
    """Where the segment's ties begin in the spread over all ties, see ``tie_remainders``."""

    @property
    def random(self) -> bool:
        """Whether the keys that are cut are random, not scores."""
        return self.cut.strategy == "random"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """What cuts select in a segment."""

    elements: Sequence[int]
    """For each cut; none where it does not concern the segment."""
    scores: Mapping[int, SparseHistogram]
    """Scores of the selected elements by the number of the cut, for random ones alone."""


class Engine(Protocol):
    """One worker's means to read segments, to score them and to cut them."""

    @property
    def space(self) -> Workspace:
        """Buffers for whatever is read and not scored; free between two calls."""

    def count(self, segment: Segment, advance: Advance) -> Counted:
        """Count the scores of a segment."""

    def count_nonfinite(self, segment: Segment) -> int:
        """Return how many weights of a segment, in both inputs together, are NaN or infinite."""

    def count_lows(
        self,
        segment: Segment,
        slots: npt.NDArray[np.int32],
        rows: int,
        advance: Advance,
        *,
        random: bool,
    ) -> Counts:
        """Count the low bits of a segment's keys within chosen bins.

        Parameters
        ----------
        segment : Segment
        slots : ndarray of int32, shape (BINS,)
            Row that a bin counts into, -1 for bins that are left out.
        rows : int
        advance : callable
        random : bool
            Whether keys are random; no weight is read then.

        Returns
        -------
        ndarray of uint32, shape (rows, LOWS)
            Valid until the next call.
        """

    def count_random_bins(self, segment: Segment, advance: Advance) -> SparseHistogram:
        """Count a segment's random keys by bin; no weight is read."""

    def cut(
        self,
        segment: Segment,
        cuts: Sequence[SegmentCut | None],
        sink: Sink,
        advance: Advance,
    ) -> Selected:
        """Restore what each cut selects in a segment, and hand the results over block by block.

        Parameters
        ----------
        segment : Segment
        cuts : sequence of SegmentCut or None
            None for a cut that does not concern the segment: it gets the target's elements.
        sink : Sink
            Given each block, in order.
        advance : callable
        """
