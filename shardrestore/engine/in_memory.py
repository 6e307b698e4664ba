"""Weights that are in memory already, on one device or several: each is worked on where it is."""

from __future__ import annotations

from collections.abc import Callable

from ..machine.executor import Control
from ..plan.segment import Segment
from .cpu import CpuEngine
from .delegating import ForwardingEngine, Result
from .fallback import FallbackEngine
from .interface import Advance, Engine
from .job import Job
from .workspace import Workspace


class ResidentEngine(ForwardingEngine):
    """Engines on the devices of a model in memory: each segment goes to that of its target.

    On processors: what is on a device that cannot be used, and what is not contiguous.

    Parameters
    ----------
    job : Job
    control : Control
    """

    def __init__(self, job: Job, control: Control) -> None:
        self._job = job
        self._control = control
        self._engines: dict[str | None, Engine] = {}

    @property
    def space(self) -> Workspace:
        """Buffers for whatever is read and not scored."""
        return self._open(None).space

    def _carry_out(
        self,
        segment: Segment,
        task: Callable[[Engine, Advance], Result],
        advance: Advance,
        restart: Callable[[], None],
    ) -> Result:
        return task(self._engine(segment), advance)

    def _engine(self, segment: Segment) -> Engine:
        tensor = segment.pair.target
        codes = self._job.target.reader.view(tensor, 0, 1)
        name = None if codes is None else str(codes.device)
        return self._open(name if name in self._job.device.names else None)

    def _open(self, name: str | None) -> Engine:
        if name not in self._engines:
            self._engines[name] = (
                CpuEngine(self._job, self._control)
                if name is None
                else FallbackEngine(self._job, self._control, name)
            )
        return self._engines[name]
