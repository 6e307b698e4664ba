"""Segments on a GPU: a block is computed while the next one is read and the last one written.

A worker has two sets of buffers, in page-locked host memory and on the device, and three
queues of work there: copies in, kernels, copies out. It reads a block, queues its copy and
its kernels, and turns to the next block; only for what it must write does it wait. What is
computed is what processors compute, to the bit: see ``kernels.gpu``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from ..checkpoint.folder import Checkpoint, Tensor
from ..checkpoint.source import DeviceSource
from ..kernels import gpu
from ..kernels.device import load_block_kernels
from ..kernels.interface import Counts
from ..pairing.pairs import Pair
from ..selection.histogram import SparseHistogram, sparse
from ..selection.score import BINS, LOWS
from ..selection.stream import stream_words
from .context import Context
from .engine import Advance, Counted, Engine, SegmentCut, Selected, Write
from .engine_cpu import CpuEngine
from .memory import CHUNK_ELEMENTS
from .queues import Queues, Slot
from .segment import Segment
from .workers import StopSignal
from .workspace import EXPONENTS, ITEM_BYTES, OVERFLOWING_CASTS, Workspace

Result = TypeVar("Result")

_SMALLER = "{} is out of memory: going on with smaller chunks"
_GIVEN_UP = "{} is out of memory: going on with processors"

_CODES = {2: torch.int16, 4: torch.int32}


@dataclass(frozen=True, slots=True)
class _Block:
    """A block on the device, in the formats of the files."""

    start: int
    """Index of the first element within the tensor."""
    base: torch.Tensor
    target: torch.Tensor
    slot: Slot

    @property
    def elements(self) -> int:
        return self.target.numel()


@dataclass(frozen=True, slots=True)
class _Chunk:
    """As much of a block as is scored at once."""

    low: int
    """Index of the first element within the block."""
    base_raw: torch.Tensor
    target_raw: torch.Tensor
    base_scored: torch.Tensor
    """Patterns for bfloat16 arithmetic, else float32 values."""
    target_scored: torch.Tensor
    base_codes: torch.Tensor
    """In the output's format."""
    target_codes: torch.Tensor

    @property
    def high(self) -> int:
        return self.low + self.target_raw.numel()


