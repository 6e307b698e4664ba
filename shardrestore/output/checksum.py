"""``SHA256SUMS``: checksums of a model folder's files, as ``sha256sum --check`` reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from ..checkpoint.source import LocalFile
from ..errors import CheckpointError

_BLOCK_BYTES = 1 << 20
_DIGITS = 64
_MARK = "\\"
_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}


def hash_file(path: Path, proceed: Callable[[], None] = lambda: None) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Parameters
    ----------
    path : Path
    proceed : callable
        Called before each block; may raise to stop.

    Raises
    ------
    CheckpointError
        If the file cannot be read.
    """
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_BLOCK_BYTES))
    source = LocalFile(path)
    try:
        for offset in range(0, source.nbytes, _BLOCK_BYTES):
            proceed()
            part = buffer[: min(_BLOCK_BYTES, source.nbytes - offset)]
            source.read_into(offset, part)
            digest.update(part)
    finally:
        source.close()
    return digest.hexdigest()


def encode_checksums(checksums: Mapping[str, str]) -> bytes:
    r"""Return the lines of ``SHA256SUMS``, in order of the names.

    A name that would break its line is escaped and its line marked by a
    backslash, as GNU coreutils do.

    Examples
    --------
    >>> encode_checksums({"config.json": "ab" * 32})[60:]
    b'abab  config.json\n'
    """
    lines = []
    for name, checksum in sorted(checksums.items()):
        escaped = "".join(_ESCAPES.get(character, character) for character in name)
        mark = "" if escaped == name else _MARK
        lines.append(f"{mark}{checksum}  {escaped}\n")
    return "".join(lines).encode("utf-8", "surrogateescape")


def parse_checksums(text: bytes, where: str) -> dict[str, str]:
    """Read the lines of ``SHA256SUMS``.

    Raises
    ------
    CheckpointError
        If a line is none of ``encode_checksums``.
    """
    checksums: dict[str, str] = {}
    for number, line in enumerate(text.decode("utf-8", "surrogateescape").split("\n"), start=1):
        if not line:
            continue
        escaped = line.startswith(_MARK)
        checksum, gap, name = line[escaped:].partition("  ")
        if len(checksum) != _DIGITS or not gap or not name:
            raise CheckpointError(f"{where}: line {number} is no checksum and name")
        checksums[_unescape(name) if escaped else name] = checksum
    return checksums


def _unescape(name: str) -> str:
    marks = {escape[1]: character for character, escape in _ESCAPES.items()}
    parts = iter(name)
    return "".join(marks.get(next(parts, ""), "") if c == _MARK else c for c in parts)
