"""A file beside the shards, and all of them in a folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from ..errors import CheckpointError
from .document import read_file
from .lfs import POINTER_BYTES
from .links import LinkRule
from .omission import find_omission
from .source import Fetchable, Progress, Versioned, ignore_progress
from .state import FileState

MAX_DEPTH = 32
"""Folders within each other; a model has two or three, a trap has a thousand."""

MAX_FOLDERS = 100_000
"""Folders that are entered. Version control keeps hundreds; links between folders make more."""


class SideFile(Fetchable, Versioned, Protocol):
    """A file of a checkpoint that is copied as it is, or not at all."""

    @property
    def name(self) -> str:
        """Path relative to the checkpoint, with forward slashes."""

    @property
    def is_regular(self) -> bool:
        """Whether it has contents that can be copied."""

    @property
    def leads_outside(self) -> bool:
        """Whether it is a link that must not be followed."""

    def check_readable(self) -> None:
        """Raise ``CheckpointError`` if it is known that it cannot be read, or is not here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSideFile:
    """A side file on disk."""

    name: str
    """Path relative to the folder, with forward slashes."""
    folder: Path
    """The checkpoint's."""
    state: FileState
    """When it was found; the size of a link that is not followed is 0."""
    is_regular: bool = True
    leads_outside: bool = False

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.state.nbytes

    @property
    def source(self) -> Path:
        """Where its bytes are; links are followed."""
        return self.folder / self.name

    @property
    def on_disk(self) -> bool:
        """It is."""
        return True

    def check_readable(self) -> None:
        """Raise ``CheckpointError`` without permission to read it, or if it is a pointer."""
        if not os.access(self.source, os.R_OK):
            raise CheckpointError(f"{self.source}: cannot be read: no permission")
        if self.nbytes in POINTER_BYTES:
            read_file(self.source)  # which refuses a pointer of git-lfs

    def fetch(self, advance: Progress = ignore_progress) -> Path:
        """Return where its bytes are."""
        return self.source

    def identity(self) -> dict[str, Any]:
        """Return size in bytes and time of the last change in nanoseconds."""
        return self.state.identity()

    def check_unchanged(self) -> None:
        """Raise ``InputChangedError`` if it was written, replaced or removed since it was found."""
        self.state.check(self.source, "during the run")


def find_files(
    folder: Path, links: LinkRule, kind: type[LocalSideFile] = LocalSideFile
) -> Iterator[LocalSideFile]:
    """Yield every file of a model folder, in no order.

    Folders that are reached through a link are entered where the link may be followed, except
    one that the link lies in.

    Parameters
    ----------
    folder : Path
    links : LinkRule
    kind : type
        Of what is yielded.

    Raises
    ------
    CheckpointError
        If folders lie more than ``MAX_DEPTH`` deep; not where nothing is copied.
    """
    return _Walk(folder, links, kind).enter("", ())


class _Walk:
    """One listing of a model folder."""

    def __init__(self, folder: Path, links: LinkRule, kind: type[LocalSideFile]) -> None:
        self._folder = folder
        self._links = links
        self._kind = kind
        self._entered = 0

    def enter(self, prefix: str, inside: tuple[tuple[int, int], ...]) -> Iterator[LocalSideFile]:
        """Yield the files below a folder, which lies inside those of these inodes."""
        place = self._folder / prefix
        self._entered += 1
        if self._entered > MAX_FOLDERS:
            raise CheckpointError(
                f"{self._folder}: holds more than {MAX_FOLDERS:,} folders, which no model does: "
                "remove links between its folders"
            )
        if prefix.count("/") > MAX_DEPTH:
            yield from self._refuse_depth(prefix)
            return
        try:
            status = os.stat(place)
            entries = list(os.scandir(place))
        except OSError:
            if find_omission(prefix + "x") is None:
                raise
            return  # nothing is copied from there
        inside = (*inside, (status.st_dev, status.st_ino))
        for entry in entries:
            name = prefix + entry.name
            if self._is_folder(entry, inside):
                yield from self.enter(name + "/", inside)
            else:
                yield self._describe(entry, name)

    def _refuse_depth(self, prefix: str) -> Iterator[LocalSideFile]:
        """Refuse a folder that lies too deep, unless nothing is copied from there."""
        if find_omission(prefix + "x") is None:
            raise CheckpointError(
                f"{self._folder}: holds folders more than {MAX_DEPTH} deep, which no model has: "
                f"move {prefix.partition('/')[0]!r} elsewhere"
            )
        return iter(())

    def _is_folder(self, entry: os.DirEntry[str], inside: tuple[tuple[int, int], ...]) -> bool:
        """Whether an entry is a folder to be entered."""
        try:
            if not entry.is_symlink():
                return entry.is_dir()
            if not entry.is_dir() or not self._links.allows(Path(entry.path)):
                return False
            status = entry.stat()
        except OSError:
            return False
        return (status.st_dev, status.st_ino) not in inside

    def _describe(self, entry: os.DirEntry[str], name: str) -> LocalSideFile:
        """Describe what is no folder to be entered."""
        try:
            status = entry.stat()
        except OSError:  # a link that leads nowhere: there is nothing to copy
            status = entry.stat(follow_symlinks=False)
        is_regular = stat.S_ISREG(status.st_mode)
        is_file_or_folder = is_regular or stat.S_ISDIR(status.st_mode)
        return self._kind(
            name=name,
            folder=self._folder,
            state=FileState.of(status) if is_regular else replace(FileState.of(status), nbytes=0),
            is_regular=is_regular,
            leads_outside=entry.is_symlink()
            and is_file_or_folder
            and not self._links.allows(Path(entry.path)),
        )
