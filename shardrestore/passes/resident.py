"""Weights that are in memory already, on one device or several: each is worked on where it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..checkpoint.source import DeviceSource
from ..kernels.interface import Counts
from ..selection.histogram import SparseHistogram
from .context import Context
from .engine import Advance, Counted, Engine, SegmentCut, Selected, Sink
from .engine_cpu import CpuEngine
from .fallback import FallbackEngine
from .segment import Segment
from .workers import StopSignal
from .workspace import Workspace


class ResidentEngine:
    """Engines on the devices of a model in memory: each segment goes to that of its target.

    On processors: what is on a device that cannot be used, and what is not contiguous.

    Parameters
    ----------
    context : Context
    stop : StopSignal
    """

    def __init__(self, context: Context, stop: StopSignal) -> None:
        self._context = context
        self._stop = stop
        self._engines: dict[str | None, Engine] = {}

    @property
    def space(self) -> Workspace:
        """Buffers for whatever is read and not scored."""
        return self._open(None).space

    def count(self, segment: Segment, advance: Advance) -> Counted:
        """Count the scores of a segment."""
        return self._engine(segment).count(segment, advance)

    def count_nonfinite(self, segment: Segment) -> int:
        """Return how many weights of a segment, in both inputs together, are NaN or infinite."""
        return self._engine(segment).count_nonfinite(segment)

    def count_lows(
        self,
        segment: Segment,
        slots: npt.NDArray[np.int32],
        rows: int,
        advance: Advance,
        *,
        random: bool,
    ) -> Counts:
        """Count the low bits of a segment's keys within chosen bins."""
        return self._engine(segment).count_lows(segment, slots, rows, advance, random=random)

    def count_random_bins(self, segment: Segment, advance: Advance) -> SparseHistogram:
        """Count a segment's random keys by bin; no weight is read."""
        return self._engine(segment).count_random_bins(segment, advance)

    def cut(
        self,
        segment: Segment,
        cuts: Sequence[SegmentCut | None],
        sink: Sink,
        advance: Advance,
    ) -> Selected:
        """Restore what each cut selects in a segment, and hand the results over block by block."""
        return self._engine(segment).cut(segment, cuts, sink, advance)

    def _engine(self, segment: Segment) -> Engine:
        tensor = segment.pair.target
        source = self._context.target.shards[tensor.shard].source
        codes = None
        if isinstance(source, DeviceSource):
            codes = source.codes(tensor.offset, tensor.nbytes // tensor.elements)
        name = None if codes is None else str(codes.device)
        return self._open(name if name in self._context.device.names else None)

    def _open(self, name: str | None) -> Engine:
        if name not in self._engines:
            self._engines[name] = (
                CpuEngine(self._context, self._stop)
                if name is None
                else FallbackEngine(self._context, self._stop, name)
            )
        return self._engines[name]
