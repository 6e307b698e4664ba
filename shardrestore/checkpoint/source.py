"""Where a shard's bytes come from.

What reads bytes needs a ``ByteSource``: ranges of them into buffers that it owns and uses
again. That a file may have to be fetched, or may change, are contracts of their own. Files
are read with ``preadv``, never mapped: mapped pages count as the process's memory, and a file
that shrinks would kill it.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from ..errors import CheckpointError, InputChangedError
from .state import FileState

_WHEN = "while it was read"

Progress = Callable[[int], None]
"""Called with the bytes that have arrived since; what it raises ends their transfer."""


def ignore_progress(nbytes: int) -> None:
    """Take no note."""


class ByteSource(Protocol):
    """Bytes that can be read at any offset, by several threads at once."""

    @property
    def where(self) -> str:
        """Name for messages: a path or an address."""

    @property
    def nbytes(self) -> int:
        """Number of bytes."""

    def expect(self, offset: int, nbytes: int, block_bytes: int, check: Callable[[], None]) -> None:
        """Hear that the calling thread will read these bytes next, in order, block by block.

        A source that is far away requests them ahead; `check` is called while they are
        waited for, and what it raises ends the waiting.
        """

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with the bytes from `offset` on, or raise ``ShardRestoreError``."""

    def close(self) -> None:
        """Release what the source holds."""


class Fetchable(Protocol):
    """A file that may not be on a disk of this machine yet."""

    @property
    def nbytes(self) -> int:
        """Size in bytes."""

    @property
    def on_disk(self) -> bool:
        """Whether there is nothing to fetch."""

    def fetch(self, advance: Progress = ignore_progress) -> Path:
        """Return where its bytes are on disk; they are brought there first if need be."""


class Versioned(Protocol):
    """Something that may become another while it is read."""

    def identity(self) -> dict[str, Any]:
        """Return what distinguishes this state of it from another, as JSON values."""

    def check_unchanged(self) -> None:
        """Raise ``InputChangedError`` if it is not what it was when it was opened."""


class ShardFile(ByteSource, Fetchable, Versioned, Protocol):
    """The file of a shard, here or on the Hub."""


class LocalFile:
    """A regular file, opened for reading.

    It stays open while there are files to spare. Beyond half of what the process may open, it is
    opened for each read: two models of 163 shards are read with 256 files, and what is written
    meanwhile, threads and connections find files as well. That costs 10 µs for each block.

    Parameters
    ----------
    path : Path
        The file; symbolic links are followed, as the Hub's cache needs.

    Raises
    ------
    CheckpointError
        If the file is missing, unreadable, or no regular file.
    """

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        self._path = path
        self._descriptor = -1
        descriptor = self._open()
        try:
            status = os.fstat(descriptor)
        except OSError as error:
            os.close(descriptor)
            raise CheckpointError(f"{path}: cannot be opened: {error.strerror}") from error
        self._state = FileState.of(status)
        self.nbytes = status.st_size
        regular = stat.S_ISREG(status.st_mode)
        self._stays_open = regular and descriptor < spare_files()
        if self._stays_open:
            self._descriptor = descriptor
            return
        os.close(descriptor)
        if not regular:
            raise CheckpointError(f"{path}: not a regular file")

    def _open(self) -> int:
        path = self._path
        try:
            # Looked at first: to open a device is to use it, a watchdog starts then.
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise CheckpointError(f"{path}: not a regular file")
            # O_NONBLOCK: should it have become a FIFO since, opening it must not wait.
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            full = isinstance(error, OSError) and error.errno == errno.EMFILE
            advice = f": {advise_files()}" if full else ""
            raise CheckpointError(f"{path}: cannot be opened: {reason}{advice}") from error

    @property
    def on_disk(self) -> bool:
        """It is."""
        return True

    def fetch(self, advance: Progress = ignore_progress) -> Path:
        """Return its path."""
        return self._path

    def expect(self, offset: int, nbytes: int, block_bytes: int, check: Callable[[], None]) -> None:
        """Do nothing: the system reads ahead."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset`; a short file is an error, never silence."""
        if self._stays_open:
            self._fill(self._descriptor, offset, buffer)
            return
        try:
            descriptor = self._open()
        except CheckpointError:
            self.check_unchanged()
            raise
        try:
            self._state.check_status(os.fstat(descriptor), self._path, _WHEN)
            self._fill(descriptor, offset, buffer)
        finally:
            os.close(descriptor)

    def _fill(self, descriptor: int, offset: int, buffer: memoryview) -> None:
        filled = 0
        while filled < len(buffer):
            try:
                count = os.preadv(descriptor, [buffer[filled:]], offset + filled)
            except OSError as error:
                raise CheckpointError(
                    f"{self.where}: reading {len(buffer)} bytes at {offset} failed: "
                    f"{error.strerror}"
                ) from error
            if count == 0:
                raise InputChangedError(
                    f"{self.where}: ends at byte {offset + filled} of {self.nbytes}: "
                    "the file was cut short while it was read"
                )
            filled += count

    def identity(self) -> dict[str, Any]:
        """Return size in bytes and time of the last change in nanoseconds."""
        return self._state.identity()

    def check_unchanged(self) -> None:
        """Raise ``InputChangedError`` if the file was written, replaced or removed meanwhile."""
        self._state.check(self._path, _WHEN)

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def advise_files() -> str:
    """Return the next step where no more files can be opened."""
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY or most > limit:
        more = 4096 if most == resource.RLIM_INFINITY else most
        return f"raise the limit of {limit:,} open files by `ulimit -n {more}`"
    return f"have the limit of {limit:,} open files raised, or run from a shell with a higher one"


def spare_files() -> int:
    """Return how many files may be kept open: half of the limit, the rest is for all else."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit // 2
