"""Projected memory of a verification, and the work sized to fit it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ..checkpoint.selection import FILE_BYTES
from ..granularity import Granularity
from ..plan.memory import (
    HEADER_FACTOR,
    SEGMENT_BYTES,
    TENSOR_BYTES,
    WORKER_BYTES,
    Limits,
    Sizing,
    choose,
)

INPUTS = 3
"""Buffers of a worker: base, target and output."""

DIFFERENCE_BYTES = 1024
"""A tensor's first wrong element, as text; of a tensor there is a task at least."""

ELEMENT_SCRATCH_BYTES = 4 + 3 * 4 + 2 * 4 + 5 + 8
"""Scratch for an element of a chunk: a key, three float32 values, two codes and five
masks, and its place where everything ties."""

TURN_BYTES = 5 * 8
"""Scratch for a tie whose turn is computed: 64-bit integers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the memory of a verification depends on, besides blocks and workers."""

    granularity: Granularity
    runtime_bytes: int
    """The process before the first buffer."""
    tensors: int
    """Tensors of all three checkpoints together, and lines of their metadata."""
    header_bytes: int
    """Headers of all three; one that is not ASCII counts four times."""
    document_bytes: int
    """Memory of indexes and configurations while they are parsed."""
    files: int
    """Files beside the weights of base and target."""
    tasks: int
    """Segments of the region, and pieces of what lies outside."""


def project(load: Load, *, workers: int, block_bytes: int) -> int:
    """Return the projected peak memory of a verification in bytes.

    Parameters
    ----------
    load : Load
    workers : int
        Number of worker threads.
    block_bytes : int
        Size of each of a worker's buffers.
    """
    texts = HEADER_FACTOR * load.header_bytes + load.document_bytes
    entries = load.tensors * TENSOR_BYTES + load.files * FILE_BYTES
    tasks = load.tasks * (SEGMENT_BYTES + DIFFERENCE_BYTES)
    sizes = load.granularity
    scratch = sizes.compared_elements * ELEMENT_SCRATCH_BYTES + sizes.turns * TURN_BYTES
    worker = WORKER_BYTES + INPUTS * block_bytes + scratch
    return load.runtime_bytes + texts + entries + tasks + workers * worker


def fit(load: Load, *, max_workers: int, max_memory_bytes: int) -> Sizing:
    """Choose workers and block size for a budget: blocks shrink first, then workers go.

    Raises
    ------
    MemoryBudgetError
        If one worker with the smallest blocks needs more than the budget.
    """
    limits = Limits(workers=max_workers, max_memory_bytes=max_memory_bytes)
    return choose(
        partial(project, load),
        load.runtime_bytes,
        limits,
        "verifying needs",
        load.granularity.block_bytes,
        load.granularity.smallest_block_bytes,
    )
