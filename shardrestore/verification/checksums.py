"""The folder's own checksums, if it has any."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from ..checkpoint.document import read_document
from ..checkpoint.entry import show_name
from ..errors import CheckpointError
from ..names import CHECKSUM_FILE
from ..output.checksum import hash_file, parse_checksums
from .findings import Findings


def check_checksums(folder: Path, findings: Findings) -> None:
    """Compare every file that ``SHA256SUMS`` names with its checksum."""
    path = folder / CHECKSUM_FILE
    if not os.path.lexists(path):
        return
    try:
        recorded = parse_checksums(read_document(path), str(path))
    except CheckpointError as error:
        findings.add(str(error))
        return
    for name, checksum in recorded.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            findings.add(f"{path}: names {show_name(name)}, which is outside the folder")
            continue
        try:
            found = hash_file(folder / name)
        except CheckpointError as error:
            findings.add(f"{error}, though {CHECKSUM_FILE} names it")
            continue
        if found != checksum:
            findings.add(
                f"{folder / name}: its SHA-256 is {found}, {CHECKSUM_FILE} says {checksum}"
            )
