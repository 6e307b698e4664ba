"""Counting beyond the scan's histogram: low bits of keys, and random keys.

The scan knows a score to its bin. Where that does not tell one key from the next
(float32 scores, random keys), the low 16 bits of the keys within chosen bins are
counted as well, per segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from ..engine.choice import open_engine
from ..engine.job import Job
from ..machine.executor import Control, Stage
from ..machine.progress import in_units
from ..plan.segment import Region, Segment
from ..selection.histogram import SparseHistogram, sparse
from ..selection.score import BINS, LOWS
from .context import Context
from .scan import Scan
from .spool import Spool


class LowBits:
    """Elements by the low bits of their key, for each segment and each of some bins.

    Parameters
    ----------
    context : Context
    scan : Scan
    bins : sequence of int
    random : bool
        Whether keys are random; else they are scores.
    """

    def __init__(self, context: Context, scan: Scan, bins: Sequence[int], *, random: bool) -> None:
        self._scan = scan
        self._rows = {bin_: row for row, bin_ in enumerate(sorted(set(bins)))}
        self._random = random
        self._spool = Spool(context.folder, len(scan.segments) * len(self._rows))

    def count(self, context: Context, members: npt.NDArray[np.bool_]) -> None:
        """Count in the segments that are members, as far as the scan leaves it open."""
        stage = Stage(
            name="random" if self._random else "refine",
            open_worker=partial(_LowCounter, context.job, tuple(self._rows), random=self._random),
            work=_LowCounter.count,
        )
        tasks = [s for s in self._scan.segments if members[s.number] and not self._resolved(s)]
        with context.run_observed(stage, tasks) as counts:
            for segment, rows in counts:
                for row, lows in enumerate(rows):
                    self._spool.put(self._number(segment, row), lows)

    def _resolved(self, segment: Segment) -> bool:
        """Whether the scan's histogram holds each key: bfloat16 scores, not random keys."""
        return segment.pair.exact and not self._random

    def _number(self, segment: Segment, row: int) -> int:
        return segment.number * len(self._rows) + row

    def get(self, segment: Segment, bin_: int) -> SparseHistogram:
        """Return a segment's elements in a bin by their low bits."""
        if not self._resolved(segment):
            return self._spool.get(self._number(segment, self._rows[bin_]))
        # The key of a bfloat16 score has no low bits: its bin's count is at 0.
        found = np.array([self._scan.histograms.get(segment.number).count(bin_)], np.uint32)
        return sparse(found[np.newaxis])

    def total(self, region: Region, bin_: int) -> npt.NDArray[np.uint64]:
        """Return a region's elements in a bin by their low bits, shape (LOWS,)."""
        lows = np.zeros(LOWS, np.uint64)
        for segment in self._scan.segments:
            if region.members[segment.number]:
                part = self.get(segment, bin_)
                lows[part.bins] += part.counts
        return lows

    def close(self) -> None:
        """Release the work file."""
        self._spool.close()


class _LowCounter:
    """One worker that counts low bits in some bins."""

    def __init__(self, job: Job, bins: Sequence[int], control: Control, *, random: bool) -> None:
        self._engine = open_engine(job, control)
        self._control = control
        self._random = random
        self._rows = len(bins)
        self._slots = np.full(BINS, -1, np.int32)
        self._slots[list(bins)] = range(self._rows)

    def count(self, segment: Segment) -> list[SparseHistogram]:
        """Return the segment's elements by their low bits, for each bin."""
        advance = in_units(self._control, segment.element_bytes)
        counts = self._engine.count_lows(
            segment, self._slots, self._rows, advance, random=self._random
        )
        return [sparse(counts[row : row + 1]) for row in range(self._rows)]


def count_random_bins(
    context: Context, scan: Scan, regions: Sequence[Region]
) -> list[npt.NDArray[np.uint64]]:
    """Return the elements of each region by the bin of their random key; no weight is read."""
    totals = [np.zeros(BINS, np.uint64) for _ in regions]
    members = np.logical_or.reduce([region.members for region in regions])
    tasks = [segment for segment in scan.segments if members[segment.number]]
    stage = Stage(
        name="random",
        open_worker=partial(_RandomCounter, context.job),
        work=_RandomCounter.count,
    )
    with context.run_observed(stage, tasks) as counts:
        for segment, found in counts:
            for region, total in zip(regions, totals, strict=True):
                if region.members[segment.number]:
                    total[found.bins] += found.counts
    return totals


class _RandomCounter:
    """One worker that counts random keys."""

    def __init__(self, job: Job, control: Control) -> None:
        self._engine = open_engine(job, control)
        self._control = control

    def count(self, segment: Segment) -> SparseHistogram:
        """Return the segment's elements by the bin of their random key."""
        advance = in_units(self._control, segment.element_bytes)
        return self._engine.count_random_bins(segment, advance)
