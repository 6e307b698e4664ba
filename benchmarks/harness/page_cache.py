"""The page cache, for reads that must come from the disk."""

from __future__ import annotations

import os
from pathlib import Path

AVAILABLE = hasattr(os, "posix_fadvise")
"""Whether this system lets files be evicted."""


def evict(folder: Path) -> None:
    """Take all files below a folder out of the page cache, where that is ``AVAILABLE``.

    By ``posix_fadvise``, which needs no rights and leaves everyone else's files alone.
    Pages that are not on disk yet would stay, so the files are synced first.
    """
    for path in folder.rglob("*"):
        if AVAILABLE and path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
