"""Which folders may be written: refusals before anything is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .checkpoint.folder import Checkpoint
from .checkpoint.index import INDEX_FILE
from .checkpoint.staging import check_output, check_places
from .checkpoint.writer import free_bytes
from .errors import CheckpointError, OutputError
from .passes.plan import Work
from .report.files import REPORT_FILES


def check_outputs(
    outputs: Sequence[Path],
    base: Checkpoint,
    target: Checkpoint,
    work: Work,
    *,
    overwrite: bool,
) -> None:
    """Refuse outputs that cannot be written, before anything is.

    Raises
    ------
    OutputError
        If an output overlaps an input, cannot be written or must not be, or if
        the disk is too small for all of them.
    CheckpointError
        If a side file of the target cannot be read.
    """
    names = [file.name for file in target.side_files]
    names += [*REPORT_FILES, INDEX_FILE, *(shard.filename for shard in work.shards)]
    for output in outputs:
        for role, checkpoint in (("base", base), ("target", target)):
            _check_overlap(output, role, checkpoint)
        check_output(output, overwrite=overwrite)
        check_places(output, names)
    for file in target.side_files:
        if not os.access(file.source, os.R_OK):
            raise CheckpointError(f"{file.source}: cannot be read: no permission")
    free = free_bytes(outputs[0])
    if free < work.disk_bytes:
        raise OutputError(
            f"{outputs[0]}: not enough disk: {work.disk_bytes:,} bytes are needed, {free:,} are "
            "free: free some space or choose another --output"
        )


def _check_overlap(output: Path, role: str, checkpoint: Checkpoint) -> None:
    """Refuse an output that is an input, lies inside one, or holds one of its files."""
    try:
        resolved = output.resolve()
    except (OSError, RuntimeError) as error:  # a loop of links, or no current folder
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
        held = (name for name in names if resolved in (folder / name).resolve().parents)
        name = next(held, None)
        if name is not None:
            relation = f"holds {name} of the {role} {checkpoint.folder}"
    if relation:
        raise OutputError(f"{output}: {relation}: choose another --output")
