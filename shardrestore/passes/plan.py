"""What a run will do, from headers alone: work, memory, disk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..checkpoint.document import character_bytes
from ..checkpoint.folder import Checkpoint
from ..errors import RequestError
from ..pairing.pairs import Filter, Pairing, Problem, match, survey
from ..pairing.regions import REGIONS
from ..pairing.rename import Rename
from ..selection.cut import selected_count
from .layout import OutputShard, lay_out
from .memory import MIB, RUNTIME_BYTES, Sizing, Workload, fit
from .meter import resident_bytes
from .scan import segment_bytes
from .segment import Segment, is_resolved, split_pairs, twin_segments
from .spool import BIN_BYTES
from .tasks import COPY_BYTES

SPOOL_BINS = 8192
"""Bins of a segment's histogram on disk, as a rule: bfloat16 pairs have a few thousand."""

HOST_MARGIN_BYTES = 48 * MIB
"""What importing numba and its compiler adds to a process that is already large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Everything that is known before a weight is read."""

    pairing: Pairing
    segments: tuple[Segment, ...]
    twins: tuple[Segment, ...]
    """Segments of tied heads."""
    shards: tuple[OutputShard, ...]
    counts: tuple[int, ...]
    """Elements to select, one number for each percent."""
    refines: bool
    """Whether cuts need the refining scan."""
    reads: int
    """How often the weights of the region are read, at most."""
    sizing: Sizing
    read_bytes: int
    """Bytes that all passes read from base and target."""
    written_bytes: int
    """Bytes of the weight files, of all outputs together."""
    disk_bytes: int
    """Disk that the run needs, work files and side files included."""


def plan_work(
    base: Checkpoint,
    target: Checkpoint,
    admitted: Filter,
    *,
    renames: Sequence[Rename],
    percents: Sequence[float],
    dtype: str,
    cast: str | None,
    approximate: bool,
    random: bool,
    workers: int,
    max_memory_bytes: int,
) -> Work:
    """Plan a run.

    Raises
    ------
    PairingError, RequestError
        See ``match``; also if a percent selects nothing.
    MemoryBudgetError
        If the budget is too small.
    """
    pairing = match(base, target, admitted, renames=renames, dtype=dtype)
    counts = tuple(_count(pairing.elements, percent) for percent in percents)
    segments = split_pairs(pairing.pairs)
    twins = twin_segments(pairing.twins, segments)
    shards = lay_out(target, cast)
    unresolved = [] if approximate else [s for s in segments if not is_resolved(s, random=random)]
    refines = bool(unresolved)
    outside = target.nbytes - sum(
        segment.pair.target.nbytes for segment in (*segments, *twins) if segment.index == 0
    )
    sizing = fit(
        _measure_workload(
            base, target, segments, cuts=len(percents), refines=refines, random=random
        ),
        max_workers=min(workers, len(segments) + outside // COPY_BYTES + 1),
        max_memory_bytes=max_memory_bytes,
    )
    scanned = sum(map(segment_bytes, [*segments, *twins]))
    refined = 0 if random else sum(map(segment_bytes, unresolved))
    written = sum(shard.nbytes for shard in shards) * len(percents)
    side = sum(file.nbytes for file in target.side_files) * len(percents)
    return Work(
        pairing=pairing,
        segments=segments,
        twins=twins,
        shards=shards,
        counts=counts,
        refines=refines,
        sizing=sizing,
        read_bytes=2 * scanned + refined + outside,
        written_bytes=written,
        reads=3 if refined else 2,
        disk_bytes=written + side + _estimate_spools(segments, len(unresolved), len(percents)),
    )


def _measure_workload(
    base: Checkpoint,
    target: Checkpoint,
    segments: Sequence[Segment],
    *,
    cuts: int,
    refines: bool,
    random: bool,
) -> Workload:
    headers = [shard.header for shard in (*base.shards, *target.shards)]
    return Workload(
        runtime_bytes=_runtime_bytes(),
        tensors=sum(len(header.tensors) + len(header.metadata or ()) for header in headers),
        header_bytes=sum(len(header.raw) * character_bytes(header.raw) for header in headers),
        document_bytes=base.document_bytes + target.document_bytes,
        segments=len(segments),
        cuts=cuts,
        refines=refines,
        random=random,
    )


def _estimate_spools(segments: Sequence[Segment], unresolved: int, cuts: int) -> int:
    """Return the disk that the segments' histograms take meanwhile, in bytes."""
    bins = sum(min(segment.elements, SPOOL_BINS) for segment in segments)
    lows = unresolved * cuts * SPOOL_BINS
    return (bins + lows) * BIN_BYTES


def _count(elements: int, percent: float) -> int:
    count = selected_count(elements, percent)
    if not count:
        least = _least_percent(elements)
        raise RequestError(
            f"{percent:g} % of {elements:,} elements is none: choose at least {least:.16g} %"
        )
    return count


def _least_percent(elements: int) -> float:
    """Return a short percentage that selects at least one element."""
    exact = 100 / elements
    for digits in range(1, 17):
        step = 10.0 ** (math.floor(math.log10(exact)) - digits + 1)
        rounded = float(f"{math.ceil(exact / step) * step:.{digits}g}")
        if rounded <= 100 and selected_count(elements, rounded):
            return rounded
    return 100.0


def _runtime_bytes() -> int:
    """Return what the process will hold before the first buffer.

    A process that is already larger than ours would be, because it has loaded
    torch for example, is taken as it is.
    """
    return max(RUNTIME_BYTES, resident_bytes() + HOST_MARGIN_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionSurvey:
    """What a region means for two checkpoints."""

    region: str
    tensors: int
    """Tensors that would be ranked."""
    elements: int
    problems: tuple[Problem, ...]
    """Tensors of the region that cannot be paired."""


def survey_regions(
    base: Checkpoint,
    target: Checkpoint,
    admitted: Filter,
    *,
    renames: Sequence[Rename],
    dtype: str,
) -> tuple[RegionSurvey, ...]:
    """Return what each region would mean, with the patterns of `admitted`."""
    surveys = []
    for region in REGIONS:
        narrowed = Filter(region=region, include=admitted.include, exclude=admitted.exclude)
        pairing, problems = survey(base, target, narrowed, renames=renames, dtype=dtype)
        surveys.append(
            RegionSurvey(
                region=region,
                tensors=len(pairing.pairs),
                elements=pairing.elements,
                problems=problems,
            )
        )
    return tuple(surveys)
