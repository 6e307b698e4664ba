"""What all passes of a run work with, in the process that folds their results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..engine.job import Job
from ..machine.executor import Executor, Result, Stage, Task, Worker, running
from ..machine.progress import Observer
from ..plan.segment import Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A job, and the means to carry it out."""

    job: Job
    executor: Executor
    observer: Observer
    folder: Path
    """Where work files are kept, on a disk: ``/tmp`` may be memory."""

    def run(
        self, stage: Stage[Task, Worker, Result], tasks: Iterable[Task]
    ) -> AbstractContextManager[Iterator[tuple[Task, Result]]]:
        """Run tasks on the job's workers; see ``machine.executor.running``."""
        workers = self.job.sizing.workers
        return running(self.executor, stage, tasks, workers, _Listener(self))

    @contextmanager
    def observed(self, stage: str, nbytes: int) -> Iterator[None]:
        """Say when a stage begins and when it ends."""
        self.observer.begin(stage, nbytes)
        try:
            yield
        finally:
            self.observer.end()

    @contextmanager
    def run_observed(
        self, stage: Stage[Segment, Worker, Result], segments: Sequence[Segment]
    ) -> Iterator[Iterator[tuple[Segment, Result]]]:
        """Run a stage over segments, as a stage that observers know."""
        with (
            self.observed(stage.name, sum(segment.nbytes for segment in segments)),
            self.run(stage, segments) as results,
        ):
            yield results


class _Listener:
    """Passes on what workers say; what becomes of a device is said once, and remembered."""

    def __init__(self, context: Context) -> None:
        self._device = context.job.device
        self._observer = context.observer
        self.advance = context.observer.advance

    def note(self, remark: str) -> None:
        self._device.note(self._observer, remark)
