"""Pass 2: read both inputs again and write one model for every cut.

The scores of a chunk are computed once and cut as often as there are outputs.
What lies outside a cut's region is the target's, cast if the output is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from ..checkpoint.entry import show_name
from ..engine.choice import open_engine
from ..engine.interface import Selected
from ..engine.job import Job
from ..engine.workspace import as_bytes
from ..errors import NonFiniteError
from ..machine.executor import Control, Stage
from ..machine.progress import in_units
from ..output.files import ShardFiles
from ..output.staging import Staging
from ..plan.layout import OutputShard, OutputTensor
from ..plan.segment import Segment
from ..plan.tasks import CastTask, CopyTask, SegmentTask, Task, plan_tasks
from ..selection.histogram import Histogram
from .context import Context
from .cut import PlacedCut
from .writers import Writers


@dataclass(slots=True, kw_only=True)
class Restored:
    """What pass 2 did for one cut, in one shard or in all."""

    selected: dict[str, int] = field(default_factory=dict)
    """Restored elements of each tensor of the cut's region that has any element."""
    scores: Histogram | None = None
    """Scores of the selected elements; counted for random cuts alone."""

    def add(self, other: Restored) -> None:
        """Add what was done in another shard, or in another part of the same."""
        for name, count in other.selected.items():
            self.selected[name] = self.selected.get(name, 0) + count
        if other.scores is not None:
            self.scores = self.scores or Histogram.empty()
            self.scores.exact += other.scores.exact
            self.scores.binned += other.scores.binned


ShardResult = Sequence[Restored]
"""What was done in one shard, for each cut."""


