"""Outputs that are inputs: by path, by link, or mounted at another place.

Device and inode tell what a path cannot: a folder that is mounted at two places is one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from ..checkpoint.folder import Checkpoint
from ..errors import OutputError

Inode = tuple[int, int]
"""Device and inode."""


def refuse_overlap(
    output: Path, role: str, checkpoint: Checkpoint, names: Sequence[str] = ()
) -> None:
    """Refuse an output that is an input or its file, lies inside one, or holds one's file.

    Parameters
    ----------
    output : Path
    role : str
        ``"base"`` or ``"target"``, for the message.
    checkpoint : Checkpoint
        The input.
    names : sequence of str
        Files that will be written into the output, if it is a folder.

    Raises
    ------
    OutputError
    """
    try:
        relation = _Overlap(checkpoint).describe(output.resolve(), names)
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, no folder, a NUL
        raise OutputError(f"{output}: cannot be the output: {error}") from error
    if relation:
        raise OutputError(
            f"{output}: {relation} the {role} {checkpoint.where}: choose another --output"
        )


class _Overlap:
    """An input's folders and files, by path and by inode."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._folder = checkpoint.location.folder.resolve()
        self._names = [shard.filename for shard in checkpoint.shards]
        self._names += [file.name for file in checkpoint.side_files.copied]

    def describe(self, output: Path, names: Sequence[str]) -> str | None:
        """Return how an output overlaps the input, as the beginning of a phrase."""
        folder = _find_inode(self._folder)
        for place in (output, *output.parents):
            if place == self._folder or (folder and _find_inode(place) == folder):
                return "is" if place == output else "lies inside"
        return self._find_by_path(output) or self._find_by_inode(output, names)

    def _find_by_path(self, output: Path) -> str | None:
        for name, file in self._real_files():
            if output == file:
                return f"is {name} of"
            if output in file.parents:
                return f"holds {name} of"
        return None

    def _real_files(self) -> Iterator[tuple[str, Path]]:
        """Yield name and real place of each file; folders are resolved once."""
        folders: dict[str, Path] = {}
        for name in self._names:
            parent, _, last = name.rpartition("/")
            if parent not in folders:
                folders[parent] = (self._folder / parent).resolve()
            file = folders[parent] / last
            yield name, file.resolve() if file.is_symlink() else file

    def _find_by_inode(self, output: Path, names: Sequence[str]) -> str | None:
        """Look for the input's folders and files where the output's will be written."""
        places = {place for place in _list_places(output, names) if place.exists()}
        if not places:
            return None
        own = self._list_inodes()
        for place in sorted(places):
            inode = _find_inode(place)
            # Another name of a file is replaced, what it names stays: that is no overlap.
            if inode in own and (place.is_dir() or place.stat().st_nlink == 1):
                at = "is" if place == output else f"has, as {place.relative_to(output)},"
                return f"{at} {own[inode]} of"
        return None

    def _list_inodes(self) -> dict[Inode, str]:
        found: dict[Inode, str] = {}
        for name in _with_parents(self._names):
            inode = _find_inode(self._folder / name)
            if inode is not None:
                found.setdefault(inode, name)
        return found


def _list_places(output: Path, names: Sequence[str]) -> Iterator[Path]:
    yield output
    if output.is_dir():
        yield from (output / name for name in _with_parents(names))


def _with_parents(names: Iterable[str]) -> set[str]:
    """Return names of files and of the folders that they lie in, without the outermost."""
    found = set(names)
    for folder in {name.rpartition("/")[0] for name in found}:
        found |= {str(part) for part in (PurePosixPath(folder), *PurePosixPath(folder).parents)}
    return found - {"", "."}


def _find_inode(path: Path) -> Inode | None:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino
