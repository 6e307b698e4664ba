"""Tasks on threads of this process, which share its buffers' cache, files and memory."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic

from ..errors import MemoryBudgetError
from .executor import (
    Listener,
    Result,
    Results,
    Stage,
    Stopped,
    Task,
    Worker,
    do_nothing,
)

POLL_SECONDS = 0.5
"""How often a thread that waits for others looks up: a Ctrl-C that comes just as the main
thread begins to wait does not wake it."""


class StopSignal:
    """Asks all workers to stop at their next block."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask everyone to stop."""
        self._event.set()

    def check(self) -> None:
        """Raise ``Stopped`` if someone asked."""
        if self._event.is_set():
            raise Stopped


class ThreadExecutor:
    """Runs a stage on threads.

    Parameters
    ----------
    abandons : bool
        Whether workers that have been asked to stop are left alone: they end by themselves, or
        with the process. Otherwise they are waited for, for a block of each at most.
    advice : str
        What to do when the system allows no more threads; it may name the number of `workers`.
    """

    def __init__(
        self, *, abandons: bool = False, advice: str = "lower --workers from {workers}"
    ) -> None:
        self._abandons = abandons
        self._advice = advice

    def run(
        self,
        stage: Stage[Task, Worker, Result],
        tasks: Iterable[Task],
        workers: int,
        listener: Listener,
        hang_up: Callable[[], None] = do_nothing,
    ) -> Results[Task, Result]:
        """Yield each task with its result, as they are done."""
        crew = _Crew(stage, tasks, workers, listener, daemon=self._abandons)
        try:
            self._start(crew, workers)
            yield from crew.results()
        except BaseException:  # Ctrl-C here, or whatever has closed this in the caller
            hang_up()
            raise
        finally:
            crew.stop()
            if not self._abandons:
                crew.join()
        crew.raise_failure()

    def _start(self, crew: _Crew[Task, Worker, Result], workers: int) -> None:
        try:
            crew.start()
        except RuntimeError as error:  # the system allows no more threads
            advice = self._advice.format(workers=workers)
            raise MemoryBudgetError(f"{error}: {advice}") from error


@dataclass(frozen=True, slots=True)
class _End:
    """A worker has ended."""

    failed: bool


class _Crew(Generic[Task, Worker, Result]):
    """The threads of one stage: tasks are drawn under a lock, results pass through a queue.

    The queue has room for one result of each worker: if the caller is slower than they are,
    they wait for it, and what is held does not grow with the model.
    """

    def __init__(
        self,
        stage: Stage[Task, Worker, Result],
        tasks: Iterable[Task],
        workers: int,
        listener: Listener,
        *,
        daemon: bool,
    ) -> None:
        self._stage = stage
        self._tasks = iter(tasks)
        self._listener = listener
        self._drawing = threading.Lock()
        self._telling = threading.Lock()
        self._stop = StopSignal()
        self._room = threading.Semaphore(workers)
        self._done: queue.SimpleQueue[tuple[Task, Result] | _End] = queue.SimpleQueue()
        self._failures: dict[int, BaseException] = {}
        self._threads = [
            threading.Thread(
                target=self._work, args=(number,), name=f"shardrestore-{number}", daemon=daemon
            )
            for number in range(workers)
        ]

    def start(self) -> None:
        """Start all threads, or raise RuntimeError."""
        for thread in self._threads:
            thread.start()

    def results(self) -> Iterator[tuple[Task, Result]]:
        """Yield results until all workers have ended, or one failed."""
        working = len(self._threads)
        while working:
            done = self._get()
            if not isinstance(done, _End):
                self._room.release()
                yield done
                continue
            working -= 1
            if done.failed:
                return

    def _get(self) -> tuple[Task, Result] | _End:
        while True:
            with contextlib.suppress(queue.Empty):
                return self._done.get(timeout=POLL_SECONDS)

    def stop(self) -> None:
        """Ask workers to stop, also those that wait for room."""
        self._stop.set()
        self._room.release(len(self._threads))

    def join(self) -> None:
        """Wait until all workers have ended."""
        for thread in self._threads:
            if thread.ident is not None:  # an interruption may have come before it was started
                thread.join()

    def raise_failure(self) -> None:
        """Raise what the first of the workers has failed of, if it is more than being stopped."""
        for _, failure in sorted(self._failures.items(), key=lambda item: item[0]):
            if not isinstance(failure, Stopped):
                raise failure

    def _work(self, number: int) -> None:
        try:
            self._do_tasks(_ThreadControl(number, self._stop, self._telling, self._listener))
        except BaseException as error:
            self._failures[number] = error
            self._done.put(_End(failed=True))
        else:
            self._done.put(_End(failed=False))

    def _do_tasks(self, control: _ThreadControl) -> None:
        worker, nothing = self._stage.open_worker(control), object()
        while True:
            control.check()
            with self._drawing:
                task: Any = next(self._tasks, nothing)
            if task is nothing:
                return
            result = self._stage.work(worker, task)
            self._room.acquire()
            control.check()
            self._done.put((task, result))


class _ThreadControl:
    """Speaks to the caller's listener, one thread at a time."""

    def __init__(
        self, number: int, stop: StopSignal, telling: threading.Lock, listener: Listener
    ) -> None:
        self.number = number
        self.check = stop.check
        self._telling = telling
        self._listener = listener

    def advance(self, nbytes: int) -> None:
        """Pass progress on; after a stop there is no listener."""
        with self._telling:
            self.check()
            self._listener.advance(nbytes)

    def note(self, remark: str) -> None:
        """Pass a remark on."""
        with self._telling:
            self._listener.note(remark)
