"""What one worker holds: block buffers, and scratch for the chunk in the kernels.

A block is read into the buffers, then goes through the kernels in chunks that
fit the processor's cache. ``Workspace.chunks`` yields, for each chunk, the two
arrays that are scored and the two that may be written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checkpoint.model import Model
from ..checkpoint.source import ByteSource
from ..checkpoint.tensor import Tensor
from ..formats import FORMATS, can_overflow
from ..kernels.casting import Caster, view_codes
from ..kernels.interface import Codes, Keys
from ..machine.executor import Control
from ..pairing.pairs import Pair
from ..plan.segment import Segment
from ..selection.stream import stream_words
from .job import Job

Buffers = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
"""For a block of the base, and one of the target."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of elements on their way through the kernels; arrays are views."""

    start: int
    """Index of the first element within the tensor."""
    block_start: int
    """Index of the first element within the block in the buffers."""
    base_raw: Codes
    """The base's elements as they are in its file."""
    target_raw: Codes
    """The target's elements as they are in its file."""
    base_scored: Any
    """uint16 patterns for bfloat16 arithmetic, else float32 values."""
    target_scored: Any
    base_codes: Codes
    """The base's elements in the output's format."""
    target_codes: Codes
    """The target's elements in the output's format."""

    @property
    def elements(self) -> int:
        """Number of elements."""
        return int(self.target_codes.size)


class Workspace:
    """Buffers and scratch of one worker, allocated once and used for every segment.

    Parameters
    ----------
    job : Job
    control : Control
        Asked before each block.
    buffers : tuple of ndarray of uint8, optional
        Where blocks are read to, if there are such already.
    """

    def __init__(self, job: Job, control: Control, buffers: Buffers | None = None) -> None:
        self._job = job
        self._kernels = job.kernels
        self._score = job.score
        self._control = control
        self.block_bytes = job.sizing.block_bytes
        self.base_buffer, self.target_buffer = buffers or (
            np.empty(self.block_bytes, np.uint8),
            np.empty(self.block_bytes, np.uint8),
        )
        self._chunk_elements = job.granularity.chunk_elements
        self._keys = np.empty(self._chunk_elements, np.uint32)
        self._random_keys = np.empty(self._chunk_elements, np.uint32)
        self._caster = Caster(job.kernels, self._chunk_elements)
        self.cast = self._caster.cast

    def blocks(self, segment: Segment) -> Iterator[tuple[int, int]]:
        """Read a segment block by block; yield each block's first element and length.

        The blocks' bytes are in ``base_buffer`` and ``target_buffer``.
        """
        pair, base, target = segment.pair, self._job.base, self._job.target
        self.announce(base, pair.base, segment.start, segment.elements)
        self.announce(target, pair.target, segment.start, segment.elements)
        for start, elements in self.steps(segment):
            base.reader.read(pair.base, start, elements, as_bytes(self.base_buffer))
            target.reader.read(pair.target, start, elements, as_bytes(self.target_buffer))
            yield start, elements

    def steps(self, segment: Segment) -> Iterator[tuple[int, int]]:
        """Yield the first element and the length of each block; nothing is read."""
        pair = segment.pair
        dtypes = pair.base.dtype, pair.target.dtype, pair.out_dtype
        step = self.block_bytes // max(FORMATS[dtype].element_bytes for dtype in dtypes)
        end = segment.start + segment.elements
        for start in range(segment.start, end, step):
            self._control.check()
            yield start, min(step, end - start)

    def target_chunks(
        self, tensor: Tensor, start: int, elements: int
    ) -> Iterator[tuple[int, Codes]]:
        """Read elements of the target alone; yield each chunk's first element and its codes."""
        step = self.block_bytes // tensor.element_bytes
        self.announce(self._job.target, tensor, start, elements)
        for first in range(start, start + elements, step):
            self._control.check()
            count = min(step, start + elements - first)
            self._job.target.reader.read(tensor, first, count, as_bytes(self.target_buffer))
            for low in range(0, count, self._chunk_elements):
                high = min(low + self._chunk_elements, count)
                yield first + low, view_codes(self.target_buffer, tensor.dtype, low, high)

    def announce(self, model: Model, tensor: Tensor, start: int, elements: int) -> None:
        """Announce elements of a tensor that this worker will read next, in order."""
        model.reader.announce(tensor, start, elements, self.block_bytes, self._control.check)

    def expect(self, source: ByteSource, offset: int, nbytes: int) -> None:
        """Announce bytes of a file that this worker will read next, in order."""
        source.expect(offset, nbytes, self.block_bytes, self._control.check)

    def chunks(self, pair: Pair, start: int, elements: int) -> Iterator[Chunk]:
        """Yield the block in the buffers chunk by chunk."""
        for low in range(0, elements, self._chunk_elements):
            high = min(low + self._chunk_elements, elements)
            raw = (
                view_codes(self.base_buffer, pair.base.dtype, low, high),
                view_codes(self.target_buffer, pair.target.dtype, low, high),
            )
            codes = (
                self.cast(raw[0], pair.base.dtype, pair.out_dtype, 0),
                self.cast(raw[1], pair.target.dtype, pair.out_dtype, 1),
            )
            scored: tuple[Any, Any] = codes
            if not pair.exact:
                scored = (
                    self._caster.values(codes[0], pair.out_dtype, 0),
                    self._caster.values(codes[1], pair.out_dtype, 1),
                )
            yield Chunk(start + low, low, *raw, *scored, *codes)

    def count_overflows(self, raw: Codes, source: str, codes: Codes, dtype: str) -> int:
        """Return how many finite elements of `raw` became infinite as `codes`."""
        if not can_overflow(source, dtype):
            return 0
        count = self._kernels.count_nonfinite
        return count(codes, FORMATS[dtype].exponent) - count(raw, FORMATS[source].exponent)

    def score_keys(self, chunk: Chunk) -> tuple[Keys, int]:
        """Return the chunk's score keys and its count of zero base weights."""
        keys = self._keys[: chunk.elements]
        zeros = self._kernels.score_keys(self._score, chunk.base_scored, chunk.target_scored, keys)
        return keys, zeros

    def random_keys(self, segment: Segment, start: int, elements: int) -> Keys:
        """Return the random keys of elements of a segment, at most a chunk of them."""
        keys = self._random_keys[:elements]
        words = stream_words(self._job.seed, segment.stream, segment.index)
        self._kernels.random_keys(*words, start - segment.start, keys)
        return keys

    def score_segment(self, segment: Segment) -> Iterator[Keys]:
        """Read a segment; yield its score keys chunk by chunk."""
        for start, elements in self.blocks(segment):
            for chunk in self.chunks(segment.pair, start, elements):
                yield self.score_keys(chunk)[0]

    def random_segment(self, segment: Segment) -> Iterator[Keys]:
        """Yield a segment's random keys chunk by chunk; no weight is read."""
        end = segment.start + segment.elements
        for start in range(segment.start, end, self._chunk_elements):
            self._control.check()
            yield self.random_keys(segment, start, min(self._chunk_elements, end - start))


def as_bytes(array: npt.NDArray[Any]) -> memoryview:
    """Return the bytes of a contiguous array, without a copy."""
    return memoryview(array).cast("B")  # type: ignore[arg-type]  # ndarray is a buffer
