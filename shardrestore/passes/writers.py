"""The open shards of all outputs of a run."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from ..checkpoint.staging import Staging
from ..checkpoint.writer import ShardWriter
from .layout import OutputShard
from .tasks import Task
from .workers import Stopped


class Writers:
    """Shards of all outputs: each is opened by its first task, finished after its last.

    Waiting for the disk happens on a thread of its own, while the workers go on.
    """

    def __init__(
        self, shards: Sequence[OutputShard], tasks: Sequence[Task], outputs: Sequence[Staging]
    ) -> None:
        self._shards = shards
        self._outputs = outputs
        self._open: dict[int, list[ShardWriter]] = {}
        self._broken = False
        self._left = [0] * len(shards)
        for task in tasks:
            self._left[task.shard] += 1
        self._lock = threading.Lock()
        self._finisher = ThreadPoolExecutor(1, thread_name_prefix="shardrestore-sync")
        self._finished: list[Future[None]] = []

    def __enter__(self) -> Writers:
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
            if self._broken:
                raise Stopped  # the worker that could not open a shard says why
            if shard not in self._open:
                layout = self._shards[shard]
                self._broken = True
                # One by one into the table, so that those already open are
                # closed if the next one fails.
                writers = self._open[shard] = []
                for staging in self._outputs:
                    path = staging.path(layout.filename)
                    writers.append(ShardWriter(path, layout.prefix, layout.nbytes))
                self._broken = False
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
