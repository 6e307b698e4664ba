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
from ..engine.workspace import as_bytes
from ..errors import NonFiniteError, PairingError
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


def scan(context: Context, segments: Sequence[Segment], twins: Sequence[Segment]) -> Scan:
    """Count the scores of all segments.

    Parameters
    ----------
    context : Context
    segments : sequence of Segment
        What is ranked, in canonical order.
    twins : sequence of Segment
        Tied heads; compared with their embeddings, not counted.

    Returns
    -------
    Scan
        The caller closes its ``histograms``.

    Raises
    ------
    PairingError
        If a tied head differs from its embedding.
    CheckpointError
        If an input cannot be read.
    """
    stage = Stage(name="scan", open_worker=partial(_Scanner, context.job), work=_Scanner.scan)
    # Files are read front to back, whatever the names of their tensors.
    tasks = sorted([*segments, *twins], key=_file_order)
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
                if found is not None:
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
        self._target = job.target
        self._control = control

    def scan(self, segment: Segment) -> _Found | None:
        """Count a segment; a tied head's is compared, and there is nothing to say of it."""
        if segment.pair.twin:
            self._compare_twin(segment)
            return None
        counted = self._engine.count(segment, in_units(self._control, segment.element_bytes))
        # A non-finite weight gives a score that is infinite or no number; so
        # may finite ones, by overflow. Rare enough to read the segment again.
        suspicious = counted.histogram.bins[-1] >= INFINITY_BIN
        nonfinite = self._engine.count_nonfinite(segment) if suspicious else 0
        return _Found(counted=counted, nonfinite=nonfinite)

    def _compare_twin(self, segment: Segment) -> None:
        pair, target = segment.pair, self._target
        embedding = target.tensors[pair.twin or ""]
        space = self._engine.space
        space.announce(target, embedding, segment.start, segment.elements)
        for start, head in space.target_chunks(pair.target, segment.start, segment.elements):
            embedded = space.base_buffer[: head.nbytes].view(head.dtype)
            target.reader.read(embedding, start, head.size, as_bytes(embedded))
            if not np.array_equal(embedded, head):
                raise PairingError(
                    f"{pair.name} differs from {embedding.name} near element {start}, although "
                    f"config.json of {target.where} ties them: correct tie_word_embeddings, or "
                    f"leave both out with --exclude"
                )
            self._control.advance(head.size * segment.element_bytes)


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
