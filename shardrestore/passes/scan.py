"""Pass 1: read both inputs once and count the key of every weight in the region."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..checkpoint.entry import show_name
from ..errors import NonFiniteError, PairingError
from ..kernels.interface import LANES
from ..pairing.pairs import Pair
from ..selection.histogram import Histogram, sparse
from ..selection.score import BINS, INFINITY_BIN
from .context import Context
from .segment import Segment
from .spool import Spool
from .workers import StopSignal, run_tasks
from .workspace import EXPONENTS, Chunk, Workspace, as_bytes


@dataclass(slots=True, kw_only=True)
class Scan:
    """What pass 1 knows of the region."""

    segments: tuple[Segment, ...]
    """In canonical order."""

    scores: Histogram
    """Scores of the whole region."""

    keys: npt.NDArray[np.uint64]
    """Elements by bin of the key that is cut: scores, or random keys. Shape (BINS,)."""

    key_bins: Spool
    """The same for each segment."""

    score_sums: npt.NDArray[np.float64]
    """Sum of scores of each segment."""

    zero_base: int = 0
    """Elements whose base weight is zero."""

    nonfinite: Counter[str] = field(default_factory=Counter)
    """NaN and infinite weights of base and target together, by tensor."""

    overflows: Counter[str] = field(default_factory=Counter)
    """Finite weights that the output's format makes infinite, by tensor."""

    def tensor_means(self) -> dict[str, float]:
        """Return the mean score of each tensor, in canonical order; 0 for empty ones."""
        sums: dict[str, float] = {}
        for segment in self.segments:
            total = float(self.score_sums[segment.number])
            sums[segment.pair.name] = sums.get(segment.pair.name, 0.0) + total
        return {
            segment.pair.name: sums[segment.pair.name] / segment.pair.target.elements
            for segment in self.segments
            if segment.index == 0
        }


def scan(context: Context, segments: Sequence[Segment], twins: Sequence[Segment]) -> Scan:
    """Count the keys of all segments.

    Parameters
    ----------
    context : Context
        With a seed, random keys are counted besides the scores.
    segments : sequence of Segment
        The region, in canonical order.
    twins : sequence of Segment
        Tied heads; compared with their embeddings, not counted.

    Returns
    -------
    Scan
        The caller closes its ``key_bins``.

    Raises
    ------
    PairingError
        If a tied head differs from its embedding.
    CheckpointError
        If an input cannot be read.
    """
    result = Scan(
        segments=tuple(segments),
        scores=Histogram.empty(),
        keys=np.zeros(BINS, np.uint64),
        key_bins=Spool(context.folder, len(segments)),
        score_sums=np.zeros(len(segments)),
    )
    lock = threading.Lock()

    def make_work(stop: StopSignal) -> Callable[[Segment], None]:
        scanner = _Scanner(context, stop)

        def work(segment: Segment) -> None:
            if segment.pair.twin:
                scanner.compare_twin(segment)
            else:
                scanner.count(segment, result, lock)

        return work

    # Files are read front to back, whatever the names of their tensors.
    tasks = sorted([*segments, *twins], key=_file_order)
    try:
        context.observer.begin("scan", sum(map(segment_bytes, tasks)))
        run_tasks(tasks, context.sizing.workers, make_work)
    except BaseException:
        result.key_bins.close()
        raise
    finally:
        context.observer.end()
    return result


def segment_bytes(segment: Segment) -> int:
    """Return how many bytes of both inputs a segment has."""
    return segment.elements * (
        segment.pair.base.nbytes // max(segment.pair.base.elements, 1)
        + segment.pair.target.nbytes // max(segment.pair.target.elements, 1)
    )


def _file_order(segment: Segment) -> tuple[int, int, int]:
    tensor = segment.pair.target
    return tensor.shard, tensor.offset, segment.index


