"""Measured peaks of memory, how they grow, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..harness.table import MIB, Row, Table, summarize

GROWTH_MIB_PER_GB = 16.0
"""Allowed slope.

Holding one side of a model is 954; reading whole tensors instead of blocks gave
240 when it was tried. The same run varies by about 1 MiB, which over the small
series' 0.2 GB is a slope of 5.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A case's memory."""

    label: str
    side_bytes: int
    """Size of one side of the pair."""
    measured_bytes: tuple[int, ...]
    """Peak resident memory, of each run."""
    projected_bytes: int | None
    """What was projected before the first read; None where nothing is."""
    wall_seconds: tuple[float, ...] = ()
    """Of each run."""

    @property
    def side_gb(self) -> float:
        """Size of one side of the pair in GB."""
        return self.side_bytes / 1e9

    @property
    def median_mib(self) -> float:
        """The middle of the peaks in MiB."""
        return summarize(self.measured_bytes).median / MIB

    @property
    def fits(self) -> bool:
        """Whether every run stayed within the projection."""
        return self.projected_bytes is None or max(self.measured_bytes) <= self.projected_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """How peaks rise with the model."""

    slope: float
    """In MiB per GB of one side."""
    intercept: float
    """In MiB."""

    def at(self, side_gb: float) -> float:
        """Return the peak of a model of that size, in MiB."""
        return self.intercept + self.slope * side_gb


def fit_line(samples: Sequence[Sample]) -> Line:
    """Return the least-squares line through the medians of at least two sizes."""
    sizes = [sample.side_gb for sample in samples]
    peaks = [sample.median_mib for sample in samples]
    size_mean, peak_mean = sum(sizes) / len(sizes), sum(peaks) / len(peaks)
    rise = sum(
        (size - size_mean) * (peak - peak_mean) for size, peak in zip(sizes, peaks, strict=True)
    )
    slope = rise / sum((size - size_mean) ** 2 for size in sizes)
    return Line(slope=slope, intercept=peak_mean - slope * size_mean)


def find_problems(series: Sequence[Sample], others: Sequence[Sample]) -> list[str]:
    """Return what is wrong with the measurements, in words; nothing if all is well."""
    problems = [
        f"{sample.label}: measured {max(sample.measured_bytes):,} bytes, "
        f"projected {sample.projected_bytes:,}"
        for sample in (*series, *others)
        if not sample.fits
    ]
    slope = fit_line(series).slope
    if slope > GROWTH_MIB_PER_GB:
        problems.append(
            f"the peak rises by {slope:.1f} MiB for each GB of the model, "
            f"at most {GROWTH_MIB_PER_GB:g} are allowed"
        )
    return problems


def tabulate(samples: Sequence[Sample]) -> Table:
    """Return the table of peaks, ratios to their projections first."""
    head = (
        "",
        "peak / projected",
        "peak, MiB",
        "min – max",
        "projected, MiB",
        "side, GB",
        "wall, s",
        "holds",
    )
    return Table(head=head, rows=tuple(map(_row, samples)))


def _row(sample: Sample) -> Row:
    least, most = min(sample.measured_bytes), max(sample.measured_bytes)
    ratio = projected = holds = ""
    if sample.projected_bytes is not None:
        ratio = f"{most / sample.projected_bytes:.0%}"
        projected = f"{sample.projected_bytes / MIB:,.1f}"
        holds = "yes" if sample.fits else "**no**"
    return (
        sample.label,
        ratio,
        f"{sample.median_mib:,.1f}",
        f"{least / MIB:,.1f} – {most / MIB:,.1f}",
        projected,
        f"{sample.side_gb:.2f}",
        f"{summarize(sample.wall_seconds).median:.2f}" if sample.wall_seconds else "",
        holds,
    )
