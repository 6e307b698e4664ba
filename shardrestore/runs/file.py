"""A single file as output: refused, or written whole."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from ..errors import OutputError
from ..output.writer import existing_parent, explain_write_error


def check_file(output: Path, what: str, *, overwrite: bool) -> None:
    """Refuse a file that cannot be written, before anything is.

    Parameters
    ----------
    output : Path
    what : str
        What it is to hold, for the message.
    overwrite : bool
        Whether it may be there already.

    Raises
    ------
    OutputError
    """
    try:
        if output.is_dir():
            raise OutputError(f"{output}: is a folder: name {what}'s file")
        existing = existing_parent(output.absolute().parent)
        if not existing.is_dir():
            raise OutputError(f"{output}: {existing} is no folder: choose another --output")
        if os.path.lexists(output) and not overwrite:
            raise OutputError(f"{output}: exists: choose another --output, or pass --overwrite")
    except OSError as error:
        raise OutputError(f"{output}: cannot be the output: {error.strerror}") from error


def _rename_without_replacing(source: Path, destination: Path) -> None:
    """Rename a file; a ``FileExistsError`` if there is one of the new name."""
    try:
        os.link(source, destination)  # unlike a rename, it never replaces anything
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(destination):
            raise FileExistsError(destination) from None
        os.rename(source, destination)
    else:
        source.unlink()


class NewFile:
    """A file that grows in a private folder beside its place, and is moved there when complete."""

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self._final = path
        self._overwrite = overwrite
        self._made: list[Path] = []
        # Named before it is made: a signal that comes between finds what to remove.
        self.folder = path.parent / f".{path.name}.{secrets.token_hex(4)}.partial"
        self.path = self.folder / path.name

    def __enter__(self) -> NewFile:
        try:
            self._made = [parent for parent in self._final.parents if not parent.exists()]
            self._final.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700)
        except BaseException as error:
            self._remove()
            if isinstance(error, OSError):
                raise explain_write_error(self._final, 0, error) from error
            raise
        return self

    def publish(self) -> None:
        """Move the file to its place.

        Raises
        ------
        OutputError
            Also if another file has come there, and must not be replaced.
        """
        try:
            if self._overwrite:
                os.rename(self.path, self._final)
            else:
                _rename_without_replacing(self.path, self._final)
        except FileExistsError as error:
            raise OutputError(
                f"{self._final}: was put there meanwhile, perhaps by the same command: choose "
                "another --output, or pass --overwrite"
            ) from error
        except OSError as error:
            raise explain_write_error(self._final, 0, error) from error
        self._made = []

    def _remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            for parent in self._made:
                parent.rmdir()

    def __exit__(self, *exception: object) -> None:
        self._remove()
