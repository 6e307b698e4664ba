"""Pointers of git-lfs: what a clone holds instead of a large file until it is pulled."""

from __future__ import annotations

POINTER = b"version https://git-lfs"
"""How each begins: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md."""

POINTER_BYTES = range(100, 1024)
"""How large one is: a SHA-256 has 64 digits, and its specification says "less than 1024 bytes"."""


def is_pointer(beginning: bytes | bytearray) -> bool:
    """Whether a file that begins so is a pointer."""
    return beginning.startswith(POINTER)


def explain_pointer(where: str) -> str:
    """Return what to say of a file that is a pointer."""
    return f"{where}: a git-lfs pointer, not the file itself: run `git lfs pull` in its folder"
