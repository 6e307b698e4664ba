"""Writing a model folder so that nothing incomplete ever has its final name.

All files are written into a hidden folder inside the output, ``Staging``. When
every one of them is complete and on disk, they are renamed into place, the
index last: a reader sees the old folder, an incomplete one without an index, or
the new one. Renaming replaces a symbolic link, it never writes through it.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from ..errors import OutputError
from .index import INDEX_FILE, SINGLE_FILE

STAGING_FOLDER = ".shardrestore-partial"


class ShardWriter:
    """A shard that is written at any offset, by several threads at once.

    Parameters
    ----------
    path : Path
        The file to create; it must not exist.
    header : bytes
        The complete header, length included.
    nbytes : int
        Size of the whole file in bytes.
    """

    def __init__(self, path: Path, header: bytes, nbytes: int) -> None:
        self.path = path
        self.nbytes = nbytes
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._descriptor = os.open(path, flags, 0o666)
        except OSError as error:
            raise explain_write_error(path, nbytes, error) from error
        try:
            os.ftruncate(self._descriptor, nbytes)
        except OSError as error:
            self.close()
            raise explain_write_error(path, nbytes, error) from error
        self.write(0, memoryview(header))

    def write(self, offset: int, buffer: memoryview) -> None:
        """Write all of `buffer` at `offset`."""
        written = 0
        try:
            while written < len(buffer):
                written += os.pwrite(self._descriptor, buffer[written:], offset + written)
        except OSError as error:
            raise explain_write_error(self.path, self.nbytes, error) from error

    def finish(self) -> None:
        """Wait until the file is on disk, then close it."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise explain_write_error(self.path, self.nbytes, error) from error
        finally:
            self.close()

    def close(self) -> None:
        """Close the file as it is; safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Staging:
    """The hidden folder in which an output grows.

    Parameters
    ----------
    output : Path
        The folder to fill; created with its parents if missing.
    overwrite : bool
        Whether it may already hold files.

    Raises
    ------
    OutputError
        If `output` cannot be created or written, is a file, or is not empty
        and `overwrite` is false.
    """

    def __init__(self, output: Path, *, overwrite: bool) -> None:
        check_output(output, overwrite=overwrite)
        self.output = output
        self.folder = output / STAGING_FOLDER
        self._created = [path for path in (output, *output.parents) if not path.exists()]
        try:
            output.mkdir(parents=True, exist_ok=True)
            if self.folder.is_dir() and not self.folder.is_symlink():
                shutil.rmtree(self.folder)
            self.folder.mkdir(mode=0o700)
        except OSError as error:
            self._remove_created()
            raise OutputError(f"{output}: cannot be written: {error.strerror}") from error

    def path(self, name: str) -> Path:
        """Return where the file `name` grows; its folder exists afterwards."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
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

    def copy_file(self, name: str, source: Path) -> None:
        """Copy a side file: its bytes, not the links, owners or modes that lead to it."""
        path = self.path(name)
        try:
            with open(source, "rb") as reader, open(path, "xb") as writer:
                shutil.copyfileobj(reader, writer, 1 << 20)
                writer.flush()
                os.fsync(writer.fileno())
        except OSError as error:
            raise explain_write_error(path, source.stat().st_size, error) from error

    def publish(self, names: Sequence[str]) -> None:
        """Rename the files `names` into the output, in this order, and end the staging.

        Weights that the output held before and that `names` does not replace
        are removed first, with their index: they belong to another model.
        """
        try:
            self._remove_old_weights(frozenset(names))
            for name in names:
                destination = self.output / name
                destination.parent.mkdir(parents=True, exist_ok=True)
                if name in (INDEX_FILE, SINGLE_FILE):
                    _sync_folder(self.output)
                os.replace(self.folder / name, destination)
            shutil.rmtree(self.folder)
            _sync_folder(self.output)
        except OSError as error:
            raise OutputError(
                f"{error.filename or self.output}: renaming into place failed: {error.strerror}"
            ) from error

    def _remove_old_weights(self, names: frozenset[str]) -> None:
        old = sorted(
            path
            for path in self.output.iterdir()
            if path.name.endswith((".safetensors", ".safetensors.index.json"))
        )
        # The index goes first: shards without one are no model, whereas an old
        # index over new shards would be a wrong one.
        for path in sorted(old, key=lambda path: not path.name.endswith(".json")):
            if path.name not in names or path.name == INDEX_FILE:
                path.unlink()

    def discard(self) -> None:
        """Remove everything that was written, and the folders that were created for it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._remove_created()

    def _remove_created(self) -> None:
        for path in self._created:
            try:
                path.rmdir()
            except OSError:
                return


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse an output folder that cannot be one, before anything is written.

    Raises
    ------
    OutputError
        If it is no folder, holds files and `overwrite` is false, or cannot be
        written.
    """
    if os.path.lexists(output) and not output.is_dir():
        raise OutputError(f"{output}: exists and is no folder: choose another --output")
    if output.is_dir():
        names = sorted(os.listdir(output))
        if names == [STAGING_FOLDER]:
            names = []  # what a killed run left behind, nothing of the user's
        if names and not overwrite:
            raise OutputError(
                f"{output}: not empty, it holds {len(names)} entries ({', '.join(names[:3])}"
                f"{', …' if len(names) > 3 else ''}): choose another --output, or pass --overwrite"
            )
    existing = existing_parent(output)
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"{output}: cannot be written: no permission to write into {existing}")


def check_linked_folders(output: Path, names: Iterable[str]) -> None:
    """Refuse to write through a folder of the output that is a symbolic link.

    Raises
    ------
    OutputError
        If one of the files `names` would land outside the output.
    """
    for name in names:
        for parent in PurePosixPath(name).parents:
            if parent.name and (output / parent).is_symlink():
                raise OutputError(
                    f"{output / parent}: a symbolic link, through which {name} would be written: "
                    "remove it, or choose another --output"
                )


def existing_parent(path: Path) -> Path:
    """Return the path, or the closest of its parents that exists."""
    absolute = path.absolute()
    return next(parent for parent in (absolute, *absolute.parents) if parent.exists())


def free_bytes(path: Path) -> int:
    """Return how many bytes can still be written where `path` is or will be."""
    return shutil.disk_usage(existing_parent(path)).free


def explain_write_error(path: Path, nbytes: int, error: OSError) -> OutputError:
    """Turn a failed write into a message with the file and both sizes."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OutputError(
            f"{path}: {error.strerror}: the file needs {nbytes:,} bytes, "
            f"{free_bytes(path.parent):,} are free. Nothing was left behind: free some space or "
            "choose another --output"
        )
    return OutputError(f"{path}: cannot be written: {error.strerror}")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
