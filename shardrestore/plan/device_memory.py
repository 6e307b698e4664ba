"""Projected memory on a GPU: what a run holds there, and the work sized to fit it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..errors import MemoryBudgetError
from ..granularity import Granularity
from ..selection.score import BINS, LOWS
from ..units import MIB, format_mib
from .memory import Limits, Sizing, Workload

ELEMENT_SCRATCH_BYTES = 40
"""Scratch for an element of a chunk: its codes and values in both formats, its keys, and what
the kernels add to that, see ``kernels.gpu.SCRATCH_BYTES_PER_ELEMENT``.

Measured on torch's processor device: 33 where two formats are cast to a third, 21 for bfloat16.
"""

COUNTER_BYTES = 33 * (BINS + 1) * 4 + BINS * 4
"""Counters of bins, and what counting takes besides: see ``kernels.gpu.TABLE_BYTES``."""

ALLOCATOR_BYTES = 22 * MIB
"""What torch's allocator holds beyond what it is asked for, for each worker: it takes memory in
pieces of 2 and of 20 MiB, and keeps it apart for each stream."""

LOW_COUNTER_BYTES = 3 * 4
"""A counter of low bits, and what counting takes besides."""


def project_device(load: Workload, *, workers: int, block_bytes: int, chunk_elements: int) -> int:
    """Return the projected memory on each GPU in bytes, besides what its driver takes.

    Parameters
    ----------
    load : Workload
    workers : int
        Number of workers, which take turns with the GPUs.
    block_bytes : int
        Size of each of a worker's buffers.
    chunk_elements : int
        Elements of a block that are scored at once.
    """
    blocks = load.slots * (2 + load.cuts) * block_bytes
    counters = COUNTER_BYTES + load.random * BINS * 4
    lows = max(load.refined, load.random) * LOWS * LOW_COUNTER_BYTES
    scratch = chunk_elements * ELEMENT_SCRATCH_BYTES
    worker = ALLOCATOR_BYTES + blocks + counters + lows + scratch
    return -(-workers // load.gpus) * worker


def fit_device(load: Workload, sizing: Sizing, limits: Limits) -> Sizing:
    """Fit work that fits into host memory into that of its GPUs, if it has any.

    Blocks shrink first, as long as they hold a chunk, then workers go; chunks shrink last.

    Raises
    ------
    MemoryBudgetError
        If one worker with the smallest chunks needs more than the budget.
    """
    if not load.gpus:
        return sizing
    allowed = limits.max_device_memory_bytes
    if load.unified:
        allowed = min(allowed, limits.max_memory_bytes - sizing.projected_bytes)
    needed = 0
    for workers, block_bytes, chunk_elements in _choices(sizing, load.granularity):
        needed = project_device(
            load, workers=workers, block_bytes=block_bytes, chunk_elements=chunk_elements
        )
        if needed <= allowed:
            return replace(
                sizing,
                workers=workers,
                block_bytes=block_bytes,
                chunk_elements=chunk_elements,
                projected_bytes=sizing.projected_bytes + needed * load.unified,
                projected_device_bytes=needed,
            )
    raise MemoryBudgetError(
        f"this run needs at least {format_mib(needed)} of memory on a GPU, "
        f"{format_mib(allowed)} are allowed: raise --max-device-memory"
        f"{' and --max-memory' * load.unified}, or pass --device cpu"
    )


def _choices(sizing: Sizing, sizes: Granularity) -> Iterator[tuple[int, int, int]]:
    """Yield workers, block sizes and chunk sizes, the best first and the smallest last."""
    preferred = min(sizes.gpu_chunk_elements, sizing.block_bytes // 2)
    chunk_elements = max(preferred, sizes.chunk_elements)
    while chunk_elements >= sizes.chunk_elements:
        # A chunk of 16-bit weights.
        least_bytes = max(chunk_elements * 2, sizes.smallest_block_bytes)
        for workers in range(sizing.workers, 0, -1):
            block_bytes = sizing.block_bytes
            while block_bytes >= min(least_bytes, sizing.block_bytes):
                yield workers, block_bytes, chunk_elements
                block_bytes //= 2
        chunk_elements //= 2
