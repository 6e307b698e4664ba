"""What some file systems cannot do: done without where that is possible, tried first where not.

Mounts of objects, SMB and FUSE refuse to bring a folder to disk, or to size a file before it is
written; nothing is lost by that but the promise for a power cut. A model cannot be written
without writing at any offset and renaming, and that shows before weights are read.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..errors import OutputError

_UNSUPPORTED = frozenset(
    {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY, errno.EISDIR}
)
"""What a file system says that knows no such operation."""

_BEYOND = 8
"""An offset beyond the end of an empty file; a limit on file sizes may be low."""
_PROBE, _OTHER_PROBE = ".probe", ".probe.renamed"


def _if_supported(operation: Callable[..., None], *arguments: object) -> None:
    try:
        operation(*arguments)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def sync_file(descriptor: int) -> None:
    """Wait until a file or folder is on disk, as far as its file system knows how to."""
    _if_supported(os.fsync, descriptor)


def sync_data(descriptor: int) -> None:
    """Wait until what was written to a file is on disk, as far as its file system knows how to."""
    _if_supported(os.fdatasync, descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk, as far as its file system knows how to."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_file(descriptor)
    finally:
        os.close(descriptor)


def size_file(descriptor: int, nbytes: int) -> None:
    """Give a file its size before it is written; without that, it grows with what is written."""
    _if_supported(os.ftruncate, descriptor, nbytes)


def try_out(folder: Path) -> None:
    """Do once, in a folder of our own, what writing a model needs.

    Raises
    ------
    OutputError
        If the file system cannot write beyond a file's end, or rename over a file.
    """
    what = "written at any offset"
    try:
        for name in (_PROBE, _OTHER_PROBE):
            _write_backwards(folder / name)
        what = "renamed over another"
        os.rename(folder / _PROBE, folder / _OTHER_PROBE)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        raise OutputError(
            f"{folder}: no file can be {what} there ({error.strerror}), as a model is: choose an "
            "--output on another disk, and copy the model afterwards"
        ) from error
    finally:
        for name in (_PROBE, _OTHER_PROBE):
            with suppress(OSError):
                os.unlink(folder / name)


def _write_backwards(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for offset in (_BEYOND, 0):
            os.pwrite(descriptor, b"x", offset)
    finally:
        os.close(descriptor)
