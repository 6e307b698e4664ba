"""The hidden folder in which a model grows, so that nothing incomplete ever has its final name.

All files are written into a hidden folder inside the output. When every one of
them is complete and on disk, they are renamed into place: see ``publication``.

Names in the hidden folder that begin with a dot are its own: no model has such.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from ..checkpoint.source import LocalFile
from ..errors import InputChangedError, OutputError
from ..names import JOURNAL_FILE, REPLACED_FOLDER, STAGING_FOLDER, UNFINISHED_FOLDER
from .admission import check_output
from .filesystem import sync_file, sync_folder, try_out
from .lock import HeldFolder
from .publication import Move, Publication, plan_moves
from .writer import explain_write_error

Stamp = list[int]
"""Size in bytes and time of the last change in nanoseconds: a file with another was changed."""

_COPY_BYTES = 1 << 20


class Staging:
    """The hidden folder in which an output grows; one run at a time may have it.

    What an earlier run has left in it stays until ``clear``.

    Parameters
    ----------
    output : Path
        The folder to fill; created with its parents if missing.
    overwrite : bool
        Whether it may already hold files.
    resume : bool
        Whether it may hold the work of an unfinished run.

    Raises
    ------
    OutputError
        If `output` cannot be created or written, is a file, is not empty and
        `overwrite` is false, or is being written by another run.
    """

    def __init__(self, output: Path, *, overwrite: bool, resume: bool = False) -> None:
        self.output = output
        self.folder = output / STAGING_FOLDER
        self._overwrite = overwrite
        self._discarded = False
        self._created: list[Path] = []
        self._ending = ExitStack()
        try:
            self._held = self._hold()
            self._publication = Publication(self._held)
            # Again, now that no other run can change it.
            check_output(output, overwrite=overwrite, resume=resume, ours=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)
            try_out(self.folder)
        except OSError as error:
            self._ending.close()
            place = f"{error.filename}: " if error.filename else ""
            raise OutputError(f"{output}: cannot be written: {place}{error.strerror}") from error
        except BaseException:
            self._ending.close()
            raise

    def _hold(self) -> HeldFolder:
        """Create the output if it is missing, and lock it."""
        places = (self.folder, self.output, *self.output.parents)
        self._created = [path for path in places if not path.exists()]
        try:
            self.output.mkdir(parents=True, exist_ok=True)
            held = HeldFolder(self.output)
        except BaseException:
            self._remove_created()
            raise
        self._ending.callback(held.release)
        held.check()
        self._ending.callback(self._remove_created)
        return held

    def _remove_created(self) -> None:
        for path in self._created:
            with suppress(OSError):  # something is in it
                path.rmdir()

    def __enter__(self) -> Staging:
        return self

    def __exit__(self, *exception: object) -> None:
        self.leave()

    def check(self) -> None:
        """Refuse to work on in an output that has been deleted, moved or replaced.

        Raises
        ------
        OutputError
            If it was: whatever has its name now is another's.
        """
        self._held.check()

    @property
    def is_here(self) -> bool:
        """Whether the output is known to be what it was: see ``check``."""
        return self._held.is_here()

    def clear(self, keep: Iterable[str] = ()) -> None:
        """Remove whatever an earlier run left, except the files named `keep`."""
        self.check()
        kept = {self.folder / name for name in keep}
        for root, folders, files in os.walk(self.folder, topdown=False):
            for path in (Path(root, name) for name in (*files, *folders)):
                if path.is_dir() and not path.is_symlink():
                    with suppress(OSError):  # something in it is kept
                        path.rmdir()
                elif path not in kept:
                    path.unlink()

    def refuse_replaced(self) -> None:
        """Refuse to go on over an older model's files that a killed run has moved aside.

        Raises
        ------
        OutputError
            If there are any: nothing but the renames of that run may touch them.
        """
        replaced = self.folder / REPLACED_FOLDER
        if any(path.is_file() or path.is_symlink() for path in replaced.rglob("*")):
            raise OutputError(
                f"{replaced}: holds the model that a killed run was about to replace: move its "
                f"files back into {self.output}, then start anew"
            )

    @property
    def unfinished(self) -> Path:
        """Folder in which files grow."""
        return self.folder / UNFINISHED_FOLDER

    def unfinished_path(self, name: str) -> Path:
        """Return where the file `name` grows; its folder exists afterwards."""
        return self.path(f"{UNFINISHED_FOLDER}/{name}")

    def complete(self, name: str) -> None:
        """Give the file that grew at ``unfinished_path``, now on disk, its name in here."""
        path = self.path(name)
        try:
            self._held.rename(
                f"{STAGING_FOLDER}/{UNFINISHED_FOLDER}/{name}", f"{STAGING_FOLDER}/{name}"
            )
            sync_folder(path.parent)
        except OSError as error:
            raise explain_write_error(path, 0, error) from error

    def stamp(self, name: str) -> Stamp | None:
        """Return what tells the complete file `name` from a changed one; None if it is not here."""
        try:
            status = os.stat(self.folder / name)
        except FileNotFoundError:
            return None
        return [status.st_size, status.st_mtime_ns]

    def drop(self, name: str) -> None:
        """Delete the complete file `name`, if it is here: it is safe elsewhere."""
        self.check()
        path = self.folder / name
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise explain_write_error(path, 0, error) from error

    def path(self, name: str) -> Path:
        """Return where the complete file `name` is staged; its folder exists afterwards."""
        self.check()
        path = self.folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain_write_error(path, 0, error) from error
        return path

    def write_file(self, name: str, content: bytes) -> None:
        """Write a small file whole."""
        path = self.path(name)
        try:
            with open(path, "xb") as file:
                file.write(content)
                file.flush()
                sync_file(file.fileno())
        except OSError as error:
            raise explain_write_error(path, len(content), error) from error

    def copy_file(self, name: str, source: Path, nbytes: int) -> None:
        """Copy a side file: its bytes, not the links, owners or modes that lead to it.

        As many as were counted when the disk was looked at: files of the kernel,
        to which a link may lead, have no size and no end.
        """
        path = self.path(name)
        buffer = memoryview(bytearray(min(nbytes, _COPY_BYTES)))
        with closing(LocalFile(source)) as reader:
            if reader.nbytes != nbytes:
                raise InputChangedError(
                    f"{source}: changed during the run: bytes {nbytes}, now {reader.nbytes}: run "
                    "again when nothing writes to it"
                )
            try:
                with open(path, "xb") as writer:
                    for begin in range(0, nbytes, _COPY_BYTES):
                        part = buffer[: nbytes - begin]
                        reader.read_into(begin, part)
                        writer.write(part)
                    writer.flush()
                    sync_file(writer.fileno())
            except OSError as error:
                raise explain_write_error(path, nbytes, error) from error

    def plan_moves(self, names: Sequence[str]) -> list[Move]:
        """List the renames that publish the files `names`, in this order."""
        return plan_moves(self.output, names, replaces=self._overwrite)

    def publish(self, moves: Sequence[Move]) -> None:
        """Carry out renames; until ``finish`` they can be undone. See ``Publication``."""
        self._publication.carry_out(moves)
        for path in self._created:
            if path != self.folder:
                with suppress(PermissionError):  # a folder in which one may write, and not look
                    sync_folder(path.parent)

    def has_published(self, moves: Sequence[Move]) -> bool:
        """Return whether everything has the name that `moves` give it."""
        return self._publication.is_carried_out(moves)

    def undo(self) -> None:
        """Take back every rename of ``publish``; see ``Publication``."""
        self._publication.undo()

    def finish(self) -> None:
        """End the staging: what ``publish`` replaced is removed for good."""
        self._publication.settle()
        self._created = []
        with suppress(OSError, OutputError):  # the journal goes last: this can be repeated
            self.clear(keep=[JOURNAL_FILE])
        self.discard()

    def discard(self) -> None:
        """Remove what was not published, and the folders that were created for it.

        Safe to call again: the folder may be another run's by then.
        """
        if not self._discarded:
            if not self._publication.is_pending:  # otherwise what was moved aside is in there
                self._held.remove(STAGING_FOLDER)
                self._held.sync()  # or a power cut brings it back
            self.leave()

    def leave(self) -> None:
        """End the staging, and leave what is in it as it is, to be resumed."""
        if not self._discarded:
            self._discarded = True
            if not self._held.is_here():
                self._created = []  # another run's, by now
            self._ending.close()
