"""Between the passes: from the scan to exact cuts.

A histogram of bfloat16 scores is exact, and so is a cut through it. float32
scores and random keys are known to their bin: one more scan counts the low bits
of the keys within the bins that the cuts fall into, for all cuts at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..kernels.interface import Keys
from ..selection.cut import BinCut, Cut, cut_at_bin, cut_at_key, tie_remainders
from ..selection.histogram import sparse
from ..selection.score import BINS, LOWS
from .context import Context
from .memory import CHUNK_ELEMENTS
from .scan import Scan, segment_bytes
from .segment import Segment, is_resolved
from .spool import Spool
from .workers import StopSignal, run_tasks
from .workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedCut:
    """A cut, and where each segment's ties begin in the spread over all ties."""

    cut: Cut
    remainders: Sequence[int]
    """By segment number, see ``tie_remainders``."""


def place_at_bins(scan: Scan, found: Sequence[BinCut]) -> list[PlacedCut]:
    """Place cuts without another scan: all elements of a cut's bin tie."""
    placed = []
    for bin_cut in found:
        cut = cut_at_bin(bin_cut)
        ties = (scan.key_bins.get(segment.number).count(bin_cut.bin) for segment in scan.segments)
        placed.append(PlacedCut(cut=cut, remainders=tie_remainders(cut, ties)))
    return placed


def place_at_keys(context: Context, scan: Scan, found: Sequence[BinCut]) -> list[PlacedCut]:
    """Place cuts exactly, by one scan of what the histogram does not resolve.

    With random keys no weight is read for it.
    """
    bins = sorted({bin_cut.bin for bin_cut in found})
    seed = context.seed
    slots = np.full(BINS, -1, np.int32)
    slots[bins] = np.arange(len(bins))
    lows = np.zeros((len(bins), LOWS), np.uint64)
    spools = [Spool(context.folder, len(scan.segments)) for _ in bins]
    lock = threading.Lock()
    unresolved = []
    for segment in scan.segments:
        if not is_resolved(segment, random=seed is not None):
            unresolved.append(segment)
            continue
        # The key of a bfloat16 score has no low bits: its bin's count is at 0.
        histogram = scan.key_bins.get(segment.number)
        lows[:, 0] += np.array([histogram.count(bin_) for bin_ in bins], np.uint64)

    def make_work(stop: StopSignal) -> Callable[[Segment], None]:
        counter = _LowCounter(context, slots, len(bins), stop)

        def work(segment: Segment) -> None:
            counts = counter.count(segment)
            with lock:
                np.add(lows, counts, out=lows)
            for row, spool in enumerate(spools):
                spool.put(segment.number, sparse(counts[row : row + 1]))

        return work

    try:
        context.observer.begin("refine", sum(map(segment_bytes, unresolved)))
        try:
            run_tasks(unresolved, context.sizing.workers, make_work)
        finally:
            context.observer.end()
        placed = []
        for bin_cut in found:
            row = bins.index(bin_cut.bin)
            cut = cut_at_key(bin_cut, lows[row])
            ties = (_count_ties(scan, segment, cut, spools[row], seed) for segment in scan.segments)
            placed.append(PlacedCut(cut=cut, remainders=tie_remainders(cut, ties)))
        return placed
    finally:
        for spool in spools:
            spool.close()


class _LowCounter:
    """One worker of the refining scan: its workspace and its counters."""

    def __init__(
        self, context: Context, slots: npt.NDArray[np.int32], rows: int, stop: StopSignal
    ) -> None:
        self._space = Workspace(context, stop)
        self._context = context
        self._slots = slots
        self._stop = stop
        self._counts = np.zeros((rows, LOWS), np.uint32)

    def count(self, segment: Segment) -> npt.NDArray[np.uint32]:
        """Return the low bits of a segment's keys, counted; valid until the next call."""
        self._counts.fill(0)
        per_element = segment_bytes(segment) // segment.elements
        for keys, elements in self._keys(segment):
            self._context.kernels.count_lows(keys, self._slots, self._counts)
            self._context.observer.advance(elements * per_element)
        return self._counts

    def _keys(self, segment: Segment) -> Iterator[tuple[Keys, int]]:
        seed, space = self._context.seed, self._space
        if seed is None:
            for start, elements in space.blocks(segment):
                for chunk in space.chunks(segment.pair, start, elements):
                    yield space.score_keys(chunk)[0], chunk.elements
            return
        end = segment.start + segment.elements
        for start in range(segment.start, end, CHUNK_ELEMENTS):
            self._stop.check()
            elements = min(CHUNK_ELEMENTS, end - start)
            yield space.random_keys(segment, start, elements, seed), elements


def _count_ties(scan: Scan, segment: Segment, cut: Cut, spool: Spool, seed: int | None) -> int:
    bin_, low = divmod(cut.tie_first, LOWS)
    if is_resolved(segment, random=seed is not None):
        return scan.key_bins.get(segment.number).count(bin_) if low == 0 else 0
    return spool.get(segment.number).count(low)