def restore(
    context: Context,
    segments: Sequence[Segment],
    twins: Sequence[Segment],
    shards: Sequence[OutputShard],
    cuts: Sequence[PlacedCut],
    outputs: Sequence[Staging],
    finished: Mapping[int, ShardResult],
    completed: Callable[[int, ShardResult], None],
    dispatch: Callable[[int], None] | None = None,
) -> list[Restored]:
    """Write the shards of one model for every cut.

    Parameters
    ----------
    context : Context
    segments, twins : sequence of Segment
        All regions together, and the tied heads that repeat parts of them.
    shards : sequence of OutputShard
        What to write, see ``lay_out``.
    cuts : sequence of PlacedCut
    outputs : sequence of Staging
        Where each cut's shards are staged, under their own names.
    finished : mapping
        Shards that an earlier run has completed in all outputs, by their number.
    completed : callable
        Called with number and result of each shard that is safely on disk.
    dispatch : callable, optional
        Takes a complete shard off the disk, by its number. Shards are then written one
        after the other, and each has left before the next is begun; the caller's thread
        waits meanwhile. It reports the shard's bytes to the observer once more.

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
    job, at_once = context.job, context.job.sizing.workers
    everything = plan_tasks(
        job.target_files, shards, [*segments, *twins], job.granularity, workers=at_once
    )
    tasks = [task for task in everything if task.shard not in finished]
    left = [number for number in range(len(shards)) if number not in finished]
    rounds = [set(left)] if dispatch is None else [{number} for number in left]
    ledger = Ledger(cuts, finished)

    def complete(shard: int, result: ShardResult) -> None:
        job.base.check_unchanged()
        job.target.check_unchanged()
        completed(shard, result)

    name, total_bytes = "restore", sum(task.nbytes for task in tasks)
    if dispatch is not None:
        name = "restore_and_push"
        total_bytes += sum(shards[n].nbytes for n in left)
    with (
        Writers(shards, tasks, outputs, at_once, complete) as writers,
        context.observed(name, total_bytes),
    ):
        open_worker = partial(_Restorer, job, shards, cuts, writers.files)
        stage = Stage(name=name, open_worker=open_worker, work=_Restorer.do)
        for numbers in rounds:
            of_round = [task for task in tasks if task.shard in numbers]
            for number in numbers - {task.shard for task in of_round}:
                writers.begin(number)  # a shard without a byte of data
                writers.complete(number, ledger.close(number))
            with context.run(stage, writers.draw(of_round)) as results:
                _fold(results, ledger, writers)
            writers.wait()
            if dispatch is not None:
                dispatch(*numbers)
    return ledger.totals


def _fold(
    results: Iterable[tuple[Task, Selected | None]], ledger: Ledger, writers: Writers[ShardResult]
) -> None:
    """Note what was done, and complete each shard whose last task has come back."""
    for task, selected in results:
        if isinstance(task, SegmentTask) and selected is not None:
            ledger.note(task.segment, selected)
        if writers.is_last(task.shard):
            writers.complete(task.shard, ledger.close(task.shard))


class Ledger:
    """What was done, shard by shard while they are written, and in all.

    Parameters
    ----------
    cuts : sequence of PlacedCut
    finished : mapping
        Shards that were done before, by their number.
    """

    def __init__(self, cuts: Sequence[PlacedCut], finished: Mapping[int, ShardResult]) -> None:
        self.totals = [Restored() for _ in cuts]
        self._cuts = cuts
        self._open: dict[int, list[Restored]] = {}
        for result in finished.values():
            self._add(result)

    def note(self, segment: Segment, selected: Selected) -> None:
        """Note what each cut selected in a segment; a tied head's repeats its embedding's."""
        pair = segment.pair
        if pair.twin:
            return
        parts = self._open.setdefault(pair.target.shard, [Restored() for _ in self._cuts])
        for placed, part, count in zip(self._cuts, parts, selected.elements, strict=True):
            if placed.members[segment.number]:
                part.selected[pair.name] = part.selected.get(pair.name, 0) + count
        for number, histogram in selected.scores.items():
            scores = parts[number].scores = parts[number].scores or Histogram.empty()
            scores.add(histogram, exact=pair.exact)

    def close(self, shard: int) -> ShardResult:
        """Add a complete shard to the totals; return what was done in it."""
        result = self._open.pop(shard, [Restored() for _ in self._cuts])
        self._add(result)
        return result

    def _add(self, result: ShardResult) -> None:
        for total, part in zip(self.totals, result, strict=True):
            total.add(part)


class _Restorer:
    """One worker of pass 2."""

    def __init__(
        self,
        job: Job,
        shards: Sequence[OutputShard],
        cuts: Sequence[PlacedCut],
        files: ShardFiles,
        control: Control,
    ) -> None:
        self._engine = open_engine(job, control)
        self._target = job.target_files
        self._allow_nonfinite = job.allow_nonfinite
        self._shards = shards
        self._cuts = cuts
        self._files = files
        self._control = control

    def do(self, task: Task) -> Selected | None:
        """Do a task; return what the cuts selected in a segment."""
        match task:
            case SegmentTask():
                return self._restore(task.segment)
            case CopyTask():
                self._copy(task)
            case CastTask():
                self._cast(task)
        return None

    def _write(self, shard: int, offset: int, parts: Sequence[memoryview]) -> None:
        """Write each output's part of a shard."""
        for writer, part in zip(self._files.get(shard), parts, strict=True):
            writer.write(offset, part)
        self._files.wrote(sum(map(len, parts)))

    def _copy(self, task: CopyTask) -> None:
        source = self._target.shards[task.shard].source
        space = self._engine.space
        buffer = as_bytes(space.target_buffer)
        space.expect(source, task.offset, task.nbytes)
        for begin in range(0, task.nbytes, len(buffer)):
            self._control.check()
            part = buffer[: min(len(buffer), task.nbytes - begin)]
            source.read_into(task.offset + begin, part)
            self._write(task.shard, task.out_offset + begin, [part] * len(self._cuts))
            self._control.advance(len(part))

    def _cast(self, task: CastTask) -> None:
        space, tensor = self._engine.space, task.tensor
        output = self._shards[task.shard].tensors[tensor.name]
        for start, chunk in space.target_chunks(tensor, task.start, task.elements):
            codes = space.cast(chunk, tensor.dtype, output.dtype, 0)
            overflows = space.count_overflows(chunk, tensor.dtype, codes, output.dtype)
            if overflows and not self._allow_nonfinite:
                raise NonFiniteError(
                    f"{show_name(tensor.name)}: {overflows} weights near element {start} are too "
                    f"large for {output.dtype}: choose another --dtype, or pass --allow-nonfinite "
                    "(they then become infinite)"
                )
            parts = [as_bytes(codes)] * len(self._cuts)
            self._write(task.shard, output.locate(start), parts)
            self._control.advance(chunk.nbytes)

    def _restore(self, segment: Segment) -> Selected:
        pair = segment.pair
        output = self._shards[pair.target.shard].tensors[pair.name]
        sink = _ShardSink(partial(self._write, pair.target.shard), output)
        cuts = [placed.meet(segment) for placed in self._cuts]
        advance = in_units(self._control, segment.element_bytes)
        return self._engine.cut(segment, cuts, sink, advance)


class _ShardSink:
    """Where a tensor's blocks go: to their place in the shard of each output."""

    def __init__(
        self, write: Callable[[int, Sequence[memoryview]], None], output: OutputTensor
    ) -> None:
        self._write = write
        self._output = output

    def write(self, start: int, elements: int, parts: Sequence[memoryview]) -> None:
        """Write a block of each output."""
        self._write(self._output.locate(start), parts)

    def restart(self) -> None:
        """Do nothing: blocks that come again are written over themselves."""
