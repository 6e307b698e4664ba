"""How finely work is cut: the sizes of segments, blocks and chunks."""

from __future__ import annotations

from dataclasses import dataclass

from .units import MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Granularity:
    """The sizes of the pieces in which a run's work is done.

    No byte of a model depends on them, except on ``segment_elements``: random keys are drawn
    segment by segment.

    Examples
    --------
    >>> Granularity(block_bytes=4096).smallest_block_bytes
    4096
    """

    segment_elements: int = 1 << 26
    """Elements of a segment, except a tensor's last one: counters stay in 32 bits.

    Part of what random keys and profiles mean: with other segments both are others.
    """

    copy_bytes: int = 1 << 26
    """Bytes that one task copies, at most."""

    block_bytes: int = MIB
    """Preferred size of a block of one input.

    Measured on a pair in the page cache, two workers on 32 MiB of L3 cache: blocks of
    4 MiB take 1.16 times as long, of 0.5 or 2 MiB the same within 3 %.
    """

    gpu_block_bytes: int = 8 * MIB
    """Preferred size of a block for a GPU: a launch takes microseconds, whatever it computes."""

    chunk_elements: int = 1 << 16
    """Elements that go through the kernels at once: their scratch stays in the L2 cache."""

    gpu_chunk_elements: int = 1 << 20
    """Preferred number of elements that a GPU's kernels take at once: of launches, a chunk takes
    some dozens, and each some microseconds."""

    compared_elements: int = 1 << 18
    """Elements that a verification looks at together.

    More than in the passes: each of NumPy's short calls takes the interpreter's lock.
    Measured on 61 million elements with two workers: 0.074 s, 0.08 to 0.13 s with half
    as many, 0.09 to 0.16 s with a quarter; with one worker 0.12 to 0.13 s each.
    """

    turns: int = 1 << 16
    """Ties whose turns a verification computes at once; at most 2^17, see ``Rule.turns``."""

    @property
    def smallest_block_bytes(self) -> int:
        """The size below which blocks do not shrink: a chunk of the widest elements."""
        return min(self.chunk_elements * 4, self.block_bytes, self.gpu_block_bytes)


DEFAULT_GRANULARITY = Granularity()
"""What every run has whose request names no other."""
