"""One run at a time in an output, and always in the folder that it has locked.

A lock belongs to a folder, not to its name. While a run is suspended, its output may be deleted
and another run may make one of the same name: the first must neither rename nor delete what is
the second's. It therefore renames through the descriptor that holds the lock, and compares the
folder of that name with the one it holds before it does anything else there.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import OutputError
from .filesystem import sync_file


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep runs out of a folder while a finished model in it is read.

    Raises
    ------
    OutputError
        If one is writing into it.
    """
    held = HeldFolder(folder)
    try:
        yield
    finally:
        held.release()


class HeldFolder:
    """A folder that is locked until it is released, or its process ends.

    Parameters
    ----------
    path : Path

    Raises
    ------
    OutputError
        If another run has locked it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.release()
            raise OutputError(
                f"{path}: another run is writing into it: wait for it, or choose another --output"
            ) from error
        except OSError:
            pass  # a file system without locks: one run at a time is then up to the user

    def check(self) -> None:
        """Refuse to work on in a folder that has lost its name.

        Raises
        ------
        OutputError
            If it has been deleted or moved, perhaps for another folder of that name, or if the
            disk does not answer.
        """
        try:
            here = os.path.samestat(os.stat(self.path), os.fstat(self._descriptor))
        except (FileNotFoundError, NotADirectoryError):
            here = False
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be looked at: {error.strerror}") from error
        if not here:
            raise OutputError(
                f"{self.path}: was deleted, moved or replaced while this run was writing into it: "
                "nothing of what is there now was touched: run again, into a folder of its own"
            )

    def is_here(self) -> bool:
        """Return whether the folder is known to have its name still."""
        try:
            self.check()
        except OutputError:
            return False
        return True

    def rename(self, source: str, destination: str) -> None:
        """Rename a file in the folder, whatever its name is by now; both names are relative."""
        held = self._descriptor
        os.rename(source, destination, src_dir_fd=held, dst_dir_fd=held)

    def remove(self, name: str) -> None:
        """Remove a folder within it, with all that it holds, as far as that is possible."""
        with suppress(OSError):  # CPython 3.11 raises some in spite of ignore_errors
            shutil.rmtree(name, ignore_errors=True, dir_fd=self._descriptor)

    def sync(self) -> None:
        """Wait until the names in it are on disk, as far as the disk can."""
        with suppress(OSError):
            sync_file(self._descriptor)

    def release(self) -> None:
        """Unlock the folder."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
