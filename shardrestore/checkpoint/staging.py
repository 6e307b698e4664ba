"""Writing a model folder so that nothing incomplete ever has its final name.

All files are written into a hidden folder inside the output. When every one of
them is complete and on disk, they are renamed into place, the index last. What
they replace is kept meanwhile: if a rename fails, all of them are undone.
Renaming replaces a symbolic link, it never writes through it.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path, PurePosixPath

from ..errors import OutputError
from .index import INDEX_FILE, SINGLE_FILE, read_shard_names
from .source import LocalFile
from .writer import existing_parent, explain_write_error

STAGING_FOLDER = ".shardrestore-partial"
_REPLACED_FOLDER = ".replaced"
_COPY_BYTES = 1 << 20
_SHARD_NAME = re.compile(r"model(-\d+-of-\d+)?\.safetensors")


class Staging:
    """The hidden folder in which an output grows; one run at a time may have it.

    Parameters
    ----------
    output : Path
        The folder to fill; created with its parents if missing.
    overwrite : bool
        Whether it may already hold files.

    Raises
    ------
    OutputError
        If `output` cannot be created or written, is a file, is not empty and
        `overwrite` is false, or is being written by another run.
    """

    def __init__(self, output: Path, *, overwrite: bool) -> None:
        self.output = output
        self.folder = output / STAGING_FOLDER
        self._lock = -1
        self._discarded = False
        self._created: list[Path] = []
        self._made: list[Path] = []
        self._renamed: list[tuple[Path, Path]] = []
        try:
            self._created = [path for path in (output, *output.parents) if not path.exists()]
            output.mkdir(parents=True, exist_ok=True)
            self._lock = _lock_folder(output)
            # Again, now that no other run can change it.
            check_output(output, overwrite=overwrite)
            if os.path.lexists(self.folder):
                shutil.rmtree(self.folder)
            self.folder.mkdir(mode=0o700)
        except OSError as error:
            self._release()
            raise OutputError(
                f"{error.filename or output}: cannot be written: {error.strerror}"
            ) from error
        except OutputError:
            self._release()
            raise

    def path(self, name: str) -> Path:
        """Return where the file `name` grows; its folder exists afterwards."""
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

    def publish(self, names: Sequence[str]) -> None:
        """Rename the files `names` into the output, in this order.

        Weights of the model that the output held before leave it first, index
        foremost: shards without an index are no model, an old index over new
        shards would be a wrong one. Until ``finish`` everything can be undone.

        Raises
        ------
        OutputError
            If a rename fails; the output is then as it was.
        """
        replaced = self.folder / _REPLACED_FOLDER
        try:
            for name in find_old_weights(self.output):
                self._rename(self.output / name, replaced / name)
            for name in names:
                if os.path.lexists(self.output / name):
                    self._rename(self.output / name, replaced / name)
                if name in (INDEX_FILE, SINGLE_FILE):
                    _sync_folder(self.output)
                self._rename(self.folder / name, self.output / name)
            _sync_folder(self.output)
        except BaseException as error:
            self.undo()
            if isinstance(error, OSError):
                raise OutputError(
                    f"{error.filename or self.output}: renaming into place failed: "
                    f"{error.strerror}; the output is as it was"
                ) from error
            raise

    def _rename(self, source: Path, destination: Path) -> None:
        missing = [path for path in destination.parents if not path.exists()]
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
                if os.path.lexists(destination) and not os.path.lexists(source):
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
        self.discard()

    def discard(self) -> None:
        """Remove what was not published, and the folders that were created for it.

        Safe to call again: the folder may be another run's by then.
        """
        if not self._discarded:
            self._discarded = True
            shutil.rmtree(self.folder, ignore_errors=True)
            self._release()

    def _release(self) -> None:
        with suppress(OSError):
            for path in self._created:
                path.rmdir()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def find_old_weights(output: Path) -> list[str]:
    """Return the weights that a model folder holds, its index first.

    Files that belong to no model by their name or by the index, such as an
    adapter, are not among them.
    """
    names = [INDEX_FILE] if os.path.lexists(output / INDEX_FILE) else []
    shards = read_shard_names(output / INDEX_FILE) if names else set()
    names += sorted(
        entry.name
        for entry in os.scandir(output)
        if entry.name in shards or _SHARD_NAME.fullmatch(entry.name)
    )
    return [name for name in names if not (output / name).is_dir()]


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse an output folder that cannot be one, before anything is written.

    Raises
    ------
    OutputError
        If it is no folder, holds files and `overwrite` is false, or cannot be
        written.
    """
    try:
        _check_output(output, overwrite=overwrite)
    except (OSError, RuntimeError, ValueError) as error:
        # A name that is too long, a loop of links, a folder that may not be listed.
        reason = error.strerror if isinstance(error, OSError) else error
        raise OutputError(f"{output}: cannot be the output: {reason}") from error