class _Scanner:
    """One worker of pass 1: its workspace and its counters."""

    def __init__(self, context: Context, stop: StopSignal) -> None:
        self._space = Workspace(context, stop)
        self._target = context.target
        self._kernels = context.kernels
        self._seed = context.seed
        self._observer = context.observer
        self._scores = np.zeros((LANES, BINS), np.uint32)
        self._random = np.zeros((LANES, BINS), np.uint32) if context.seed is not None else None

    def count(self, segment: Segment, result: Scan, lock: threading.Lock) -> None:
        zeros = overflows = 0
        self._scores.fill(0)
        if self._random is not None:
            self._random.fill(0)
        for start, elements in self._space.blocks(segment):
            for chunk in self._space.chunks(segment.pair, start, elements):
                keys, zero_base = self._space.score_keys(chunk)
                self._kernels.count_bins(keys, self._scores)
                zeros += zero_base
                overflows += self._count_overflows(segment.pair, chunk)
                if self._random is not None and self._seed is not None:
                    keys = self._space.random_keys(segment, chunk.start, chunk.elements, self._seed)
                    self._kernels.count_bins(keys, self._random)
            self._observer.advance(elements * segment_bytes(segment) // segment.elements)
        scores = sparse(self._scores)
        ranked = scores if self._random is None else sparse(self._random)
        # A non-finite weight gives a score that is infinite or no number; so
        # may finite ones, by overflow. Rare enough to read the segment again.
        suspicious = scores.bins[-1] >= INFINITY_BIN
        nonfinite = self._count_nonfinite(segment) if suspicious else 0
        exact = segment.pair.exact
        with lock:
            result.scores.add(scores, exact=exact)
            result.keys[ranked.bins] += ranked.counts
            result.score_sums[segment.number] = scores.score_sum(exact=exact)
            result.zero_base += zeros
            result.nonfinite[segment.pair.name] += nonfinite
            result.overflows[segment.pair.name] += overflows
        result.key_bins.put(segment.number, ranked)

    def _count_overflows(self, pair: Pair, chunk: Chunk) -> int:
        count, out = self._space.count_overflows, pair.out_dtype
        return count(chunk.base_raw, pair.base.dtype, chunk.base_codes, out) + count(
            chunk.target_raw, pair.target.dtype, chunk.target_codes, out
        )

    def _count_nonfinite(self, segment: Segment) -> int:
        pair, count, found = segment.pair, self._kernels.count_nonfinite, 0
        for start, elements in self._space.blocks(segment):
            for chunk in self._space.chunks(pair, start, elements):
                found += count(chunk.base_raw, EXPONENTS[pair.base.dtype])
                found += count(chunk.target_raw, EXPONENTS[pair.target.dtype])
        return found

    def compare_twin(self, segment: Segment) -> None:
        pair, target = segment.pair, self._target
        embedding = target.tensors[pair.twin or ""]
        source = target.shards[embedding.shard].source
        size = pair.target.nbytes // pair.target.elements
        for start, head in self._space.target_chunks(pair.target, segment.start, segment.elements):
            embedded = self._space.base_buffer[: head.nbytes].view(head.dtype)
            source.read_into(embedding.offset + start * size, as_bytes(embedded))
            if not np.array_equal(embedded, head):
                raise PairingError(
                    f"{pair.name} differs from {embedding.name} near element {start}, although "
                    f"config.json of {target.folder} ties them: correct tie_word_embeddings, or "
                    f"leave both out with --exclude"
                )
            self._observer.advance(head.size * segment_bytes(segment) // segment.elements)


def refuse_nonfinite(scan: Scan) -> None:
    """Raise NonFiniteError if the region has weights that are, or would become, no numbers."""
    for found, what, advice in (
        (scan.nonfinite, "are NaN or infinite", "NaN then counts as the largest change"),
        (scan.overflows, "are too large for the output's format", "they then become infinite"),
    ):
        total = found.total()
        if total:
            names = sorted(name for name in found if found[name])
            lines = [f"{total:,} weights of {len(names)} tensors of the region {what}:"]
            lines += [f"  {show_name(name)}: {found[name]:,}" for name in names]
            lines.append(
                "next step: leave those tensors out with --exclude, choose another --dtype, or "
                f"pass --allow-nonfinite ({advice})"
            )
            raise NonFiniteError("\n".join(lines))
