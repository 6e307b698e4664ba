"""What a request would do, as the Python API returns it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..documents import INLINE, OMITTED
from ..notes import Note
from ..pairing.region_survey import RegionSurvey
from .costs import DeviceFigures
from .model import Choice
from .side_files import SideFileFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedModel:
    """A model that a request would write."""

    output: Path | None
    """Its folder; None if no output is named."""
    choice: Choice = field(metadata=INLINE)
    region_elements: int
    selected_elements: int
    """Elements that would be restored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedMemory:
    """How much would be done at once, and the memory that this takes."""

    workers: int
    """Worker threads."""
    block_bytes: int
    """Buffer of a worker for each input and each output."""
    projected_bytes: int
    """Upper bound of the process's peak memory."""
    chunk_elements: int = field(metadata=OMITTED)
    """Elements that a worker's GPU scores at once; 0 without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a request would do, from headers alone."""

    base: str
    """As messages name it."""
    target: str
    base_bytes: int
    """Size of the base's weight files."""
    target_bytes: int
    """Size of the target's weight files."""
    regions: tuple[RegionSurvey, ...]
    """What each region would mean for these checkpoints."""
    models: tuple[PlannedModel, ...]
    reads: int
    """How often weights are read: 2; one more with the refining scan, one less with a profile."""
    read_bytes: int
    written_bytes: int
    """Bytes of all weight files that would be written."""
    download_bytes: int
    """What is downloaded into the Hub's cache first: of repositories that are not streamed."""
    disk_needed_bytes: int
    """What the outputs still take, and work files meanwhile."""
    disk_free_bytes: int
    """Free space where the output would be; in the current folder if none is named."""
    output_problem: str | None
    """Why the output cannot be written as asked; None if it can, or if none is named."""
    side_files: tuple[str, ...]
    """Files that would be copied as they are."""
    files: SideFileFigures
    """What would become of the target's files besides its shards."""
    memory: PlannedMemory = field(metadata=INLINE)
    """What fits the budget."""
    device: DeviceFigures = field(metadata=INLINE)
    projected_device_bytes: int
    """Peak memory on each GPU that is planned, besides what its driver takes."""
    max_memory_bytes: int
    """The budget."""
    max_device_memory_bytes: int = field(metadata=OMITTED)
    """The budget on each GPU."""
    remarks: tuple[str, ...]
    """Where the inputs are read from, if that is not what their names suggest."""
    notes: tuple[Note, ...]
    """What must not be missed; results have them, too."""
