"""Writing one shard: header first, then data at its offsets, by several threads at once."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from ..checkpoint.source import advise_files
from ..errors import OutputError
from .filesystem import size_file, sync_data, sync_file


class ShardWriter:
    """A shard that is written at any offset, by several threads at once.

    Parameters
    ----------
    path : Path
    nbytes : int
        Size of the whole file in bytes.
    flags : int
        How to open it, see ``os.open``.
    """

    def __init__(self, path: Path, nbytes: int, flags: int = 0) -> None:
        self.path = path
        self.nbytes = nbytes
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | flags, 0o666)
        except OSError as error:
            raise explain_write_error(path, nbytes, error) from error

    @classmethod
    def create(cls, path: Path, header: bytes, nbytes: int) -> ShardWriter:
        """Create a file, which must not exist, and write its complete header, length included."""
        writer = cls(path, nbytes, os.O_CREAT | os.O_EXCL)
        try:
            size_file(writer._descriptor, nbytes)
            writer.write(0, memoryview(header))
        except OSError as error:
            writer.close()
            raise explain_write_error(path, nbytes, error) from error
        except OutputError:
            writer.close()
            raise
        return writer

    @classmethod
    def open(cls, path: Path) -> ShardWriter:
        """Open a file that another process has created."""
        try:
            nbytes = path.stat().st_size
        except OSError as error:
            raise explain_write_error(path, 0, error) from error
        return cls(path, nbytes)

    def write(self, offset: int, buffer: memoryview) -> None:
        """Write all of `buffer` at `offset`."""
        written = 0
        try:
            while written < len(buffer):
                written += os.pwrite(self._descriptor, buffer[written:], offset + written)
        except OSError as error:
            raise explain_write_error(self.path, self.nbytes, error) from error

    def flush(self) -> None:
        """Wait until what has been written is on disk; nothing to do once it is closed."""
        if self._descriptor >= 0:
            try:
                sync_data(self._descriptor)
            except OSError as error:
                raise explain_write_error(self.path, self.nbytes, error) from error

    def finish(self) -> None:
        """Wait until the file is on disk, then close it."""
        try:
            sync_file(self._descriptor)
        except OSError as error:
            raise explain_write_error(self.path, self.nbytes, error) from error
        finally:
            self.close()

    def close(self) -> None:
        """Close the file as it is; safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def explain_write_error(path: Path, nbytes: int, error: OSError) -> OutputError:
    """Turn a failed write into a message with the file, its size and the next step."""
    reason = f"{path}: cannot be written: {error.strerror or error}"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            advice = (
                f": the file needs {nbytes:,} bytes, {free_bytes(path.parent):,} are free: free "
                "some space (or files, if those are what is short) or choose another --output"
            )
        case errno.EFBIG:
            advice = (
                f": the file needs {nbytes:,} bytes: raise the limit on file sizes (`ulimit -f`) "
                "or choose another file system for --output"
            )
        case errno.EMFILE | errno.ENFILE:
            advice = f": {advise_files()}"
        case _:
            advice = ": look at that disk, or choose another --output"
    return OutputError(reason + advice)


def existing_parent(path: Path) -> Path:
    """Return the path, or the closest of its parents that exists."""
    absolute = path.absolute()
    return next(parent for parent in (absolute, *absolute.parents) if parent.exists())


def free_bytes(path: Path) -> int:
    """Return how many bytes can still be written where `path` is or will be."""
    return shutil.disk_usage(existing_parent(path)).free
