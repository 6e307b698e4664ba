"""Pass 2: read both inputs again and write one model for every cut.

The scores of a chunk are computed once and cut as often as there are outputs.
What lies outside the region is copied, or cast, from the target.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from ..checkpoint.folder import Checkpoint, Tensor
from ..checkpoint.writer import ShardWriter, Staging
from ..errors import CheckpointError
from ..kernels.interface import Codes, Kernels, Keys
from ..selection.histogram import Histogram, sparse
from ..selection.score import BINS
from ..selection.stream import SEGMENT_ELEMENTS
from .layout import OutputShard
from .memory import Sizing
from .progress import Observer
from .refine import PlacedCut
from .scan import segment_bytes
from .segment import Segment
from .workers import StopSignal, run_tasks
from .workspace import Chunk, Workspace, as_bytes

COPY_BYTES = 1 << 26
"""Size of a task that copies bytes, at most."""


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
        return self.segment.pair.target.offset + self.segment.start

    @property
    def nbytes(self) -> int:
        """Bytes to read."""
        return segment_bytes(self.segment)


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
        return self.tensor.offset + self.start

    @property
    def nbytes(self) -> int:
        """Bytes to read."""
        return self.elements * (self.tensor.nbytes // self.tensor.elements)


Task = SegmentTask | CopyTask | CastTask


def plan_tasks(
    target: Checkpoint, shards: Sequence[OutputShard], segments: Sequence[Segment]
) -> list[Task]:
    """List everything that pass 2 does, in the order of the target's files.

    Together the tasks write every data byte of every shard exactly once.
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
                tasks += _cast_tasks(tensor)
        tasks += _copy_tasks(number, shard, copied)
    return sorted(tasks, key=lambda task: (task.shard, task.offset))


def _cast_tasks(tensor: Tensor) -> Iterator[CastTask]:
    for start in range(0, tensor.elements, SEGMENT_ELEMENTS):
        elements = min(SEGMENT_ELEMENTS, tensor.elements - start)
        yield CastTask(tensor=tensor, start=start, elements=elements)


def _copy_tasks(number: int, shard: OutputShard, tensors: Sequence[Tensor]) -> Iterator[CopyTask]:
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
            for begin in range(0, nbytes, COPY_BYTES):
                yield CopyTask(
                    shard=number,
                    offset=offset + begin,
                    out_offset=out_offset + begin,
                    nbytes=min(COPY_BYTES, nbytes - begin),
                )
        if tensor is not None:
            run = tensor.offset, shard.tensors[tensor.name].offset, tensor.nbytes


@dataclass(slots=True, kw_only=True)
class Restored:
    """What pass 2 did for one cut."""

    selected: dict[str, int]
    """Restored elements of each tensor of the region, in canonical order."""
    scores: Histogram = field(default_factory=Histogram.empty)
    """Scores of the selected elements; counted for random cuts alone."""


