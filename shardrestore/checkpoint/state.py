"""Whether a file was written, replaced or removed since it was found."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputChangedError


@dataclass(frozen=True, slots=True, kw_only=True)
class FileState:
    """The state of a file when it was found or opened."""

    nbytes: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileState:
        """Return the state that a status shows."""
        return cls(nbytes=status.st_size, mtime_ns=status.st_mtime_ns, inode=status.st_ino)

    def identity(self) -> dict[str, int]:
        """Return size in bytes and time of the last change in nanoseconds."""
        return {"bytes": self.nbytes, "mtime_ns": self.mtime_ns}

    def check(self, path: Path, when: str) -> None:
        """Raise ``InputChangedError`` if the file at a path has another state, or is gone.

        `when` ends a sentence: ``"while it was read"``.
        """
        try:
            status = os.stat(path)
        except OSError as error:
            raise InputChangedError(f"{path}: vanished {when}: {error.strerror}") from error
        self.check_status(status, path, when)

    def check_status(self, status: os.stat_result, path: Path, when: str) -> None:
        """Raise ``InputChangedError`` if a status shows another state."""
        now = FileState.of(status)
        for what, was, is_now in (
            ("bytes", self.nbytes, now.nbytes),
            ("modification time", self.mtime_ns, now.mtime_ns),
            ("inode", self.inode, now.inode),
        ):
            if was != is_now:
                raise InputChangedError(
                    f"{path}: changed {when}: {what} {was}, now {is_now}: run again when nothing "
                    "writes to it"
                )
