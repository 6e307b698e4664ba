"""Writing a model folder so that nothing incomplete ever has its final name.

All files are written into a hidden folder inside the output. When every one of
them is complete and on disk, they are renamed into place, the index last. What
they replace is kept meanwhile: if a rename fails, all of them are undone; if the
process is killed between them, the rest can be done later. Renaming replaces a
symbolic link, it never writes through it.

Names in the hidden folder that begin with a dot are its own: no model has such.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path

from ..checkpoint.index import read_shard_names
from ..checkpoint.source import LocalFile
from ..errors import InputChangedError, OutputError
from ..names import (
    CHECKSUM_FILE,
    INDEX_FILE,
    JOURNAL_FILE,
    PAGE_FILE,
    REPLACED_FOLDER,
    SINGLE_FILE,
    STAGING_FOLDER,
    UNFINISHED_FOLDER,
    UPLOADED_FILE,
)
from .admission import check_output, exists, lock_folder
from .writer import explain_write_error

_COPY_BYTES = 1 << 20
_SHARD_NAME = re.compile(r"model(-\d+-of-\d+)?\.safetensors")


Move = tuple[str, str]
"""A rename: from where to where, both relative to the output."""


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
        self._lock = -1
        self._discarded = False
        self._created: list[Path] = []
        self._made: list[Path] = []
        self._renamed: list[tuple[Path, Path]] = []
        try:
            places = (self.folder, output, *output.parents)
            self._created = [path for path in places if not path.exists()]
            output.mkdir(parents=True, exist_ok=True)
            self._lock = lock_folder(output)
            # Again, now that no other run can change it.
            check_output(output, overwrite=overwrite, resume=resume, ours=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            self._release()
            place = f"{error.filename}: " if error.filename else ""
            raise OutputError(f"{output}: cannot be written: {place}{error.strerror}") from error
        except OutputError:
            self._release()
            raise

    def __enter__(self) -> Staging:
        return self

    def __exit__(self, *exception: object) -> None:
        self.leave()

    def clear(self, keep: Iterable[str] = ()) -> None:
        """Remove whatever an earlier run left, except the files named `keep`."""
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
            os.rename(self.unfinished_path(name), path)
            _sync_folder(path.parent)
        except OSError as error:
            raise explain_write_error(path, 0, error) from error

    def drop(self, name: str) -> None:
        """Delete the complete file `name`, if it is here: it is safe elsewhere."""
        path = self.folder / name
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise explain_write_error(path, 0, error) from error

    def path(self, name: str) -> Path:
        """Return where the complete file `name` is staged; its folder exists afterwards."""
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
                os.fsync(file.fileno())
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
                    os.fsync(writer.fileno())
            except OSError as error:
                raise explain_write_error(path, nbytes, error) from error

    def plan_moves(self, names: Sequence[str]) -> list[Move]:
        """List the renames that publish the files `names`, in this order.

        Weights of the model that the output holds leave it first, index foremost:
        shards without an index are no model, an old index over new shards would be
        a wrong one.
        """
        here, replaced = STAGING_FOLDER, f"{STAGING_FOLDER}/{REPLACED_FOLDER}"
        leaving = dict.fromkeys(find_old_weights(self.output))
        for name in (CHECKSUM_FILE, PAGE_FILE, UPLOADED_FILE):
            if exists(self.output / name):
                leaving[name] = None  # of those weights
        moves = [(name, f"{replaced}/{name}") for name in leaving]
        for name in names:
            if exists(self.output / name) and name not in leaving:
                moves.append((name, f"{replaced}/{name}"))
            moves.append((f"{here}/{name}", name))
        return moves

    def publish(self, moves: Sequence[Move]) -> None:
        """Carry out the renames of ``plan_moves``, but for those that are done already.

        Until ``finish`` everything can be undone.

        Raises
        ------
        OutputError
            If a rename fails; the output is then as it was.
        """
        try:
            for source, destination in moves:
                if self._is_done(source, destination):
                    continue
                if destination in (INDEX_FILE, SINGLE_FILE):
                    _sync_folder(self.output)
                self._rename(self.output / source, self.output / destination)
            self._check_published(moves)
            _sync_folder(self.output)
        except BaseException as error:
            self.undo()
            if isinstance(error, OSError):
                raise OutputError(
                    f"{error.filename or self.output}: renaming into place failed: "
                    f"{error.strerror}; the output is as it was"
                ) from error
            raise

    def _is_done(self, source: str, destination: str) -> bool:
        # What leaves is never overwritten: once it has left, its place is taken by the new.
        left = destination.startswith(STAGING_FOLDER) and exists(self.output / destination)
        return left or not exists(self.output / source)

    def _check_published(self, moves: Sequence[Move]) -> None:
        """Refuse to end with a file that is neither here nor there."""
        for source, destination in moves:
            if source.startswith(STAGING_FOLDER) and not exists(self.output / destination):
                raise OutputError(
                    f"{self.output / destination}: was complete in {STAGING_FOLDER} and has "
                    "vanished from it: start anew with --overwrite"
                )

    def _rename(self, source: Path, destination: Path) -> None:
        inside = [path for path in destination.parents if self.output in path.parents]
        missing = [path for path in inside if not path.exists()]
        destination.parent.mkdir(parents=True, exist_ok=True)
        self._made += reversed(missing)
        # Noted before it is done: a signal may come between.
        self._renamed.append((source, destination))
        os.rename(source, destination)

    def undo(self) -> None:
        """Take back every rename of ``publish``, however often the user interrupts.

        Raises
        ------
        OutputError
            If a file cannot be moved back; it is kept, and named.
        """
        while self._renamed:
            source, destination = self._renamed[-1]
            try:
                if exists(destination) and not exists(source):
                    os.rename(destination, source)
                self._renamed.pop()
            except KeyboardInterrupt:
                continue
            except OSError as error:
                self._discarded = True  # what was moved aside must not be deleted
                self._release()
                raise OutputError(
                    f"{source}: cannot be moved back from {destination}: {error.strerror}: "
                    f"{len(self._renamed)} files are still to be moved, by hand"
                ) from error
        for path in reversed(self._made):
            with suppress(OSError):
                path.rmdir()
        self._made = []

    def finish(self) -> None:
        """End the staging: what ``publish`` replaced is removed for good."""
        self._renamed, self._made, self._created = [], [], []
        with suppress(OSError):  # the journal goes last: until then this can be repeated
            self.clear(keep=[JOURNAL_FILE])
        self.discard()

    def discard(self) -> None:
        """Remove what was not published, and the folders that were created for it.

        Safe to call again: the folder may be another run's by then.
        """
        if not self._discarded:
            self._discarded = True
            with suppress(OSError):  # CPython 3.11 raises some in spite of ignore_errors
                shutil.rmtree(self.folder, ignore_errors=True)
            self._release()

    def leave(self) -> None:
        """End the staging, and leave what is in it as it is, to be resumed."""
        if not self._discarded:
            self._discarded = True
            self._release()

    def _release(self) -> None:
        for path in self._created:
            with suppress(OSError):  # something is in it
                path.rmdir()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def find_old_weights(output: Path) -> list[str]:
    """Return the weights that a model folder holds, its index first.

    Files that belong to no model by their name or by the index, such as an
    adapter, are not among them.
    """
    names = [INDEX_FILE] if exists(output / INDEX_FILE) else []
    shards = read_shard_names(output / INDEX_FILE) if names else set()
    names += sorted(
        entry.name
        for entry in os.scandir(output)
        if entry.name in shards or _SHARD_NAME.fullmatch(entry.name)
    )
    return [name for name in names if not (output / name).is_dir()]


def is_old_weight(name: str) -> bool:
    """Whether a file belongs to a model's weights by its name alone."""
    return name == INDEX_FILE or _SHARD_NAME.fullmatch(name) is not None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