def restore(
    base: Checkpoint,
    target: Checkpoint,
    segments: Sequence[Segment],
    twins: Sequence[Segment],
    shards: Sequence[OutputShard],
    cuts: Sequence[PlacedCut],
    outputs: Sequence[Staging],
    *,
    kernels: Kernels,
    sizing: Sizing,
    seed: int | None,
    observer: Observer,
) -> list[Restored]:
    """Write the shards of one model for every cut.

    Parameters
    ----------
    base, target : Checkpoint
    segments, twins : sequence of Segment
        The region, and the tied heads that repeat parts of it.
    shards : sequence of OutputShard
        What to write, see ``lay_out``.
    cuts : sequence of PlacedCut
    outputs : sequence of Staging
        Where each cut's shards are written, under their own names.
    kernels, sizing, seed, observer
        As for ``scan``.

    Returns
    -------
    list of Restored
        One for each cut. All shards are complete and on disk.

    Raises
    ------
    CheckpointError
        If an input cannot be read, or changed since it was scanned.
    OutputError
        If a shard cannot be written.
    """
    tasks = plan_tasks(target, shards, [*segments, *twins])
    results = [Restored(selected={segment.pair.name: 0 for segment in segments}) for _ in cuts]
    with _Writers(shards, tasks, outputs) as writers:
        lock = threading.Lock()

        def make_work(stop: StopSignal) -> Callable[[Task], None]:
            restorer = _Restorer(
                base, target, shards, cuts, writers, results, lock, kernels, sizing, seed, stop
            )

            def work(task: Task) -> None:
                restorer.do(task, observer)
                writers.done(task.shard)

            return work

        observer.begin("restore", sum(task.nbytes for task in tasks))
        try:
            run_tasks(tasks, sizing.workers, make_work)
            writers.wait()
        finally:
            observer.end()
    for placed, result in zip(cuts, results, strict=True):
        selected = sum(result.selected.values())
        if selected != placed.cut.selected:
            raise CheckpointError(
                f"{base.folder} or {target.folder} changed while it was read: "
                f"{placed.cut.selected:,} elements were to be restored, {selected:,} were"
            )
    return results


class _Writers:
    """The open shards of all outputs: each is opened by its first task, finished after its last.

    Waiting for the disk happens on a thread of its own, while the workers go on.
    """

    def __init__(
        self, shards: Sequence[OutputShard], tasks: Sequence[Task], outputs: Sequence[Staging]
    ) -> None:
        self._shards = shards
        self._outputs = outputs
        self._open: dict[int, list[ShardWriter]] = {}
        self._left = [0] * len(shards)
        for task in tasks:
            self._left[task.shard] += 1
        self._lock = threading.Lock()
        self._finisher = ThreadPoolExecutor(1, thread_name_prefix="shardrestore-sync")
        self._finished: list[Future[None]] = []

    def __enter__(self) -> _Writers:
        for number, left in enumerate(self._left):
            if not left:  # a shard without a byte of data
                self._finish(self.get(number))
        return self

    def __exit__(self, *exception: object) -> None:
        self._finisher.shutdown(wait=True, cancel_futures=True)
        for writers in self._open.values():
            for writer in writers:
                writer.close()

    def get(self, shard: int) -> list[ShardWriter]:
        """Return the writers of a shard, one for each output."""
        with self._lock:
            if shard not in self._open:
                layout = self._shards[shard]
                self._open[shard] = [
                    ShardWriter(staging.path(layout.filename), layout.prefix, layout.nbytes)
                    for staging in self._outputs
                ]
            return self._open[shard]

    def done(self, shard: int) -> None:
        """Note that a task of the shard is done; finish the shard after its last."""
        with self._lock:
            self._left[shard] -= 1
            last = self._left[shard] == 0
            writers = self._open.pop(shard) if last else []
        self._finish(writers)

    def _finish(self, writers: Sequence[ShardWriter]) -> None:
        self._finished += [self._finisher.submit(writer.finish) for writer in writers]

    def wait(self) -> None:
        """Wait until every shard is on disk; raise what went wrong."""
        for future in self._finished:
            future.result()


