"""Segments on a GPU: a block is computed while the next one is read and the last one written.

A worker has two sets of buffers, in page-locked host memory and on the device, and three
queues of work there: copies in, kernels, copies out. It reads a block, queues its copy and
its kernels, and turns to the next block; only for what it must write does it wait. What is
computed is what processors compute, to the bit: see ``kernels.gpu``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import numpy as np
import numpy.typing as npt
import torch

from ..formats import FORMATS, can_overflow
from ..kernels import gpu
from ..kernels.device import load_block_kernels
from ..kernels.interface import Counts
from ..machine.executor import Control
from ..plan.segment import Segment
from ..selection.histogram import SparseHistogram, sparse
from ..selection.score import BINS, LOWS
from ..selection.stream import stream_words
from .gpu_blocks import Block, BlockLoader, Chunk, split
from .interface import Advance, Counted, SegmentCut, Selected, Sink
from .job import Job
from .streams import Queues
from .workspace import Workspace


class GpuEngine:
    """An engine on a device of torch.

    Its methods raise ``torch.OutOfMemoryError``, and may be called again then; all of them are
    called within ``at_work``.

    Parameters
    ----------
    job : Job
    control : Control
        Asked between blocks.
    name : str
        The device, as torch names it.
    """

    def __init__(self, job: Job, control: Control, name: str) -> None:
        self._job = job
        self._control = control
        self._device = torch.device(name)
        self._score = job.score
        self._kernels = load_block_kernels(self._device, job.score)
        self._queues = Queues(self._device)
        with self._queues.computing():
            slots = self._queues.make_slots(job.sizing.block_bytes)
        self.space = Workspace(job, control, slots[0].host)
        self._loader = BlockLoader(job, self.space, self._queues, slots)
        self._chunk_elements = job.sizing.chunk_elements

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Queue what is computed; whatever happens, nothing is copied afterwards."""
        try:
            with torch.no_grad(), self._queues.computing():
                yield
        except BaseException:
            with suppress(RuntimeError):  # of a device that has failed: the cause is being reported
                self._queues.wait()  # buffers must not go while they are copied
            raise

    def shrink(self) -> bool:
        """Take half as much at once from now on; return false if that would be too little."""
        self._queues.release_memory()
        if self._chunk_elements <= self._job.granularity.chunk_elements:
            return False
        self._chunk_elements //= 2
        return True

    def _chunks(self, segment: Segment, block: Block) -> Iterator[Chunk]:
        return split(segment.pair, block, self._chunk_elements)

    def _zeros(self, *shape: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype, device=self._device)

    def count(self, segment: Segment, advance: Advance) -> Counted:
        """Count the scores of a segment."""
        pair = segment.pair
        bins = self._zeros(BINS, dtype=torch.int32)
        zero_base, overflows = self._zeros(2, dtype=torch.int64)
        for block in self._loader.blocks(segment):
            for chunk in self._chunks(segment, block):
                zero_base += self._kernels.count_scores(
                    self._score, chunk.base_scored, chunk.target_scored, bins
                )
                overflows += self._count_overflows(
                    chunk.base_raw, pair.base.dtype, chunk.base_codes, pair.out_dtype
                )
                overflows += self._count_overflows(
                    chunk.target_raw, pair.target.dtype, chunk.target_codes, pair.out_dtype
                )
            advance(block.elements)
        return Counted(
            histogram=_fetch_bins(bins),
            zero_base=int(zero_base.item()),
            overflows=int(overflows.item()),
        )

    def _count_overflows(
        self, raw: torch.Tensor, source: str, codes: torch.Tensor, dtype: str
    ) -> torch.Tensor | int:
        if not can_overflow(source, dtype):
            return 0
        found: torch.Tensor = gpu.count_nonfinite(codes, FORMATS[dtype].exponent)
        return found - gpu.count_nonfinite(raw, FORMATS[source].exponent)

    def count_nonfinite(self, segment: Segment) -> int:
        """Return how many weights of a segment, in both inputs together, are NaN or infinite."""
        pair = segment.pair
        (found,) = self._zeros(1, dtype=torch.int64)
        for block in self._loader.blocks(segment):
            found += gpu.count_nonfinite(block.base, FORMATS[pair.base.dtype].exponent)
            found += gpu.count_nonfinite(block.target, FORMATS[pair.target.dtype].exponent)
        return int(found.item())

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
        counts = self._zeros(rows, LOWS, dtype=torch.int32)
        places = torch.from_numpy(slots).to(self._device)
        for keys in self._random_keys(segment) if random else self._score_keys(segment):
            gpu.count_lows(keys, places, counts)
            advance(keys.numel())
        return _fetch(counts)

    def _score_keys(self, segment: Segment) -> Iterator[torch.Tensor]:
        """Yield a segment's score keys chunk by chunk."""
        for block in self._loader.blocks(segment):
            for chunk in self._chunks(segment, block):
                yield gpu.score_keys(self._score, chunk.base_scored, chunk.target_scored)

    def _random_keys(self, segment: Segment) -> Iterator[torch.Tensor]:
        """Yield a segment's random keys chunk by chunk; no weight is read."""
        for start in range(0, segment.elements, self._chunk_elements):
            self._control.check()
            elements = min(self._chunk_elements, segment.elements - start)
            yield self._draw(segment, start, elements)

    def _draw(self, segment: Segment, start: int, elements: int) -> torch.Tensor:
        """Return random keys, `start` counted within the segment."""
        words = stream_words(self._job.seed, segment.stream, segment.index)
        return gpu.random_keys(*words, start, elements, self._device)

    def count_random_bins(self, segment: Segment, advance: Advance) -> SparseHistogram:
        """Count a segment's random keys by bin; no weight is read."""
        bins = self._zeros(BINS, dtype=torch.int32)
        for keys in self._random_keys(segment):
            gpu.count_bins(keys, bins)
            advance(keys.numel())
        return _fetch_bins(bins)

    def cut(
        self,
        segment: Segment,
        cuts: Sequence[SegmentCut | None],
        sink: Sink,
        advance: Advance,
    ) -> Selected:
        """Restore what each cut selects in a segment, and hand the results over block by block."""
        out_dtype = segment.pair.out_dtype
        size = FORMATS[out_dtype].element_bytes
        state = _CutState(cuts, self._device)

        def hand_over(block: Block) -> None:
            block.slot.returned.wait()
            parts = block.slot.results(len(cuts), block.elements * size)
            sink.write(block.start, block.elements, parts)
            advance(block.elements)

        leaving: Block | None = None
        for block in self._loader.blocks(segment):
            outs = [
                out.view(gpu.code_type(out_dtype))
                for out in block.slot.outputs(len(cuts), block.elements * size)
            ]
            for chunk in self._chunks(segment, block):
                places = [out[chunk.low : chunk.high] for out in outs]
                self._cut_chunk(segment, block.start - segment.start, chunk, state, places)
            if self._job.device.in_place:
                sink.write(block.start, block.elements, outs)
                advance(block.elements)
                continue
            self._queues.send_back(block.slot, len(cuts), block.elements * size)
            if leaving is not None:
                hand_over(leaving)
            leaving = block
        if leaving is not None:
            hand_over(leaving)
        return state.fetch()

    def _cut_chunk(
        self,
        segment: Segment,
        block_start: int,
        chunk: Chunk,
        state: _CutState,
        outs: Sequence[torch.Tensor],
    ) -> None:
        kernels = self._kernels
        scores = randoms = None
        if state.random or len(state.cuts) > 1:
            scores = gpu.score_keys(self._score, chunk.base_scored, chunk.target_scored)
        if state.random:
            randoms = self._draw(segment, block_start + chunk.low, chunk.high - chunk.low)
        for number, (found, out) in enumerate(zip(state.cuts, outs, strict=True)):
            if found is None:
                out.copy_(chunk.target_codes)
                continue
            remainder = state.remainders[number]
            codes = chunk.base_codes, chunk.target_codes
            if scores is None:  # a single cut: its keys need not be kept
                scored = chunk.base_scored, chunk.target_scored
                done = kernels.restore_scores(
                    self._score, *scored, *codes, found.cut, remainder, out
                )
            else:
                keys = randoms if found.random and randoms is not None else scores
                if found.random:
                    bins = state.scores[number]
                    gpu.count_selected(keys, found.cut, remainder, scores, bins)
                done = gpu.select(keys, found.cut, remainder, *codes, out)
            count, state.remainders[number] = done
            state.selected[number] += count


class _CutState:
    """What is asked of a segment, and how far it is done; all of it on the device."""

    def __init__(self, cuts: Sequence[SegmentCut | None], device: torch.device) -> None:
        self.cuts = cuts
        starts = [found.remainder if found else 0 for found in cuts]
        self.remainders = list(torch.tensor(starts, dtype=torch.int64, device=device))
        self.selected = torch.zeros(len(cuts), dtype=torch.int64, device=device)
        # A random cut says nothing of the scores it selects: they are counted.
        self.random = [n for n, found in enumerate(cuts) if found is not None and found.random]
        self.scores = {
            number: torch.zeros(BINS, dtype=torch.int32, device=device) for number in self.random
        }

    def fetch(self) -> Selected:
        """Wait for the results and return them."""
        return Selected(
            elements=self.selected.tolist(),
            scores={number: _fetch_bins(bins) for number, bins in self.scores.items()},
        )


def _fetch(counts: torch.Tensor) -> Counts:
    """Return counts from the device, once its queue is done."""
    return counts.cpu().numpy().view(np.uint32)


def _fetch_bins(bins: torch.Tensor) -> SparseHistogram:
    return sparse(_fetch(bins)[np.newaxis])
