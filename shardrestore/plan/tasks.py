"""What pass 2 does, as a list of tasks: restore a segment, copy bytes, cast elements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from ..checkpoint.folder import Checkpoint
from ..checkpoint.tensor import Tensor
from ..granularity import Granularity
from .layout import OutputShard
from .segment import Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentTask:
    """Restore one segment."""

    segment: Segment

    @property
    def shard(self) -> int:
        """Index of the output shard."""
        return self.segment.pair.target.shard

    @property
    def offset(self) -> int:
        """Position in the target's shard, for the order of work."""
        return self.segment.pair.target.locate(self.segment.start)

    @property
    def nbytes(self) -> int:
        """Bytes to read."""
        return self.segment.nbytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyTask:
    """Copy a run of the target's bytes; it may span several tensors."""

    shard: int
    offset: int
    out_offset: int
    nbytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CastTask:
    """Cast a run of elements of a tensor that is outside the region."""

    tensor: Tensor
    start: int
    elements: int

    @property
    def shard(self) -> int:
        """Index of the output shard."""
        return self.tensor.shard

    @property
    def offset(self) -> int:
        """Position in the target's shard, for the order of work."""
        return self.tensor.locate(self.start)

    @property
    def nbytes(self) -> int:
        """Bytes to read."""
        return self.tensor.count_bytes(self.elements)


Task = SegmentTask | CopyTask | CastTask


def plan_tasks(
    target: Checkpoint,
    shards: Sequence[OutputShard],
    segments: Sequence[Segment],
    granularity: Granularity,
    *,
    workers: int,
) -> list[Task]:
    """List everything that pass 2 does, front to back through as many shards as workers.

    Together the tasks write every data byte of every shard exactly once. A file
    system lets one thread at a time write to a file, so that workers in one
    shard would wait for each other.
    """
    tasks: list[Task] = [SegmentTask(segment=segment) for segment in segments]
    restored = {segment.pair.name for segment in segments}
    for number, shard in enumerate(shards):
        names = target.shards[number].header.tensors
        others = [target.tensors[name] for name in names if name not in restored]
        copied = []
        for tensor in others:
            if shard.tensors[tensor.name].dtype == tensor.dtype:
                copied.append(tensor)
            else:
                tasks += _cast_tasks(tensor, granularity.segment_elements)
        tasks += _copy_tasks(number, shard, copied, granularity.copy_bytes)
    by_shard: list[list[Task]] = [[] for _ in shards]
    for task in sorted(tasks, key=lambda task: task.offset):
        by_shard[task.shard].append(task)
    return [
        task
        for first in range(0, len(shards), workers)
        for row in zip_longest(*by_shard[first : first + workers])
        for task in row
        if task is not None
    ]


def _cast_tasks(tensor: Tensor, most_elements: int) -> Iterator[CastTask]:
    for start in range(0, tensor.elements, most_elements):
        elements = min(most_elements, tensor.elements - start)
        yield CastTask(tensor=tensor, start=start, elements=elements)


def _copy_tasks(
    number: int, shard: OutputShard, tensors: Sequence[Tensor], most_bytes: int
) -> Iterator[CopyTask]:
    """Yield copies of whole runs of tensors that stay neighbours in the output."""
    run: tuple[int, int, int] | None = None  # offset, out_offset, nbytes
    for tensor in [*sorted(tensors, key=lambda tensor: (tensor.offset, tensor.nbytes)), None]:
        if tensor is not None and run is not None:
            offset, out_offset, nbytes = run
            out = shard.tensors[tensor.name].offset
            if (tensor.offset, out) == (offset + nbytes, out_offset + nbytes):
                run = offset, out_offset, nbytes + tensor.nbytes
                continue
        if run is not None:
            offset, out_offset, nbytes = run
            for begin in range(0, nbytes, most_bytes):
                yield CopyTask(
                    shard=number,
                    offset=offset + begin,
                    out_offset=out_offset + begin,
                    nbytes=min(most_bytes, nbytes - begin),
                )
        if tensor is not None:
            run = tensor.offset, shard.tensors[tensor.name].offset, tensor.nbytes
