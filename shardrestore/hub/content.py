"""Whether bytes are those that a commit lists: by the SHA-256 of an object, or its git id.

What has been found right is remembered beside the cache, by the file's size and times, so that each
download is hashed once.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..checkpoint.source import Progress
from ..errors import HubError

BLOCK_BYTES = 1 << 20
"""What is read and hashed at once."""

_MARKS_FOLDER = ".shardrestore"
_HASHES = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")

Read = Callable[[int, memoryview], None]
"""Fills a buffer from an offset on."""


def is_hash(etag: str) -> bool:
    """Whether an ETag says what the bytes are; that of a mirror may say nothing."""
    return _HASHES.fullmatch(etag) is not None


def hash_content(read: Read, nbytes: int, etag: str, advance: Progress) -> str:
    """Return the hash of bytes that a commit lists by `etag`.

    Parameters
    ----------
    read : callable
    nbytes : int
        How many there are.
    etag : str
        What ``is_hash`` accepts: a SHA-256, or the git id of a file that is no object.
    advance : callable
        Called with the bytes of each block; may raise to stop.
    """
    if len(etag) == 64:
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(b"blob %d\0" % nbytes, usedforsecurity=False)
    buffer = memoryview(bytearray(min(BLOCK_BYTES, nbytes)))
    for offset in range(0, nbytes, BLOCK_BYTES):
        part = buffer[: nbytes - offset]
        read(offset, part)
        digest.update(part)
        advance(len(part))
    return digest.hexdigest()


def refuse_other_content(where: str, what: str, found: str, etag: str) -> None:
    """Raise HubError unless a hash is the one that the commit lists."""
    if found == etag:
        return
    kind = "SHA-256" if len(etag) == 64 else "git id"
    raise HubError(
        f"{where}: {what} has {kind} {found}, the commit lists {etag}: these are not the "
        "commit's bytes: delete what the cache has of it and run again; if that does not help, "
        "the Hub serves others than it lists"
    )


class Marks:
    """What has been found right in the cache of one repository.

    Parameters
    ----------
    folder : Path
        The repository's folder in the cache.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / _MARKS_FOLDER

    def has(self, etag: str, path: Path) -> bool:
        """Whether a file was right when it was of its present size and times."""
        try:
            return (self._folder / etag).read_text() == describe_state(path)
        except (OSError, ValueError):
            return False

    def add(self, etag: str, state: str) -> None:
        """Remember a file that is right; a cache that cannot be written has it hashed again."""
        with suppress(OSError):
            self._folder.mkdir(exist_ok=True)
            (self._folder / etag).write_text(state)


def describe_state(path: Path) -> str:
    """Return what changes when a file is written, or replaced by another."""
    now = os.stat(path)
    return f"{now.st_size} {now.st_mtime_ns} {now.st_ctime_ns} {now.st_ino}\n"
