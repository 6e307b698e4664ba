"""Worker threads that share a list of tasks and stop together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from ..errors import MemoryBudgetError

Task = TypeVar("Task")

POLL_SECONDS = 0.5
"""How often a thread that waits for others looks up: a Ctrl-C that comes just as the main
thread begins to wait does not wake it."""


class Stopped(Exception):
    """Raised within a worker after another one failed or the user interrupted."""


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


def run_tasks(
    tasks: Iterable[Task],
    workers: int,
    make_work: Callable[[StopSignal], Callable[[Task], None]],
    hang_up: Callable[[], None] = lambda: None,
) -> None:
    """Run all tasks on worker threads; the first failure stops the others and is raised.

    Parameters
    ----------
    tasks : iterable
        Taken one by one, in order.
    workers : int
        Number of threads.
    make_work : callable
        Called once in each thread, with the signal to check between blocks;
        returns the function that does a task. Buffers belong to that function.
    hang_up : callable
        Called after an interruption: it wakes those who wait where they hear no signal.
    """
    stop = StopSignal()
    pending = iter(tasks)
    lock = threading.Lock()

    def loop() -> None:
        work = make_work(stop)
        while True:
            stop.check()
            with lock:
                task = next(pending, None)
            if task is None:
                return
            work(task)

    with ThreadPoolExecutor(workers, thread_name_prefix="shardrestore") as pool:
        futures: list[Future[None]] = []
        try:
            futures.extend(pool.submit(loop) for _ in range(workers))
            while not _settled(futures):
                wait(futures, POLL_SECONDS, FIRST_EXCEPTION)
        except RuntimeError as error:  # the system allows no more threads
            raise MemoryBudgetError(f"{error}: lower --workers from {workers}") from error
        except BaseException:
            hang_up()
            raise
        finally:
            # Also on KeyboardInterrupt, which reaches the waiting main thread:
            # the pool's exit then waits for one block of each worker at most.
            if len(futures) < workers or not all(map(_succeeded, futures)):
                stop.set()
    for future in futures:
        failure = future.exception()
        if failure is not None and not isinstance(failure, Stopped):
            raise failure


def _settled(futures: Sequence[Future[None]]) -> bool:
    """Whether all are done, or one failed."""
    done = [future for future in futures if future.done()]
    return len(done) == len(futures) or not all(map(_succeeded, done))


def _succeeded(future: Future[None]) -> bool:
    return future.done() and future.exception() is None
