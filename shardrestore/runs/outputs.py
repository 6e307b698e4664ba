"""Which folders may be written: refusals before anything is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..checkpoint.checksum import CHECKSUM_FILE
from ..checkpoint.folder import Checkpoint
from ..checkpoint.index import INDEX_FILE
from ..checkpoint.staging import STAGING_FOLDER, check_output, check_places
from ..checkpoint.writer import free_bytes
from ..errors import CheckpointError, OutputError
from ..passes.plan import Work
from ..report.files import REPORT_FILES
from .session import Session

Need = tuple[Path, int]
"""An output and its size in bytes."""


def check_outputs(outputs: Sequence[Path], session: Session) -> None:
    """Refuse outputs that cannot be written, before anything is.

    Parameters
    ----------
    outputs : sequence of Path
        One for each goal of the session's work.
    session : Session

    Raises
    ------
    OutputError
        If an output overlaps an input, cannot be written or must not be, or if
        the disk is too small for all of them.
    CheckpointError
        If a side file of the target cannot be read.
    """
    target, work = session.target, session.work
    names = [file.name for file in target.side_files]
    names += [*REPORT_FILES, CHECKSUM_FILE, INDEX_FILE, *(shard.filename for shard in work.shards)]
    for output in outputs:
        for role, checkpoint in (("base", session.base), ("target", target)):
            refuse_overlap(output, role, checkpoint)
        check_output(output, overwrite=session.request.overwrite, resume=session.request.resume)
        check_places(output, names)
    for file in target.side_files:
        if not os.access(file.source, os.R_OK):
            raise CheckpointError(f"{file.source}: cannot be read: no permission")
    check_disk(outputs[0], list_needs(outputs, session), work.spool_bytes)


def list_needs(outputs: Sequence[Path], session: Session) -> list[Need]:
    """Return what each output still takes: less what an unfinished run has staged in it."""
    work = session.work
    return [
        (output, work.output_bytes - (_count_staged(output, work) if session.request.resume else 0))
        for output in outputs
    ]


def _count_staged(output: Path, work: Work) -> int:
    """Return the bytes of the shards that are complete in an output's hidden folder."""
    total = 0
    for shard in work.shards:
        with suppress(OSError):
            total += os.stat(output / STAGING_FOLDER / shard.filename).st_size
    return total


def check_disk(place: Path, needs: Sequence[Need], spool_bytes: int) -> None:
    """Refuse outputs that together are larger than the disk's free space.

    Parameters
    ----------
    place : Path
        Where free space is counted.
    needs : sequence of Need
    spool_bytes : int
        What work files take besides.
    """
    free, needed = free_bytes(place), sum(nbytes for _, nbytes in needs) + spool_bytes
    if needed <= free:
        return
    lines = [f"{place}: not enough disk: {needed:,} bytes are needed, {free:,} are free"]
    if len(needs) > 1:
        rows = [*needs, ("work files, meanwhile", spool_bytes)]
        width = max(len(f"{nbytes:,}") for _, nbytes in rows)
        lines += [f"  {nbytes:>{width},} {name}" for name, nbytes in rows]
        lines.append("next step: free some space, ask for fewer at once or choose another --output")
    else:
        lines[0] += ": free some space or choose another --output"
    raise OutputError("\n".join(lines))


def refuse_overlap(output: Path, role: str, checkpoint: Checkpoint) -> None:
    """Refuse an output that is an input or its file, lies inside one, or holds one's file."""
    try:
        resolved = output.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, no folder, a NUL
        raise OutputError(f"{output}: cannot be the output: {error}") from error
    folder = checkpoint.folder.resolve()
    relation = None
    if resolved == folder:
        relation = f"is the {role} {checkpoint.folder}"
    elif folder in resolved.parents:
        relation = f"lies inside the {role} {checkpoint.folder}"
    else:
        names = [shard.filename for shard in checkpoint.shards]
        names += [file.name for file in checkpoint.side_files]
        for name in names:
            file = (folder / name).resolve()
            if resolved == file:
                relation = f"is {name} of the {role} {checkpoint.folder}"
            elif resolved in file.parents:
                relation = f"holds {name} of the {role} {checkpoint.folder}"
            if relation:
                break
    if relation:
        raise OutputError(f"{output}: {relation}: choose another --output")
