"""What a restoration took: bytes, time, memory, and what it ran on."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..documents import INLINE, key, rounded


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFigures:
    """Where weights are scored and cut."""

    name: str = field(metadata=key("device"))
    """``cpu``, or GPUs and what they are."""
    reason: str = field(metadata=key("device_reason"))
    """Why there, if the choice was left to us, and whether it ran out of memory; else empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Time of each part of a restoration; all 0 of one that was finished before."""

    download_seconds: float = field(default=0.0, metadata=rounded(3))
    """Bringing inputs to disk; 0 where nothing was to be downloaded."""
    scan_seconds: float = field(default=0.0, metadata=rounded(3))
    """Pass 1, refinement included; shared by all models of a sweep."""
    restore_seconds: float = field(default=0.0, metadata=rounded(3))
    """Pass 2; shared by all models of a sweep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a restoration took."""

    read_bytes: int
    """Bytes read from base and target, all passes together."""
    written_bytes: int
    """Bytes of the model's weight files; in memory, of the elements whose bits changed."""
    times: Times = field(metadata=INLINE)
    seconds: float = field(metadata=rounded(3))
    """Wall time from the request to the finished model."""
    workers: int
    """Worker threads."""
    projected_bytes: int
    """Peak memory that was planned."""
    device: DeviceFigures = field(metadata=INLINE)
    peak_rss_bytes: int
    """Peak resident memory of the process so far, measured."""
