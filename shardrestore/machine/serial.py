"""Tasks one after the other, in the caller's thread: what happens is the same every time."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .executor import Listener, Result, Results, Stage, Task, Worker, do_nothing


class SerialExecutor:
    """Runs a stage with one worker, which does a task when its result is asked for."""

    def run(
        self,
        stage: Stage[Task, Worker, Result],
        tasks: Iterable[Task],
        workers: int,
        listener: Listener,
        hang_up: Callable[[], None] = do_nothing,
    ) -> Results[Task, Result]:
        """Yield each task with its result, in order."""
        worker = stage.open_worker(SerialControl(listener))
        for task in tasks:
            yield task, stage.work(worker, task)


class SerialControl:
    """Speaks to a listener directly; nothing can ask the worker to stop.

    Parameters
    ----------
    listener : Listener
    """

    number = 0

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def check(self) -> None:
        """Go on."""

    def advance(self, nbytes: int) -> None:
        """Pass progress on."""
        self._listener.advance(nbytes)

    def note(self, remark: str) -> None:
        """Pass a remark on."""
        self._listener.note(remark)
