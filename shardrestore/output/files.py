"""The shards that are being written: their files, open in each process that writes to them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from .syncing import SyncThread
from .writer import ShardWriter

SYNC_BYTES = 1 << 28
"""Bytes that are written, to all files together, before the disk is waited for.

What the system has not written yet must be when a shard is completed, and cannot be
interrupted: so much of it takes two seconds on the slowest disks, whatever the shard's size.
"""


class ShardFiles:
    """Files of the shards that are being written, one for each output.

    The process that creates them pickles their names alone; another one opens them when it
    writes to them first, as many shards as are written at once, and brings to disk what it
    has written itself. All workers of a process share its files: a lock keeps the table of
    them, and the count of what has been written, whole.

    Parameters
    ----------
    names : sequence of str
        Names of the shards, by their number.
    folders : sequence of Path
        Where they grow, one for each output.
    at_once : int
        Shards that are written at once.
    """

    def __init__(self, names: Sequence[str], folders: Sequence[Path], at_once: int) -> None:
        self._names = names
        self._folders = folders
        self._at_once = at_once
        self._is_copy = False
        self._open: dict[int, list[ShardWriter]] = {}
        self._unsynced = 0
        self._lock = threading.Lock()
        self.sync = SyncThread()

    def __getstate__(self) -> tuple[Sequence[str], Sequence[Path], int]:
        return self._names, self._folders, self._at_once

    def __setstate__(self, state: tuple[Sequence[str], Sequence[Path], int]) -> None:
        self.__init__(*state)  # type: ignore[misc]
        self._is_copy = True

    def create(self, shard: int, header: bytes, nbytes: int) -> None:
        """Create the files of a shard."""
        with self._lock:
            # One by one into the table, so that those already open are
            # closed if the next one fails.
            files = self._open[shard] = []
            files.extend(ShardWriter.create(path, header, nbytes) for path in self._paths(shard))

    def get(self, shard: int) -> list[ShardWriter]:
        """Return the files of a shard, which has been created."""
        with self._lock:
            if self._is_copy and shard not in self._open:
                self._open[shard] = [ShardWriter.open(path) for path in self._paths(shard)]
                if len(self._open) > self._at_once:
                    for file in self._open.pop(next(iter(self._open))):
                        self.sync.submit(file.finish)
            return self._open[shard]

    def _paths(self, shard: int) -> list[Path]:
        return [folder / self._names[shard] for folder in self._folders]

    def wrote(self, nbytes: int) -> None:
        """Note bytes that were written, to all files together; wait for a disk that lags."""
        self.sync.check()
        with self._lock:
            self._unsynced += nbytes
            if self._unsynced < SYNC_BYTES:
                return
            self._unsynced = 0
            files = [file for files in self._open.values() for file in files]
        self.sync.flush(files)

    def finish(self, shard: int) -> None:
        """Wait until the files of a shard are on disk, then close them."""
        for file in self.get(shard):
            file.finish()
        with self._lock:  # only now: what is in the table is closed, whatever happens
            del self._open[shard]

    def close(self) -> None:
        """Close all files as they are."""
        self.sync.close()
        for files in self._open.values():
            for file in files:
                file.close()
