"""What became of the files beside the shards, as results, documents and texts say it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..checkpoint.entry import show_name
from ..checkpoint.selection import LeftOut, SideFiles, is_weights
from ..documents import OMITTED, key

SHOWN_FILES = 3
"""Files that a text names, the largest; of others, how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedFile:
    """A file that is copied as it is."""

    name: str
    nbytes: int = field(metadata=key("bytes"))


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOutFile:
    """A file that is not copied, or a folder of such."""

    name: str
    """A folder's has ``/`` at its end."""
    files: int
    nbytes: int = field(metadata=key("bytes"))
    reason: str
    """Why it is not copied."""

    @property
    def label(self) -> str:
        """Its name as a line can hold it."""
        return show_name(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedFiles:
    """The files that are copied as they are, all together."""

    files: int
    nbytes: int = field(metadata=key("bytes"))
    not_restored: tuple[CopiedFile, ...]
    """Weights among them: no part of what was restored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOutFiles:
    """The files that are not copied, all together."""

    files: int
    nbytes: int = field(metadata=key("bytes"))
    parts: tuple[LeftOutFile, ...]
    """In order of name."""

    @property
    def largest(self) -> Sequence[LeftOutFile]:
        """The parts that a text names."""
        return sorted(self.parts, key=lambda part: -part.nbytes)[:SHOWN_FILES]


@dataclass(frozen=True, slots=True, kw_only=True)
class SideFileFigures:
    """What became of a target's files besides its shards and index."""

    copied: CopiedFiles
    left_out: LeftOutFiles
    largest: tuple[CopiedFile, ...] = field(metadata=OMITTED)
    """Those of the copied files that a text names."""


def describe_side_files(side_files: SideFiles) -> SideFileFigures:
    """Return what becomes of a target's files."""
    copied = [CopiedFile(name=one.name, nbytes=one.nbytes) for one in side_files.copied]
    return SideFileFigures(
        copied=CopiedFiles(
            files=len(copied),
            nbytes=side_files.nbytes,
            not_restored=tuple(file for file in copied if is_weights(file.name)),
        ),
        left_out=LeftOutFiles(
            files=sum(part.files for part in side_files.left_out),
            nbytes=sum(part.nbytes for part in side_files.left_out),
            parts=tuple(map(_describe_part, side_files.left_out)),
        ),
        largest=tuple(sorted(copied, key=lambda file: -file.nbytes)[:SHOWN_FILES]),
    )


def _describe_part(part: LeftOut) -> LeftOutFile:
    return LeftOutFile(name=part.name, files=part.files, nbytes=part.nbytes, reason=part.reason)
