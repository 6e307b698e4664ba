"""What a repository stores and a response carries: bytes, or a file left where it lies."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from socket import socket
from typing import BinaryIO

SLICE_BYTES = 1 << 20
LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".gguf", ".model")
LFS_BYTES = 10 << 20
"""Files above this are stored with LFS whatever they are called."""


class Blob:
    """Immutable content, hashed when a hash is first asked for, and once.

    A file on disk is never read whole: it is hashed in slices and sent by the kernel.
    """

    def __init__(self, content: bytes | Path) -> None:
        self._content = content
        self.size_bytes = len(content) if isinstance(content, bytes) else content.stat().st_size

    @property
    def is_bytes(self) -> bool:
        return isinstance(self._content, bytes)

    @classmethod
    def of(cls, content: bytes | Path | Blob) -> Blob:
        return content if isinstance(content, Blob) else cls(content)

    def read(self) -> bytes:
        return self._content if isinstance(self._content, bytes) else self._content.read_bytes()

    def open(self) -> BinaryIO | None:
        """Open the file to send from, or return None for bytes, which need none."""
        return None if isinstance(self._content, bytes) else self._content.open("rb")

    def send(self, sock: socket, file: BinaryIO | None, start: int, stop: int) -> None:
        """Send bytes ``start`` to ``stop``, copied by the kernel alone; ``file`` is `open`'s."""
        if stop <= start:
            return
        if file is not None:
            sock.sendfile(file, start, stop - start)
        elif isinstance(self._content, bytes):
            sock.sendall(memoryview(self._content)[start:stop])

    @cached_property
    def sha256(self) -> str:
        return self._hash(hashlib.sha256())

    @cached_property
    def git_oid(self) -> str:
        """The SHA-1 that git gives the content itself."""
        return self._hash(hashlib.sha1(b"blob %d\0" % self.size_bytes))

    @property
    def pointer(self) -> bytes:
        """What git stores instead of the content, where LFS holds that."""
        return (
            "version https://git-lfs.github.com/spec/v1\n"
            f"oid sha256:{self.sha256}\nsize {self.size_bytes}\n"
        ).encode()

    def _hash(self, digest: hashlib._Hash) -> str:
        if isinstance(self._content, bytes):
            digest.update(self._content)
        else:
            with self._content.open("rb") as file:
                while piece := file.read(SLICE_BYTES):
                    digest.update(piece)
        return digest.hexdigest()


EMPTY = Blob(b"")


def is_lfs(path: str, size_bytes: int) -> bool:
    """Tell whether the Hub keeps a file in LFS; it never does so with an empty one."""
    return size_bytes > 0 and (path.endswith(LFS_SUFFIXES) or size_bytes > LFS_BYTES)


def describe_file(path: str, blob: Blob) -> dict[str, object]:
    """Return a file's entry in listings of a repository."""
    entry: dict[str, object] = {
        "type": "file",
        "path": path,
        "size": blob.size_bytes,
        "oid": blob.git_oid,
    }
    if is_lfs(path, blob.size_bytes):
        entry["oid"] = Blob(blob.pointer).git_oid
        entry["lfs"] = {
            "oid": blob.sha256,
            "size": blob.size_bytes,
            "pointerSize": len(blob.pointer),
        }
    return entry


def gather_folder(folder: Path) -> Mapping[str, Path]:
    """Return all files of a folder by their path in it."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