class GpuEngine:
    """An engine on a device of torch; out of memory, it takes less at once, then processors.

    Parameters
    ----------
    context : Context
    stop : StopSignal
        Checked between blocks.
    name : str
        The device, as torch names it.
    """

    def __init__(self, context: Context, stop: StopSignal, name: str) -> None:
        self._context = context
        self._stop = stop
        self._device = torch.device(name)
        self._kernels = load_block_kernels(self._device)
        self._queues = Queues(self._device)
        with self._queues.computing():
            self._slots = self._queues.make_slots(context.sizing.block_bytes)
        self.space = Workspace(context, stop, self._slots[0].host)
        self._chunk_elements = context.sizing.chunk_elements
        self._processor: CpuEngine | None = None

    def count(self, segment: Segment, advance: Advance) -> Counted:
        """Count the scores of a segment."""
        return self._carry_out(
            lambda advance: self._count(segment, advance),
            lambda processor, advance: processor.count(segment, advance),
            advance,
        )

    def count_nonfinite(self, segment: Segment) -> int:
        """Return how many weights of a segment, in both inputs together, are NaN or infinite."""
        return self._carry_out(
            lambda _: self._count_nonfinite(segment),
            lambda processor, _: processor.count_nonfinite(segment),
            _ignore,
        )

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
        return self._carry_out(
            lambda advance: self._count_lows(segment, slots, rows, advance, random=random),
            lambda processor, advance: processor.count_lows(
                segment, slots, rows, advance, random=random
            ),
            advance,
        )

    def count_random_bins(self, segment: Segment, advance: Advance) -> SparseHistogram:
        """Count a segment's random keys by bin; no weight is read."""
        return self._carry_out(
            lambda advance: self._count_random_bins(segment, advance),
            lambda processor, advance: processor.count_random_bins(segment, advance),
            advance,
        )

    def cut(
        self,
        segment: Segment,
        cuts: Sequence[SegmentCut | None],
        write: Write,
        advance: Advance,
    ) -> Selected:
        """Restore what each cut selects in a segment, and hand the results over block by block."""
        return self._carry_out(
            lambda advance: self._cut(segment, cuts, write, advance),
            lambda processor, advance: processor.cut(segment, cuts, write, advance),
            advance,
        )

    def _carry_out(
        self,
        on_device: Callable[[Advance], Result],
        on_processor: Callable[[CpuEngine, Advance], Result],
        advance: Advance,
    ) -> Result:
        """Do a segment from its beginning, as often as the device runs out of memory."""
        progress = _Progress(advance)
        while self._processor is None:
            try:
                with torch.no_grad(), self._queues.computing():
                    return on_device(progress.restart())
            except torch.OutOfMemoryError:
                self._queues.wait()
                self._shrink()
            except BaseException:
                self._queues.wait()  # buffers must not go while they are copied
                raise
        return on_processor(self._processor, progress.restart())

    def _shrink(self) -> None:
        """Take less of the device's memory next time, or none."""
        device, observer = self._context.device, self._context.observer
        self._queues.release_memory()
        if self._chunk_elements > CHUNK_ELEMENTS:
            self._chunk_elements //= 2
            device.note(observer, _SMALLER.format(self._device))
        else:
            self._processor = CpuEngine(self._context, self._stop, self.space)
            device.note(observer, _GIVEN_UP.format(self._device))

    def _blocks(self, segment: Segment) -> Iterator[_Block]:
        """Bring a segment to the device block by block.

        What the caller queues for a block before it asks for the next one is done before the
        block's buffers are used again.
        """
        context, pair = self._context, segment.pair
        self.space.expect_tensor(context.base, pair.base, segment.start, segment.elements)
        self.space.expect_tensor(context.target, pair.target, segment.start, segment.elements)
        for number, (start, elements) in enumerate(self.space.steps(segment)):
            slot = self._slots[number % len(self._slots)]
            with self._queues.loading(slot):
                base = self._load(slot, 0, context.base, pair.base, start, elements)
                target = self._load(slot, 1, context.target, pair.target, start, elements)
            yield _Block(start, base, target, slot)
            slot.computed.record()

    def _load(
        self,
        slot: Slot,
        side: int,
        checkpoint: Checkpoint,
        tensor: Tensor,
        start: int,
        elements: int,
    ) -> torch.Tensor:
        """Return elements as codes on the device: where they are already, or copied there."""
        size = ITEM_BYTES[tensor.dtype]
        source = checkpoint.shards[tensor.shard].source
        if isinstance(source, DeviceSource):
            codes = source.codes(tensor.offset + start * size, elements * size)
            if isinstance(codes, torch.Tensor) and codes.device == self._device:
                return codes
        self.space.read(checkpoint, tensor, start, elements, slot.host[side])
        return slot.copy_in(side, elements * size).view(_CODES[size])

    def _chunks(self, pair: Pair, block: _Block) -> Iterator[_Chunk]:
        dtypes = (pair.out_dtype,) * 2 if pair.cast else (pair.base.dtype, pair.target.dtype)
        for low in range(0, block.elements, self._chunk_elements):
            high = low + self._chunk_elements
            base, target = block.base[low:high], block.target[low:high]
            base_codes = _cast(base, pair.base.dtype, pair.out_dtype)
            target_codes = _cast(target, pair.target.dtype, pair.out_dtype)
            scored = (base_codes, target_codes) if pair.cast else (base, target)
            if not pair.exact:
                scored = gpu.widen(scored[0], dtypes[0]), gpu.widen(scored[1], dtypes[1])
            yield _Chunk(low, base, target, *scored, base_codes, target_codes)

    def _zeros(self, *shape: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype, device=self._device)

    def _count(self, segment: Segment, advance: Advance) -> Counted:
        pair = segment.pair
        bins = self._zeros(BINS, dtype=torch.int32)
        zero_base, overflows = self._zeros(2, dtype=torch.int64)
        for block in self._blocks(segment):
            for chunk in self._chunks(pair, block):
                zero_base += self._kernels.count_scores(
                    chunk.base_scored, chunk.target_scored, bins, exact=pair.exact
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
        if (source, dtype) not in OVERFLOWING_CASTS:
            return 0
        found: torch.Tensor = gpu.count_nonfinite(codes, EXPONENTS[dtype])
        return found - gpu.count_nonfinite(raw, EXPONENTS[source])

    def _count_nonfinite(self, segment: Segment) -> int:
        pair = segment.pair
        (found,) = self._zeros(1, dtype=torch.int64)
        for block in self._blocks(segment):
            found += gpu.count_nonfinite(block.base, EXPONENTS[pair.base.dtype])
            found += gpu.count_nonfinite(block.target, EXPONENTS[pair.target.dtype])
        return int(found.item())

    def _count_lows(
        self,
        segment: Segment,
        slots: npt.NDArray[np.int32],
        rows: int,
        advance: Advance,
        *,
        random: bool,
    ) -> Counts:
        counts = self._zeros(rows, LOWS, dtype=torch.int32)
        places = torch.from_numpy(slots).to(self._device)
        for keys in self._random_keys(segment) if random else self._score_keys(segment):
            gpu.count_lows(keys, places, counts)
            advance(keys.numel())
        return _fetch(counts)

    def _score_keys(self, segment: Segment) -> Iterator[torch.Tensor]:
        """Yield a segment's score keys chunk by chunk."""
        exact = segment.pair.exact
        for block in self._blocks(segment):
            for chunk in self._chunks(segment.pair, block):
                yield gpu.score_keys(chunk.base_scored, chunk.target_scored, exact=exact)

    def _random_keys(self, segment: Segment) -> Iterator[torch.Tensor]:
        """Yield a segment's random keys chunk by chunk; no weight is read."""
        for start in range(0, segment.elements, self._chunk_elements):
            self._stop.check()
            elements = min(self._chunk_elements, segment.elements - start)
            yield self._draw(segment, start, elements)

    def _draw(self, segment: Segment, start: int, elements: int) -> torch.Tensor:
        """Return random keys, `start` counted within the segment."""
        words = stream_words(self._context.seed, segment.stream, segment.index)
        return gpu.random_keys(*words, start, elements, self._device)

    def _count_random_bins(self, segment: Segment, advance: Advance) -> SparseHistogram:
        bins = self._zeros(BINS, dtype=torch.int32)
        for keys in self._random_keys(segment):
            gpu.count_bins(keys, bins)
            advance(keys.numel())
        return _fetch_bins(bins)

    def _cut(
        self,
        segment: Segment,
        cuts: Sequence[SegmentCut | None],
        write: Write,
        advance: Advance,
    ) -> Selected:
        size = ITEM_BYTES[segment.pair.out_dtype]
        job = _Job(cuts, self._device)

        def hand_over(block: _Block) -> None:
            block.slot.returned.wait()
            write(block.start, block.elements, block.slot.results(len(cuts), block.elements * size))
            advance(block.elements)

        leaving: _Block | None = None
        for block in self._blocks(segment):
            outs = [
                out.view(_CODES[size])
                for out in block.slot.outputs(len(cuts), block.elements * size)
            ]
            for chunk in self._chunks(segment.pair, block):
                parts = [out[chunk.low : chunk.high] for out in outs]
                self._cut_chunk(segment, block.start - segment.start, chunk, job, parts)
            if self._context.device.in_place:
                write(block.start, block.elements, outs)
                advance(block.elements)
                continue
            self._queues.send_back(block.slot, len(cuts), block.elements * size)
            if leaving is not None:
                hand_over(leaving)
            leaving = block
        if leaving is not None:
            hand_over(leaving)
        return job.fetch()

    def _cut_chunk(
        self,
        segment: Segment,
        block_start: int,
        chunk: _Chunk,
        job: _Job,
        outs: Sequence[torch.Tensor],
    ) -> None:
        kernels, exact = self._kernels, segment.pair.exact
        scores = randoms = None
        if job.random or len(job.cuts) > 1:
            scores = gpu.score_keys(chunk.base_scored, chunk.target_scored, exact=exact)
        if job.random:
            randoms = self._draw(segment, block_start + chunk.low, chunk.high - chunk.low)
        for number, (found, out) in enumerate(zip(job.cuts, outs, strict=True)):
            if found is None:
                out.copy_(chunk.target_codes)
                continue
            remainder = job.remainders[number]
            codes = chunk.base_codes, chunk.target_codes
            if scores is None:  # a single cut: its keys need not be kept
                scored = chunk.base_scored, chunk.target_scored
                done = kernels.restore_scores(
                    *scored, *codes, found.cut, remainder, out, exact=exact
                )
            else:
                keys = randoms if found.random and randoms is not None else scores
                if found.random:
                    bins = job.scores[number]
                    gpu.count_selected(keys, found.cut, remainder, scores, bins)
                done = gpu.select(keys, found.cut, remainder, *codes, out)
            count, job.remainders[number] = done
            job.selected[number] += count


class _Job:
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


class _Progress:
    """Passes progress on, but for what was told of an earlier attempt."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._told = 0
        self._done = 0

    def restart(self) -> Advance:
        """Begin another attempt."""
        self._done = 0
        return self._tell

    def _tell(self, elements: int) -> None:
        self._done += elements
        if self._done > self._told:
            self._advance(self._done - self._told)
            self._told = self._done


def _cast(codes: torch.Tensor, source: str, dtype: str) -> torch.Tensor:
    """Return codes of format `source` in format `dtype`, rounded to nearest even."""
    return codes if source == dtype else gpu.narrow(gpu.widen(codes, source), dtype)


def _fetch(counts: torch.Tensor) -> Counts:
    """Return counts from the device, once its queue is done."""
    return counts.cpu().numpy().view(np.uint32)


def _fetch_bins(bins: torch.Tensor) -> SparseHistogram:
    return sparse(_fetch(bins)[np.newaxis])


def open_gpu_engine(context: Context, stop: StopSignal, name: str) -> Engine:
    """Open an engine on a GPU, or on a processor if the GPU has no room for its buffers."""
    try:
        return GpuEngine(context, stop, name)
    except torch.OutOfMemoryError:
        context.device.note(context.observer, _GIVEN_UP.format(name))
        return CpuEngine(context, stop)


def _ignore(elements: int) -> None:
    """Hear of progress that is not counted."""
