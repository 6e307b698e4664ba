"""Giving complete files their names: renames that can be undone, or completed later.

They are listed before the first of them, as pairs of paths that a journal can hold. What they
replace is moved aside, not deleted: if a rename fails, all of them are undone; if the process is
killed between them, the rest can be done later. Renaming replaces a symbolic link, it never
writes through it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePath

from ..checkpoint.config import read_config
from ..checkpoint.document import read_document
from ..checkpoint.index import parse_index
from ..checkpoint.weights import is_index, read_named
from ..errors import CheckpointError, OutputError
from ..names import (
    CHECKSUM_FILE,
    INDEX_FILE,
    PAGE_FILE,
    REPLACED_FOLDER,
    SINGLE_FILE,
    STAGING_FOLDER,
    UPLOADED_FILE,
)
from .admission import exists
from .filesystem import sync_folder
from .lock import HeldFolder

_SHARD_NAME = re.compile(r"model(-\d+-of-\d+)?\.safetensors")

Move = tuple[str, str]
"""A rename: from where to where, both relative to the output."""


def plan_moves(output: Path, names: Sequence[str], *, replaces: bool) -> list[Move]:
    """List the renames that publish the staged files `names`, in this order.

    Weights of the model that the output holds leave it first, index foremost:
    shards without an index are no model, an old index over new shards would be
    a wrong one.

    Parameters
    ----------
    output : Path
    names : sequence of str
    replaces : bool
        Whether files that the output holds may leave it.

    Raises
    ------
    OutputError
        If they may not, and there are any: they have come since the run began.
    """
    here, replaced = STAGING_FOLDER, f"{STAGING_FOLDER}/{REPLACED_FOLDER}"
    leaving = dict.fromkeys(find_old_weights(output))
    for name in (CHECKSUM_FILE, PAGE_FILE, UPLOADED_FILE):
        if exists(output / name):
            leaving[name] = None  # of those weights
    moves = [(name, f"{replaced}/{name}") for name in leaving]
    for name in names:
        if exists(output / name) and name not in leaving:
            moves.append((name, f"{replaced}/{name}"))
        moves.append((f"{here}/{name}", name))
    leaves = [name for name, place in moves if place.startswith(replaced)]
    if leaves and not replaces:
        raise _refuse_newcomer(output / leaves[0])
    return moves


def _refuse_newcomer(path: Path) -> OutputError:
    return OutputError(
        f"{path}: was not there when the run began, and may not be replaced: move it elsewhere, "
        "or pass --overwrite, and go on with --resume"
    )


class Publication:
    """The renames that publish one output, until they are final.

    Parameters
    ----------
    held : HeldFolder
        The output.
    """

    def __init__(self, held: HeldFolder) -> None:
        self._held = held
        self._output = held.path
        self._renamed: list[Move] = []
        self._made: list[Path] = []

    def carry_out(self, moves: Sequence[Move]) -> None:
        """Carry out the renames of ``plan_moves``, except those that are done already.

        Raises
        ------
        OutputError
            If a rename fails; the output is then as it was.
        """
        self._held.check()
        try:
            for number, (source, destination) in enumerate(moves):
                if self._is_done(source, destination):
                    continue
                if destination == SINGLE_FILE or is_index(destination):
                    self._sync_names(moves[:number])
                self._rename(source, destination)
            self._check_published(moves)
            self._sync_names(moves)
        except BaseException as error:
            self.undo()
            if isinstance(error, OSError):
                raise OutputError(
                    f"{self._output / (error.filename or '')}: renaming into place failed: "
                    f"{error.strerror}; the output is as it was"
                ) from error
            raise

    def _is_done(self, source: str, destination: str) -> bool:
        # What leaves is never overwritten: once it has left, its place is taken by the new.
        left = destination.startswith(STAGING_FOLDER) and exists(self._output / destination)
        return left or not exists(self._output / source)

    def _sync_names(self, moves: Sequence[Move]) -> None:
        """Wait until the names that renames have given are on disk, those in subfolders first.

        With a journal the file system does so for all folders at once; ext2 has none.
        """
        folders = {folder for _, name in moves for folder in PurePath(name).parents}
        for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
            if exists(self._output / folder):
                sync_folder(self._output / folder)

    def is_carried_out(self, moves: Sequence[Move]) -> bool:
        """Return whether all renames of ``plan_moves`` are done."""
        return next(self._find_missing(moves), None) is None

    def _find_missing(self, moves: Sequence[Move]) -> Iterator[Path]:
        """Yield what has not got its name."""
        for source, destination in moves:
            place = self._output / destination
            if source.startswith(STAGING_FOLDER) and not exists(place):
                yield place

    def _check_published(self, moves: Sequence[Move]) -> None:
        """Refuse to end with a file that is neither here nor there."""
        for place in self._find_missing(moves):
            raise OutputError(
                f"{place}: was complete in {STAGING_FOLDER} and has vanished from it: start anew "
                "with --overwrite"
            )

    def _rename(self, source: str, destination: str) -> None:
        place = self._output / destination
        inside = [path for path in place.parents if self._output in path.parents]
        missing = [path for path in inside if not path.exists()]
        if exists(place):  # what was there when the renames were planned has left
            raise _refuse_newcomer(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        self._made += reversed(missing)
        # Noted before it is done: a signal may come between.
        self._renamed.append((source, destination))
        self._held.rename(source, destination)

    def undo(self) -> None:
        """Take back every rename, however often the user interrupts.

        Raises
        ------
        OutputError
            If a file cannot be moved back; it is kept, and named.
        """
        while self._renamed:
            source, destination = self._renamed[-1]
            try:
                if exists(self._output / destination) and not exists(self._output / source):
                    self._held.rename(destination, source)
                self._renamed.pop()
            except KeyboardInterrupt:
                continue
            except OSError as error:
                raise OutputError(
                    f"{self._output / source}: cannot be moved back from "
                    f"{self._output / destination}: {error.strerror}: "
                    f"{len(self._renamed)} files are still to be moved, by hand"
                ) from error
        for path in reversed(self._made):
            with suppress(OSError):
                path.rmdir()
        self._made = []

    @property
    def is_pending(self) -> bool:
        """Whether there are renames that are neither undone nor final."""
        return bool(self._renamed)

    def settle(self) -> None:
        """Make all renames final."""
        self._renamed, self._made = [], []


def find_old_weights(output: Path) -> list[str]:
    """Return the weights that a model folder holds, its index first.

    Files that belong to no model by their name or by the index, such as an
    adapter, are not among them.
    """
    named = _read_named(output)
    names = [name for name in (named, INDEX_FILE) if name and exists(output / name)]
    shards = {name for index in names if is_index(index) for name in _read_shards(output / index)}
    names += sorted(
        entry.name
        for entry in os.scandir(output)
        if entry.name in shards or _SHARD_NAME.fullmatch(entry.name)
    )
    return [name for name in dict.fromkeys(names) if not (output / name).is_dir()]


def _read_named(output: Path) -> str | None:
    """Return what the configuration of an old model names as its weights."""
    try:
        return read_named(read_config(output))
    except CheckpointError:
        return None


def _read_shards(path: Path) -> set[str]:
    """Return the shards that an index names; none if it is no valid index."""
    try:
        return set(parse_index(read_document(path), str(path)).values())
    except CheckpointError:
        return set()


def is_old_weight(name: str) -> bool:
    """Whether a file belongs to a model's weights by its name alone."""
    return name == INDEX_FILE or _SHARD_NAME.fullmatch(name) is not None
