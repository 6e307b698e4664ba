"""The folder's own checksums, if it has any."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from ..checkpoint.allowance import Allowance
from ..checkpoint.document import weigh_table
from ..checkpoint.entry import show_name
from ..errors import CheckpointError
from ..names import CHECKSUM_FILE, PAGE_FILE, UPLOADED_FILE
from ..output.checksum import hash_file, parse_checksums
from .findings import Findings


def check_checksums(
    folder: Path,
    expected: Collection[str],
    findings: Findings,
    allowance: Allowance,
    *,
    promised: bool,
) -> None:
    """Compare every file of an output with its checksum in ``SHA256SUMS``.

    Parameters
    ----------
    folder : Path
    expected : collection of str
        Names of its files.
    findings : Findings
    allowance : Allowance
        What parsing them may take.
    promised : bool
        Whether the record says that there are checksums.
    """
    path = folder / CHECKSUM_FILE
    if not os.path.lexists(path):
        if promised:
            findings.add(f"{path}: missing, though the model was written with --checksum")
        return
    try:
        recorded = parse_checksums(allowance.read(path, weigh_table), str(path))
    except CheckpointError as error:
        findings.add(str(error))
        return
    _check_coverage(path, recorded, expected, findings)
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


def _check_coverage(
    path: Path, recorded: Collection[str], expected: Collection[str], findings: Findings
) -> None:
    """Note files that have no checksum: nothing says whether they are what was written."""
    listed = {str(PurePosixPath(name)) for name in recorded}
    here = (name for name in expected if (path.parent / name).is_file())
    missing = sorted({*here} - listed - {CHECKSUM_FILE, PAGE_FILE, UPLOADED_FILE})
    if missing:
        findings.add(
            f"{path}: incomplete: {len(missing)} of {len(missing) + len(listed)} files have no "
            f"checksum in it, the first {show_name(missing[0])}"
        )
