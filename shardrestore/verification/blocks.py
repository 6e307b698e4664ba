"""What one worker holds: block buffers, and scratch for the chunk that it looks at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checkpoint.model import Model
from ..checkpoint.reader import read_stored
from ..checkpoint.tensor import Tensor
from ..formats import FORMATS
from ..kernels.casting import Caster, view_codes
from ..kernels.interface import Codes, Kernels, Keys
from ..machine.executor import Control
from ..pairing.pairs import Pair
from ..plan.segment import Segment
from ..scores.score import Score
from ..selection.stream import stream_words
from .layout import PlacedTensor

_UNIT_BYTES = 24
"""Divided by the size of every element, of 4 and 6 bits too: blocks hold whole ones."""

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of elements on their way through the comparison; arrays are views."""

    start: int
    """Index of the first element within the tensor."""
    keys: Keys
    base: Codes
    """The base's elements in the output's format."""
    target: Codes
    """The target's elements in the output's format."""
    output: Codes


class Blocks:
    """Buffers and scratch of one worker, allocated once and used for every task.

    Parameters
    ----------
    base, target : Model
    kernels : Kernels
        For the definitions of score, random keys and casts alone.
    score : Score
        What keys are of.
    seed : int or None
        Seed of the keys; None where they are scores.
    block_bytes, chunk_elements : int
        How much is read at once, and looked at together.
    control : Control
        Asked before each block.
    """

    def __init__(
        self,
        base: Model,
        target: Model,
        kernels: Kernels,
        score: Score,
        seed: int | None,
        block_bytes: int,
        chunk_elements: int,
        control: Control,
    ) -> None:
        self._base = base
        self._target = target
        self._kernels = kernels
        self._score = score
        self._seed = seed
        self._control = control
        self._block_bytes = block_bytes
        self._base_buffer, self._target_buffer, self._output_buffer = (
            np.empty(block_bytes, np.uint8) for _ in range(3)
        )
        self.chunk_elements = chunk_elements
        self._keys = np.empty(chunk_elements, np.uint32)
        self._caster = Caster(kernels, chunk_elements)

    def keys(self, segment: Segment) -> Iterator[Keys]:
        """Yield the keys of a segment chunk by chunk; random keys need no weights."""
        if self._seed is not None:
            for low, high in _spans(segment.elements, self.chunk_elements):
                self._control.check()
                yield self._random_keys(segment, segment.start + low, high - low)
            return
        for _, elements in self._read_blocks(segment, None):
            for low, high in _spans(elements, self.chunk_elements):
                yield self._score_keys(segment.pair, low, high)

    def chunks(self, segment: Segment, placed: PlacedTensor) -> Iterator[Chunk]:
        """Yield the elements of a segment, of all three sides, chunk by chunk."""
        pair = segment.pair
        for start, elements in self._read_blocks(segment, placed):
            for low, high in _spans(elements, self.chunk_elements):
                if self._seed is None:
                    keys = self._score_keys(pair, low, high)
                else:
                    keys = self._random_keys(segment, start + low, high - low)
                base = view_codes(self._base_buffer, pair.base.dtype, low, high)
                target = view_codes(self._target_buffer, pair.target.dtype, low, high)
                yield Chunk(
                    start + low,
                    keys,
                    self._caster.cast(base, pair.base.dtype, pair.out_dtype, 0),
                    self._caster.cast(target, pair.target.dtype, pair.out_dtype, 1),
                    view_codes(self._output_buffer, placed.tensor.dtype, low, high),
                )

    def cast_chunks(
        self, tensor: Tensor, placed: PlacedTensor, start: int, elements: int
    ) -> Iterator[tuple[int, Codes, Codes]]:
        """Yield first element, the target's codes in the output's format, the output's codes."""
        step = self._block_bytes // _widest(tensor.dtype, placed.tensor.dtype)
        for begin, end in _spans(elements, step):
            self._control.check()
            self._read_target(tensor, start + begin, end - begin)
            self._read_output(placed, start + begin, end - begin)
            for low, high in _spans(end - begin, self.chunk_elements):
                codes = view_codes(self._target_buffer, tensor.dtype, low, high)
                yield (
                    start + begin + low,
                    self._caster.cast(codes, tensor.dtype, placed.tensor.dtype, 1),
                    view_codes(self._output_buffer, placed.tensor.dtype, low, high),
                )

    def raw_blocks(
        self, tensor: Tensor, placed: PlacedTensor, start: int, elements: int
    ) -> Iterator[tuple[int, Bytes, Bytes]]:
        """Yield first element, the target's bytes and the output's bytes, of any format."""
        step = max(self._block_bytes // _UNIT_BYTES, 1) * _UNIT_BYTES * 8
        step //= FORMATS[tensor.dtype].bits
        for begin, end in _spans(elements, step):
            self._control.check()
            self._read_target(tensor, start + begin, end - begin)
            self._read_output(placed, start + begin, end - begin)
            nbytes = tensor.count_bytes(end - begin)
            yield start + begin, self._target_buffer[:nbytes], self._output_buffer[:nbytes]

    def _read_blocks(
        self, segment: Segment, placed: PlacedTensor | None
    ) -> Iterator[tuple[int, int]]:
        """Read a segment block by block; yield each block's first element and length."""
        pair = segment.pair
        step = self._block_bytes // _widest(pair.base.dtype, pair.target.dtype, pair.out_dtype)
        for low, high in _spans(segment.elements, step):
            self._control.check()
            start, elements = segment.start + low, high - low
            self._base.reader.read(pair.base, start, elements, self._base_buffer.data)
            self._read_target(pair.target, start, elements)
            if placed is not None:
                self._read_output(placed, start, elements)
            yield start, elements

    def _read_target(self, tensor: Tensor, start: int, elements: int) -> None:
        self._target.reader.read(tensor, start, elements, self._target_buffer.data)

    def _read_output(self, placed: PlacedTensor, start: int, elements: int) -> None:
        out = self._output_buffer.data
        read_stored(placed.source, placed.tensor, start, elements, out)

    def _score_keys(self, pair: Pair, low: int, high: int) -> Keys:
        """Return the keys of elements in the buffers, scored as the pair is."""
        sides: list[Any] = []
        for number, (buffer, dtype) in enumerate(
            ((self._base_buffer, pair.base.dtype), (self._target_buffer, pair.target.dtype))
        ):
            # Scores are those of what would be written.
            codes: Any = view_codes(buffer, dtype, low, high)
            codes = self._caster.cast(codes, dtype, pair.out_dtype, number)
            if not pair.exact:
                codes = self._caster.values(codes, pair.out_dtype, number)
            sides.append(codes)
        keys = self._keys[: high - low]
        self._kernels.score_keys(self._score, sides[0], sides[1], keys)
        return keys

    def _random_keys(self, segment: Segment, start: int, elements: int) -> Keys:
        keys = self._keys[:elements]
        words = stream_words(self._seed or 0, segment.stream, segment.index)
        self._kernels.random_keys(*words, start - segment.start, keys)
        return keys


def _spans(total: int, step: int) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each run of at most `step` out of `total`."""
    for begin in range(0, total, step):
        yield begin, min(begin + step, total)


def _widest(*dtypes: str) -> int:
    return max(FORMATS[dtype].element_bytes for dtype in dtypes)
