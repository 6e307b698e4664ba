"""An engine that has others do the work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ..kernels.interface import Counts
from ..plan.segment import Segment
from ..selection.histogram import SparseHistogram
from .interface import Advance, Counted, Engine, SegmentCut, Selected, Sink

Result = TypeVar("Result")


class ForwardingEngine(ABC):
    """The methods of an engine, each as a task for another one."""

    @abstractmethod
    def _carry_out(
        self,
        segment: Segment,
        task: Callable[[Engine, Advance], Result],
        advance: Advance,
        restart: Callable[[], None],
    ) -> Result:
        """Have a task of a segment done.

        Parameters
        ----------
        segment : Segment
        task : callable
            Takes the engine that is to do it, and whom to tell of progress.
        advance : callable
        restart : callable
            Called before the task is begun anew.
        """

    def count(self, segment: Segment, advance: Advance) -> Counted:
        """Count the scores of a segment."""
        return self._carry_out(
            segment, lambda engine, told: engine.count(segment, told), advance, _ignore
        )

    def count_nonfinite(self, segment: Segment) -> int:
        """Return how many weights of a segment, in both inputs together, are NaN or infinite."""
        return self._carry_out(
            segment, lambda engine, _: engine.count_nonfinite(segment), _unheard, _ignore
        )

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
        return self._carry_out(
            segment,
            lambda engine, told: engine.count_lows(segment, slots, rows, told, random=random),
            advance,
            _ignore,
        )

    def count_random_bins(self, segment: Segment, advance: Advance) -> SparseHistogram:
        """Count a segment's random keys by bin; no weight is read."""
        return self._carry_out(
            segment, lambda engine, told: engine.count_random_bins(segment, told), advance, _ignore
        )

    def cut(
        self,
        segment: Segment,
        cuts: Sequence[SegmentCut | None],
        sink: Sink,
        advance: Advance,
    ) -> Selected:
        """Restore what each cut selects in a segment, and hand the results over block by block."""
        return self._carry_out(
            segment,
            lambda engine, told: engine.cut(segment, cuts, sink, told),
            advance,
            sink.restart,
        )


def _ignore() -> None:
    """Do nothing: what is only counted begins anew by itself."""


def _unheard(elements: int) -> None:
    """Hear of progress that is not counted."""