def _check_output(output: Path, *, overwrite: bool) -> None:
    if os.path.lexists(output) and not output.is_dir():
        raise OutputError(f"{output}: exists and is no folder: choose another --output")
    if output.is_dir():
        _check_emptiness(output, overwrite=overwrite)
    existing = existing_parent(output)
    if not existing.is_dir():
        raise OutputError(f"{output}: {existing} is no folder: choose another --output")
    if os.statvfs(existing).f_flag & os.ST_RDONLY:
        raise OutputError(f"{output}: the file system of {existing} is read-only")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"{output}: no permission to write into {existing}")


def _check_emptiness(output: Path, *, overwrite: bool) -> None:
    names = sorted(os.listdir(output))
    staging = output / STAGING_FOLDER
    if os.path.lexists(staging) and (staging.is_symlink() or not staging.is_dir()):
        raise OutputError(f"{staging}: is in the way, and no folder of an earlier run: remove it")
    replaced = staging / _REPLACED_FOLDER
    if replaced.is_dir():
        raise OutputError(
            f"{replaced}: holds the model that a killed run was about to replace: move its files "
            f"back into {output}, or delete that folder"
        )
    # Whatever else a killed run left behind is nothing of the user's.
    names = [name for name in names if name != STAGING_FOLDER]
    if names and not overwrite:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        listed = ", ".join(names[:3]) + more
        raise OutputError(
            f"{output}: not empty, it holds {listed}: choose another --output, or pass --overwrite"
        )


def check_places(output: Path, names: Iterable[str]) -> None:
    """Refuse files that could not be renamed into the output, or would leave it.

    Raises
    ------
    OutputError
        If one of them is a folder of another, a folder stands where a file must
        go, a file where a folder must, or a folder of the output is a symbolic
        link out of it.
    """
    files = {str(PurePosixPath(name)) for name in names}
    for name in sorted(files):
        if (output / name).is_dir() and not (output / name).is_symlink():
            raise OutputError(f"{output / name}: a folder, where a file must go: remove it")
        for parent in PurePosixPath(name).parents:
            place = output / parent
            if str(parent) in files:
                raise OutputError(
                    f"{place}: must be a file and a folder, for {name}: rename that one's folder "
                    "in the target"
                )
            if parent.name and place.is_symlink():
                raise OutputError(
                    f"{place}: a symbolic link, through which {name} would be written: remove it, "
                    "or choose another --output"
                )
            if parent.name and place.exists() and not place.is_dir():
                raise OutputError(f"{place}: a file, where a folder must go: remove it")


def _lock_folder(folder: Path) -> int:
    """Lock a folder until the descriptor is closed, which a killed process does too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise OutputError(
            f"{folder}: another run is writing into it: wait for it, or choose another --output"
        ) from error
    except OSError:
        pass  # a file system without locks: one run at a time is then up to the user
    return descriptor


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
