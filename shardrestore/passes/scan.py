"""Pass 1: read both inputs once and count the score of every weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from ..checkpoint.entry import shorten, show_name
from ..engine.choice import open_engine
from ..engine.interface import Counted
from ..engine.job import Job
from ..errors import NonFiniteError
from ..machine.executor import Control, Stage
from ..machine.progress import in_units
from ..plan.segment import Segment
from ..selection.histogram import HistogramStore
from ..selection.score import INFINITY_BIN
from .context import Context
from .spool import Spool


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What pass 1 knows of every segment, whatever is asked of it afterwards.

    Arrays have one entry for each segment.
    """

    segments: tuple[Segment, ...]
    """In canonical order."""

    histograms: HistogramStore
    """Scores by bin."""

    zero_base: npt.NDArray[np.int64]
    """Elements whose base weight is zero."""

    nonfinite: npt.NDArray[np.int64]
    """NaN and infinite weights of base and target together."""

    overflows: npt.NDArray[np.int64]
    """Finite weights of both that the output's format makes infinite."""


def scan(context: Context, segments: Sequence[Segment]) -> Scan:
    """Count the scores of all segments.

    Parameters
    ----------
    context : Context
    segments : sequence of Segment
        What is ranked, in canonical order.

    Returns
    -------
    Scan
        The caller closes its ``histograms``.

    Raises
    ------
    CheckpointError
        If an input cannot be read.
    """
    stage = Stage(name="scan", open_worker=partial(_Scanner, context.job), work=_Scanner.scan)
    # Files are read front to back, whatever the names of their tensors.
    tasks = sorted(segments, key=_file_order)
    spool = Spool(context.folder, len(segments))
    try:
        result = Scan(
            segments=tuple(segments),
            histograms=spool,
            zero_base=np.zeros(len(segments), np.int64),
            nonfinite=np.zeros(len(segments), np.int64),
            overflows=np.zeros(len(segments), np.int64),
        )
        with context.run_observed(stage, tasks) as counts:
            for segment, found in counts:
                result.zero_base[segment.number] = found.counted.zero_base
                result.overflows[segment.number] = found.counted.overflows
                result.nonfinite[segment.number] = found.nonfinite
                spool.put(segment.number, found.counted.histogram)
    except BaseException:
        spool.close()
        raise
    return result


def _file_order(segment: Segment) -> tuple[int, int, int]:
    tensor = segment.pair.target
    return tensor.shard, tensor.offset, segment.index


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What a worker finds in a segment."""

    counted: Counted
    nonfinite: int
    """NaN and infinite weights of base and target together."""


class _Scanner:
    """One worker of pass 1."""

    def __init__(self, job: Job, control: Control) -> None:
        self._engine = open_engine(job, control)
        self._control = control

    def scan(self, segment: Segment) -> _Found:
        """Count a segment."""
        counted = self._engine.count(segment, in_units(self._control, segment.element_bytes))
        # A non-finite weight gives a score that is infinite or no number; so
        # may finite ones, by overflow. Rare enough to read the segment again.
        suspicious = counted.histogram.bins[-1] >= INFINITY_BIN
        nonfinite = self._engine.count_nonfinite(segment) if suspicious else 0
        return _Found(counted=counted, nonfinite=nonfinite)


def refuse_nonfinite(scan: Scan) -> None:
    """Raise NonFiniteError if the region has weights that are, or would become, no numbers."""
    for found, what, advice in (
        (scan.nonfinite, "are NaN or infinite", "NaN then counts as the largest change"),
        (scan.overflows, "are too large for the output's format", "they then become infinite"),
    ):
        if found.any():
            counts: dict[str, int] = {}
            for number in np.flatnonzero(found):
                name = scan.segments[number].pair.name
                counts[name] = counts.get(name, 0) + int(found[number])
            lines = [f"{found.sum():,} weights of {len(counts)} tensors of the region {what}:"]
            listed = sorted(counts.items())
            lines += shorten([f"  {show_name(name)}: {count:,}" for name, count in listed])
            lines.append(
                "next step: leave those tensors out with --exclude, choose another --dtype, or "
                f"pass --allow-nonfinite ({advice})"
            )
            raise NonFiniteError("\n".join(lines))
