"""Segments on a processor core: block by block into memory, chunk by chunk through the kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..formats import FORMATS
from ..kernels.interface import LANES, Codes, Counts
from ..machine.executor import Control
from ..pairing.pairs import Pair
from ..plan.segment import Segment
from ..selection.histogram import SparseHistogram, sparse
from ..selection.score import BINS, LOWS
from .interface import Advance, Counted, SegmentCut, Selected, Sink
from .job import Job
from .workspace import Chunk, Workspace, as_bytes


class CpuEngine:
    """An engine on one core; its buffers and counters are made once, for every segment.

    Parameters
    ----------
    job : Job
    control : Control
        Asked between blocks.
    space : Workspace, optional
        Its buffers, if there are such already.
    """

    def __init__(self, job: Job, control: Control, space: Workspace | None = None) -> None:
        self.space = space or Workspace(job, control)
        self._kernels = job.kernels
        self._block_bytes = job.sizing.block_bytes
        self._bins = np.zeros((LANES, BINS), np.uint32)
        self._lows = np.zeros((0, LOWS), np.uint32)
        self._selected_bins: dict[int, Counts] = {}
        self._out: list[npt.NDArray[np.uint8]] = []

    def count(self, segment: Segment, advance: Advance) -> Counted:
        """Count the scores of a segment."""
        self._bins.fill(0)
        zero_base = overflows = 0
        for start, elements in self.space.blocks(segment):
            for chunk in self.space.chunks(segment.pair, start, elements):
                keys, zeros = self.space.score_keys(chunk)
                self._kernels.count_bins(keys, self._bins)
                zero_base += zeros
                overflows += self._count_overflows(segment.pair, chunk)
            advance(elements)
        return Counted(histogram=sparse(self._bins), zero_base=zero_base, overflows=overflows)

    def _count_overflows(self, pair: Pair, chunk: Chunk) -> int:
        count, out = self.space.count_overflows, pair.out_dtype
        return count(chunk.base_raw, pair.base.dtype, chunk.base_codes, out) + count(
            chunk.target_raw, pair.target.dtype, chunk.target_codes, out
        )

    def count_nonfinite(self, segment: Segment) -> int:
        """Return how many weights of a segment, in both inputs together, are NaN or infinite."""
        pair, count, found = segment.pair, self._kernels.count_nonfinite, 0
        for start, elements in self.space.blocks(segment):
            for chunk in self.space.chunks(pair, start, elements):
                found += count(chunk.base_raw, FORMATS[pair.base.dtype].exponent)
                found += count(chunk.target_raw, FORMATS[pair.target.dtype].exponent)
        return found

    def count_lows(
        self,
        segment: Segment,
        slots: npt.NDArray[np.int32],
        rows: int,
        advance: Advance,
        *,
        random: bool,
    ) -> Counts:
        """Count the low bits of a segment's keys within chosen bins."""
        if self._lows.shape[0] != rows:
            self._lows = np.empty((rows, LOWS), np.uint32)
        self._lows.fill(0)
        space = self.space
        for keys in space.random_segment(segment) if random else space.score_segment(segment):
            self._kernels.count_lows(keys, slots, self._lows)
            advance(keys.size)
        return self._lows

    def count_random_bins(self, segment: Segment, advance: Advance) -> SparseHistogram:
        """Count a segment's random keys by bin; no weight is read."""
        self._bins.fill(0)
        for keys in self.space.random_segment(segment):
            self._kernels.count_bins(keys, self._bins)
            advance(keys.size)
        return sparse(self._bins)

    def cut(
        self,
        segment: Segment,
        cuts: Sequence[SegmentCut | None],
        sink: Sink,
        advance: Advance,
    ) -> Selected:
        """Restore what each cut selects in a segment, and hand the results over block by block."""
        state = _CutState(cuts)
        counters = self._clear_counters(state.random)
        out_bytes = FORMATS[segment.pair.out_dtype].element_bytes
        while len(self._out) < len(cuts):
            self._out.append(np.empty(self._block_bytes, np.uint8))
        for start, elements in self.space.blocks(segment):
            for chunk in self.space.chunks(segment.pair, start, elements):
                self._cut_chunk(segment, chunk, state)
            parts = [as_bytes(out)[: elements * out_bytes] for out in self._out[: len(cuts)]]
            sink.write(start, elements, parts)
            advance(elements)
        scores = {number: sparse(counts) for number, counts in counters.items()}
        return Selected(elements=state.selected, scores=scores)

    def _clear_counters(self, random: Sequence[int]) -> dict[int, Counts]:
        """Return cleared counters of the scores that random cuts select."""
        for number in random:
            self._selected_bins.setdefault(number, np.zeros((1, BINS), np.uint32)).fill(0)
        return {number: self._selected_bins[number] for number in random}

    def _cut_chunk(self, segment: Segment, chunk: Chunk, state: _CutState) -> None:
        scores, _ = self.space.score_keys(chunk)
        randoms = scores
        if state.random:
            randoms = self.space.random_keys(segment, chunk.start, chunk.elements)
        out_bytes = chunk.target_codes.itemsize
        low = chunk.block_start * out_bytes
        high = low + chunk.elements * out_bytes
        for number, found in enumerate(state.cuts):
            out: Codes = self._out[number][low:high].view(chunk.target_codes.dtype)
            if found is None:
                out[:] = chunk.target_codes
                continue
            if found.random:
                bins = self._selected_bins[number]
                remainder = state.remainders[number]
                self._kernels.count_selected(randoms, found.cut, remainder, scores, bins)
            count, state.remainders[number] = self._kernels.select(
                randoms if found.random else scores,
                found.cut,
                state.remainders[number],
                chunk.base_codes,
                chunk.target_codes,
                out,
            )
            state.selected[number] += count


class _CutState:
    """What is asked of a segment, and how far it is done: one entry for each cut."""

    def __init__(self, cuts: Sequence[SegmentCut | None]) -> None:
        self.cuts = cuts
        self.remainders = [found.remainder if found else 0 for found in cuts]
        self.selected = [0] * len(cuts)
        # A random cut says nothing of the scores it selects: they are counted.
        self.random = [n for n, found in enumerate(cuts) if found is not None and found.random]
