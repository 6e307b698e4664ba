"""The open shards of all outputs of a run."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from ..errors import MemoryBudgetError
from ..machine.workers import Stopped
from ..output.staging import Staging
from ..output.writer import ShardWriter
from ..plan.layout import OutputShard
from ..plan.tasks import Task

SYNC_BYTES = 1 << 28
"""Bytes that are written, to all files together, before the disk is waited for.

What the system has not written yet must be when a shard is completed, and cannot be
interrupted: so much of it takes two seconds on the slowest disks, whatever the shard's size.
"""

PENDING_SYNCS = 2
"""How often the disk may be waited for at once; who writes more waits with it."""


class Writers:
    """Shards of all outputs: each is opened by its first task, completed after its last.

    Waiting for the disk happens on a thread of its own, while the workers go on.

    Parameters
    ----------
    shards : sequence of OutputShard
    tasks : sequence of Task
    outputs : sequence of Staging
    completed : callable
        Called with the number of each shard that is on disk in all outputs.
    """

    def __init__(
        self,
        shards: Sequence[OutputShard],
        tasks: Sequence[Task],
        outputs: Sequence[Staging],
        completed: Callable[[int], None],
    ) -> None:
        self._shards = shards
        self._outputs = outputs
        self._completed = completed
        self._open: dict[int, list[ShardWriter]] = {}
        self._broken = False
        self._left = Counter(task.shard for task in tasks)
        self._lock = threading.Lock()
        self._failed = False
        self._unsynced = 0
        self._pending = threading.Semaphore(PENDING_SYNCS)
        self._finisher = ThreadPoolExecutor(1, thread_name_prefix="shardrestore-sync")
        self._finished: list[Future[None]] = []
        try:
            self._finisher.submit(int).result()  # its thread starts now, or not at all
        except RuntimeError as error:
            raise MemoryBudgetError(f"{error}: lower --workers") from error

    def __enter__(self) -> Writers:
        return self

    def __exit__(self, *exception: object) -> None:
        self._finisher.shutdown(wait=True, cancel_futures=True)
        for writers in self._open.values():
            for writer in writers:
                writer.close()

    def get(self, shard: int) -> list[ShardWriter]:
        """Return the writers of a shard, one for each output."""
        with self._lock:
            if self._broken:
                raise Stopped  # the worker that could not open a shard says why
            if shard not in self._open:
                layout = self._shards[shard]
                self._broken = True
                # One by one into the table, so that those already open are
                # closed if the next one fails.
                writers = self._open[shard] = []
                for staging in self._outputs:
                    path = staging.unfinished_path(layout.filename)
                    writers.append(ShardWriter(path, layout.prefix, layout.nbytes))
                self._broken = False
            return self._open[shard]

    def wrote(self, nbytes: int) -> None:
        """Note bytes that were written, to all outputs together; wait for a disk that lags."""
        if self._failed:
            raise Stopped  # the disk's error is told by ``wait``
        with self._lock:
            self._unsynced += nbytes
            if self._unsynced < SYNC_BYTES:
                return
            self._unsynced = 0
            writers = [writer for writers in self._open.values() for writer in writers]
        self._pending.acquire()
        self._finished.append(self._finisher.submit(self._flush, writers))

    def _flush(self, writers: Sequence[ShardWriter]) -> None:
        try:
            for writer in writers:
                writer.flush()
        except BaseException:
            self._failed = True
            raise
        finally:
            self._pending.release()

    def done(self, shard: int) -> None:
        """Note that a task of the shard is done; complete the shard after its last."""
        with self._lock:
            self._left[shard] -= 1
            last = self._left[shard] == 0
        if last:
            self.complete(shard)

    def complete(self, shard: int) -> None:
        """Complete a shard to which nothing more will be written."""
        writers = self.get(shard)
        self._finished.append(self._finisher.submit(self._complete, shard, writers))

    def _complete(self, shard: int, writers: Sequence[ShardWriter]) -> None:
        try:
            for writer in writers:
                writer.finish()
            with self._lock:  # only now: what is in the table is closed, whatever happens
                del self._open[shard]
            for staging in self._outputs:
                staging.complete(self._shards[shard].filename)
            self._completed(shard)
        except BaseException:
            self._failed = True
            raise

    def wait(self) -> None:
        """Wait until every shard is on disk; raise what went wrong."""
        for future in self._finished:
            future.result()
