"""Which folders may be written: refusals before anything is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..checkpoint.entry import show_name
from ..errors import OutputError
from ..inputs.download import Downloads, Need
from ..names import (
    CARD_FILE,
    CHECKSUM_FILE,
    JOURNAL_FILE,
    PAGE_FILE,
    REPORT_FILES,
    STAGING_FOLDER,
    UNFINISHED_FOLDER,
    UPLOADED_FILE,
)
from ..output.admission import check_output, check_places
from ..output.card import output_name
from ..output.foreign import find_foreign_files
from ..output.publication import find_old_weights
from ..output.writer import existing_parent, free_bytes
from ..plan.work import Work
from .journal import Journal
from .overlap import refuse_overlap
from .session import Session


def check_outputs(outputs: Sequence[Path], session: Session, *, one_by_one: bool = False) -> None:
    """Refuse outputs that cannot be written, before anything is.

    Parameters
    ----------
    outputs : sequence of Path
        One for each goal of the session's work.
    session : Session
    one_by_one : bool
        Whether each shard leaves the disk before the next is begun.

    Raises
    ------
    OutputError
        If an output overlaps an input, cannot be written or must not be, or if
        the disk is too small for all of them.
    CheckpointError
        If a side file of the target cannot be read.
    """
    target, names = session.target, list_files(session)
    for output in outputs:
        for role, checkpoint in (("base", session.base), ("target", target)):
            refuse_overlap(output, role, checkpoint, names)
        check_output(output, overwrite=session.request.overwrite, resume=session.request.resume)
        check_places(output, names)
    for file in target.side_files.copied:
        file.check_readable()
    resumes = session.request.resume
    needs = find_needs(outputs, session, one_by_one=one_by_one, resumes=resumes)
    check_disk(outputs[0], needs, session.downloads)


def list_files(session: Session) -> list[str]:
    """Return the names of all files that a run may write into an output."""
    target = session.target
    return [
        *(output_name(file.name) for file in target.side_files.copied),
        *(*REPORT_FILES, PAGE_FILE, CARD_FILE, CHECKSUM_FILE),
        *filter(None, [target.index]),
        *(shard.filename for shard in session.work.shards),
    ]


def remark_on_foreign_files(output: Path, session: Session) -> Iterator[str]:
    """Say that files will stay beside a model that are no part of it, if there are any.

    An adapter of the model that it replaces, for example, would be applied to it.
    """
    if not session.request.overwrite:
        return
    leaving = [*find_old_weights(output), CHECKSUM_FILE, PAGE_FILE, UPLOADED_FILE]
    foreign = find_foreign_files(output, {*list_files(session), *leaving})
    if foreign:
        listed = ", ".join(map(show_name, foreign[:3]))
        more = f" and {len(foreign) - 3:,} more" if len(foreign) > 3 else ""
        yield (
            f"{output}: {listed}{more}: no part of the new model, and not replaced by it: move "
            "elsewhere what does not belong beside it"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Disk that a run still takes."""

    outputs: list[Need]
    spool_bytes: int
    """Work files, meanwhile."""

    @property
    def nbytes(self) -> int:
        """All together."""
        return sum(nbytes for _, nbytes in self.outputs) + self.spool_bytes


def find_needs(
    outputs: Sequence[Path], session: Session, *, one_by_one: bool = False, resumes: bool
) -> Needs:
    """Return what each output still takes, after what an unfinished run has done for it."""
    work, done = session.work, [0] * len(outputs)
    output_bytes = work.held_bytes(one_by_one=one_by_one)
    if resumes:
        if Journal(outputs[0] / STAGING_FOLDER / JOURNAL_FILE).prepared:
            return Needs(outputs=[], spool_bytes=0)  # only renames are left
        done = [_count_staged(output, work) for output in outputs]
    return Needs(
        outputs=[
            (output, max(output_bytes - staged, 0))
            for output, staged in zip(outputs, done, strict=True)
        ],
        spool_bytes=work.spool_bytes,
    )


def _count_staged(output: Path, work: Work) -> int:
    """Return the bytes in an output's hidden folder that are kept, or will be free again."""
    total = 0
    for shard in work.shards:
        with suppress(OSError):
            total += os.stat(output / STAGING_FOLDER / shard.filename).st_size
        with suppress(OSError):
            unfinished = os.stat(output / STAGING_FOLDER / UNFINISHED_FOLDER / shard.filename)
            total += unfinished.st_blocks * 512
    return total


def check_disk(place: Path, needs: Needs, downloads: Downloads | None = None) -> None:
    """Refuse outputs, and downloads into the cache, that are larger than the free space.

    The cache may be on another disk than the output: each is held against its own.
    """
    arriving = downloads.needs.values() if downloads else ()
    beside = [need for need in arriving if _find_disk(need[0]) == _find_disk(place)]
    disks: dict[int, int] = {}
    for folder, folder_bytes in arriving:
        free, disk = free_bytes(folder), _find_disk(folder)
        nbytes = disks[disk] = disks.get(disk, 0) + folder_bytes
        if nbytes > free:
            raise OutputError(
                f"{folder}: not enough disk to download: {nbytes:,} bytes are needed, {free:,} "
                "are free: free some space, set HF_HOME to a larger disk, or read without "
                "downloading by --stream"
            )
    free = free_bytes(place)
    taken = [*needs.outputs, *beside]
    needed = sum(nbytes for _, nbytes in taken) + needs.spool_bytes
    if needed <= free:
        return
    lines = [f"{place}: not enough disk: {needed:,} bytes are needed, {free:,} are free"]
    if len(taken) > 1:
        rows = [*taken, ("work files, meanwhile", needs.spool_bytes)]
        width = max(len(f"{nbytes:,}") for _, nbytes in rows)
        lines += [f"  {nbytes:>{width},} {name}" for name, nbytes in rows]
        stream = ", read without downloading by --stream" if beside else ""
        lines.append(
            f"next step: free some space, ask for fewer at once{stream} or choose another --output"
        )
    else:
        lines[0] += ": free some space or choose another --output"
    raise OutputError("\n".join(lines))


def _find_disk(place: Path) -> int:
    return os.stat(existing_parent(place.absolute())).st_dev
