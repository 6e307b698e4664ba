"""What of a model's folder is uploaded, and as what."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..checkpoint.document import read_document
from ..checkpoint.links import find_homes
from ..checkpoint.sidefile import MAX_DEPTH
from ..documents import encode_json
from ..errors import CheckpointError
from ..names import CHECKSUM_FILE, RECORD_FILE, UPLOADED_FILE
from ..output.checksum import encode_checksums, parse_checksums
from ..report.card import name_input

Contents = Mapping[str, Path | bytes]
"""What is uploaded under each name."""


def find_contents(output: Path) -> Contents:
    """Return what is uploaded of a model folder: all of it except hidden files and the note."""
    return make_public(list_files(output))


def list_files(folder: Path) -> dict[str, Path]:
    """Return the files of a folder by their name in it, except hidden ones and the note.

    Raises
    ------
    CheckpointError
        If one of them is a link that leads out of the folder: what is there is not the model's.
    """
    files = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(_walk(folder))
        if path != folder / UPLOADED_FILE
    }
    _refuse_links(folder, files)
    return files


def _refuse_links(folder: Path, files: Mapping[str, Path]) -> None:
    links = find_homes(folder, follow=False)
    leading = [path for path in files.values() if path.is_symlink() and not links.allows(path)]
    if leading:
        raise CheckpointError(
            f"{leading[0]}: leads out of the model's folder, to {os.path.realpath(leading[0])}, "
            "and would be uploaded: put a copy in its place, or remove the link"
        )


def make_public(files: Mapping[str, Path]) -> Contents:
    """Return the files of a model as others may see them.

    The record goes without the folders that local inputs lie in, which are private,
    and its checksum accordingly.
    """
    contents: dict[str, Path | bytes] = dict(files)
    record = read_document(files[RECORD_FILE])
    public = _hide_folders(record)
    if public != record:
        contents[RECORD_FILE] = public
        if CHECKSUM_FILE in files:
            path = files[CHECKSUM_FILE]
            checksums = parse_checksums(read_document(path), str(path))
            checksums[RECORD_FILE] = hashlib.sha256(public).hexdigest()
            contents[CHECKSUM_FILE] = encode_checksums(checksums)
    return contents


def _walk(folder: Path, depth: int = 0) -> Iterator[Path]:
    """Yield regular files; links to files are followed, links to folders are not."""
    if depth > MAX_DEPTH:
        raise CheckpointError(
            f"{folder.parents[depth - 1]}: holds folders more than {MAX_DEPTH} deep, which no "
            "model has: move them elsewhere"
        )
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), depth + 1)
            elif entry.is_file():
                yield Path(entry.path)


def _hide_folders(record: bytes) -> bytes:
    document: dict[str, Any] = json.loads(record)
    for role in ("base", "target"):
        if "repository" not in document[role]:
            document[role]["path"] = name_input(document[role], role)
    return encode_json(document)


def weigh(contents: Contents) -> dict[str, int]:
    """Return the size of each file in bytes."""
    return {
        name: len(content) if isinstance(content, bytes) else content.stat().st_size
        for name, content in contents.items()
    }
