"""Waiting for the disk on a thread of its own, while the workers go on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from ..errors import MemoryBudgetError
from .writer import ShardWriter

PENDING_SYNCS = 2
"""How often the disk may be waited for at once; a worker that writes more waits with it."""


class SyncThread:
    """Has files brought to disk, one after the other."""

    def __init__(self) -> None:
        self._failure: BaseException | None = None
        self._pending = threading.Semaphore(PENDING_SYNCS)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shardrestore-sync")
        self._waiting: list[Future[None]] = []
        try:
            self._thread.submit(int).result()  # it starts now, or not at all
        except RuntimeError as error:
            raise MemoryBudgetError(f"{error}: lower --workers") from error

    def flush(self, files: Sequence[ShardWriter]) -> None:
        """Bring to disk what has been written; wait first if the disk lags."""
        self._pending.acquire()
        self.submit(self._flush, files)

    def _flush(self, files: Sequence[ShardWriter]) -> None:
        try:
            for file in files:
                file.flush()
        finally:
            self._pending.release()

    def submit(self, function: Callable[..., None], *arguments: object) -> None:
        """Call a function once everything asked for so far has been done."""
        self._waiting.append(self._thread.submit(self._run, function, *arguments))

    def make_room(self, most: int) -> None:
        """Wait until no more than `most` of what was asked for are still to be done."""
        waiting = [future for future in self._waiting if not future.done()]
        for future in waiting[: max(len(waiting) - most, 0)]:
            future.result()

    def _run(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            function(*arguments)
        except BaseException as error:
            self._failure = error
            raise

    def check(self) -> None:
        """Raise what has gone wrong on the thread, if anything has."""
        if self._failure is not None:
            raise self._failure

    def wait(self) -> None:
        """Wait until all is done; raise what went wrong."""
        for future in self._waiting:
            future.result()

    def close(self) -> None:
        """End the thread; what has not been begun is left out."""
        self._thread.shutdown(wait=True, cancel_futures=True)