class _Restorer:
    """One worker of pass 2: its workspace and an output buffer for each cut."""

    def __init__(
        self,
        base: Checkpoint,
        target: Checkpoint,
        shards: Sequence[OutputShard],
        cuts: Sequence[PlacedCut],
        writers: _Writers,
        results: Sequence[Restored],
        lock: threading.Lock,
        kernels: Kernels,
        sizing: Sizing,
        seed: int | None,
        stop: StopSignal,
    ) -> None:
        self._space = Workspace(base, target, kernels, block_bytes=sizing.block_bytes, stop=stop)
        self._target = target
        self._shards = shards
        self._cuts = cuts
        self._writers = writers
        self._results = results
        self._lock = lock
        self._kernels = kernels
        self._seed = seed
        self._stop = stop
        self._out = [np.empty(sizing.block_bytes, np.uint8) for _ in cuts]
        # A random cut says nothing of the scores it selects: they are counted.
        counted = 0 if seed is None else len(cuts)
        self._selected_scores = [np.zeros((1, BINS), np.uint32) for _ in range(counted)]

    def do(self, task: Task, observer: Observer) -> None:
        match task:
            case SegmentTask():
                self._restore(task.segment, observer)
            case CopyTask():
                self._copy(task, observer)
            case CastTask():
                self._cast(task, observer)

    def _copy(self, task: CopyTask, observer: Observer) -> None:
        source = self._target.shards[task.shard].source
        buffer = as_bytes(self._space.target_buffer)
        for begin in range(0, task.nbytes, len(buffer)):
            self._stop.check()
            part = buffer[: min(len(buffer), task.nbytes - begin)]
            source.read_into(task.offset + begin, part)
            for writer in self._writers.get(task.shard):
                writer.write(task.out_offset + begin, part)
            observer.advance(len(part))

    def _cast(self, task: CastTask, observer: Observer) -> None:
        space, tensor = self._space, task.tensor
        output = self._shards[task.shard].tensors[tensor.name]
        out_size = output.nbytes // tensor.elements
        for start, chunk in space.target_chunks(tensor, task.start, task.elements):
            codes = space.cast(chunk, tensor.dtype, output.dtype, 0)
            for writer in self._writers.get(task.shard):
                writer.write(output.offset + start * out_size, as_bytes(codes))
            observer.advance(chunk.nbytes)

    def _restore(self, segment: Segment, observer: Observer) -> None:
        pair = segment.pair
        output = self._shards[pair.target.shard].tensors[pair.name]
        out_size = output.nbytes // pair.target.elements
        remainders = [placed.remainders[segment.number] for placed in self._cuts]
        selected = [0] * len(self._cuts)
        for counts in self._selected_scores:
            counts.fill(0)
        for start, elements in self._space.blocks(segment):
            for chunk in self._space.chunks(pair, start, elements):
                self._cut_chunk(segment, chunk, out_size, remainders, selected)
            writers = self._writers.get(pair.target.shard)
            for writer, out in zip(writers, self._out, strict=True):
                part = as_bytes(out)[: elements * out_size]
                writer.write(output.offset + start * out_size, part)
            observer.advance(elements * segment_bytes(segment) // segment.elements)
        if not pair.twin:
            with self._lock:
                for result, count in zip(self._results, selected, strict=True):
                    result.selected[pair.name] += count
                for number, counts in enumerate(self._selected_scores):
                    self._results[number].scores.add(sparse(counts), exact=pair.exact)

    def _cut_chunk(
        self,
        segment: Segment,
        chunk: Chunk,
        out_size: int,
        remainders: list[int],
        selected: list[int],
    ) -> None:
        scores, _ = self._space.score_keys(chunk)
        keys = scores
        if self._seed is not None:
            keys = self._space.random_keys(segment, chunk.start, chunk.elements, self._seed)
        low = chunk.block_start * out_size
        high = low + chunk.elements * out_size
        for number, placed in enumerate(self._cuts):
            out: Codes = self._out[number][low:high].view(chunk.target_codes.dtype)
            if self._selected_scores:
                self._count_selected(number, keys, remainders[number], scores)
            cut = placed.cut
            count, remainders[number] = self._kernels.select(
                keys,
                cut.first,
                cut.span,
                cut.tie_first,
                cut.tie_span,
                remainders[number],
                cut.ties_taken,
                cut.ties,
                chunk.base_codes,
                chunk.target_codes,
                out,
            )
            selected[number] += count

    def _count_selected(self, number: int, keys: Keys, remainder: int, scores: Keys) -> None:
        cut = self._cuts[number].cut
        self._kernels.count_selected(
            keys,
            cut.first,
            cut.span,
            cut.tie_first,
            cut.tie_span,
            remainder,
            cut.ties_taken,
            cut.ties,
            scores,
            self._selected_scores[number],
        )
