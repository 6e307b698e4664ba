"""JSON documents beside the weights: read whole, within bounds, and weighed."""

from __future__ import annotations

import sys
from pathlib import Path

from ..errors import CheckpointError
from .lfs import explain_pointer, is_pointer
from .source import LocalFile

MAX_DOCUMENT_BYTES = 100_000_000
"""Largest index or configuration that is read, as for a header."""

VALUE_BYTES = 200
"""Memory of a parsed value besides its text: 6 to 146 bytes measured, nested ones most."""


def read_document(path: Path) -> bytes:
    """Read a document whole.

    Raises
    ------
    CheckpointError
        If it is no regular file, or larger than ``MAX_DOCUMENT_BYTES``.
    """
    return read_file(path, MAX_DOCUMENT_BYTES)


def read_file(path: Path, max_bytes: int = sys.maxsize) -> bytes:
    """Read a regular file whole.

    Raises
    ------
    CheckpointError
        If it is none, or larger than `max_bytes`.
    """
    return read_source(LocalFile(path), max_bytes)


def read_source(source: LocalFile, max_bytes: int = sys.maxsize) -> bytes:
    """Read an opened file whole, and close it.

    Raises
    ------
    CheckpointError
        If it is larger than `max_bytes`, or a pointer of git-lfs.
    """
    try:
        if source.nbytes > max_bytes:
            raise CheckpointError(
                f"{source.where}: {source.nbytes:,} bytes, at most {max_bytes:,} are read"
            )
        text = bytearray(source.nbytes)
        source.read_into(0, memoryview(text))
        if is_pointer(text):
            raise CheckpointError(explain_pointer(source.where))
        return bytes(text)
    finally:
        source.close()


def weigh_document(text: bytes) -> int:
    """Return the memory that parsing a document takes at most, in bytes.

    Its text as bytes, as characters and as parsed strings, and its values, of
    which there are at most as many as commas, colons and brackets.
    """
    values = sum(map(text.count, (b",", b":", b"[", b"{"))) + 1
    return len(text) * (1 + 2 * character_bytes(text)) + values * VALUE_BYTES


def weigh_table(text: bytes) -> int:
    """Return the memory that splitting a table takes at most, in bytes: see ``weigh_document``."""
    cells = text.count(b"\t") + text.count(b"\n") + 1
    return len(text) * (1 + 2 * character_bytes(text)) + cells * VALUE_BYTES


def character_bytes(text: bytes) -> int:
    """Return the bytes that each character of a text takes in memory, at most."""
    return 1 if text.isascii() else 4
