"""What a run will do, from headers alone: work, memory, disk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..checkpoint.folder import Checkpoint
from ..checkpoint.model import Model
from ..errors import MemoryBudgetError, RequestError
from ..granularity import Granularity
from ..inputs.download import Downloads
from ..machine.device import Device
from ..notes import Note, unite_notes
from ..pairing.filter import Filter
from ..pairing.matching import match
from ..pairing.pairs import Pair, Pairing
from ..pairing.regions import REGIONS
from ..pairing.ties import Ties
from ..scoring import Scoring
from ..selection.cut import Strategy, selected_count
from ..selection.histogram import BIN_BYTES
from ..units import format_mib
from .device_memory import fit_device
from .goal import Goal
from .layout import OutputShard, lay_out
from .memory import SEGMENT_BYTES, Limits, Sizing, Workload, fit
from .segment import Region, Segment, split_pairs, twin_segments

SPOOL_BINS = 8192
"""Bins of a segment's histogram on disk, as a rule: bfloat16 pairs have a few thousand."""

PROFILED_TENSOR_BYTES = 1024
"""Memory of a tensor in a profile that is made: its entry, and its share of the text."""

PAGE_DISK_BYTES = 2_000_000
"""A report; half of it is the library that draws."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Everything that is known before a weight is read."""

    segments: tuple[Segment, ...]
    """Segments of all regions together, in canonical order."""
    twins: tuple[Segment, ...]
    """Segments of further names of tied weights."""
    goals: tuple[Goal, ...]
    """What is to be written, one for each output."""
    shards: tuple[OutputShard, ...]
    """Shards of each output."""
    scans: bool
    """Whether pass 1 is needed: there is no profile."""
    reads: int
    """How often the weights of the regions are read, at most."""
    device: Device
    """Where weights are scored and cut."""
    sizing: Sizing
    read_bytes: int
    """Bytes that all passes read from base and target."""
    outside_bytes: int
    """How many of them pass 2 copies: bytes of the target outside all regions."""
    output_bytes: int
    """Bytes of one output, side files included."""
    spool_bytes: int
    """Disk that work files take meanwhile."""

    @property
    def regions(self) -> tuple[Region, ...]:
        """The regions of the goals, each once."""
        return tuple({goal.region.name: goal.region for goal in self.goals}.values())

    @property
    def notes(self) -> tuple[Note, ...]:
        """What is known of all regions, each once."""
        return unite_notes(*(region.notes for region in self.regions))

    @property
    def is_mixed(self) -> bool:
        """Whether base and target have two formats somewhere in the regions."""
        return any(pair.is_mixed for region in self.regions for pair in region.pairs)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weight files of one output."""
        return sum(shard.nbytes for shard in self.shards)

    def held_bytes(self, *, one_by_one: bool) -> int:
        """Disk that one output takes; one by one, each shard leaves before the next is begun."""
        if not one_by_one:
            return self.output_bytes
        return self.output_bytes - self.weight_bytes + max(shard.nbytes for shard in self.shards)


def plan_work(
    base: Model,
    target: Model,
    filters: Sequence[Filter],
    scoring: Scoring,
    ties: Ties,
    *,
    strategies: Sequence[Strategy],
    percents: Sequence[float],
    approximate: bool,
    profile_bytes: int | None,
    downloads: Downloads,
    pages: bool,
    device: Device,
    granularity: Granularity,
    limits: Limits,
    runtime_bytes: int,
) -> Work:
    """Plan a run: every percent by every strategy in every region.

    Parameters
    ----------
    base, target : Model
    filters : sequence of Filter
        The regions.
    scoring : Scoring
    ties : Ties
        What is tied in the target.
    strategies, percents, approximate
        As in the request.
    profile_bytes : int or None
        Memory of the profile that makes pass 1 needless; None without one.
    downloads : Downloads
        What comes from afar, first or meanwhile.
    pages : bool
        Whether a report is written beside each model.
    device : Device
        Where weights are scored and cut.
    granularity : Granularity
    limits : Limits
    runtime_bytes : int
        What the process holds before its first buffer, in bytes.

    Raises
    ------
    PairingError, RequestError
        See ``match``; also if a percent selects nothing.
    MemoryBudgetError
        If the budget is too small.
    """
    pairings = [match(base, target, one, scoring, ties) for one in filters]
    pairs, twins = _unite(pairings)
    _check_size(pairs, granularity.segment_elements, limits)
    segments = split_pairs(pairs, granularity.segment_elements)
    twin_parts = twin_segments(twins, segments, granularity.segment_elements)
    opened = (*base.notes, *target.notes, *_note_files(target))
    regions = [
        _make_region(one.region, pairing, segments, opened)
        for one, pairing in zip(filters, pairings, strict=True)
    ]
    goals = tuple(
        _make_goal(region, strategy, percent, approximate=approximate)
        for region in regions
        for strategy in strategies
        for percent in percents
    )
    refined = sum(goal.refines and not goal.random for goal in goals)
    shards, side_bytes = _lay_out_files(target, scoring.cast)
    outside = target.nbytes - sum(
        segment.pair.target.nbytes for segment in (*segments, *twin_parts) if segment.index == 0
    )
    load = Workload(
        granularity=granularity,
        runtime_bytes=runtime_bytes,
        **_weigh_inputs(base, target),
        profile_bytes=profile_bytes or 0,
        segments=len(segments),
        regions=len(regions),
        cuts=len(goals),
        refined=refined,
        random=sum(goal.random for goal in goals),
        streamed=downloads.streams,
        downloads=len(downloads.files),
        hashed=bool(downloads.hashed),
        pages=len(regions) * pages,
        gpus=device.shares,
        unified=device.unified,
    )
    tasks = len(segments) + outside // granularity.copy_bytes + 1
    limits = limits.with_work_for(tasks, device.most_workers)
    sizing = fit_device(load, fit(load, limits), limits)
    inside = sum(segment.nbytes for segment in [*segments, *twin_parts])
    heads = sum(segment.nbytes for segment in twin_parts)  # compared in any case
    open_segments = [segment for segment in segments if refined and not segment.pair.exact]
    refining = sum(segment.nbytes for segment in open_segments)
    scans = profile_bytes is None
    written = sum(shard.nbytes for shard in shards)
    return Work(
        segments=segments,
        twins=twin_parts,
        goals=goals,
        shards=shards,
        scans=scans,
        reads=1 + scans + bool(refining),
        device=device,
        sizing=sizing,
        read_bytes=inside * (1 + scans) + (0 if scans else heads) + refining + outside,
        outside_bytes=outside,
        output_bytes=written + side_bytes + PAGE_DISK_BYTES * pages,
        spool_bytes=_estimate_spools(segments, len(open_segments) * refined),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanWork:
    """What making a profile takes."""

    segments: tuple[Segment, ...]
    twins: tuple[Segment, ...]
    """Segments of further names of tied weights."""
    sizing: Sizing
    spool_bytes: int
    """Disk that the work file takes meanwhile, and the profile afterwards."""


def plan_scan(
    base: Model,
    target: Model,
    pairing: Pairing,
    *,
    downloads: Downloads,
    device: Device,
    granularity: Granularity,
    limits: Limits,
    runtime_bytes: int,
) -> ScanWork:
    """Plan a scan of all pairs.

    Raises
    ------
    MemoryBudgetError
        If the budget is too small.
    """
    _check_size(pairing.pairs, granularity.segment_elements, limits)
    segments = split_pairs(pairing.pairs, granularity.segment_elements)
    load = Workload(
        granularity=granularity,
        runtime_bytes=runtime_bytes,
        **_weigh_inputs(base, target),
        profile_bytes=len(pairing.pairs) * PROFILED_TENSOR_BYTES,
        segments=len(segments),
        regions=len(REGIONS),
        cuts=0,
        refined=0,
        random=0,
        streamed=downloads.streams,
        downloads=len(downloads.files),
        hashed=bool(downloads.hashed),
        pages=0,
        gpus=device.shares,
        unified=device.unified,
    )
    limits = limits.with_work_for(len(segments), device.most_workers)
    return ScanWork(
        segments=segments,
        twins=twin_segments(pairing.twins, segments, granularity.segment_elements),
        sizing=fit_device(load, fit(load, limits), limits),
        spool_bytes=_estimate_spools(segments, 0),
    )


def _unite(pairings: Sequence[Pairing]) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """Return the pairs and twins of all regions, each once, in canonical order."""
    pairs = {pair.name: pair for pairing in pairings for pair in pairing.pairs}
    twins = {pair.name: pair for pairing in pairings for pair in pairing.twins}
    return (
        tuple(pairs[name] for name in sorted(pairs)),
        tuple(twins[name] for name in sorted(twins)),
    )


def _make_region(
    name: str, pairing: Pairing, segments: Sequence[Segment], opened: Sequence[Note]
) -> Region:
    names = {pair.name for pair in pairing.pairs}
    return Region(
        name=name,
        pairs=pairing.pairs,
        elements=pairing.elements,
        members=np.array([segment.pair.name in names for segment in segments], np.bool_),
        notes=unite_notes(opened, pairing.notes),
    )


def _make_goal(region: Region, strategy: Strategy, percent: float, *, approximate: bool) -> Goal:
    # Random keys are never cut approximately: counting their low bits reads no weight.
    random = strategy == "random"
    resolved = all(pair.exact for pair in region.pairs) and not random
    refines = not resolved and (random or not approximate)
    return Goal(
        region=region,
        strategy=strategy,
        percent=percent,
        selected=_count(region.elements, percent),
        refines=refines,
        exact=resolved or refines,
    )


def _lay_out_files(target: Model, cast: str | None) -> tuple[tuple[OutputShard, ...], int]:
    """Return the shards of an output, and the bytes of side files; a module has neither."""
    if not isinstance(target, Checkpoint):
        return (), 0
    return lay_out(target, cast), target.side_files.nbytes


def _note_files(target: Model) -> tuple[Note, ...]:
    return target.side_files.notes if isinstance(target, Checkpoint) else ()


def _weigh_inputs(base: Model, target: Model) -> dict[str, int]:
    footprints = base.footprint(), target.footprint()
    return {
        "tensors": sum(part.tensors for part in footprints),
        "header_bytes": sum(part.header_bytes for part in footprints),
        "document_bytes": sum(part.document_bytes for part in footprints),
        "files": sum(part.files for part in footprints),
        "reader_bytes": base.reader.held_bytes + target.reader.held_bytes,
    }


def _estimate_spools(segments: Sequence[Segment], open_histograms: int) -> int:
    """Return the disk that the segments' histograms take meanwhile, in bytes."""
    bins = sum(min(segment.elements, SPOOL_BINS) for segment in segments)
    return (bins + open_histograms * SPOOL_BINS) * BIN_BYTES


def _check_size(pairs: Sequence[Pair], segment_elements: int, limits: Limits) -> None:
    """Refuse sizes that only a sparse file can have, before their segments are listed."""
    elements = sum(pair.target.elements for pair in pairs)
    needed = elements // segment_elements * SEGMENT_BYTES
    if needed > limits.max_memory_bytes:
        raise MemoryBudgetError(
            f"the region has {elements:,} elements: to list its segments alone takes "
            f"{format_mib(needed)} of memory, --max-memory allows "
            f"{format_mib(limits.max_memory_bytes)}; is one of the files damaged, or sparse?"
        )


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
