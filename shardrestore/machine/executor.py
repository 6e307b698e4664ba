"""How work is carried out: stages of independent tasks, whose results the caller folds.

A stage says what one worker opens and what it makes of a task. An executor runs it: on threads
(``threads``), in the calling thread (``serial``), or in other processes, to which a stage and
its tasks can be pickled. Workers return results and write nothing that others read; counting,
work files and the journal are the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Task = TypeVar("Task")
Worker = TypeVar("Worker")
Result = TypeVar("Result")

Results = Generator[tuple[Task, Result], None, None]
"""Tasks with their results, as they are done; to close it stops what is left."""


class Stopped(Exception):
    """Raised within a worker after another one failed or the user interrupted."""


class Control(Protocol):
    """What a worker hears from its executor, and says to the caller while a task is at work."""

    @property
    def number(self) -> int:
        """Which of the stage's workers it is, from 0."""

    def check(self) -> None:
        """Raise ``Stopped`` if the work is to end: called between blocks."""

    def advance(self, nbytes: int) -> None:
        """Say that `nbytes` more are done; raise ``Stopped`` as ``check`` does."""

    def note(self, remark: str) -> None:
        """Say something that the user should know."""


class Listener(Protocol):
    """What workers say to the caller: one call at a time, though from different threads."""

    def advance(self, nbytes: int) -> None:
        """Hear that `nbytes` more are done."""

    def note(self, remark: str) -> None:
        """Hear something that the user should know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage(Generic[Task, Worker, Result]):
    """One kind of work."""

    name: str
    """As observers know it; see ``machine.progress.STAGES``."""
    open_worker: Callable[[Control], Worker]
    """Called once for each worker, where that works: opens what it reads, makes its buffers."""
    work: Callable[[Worker, Task], Result]
    """Does a task; its result belongs to the caller."""


class Executor(Protocol):
    """Carries out the tasks of a stage."""

    def run(
        self,
        stage: Stage[Task, Worker, Result],
        tasks: Iterable[Task],
        workers: int,
        listener: Listener,
        hang_up: Callable[[], None] = ...,
    ) -> Results[Task, Result]:
        """Yield each task with its result, in any order.

        The caller closes what is returned: workers have ended then. The first failure of
        a worker stops the others and is raised.

        Parameters
        ----------
        stage : Stage
        tasks : iterable
            Taken one by one, in order and as workers become free, in the caller's process. No
            two are taken at once, but perhaps by another thread than the caller's.
        workers : int
            How many tasks are at work at once.
        listener : Listener
            Hears of progress while tasks are at work.
        hang_up : callable
            Called after an interruption: it wakes workers that wait where they hear of none.
        """


def do_nothing() -> None:
    """Leave workers alone: they look up by themselves."""


@contextmanager
def running(
    executor: Executor,
    stage: Stage[Task, Worker, Result],
    tasks: Iterable[Task],
    workers: int,
    listener: Listener,
    hang_up: Callable[[], None] = do_nothing,
) -> Iterator[Iterator[tuple[Task, Result]]]:
    """Run a stage; when the context ends, however it does, so have its workers.

    A generator alone would be closed late: the traceback of what its caller raises keeps it.
    """
    with closing(executor.run(stage, tasks, workers, listener, hang_up)) as results:
        yield results
