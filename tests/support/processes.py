"""An executor whose workers are processes: what they get is pickled, and what they return.

It imports no torch, and so its workers do not.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from types import TracebackType
from typing import Any

from shardrestore.machine.executor import Listener, Results, Stage, do_nothing


class ProcessExecutor:
    """Runs stages on a pool of processes, each started anew; progress is heard task by task."""

    def __init__(self, workers: int) -> None:
        self._pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
        self.processes: set[int] = set()
        """Those that have done something."""
        self.torch_imported = False
        """Whether one of them has imported torch."""

    def __enter__(self) -> ProcessExecutor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def run(
        self,
        stage: Stage[Any, Any, Any],
        tasks: Iterable[Any],
        workers: int,
        listener: Listener,
        hang_up: Callable[[], None] = do_nothing,
    ) -> Results[Any, Any]:
        """Yield each task with its result, as they are done."""
        pickled, drawn = pickle.dumps(stage), iter(tasks)
        pending: dict[Future[Any], Any] = {}
        while True:
            for task in islice(drawn, 2 * workers - len(pending)):
                pending[self._pool.submit(_work, pickled, task)] = task
            if not pending:
                return
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                result, said, process, torch_imported = future.result()
                self.processes.add(process)
                self.torch_imported |= torch_imported
                for name, value in said:
                    getattr(listener, name)(value)
                yield pending.pop(future), result


class _Control:
    """Keeps what a worker says, until its task is done."""

    number = 0

    def __init__(self) -> None:
        self.said: list[tuple[str, Any]] = []

    def check(self) -> None:
        """Go on: the pool waits for tasks that have been begun."""

    def advance(self, nbytes: int) -> None:
        self.said.append(("advance", nbytes))

    def note(self, remark: str) -> None:
        self.said.append(("note", remark))


_open: dict[bytes, tuple[Stage[Any, Any, Any], _Control, Any]] = {}
"""The worker of this process, of the latest stage."""


def _work(pickled: bytes, task: Any) -> tuple[Any, list[tuple[str, Any]], int, bool]:
    if pickled not in _open:
        _open.clear()
        stage, control = pickle.loads(pickled), _Control()
        _open[pickled] = stage, control, stage.open_worker(control)
    stage, control, worker = _open[pickled]
    control.said = []
    return stage.work(worker, task), control.said, os.getpid(), "torch" in sys.modules
