"""Where a checkpoint's files are: a local folder, or something that can be asked like one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from .contents import MAX_LISTED_DEPTH, MAX_LISTED_FILES, Contents, by_folder
from .document import MAX_DOCUMENT_BYTES, read_source
from .links import find_homes
from .sidefile import SideFile, find_files
from .source import LocalFile, ShardFile


class Location(Protocol):
    """The files of a checkpoint."""

    @property
    def where(self) -> str:
        """Name for messages."""

    @property
    def folder(self) -> Path:
        """Folder that its files lie in, or will: no output may lie there."""

    @property
    def remark(self) -> str:
        """What its user should know: why it is this one; empty if there is nothing."""

    def identity(self) -> dict[str, Any]:
        """Return what names it, as JSON values; ``path`` opens it again."""

    def names(self) -> list[str]:
        """Return the names of its files, sorted; of a folder's entries, those at its top."""

    def has(self, name: str) -> bool:
        """Whether there is something of that name."""

    def read(self, name: str) -> bytes:
        """Read a document, such as ``config.json``, whole."""

    def check_unchanged(self) -> None:
        """Raise ``InputChangedError`` if a document is not what it was when it was read."""

    def open(self, names: Sequence[str]) -> list[ShardFile]:
        """Open shards for reading."""

    def files(self) -> Iterable[SideFile]:
        """Return all its files, in any order."""

    def contents(self) -> Contents:
        """Return all its files by name, also in folders, to say what it holds if no model."""

    def explain_missing(self, name: str) -> str:
        """Say what to do about a shard that is not there."""

    def close(self) -> None:
        """Release what is shared by its files."""


class LocalFolder:
    """A folder on disk.

    Parameters
    ----------
    folder : Path
    remark : str
        What its user should know.
    follow_links : bool
        Whether links in it may lead anywhere.
    """

    def __init__(self, folder: Path, remark: str = "", *, follow_links: bool = False) -> None:
        self.folder = folder
        self.links = find_homes(folder, follow=follow_links)
        self._documents: dict[str, LocalFile] = {}
        self.where = str(folder)
        self.remark = remark

    def identity(self) -> dict[str, Any]:
        """Return its whole path."""
        return {"path": str(self.folder.resolve())}

    def names(self) -> list[str]:
        """Return the names of its entries, sorted."""
        return sorted(os.listdir(self.folder))

    def has(self, name: str) -> bool:
        """Whether there is such an entry, and a dangling link is none."""
        return os.path.exists(self.folder / name)

    def read(self, name: str) -> bytes:
        """Read a document whole."""
        source = self._documents[name] = self._open(self.folder / name)
        return read_source(source, MAX_DOCUMENT_BYTES)

    def check_unchanged(self) -> None:
        """Raise ``InputChangedError`` if a document is not what it was when it was read."""
        for source in self._documents.values():
            source.check_unchanged()

    def open(self, names: Sequence[str]) -> list[ShardFile]:
        """Open shards for reading."""
        opened: list[ShardFile] = []
        try:
            opened.extend(self._open(self.folder / name) for name in names)
        except BaseException:
            for source in opened:
                source.close()
            raise
        return opened

    def _open(self, path: Path) -> LocalFile:
        self.links.check(path)
        return self._open_file(path)

    def _open_file(self, path: Path) -> LocalFile:
        return LocalFile(path)

    def files(self) -> Iterable[SideFile]:
        """Return all its files."""
        return find_files(self.folder, self.links)

    def contents(self) -> Contents:
        """Return its files by name, as far as it is looked into."""
        return Contents(where=self.where, folders=by_folder(list_below(self.folder)))

    def explain_missing(self, name: str) -> str:
        """Say what to do about a shard that is not there."""
        return "download it again"

    def close(self) -> None:
        """Do nothing: each file is closed by itself."""


def list_below(folder: Path) -> list[str]:
    """Return the paths of files in a folder and below it, the nearest first, within bounds.

    Hidden folders, links to folders, and folders that may not be listed are left out.
    """
    files: list[str] = []
    layer = [""]
    for _ in range(MAX_LISTED_DEPTH):
        below: list[str] = []
        for prefix in layer:
            if len(files) + len(below) > MAX_LISTED_FILES:
                return files
            with suppress(OSError), os.scandir(folder / prefix) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        files.append(prefix + entry.name)
                    elif not entry.name.startswith("."):
                        below.append(f"{prefix}{entry.name}/")
        layer = sorted(below)
    return files
